package servers

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// patience is how long a server may take to start on a busy machine.
const patience = time.Minute

// output is what a process has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start runs a server until the test ends; what it wrote at last is shown if the test fails.
func start(t *testing.T, name, directory string, args ...string) {
	t.Helper()
	c, log := exec.Command(args[0], args[1:]...), new(output)
	c.Dir, c.Stdout, c.Stderr = directory, log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		c.Wait()
		if text := log.String(); t.Failed() {
			t.Logf("%s wrote\n%s", name, text[max(0, len(text)-3000):])
		}
	})
}

// await waits until the server at addr has the answer to a question.
func await(t *testing.T, addr, name string, qtype uint16) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if m, err := exchange(addr, name, qtype, time.Second); err == nil && m.Rcode == dns.RcodeSuccess {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer %s %s", addr, name, dns.Type(qtype))
		}
	}
}

// exchange asks a question as a validator does that wants to know what its neighbour thinks: DO, and by TCP if need be.
func exchange(addr, name string, qtype uint16, timeout time.Duration) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(name, qtype)
	query.SetEdns0(1232, true)
	query.AuthenticatedData = true
	client := dns.Client{Timeout: timeout}
	m, _, err := client.Exchange(query, net.JoinHostPort(addr, "53"))
	if err == nil && m.Truncated {
		client.Net = "tcp"
		m, _, err = client.Exchange(query, net.JoinHostPort(addr, "53"))
	}
	return m, err
}

// write makes a file in a directory, which it makes as well.
func write(t *testing.T, directory, name, text string) string {
	t.Helper()
	file := filepath.Join(directory, name)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
