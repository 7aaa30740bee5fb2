// Package needs skips tests that need more than Go. On a new machine `go test ./...` has to pass with Go alone, without
// root, and within minutes, so a test that needs more runs only if a variable of the environment asks for it. If the
// variable is set and something is missing, the test fails. .ci/run installs everything and sets every variable, so
// nothing is skipped there; a test in this package checks that.
package needs

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Variable returns the value of a variable of the environment. If it is not set, the test is skipped for the reason
// given; if it is set and a program is missing, the test fails.
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

// Host ends a test because of an error that comes of what not every host has: root's rights, a network of the test's
// own, IPv6, a second loopback address. The test is skipped; but if DANELAW_TEST_HOST is set, which says that the host
// has all of that, it fails.
func Host(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	Variable(t, "DANELAW_TEST_HOST", "what this host does not give ("+err.Error()+")")
	t.Fatalf("DANELAW_TEST_HOST is set, but %v", err)
}

// Root ends a test, as [Host] does, if it does not run as root.
func Root(t testing.TB) {
	t.Helper()
	if user := os.Geteuid(); user != 0 {
		Host(t, fmt.Errorf("the user is %d, not root", user))
	}
}

// Address ends a test because of an error of a socket for an address. The test fails, unless the host has no IPv6, as
// many containers: then it ends as with [Host].
func Address(t testing.TB, address string, err error) {
	t.Helper()
	if err != nil && !strings.Contains(address, "::") {
		t.Fatalf("%s: %v", address, err)
	}
	Host(t, err)
}

// Tools skips a test unless DANELAW_TEST_TOOLS is set. If it is, the programs must be there; CONTRIBUTING.md names
// Debian's packages of them.
func Tools(t testing.TB, programs ...string) {
	t.Helper()
	Variable(t, "DANELAW_TEST_TOOLS", "the programs "+strings.Join(programs, " "), programs...)
}
