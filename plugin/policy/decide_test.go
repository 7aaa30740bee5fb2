package policy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

const tlsa = " TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000001"

// usable is what a host with DANE has.
func usable(host string) []string {
	return []string{host + " A 9.9.9.1", "_25._tcp." + host + tlsa}
}

const week = 7 * 24 * time.Hour

// TestDecide: D-26 row by row. Each world has a domain d.example. and its one condition.
func TestDecide(t *testing.T) {
	const d = "d.example."
	secure := func(n *internet, records ...string) { n.has(dnssec.Secure, records...) }
	mx := func(n *internet, hosts ...string) {
		for _, h := range hosts {
			secure(n, d+" MX 10 "+h)
		}
	}
	plain := func(n *internet, host string) { secure(n, host+" A 9.9.9.1") }
	enforce := func(n *internet, patterns ...string) { n.sts(d, "1", file("enforce", week, patterns...)) }
	for name, c := range map[string]struct {
		world func(n *internet)
		want  string
	}{
		"every host has DANE": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			secure(n, append(usable("a.example."), usable("b.example.")...)...)
		}, "dane-only"},
		"DANE wins over a policy": {func(n *internet) {
			mx(n, "a.example.")
			secure(n, usable("a.example.")...)
			enforce(n, "hostile.example")
		}, "dane-only"},
		"DANE of a domain that is its own host": {func(n *internet) { secure(n, usable(d)...) }, "dane-only"},
		"a host without address beside": {func(n *internet) {
			mx(n, "a.example.", "none.example.")
			secure(n, usable("a.example.")...)
		}, "dane-only"},
		"some hosts have DANE": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			secure(n, usable("a.example.")...)
			plain(n, "b.example.")
		}, "dane"},
		"some hosts have DANE, and a policy": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			secure(n, usable("a.example.")...)
			plain(n, "b.example.")
			enforce(n, "b.example")
		}, "dane-only"},
		"some hosts have DANE, and a policy covers one of the others": {func(n *internet) {
			mx(n, "a.example.", "b.example.", "C.example.")
			secure(n, usable("a.example.")...)
			plain(n, "b.example.")
			plain(n, "c.example.")
			enforce(n, "b.example")
		}, "dane-only without c.example."},
		"some hosts have DANE, and a policy in testing": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			secure(n, usable("a.example.")...)
			plain(n, "b.example.")
			n.sts(d, "1", file("testing", week, "b.example"))
		}, "dane"},
		"DANE, and a host whose TLSA lookup fails": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			secure(n, usable("a.example.")...)
			plain(n, "b.example.")
			n.lacks("_25._tcp.b.example. TLSA", dnssec.Bogus)
		}, "dane"},
		"DANE, and a host whose addresses fail": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			secure(n, usable("a.example.")...)
			n.lacks("b.example. A", dnssec.Bogus)
			n.lacks("b.example. AAAA", dnssec.Bogus)
		}, "dane"},
		"no TLSA, and a host whose TLSA lookup fails": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			plain(n, "a.example.")
			plain(n, "b.example.")
			n.lacks("_25._tcp.b.example. TLSA", dnssec.Indeterminate)
		}, "dane"},
		"a policy, and a covered host whose TLSA lookup fails": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			plain(n, "a.example.")
			plain(n, "b.example.")
			n.lacks("_25._tcp.b.example. TLSA", dnssec.Bogus)
			enforce(n, "a.example", "b.example")
		}, "secure a.example"},
		"a policy, and the only covered host has a TLSA lookup that fails": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			plain(n, "a.example.")
			plain(n, "b.example.")
			n.lacks("_25._tcp.b.example. TLSA", dnssec.Bogus)
			enforce(n, "b.example")
		}, "temp"},
		"every host fails": {func(n *internet) {
			mx(n, "a.example.")
			plain(n, "a.example.")
			n.lacks("_25._tcp.a.example. TLSA", dnssec.Bogus)
			enforce(n, "a.example")
		}, "temp"},
		"MX Bogus":      {func(n *internet) { n.lacks(d+" MX", dnssec.Bogus); enforce(n, "a.example") }, "temp"},
		"MX unanswered": {func(n *internet) { n.lacks(d+" MX", dnssec.Indeterminate) }, "temp"},
		"null MX":       {func(n *internet) { mx(n, "."); enforce(n, "a.example") }, "none"},
		"no host":       {func(n *internet) { mx(n, "a.example."); enforce(n, "a.example") }, "none"},
		"unusable TLSA alone": {func(n *internet) {
			mx(n, "a.example.")
			plain(n, "a.example.")
			secure(n, strings.Replace("_25._tcp.a.example."+tlsa, "3 1 1", "1 1 1", 1))
		}, "dane"},
		"unusable TLSA, and a policy": {func(n *internet) {
			mx(n, "a.example.")
			plain(n, "a.example.")
			secure(n, strings.Replace("_25._tcp.a.example."+tlsa, "3 1 1", "1 1 1", 1))
			enforce(n, "a.example")
		}, "secure a.example"},
		"nothing": {func(n *internet) { mx(n, "a.example."); plain(n, "a.example.") }, "none"},
		"a policy, MX Secure": {func(n *internet) {
			mx(n, "a.example.", "b.example.")
			plain(n, "a.example.")
			plain(n, "b.example.")
			enforce(n, "a.example", "*.example")
		}, "secure a.example:b.example"},
		"a policy, MX Insecure": {func(n *internet) {
			n.insecure(d, "a.example.")
			enforce(n, "a.example")
		}, "secure a.example"},
		"a policy, MX Insecure, TLSA Secure": {func(n *internet) {
			n.has(dnssec.Insecure, d+" MX 10 a.example.")
			secure(n, usable("a.example.")...)
			enforce(n, "a.example")
		}, "secure a.example"},
		"a policy that covers some": {func(n *internet) {
			n.insecure(d, "a.example.", "evil.test.")
			enforce(n, "a.example")
		}, "secure a.example"},
		"a policy that covers none": {func(n *internet) {
			n.insecure(d, "evil.test.")
			enforce(n, "a.example", "*.b.example")
		}, "secure a.example:.b.example"},
		"a wildcard covers one label": {func(n *internet) {
			n.insecure(d, "x.b.example.", "y.x.b.example.")
			enforce(n, "*.b.example")
		}, "secure x.b.example"},
		"testing": {func(n *internet) {
			n.insecure(d, "a.example.")
			n.sts(d, "1", file("testing", week, "a.example"))
		}, "none"},
		"mode none": {func(n *internet) {
			n.insecure(d, "a.example.")
			n.sts(d, "1", "version: STSv1\nmode: none\nmax_age: 86400")
		}, "none"},
		"policy host away": {func(n *internet) { n.insecure(d, "a.example."); n.announces(d, "1") }, "none"},
		"TXT Bogus": {func(n *internet) { n.insecure(d, "a.example."); n.lacks("_mta-sts."+d+" TXT", dnssec.Bogus) },
			"temp"},
		"TXT unanswered, MX Insecure": {func(n *internet) {
			n.insecure(d, "a.example.")
			n.lacks("_mta-sts."+d+" TXT", dnssec.Indeterminate)
		}, "none"},
		"TXT unanswered, MX Secure": {func(n *internet) {
			mx(n, "a.example.")
			plain(n, "a.example.")
			n.lacks("_mta-sts."+d+" TXT", dnssec.Indeterminate)
		}, "temp"},
		"TXT does not parse": {func(n *internet) {
			n.insecure(d, "a.example.")
			n.has(dnssec.Insecure, "_mta-sts."+d+` TXT "v=STSv1; id=1"`, "_mta-sts."+d+` TXT "v=STSv1; id=2"`)
		}, "none"},
	} {
		n := newInternet(t)
		c.world(n)
		a := n.service(NewStore()).Decide(context.Background(), "D.example")
		got := strings.TrimSpace(string(a.Level) + " " + strings.Join(a.Match, ":"))
		if len(a.Barred) > 0 {
			got += " without " + strings.Join(a.Barred, ":")
		}
		if got != c.want || a.Why == "" || a.Domain != d {
			t.Errorf("%s: %q (%s, %v), want %q", name, got, a.Why, a.Failure, c.want)
		}
	}
}

// TestForgedMX: who forges an unsigned MX gets no word of Postfix's into the names that it is told, such as `hostname`,
// with which it would take the certificate of any host (D-25).
func TestForgedMX(t *testing.T) {
	n := newInternet(t)
	n.insecure("d.", "x:hostname:y.d.", "mx.attacker.", "mx.d.")
	n.sts("d.", "1", file("enforce", time.Hour, "*.d"))
	a := n.service(NewStore()).Decide(t.Context(), "d.")
	if got := a.Postfix(); got != "OK secure match=mx.d servername=hostname" {
		t.Error(got)
	}
}
