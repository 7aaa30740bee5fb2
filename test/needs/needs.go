// Package needs says what a test needs beyond Go, and skips it where that was not said to be there. On a fresh machine
// `go test ./...` has to pass with Go alone, without root, and in minutes, so what wants more must be asked for. It is
// skipped nowhere else: .ci/run installs what is wanted and sets every variable, to which a test here holds it, and
// with the variable what is missing is a failure.
package needs

import (
	"fmt"
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

// Host ends a test at an err of what not every host has: root's rights, a network of the test's own, IPv6, a second
// address of loopback. It is a failure where DANELAW_TEST_HOST says that all of that is there.
func Host(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	Variable(t, "DANELAW_TEST_HOST", "what this host does not give ("+err.Error()+")")
	t.Fatalf("DANELAW_TEST_HOST is set, but %v", err)
}

// Root wants root's rights.
func Root(t testing.TB) {
	t.Helper()
	if user := os.Geteuid(); user != 0 {
		Host(t, fmt.Errorf("the user is %d, not root", user))
	}
}

// Address ends a test at an err of a socket for an address. Only that a host has no IPv6, as many a container, is
// [Host]'s.
func Address(t testing.TB, address string, err error) {
	t.Helper()
	if err != nil && !strings.Contains(address, "::") {
		t.Fatalf("%s: %v", address, err)
	}
	Host(t, err)
}

// Tools wants programs; CONTRIBUTING.md has Debian's packages of them.
func Tools(t testing.TB, programs ...string) {
	t.Helper()
	Variable(t, "DANELAW_TEST_TOOLS", "the programs "+strings.Join(programs, " "), programs...)
}
