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

// refusedByAll is what comes of a question that no upstream answers.
var refusedByAll = &dnssec.Failure{Code: dns.ExtendedErrorCodeNoReachableAuthority, Text: "SERVFAIL from all"}

// V-6a: a hostile hint only costs questions: a DS reply that carries a signature of a name between, whose own links
// cannot be had, is judged by the zone that did sign it.
func TestFalseHint(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		switch fetch.Describe(q) {
		case "co.uk. DS", "co.uk. DNSKEY":
			return fetch.Reply{}, refusedByAll, true
		case "deep.co.uk. DS":
			reply := u.Reply(q)
			sig := reply.Msg.Answer[len(reply.Msg.Answer)-1].(*dns.RRSIG)
			forged := dns.Copy(sig).(*dns.RRSIG)
			forged.SignerName = "co.uk."
			reply.Msg.Answer = append(reply.Msg.Answer, forged)
			return reply, nil, true
		}
		return fetch.Reply{}, nil, false
	})
	expect(t, ask(r, "deep.co.uk.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
}

// V-6, V-8: an intermediate label whose DS nobody answers is no obstacle for an insecure delegation below it that the
// zone above has signed, even if the reply gives no hint.
func TestIntermediateLabelFails(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Plan("deep.co.uk.").Config.Unsigned = true
	u.Tree.Publish()
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		return fetch.Reply{}, refusedByAll, q.Name == "co.uk."
	})
	expect(t, ask(r, "mx.deep.co.uk.", dns.TypeA), dnssec.Insecure, dns.RcodeSuccess)
}

// V-62, RFC 9276 section 3.2: where uk. denies with too many iterations, a zone of which it has signed the DS is
// Secure, as that needs no denial. The denial of DS at co.uk. makes all other names below Insecure at once.
func TestIterationsAboveSignedZone(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Each(func(p *zones.Plan) { p.Config.NSEC3 = &zones.NSEC3{Iterations: 51} })
	u.Tree.Add(zones.Plan{Name: "plain.co.uk.", Text: world.Mail, Config: zones.Config{Unsigned: true}})
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Name == "mx.plain.co.uk." {
			reply.Msg.Ns = nil // no hint: the walk goes by way of co.uk.
		}
		return reply, nil, true
	})
	expect(t, ask(r, "mx.deep.co.uk.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	a := ask(r, "mx.plain.co.uk.", dns.TypeA)
	expect(t, a, dnssec.Insecure, dns.RcodeSuccess)
	if len(a.Notes) != 1 || a.Notes[0].Code != dns.ExtendedErrorCodeUnsupportedNSEC3IterValue {
		t.Errorf("notes %s", notes(a))
	}
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "plain.co.uk.", dns.TypeMX), dnssec.Insecure, dns.RcodeSuccess)
	if asked := u.Asked(); !slices.Equal(asked, []string{"plain.co.uk. MX"}) {
		t.Errorf("asked %v", asked)
	}
	var chain []string
	for _, z := range r.Explain(context.Background(), question("mx.deep.co.uk.", dns.TypeA)).Zones {
		chain = append(chain, z.Name)
	}
	if want := []string{".", "uk.", "deep.co.uk."}; !slices.Equal(chain, want) {
		t.Errorf("the chain is %v, want %v", chain, want)
	}
}

// V-65, V-68: DS asked at an alias of a zone's top, of which an upstream tells what the zone itself says: that zone has
// no say, so the one above is asked, though a denial of too many iterations between them is known.
func TestAliasToTop(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Each(func(p *zones.Plan) { p.Config.NSEC3 = &zones.NSEC3{Iterations: 51} })
	u.Tree.Plan("deep.co.uk.").Text += "\nalias CNAME deep.co.uk."
	u.Tree.Publish()
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Qtype == dns.TypeDS && q.Name == "alias.deep.co.uk." {
			reply.Msg.Answer = slices.DeleteFunc(reply.Msg.Answer,
				func(rr dns.RR) bool { return rr.Header().Name != q.Name })
			reply.Msg.Ns = u.Reply(question("deep.co.uk.", dns.TypeTLSA)).Msg.Ns
		}
		return reply, nil, true
	})
	a := ask(r, "alias.deep.co.uk.", dns.TypeDS)
	expect(t, a, dnssec.Secure, dns.RcodeSuccess)
	if !slices.ContainsFunc(a.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeDS }) {
		t.Errorf("no DS in %v", a.Answer)
	}
}

