package needs

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var variables = regexp.MustCompile(`"(DANELAW_(?:TEST_[A-Z]+|SOAK))"`)

// elsewhere are variables that .ci/run does not set, each with the reason.
var elsewhere = map[string]string{
	"DANELAW_TEST_APISERVER": "a module of its own, as to build Kubernetes takes 5 minutes of two processors",
}

var ofHost = regexp.MustCompile(`needs\.(Host|Root|Address)\(`)

// wanted returns the variables without which tests in the file are skipped.
func wanted(text string) (all []string) {
	for line := range strings.Lines(text) {
		if m := variables.FindStringSubmatch(line); m != nil && !strings.Contains(line, "os.Getenv") {
			all = append(all, m[1])
		}
		if strings.Contains(line, "needs.Tools(") {
			all = append(all, "DANELAW_TEST_TOOLS")
		}
		if ofHost.MatchString(line) {
			all = append(all, "DANELAW_TEST_HOST")
		}
	}
	return all
}

// TestSkippedNowhereInCI: .ci/run runs all tests that a plain go test skips: it sets each variable for each package
// that asks for it, but those that stand elsewhere. CONTRIBUTING.md says what each variable needs.
func TestSkippedNowhereInCI(t *testing.T) {
	root := os.DirFS("../..")
	read := func(name string) string {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	ci, guide := strings.Split(read(".ci/run"), "\n"), read("CONTRIBUTING.md")
	seen := 0
	err := fs.WalkDir(root, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") || path.Dir(name) == "test/needs" {
			return err
		}
		for _, v := range wanted(read(name)) {
			seen++
			set := regexp.MustCompile(`^(\S+=\S+ )*` + v + `=\S+ .*go test `)
			runs := slices.ContainsFunc(ci, func(line string) bool {
				return set.MatchString(line) && slices.Contains(strings.Fields(line), "./"+path.Dir(name))
			})
			_, not := elsewhere[v]
			if runs == not || !strings.Contains(guide, "`"+v+"=") {
				t.Errorf("%s is skipped without %s: have .ci/run set it for ./%s, "+
					"and CONTRIBUTING.md say what it needs",
					name, v, path.Dir(name))
			}
		}
		return nil
	})
	if err != nil || seen == 0 {
		t.Errorf("%d variables are wanted; %v", seen, err)
	}
}
