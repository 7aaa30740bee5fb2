package dnssec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// V-50i, C-3, C-4: which SOA gives a denial its life, and that it never changes the verdict. The authority section is
// tried in both orders.
func TestNegativeLifetime(t *testing.T) {
	w := newTree(t)
	nodata := w.example.set(t, "a.example. 3600 NSEC b.example. A RRSIG NSEC")
	optOut := w.example.each(t, nsec3Lines("example.", 0, "-", 1, map[string]string{"example.": "NS SOA RRSIG"})...)
	const mx = "a.example. MX"
	soa := func(f forger, line string) []dns.RR { return f.set(t, line+" a. b. 1 2 3 4 600") }
	stripped := func(line string) []dns.RR { return rrs(t, line+" a. b. 1 2 3 4 600") }
	wrong := func(line string) []dns.RR {
		set := stripped(line)
		return append(set, spoil(w.example.rrsig(t, set)))
	}
	for _, row := range []struct {
		name, question string
		authority      []dns.RR
		want           string
		ttl            uint32
		soa            string // the owner of the SOA in the verdict
	}{
		{"C-3 MINIMUM", mx, join(nodata, soa(w.example, "example. 3600 SOA")), "Secure, denial", 600, "example."},
		{"C-3 TTL of the SOA", mx, join(nodata, soa(w.example, "example. 60 SOA")), "Secure, denial", 60, "example."},
		{"C-3 TTL of the NSEC", mx, join(w.example.set(t, "a.example. 30 NSEC b.example. A RRSIG NSEC"),
			soa(w.example, "example. 60 SOA")),
			"Secure, denial", 30, "example."},
		{"C-4 an hour at most", mx, join(w.example.set(t, "a.example. 86400 NSEC b.example. A RRSIG NSEC"),
			w.example.set(t, "example. 86400 SOA a. b. 1 2 3 4 86400")), "Secure, denial", 3600, "example."},
		{"X-14 V-50i without SOA", mx, nodata, "Secure, denial", 0, ""},
		{"V-50i SOA without RRSIG", mx, join(nodata, stripped("example. 3600 SOA")), "Secure, denial", 0, ""},
		{"V-50i SOA with a wrong RRSIG", mx, join(nodata, wrong("example. 3600 SOA")), "Secure, denial", 0, ""},
		{"V-50i SOA of the zone above", mx, join(nodata, soa(w.root, ". 3600 SOA")), "Secure, denial", 0, ""},
		{"V-50i SOA of a zone beside", mx, join(nodata, soa(w.child, "c.example. 3600 SOA")), "Secure, denial", 0, ""},
		{"V-50i that of the zone, of several", mx,
			join(nodata, soa(w.root, ". 5 SOA"), soa(w.example, "example. 60 SOA")),
			"Secure, denial", 60, "example."},
		{"V-51 opt-out", mx, join(optOut, soa(w.example, "example. 60 SOA")), "Insecure, denial", 60, "example."},
		{"V-50i opt-out, SOA with a wrong RRSIG", mx, join(optOut, wrong("example. 60 SOA")),
			"Insecure, denial", 0, ""},
		{"V-50i opt-out, SOA of the unsigned child", "x.a.example. MX", join(optOut, stripped("a.example. 60 SOA")),
			"Insecure, denial", 60, "a.example."},
		{"unsigned", "a.u.example. MX", stripped("u.example. 60 SOA"), "Insecure, denial", 60, "u.example."},
		{"unsigned, the deepest of two", "a.u.example. MX",
			join(stripped("example. 5 SOA"), stripped("u.example. 60 SOA")),
			"Insecure, denial", 60, "u.example."},
		{"unsigned, without SOA", "a.u.example. MX", nil, "Insecure, denial", 0, ""},
		{"V-40 a zone that counts as unsigned", "a.o.example. MX", stripped("o.example. 60 SOA"),
			"Insecure, denial, note 1", 60, "o.example."},
	} {
		for range 2 {
			v := denialCheck().Answer(asked(row.question), replyTo(t, row.question, 0, nil, row.authority), w.zones)
			var owner string
			if i := slices.IndexFunc(v.Authority, func(s *RRset) bool { return s.Type == dns.TypeSOA }); i >= 0 {
				owner = v.Authority[i].Owner
			}
			if got := told(v); got != row.want || v.TTL != row.ttl || owner != row.soa {
				t.Errorf("%s: %s (%v), TTL %d by %q, want %s, %d by %q", row.name, got, v.Cause, v.TTL, owner, row.want,
					row.ttl, row.soa)
			}
			for _, set := range v.Authority {
				if set.TTL > max(row.ttl, 30) && row.ttl != 30 {
					t.Errorf("%s: %s lives %d s", row.name, dns.Type(set.Type), set.TTL)
				}
			}
			slices.Reverse(row.authority)
		}
	}
}

