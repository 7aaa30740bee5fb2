package zones_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/zones"
)

// verifiesSHA1 are the zones that validators with the defaults of 2022 find Secure, and danelaw Insecure (V-36).
var verifiesSHA1 = []string{"rsasha1.dane.", "rsasha1-nsec3.dane."}

// collated is the denial on which validators disagree: Unbound finds it Bogus, BIND leaves it pending, danelaw Insecure (V-50h,
//
const collated = "_25._tcp.mx.collated.dane."

// unasked are the denials for which a resolver has to put another question than it was asked, or to have put it before (D-17): without,
// it fails.
var unasked = []string{"_25._tcp.mx.no-tlsa-servfail.dane.", "_25._tcp.mx.no-tlsa-servfail.nsec3."}

// expected is the verdict that a validator which is not danelaw should come to, of which got is one.
func expected(d zones.Domain, q zones.Question, got string) string {
	switch {
	case q.Name == collated:
		return got
	case slices.Contains(unasked, q.Name):
		return "Bogus"
	case slices.Contains(verifiesSHA1, d.Name):
		return "Secure"
	case q.Status == "Indeterminate":
		return "Bogus"
	}
	return q.Status
}

// TestUnbound has Unbound validate all questions of the lab.
func TestUnbound(t *testing.T) {
	needs.Tools(t, "unbound")
	l := start(t)
	addr := startUnbound(t, l)
	for _, d := range l.Domains() {
		for _, q := range d.Questions {
			m := ask(t, "udp", addr, q.Name, q.Type)
			if m.Truncated {
				m = ask(t, "tcp", addr, q.Name, q.Type)
			}
			status := "Insecure"
			switch {
			case m.Rcode == dns.RcodeServerFailure:
				status = "Bogus"
			case m.AuthenticatedData:
				status = "Secure"
			}
			want := expected(d, q, status)
			if status != want || m.Rcode != q.Rcode && q.Name != collated && !slices.Contains(unasked, q.Name) {
				t.Errorf("%s %s: %s %s, want %s %s", q.Name, dns.Type(q.Type), status, dns.RcodeToString[m.Rcode], want,
					dns.RcodeToString[q.Rcode])
			}
		}
	}
}

// startUnbound runs Unbound with the lab's recursor as forwarder and its root key as anchor.
func startUnbound(t *testing.T, l *zones.Lab) (addr string) {
	t.Helper()
	dir := t.TempDir()
	port := strconv.Itoa(ports.Closed(t))
	host, upstream, _ := net.SplitHostPort(l.Addr())
	config := fmt.Sprintf(`server:
	interface: 127.0.0.1@%s
	do-daemonize: no
	username: ""
	chroot: ""
	directory: %q
	pidfile: ""
	use-syslog: no
	do-not-query-localhost: no
	local-zone: "2.0.0.0.1.0.0.2.ip6.arpa." transparent
	val-log-level: 2
	harden-algo-downgrade: yes
	trust-anchor: %q
forward-zone:
	name: "."
	forward-addr: %s@%s
`, port, dir, strings.ReplaceAll(l.DS()[0].String(), "\t", " "), host, upstream)
	file := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("unbound", "-d", "-c", file)
	var log strings.Builder
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	addr = net.JoinHostPort("127.0.0.1", port)
	await(t, addr)
	return addr
}

// await waits until a server answers.
func await(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		query := new(dns.Msg).SetQuestion(".", dns.TypeSOA)
		if _, err := dns.ExchangeContext(ctx, query, addr); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s does not answer", addr)
}

// TestDelv has BIND's delv validate all questions of the lab.
func TestDelv(t *testing.T) {
	needs.Tools(t, "delv")
	l := start(t)
	host, port, _ := net.SplitHostPort(l.Addr())
	key := l.DNSKEY()[0]
	anchors := filepath.Join(t.TempDir(), "anchors")
	text := fmt.Sprintf("trust-anchors { . static-key %d %d %d %q; };\n", key.Flags, key.Protocol, key.Algorithm, key.PublicKey)
	if err := os.WriteFile(anchors, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range l.Domains() {
		for _, q := range d.Questions {
			out, _ := exec.CommandContext(t.Context(), "delv", "-a", anchors, "+root", "@"+host, "-p", port, q.Name,
				dns.Type(q.Type).String()).CombinedOutput()
			status := delvStatus(string(out))
			if want := expected(d, q, status); status != want {
				t.Errorf("%s %s: %s, want %s\n%s", q.Name, dns.Type(q.Type), status, want, out)
			}
		}
	}
}

// delvStatus reads a verdict from delv's comments: it prints one for each RRset, and the reason if it fails.
func delvStatus(out string) string {
	switch {
	case strings.Contains(out, "resolution failed") && !strings.Contains(out, "resolution failed: ncache"):
		return "Bogus"
	case strings.Contains(out, "; unsigned "), strings.Contains(out, "; negative response, unsigned"):
		return "Insecure"
	case strings.Contains(out, "fully validated"):
		return "Secure"
	}
	return "none"
}
