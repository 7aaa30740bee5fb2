// Package test holds the suites that need the whole product, other programs, or a build. CONTRIBUTING.md says what each
// needs beside Go. Without its variable a suite is skipped.
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

// imports returns for each of our packages which others of ours it imports, by go list. The imports of tests are left
// out.
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

// ofTests reports whether a package serves tests only.
func ofTests(name string) bool { return name == "test" || strings.HasPrefix(name, "test/") }

// TestImports: the product imports no package that serves tests only, and nothing imports a command.
func TestImports(t *testing.T) {
	for name, others := range imports(t) {
		for _, other := range others {
			if ofTests(other) && !ofTests(name) || strings.HasPrefix(other, "cmd/") {
				t.Errorf("%s must not import %s", name, other)
			}
		}
	}
}

// TestPictureOfImports: the picture of imports in CONTRIBUTING.md is the one that go list gives, so that nobody adds an
// import without seeing what it does to the floors.
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

// picture draws the packages of the product, the highest floor first. A package's imports are left out where another of
// its imports has them too.
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

// floor returns the floor of a package: one above the highest floor of its imports, or 0.
func floor(all map[string][]string, name string) (n int) {
	for _, other := range all[name] {
		n = max(n, floor(all, other)+1)
	}
	return n
}

// reduced returns the imports of a package, without those that another of its imports has too.
func reduced(all map[string][]string, name string) (direct []string) {
	for _, other := range all[name] {
		if !slices.ContainsFunc(all[name], func(between string) bool { return reaches(all, between, other) }) {
			direct = append(direct, other)
		}
	}
	return direct
}

// reaches reports whether a package imports another, directly or through others.
func reaches(all map[string][]string, from, to string) bool {
	return slices.ContainsFunc(all[from], func(other string) bool { return other == to || reaches(all, other, to) })
}
