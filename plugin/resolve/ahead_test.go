package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/scripted"
)

func prefetching(c *Config) { c.Prefetch = true }

// settled waits until nothing is being resolved for nobody, and nothing is asked any more.
func settled(t *testing.T, r *Resolver) {
	t.Helper()
	eventually(t, "nothing to be resolved for nobody", func() bool { return r.aheads.Load() == 0 })
	quiet(t, r)
}

// renewals returns how often q was asked again because it ends soon.
func renewals(t *testing.T, r *Resolver, u *scripted.Upstream, q string) int {
	t.Helper()
	settled(t, r)
	return u.Count(q)
}

// C-14: an answer in use is asked again once, with a tenth of its TTL left, and the client waits for nothing.
func TestRenew(t *testing.T) {
	r, u, now := setup(t, prefetching)
	first := ask(r, "example.com.", dns.TypeMX)
	life := time.Duration(first.Answer[0].Header().Ttl) * time.Second
	for _, step := range []struct {
		left  time.Duration
		asked int
		ttl   uint32 // afterwards
	}{
		{life/10 + time.Second, 1, uint32(life/10/time.Second) + 1},
		{life / 10, 2, uint32(life / time.Second)},
		{life/10 - time.Second, 2, 0},
	} {
		now.Set(scripted.Noon.Add(life - step.left))
		a := ask(r, "example.com.", dns.TypeMX)
		expect(t, a, dnssec.Secure, dns.RcodeSuccess)
		if !a.Cached && step.ttl != 0 {
			t.Errorf("%v before its end the client had to wait", step.left)
		}
		if n := renewals(t, r, u, "example.com. MX"); n != step.asked {
			t.Errorf("%v before its end: asked %d times, want %d", step.left, n, step.asked)
		}
		if ttl := ask(r, "example.com.", dns.TypeMX).Answer[0].Header().Ttl; step.ttl != 0 && ttl != step.ttl {
			t.Errorf("%v before its end its TTL is %d, want %d", step.left, ttl, step.ttl)
		}
	}
}

// C-14: what comes back from an upstream that counts down ends no later, and is not asked again.
func TestRenewFromACache(t *testing.T) {
	r, u, now := setup(t, prefetching)
	life := time.Duration(ask(r, "example.com.", dns.TypeMX).Answer[0].Header().Ttl) * time.Second
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		for _, rr := range slices.Concat(reply.Msg.Answer, reply.Msg.Ns) {
			rr.Header().Ttl -= min(rr.Header().Ttl, uint32(now.Now().Sub(scripted.Noon)/time.Second))
		}
		return reply, nil, true
	})
	for left := life / 10; left > 0; left -= life / 60 {
		now.Set(scripted.Noon.Add(life - left))
		expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		if n := renewals(t, r, u, "example.com. MX"); n != 2 {
			t.Fatalf("%v before the end: asked %d times, want 2", left, n)
		}
	}
}

// C-14: when it cannot be had anew, be it for the network or for its signatures, what is there is served to its end,
// and the failure is not remembered beyond.
func TestRenewFails(t *testing.T) {
	for name, fault := range map[string]func(fetch.Reply) (fetch.Reply, error){
		"network": func(fetch.Reply) (fetch.Reply, error) { return fetch.Reply{}, errors.New("unreachable") },
		"Bogus":   func(r fetch.Reply) (fetch.Reply, error) { return corrupt(r), nil },
	} {
		t.Run(name, func(t *testing.T) {
			r, u, now := setup(t, prefetching)
			life := time.Duration(ask(r, "example.com.", dns.TypeMX).Answer[0].Header().Ttl) * time.Second
			u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
				if fetch.Describe(q) != "example.com. MX" {
					return fetch.Reply{}, nil, false
				}
				reply, err := fault(u.Reply(q))
				return reply, err, true
			})
			now.Advance(life - 2*time.Second)
			for range 2 {
				expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
				settled(t, r)
			}
			u.Follow(nil)
			now.Advance(2 * time.Second)
			expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		})
	}
}

// C-14, C-16: DS and DNSKEY of a zone in use are fetched again before they end, once, so that no client waits for them.
func TestRenewLinks(t *testing.T) {
	r, u, now := setup(t, prefetching)
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	life := r.chain.Known("example.com.").Until.Sub(now.Now())
	links := func() (n int) {
		for _, q := range u.Asked() {
			if q == "example.com. DS" || q == "example.com. DNSKEY" {
				n++
			}
		}
		return n
	}
	for i, step := range []struct {
		left time.Duration
		want int
	}{{life/10 + 2*time.Second, 2}, {life / 10, 4}, {life/10 - time.Second, 4}} {
		now.Set(scripted.Noon.Add(life - step.left))
		expect(t, ask(r, fmt.Sprintf("n%d.example.com.", i), dns.TypeA), dnssec.Secure, dns.RcodeNameError)
		eventually(t, "the links to be renewed", func() bool {
			renewed := r.chain.Known("example.com.").Until.Sub(scripted.Noon) > life
			return links() == step.want && renewed == (step.want > 2)
		})
	}
}

// Without the option nothing is asked for nobody.
func TestNoPrefetch(t *testing.T) {
	r, u, now := setup(t, nil)
	life := time.Duration(ask(r, "example.com.", dns.TypeMX).Answer[0].Header().Ttl) * time.Second
	quiet(t, r)
	u.Forget()
	r.Ahead().Resolve(question("mx.example.com.", dns.TypeA), false, nil)
	now.Advance(life - time.Second)
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	if n := r.aheads.Load(); n != 0 || len(u.Asked()) != 0 {
		t.Errorf("%d flights, asked %v", n, u.Asked())
	}
}

