//go:build linux

package packages

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/test/observe"
)

// patience is how long anything may take on a machine that is busy with something else.
const patience = 2 * time.Minute

// machine is a Debian that systemd has booted. It shares the network of the test.
type machine struct {
	t   *testing.T
	pid string // of its systemd, here
}

// boot boots one, which runs until the test ends.
func boot(t *testing.T) *machine {
	t.Helper()
	dir, console := t.TempDir(), new(observe.Output)
	c := exec.Command("testdata/boot.sh", suite.Dir("debian")+"/", dir)
	c.Stdout, c.Stderr = console, console
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	m, ended := &machine{t: t}, make(chan struct{})
	go func() {
		defer close(ended)
		c.Wait() //nolint:errcheck // what it says is on the console
	}()
	t.Cleanup(func() {
		c.Process.Kill() // and with it the machine, by --kill-child
		<-ended
		m.pid = "" // its journal is gone
		m.forget(dir)
		if t.Failed() {
			t.Logf("the console:\n%s", console)
		}
	})
	m.eventually("systemd has booted", func() bool {
		select {
		case <-ended:
			t.Fatal("it does not boot")
		default:
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", c.Process.Pid))
		m.pid = strings.TrimSpace(string(children))
		if err != nil || m.pid == "" {
			return false
		}
		name, _ := os.ReadFile("/proc/" + m.pid + "/comm") // it may be gone, which the next round sees
		state, _ := m.try("systemctl", "is-system-running")
		return string(name) == "systemd\n" && (state == "running\n" || state == "degraded\n")
	})
	return m
}

// forget removes the control groups of the machine, whose processes end now.
func (m *machine) forget(dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "group"))
	if err != nil {
		m.t.Error(err)
		return
	}
	group := strings.TrimSpace(string(text))
	m.eventually("the machine to end", func() bool {
		//nolint:errcheck // what is still in use goes the next time
		exec.Command("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run()
		_, err := os.Stat(group)
		return err != nil
	})
	if err := syscall.Unmount(filepath.Join(dir, "cgroup"), syscall.MNT_DETACH); err != nil {
		m.t.Error(err)
	}
}

// try runs a command in the machine, and returns all that it writes.
func (m *machine) try(args ...string) (string, error) { return m.with("", args...) }

// with runs one that reads what is given.
func (m *machine) with(stdin string, args ...string) (string, error) {
	c := exec.Command("nsenter", append([]string{"--target", m.pid, "--mount", "--uts", "--ipc", "--pid", "--cgroup",
		"--"}, args...)...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"}
	var out bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &out
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%v: %w\n%s", args, err, out.String())
	}
	return out.String(), nil
}

// run runs a command that must not fail.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// write makes a file in the machine.
func (m *machine) write(name, text string) {
	m.t.Helper()
	if out, err := m.with(text, "sh", "-c", `mkdir -p "${1%/*}" && cat >"$1"`, "sh", name); err != nil {
		m.t.Fatal(err, out)
	}
}

// property is what systemd says of the service.
func (m *machine) property(name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "danelaw", "--property="+name, "--value"))
}

// eventually waits for something to become true.
func (m *machine) eventually(what string, holds func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			journal := ""
			if m.pid != "" {
				journal, _ = m.try("journalctl", "--no-pager", "--lines=50")
			}
			m.t.Fatalf("in vain waited for %s:\n%s", what, journal)
		}
	}
}
