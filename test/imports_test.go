// Package test holds the suites that need the whole product, other programs, or a build. What they need beside Go is
// said in CONTRIBUTING.md; without their variable they are skipped.
package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/danelaw-dns/danelaw/"

// allowed says which packages of ours a package may import, beside what those may.
var allowed = map[string][]string{
	"plugin/dnssec":     {},
	"plugin/cache":      {},
	"plugin/printable":  {},
	"plugin/owned":      {},
	"trustanchors":      {},
	"zones":             {},
	"plugin/fetch":      {"plugin/dnssec"},
	"plugin/reuse":      {"plugin/dnssec", "plugin/cache"},
	"plugin/chain":      {"plugin/fetch", "plugin/cache"},
	"plugin/resolve":    {"plugin/chain", "plugin/reuse"},
	"plugin/upstream":   {"plugin/fetch", "plugin/printable"},
	"plugin/mail":       {"plugin/dnssec", "plugin/printable"},
	"plugin/probe":      {"plugin/mail"},
	"plugin/danelaw":    {"plugin/resolve", "plugin/upstream", "plugin/probe", "plugin/owned", "trustanchors"},
	"bench/universe":    {"zones"},
	"bench/upstream":    {},
	"bench/load":        {"bench/universe"},
	"bench/server":      {},
	"bench":             {"bench/load", "bench/server", "bench/universe", "bench/upstream"},
	"cmd/danelaw":       {"plugin/danelaw", "zones", "bench"},
	"test":              {},
	"test/certificates": {},
	"test/clock":        {},
	"test/differential": {},
	"test/hostile":      {},
	"test/ports":        {},
	"test/mutants":      {},
	"test/namespace":    {"test/needs", "test/observe"},
	"test/needs":        {},
	"test/observe":      {},
	"test/unbound":      {"test/observe", "test/ports"},
	"test/mta":          {"zones"},
	"test/scripted":     {"plugin/fetch", "test/world"},
	"test/servers":      {"zones"},
	"test/world":        {"zones"},
}

// TestImports: imports run one way, and no package is without its place in that order.
func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Deps", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		if _, known := allowed[name]; !known {
			t.Errorf("package %s has no place in the order of imports", name)
		}
		may := below(name)
		for _, dep := range p.Deps {
			if dep, ours := strings.CutPrefix(dep, module); ours && !slices.Contains(may, dep) {
				t.Errorf("%s must not import %s", name, dep)
			}
		}
	}
}

// below lists the packages that name may depend on.
func below(name string) (all []string) {
	for _, other := range allowed[name] {
		all = append(append(all, other), below(other)...)
	}
	return all
}