// V-6a: without any hint the walk goes down label by label, and stops at the insecure cut: PTR of 34 labels, and a
// reply as recursors give it that leave out the authority section.
func TestLongReverseNameWithoutHints(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Qtype == dns.TypePTR {
			reply.Msg.Ns = nil
		}
		return reply, nil, true
	})
	name, _ := dns.ReverseAddr("2001:db8::1")
	expect(t, ask(r, name, dns.TypePTR), dnssec.Insecure, dns.RcodeSuccess)
	for _, q := range u.Asked() {
		if strings.HasSuffix(q, " DS") && len(q) > len("8.b.d.0.1.0.0.2.ip6.arpa. DS") {
			t.Errorf("asked %s, below the insecure cut", q)
		}
	}
}

// V-6a, L-9: a signed PTR of 34 labels, cold, costs the links of the zones above it only.
func TestLongSignedReverseName(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Each(func(p *zones.Plan) { p.Config.Unsigned = false })
	u.Tree.Publish()
	name, _ := dns.ReverseAddr("2001:db8::1")
	expect(t, ask(r, name, dns.TypePTR), dnssec.Secure, dns.RcodeSuccess)
	if n := len(u.Asked()); n > 8 {
		t.Errorf("%d questions: %v", n, u.Asked())
	}
}

// V-11: below an insecure delegation no question of the chain is needed, cold, without hints and with servers that
// answer none below the cut.
func TestColdBelowInsecure(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		if strings.HasSuffix(q.Name, ".insecure.com.") && q.Qtype != dns.TypeTLSA {
			return fetch.Reply{}, refusedByAll, true
		}
		reply := u.Reply(q)
		if q.Qtype == dns.TypeTLSA {
			reply.Msg.Ns = nil
		}
		return reply, nil, true
	})
	expect(t, ask(r, "_25._tcp.mx.insecure.com.", dns.TypeTLSA), dnssec.Insecure, dns.RcodeSuccess)
}

// V-11, V-12: signatures below an insecure delegation are worth nothing, unless an anchor is configured there.
func TestIsland(t *testing.T) {
	for _, anchored := range []bool{false, true} {
		t.Run(fmt.Sprint("anchored ", anchored), func(t *testing.T) {
			r, u, _ := setup(t, nil)
			u.Tree.Add(world.Domain("island.insecure.com."))
			want := dnssec.Insecure
			if anchored {
				r.Anchors["island.insecure.com."] = u.Tree.DS("island.insecure.com.")
				want = dnssec.Secure
			}
			expect(t, ask(r, "island.insecure.com.", dns.TypeMX), want, dns.RcodeSuccess)
			expect(t, ask(r, "insecure.com.", dns.TypeMX), dnssec.Insecure, dns.RcodeSuccess)
			expect(t, ask(r, "mx.island.insecure.com.", dns.TypeAAAA), want, dns.RcodeSuccess)
		})
	}
}

// V-12: at and below an anchor nothing counts that a zone above has signed, be it data, a wildcard's, an alias or a
// denial. The anchors here match no key; the names are example.com.'s, all signed. DS at an anchor belongs to the
// anchor above.
func TestSignedAboveTheAnchor(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Plan("example.com.").Text += `
lower A 192.0.2.2
*.lower TXT text
_25._tcp.lower TLSA 3 1 1 00
alias.lower CNAME mx
tree.lower DNAME mx
over DNAME mx
to CNAME lower`
	u.Tree.Publish()
	for _, zone := range []string{"lower", "lower.over", "gone"} {
		r.Anchors[zone+".example.com."] = r.Anchors["."]
	}
	for _, tt := range []struct {
		name   string
		qtype  uint16
		status dnssec.Status
		rcode  int
	}{
		{"lower", dns.TypeDS, dnssec.Secure, dns.RcodeSuccess},
		{"gone", dns.TypeDS, dnssec.Secure, dns.RcodeNameError},
		{"gone", dns.TypeMX, dnssec.Bogus, dns.RcodeServerFailure},
		{"lower", dns.TypeA, dnssec.Bogus, dns.RcodeServerFailure},
		{"lower", dns.TypeAAAA, dnssec.Bogus, dns.RcodeServerFailure},
		{"lower", dns.TypeANY, dnssec.Bogus, dns.RcodeServerFailure},
		{"_25._tcp.lower", dns.TypeTLSA, dnssec.Bogus, dns.RcodeServerFailure},
		{"_26._tcp.lower", dns.TypeTLSA, dnssec.Bogus, dns.RcodeServerFailure},
		{"_tcp.lower", dns.TypeDS, dnssec.Bogus, dns.RcodeServerFailure},
		{"any.lower", dns.TypeTXT, dnssec.Bogus, dns.RcodeServerFailure},
		{"alias.lower", dns.TypeA, dnssec.Bogus, dns.RcodeServerFailure},
		{"_25._tcp.tree.lower", dns.TypeTLSA, dnssec.Bogus, dns.RcodeServerFailure},
		{"_tcp.lower.over", dns.TypeA, dnssec.Bogus, dns.RcodeServerFailure},
		{"to", dns.TypeA, dnssec.Bogus, dns.RcodeServerFailure},
		{"to", dns.TypeCNAME, dnssec.Secure, dns.RcodeSuccess},
		{"_25._tcp.over", dns.TypeTLSA, dnssec.Secure, dns.RcodeSuccess},
		{"mx", dns.TypeA, dnssec.Secure, dns.RcodeSuccess},
	} {
		a := ask(r, tt.name+".example.com.", tt.qtype)
		if a.Status != tt.status || a.Rcode != tt.rcode {
			t.Errorf("%s %s: %v %s, want %v %s; %s", tt.name, dns.Type(tt.qtype), a.Status, dns.RcodeToString[a.Rcode],
				tt.status,
				dns.RcodeToString[tt.rcode], notes(a))
		}
	}
}

