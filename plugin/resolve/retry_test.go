package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// zoneOf walks to a name.
func zoneOf(r *Resolver, name string) *dnssec.Zone {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := r.newWork(question(name, dns.TypeA), forClient)
	defer w.account.Close()
	return w.walk.ZoneOf(ctx, name)
}

// V-14: a zone that is new below a name known for no cut is found when its first answer does not validate.
func TestNewDelegation(t *testing.T) {
	for _, signed := range []bool{true, false} {
		t.Run(fmt.Sprint("signed ", signed), func(t *testing.T) {
			r, u, _ := setup(t, nil)
			if z := zoneOf(r, "mx.mx.example.com."); z.Name != "example.com." {
				t.Fatalf("zone %+v", z)
			}
			u.Tree.Add(world.Zone("example.com."), zones.Plan{Name: "mx.example.com.", Text: world.Mail,
				Config: zones.Config{Unsigned: !signed}})
			want := dnssec.Secure
			if !signed {
				want = dnssec.Insecure
			}
			quiet(t, r)
			u.Forget()
			expect(t, ask(r, "mx.mx.example.com.", dns.TypeA), want, dns.RcodeSuccess)
			if n := u.Count("mx.mx.example.com. A"); n != 1 {
				t.Errorf("the answer was asked for %d times, though it was good", n)
			}
		})
	}
}

// V-14: an upstream that strips signatures leads the walk to a name whose DS nobody answers; another upstream's reply
// needs no such link.
func TestStrippedReplyNeedsLinks(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
		switch fetch.Describe(q) {
		case "mx.example.com. DS", "mx.example.com. DNSKEY":
			return fetch.Reply{}, refusedByAll, true
		case "mx.example.com. A":
			if !slices.Contains(try.Avoid, "bad") {
				reply := u.Reply(q)
				reply.Msg.Answer, reply.Upstream = scripted.Unsigned(reply.Msg.Answer), "bad"
				return reply, nil, true
			}
		}
		return fetch.Reply{}, nil, false
	})
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
}

// V-14: after a roll of a zone the first upstream still holds its old keys, which validate, and gives what was signed
// anew; the links are asked of another, be they cached or fetched a moment ago.
func TestUpstreamHoldsOldKeys(t *testing.T) {
	for _, tt := range []struct{ zone, name string }{
		{"example.com.", "example.com."}, // the answer fails
		{"example.com.", "mx.example.com."},
		{"com.", "example.com."}, // the link below fails
	} {
		for _, warm := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s of %s warm %v", tt.name, tt.zone, warm), func(t *testing.T) {
				r, u, _ := setup(t, nil)
				if warm {
					expect(t, ask(r, "example.com.", dns.TypeTXT), dnssec.Secure, dns.RcodeSuccess)
				}
				old := map[string]fetch.Reply{}
				for _, qtype := range []uint16{dns.TypeDS, dns.TypeDNSKEY} {
					q := question(tt.zone, qtype)
					old[fetch.Describe(q)] = u.Reply(q)
				}
				u.Tree.Roll(tt.zone)
				u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
					reply := u.Reply(q)
					if !slices.Contains(try.Avoid, "stale") {
						if o, ok := old[fetch.Describe(q)]; ok {
							reply.Msg = o.Msg.Copy()
						}
						reply.Upstream = "stale"
					}
					return reply, nil, true
				})
				expect(t, ask(r, tt.name, dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
			})
		}
	}
}

// V-14, L-9: zones of other links of an alias chain are not fetched anew, so that the tries last for the link that
// fails.
func TestRefreshWhereItFails(t *testing.T) {
	r, u, _ := setup(t, nil)
	aliasZones(u.Tree, 6)
	for i := range 6 {
		expect(t, ask(r, fmt.Sprintf("known.z%d.com.", i), dns.TypeTXT), dnssec.Secure, dns.RcodeNameError)
	}
	quiet(t, r)
	u.Forget()
	u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		reply.Msg.Answer = slices.DeleteFunc(reply.Msg.Answer,
			func(rr dns.RR) bool { return rr.Header().Name != q.Name })
		if fetch.Describe(q) == "link.z5.com. A" && try.CD {
			reply = corrupt(reply)
		}
		return reply, nil, true
	})
	expect(t, ask(r, "link.z0.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	for i := range 5 {
		if slices.Contains(u.Asked(), fmt.Sprintf("z%d.com. DNSKEY", i)) {
			t.Errorf("z%d.com. was fetched anew: %v", i, u.Asked())
		}
	}
}

// L-6: links that are fetched anew, and the second verdict with them, are paid from what the first has left.
func TestRefreshRefillsNothing(t *testing.T) {
	for checks, want := range map[int]dnssec.Status{5: dnssec.Secure, 4: dnssec.Indeterminate} {
		r, u, _ := setup(t, nil)
		aliasZones(u.Tree, 2)
		for i := range 2 {
			expect(t, ask(r, fmt.Sprintf("known.z%d.com.", i), dns.TypeTXT), dnssec.Secure, dns.RcodeNameError)
		}
		u.Tree.Roll("z1.com.")
		r.SignatureChecks = checks
		if a := ask(r, "link.z0.com.", dns.TypeA); a.Status != want {
			t.Errorf("%d checks allowed: %v, want %v; %s", checks, a.Status, want, notes(a))
		}
	}
}

