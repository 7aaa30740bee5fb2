package mutants

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mutant is one patch that breaks a rule.
type mutant struct {
	name     string
	title    string   // numbers of plugin/RULES.md, and what is wrong
	expected string   // the stage that is to catch it
	packages []string // whose tests may catch it
	changes  []change
}

// change is one hunk of a patch. The text before must be in the file exactly once.
type change struct{ file, before, after string }

// numbered matches a title that begins with numbers of plugin/RULES.md.
var numbered = regexp.MustCompile(`^[VLCDST]-\d+[a-z]?(, [VLCDST]-\d+[a-z]?)*: .`)

// mutants reads patches/*.patch, sorted by name.
func mutants(t *testing.T) []*mutant {
	t.Helper()
	files, err := filepath.Glob("patches/*.patch")
	if err != nil || len(files) == 0 {
		t.Fatal("no patches", err)
	}
	var all []*mutant
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		m.name = strings.TrimSuffix(filepath.Base(file), ".patch")
		all = append(all, m)
	}
	return all
}

// parse reads a patch: two lines of comment, and below them a unified diff. The first line is the title. The second one
// is "stage: package ...": the stage that is to catch it, and the packages whose tests may.
func parse(text string) (*mutant, error) {
	m := &mutant{}
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	var ok [3]bool
	if len(lines) > 2 {
		m.title, ok[0] = strings.CutPrefix(strings.TrimSpace(lines[0]), "# ")
		var packages, how string
		how, ok[1] = strings.CutPrefix(strings.TrimSpace(lines[1]), "# ")
		m.expected, packages, ok[2] = strings.Cut(how, ": ")
		m.packages = strings.Fields(packages)
	}
	if slices.Contains(ok[:], false) || !numbered.MatchString(m.title) || len(m.packages) == 0 {
		return nil, errors.New(`it must begin with "# NUMBER: what it removes" and "# stage: package ..."`)
	}
	return m, m.hunks(lines[2:])
}

// hunks reads the diff. It ignores line numbers: a hunk is found by its text.
func (m *mutant) hunks(lines []string) error {
	var file string
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "--- "):
		case strings.HasPrefix(line, "+++ b/"):
			file = strings.TrimSpace(strings.TrimPrefix(line, "+++ b/"))
		case strings.HasPrefix(line, "@@ "):
			m.changes = append(m.changes, change{file: file})
		case len(m.changes) == 0:
			return fmt.Errorf("a line outside of any hunk: %q", line)
		default:
			m.changes[len(m.changes)-1].add(line)
		}
	}
	return nil
}

func (c *change) add(line string) {
	if line[0] != '+' {
		c.before += line[1:]
	}
	if line[0] != '-' {
		c.after += line[1:]
	}
}

// changed returns the files below root that m changes, with their new content. It is an error if the text of a hunk is
// not there, and also if it is there twice, since it is not known which one is meant.
func (m *mutant) changed(root string) (map[string]string, error) {
	after := map[string]string{}
	for _, c := range m.changes {
		file := filepath.Join(root, c.file)
		if _, seen := after[file]; !seen {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			after[file] = string(text)
		}
		if n := strings.Count(after[file], c.before); n != 1 {
			return nil, fmt.Errorf("%s has this %d times:\n%s", c.file, n, c.before)
		}
		after[file] = strings.Replace(after[file], c.before, c.after, 1)
	}
	return after, nil
}

// TestPatchesApply: every patch applies to the code as it is. If one does not, mend it: whoever changes the line knows
// best what the same mistake would look like now.
func TestPatchesApply(t *testing.T) {
	for _, m := range mutants(t) {
		if _, err := m.changed(root); err != nil {
			t.Errorf("%s does not apply any more: %v", m.name, err)
		}
	}
}

// TestPatchesBuild: the packages that a mutant changes compile, so that it is caught by a test and not by the compiler.
func TestPatchesBuild(t *testing.T) {
	files := token.NewFileSet()
	imports := importer.ForCompiler(files, "gc", exported(t))
	for _, m := range mutants(t) {
		after, _ := m.changed(root) // TestPatchesApply
		for file := range after {
			p, err := build.ImportDir(filepath.Dir(file), 0)
			if err != nil {
				t.Fatal(err)
			}
			var parsed []*ast.File
			for _, name := range p.GoFiles {
				name = filepath.Join(p.Dir, name)
				var source any // nil: the file on disk
				if text, changed := after[name]; changed {
					source = text
				}
				f, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
				if err != nil {
					t.Errorf("%s: %v", m.name, err)
				}
				parsed = append(parsed, f)
			}
			if _, err := (&types.Config{Importer: imports}).Check(p.Name, files, parsed, nil); err != nil {
				t.Errorf("%s does not build: %v", m.name, err)
			}
		}
	}
}

// exported returns a function that opens the export data of a package, for the type checker. It covers all packages
// that the module imports.
func exported(t *testing.T) importer.Lookup {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f={{.ImportPath}} {{.Export}}", "./..."}
	list := exec.CommandContext(t.Context(), "go", args...)
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		at[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(at[path]) }
}
