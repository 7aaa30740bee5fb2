package resolve

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// aliasZones puts n zones into the world, z0.com. and so on; the name `link` of each is an alias of that in the next
// one, and that of the last has an address.
func aliasZones(tree *world.Tree, n int) {
	var added []zones.Plan
	for i := range n {
		zone, record := fmt.Sprintf("z%d.com.", i), "link A 192.0.2.1"
		if i < n-1 {
			record = fmt.Sprintf("link CNAME link.z%d.com.", i+1)
		}
		added = append(added, world.Zone(zone, record))
	}
	tree.Add(added...)
}

// L-8, L-1, L-9: a cold chain of 11 aliases in as many zones fits into all budgets, one of 12 is over the limit;
// whether upstream follows it or leaves all but the first link to us (V-65).
func TestLongestChain(t *testing.T) {
	for _, test := range []struct {
		zones  int
		status dnssec.Status
		rcode  int
	}{{12, dnssec.Secure, dns.RcodeSuccess}, {13, dnssec.Indeterminate, dns.RcodeServerFailure}} {
		for _, followed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d zones, followed %v", test.zones, followed), func(t *testing.T) {
				r, u, _ := setup(t, nil)
				aliasZones(u.Tree, test.zones)
				if !followed {
					u.Follow(u.FirstLinkOnly)
				}
				a := ask(r, "link.z0.com.", dns.TypeA)
				expect(t, a, test.status, test.rcode)
				if test.status != dnssec.Secure && !a.Notes[0].Limit() {
					t.Errorf("notes %s", notes(a))
				}
				if n := len(u.Asked()); n > 60 {
					t.Errorf("%d questions", n)
				}
			})
		}
	}
}

// V-65: where the end of an alias chain does not validate in the reply that has all of it, the target is asked for
// itself; and if that is no better, the sentence is about the target.
func TestEndIsAskedOn(t *testing.T) {
	r, u, _ := setup(t, nil)
	stripped := func(m *dns.Msg) {
		m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool {
			return rr.Header().Rrtype == dns.TypeRRSIG && rr.Header().Name == "mx.example.com."
		})
	}
	always := false
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Name == "alias.example.com." || always {
			stripped(reply.Msg)
		}
		return reply, nil, true
	})
	expect(t, ask(r, "alias.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	always = true
	a := ask(r, "alias.example.com.", dns.TypeMX) // a denial, which is whole
	expect(t, a, dnssec.Secure, dns.RcodeSuccess)
	r.Store = NewStore(4 << 20)
	a = ask(r, "alias.example.com.", dns.TypeA)
	expect(t, a, dnssec.Bogus, dns.RcodeServerFailure)
	if f := a.Notes[0]; f.Owner != "mx.example.com." || f.Code != dns.ExtendedErrorCodeRRSIGsMissing {
		t.Errorf("notes %s", notes(a))
	}
}

// V-67: aliases in a circle are SERVFAIL, within one zone and over two replies.
func TestAliasLoop(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Plan("example.com.").Text += "\na CNAME b\nb CNAME a\nself CNAME self"
	u.Tree.Publish()
	for _, name := range []string{"a.example.com.", "self.example.com."} {
		if a := ask(r, name, dns.TypeA); a.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: %v %s", name, a.Status, notes(a))
		}
	}
	u.Follow(u.FirstLinkOnly)
	if a := ask(r, "b.example.com.", dns.TypeAAAA); a.Rcode != dns.RcodeServerFailure || a.Notes[0].Limit() {
		t.Errorf("over two replies: %v %s", a.Status, notes(a))
	}
	expect(t, ask(r, "a.example.com.", dns.TypeCNAME), dnssec.Secure, dns.RcodeSuccess)
}

