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

// C-4: what is cached for a question of type 0 answers no other question: 0 is the type under which name errors are
// kept.
func TestTypeZero(t *testing.T) {
	r, _, _ := setup(t, nil)
	expect(t, ask(r, "mx.example.com.", 0), dnssec.Secure, dns.RcodeSuccess)
	a := ask(r, "mx.example.com.", dns.TypeA)
	expect(t, a, dnssec.Secure, dns.RcodeSuccess)
	if len(a.Answer) == 0 {
		t.Errorf("a denial of type 0 denied the address: %v", a.Ns)
	}
}

// C-2: that a name is no zone cut is not believed past the end of the signature that proved it.
func TestNoCutExpires(t *testing.T) {
	r, u, now := setup(t, nil)
	ends := u.Tree.Plan(".").Config.Expiration
	now.Set(ends.Add(-50 * time.Second))
	for _, asked := range []bool{true, false, true} {
		if z := zoneOf(r, "mx.example.com."); z.Status != dnssec.Secure || z.Name != "example.com." {
			t.Fatalf("zone %+v", z)
		}
		quiet(t, r)
		if n := u.Count("mx.example.com. DS"); (n > 0) != asked {
			t.Errorf("at %v: asked %v", now.Now(), u.Asked())
		}
		if u.Forget(); !asked {
			u.Tree.Each(func(p *zones.Plan) { p.Config.Expiration = ends.Add(time.Hour) })
			u.Tree.Publish()
			now.Set(ends.Add(time.Second))
		}
	}
}

// C-2: no verdict outlives a signature of the chain, whichever zone of it made that: the root, the parent, the zone
// itself or that of an alias's target, and for Insecure answers the one that proved the insecure delegation. It makes
// no difference whether the chain was cached before.
func TestLifeOfTheWholeChain(t *testing.T) {
	const rest = 100 * time.Second
	for _, test := range []struct {
		name  string
		qtype uint16
		zones string // that the answer rests on
	}{
		{"example.com.", dns.TypeMX, ". com. example.com."},
		{"mx.example.com.", dns.TypeAAAA, ". com. example.com."},
		{"nothing.example.com.", dns.TypeA, ". com. example.com."},
		{"far.example.com.", dns.TypeA, ". com. example.com. uk. deep.co.uk."},
		{"apart.example.com.", dns.TypeA, ". com. example.com. uk. deep.co.uk."},
		{"star.wild.example.com.", dns.TypeTXT, ". com. example.com."},
		{"insecure.com.", dns.TypeMX, ". com."},
		{"nothing.insecure.com.", dns.TypeA, ". com."},
		{"outward.example.com.", dns.TypeA, ". com. example.com."},
	} {
		for _, short := range strings.Fields(test.zones) {
			for _, warmed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s %s %v", test.name, typeName(test.qtype), short, warmed), func(t *testing.T) {
					r, u, now := setup(t, nil)
					u.Tree.Plan("example.com.").Text += "\nfar CNAME mx.deep.co.uk.\napart CNAME " +
						"mx.deep.co.uk.\n*.wild TXT wild"
					u.Tree.Plan(short).Config.Expiration = now.Now().Add(rest)
					u.Tree.Publish()
					u.Follow(func(ctx context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
						if q.Name != "apart.example.com." { // of which upstream leaves the target to us
							return fetch.Reply{}, nil, false
						}
						return u.FirstLinkOnly(ctx, q, try)
					})
					if warmed {
						for _, name := range []string{"example.com.", "insecure.com.", "deep.co.uk."} {
							ask(r, name, dns.TypeSOA)
						}
					}
					q := question(test.name, test.qtype)
					a := r.Resolve(context.Background(), q)
					if a.Status < dnssec.Insecure {
						t.Fatalf("%v %s", a.Status, notes(a))
					}
					for _, rr := range slices.Concat(a.Answer, a.Ns) {
						if ttl := rr.Header().Ttl; ttl > uint32(rest/time.Second) {
							t.Errorf("TTL %d of %s, %v before a signature ends", ttl, rr.Header().Name, rest)
						}
					}
					now.Advance(rest - time.Second)
					if r.Cached(q) == nil {
						t.Error("not cached to its end")
					}
					now.Advance(2 * time.Second)
					if r.Cached(q) != nil {
						t.Error("cached past the end of a signature")
					}
					if a := r.Resolve(context.Background(), q); a.Status > dnssec.Bogus {
						t.Errorf("%v with a signature of the chain expired", a.Status)
					}
				})
			}
		}
	}
}

