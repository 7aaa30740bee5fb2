//go:build linux

package servers

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ofValidation matches the numbers of group V in the list of rules.
var ofValidation = regexp.MustCompile(`(?m)^- (V-\d+[a-z]?) `)

// elsewhere are the rules that no case here can show, each with the package and the name of the test that does.
var elsewhere = map[string]string{
	"V-33": "plugin/upstream TestUnpackLeavesOut", // resolvers do not pass on records that they cannot read
}

// TestRules: each rule of validation has a case here or a test that is named above, and each case is for a rule that
// exists.
func TestRules(t *testing.T) {
	shown := map[string]bool{}
	for _, q := range slices.Concat(questions(), anchorQuestions) {
		for _, rule := range strings.Fields(q.rules) {
			shown[rule] = true
		}
	}
	rules := rules(t)
	for _, rule := range rules {
		test, exempt := elsewhere[rule]
		switch {
		case shown[rule] == exempt:
			t.Errorf("%s: a case here: %v, named as shown elsewhere: %v", rule, shown[rule], exempt)
		case exempt && !exists(t, test):
			t.Errorf("%s: there is no %s", rule, test)
		}
	}
	for rule := range shown {
		if strings.HasPrefix(rule, "V-") && !slices.Contains(rules, rule) {
			t.Errorf("%s is no rule", rule)
		}
	}
}

// rules returns the numbers of group V.
func rules(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "plugin", "RULES.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ofValidation.FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	if len(all) < 90 {
		t.Fatalf("plugin/RULES.md has %d rules of validation only: %q", len(all), all)
	}
	return all
}

// exists looks for a test, named by package and function.
func exists(t *testing.T, test string) bool {
	t.Helper()
	dir, name, _ := strings.Cut(test, " ")
	files, err := filepath.Glob(filepath.Join("..", "..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(text), "\nfunc "+name+"(")
	})
}
