package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// The largest size of a type that needs no reason.
const (
	mostMethods = 20
	mostFields  = 12
)

// large are the types above that size, each with the reason.
var large = map[string]string{
	"cmd/danelaw.domainView":  "what check prints as JSON of a domain: the fields are the contract",
	"cmd/danelaw.waitingJSON": "what check --queue prints as JSON: the fields are the contract",
	"cmd/danelaw.postfix":     "a model of Postfix's settings: a method for each that leads mail elsewhere",
	"cmd/danelaw.view":        "a page of text: a method for each of its paragraphs",
	"plugin/chain.Config":     "what a Chain is made of, a field each",
	"plugin/danelaw.Config":   "the options of the Corefile, a field each",
	"plugin/dnssec.Check": "the judge: its methods are the rules, and share the counters of one client query and " +
		"no more",
	"plugin/dnssec.Verdict":   "all that is said of a reply",
	"plugin/dnssec.judgement": "the judgement of one reply: its methods are the rules of answers",
	"plugin/resolve.Config":   "the options of a Resolver, a field each",
	"plugin/upstream.cookies": "a row for each thing that is known of an upstream's cookies",
	"zones.Zone":              "a zone of the lab: a method for each fault that can be made",
}

// TestShapes: no type has more than 20 methods or 12 fields, unless there is a reason.
func TestShapes(t *testing.T) {
	methods, fields := map[string]int{}, map[string]int{}
	for _, root := range []string{"plugin", "cmd", "trustanchors", "zones", "bench"} {
		err := filepath.WalkDir(filepath.Join("..", root), func(file string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			name := path.Dir(strings.TrimPrefix(filepath.ToSlash(file), "../"))
			ast.Inspect(parsed, func(n ast.Node) bool { return count(n, name, methods, fields) })
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for of, what := range map[*map[string]int]string{&methods: "methods", &fields: "fields"} {
		for name, n := range *of {
			if over := what == "methods" && n > mostMethods || what == "fields" && n > mostFields; over {
				if seen[name] = true; large[name] == "" {
					t.Errorf("%s has %d %s: take it apart, or give the reason in this file", name, n, what)
				}
			}
		}
	}
	for name := range large {
		if !seen[name] {
			t.Errorf("%s is no large type any more: take it from the list", name)
		}
	}
}

// count counts the methods and fields of the types of a package. It returns false for directories that are not to be
// looked into.
func count(n ast.Node, in string, methods, fields map[string]int) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Recv != nil {
			methods[in+"."+receiver(n.Recv.List[0].Type)]++
		}
		return false
	case *ast.TypeSpec:
		if s, ok := n.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				fields[in+"."+n.Name.Name] += max(1, len(f.Names))
			}
		}
		return false
	}
	return true
}

// receiver returns the name of a method's type.
func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}
