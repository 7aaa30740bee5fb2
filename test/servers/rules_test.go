package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lastRule is the last number of group V of the behaviour checklist, and lettered are those that stand between.
const lastRule = 78

var lettered = strings.Fields("1a 6a 15a 48a 50a 50b 50c 50d 50e 50f 50g 50h 50i 69a 69b")

// elsewhere are the rules that no case here can show, with the test that does: package and name.
var elsewhere = map[string]string{
	"V-33": "plugin/upstream TestUnpackLeavesOut", // resolvers do not hand on records that they cannot read
}

// TestRules: each rule of validation has a case, or a test that is named above; and no case is of a rule that there is not.
func TestRules(t *testing.T) {
	shown := map[string]bool{}
	for _, q := range slices.Concat(questions(), anchorQuestions) {
		for _, rule := range strings.Fields(q.rules) {
			shown[rule] = true
		}
	}
	rules := rules()
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

func rules() (all []string) {
	for n := range lastRule {
		all = append(all, fmt.Sprintf("V-%d", n+1))
	}
	for _, l := range lettered {
		all = append(all, "V-"+l)
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
