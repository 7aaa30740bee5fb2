//go:build linux

package servers

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// patience is how long a server may take to start on a busy machine.
const patience = time.Minute

// await waits until the server at addr answers a question.
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

// exchange asks a question with DO, over TCP if the reply is truncated.
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

// write writes a file in a directory, which it makes if it has to.
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