// V-10: an unsigned delegation without the proof that it is one is Bogus, not Insecure, and its answers with it.
func TestUnprovenDelegation(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if fetch.Describe(q) == "insecure.com. DS" {
			reply.Msg.Ns = slices.DeleteFunc(reply.Msg.Ns,
				func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeNSEC })
		}
		return reply, nil, true
	})
	a := ask(r, "insecure.com.", dns.TypeMX)
	expect(t, a, dnssec.Bogus, dns.RcodeServerFailure)
	if a.Notes[0].Code != dns.ExtendedErrorCodeNSECMissing {
		t.Errorf("notes %s", notes(a))
	}
}

// V-8: a DS denial from above a Secure cut proves nothing, whether that is known yet or not: here the root's, of a zone
// below com. One of too many iterations, which is not even read (V-62), proves nothing once the cut is known.
func TestDenialFromAbove(t *testing.T) {
	for _, tt := range []struct {
		hashed *zones.NSEC3
		known  bool
	}{{nil, false}, {nil, true}, {&zones.NSEC3{Iterations: 51}, true}} {
		r, u, _ := setup(t, nil)
		u.Tree.Each(func(p *zones.Plan) { p.Config.NSEC3 = tt.hashed })
		u.Tree.Publish()
		if tt.known {
			expect(t, ask(r, "com.", dns.TypeSOA), dnssec.Secure, dns.RcodeSuccess)
		}
		denial := u.Reply(question("nosuchtld.", dns.TypeDS)).Msg
		denial.Rcode = dns.RcodeSuccess
		deniedFromAbove(u, denial)
		expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
	}
}

// deniedFromAbove has the root deny the DS of example.com., whose data comes unsigned, with a hint that it is a zone.
func deniedFromAbove(u *scripted.Upstream, denial *dns.Msg) {
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		switch {
		case fetch.Describe(q) == "example.com. DS":
			reply.Msg.Answer, reply.Msg.Ns, reply.Msg.Rcode = nil, denial.Copy().Ns, denial.Rcode
		case q.Name == "example.com.":
			reply.Msg.Answer, reply.Msg.Ns = scripted.Unsigned(reply.Msg.Answer), []dns.RR{apexOfExample()}
		}
		return reply, nil, true
	})
}

// apexOfExample is the SOA record of example.com., unsigned.
func apexOfExample() dns.RR {
	soa, _ := dns.NewRR("example.com. 300 IN SOA ns. h. 1 2 3 4 5")
	return soa
}

// V-50h, X-14: the NODATA of an unsigned zone that carries the parent's signed NSEC is Insecure.
func TestParentsDenial(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Qtype == dns.TypeTLSA {
			reply.Msg.Rcode = dns.RcodeSuccess
			reply.Msg.Ns = append(reply.Msg.Ns, u.Reply(question("insecure.com.", dns.TypeDS)).Msg.Ns...)
		}
		return reply, nil, true
	})
	expect(t, ask(r, "_443._tcp.mx.insecure.com.", dns.TypeTLSA), dnssec.Insecure, dns.RcodeSuccess)
}