// withTTLs sets every TTL of the answer.
func withTTLs(r fetch.Reply, ttl uint32) fetch.Reply {
	for _, rr := range r.Msg.Answer {
		rr.Header().Ttl = ttl
	}
	return r
}

// C-1, C-5, C-6, C-7: how long a positive answer lives, and what TTL is told at first.
func TestPositiveLife(t *testing.T) {
	for _, test := range []struct {
		name     string
		ttl      uint32 // in the zone and as received
		received uint32
		least    time.Duration
		told     uint32
		lives    time.Duration
	}{
		{"as signed", 3600, 3600, 0, 3600, time.Hour},
		{"counted down by upstream", 3600, 100, 0, 100, 100 * time.Second},
		{"above the signed one", 3600, 80000, 0, 3600, time.Hour},
		{"with the top bit", 3600, 1<<31 + 5, 0, 3600, time.Hour},
		{"more than a day", 604800, 604800, 0, 86400, 24 * time.Hour},
		{"zero", 3600, 0, 0, 0, 0},
		{"below the floor", 3600, 5, time.Minute, 5, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, u, now := setup(t, func(c *Config) { c.MinTTL = test.least })
			u.Tree.Plan("example.com.").Text += fmt.Sprintf("\nlong %d A 192.0.2.1", test.ttl)
			u.Tree.Publish()
			u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
				if q.Name != "long.example.com." || q.Qtype != dns.TypeA {
					return fetch.Reply{}, nil, false
				}
				return withTTLs(u.Reply(q), test.received), nil, true
			})
			q := question("long.example.com.", dns.TypeA)
			a := r.Resolve(context.Background(), q)
			expect(t, a, dnssec.Secure, dns.RcodeSuccess)
			if ttl := a.Answer[0].Header().Ttl; ttl != test.told {
				t.Errorf("TTL %d, want %d", ttl, test.told)
			}
			livesFor(t, r, now, q, test.lives)
		})
	}
}

// livesFor checks that a question is answered from the cache for so long, and not longer.
func livesFor(t *testing.T, r *Resolver, now *world.Clock, q dns.Question, lives time.Duration) {
	t.Helper()
	if lives > 0 {
		now.Advance(lives - time.Second)
		if r.Cached(q) == nil {
			t.Errorf("not cached until %v", lives)
		}
		now.Advance(time.Second)
	}
	if r.Cached(q) != nil {
		t.Errorf("still cached at %v", lives)
	}
}

// C-7: TTLs count from when a reply came, not from when the last link of the chain did, which may be seconds later.
func TestTTLsCountFromTheReply(t *testing.T) {
	r, u, now := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		if fetch.Describe(q) == "example.com. DNSKEY" {
			eventually(t, "all else is there", func() bool { return u.Count("*") == 6 })
			now.Advance(3 * time.Second)
		}
		return fetch.Reply{}, nil, false
	})
	for _, cached := range []bool{false, true} {
		a := ask(r, "example.com.", dns.TypeMX)
		expect(t, a, dnssec.Secure, dns.RcodeSuccess)
		if ttl := a.Answer[0].Header().Ttl; ttl > 3597 || a.Cached != cached {
			t.Errorf("TTL %d after 3 s, cached %v", ttl, a.Cached)
		}
	}
	now.Advance(3597 * time.Second)
	if r.Cached(question("example.com.", dns.TypeMX)) != nil {
		t.Error("cached for more than an hour")
	}
}