// V-14, L-6a: where a limit ends a further try, the client is told what was wrong with the first reply, but that is not
// remembered for longer than a limit is.
func TestLimitInFurtherTry(t *testing.T) {
	r, u, now := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		switch {
		case fetch.Describe(q) != "mx.example.com. A":
		case try.N == 0:
			reply = corrupt(reply)
		default:
			reply.Size = 1 << 20 // L-11
		}
		return reply, nil, true
	})
	a := ask(r, "mx.example.com.", dns.TypeA)
	expect(t, a, dnssec.Bogus, dns.RcodeServerFailure)
	if len(a.Notes) == 0 || a.Notes[0].Code != dns.ExtendedErrorCodeDNSBogus {
		t.Errorf("told %s", notes(a))
	}
	u.Follow(nil)
	now.Advance(limitLife)
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
}

// V-14, C-8: links that do not validate replace none that are cached.
func TestRefreshKeepsWhatValidates(t *testing.T) {
	r, u, now := setup(t, nil)
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		return corrupt(u.Reply(q)), nil, true
	})
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Bogus, dns.RcodeServerFailure)
	u.Follow(nil)
	now.Advance(bogusMost)
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	if n := len(u.Asked()); n != 1 {
		t.Errorf("the chain was lost: asked %v", u.Asked())
	}
}

// V-14: how often a reply that does not validate is asked for again, and how: the last time with CD=0 over TCP.
func TestRetriesAreCounted(t *testing.T) {
	for _, test := range []struct {
		retries, tries int
		last           fetch.Try
	}{
		{0, 1, fetch.Try{CD: true}},
		{1, 2, fetch.Try{N: 1, TCP: true}},
		{2, 3, fetch.Try{N: 2, TCP: true}},
		{3, 4, fetch.Try{N: 3, TCP: true}},
	} {
		r, u, _ := setup(t, func(c *Config) { c.Retries = test.retries })
		a := ask(r, "stripped.com.", dns.TypeMX)
		expect(t, a, dnssec.Bogus, dns.RcodeServerFailure)
		tries := u.Tries("stripped.com. MX")
		last := tries[len(tries)-1]
		if len(tries) != test.tries || last.N != test.last.N || last.TCP != test.last.TCP || last.CD != test.last.CD {
			t.Errorf("limit retries %d: tries %+v", test.retries, tries)
		}
	}
}

// L-9: further tries are ten at most for one client query, however many links its chain has.
func TestRetriesPerQuery(t *testing.T) {
	for n, want := range map[int]dnssec.Status{10: dnssec.Secure, 11: dnssec.Bogus} {
		r, u, _ := setup(t, nil)
		aliasZones(u.Tree, n)
		u.Follow(func(ctx context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
			reply, err, _ := u.FirstLinkOnly(ctx, q, try)
			if q.Qtype == dns.TypeA && try.N == 0 {
				reply = corrupt(reply)
			}
			return reply, err, true
		})
		if a := ask(r, "link.z0.com.", dns.TypeA); a.Status != want {
			t.Errorf("%d zones: %v, want %v; %s", n, a.Status, want, notes(a))
		}
	}
}

// S-14, V-14: what no upstream answers has been put to all of them: one more try is made, over TCP with CD=0.
func TestUnansweredIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, _ := setup(t, nil)
		u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			return fetch.Reply{}, refusedByAll, q.Qtype == dns.TypeMX
		})
		q := question("example.com.", dns.TypeMX)
		expect(t, r.Resolve(context.Background(), q), dnssec.Indeterminate, dns.RcodeServerFailure)
		if n := u.Count(fetch.Describe(q)); n != 2 {
			t.Errorf("asked %d times", n)
		}
		synctest.Wait() // for what was asked on speculation
		quiet(t, r)
		u.Forget()
		// C-11: only Bogus does not answer CD=1
		if a := r.Unchecked(context.Background(), q); !a.Cached || len(u.Asked()) > 0 {
			t.Errorf("CD=1: cached %v, asked %v", a.Cached, u.Asked())
		}
		r.Close()
	})
}