// V-64, V-65: the result of a chain is its weakest link, whoever follows it; a direct CNAME question is judged by its
// own link.
func TestWeakestLink(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Plan("example.com.").Text += "\ntobogus CNAME mx.stripped.com.\nback CNAME back.insecure.com."
	u.Tree.Plan("insecure.com.").Text += "\nback CNAME mx.example.com."
	u.Tree.Publish()
	for _, followed := range []bool{true, false} {
		if !followed {
			r.Store = NewStore(1 << 20)
			u.Follow(u.FirstLinkOnly)
		}
		for name, status := range map[string]dnssec.Status{
			"tobogus.example.com.": dnssec.Bogus,
			"back.example.com.":    dnssec.Insecure, // the end is Secure again
		} {
			if a := ask(r, name, dns.TypeA); a.Status != status {
				t.Errorf("%s, followed %v: %v, want %v; %s", name, followed, a.Status, status, notes(a))
			}
			expect(t, ask(r, name, dns.TypeCNAME), dnssec.Secure, dns.RcodeSuccess)
		}
	}
}

// C-1, C-2, C-4: a chain lives as long as its shortest link; the denial of its last name as long as that itself, if it
// came in a reply of its own.
func TestLifeOfChains(t *testing.T) {
	for _, followed := range []bool{true, false} {
		r, u, now := setup(t, nil)
		u.Tree.Plan("example.com.").Text += "\nbrief 10 CNAME gone\nlong 3600 CNAME brief2\nbrief2 20 CNAME mx"
		u.Tree.Publish()
		gone := 10 * time.Second
		if !followed {
			gone = 300 * time.Second
			u.Follow(u.FirstLinkOnly)
		}
		expect(t, ask(r, "brief.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
		expect(t, ask(r, "long.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
		for _, test := range []struct {
			name string
			ends time.Duration
		}{{"brief.example.com.", 10 * time.Second}, {"long.example.com.", 20 * time.Second},
			{"gone.example.com.", gone}} {
			now.Advance(test.ends - time.Second)
			if r.Cached(question(test.name, dns.TypeA)) == nil {
				t.Errorf("%s: not cached a second before its end, followed %v", test.name, followed)
			}
			now.Advance(time.Second)
			if r.Cached(question(test.name, dns.TypeA)) != nil {
				t.Errorf("%s: cached past its end, followed %v", test.name, followed)
			}
			now.Advance(-test.ends)
		}
	}
}

// C-4, RFC 6604: the name error at the end of a chain is kept for the chain's last name, for every type if the whole
// chain is Secure, and for no other name.
func TestNameErrorOfTheLastName(t *testing.T) {
	r, u, _ := setup(t, nil)
	expect(t, ask(r, "dangling.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	quiet(t, r)
	u.Forget()
	a := ask(r, "gone.example.com.", dns.TypeTLSA)
	expect(t, a, dnssec.Secure, dns.RcodeNameError)
	if !a.Cached || len(u.Asked()) != 0 || len(a.Answer) != 0 || len(a.Ns) == 0 {
		t.Errorf("cached %v, asked %v, answer %v, authority %v", a.Cached, u.Asked(), a.Answer, a.Ns)
	}
	if b := r.Cached(question("dangling.example.com.", dns.TypeAAAA)); b != nil {
		t.Errorf("the alias itself is denied: %+v", b)
	}
}

// V-66, C-4, L-8: DNAME: Secure by the DNAME's signature, by its own zone; nothing is asked about cuts below it.
func TestDNAME(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Plan("example.com.").Text += "\nold DNAME deep.co.uk."
	u.Tree.Publish()
	a := ask(r, "mx.old.example.com.", dns.TypeA)
	expect(t, a, dnssec.Secure, dns.RcodeSuccess)
	var types []string
	for _, rr := range a.Answer {
		types = append(types, typeName(rr.Header().Rrtype))
	}
	if got := strings.Join(types, " "); got != "DNAME RRSIG CNAME A RRSIG" {
		t.Errorf("answer %s", got)
	}
	expect(t, ask(r, "nothing.old.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		for _, rr := range reply.Msg.Answer {
			if cname, ok := rr.(*dns.CNAME); ok {
				cname.Target = "mx.insecure.com."
			}
		}
		return reply, nil, true
	})
	expect(t, ask(r, "mx.old.example.com.", dns.TypeAAAA), dnssec.Bogus, dns.RcodeServerFailure)
}

// V-68: the walk takes a Secure CNAME for no cut, and a Secure DNAME above for none at or below; an alias that does not
// validate is not taken for that.
func TestWalkThroughAliases(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Plan("example.com.").Text += "\nold DNAME deep.co.uk."
	u.Tree.Publish()
	walk := func(name string) *dnssec.Zone {
		return zoneOf(r, name)
	}
	for _, name := range []string{"x.alias.example.com.", "a.b.old.example.com."} {
		if z := walk(name); z.Name != "example.com." || z.Status != dnssec.Secure {
			t.Errorf("%s lies in %s %v", name, z.Name, z.Status)
		}
	}
	walk("c.b.old.example.com.") // what is known of b holds below it
	for _, q := range u.Asked() {
		if strings.HasSuffix(q, ".b.old.example.com. DS") {
			t.Errorf("asked %s, below a DNAME", q)
		}
	}
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Qtype == dns.TypeDS && q.Name == "outward.example.com." {
			reply.Msg.Answer = scripted.Unsigned(reply.Msg.Answer)
		}
		return reply, nil, true
	})
	if z := walk("outward.example.com."); z.Status > dnssec.Bogus {
		t.Errorf("an unsigned CNAME was believed: %+v", z)
	}
	expect(t, ask(r, "alias.example.com.", dns.TypeDS), dnssec.Secure, dns.RcodeSuccess)
}

// V-67: an unsigned CNAME at the apex beside SOA, NS and MX is common in unsigned zones, and no failure there.
func TestApexCNAME(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if fetch.Describe(q) == "insecure.com. A" {
			rr, _ := dns.NewRR("insecure.com. 300 IN CNAME mx.insecure.com.")
			reply = u.Reply(question("mx.insecure.com.", dns.TypeA))
			reply.Msg.Question = []dns.Question{q}
			reply.Msg.Answer = append([]dns.RR{rr}, reply.Msg.Answer...)
		}
		return reply, nil, true
	})
	for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeSOA, dns.TypeA} {
		expect(t, ask(r, "insecure.com.", qtype), dnssec.Insecure, dns.RcodeSuccess)
	}
}