// C-6: the floor never outlives a signature.
func TestFloorAndExpiration(t *testing.T) {
	r, u, now := setup(t, func(c *Config) { c.MinTTL = time.Minute })
	u.Tree.Plan("example.com.").Config.Expiration = now.Now().Add(30 * time.Second)
	u.Tree.Publish()
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		return withTTLs(u.Reply(q), 5), nil, true
	})
	q := question("example.com.", dns.TypeMX)
	expect(t, r.Resolve(context.Background(), q), dnssec.Secure, dns.RcodeSuccess)
	now.Advance(29 * time.Second)
	if r.Cached(q) == nil {
		t.Error("the floor does not hold")
	}
	now.Advance(2 * time.Second)
	if r.Cached(q) != nil {
		t.Error("the floor outlives the signature")
	}
}

// C-3, C-4: how long a denial lives: min(SOA TTL, SOA MINIMUM), an hour at most, and not at all without a SOA.
func TestNegativeLife(t *testing.T) {
	for _, test := range []struct {
		name  string
		soa   string
		strip bool
		lives time.Duration
	}{
		{"minimum", "@ 3600 SOA ns. h. 1 7200 3600 86400 300", false, 300 * time.Second},
		{"TTL", "@ 200 SOA ns. h. 1 7200 3600 86400 300", false, 200 * time.Second},
		{"a day", "@ 86400 SOA ns. h. 1 7200 3600 86400 86400", false, time.Hour},
		{"no SOA", "@ 3600 SOA ns. h. 1 7200 3600 86400 300", true, 0},
	} {
		for _, zone := range []string{"example.com.", "insecure.com."} {
			for _, prefix := range []string{"mx.", "nothing."} {
				t.Run(test.name+" "+prefix+zone, func(t *testing.T) {
					r, u, now := setup(t, func(c *Config) { c.MinTTL = 30 * time.Second })
					_, rest, _ := strings.Cut(u.Tree.Plan(zone).Text, "\n")
					u.Tree.Plan(zone).Text = test.soa + "\n" + rest
					u.Tree.Publish()
					q := question(prefix+zone, dns.TypeAAAA)
					u.Follow(func(_ context.Context, asked dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
						reply := u.Reply(asked)
						if test.strip && asked == q {
							reply.Msg.Ns = slices.DeleteFunc(reply.Msg.Ns, func(rr dns.RR) bool {
								sig, ok := rr.(*dns.RRSIG)
								return rr.Header().Rrtype == dns.TypeSOA || ok && sig.TypeCovered == dns.TypeSOA
							})
						}
						return reply, nil, true
					})
					a := r.Resolve(context.Background(), q)
					if a.Status < dnssec.Insecure || len(a.Answer) > 0 {
						t.Fatalf("%v %s", a.Status, notes(a))
					}
					livesFor(t, r, now, q, test.lives)
				})
			}
		}
	}
}

// C-8: what is Secure is not replaced by an Insecure answer while it lives, unless the insecure delegation was proven
// now; Insecure is replaced by Secure.
func TestSecureStays(t *testing.T) {
	q := question("example.com.", dns.TypeMX)
	set := func(status dnssec.Status, host string) *outcome {
		rr, _ := dns.NewRR("example.com. 300 IN MX 10 " + host)
		v := dnssec.Verdict{Status: status, TTL: 300, Last: q.Name, Answer: []*dnssec.RRset{
			{Owner: q.Name, Type: dns.TypeMX, TTL: 300, RRs: []dns.RR{rr}},
		}}
		return &outcome{parts: []part{{Verdict: v}}}
	}
	secure, insecure, proven := set(dnssec.Secure, "s."), set(dnssec.Insecure, "i."), set(dnssec.Insecure, "p.")
	proven.proven = true
	for _, test := range []struct {
		name         string
		before, then *outcome
		replaced     bool
	}{
		{"Insecure after Secure", secure, insecure, false},
		{"proven Insecure after Secure", secure, proven, true},
		{"Secure after Insecure", insecure, secure, true},
		{"Insecure after Insecure", insecure, proven, true},
		{"Secure after Secure", secure, set(dnssec.Secure, "t."), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, _, now := setup(t, nil)
			for _, o := range []*outcome{test.before, test.then} {
				r.Store.remember(q, o, o.answer(now.Now(), r.MaxTTL), now.Now(), 0, r.MaxTTL)
			}
			want := test.before
			if test.replaced {
				want = test.then
			}
			if a := r.Cached(q); a.Answer[0].String() != want.parts[0].Answer[0].RRs[0].String() ||
				a.Status != want.status() {
				t.Errorf("%v %v", a.Status, a.Answer)
			}
		})
	}
}

