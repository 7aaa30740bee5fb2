// Package servers holds danelaw's verdicts against the world as it is served: a signed tree on BIND, NSD and Knot, with the
// resolvers of other makers between them and danelaw, and the validators of other makers beside it. All of it runs in a network
// namespace of its own, with one address per server and port 53 everywhere.
package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

const (
	variable = "DANELAW_TEST_SERVERS"
	module   = "github.com/danelaw-dns/danelaw/"
	// inside holds, in the namespace, the directory of the run.
	inside = "DANELAW_TEST_SERVERS_INSIDE"
)

// programs are all that the suite runs, beside danelaw.
var programs = []string{
	"ip", "named", "nsd", "knotd", "dnssec-keygen", "dnssec-signzone", "ldns-keygen", "ldns-signzone", "kzonesign", "unbound", "kresd",
	"pdns_recursor", "dnsmasq", "dig", "delv", "drill",
}

// TestMain runs the tests again in namespaces of their own: of the network, so that everybody gets port 53, and of processes (with
// the /proc that goes with them), so that no server outlives them.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(variable) == "":
		os.Exit(m.Run())
	case os.Getenv(inside) == "":
		os.Exit(enter())
	}
	if err := errors.Join(processes(), network()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enter builds danelaw and runs this program in the namespaces.
func enter() int {
	dir, err := os.MkdirTemp("", "danelaw-servers-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = prepare(dir)
	}
	if err == nil {
		err = again(dir)
	}
	if exited, ok := err.(*exec.ExitError); ok {
		return exited.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// prepare looks for what is needed, and builds danelaw while there is still a network.
func prepare(dir string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s is set, but only root may make namespaces", variable)
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%s is set, but %w", variable, err)
		}
	}
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "danelaw"), module+"cmd/danelaw").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// again runs this program in namespaces; if either of the two ends so does the other.
func again(dir string) error {
	runtime.LockOSThread() // Pdeathsig is the death of the thread
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"="+dir)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	if err := c.Start(); err != nil {
		return err
	}
	go func() {
		for s := range interrupts {
			c.Process.Signal(s)
		}
	}()
	return c.Wait()
}

// processes shows the namespace's processes in /proc, and to nobody else.
func processes() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	return syscall.Mount("proc", "/proc", "proc", 0, "")
}

// network gives the namespace its addresses.
func network() error {
	lines := [][]string{{"link", "set", "lo", "up"}}
	for _, a := range addresses() {
		lines = append(lines, []string{"address", "add", a + "/32", "dev", "lo"})
	}
	for _, args := range lines {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w\n%s", args, err, out)
		}
	}
	return nil
}

// needs skips a test, loudly, where it cannot run.
func needs(t *testing.T) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skipf("SKIPPED: set %s=1 to run this, as root, with the programs %v", variable, programs)
	}
}

// dir is the directory of the run.
func dir(path ...string) string {
	return filepath.Join(append([]string{os.Getenv(inside)}, path...)...)
}

// danelaw is the product.
func danelaw() string { return dir("danelaw") }