// C-2: a denial expires with the first of its signatures, that of the SOA and its chain included.
func TestNegativeExpiry(t *testing.T) {
	w := newTree(t)
	until := func(d time.Duration) edit { return func(s *dns.RRSIG) { s.Expiration = at(d) } }
	for _, row := range []struct{ nsec, soa, zone, want time.Duration }{
		{time.Hour, 2 * time.Hour, 3 * time.Hour, time.Hour},
		{2 * time.Hour, time.Hour, 3 * time.Hour, time.Hour},
		{2 * time.Hour, 3 * time.Hour, time.Hour, time.Hour},
	} {
		w.example.zone.Expires = denialNow.Add(row.zone)
		nsec, soa := rrs(t, "a.example. NSEC b.example. A"), rrs(t, "example. SOA a. b. 1 2 3 4 5")
		m := replyTo(t, "a.example. MX", 0, nil, append(append(nsec, w.example.rrsig(t, nsec, until(row.nsec))),
			append(soa, w.example.rrsig(t, soa, until(row.soa)))...))
		if v := denialCheck().Answer(asked("a.example. MX"), m, w.zones); v.Expires.Sub(denialNow) != row.want {
			t.Errorf("%+v: %s expires %v", row, told(v), v.Expires.Sub(denialNow))
		}
	}
}

// V-48a, V-50h, D-16: a denial is told with the RCODE that is proven; where nothing needs a proof, with that of the
// reply.
func TestDenialRcodes(t *testing.T) {
	w := newTree(t)
	for _, row := range []struct {
		question string
		rcode    int
		want     string
	}{
		{"a.u.example. MX", dns.RcodeSuccess, "Insecure, denial"},
		{"a.u.example. MX", dns.RcodeNameError, "Insecure, NXDOMAIN, denial"},
		{"a.u.example. MX", dns.RcodeYXDomain, "Insecure, YXDOMAIN, denial"},
		{"a.b.example. MX", dns.RcodeNameError, "Bogus, EDE 9"},
		{"a.i.example. MX", dns.RcodeNameError, "Indeterminate, EDE 22"},
		{"a.example. MX", dns.RcodeSuccess, "Bogus, EDE 12"},
		{"a.example. MX", dns.RcodeNameError, "Bogus, EDE 12"},
		{"u.example. DS", dns.RcodeSuccess, "Bogus, EDE 12"},
		{"x.u.example. DS", dns.RcodeSuccess, "Insecure, denial"},
	} {
		v := denialCheck().Answer(asked(row.question), replyTo(t, row.question, row.rcode, nil, nil), w.zones)
		if got := told(v); got != row.want {
			t.Errorf("%s with %s: %s, want %s", row.question, dns.RcodeToString[row.rcode], got, row.want)
		}
	}
}