// C-8: whatever else a reply carries, nothing of it answers a question.
func TestOnlyTheAnswerIsKept(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		if q.Qtype == dns.TypeMX {
			other := u.Reply(question("mx.example.com.", dns.TypeA)).Msg.Answer
			forged, _ := dns.NewRR("mx.insecure.com. 3600 IN A 203.0.113.1")
			reply.Msg.Extra = append(reply.Msg.Extra, append(other, forged)...)
			reply.Msg.Ns = append(reply.Msg.Ns, other...)
			reply.Msg.Answer = append(reply.Msg.Answer, forged)
		}
		return reply, nil, true
	})
	a := ask(r, "example.com.", dns.TypeMX)
	expect(t, a, dnssec.Secure, dns.RcodeSuccess)
	if len(a.Answer) != 2 || len(a.Ns) != 0 {
		t.Errorf("answer %v, authority %v", a.Answer, a.Ns)
	}
	for _, name := range []string{"mx.example.com.", "mx.insecure.com."} {
		if a := r.Cached(question(name, dns.TypeA)); a != nil {
			t.Errorf("%s is cached: %v", name, a.Answer)
		}
	}
}

// V-48a, C-4, X-14: NXDOMAIN over an empty non-terminal is a NODATA, which is kept for its type and denies nothing
// below.
func TestNameErrorOverEmptyName(t *testing.T) {
	for _, denial := range []*zones.NSEC3{nil, {}} {
		r, u, _ := setup(t, nil)
		u.Tree.Each(func(p *zones.Plan) { p.Config.NSEC3 = denial })
		u.Tree.Plan("example.com.").Text += "\nx.ent TXT x"
		u.Tree.Publish()
		u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			reply := u.Reply(q)
			if q.Name == "ent.example.com." {
				reply.Msg.Rcode = dns.RcodeNameError
			}
			return reply, nil, true
		})
		expect(t, ask(r, "ent.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
		if r.Cached(question("ent.example.com.", dns.TypeTLSA)) != nil {
			t.Error("denied for another type")
		}
		expect(t, ask(r, "x.ent.example.com.", dns.TypeTXT), dnssec.Secure, dns.RcodeSuccess)
	}
}

// C-15: what was made from a wildcard answers for its own name only, and carries the proof for that.
func TestWildcard(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Tree.Plan("example.com.").Text += "\n*.wild TXT wild\nreal.wild A 192.0.2.7"
	u.Tree.Publish()
	for _, name := range []string{"a.wild.example.com.", "b.wild.example.com."} {
		quiet(t, r)
		u.Forget()
		for range 2 {
			a := ask(r, name, dns.TypeTXT)
			expect(t, a, dnssec.Secure, dns.RcodeSuccess)
			if a.Answer[0].Header().Name != name || len(a.Ns) == 0 {
				t.Errorf("%s: answer %v, authority %v", name, a.Answer, a.Ns)
			}
		}
		if n := u.Count(name + " TXT"); n != 1 {
			t.Errorf("%s asked %d times", name, n)
		}
	}
	t.Run("replayed under another name", func(t *testing.T) {
		expanded := u.Reply(question("a.wild.example.com.", dns.TypeTXT)).Msg
		u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			if q.Qtype != dns.TypeTXT {
				return fetch.Reply{}, nil, false
			}
			m := expanded.Copy()
			for _, rr := range m.Answer {
				rr.Header().Name = q.Name
			}
			return fetch.Reply{Msg: m, Upstream: "bad"}, nil, true
		})
		expect(t, ask(r, "real.wild.example.com.", dns.TypeTXT), dnssec.Bogus, dns.RcodeServerFailure)
	})
}