// V-50h: the parent's signed denial in a reply for an unsigned zone is used before anybody is asked for DS. (On the way
// to reverse names no DS is asked for on speculation.)
func TestDelegationInHand(t *testing.T) {
	const zone = "8.b.d.0.1.0.0.2.ip6.arpa."
	for _, carried := range []bool{true, false} {
		r, u, _ := setup(t, nil)
		u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			reply := u.Reply(q)
			if q.Qtype == dns.TypeTXT && carried {
				reply.Msg.Ns = append(reply.Msg.Ns, u.Reply(question(zone, dns.TypeDS)).Msg.Ns...)
			}
			return reply, nil, true
		})
		expect(t, ask(r, zone, dns.TypeTXT), dnssec.Insecure, dns.RcodeSuccess)
		if asked := u.Count(zone + " DS"); asked > 0 == carried {
			t.Errorf("carried %v: asked %v", carried, u.Asked())
		}
		quiet(t, r)
		u.Forget()
		expect(t, ask(r, zone, dns.TypeA), dnssec.Insecure, dns.RcodeSuccess)
		if asked := u.Asked(); len(asked) != 1 {
			t.Errorf("carried %v: the delegation is not known; asked %v", carried, asked)
		}
	}
}

// V-8, V-50h: the root once signed that example.com. is an unsigned delegation. That is no evidence against com., a
// known Secure cut, though it comes with the reply.
func TestReplayInHand(t *testing.T) {
	r, u, _ := setup(t, nil)
	before := rootOnce(u, "example.com NS ns\n")
	expect(t, ask(r, "com.", dns.TypeSOA), dnssec.Secure, dns.RcodeSuccess)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Qtype == dns.TypeMX {
			denial := before.Answer(question(q.Name, dns.TypeDS), true).Ns
			reply.Msg.Answer, reply.Msg.Ns = nil, append(denial, apexOfExample())
		}
		return reply, nil, true
	})
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
}

// rootOnce is the root as it was once, without the zones below it, and with more lines.
func rootOnce(u *scripted.Upstream, more string) *zones.Zone {
	plan := *u.Tree.Plan(".")
	plan.Text += more
	return world.New(func() time.Time { return scripted.Noon }, plan).Zone(".")
}

// V-49: no links are asked for above the next closer name of data from a wildcard, whose signature holds though its
// proof is missing.
func TestWildcardShowsItsEncloser(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Plan("example.com.").Text += "*.w.x TXT text\n"
	u.Tree.Publish()
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Qtype == dns.TypeTXT {
			reply.Msg.Ns = nil
		}
		return reply, nil, true
	})
	expect(t, ask(r, "a.b.w.x.example.com.", dns.TypeTXT), dnssec.Bogus, dns.RcodeServerFailure)
	if asked := u.Asked(); !slices.Contains(asked, "b.w.x.example.com. DS") ||
		slices.Contains(asked, "x.example.com. DS") ||
		slices.Contains(asked, "w.x.example.com. DS") {
		t.Errorf("asked %v", u.Asked())
	}
}

// V-9: DS of the root is answered from the root's own denial, with one round and no walk above it.
func TestRootDS(t *testing.T) {
	r, u, _ := setup(t, nil)
	expect(t, ask(r, ".", dns.TypeDS), dnssec.Secure, dns.RcodeSuccess)
	if n := len(u.Asked()); n > 2 {
		t.Errorf("asked %v", u.Asked())
	}
}

// V-13: signatures stripped from a DS question's answer are Bogus by the zone above.
func TestStrippedDS(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Qtype == dns.TypeDS && q.Name != "com." {
			reply.Msg.Answer, reply.Msg.Ns = scripted.Unsigned(reply.Msg.Answer), scripted.Unsigned(reply.Msg.Ns)
		}
		return reply, nil, true
	})
	for _, name := range []string{"example.com.", "insecure.com."} {
		expect(t, ask(r, name, dns.TypeDS), dnssec.Bogus, dns.RcodeServerFailure)
	}
}

// V-8: an opt-out denial that the root did sign, before it delegated com., proves nothing below com. once that is known
// for a Secure cut: the zone does not become Insecure.
func TestReplayFromAbove(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Each(func(p *zones.Plan) { p.Config.NSEC3 = &zones.NSEC3{OptOut: true} })
	u.Tree.Publish()
	before := rootOnce(u, "")
	expect(t, ask(r, "com.", dns.TypeSOA), dnssec.Secure, dns.RcodeSuccess)
	deniedFromAbove(u, before.Answer(question("example.com.", dns.TypeDS), true))
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
}

// C-5: what is known of a zone is fetched anew when the longest life that is configured is over.
func TestMostLifeOfLinks(t *testing.T) {
	r, u, now := setup(t, func(c *Config) { c.MaxTTL = time.Minute })
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	quiet(t, r)
	u.Forget()
	now.Advance(time.Minute)
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	if !slices.Contains(u.Asked(), "example.com. DNSKEY") {
		t.Errorf("asked %v", u.Asked())
	}
}