// V-8, V-50h: who may deny what. Only zones that name may be in have a say, about DS only those strictly above.
func TestDeniers(t *testing.T) {
	w := newTree(t)
	deny := func(f forger, types string) []dns.RR { return f.set(t, "c.example. 3600 NSEC d.c.example. "+types) }
	both := rrs(t, "a.c.example. NSEC b.c.example. A RRSIG NSEC")
	over := func(zone string, f forger) []dns.RR {
		return f.each(t, nsec3Lines(zone, 51, "-", 0, map[string]string{zone: "NS SOA RRSIG"})...)
	}
	for _, row := range []struct {
		name, question string
		authority      []dns.RR
		want           string
	}{
		{"the child about its apex", "c.example. MX", deny(w.child, "NS SOA RRSIG NSEC"), "Secure, denial"},
		{"V-50a the parent about the child's apex", "c.example. MX", deny(w.example, "NS RRSIG NSEC"), "Bogus, EDE 12"},
		{"V-8 the child about its own DS", "c.example. DS", deny(w.child, "NS SOA RRSIG NSEC"), "Bogus, EDE 12"},
		{"V-8 the child about its own DS, hiding its SOA", "c.example. DS", deny(w.child, "NS RRSIG NSEC"),
			"Bogus, EDE 12"},
		{"V-8 the parent about DS", "c.example. DS", deny(w.example, "NS RRSIG NSEC"), "Secure, denial"},
		{"a zone beside", "a.example. MX",
			newForger(t, "d.example.").set(t, "d.example. NSEC e.d.example. A RRSIG NSEC"), "Bogus, EDE 12"},
		{"stripped of its RRSIG", "a.example. MX", rrs(t, "a.example. NSEC b.example. A RRSIG NSEC"), "Bogus, EDE 10"},
		{"V-7 by two zones, one of which is no zone that the walk found", "a.c.example. MX", join(both, []dns.RR{
			w.child.rrsig(t, both), newForger(t, "a.c.example.").rrsig(t, both)}), "Secure, denial"},
		{"the deepest complaint is told", "a.c.example. MX", join(both, []dns.RR{spoil(w.child.rrsig(t, both)),
			w.example.rrsig(t, both, func(s *dns.RRSIG) { s.Expiration = at(-time.Hour) })}), "Bogus, EDE 6"},
		{"V-61 over the limit in both", "a.c.example. MX",
			join(over("c.example.", w.child), over("example.", w.example)),
			"Insecure, denial, note 27"},
		{"V-60 over the limit above, beside a proof of the child", "c.example. MX",
			join(over("example.", w.example), deny(w.child, "NS SOA RRSIG NSEC")), "Secure, denial"},
		{"V-62 over the limit above a signed child", "a.c.example. MX", over("example.", w.example),
			"Insecure, denial, note 27"},
		{"V-62 over the limit above the apex of a signed child", "c.example. MX", over("example.", w.example),
			"Insecure, denial, note 27"},
		{"V-61 over the limit above, about DS", "c.example. DS", over("example.", w.example),
			"Insecure, denial, note 27"},
		{"V-61 over the limit above an unsigned child", "a.u.example. MX", over("example.", w.example),
			"Insecure, denial, note 27"},
		{"V-62 over the limit above a child that could not be had", "a.i.example. MX", over("example.", w.example),
			"Insecure, denial, note 27"},
	} {
		v := denialCheck().Answer(asked(row.question), replyTo(t, row.question, 0, nil, row.authority), w.zones)
		if got := told(v); got != row.want {
			t.Errorf("%s: %s (%v), want %s", row.name, got, v.Cause, row.want)
		}
	}
}

// L-12: a budget that ends within a denial makes it a limit, and one zone's limit comes before another's fault.
func TestDenialLimit(t *testing.T) {
	w := newTree(t)
	authority := join(w.example.set(t, "a.example. NSEC b.example. A RRSIG NSEC"),
		w.root.set(t, "aaa. NSEC zzz. NS RRSIG NSEC"))
	c := denialCheck()
	c.SignatureChecks = 0
	v := c.Answer(asked("a.example. MX"), replyTo(t, "a.example. MX", 0, nil, authority), w.zones)
	if told(v) != "Indeterminate, EDE 0" || !v.Cause.Limit() || !strings.Contains(v.Cause.Text, "signature_checks") {
		t.Errorf("%s (%v)", told(v), v.Cause)
	}
	c = denialCheck()
	c.SignatureChecks = 1 // for the root's, which proves nothing here; example.'s gets none
	m := replyTo(t, "a.example. MX", 0, nil, join(w.root.set(t, "aaa. NSEC zzz. NS RRSIG NSEC"),
		w.example.set(t, "a.example. NSEC b.example. A RRSIG NSEC")))
	c.verify(m.Authority[0], w.root.zone)
	if v := c.Answer(asked("a.example. MX"), m, w.zones); !v.Cause.Limit() {
		t.Errorf("%s (%v)", told(v), v.Cause)
	}
}