// C-16: DS and DNSKEY are fetched anew when their TTL is over, however often they are used meanwhile; so a delegation
// that was taken away ends with it.
func TestChainIsRenewedInTime(t *testing.T) {
	r, u, now := setup(t, nil)
	for minute := 0; minute < 60; minute += 5 {
		expect(t, ask(r, fmt.Sprintf("n%d.example.com.", minute), dns.TypeA), dnssec.Secure, dns.RcodeNameError)
		if asked := u.Asked(); slices.Contains(asked, "example.com. DS") != (minute == 0) {
			t.Errorf("after %d minutes: asked %v", minute, asked)
		}
		quiet(t, r)
		u.Forget()
		now.Advance(5 * time.Minute)
	}
	u.Tree.Plan("example.com.").Config.Unsigned = true
	u.Tree.Publish()
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Insecure, dns.RcodeSuccess)
	if !slices.Contains(u.Asked(), "example.com. DS") {
		t.Errorf("not fetched anew: %v", u.Asked())
	}
}

// C-2, V-19: what ends while its question is still worked on is not told as Secure: a signature of the answer, or of a
// zone above.
func TestEndsMeanwhile(t *testing.T) {
	for _, zone := range []string{"example.com.", "com.", "."} {
		t.Run(zone, func(t *testing.T) {
			r, u, now := setup(t, nil)
			u.Tree.Plan(zone).Config.Expiration = now.Now().Add(time.Minute)
			u.Tree.Publish()
			u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
				reply := u.Reply(q)
				if q.Qtype == dns.TypeMX {
					eventually(t, "the links are there", func() bool { return u.Count("* DNSKEY") >= 3 })
					now.Set(scripted.Noon.Add(time.Minute + time.Second))
				}
				return reply, nil, true
			})
			for range 2 {
				a := ask(r, "example.com.", dns.TypeMX)
				expect(t, a, dnssec.Bogus, dns.RcodeServerFailure)
				if a.Notes[0].Code != dns.ExtendedErrorCodeSignatureExpired {
					t.Errorf("notes %s", notes(a))
				}
			}
		})
	}
}

// C-11: a Bogus answer is remembered for 5 s, then for twice as long; clients that are answered from memory do not
// count. A success ends it.
func TestBogusIsRemembered(t *testing.T) {
	r, u, now := setup(t, nil)
	for _, life := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
		quiet(t, r)
		u.Forget()
		for range 10 {
			expect(t, ask(r, "stripped.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
		}
		if n := u.Count("stripped.com. MX"); n != 3 {
			t.Errorf("asked %d times, want 3 tries", n)
		}
		now.Advance(life - time.Second)
		quiet(t, r)
		u.Forget()
		a := ask(r, "stripped.com.", dns.TypeMX)
		if !a.Cached || a.Notes[0].Code != dns.ExtendedErrorCodeRRSIGsMissing || len(u.Asked()) > 0 {
			t.Errorf("%v before its end: cached %v, %s, asked %v", life, a.Cached, notes(a), u.Asked())
		}
		now.Advance(time.Second)
	}
	u.Tree.Plan("stripped.com.").Fault = zones.Fault{}
	u.Tree.Publish()
	expect(t, ask(r, "stripped.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	if _, ok := r.Store.failures.alive(question("stripped.com.", dns.TypeMX), now.Now()); ok {
		t.Error("the failure outlives a success")
	}
}

// Answers are the client's own: changing one changes neither another client's nor the cache's.
func TestAnswersAreNotShared(t *testing.T) {
	r, u, _ := setup(t, nil)
	_, release := hold(u)
	answers := make(chan *Answer)
	for range 2 {
		go func() { answers <- ask(r, "example.com.", dns.TypeMX) }()
	}
	eventually(t, "both wait", func() bool {
		return r.flights.waitingFor(keyOf(question("example.com.", dns.TypeMX))) == 2
	})
	release()
	a, b := <-answers, <-answers
	for _, rr := range a.Answer {
		rr.Header().Ttl, rr.Header().Name = 1, "changed."
	}
	a.Answer[0].(*dns.MX).Mx = "changed."
	for _, other := range []*Answer{b, ask(r, "example.com.", dns.TypeMX)} {
		if mx := other.Answer[0].(*dns.MX); mx.Mx != "mx.example.com." || mx.Hdr.Ttl < 1000 ||
			mx.Hdr.Name != "example.com." {
			t.Errorf("changed: %v", mx)
		}
	}
}
