package test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

const rules = "plugin/RULES.md"

var (
	ruleAtBegin = regexp.MustCompile(`(?m)^- ([VLTCDSX]-\d+[a-z]?) `)
	ruleCited   = regexp.MustCompile(`\b[VLTCDSX]-\d+[a-z]?\b`)
)

// defined returns the numbers of the rules; each stands at the beginning of one.
func defined(t *testing.T, text string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, m := range ruleAtBegin.FindAllStringSubmatch(text, -1) {
		if all[m[1]] {
			t.Errorf("%s has %s twice", rules, m[1])
		}
		all[m[1]] = true
	}
	return all
}

// TestRulesCited: every number of a rule that stands anywhere in the project, in the list of rules itself too, is one of that list.
func TestRulesCited(t *testing.T) {
	root := os.DirFS("..")
	text, err := fs.ReadFile(root, rules)
	if err != nil {
		t.Fatal(err)
	}
	all, seen := defined(t, string(text)), 0
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".git":
			return skip(d)
		case !d.Type().IsRegular() || strings.Contains(name, "/testdata/fuzz/"):
			return nil
		}
		text, err := fs.ReadFile(root, name)
		for _, number := range ruleCited.FindAllString(path.Base(name)+"\n"+string(text), -1) {
			if seen++; !all[number] {
				t.Errorf("%s cites %s, which %s does not have", name, number, rules)
			}
		}
		return err
	})
	if err != nil || seen < 1000 || len(all) < 150 {
		t.Errorf("%d citations of %d rules were found, error %v", seen, len(all), err)
	}
}

// skip leaves out a directory, or the file that stands for one in a work tree.
func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}
