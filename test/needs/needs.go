// Package needs says what a test needs beyond Go, and skips it where that was not said to be there. On a fresh machine
// `go test ./...` has to pass with Go alone, without root, and in minutes, so what wants more must be asked for. It is
// skipped nowhere else: .ci/run installs what is wanted and sets every variable, to which a test here holds it, and
// with the variable a missing program is a failure.
package needs

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Variable returns the value of a variable of the environment. Without one the test is skipped, for the reason given;
// with one, a program that is missing fails it.
func Variable(t testing.TB, variable, reason string, programs ...string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		t.Skipf("SKIPPED: it needs %s; where that is given set %s, as .ci/run does (CONTRIBUTING.md)", reason, variable)
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is set, but %v", variable, err)
		}
	}
	return value
}

// Tools wants programs; CONTRIBUTING.md has Debian's packages of them.
func Tools(t testing.TB, programs ...string) {
	t.Helper()
	Variable(t, "DANELAW_TEST_TOOLS", "the programs "+strings.Join(programs, " "), programs...)
}