// Ahead: the answer is there when a client asks, and whoever asked is given it, from the cache as well.
func TestAhead(t *testing.T) {
	r, u, _ := setup(t, prefetching)
	told := make(chan *Answer, 1)
	for _, cached := range []bool{false, true} {
		r.Ahead().Resolve(question("MX.example.com.", dns.TypeA), false, func(a *Answer) { told <- a })
		if a := <-told; a.Status != dnssec.Secure || a.Cached != cached {
			t.Errorf("told %v, cached %v, want cached %v", a.Status, a.Cached, cached)
		}
	}
	settled(t, r)
	quiet(t, r)
	u.Forget()
	if a := ask(r, "mx.example.com.", dns.TypeA); !a.Cached || a.Status != dnssec.Secure || len(u.Asked()) != 0 {
		t.Errorf("cached %v, %v; asked %v", a.Cached, a.Status, u.Asked())
	}
}

// Ahead, near: no links are asked for on speculation.
func TestAheadNear(t *testing.T) {
	for near, want := range map[bool]int{true: 1, false: 3} {
		r, u, _ := setup(t, prefetching)
		expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		quiet(t, r)
		u.Forget()
		r.Ahead().Resolve(question("mx.example.com.", dns.TypeA), near, nil)
		settled(t, r)
		if got := u.Asked(); len(got) != want {
			t.Errorf("near %v: asked %v", near, got)
		}
	}
}

// Ahead is bounded: so many at once, one for each question, none for what failed a moment ago.
func TestAheadIsBounded(t *testing.T) {
	r, u, _ := setup(t, prefetching)
	release := make(chan struct{})
	u.Follow(func(ctx context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return fetch.Reply{}, errors.New("unreachable"), true
	})
	for i := range 2 * aheadInFlight {
		r.Ahead().Resolve(question(fmt.Sprintf("n%d.example.com.", i/2), dns.TypeA), true, nil)
	}
	r.Ahead().Resolve(question("more.example.com.", dns.TypeA), true, nil)
	if n := r.aheads.Load(); n != aheadInFlight {
		t.Errorf("%d at once, want %d", n, aheadInFlight)
	}
	close(release)
	settled(t, r)
	quiet(t, r)
	u.Forget()
	r.Ahead().Resolve(question("n0.example.com.", dns.TypeA), true, nil)
	settled(t, r)
	if u.Count("n0.example.com. A") != 0 {
		t.Error("what failed a moment ago was asked for again")
	}
	u.Follow(nil)
	r.Close()
	told := make(chan *Answer, 1)
	r.Ahead().Resolve(question("mx.example.com.", dns.TypeAAAA), true, func(a *Answer) { told <- a })
	if a := <-told; a != nil {
		t.Errorf("told %v after Close", a.Status)
	}
}

// What is known of zones on the way to a name.
func TestZoneKnown(t *testing.T) {
	r, _, _ := setup(t, prefetching)
	if z, insecure := r.ZoneKnown("mx.example.com."); z != "" || insecure {
		t.Errorf("zone %q is known before anything was asked", z)
	}
	for _, name := range []string{"example.com.", "insecure.com."} {
		ask(r, name, dns.TypeMX)
	}
	ask(r, "mx.example.com.", dns.TypeDS) // no cut
	for name, want := range map[string]string{
		"Mx.Example.com.": "example.com.", "a.mx.example.com.": "example.com.", "mx.other.com.": "com.",
		"mx.insecure.com.": "insecure.com.",
	} {
		if z, insecure := r.ZoneKnown(name); z != want || insecure != (want == "insecure.com.") {
			t.Errorf("%s: zone %q, insecure %v, want %q", name, z, insecure, want)
		}
	}
}

// L-6, L-6a: all that is resolved ahead because of one answer spends one budget. That it is used up is not remembered
// of what was to be resolved.
func TestAheadSpendsOneBudget(t *testing.T) {
	const most = 10
	meter := &spent{roles: roles{asked: map[fetch.Role]int{}}}
	r, _, _ := setup(t, func(c *Config) { c.Prefetch, c.UpstreamQuestions, c.Meter = true, most, meter })
	ahead := r.Ahead()
	for i := range 3 * most {
		ahead.Resolve(question(fmt.Sprintf("n%d.example%d.com.", i, i), dns.TypeA), false, nil)
	}
	settled(t, r)
	if asked := meter.asked; asked[fetch.RoleAhead]+asked[fetch.RoleLink] > most || asked[fetch.RoleWarm] > 6 ||
		asked[fetch.RoleRetry] > 10 {
		t.Errorf("asked %v", asked)
	}
	if all := r.Store.failures.below("."); len(all) != 0 {
		t.Errorf("remembered: %v", all[0].cause)
	}
}

// L-6a: who joins what is resolved ahead is not handed the end of its budget.
func TestAheadHandsOnNoLimit(t *testing.T) {
	r, u, _ := setup(t, prefetching)
	outstanding, release := hold(u)
	r.fetcher.Questions = 1
	ahead := r.Ahead()
	r.fetcher.Questions = 100
	q := question("mx.example.com.", dns.TypeA)
	ahead.Resolve(q, true, nil)
	eventually(t, "it to be asked", func() bool { return outstanding.Load() == 1 })
	answer := make(chan *Answer)
	go func() { answer <- ask(r, q.Name, q.Qtype) }()
	eventually(t, "the client to join", func() bool { return r.flights.waitingFor(keyOf(q)) == 1 })
	release()
	expect(t, <-answer, dnssec.Secure, dns.RcodeSuccess)
}
