// Package unbound runs an Unbound that validates the replies of an upstream, for tests that compare it with danelaw.
package unbound

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// patience is how long it may take to answer on a busy machine.
const patience = time.Minute

// Start runs an Unbound until the test ends, with a trust anchor for the root and further lines of configuration. It
// returns the address at which it answers.
func Start(t testing.TB, upstream string, anchor *dns.DS, options ...string) (addr string) {
	t.Helper()
	dir, port := t.TempDir(), ports.Closed(t)
	config := fmt.Sprintf(`server:
	interface: 127.0.0.1@%d
	do-daemonize: no
	username: ""
	chroot: ""
	directory: %q
	pidfile: ""
	use-syslog: no
	do-not-query-localhost: no
	trust-anchor: %q
	%s
forward-zone:
	name: "."
	forward-addr: %s
remote-control:
	control-enable: no
`, port, dir, strings.ReplaceAll(anchor.String(), "\t", " "), strings.Join(options, "\n\t"),
		strings.Replace(upstream, ":", "@", 1))
	file := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("unbound", "-d", "-c", file)
	var log observe.Output
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill() //nolint:errcheck // it has ended
		command.Wait()         //nolint:errcheck // by the signal
		if t.Failed() {
			t.Logf("Unbound wrote\n%s", &log)
		}
	})
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	await(t, addr)
	return addr
}

// await waits until there is an answer.
func await(t testing.TB, addr string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, _, err := (&dns.Client{Timeout: time.Second}).Exchange(new(dns.Msg).SetQuestion(".", dns.TypeSOA), addr)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Unbound does not answer on %s: %v", addr, err)
		}
	}
}
