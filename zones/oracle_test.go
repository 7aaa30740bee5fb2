package zones_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/unbound"
	"github.com/danelaw-dns/danelaw/zones"
)

// verifiesSHA1 are the zones that validators with the defaults of 2022 find Secure, and danelaw Insecure (V-36).
var verifiesSHA1 = []string{"rsasha1.dane.", "rsasha1-nsec3.dane."}

// collated is the denial on which validators disagree: Unbound finds it Bogus, BIND leaves it pending, danelaw Insecure
// (V-50h, X-14).
const collated = "_25._tcp.mx.collated.dane."

// unasked are the denials for which a resolver has to put another question than it was asked, or to have put it before
// (D-17): without, it fails.
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
	addr := unbound.Start(t, l.Addr(), l.DS()[0], `local-zone: "2.0.0.0.1.0.0.2.ip6.arpa." transparent`,
		"val-log-level: 2",
		"harden-algo-downgrade: yes")
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

// TestDelv has BIND's delv validate all questions of the lab.
func TestDelv(t *testing.T) {
	needs.Tools(t, "delv")
	l := start(t)
	host, port, _ := net.SplitHostPort(l.Addr())
	key := l.DNSKEY()[0]
	anchors := filepath.Join(t.TempDir(), "anchors")
	text := fmt.Sprintf("trust-anchors { . static-key %d %d %d %q; };\n", key.Flags, key.Protocol,
		key.Algorithm, key.PublicKey)
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