// V-14: with the chain to the signer broken, the answer is not asked for elsewhere: that would need the same chain.
func TestBrokenChainEndsTries(t *testing.T) {
	r, u, _ := setup(t, nil)
	expect(t, ask(r, "nokey.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
	if n := u.Count("nokey.com. MX"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// V-14: a wrong signature is asked for again even where a link to its owner cannot be had, here DS at the host; and so
// is a denial. If all are wrong, that is what is told.
func TestWrongSignatureWithoutLink(t *testing.T) {
	for _, name := range []string{"mx.example.com.", "nothing.example.com."} {
		for _, always := range []bool{false, true} {
			r, u, _ := setup(t, nil)
			u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
				switch {
				case q.Name == name && q.Qtype == dns.TypeDS:
					return fetch.Reply{}, errors.New("SERVFAIL"), true
				case q.Name == name && q.Qtype == dns.TypeA && (always || try.N == 0):
					return corruptAll(u.Reply(q)), nil, true
				}
				return fetch.Reply{}, nil, false
			})
			a := ask(r, name, dns.TypeA)
			if !always && a.Status != dnssec.Secure {
				t.Errorf("%s, good the second time: %v, %s", name, a.Status, notes(a))
			}
			if code := dns.ExtendedErrorCodeDNSBogus; always && (a.Status > dnssec.Bogus || a.Notes[0].Code != code) {
				t.Errorf("%s, always wrong: %v, %s", name, a.Status, notes(a))
			}
		}
	}
}

// L-6a: that a client query has no retry left is its own: nothing of it is remembered of a link, and of its question
// for a second; who asks then has retries.
func TestShortOfRetries(t *testing.T) {
	const links = 6 // each costs two
	r, u, now := setup(t, nil)
	for i := range links {
		u.Tree.Add(world.Zone(fmt.Sprintf("z%d.com.", i), fmt.Sprintf("mx CNAME mx.z%d.com.", i+1)))
	}
	u.Tree.Add(world.Domain(fmt.Sprintf("z%d.com.", links)))
	u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
		if q.Qtype == dns.TypeDS && q.Name[0] == 'z' && try.N == 0 {
			return corruptAll(u.Reply(q)), nil, true
		}
		return fetch.Reply{}, nil, false
	})
	a := ask(r, "mx.z0.com.", dns.TypeA)
	if a.Status != dnssec.Bogus || !errors.Is(a.failure, fetch.ErrRetries) ||
		a.Notes[0].Code != dns.ExtendedErrorCodeDNSBogus {
		t.Errorf("%v, %s", a.Status, notes(a))
	}
	for i := range links {
		expect(t, ask(r, fmt.Sprintf("z%d.com.", i), dns.TypeSOA), dnssec.Secure, dns.RcodeSuccess)
	}
	if a := ask(r, "mx.z0.com.", dns.TypeA); !a.Cached {
		t.Error("at once it is looked for again")
	}
	now.Advance(limitLife)
	expect(t, ask(r, "mx.z0.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
}

// L-6a: what is resolved ahead fails for nobody when the retries are used up that it has in common.
func TestAheadShortOfRetries(t *testing.T) {
	const names = 20
	meter := &roles{asked: map[fetch.Role]int{}}
	r, u, _ := setup(t, func(c *Config) { c.Prefetch, c.Meter, c.Aggressive = true, meter, reuse.Off })
	ask(r, "example.com.", dns.TypeMX)
	u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
		if q.Qtype == dns.TypeA && try.N == 0 {
			return corruptAll(u.Reply(q)), nil, true
		}
		return fetch.Reply{}, nil, false
	})
	ahead := r.Ahead()
	for i := range names {
		ahead.Resolve(question(fmt.Sprintf("n%d.example.com.", i), dns.TypeA), true, nil)
	}
	settled(t, r)
	if n := meter.asked[fetch.RoleRetry]; n != 10 {
		t.Errorf("%d retries", n)
	}
	if all := r.Store.failures.below("."); len(all) != 0 {
		t.Errorf("remembered: %v", all[0].cause)
	}
	for i := range names {
		expect(t, ask(r, fmt.Sprintf("n%d.example.com.", i), dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	}
}

// V-14, L-9: once another upstream's word has shown that one lies, what is still to be asked for the same client query
// is put to others first, so that an alias chain costs no more retries than its first zone.
func TestLiarIsAvoided(t *testing.T) {
	const cuts = 6
	meter := &roles{asked: map[fetch.Role]int{}}
	r, u, _ := setup(t, func(c *Config) { c.Meter = meter })
	for i := range cuts {
		u.Tree.Add(world.Zone(fmt.Sprintf("z%d.com.", i), fmt.Sprintf("mx CNAME mx.z%d.com.", i+1)))
	}
	u.Tree.Add(world.Domain(fmt.Sprintf("z%d.com.", cuts)))
	u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
		reply, _, _ := u.FirstLinkOnly(context.Background(), q, try)
		if !slices.Contains(try.Avoid, "liar") { // it is asked first
			reply = corruptAll(reply)
			reply.Upstream = "liar"
		}
		return reply, nil, true
	})
	expect(t, ask(r, "mx.z0.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	if n := meter.asked[fetch.RoleRetry]; n > 7 { // of the root one, of com. and z0.com. two each, of the answer one
		t.Errorf("%d retries", n)
	}
}

// V-14: where of two upstreams one has sent a link that is sound, and the other one that is not, a further try asks the
// one that was right again, and not by turns both.
func TestOnlyTheWrongAreAvoided(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
		avoided := func(name string) bool { return slices.Contains(try.Avoid, name) }
		reply := u.Reply(q)
		reply.Upstream = "honest"
		lies := q.Qtype == dns.TypeDNSKEY && q.Name != "." // the liar is not suspected before both links have come
		if avoided("honest") || !avoided("liar") && lies { // it is asked first, but slow
			reply = corruptAll(reply)
			reply.Upstream = "liar"
		}
		return reply, nil, true
	})
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
}