// V-7, V-15a: a proof that is crowded out by signatures of zones that do not exist is none, and the failure says so.
func TestDenialCrowdedOut(t *testing.T) {
	w := newTree(t)
	name := "a.b.c.d.e.example."
	authority := w.example.set(t, name+" NSEC z.example. A RRSIG NSEC")
	for n := 3; n <= 6; n++ {
		signer := Ancestor(name, n)
		authority = append(authority, newForger(t, signer).set(t,
			fmt.Sprintf("0.%s NSEC z.%s A RRSIG NSEC", signer, signer))...)
	}
	v := denialCheck().Answer(asked(name+" MX"), replyTo(t, name+" MX", 0, nil, authority), w.zones)
	if told(v) != "Bogus, EDE 6" || !strings.Contains(v.Cause.Text, "more than 3 zones below example.") {
		t.Errorf("%s (%v)", told(v), v.Cause)
	}
}

// At a zone cut stand two NSEC, that of the parent and that of the child's apex. A reply may need both: a wildcard
// alias of the parent, whose proof is the NSEC at the cut, to the apex of the child, which has no such data. They are
// two sets, each with its signer (V-7, V-64), in any order.
func TestBothNSECAtACut(t *testing.T) {
	w := newTree(t)
	alias := renamed("x.example.", w.example.set(t, "*.example. 60 CNAME c.example."))
	parent := w.example.set(t, "c.example. 60 NSEC example. NS DS RRSIG NSEC")
	child := w.child.set(t, "c.example. 60 NSEC a.c.example. NS SOA RRSIG NSEC")
	for _, row := range []struct {
		name      string
		authority []dns.RR
		want      string
	}{
		{"both", join(parent, child), "Secure, denial"},
		{"both, the other way round", join(child, parent), "Secure, denial"},
		{"signatures first", []dns.RR{child[1], parent[1], parent[0], child[0]}, "Secure, denial"},
		{"the parent's only", parent, "Secure, next c.example."},
		{"the child's only", child, "Bogus, EDE 12"},
		{"signatures exchanged", []dns.RR{parent[0], w.child.rrsig(t, parent[:1]), child[0],
			w.example.rrsig(t, child[:1])},
			"Bogus, EDE 6"},
	} {
		m := replyTo(t, "x.example. AAAA", 0, alias, row.authority)
		v := denialCheck().Answer(asked("x.example. AAAA"), m, w.zones)
		if got := told(v); got != row.want {
			t.Errorf("%s: %s (%v), want %s", row.name, got, v.Cause, row.want)
		}
	}
	d := denialCheck().Delegation(w.example.zone, "c.example.", replyTo(t, "c.example. DS", 0, nil,
		join(child, w.example.set(t, "c.example. 60 NSEC example. NS RRSIG NSEC"))))
	if got := toldCut(d); got != "insecure cut" {
		t.Errorf("DS denied beside the child's NSEC: %s (%v)", got, d.Cause)
	}
}

// V-14: where the zone of the name does not validate, that is what is told, unless a Secure signer has signed the
// denial wrongly: a proof that it lacks is no fault of its own.
func TestToldOfABrokenZone(t *testing.T) {
	root, above := newForger(t, "."), newForger(t, "b.")
	broken := BogusZone("c.b.", &Failure{Code: dns.ExtendedErrorCodeSignatureExpired, Zone: "c.b.",
		Text: "c.b.: expired"})
	walked := zoneMap{".": root.zone, "b.": above.zone, "c.b.": broken}
	beside := above.set(t, "z.b. 3600 NSEC b. A")
	soa := rrs(t, "c.b. 3600 SOA a. b. 1 2 3 4 5")
	for _, row := range []struct {
		name      string
		authority []dns.RR
		want      string
	}{
		{"no proof", soa, "Bogus, EDE 7"},
		{"a proof by the zone above that is none", append(slices.Clone(soa), beside...), "Bogus, EDE 7"},
		{"a wrong signature by the zone above", append(slices.Clone(soa), spoiled(beside)...), "Bogus, EDE 6"},
	} {
		v := denialCheck().Answer(asked("www.c.b. A"), replyTo(t, "www.c.b. A", 0, nil, row.authority), walked)
		if got := told(v); got != row.want {
			t.Errorf("%s: %s (%v), want %s", row.name, got, v.Cause, row.want)
		}
	}
}
