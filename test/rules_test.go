package test

import (
	"errors"
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
	rulesFromTo = regexp.MustCompile(`\b[VLTCDSX]-\d+[a-z]?\.\.`)
)

// undecided are the rules that no line of the product decides, each with the reason. The rules of group X are tests to
// be made.
var undecided = map[string]string{
	"V-69a": "not built: that a client sets CO is not read",
	"T-2":   "no old key is in the code",
	"T-3":   "no date is in the code",
	"T-4":   "figures that follow from V-5",
	"D-1":   "what V, L and C come to for the types of mail",
	"D-19":  "for MTAs to decide",
	"D-22":  "REQUIRETLS is not built",
	"S-16":  "not built, and says why",
}

// defined returns the numbers of the rules. Each rule begins with its number.
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

// TestRulesCited: the list of rules has every rule whose number is cited, anywhere in the project or in the list
// itself.
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

// TestRulesDecided: one search of the product's code finds where a rule is decided. So each number is written out, and
// none is cited as part of a range.
func TestRulesDecided(t *testing.T) {
	root := os.DirFS("..")
	text, err := fs.ReadFile(root, rules)
	if err != nil {
		t.Fatal(err)
	}
	decided := map[string]bool{}
	for _, dir := range []string{"cmd", "plugin", "trustanchors"} {
		err = errors.Join(err, fs.WalkDir(root, dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(name, ".go") ||
				strings.HasSuffix(name, "_test.go") {
				return err
			}
			text, err := fs.ReadFile(root, name)
			for _, number := range ruleCited.FindAllString(string(text), -1) {
				decided[number] = true
			}
			if from := rulesFromTo.Find(text); from != nil {
				t.Errorf("%s: %s is a range, which no search for a rule in it finds", name, from)
			}
			return err
		}))
	}
	if err != nil {
		t.Fatal(err)
	}
	for rule := range defined(t, string(text)) {
		if reason, exempt := undecided[rule]; decided[rule] == exempt && rule[0] != 'X' {
			t.Errorf("%s: in the code: %v; not to be there: %v %s", rule, decided[rule], exempt, reason)
		}
	}
}

// skip leaves out a directory, or the file of the same name that a git worktree has instead.
func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}
