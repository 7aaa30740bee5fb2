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
	addr = fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
	file := Configure(t, addr, upstream, []*dns.DS{anchor}, options...)
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
	await(t, addr)
	return addr
}

// Configure writes the configuration of an Unbound that answers at an address and forwards to an upstream, with trust
// anchors and further lines. It returns the path of the file.
func Configure(t testing.TB, addr, upstream string, anchors []*dns.DS, options ...string) (file string) {
	t.Helper()
	dir := t.TempDir()
	for _, ds := range anchors {
		options = append(options, fmt.Sprintf("trust-anchor: %q", strings.ReplaceAll(ds.String(), "\t", " ")))
	}
	at := strings.NewReplacer(":", "@")
	config := fmt.Sprintf(`server:
	interface: %s
	do-daemonize: no
	username: ""
	chroot: ""
	directory: %q
	pidfile: ""
	use-syslog: no
	do-not-query-localhost: no
	%s
forward-zone:
	name: "."
	forward-addr: %s
remote-control:
	control-enable: no
`, at.Replace(addr), dir, strings.Join(options, "\n\t"), at.Replace(upstream))
	file = filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
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

// StartAt runs an Unbound, whose clock begins at a time and goes on from there, until stop is called.
func StartAt(t testing.TB, at time.Time, args ...string) (stop func()) {
	t.Helper()
	library, err := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	if err != nil || len(library) == 0 {
		t.Fatalf("there is no faketime: %v", err)
	}
	command := exec.Command("unbound", args...)
	command.Env = append(os.Environ(), "LD_PRELOAD="+library[0], "FAKETIME=@"+at.UTC().Format(time.DateTime),
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "TZ=UTC")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		command.Process.Kill() //nolint:errcheck // it has ended
		command.Wait()         //nolint:errcheck // by the signal
	}
}
