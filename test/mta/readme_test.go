//go:build linux

package mta

import (
	"os"
	"strings"
	"testing"
)

const readme = "../../deploy/mailhost/README.md"

// recommended returns the lines of the first code block in a section of deploy/mailhost/README.md, so that what people
// are told to write is what is tested.
func recommended(t *testing.T, section string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	_, body, found := strings.Cut(string(text), "\n## "+section+"\n")
	if !found {
		t.Fatalf("%s has no section %s", readme, section)
	}
	for _, line := range strings.Split(body, "\n") {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case indented:
			lines = append(lines, code)
		case len(lines) > 0:
			return lines
		}
	}
	t.Fatalf("%s: section %s has no block of code", readme, section)
	return nil
}