// V-65, S-21, RFC 1034 section 5.3.3: where the target of an alias is asked elsewhere, what the public reply says of it
// does not count. A private one is not validated, and nobody is asked about its zone.
func TestAliasAcrossBorder(t *testing.T) {
	for _, tt := range []struct {
		alias, zone string
		private     bool
		status      dnssec.Status
	}{
		{"outward.example.com.", "insecure.com.", false, dnssec.Insecure},
		{"outward.example.com.", "mx.insecure.com.", true, dnssec.Insecure},
		{"dangling.example.com.", "gone.example.com.", true, dnssec.Insecure},
		{"dangling.example.com.", "gone.example.com.", false, dnssec.Bogus}, // its data would have to be signed
	} {
		r, u, _ := setup(t, func(c *Config) {
			if c.Apart = map[string]bool{tt.zone: true}; tt.private {
				c.Private = []string{tt.zone}
			}
		})
		u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			if !dns.IsSubDomain(tt.zone, q.Name) || q.Qtype != dns.TypeA {
				return fetch.Reply{}, nil, false
			}
			m := new(dns.Msg)
			m.Response, m.Question = true, []dns.Question{q}
			rr, _ := dns.NewRR(q.Name + " 300 IN A 10.0.0.1")
			m.Answer = []dns.RR{rr}
			return fetch.Reply{Msg: m, Size: m.Len()}, nil, true
		})
		a := ask(r, tt.alias, dns.TypeA)
		if a.Status != tt.status {
			t.Errorf("%s to %s, private %v: %v, want %v; %s", tt.alias, tt.zone, tt.private, a.Status, tt.status,
				notes(a))
		}
		for _, rr := range a.Answer {
			if got, ok := rr.(*dns.A); ok && got.A.String() != "10.0.0.1" {
				t.Errorf("%s: %v is public", tt.alias, rr)
			}
		}
		if n := len(a.Answer); tt.status == dnssec.Insecure && (n < 2 || a.Rcode != dns.RcodeSuccess) {
			t.Errorf("%s: %d records, RCODE %d", tt.alias, n, a.Rcode)
		}
		if tt.private && u.Count("*"+tt.zone+" DS")+u.Count("*"+tt.zone+" DNSKEY") > 0 {
			t.Errorf("asked %v", u.Asked())
		}
	}
}
