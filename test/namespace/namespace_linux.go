// Package namespace runs the tests of a package as root in namespaces of their own: a network namespace, so that ports
// such as 53 and 25 are free and nothing reaches the outside; a PID namespace with its own /proc, so that no server
// outlives the tests; and a mount namespace, so that mounts end with them.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/observe"
)

const module = "github.com/danelaw-dns/danelaw/"

// Suite says what the tests of a package need.
type Suite struct {
	Variable string   // of the environment; the tests run if it is set
	Programs []string // that the tests run, beside ip
	// if set, it is called while there is still a network; dir is the directory of the run
	Prepare   func(dir string) error
	Addresses func() []string // that the loopback interface gets in addition
}

// inside is the variable that tells a program in the namespaces the directory of the run.
func (s Suite) inside() string { return s.Variable + "_INSIDE" }

// Main is to be called by TestMain. It runs the test program again in the namespaces. If Variable is not set, it runs
// the tests without namespaces.
func (s Suite) Main(m *testing.M) {
	switch {
	case os.Getenv(s.Variable) == "":
		os.Exit(m.Run())
	case os.Getenv(s.inside()) == "":
		os.Exit(s.enter())
	}
	if err := errors.Join(processes(), s.network()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enter builds danelaw and runs this program in the namespaces.
func (s Suite) enter() int {
	interrupts := make(chan os.Signal, 1) // before the first file is made, so that none is left behind
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	dir, err := os.MkdirTemp("", "danelaw-tests-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = s.prepare(dir)
	}
	if err == nil {
		err = s.again(dir, interrupts)
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

// prepare checks that all that is needed is there, and builds danelaw while there is still a network.
func (s Suite) prepare(dir string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s is set, but only root may make namespaces", s.Variable)
	}
	for _, p := range append([]string{"ip"}, s.Programs...) {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%s is set, but %w", s.Variable, err)
		}
	}
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "danelaw"),
		module+"cmd/danelaw").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if s.Prepare == nil {
		return nil
	}
	return s.Prepare(dir)
}

// again runs this program in namespaces and passes interrupts on to it. When one of the two ends, so does the other.
func (s Suite) again(dir string, interrupts <-chan os.Signal) error {
	runtime.LockOSThread() // Pdeathsig is sent when this thread ends
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), s.inside()+"="+dir)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
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

// processes mounts /proc anew, so that it has the processes of the namespace. The host does not see that mount.
func processes() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	return syscall.Mount("proc", "/proc", "proc", 0, "")
}

// network gives the loopback interface of the namespace its addresses.
func (s Suite) network() error {
	lines := [][]string{{"link", "set", "lo", "up"}}
	for _, a := range s.Addresses() {
		lines = append(lines, []string{"address", "add", a + "/32", "dev", "lo"})
	}
	for _, args := range lines {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w\n%s", args, err, out)
		}
	}
	return nil
}

// Needs skips a test, and says so, if Variable is not set.
func (s Suite) Needs(t testing.TB) {
	t.Helper()
	needs.Variable(t, s.Variable, "root, for namespaces of its own, and the programs ip "+strings.Join(s.Programs, " "))
}

// Dir returns the directory of the run, or a path in it.
func (s Suite) Dir(path ...string) string {
	return filepath.Join(append([]string{os.Getenv(s.inside())}, path...)...)
}

// Danelaw returns the path of the danelaw binary.
func (s Suite) Danelaw() string { return s.Dir("danelaw") }

// Start runs a server in a directory until the test ends, or until the function that it returns is called. If the test
// fails, the end of the server's output is logged.
func Start(t testing.TB, name, directory string, args ...string) (stop func()) {
	t.Helper()
	stop, _ = StartHeard(t, name, directory, args...)
	return stop
}

// StartHeard is Start for who wants to know what the server writes.
func StartHeard(t testing.TB, name, directory string, args ...string) (stop func(), wrote *observe.Output) {
	t.Helper()
	c, log := exec.Command(args[0], args[1:]...), new(observe.Output)
	c.Dir, c.Stdout, c.Stderr = directory, log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it has ended by itself
		c.Wait()                                      //nolint:errcheck // likewise
	})
	t.Cleanup(func() {
		stop()
		if text := log.String(); t.Failed() {
			t.Logf("%s wrote\n%s", name, text[max(0, len(text)-3000):])
		}
	})
	return stop, log
}
