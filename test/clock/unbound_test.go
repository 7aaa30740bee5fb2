package clock

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/unbound"
)

// variable is the variable that turns the comparison with Unbound on.
const variable = "DANELAW_TEST_TOOLS"

// besideUnbound starts an Unbound with its own defaults. It forwards to the same recursor and sees the same clock.
func (s *stage) besideUnbound() {
	s.Helper()
	if os.Getenv(variable) == "" {
		s.Logf("without an Unbound beside: set %s=1 where there are unbound and faketime", variable)
		return
	}
	stamp := filepath.Join(s.TempDir(), "time")
	s.clock.Tell(func(now time.Time) { write(s.T, stamp, now.UTC().Format(time.DateTime)+"\n") })
	s.unbound = fmt.Sprint("127.0.0.1:", ports.Closed(s.T))
	start(s.T, stamp, "unbound", "-d", "-c", unbound.Configure(s, s.unbound, s.cache.addr, s.tree.anchors(),
		"do-ip6: no", "num-threads: 1", `module-config: "validator iterator"`))
	s.await()
}

// start runs a C program until the test ends. It sees the time that is written in the file.
func start(t *testing.T, stamp, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+library(t), "FAKETIME_TIMESTAMP_FILE="+stamp, "FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "TZ=UTC")
	log, err := os.Create(stamp + ".log")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s is set, but: %v", variable, err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it has ended
		cmd.Wait()                          //nolint:errcheck // by the signal
		log.Close()
		if wrote, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s wrote\n%.1000s", program, wrote)
		}
	})
}

// library is Debian's faketime library. The faketime command cannot be used: it sets one time that does not change.
func library(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	if err != nil || len(found) == 0 {
		t.Fatalf("%s is set, but there is no faketime: %v", variable, err)
	}
	return found[0]
}

// await waits until Unbound answers for a name that it needs no upstream for, so that it has cached nothing when the
// scenario begins.
func (s *stage) await() {
	s.Helper()
	q := new(dns.Msg).SetQuestion("version.server.", dns.TypeTXT)
	q.Question[0].Qclass = dns.ClassCHAOS
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		m, _, err := (&dns.Client{Timeout: time.Second}).Exchange(q, s.unbound)
		if err == nil && m.Rcode == dns.RcodeSuccess {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("Unbound does not answer: %v %v", m, err)
		}
	}
}

// write replaces a file in one step: a reader sees the old or the new content.
func write(t *testing.T, name, text string) {
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Error(err)
	} else if err := os.Rename(name+".new", name); err != nil {
		t.Error(err)
	}
}
