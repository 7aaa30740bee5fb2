// Package test holds the suites that need the whole product, other programs, or a build. What they need beside Go is
// said in CONTRIBUTING.md; without their variable they are skipped.
package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/danelaw-dns/danelaw/"

// imports are the packages of ours that each imports, by go list, those of tests left out.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		all[name] = nil
		for _, other := range p.Imports {
			if other, ours := strings.CutPrefix(other, module); ours {
				all[name] = append(all[name], other)
			}
		}
	}
}

// ofTests reports whether a package is there for tests only.
func ofTests(name string) bool { return name == "test" || strings.HasPrefix(name, "test/") }

// TestImports: the product imports nothing that is there for tests, and nothing imports a command.
func TestImports(t *testing.T) {
	for name, others := range imports(t) {
		for _, other := range others {
			if ofTests(other) && !ofTests(name) || strings.HasPrefix(other, "cmd/") {
				t.Errorf("%s must not import %s", name, other)
			}
		}
	}
}

// TestPictureOfImports: CONTRIBUTING.md draws the product as it is. Whoever moves an import sees where it leads, and a
// new package gets its floor.
func TestPictureOfImports(t *testing.T) {
	text, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```imports\n")
	drawn, _, ended := strings.Cut(rest, "```")
	if want := picture(imports(t)); !ended || drawn != want {
		t.Errorf("CONTRIBUTING.md draws the imports as\n%s\nbut they are\n%s", drawn, want)
	}
}

// picture draws the packages of the product from the top, each with what it imports beside what those do.
func picture(all map[string][]string) string {
	var lines []string
	for name := range all {
		if ofTests(name) {
			continue
		}
		line := fmt.Sprintf("%d  %-16s", floor(all, name), name)
		if direct := reduced(all, name); len(direct) > 0 {
			line += " -> " + strings.Join(direct, ", ")
		}
		lines = append(lines, strings.TrimRight(line, " ")+"\n")
	}
	slices.SortFunc(lines, func(a, b string) int {
		if a[0] != b[0] {
			return int(b[0]) - int(a[0])
		}
		return strings.Compare(a, b)
	})
	return strings.Join(lines, "")
}

// floor is one above the highest floor of what a package imports.
func floor(all map[string][]string, name string) (n int) {
	for _, other := range all[name] {
		n = max(n, floor(all, other)+1)
	}
	return n
}

// reduced leaves out what a package imports and another of its imports does too.
func reduced(all map[string][]string, name string) (direct []string) {
	for _, other := range all[name] {
		if !slices.ContainsFunc(all[name], func(between string) bool { return reaches(all, between, other) }) {
			direct = append(direct, other)
		}
	}
	return direct
}

// reaches reports whether a package imports another, itself or by others.
func reaches(all map[string][]string, from, to string) bool {
	return slices.ContainsFunc(all[from], func(other string) bool { return other == to || reaches(all, other, to) })
}
