package resolve

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// The answer and every link of a cold chain are asked in one round: an upstream that holds every reply until all the
// expected questions have arrived is no obstacle.
func TestOneRound(t *testing.T) {
	expected := []string{
		"example.com. MX", ". DNSKEY", "com. DS", "com. DNSKEY", "example.com. DS", "example.com. DNSKEY",
	}
	r, u, _ := setup(t, nil)
	var mu sync.Mutex
	missing, all := len(expected), make(chan struct{})
	u.Follow(func(ctx context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		mu.Lock()
		if slices.Contains(expected, fetch.Describe(q)) {
			if missing--; missing == 0 {
				close(all)
			}
		}
		mu.Unlock()
		select {
		case <-all:
			return fetch.Reply{}, nil, false
		case <-ctx.Done():
			return fetch.Reply{}, ctx.Err(), true
		}
	})
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	if got := u.Asked(); len(got) != len(expected) {
		t.Errorf("asked %v, want %v", got, expected)
	}
}

// A known chain is not asked for again, and a cached answer asks nothing.
func TestCached(t *testing.T) {
	r, u, now := setup(t, nil)
	first := ask(r, "example.com.", dns.TypeMX)
	expect(t, first, dnssec.Secure, dns.RcodeSuccess)
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	if n := u.Count("*com. DNSKEY") - u.Count("mx.example.com. DNSKEY"); n != 0 {
		t.Errorf("known keys were asked for: %v", u.Asked())
	}
	quiet(t, r)
	u.Forget()
	now.Advance(10 * time.Second)
	again := ask(r, "EXAMPLE.com.", dns.TypeMX)
	expect(t, again, dnssec.Secure, dns.RcodeSuccess)
	if !again.Cached || len(u.Asked()) != 0 {
		t.Errorf("cached %v, asked %v", again.Cached, u.Asked())
	}
	if a, b := first.Answer[0].Header().Ttl, again.Answer[0].Header().Ttl; a != b+10 {
		t.Errorf("TTL %d became %d after 10 s", a, b)
	}
	if r.Cached(question("example.com.", dns.TypeMX)) == nil || r.Cached(question("example.com.", dns.TypeA)) != nil {
		t.Error("Cached tells something else than what is cached")
	}
}

// V-6, V-10, V-11: every kind of answer and of delegation through the whole walk.
func TestVerdicts(t *testing.T) {
	r, _, _ := setup(t, nil)
	for _, test := range []struct {
		name   string
		qtype  uint16
		status dnssec.Status
		rcode  int
	}{
		{"example.com.", dns.TypeMX, dnssec.Secure, dns.RcodeSuccess},
		{"_25._tcp.mx.example.com.", dns.TypeTLSA, dnssec.Secure, dns.RcodeSuccess},
		{"mx.example.com.", dns.TypeAAAA, dnssec.Secure, dns.RcodeSuccess},
		{"nothing.example.com.", dns.TypeA, dnssec.Secure, dns.RcodeNameError},
		{"com.", dns.TypeDS, dnssec.Secure, dns.RcodeSuccess},
		{".", dns.TypeNS, dnssec.Secure, dns.RcodeSuccess},
		{".", dns.TypeDS, dnssec.Secure, dns.RcodeSuccess},
		{"nosuchtld.", dns.TypeMX, dnssec.Secure, dns.RcodeNameError},
		{"a.b.nosuchtld.", dns.TypeMX, dnssec.Secure, dns.RcodeNameError},
		{"insecure.com.", dns.TypeMX, dnssec.Insecure, dns.RcodeSuccess},
		{"mx.insecure.com.", dns.TypeA, dnssec.Insecure, dns.RcodeSuccess},
		{"nothing.insecure.com.", dns.TypeA, dnssec.Insecure, dns.RcodeNameError},
		{"insecure.com.", dns.TypeDS, dnssec.Secure, dns.RcodeSuccess},
		{"alias.example.com.", dns.TypeA, dnssec.Secure, dns.RcodeSuccess},
		{"outward.example.com.", dns.TypeA, dnssec.Insecure, dns.RcodeSuccess},
		{"outward.example.com.", dns.TypeCNAME, dnssec.Secure, dns.RcodeSuccess},
		{"stripped.com.", dns.TypeMX, dnssec.Bogus, dns.RcodeServerFailure},
		{"nokey.com.", dns.TypeMX, dnssec.Bogus, dns.RcodeServerFailure},
		{"deep.co.uk.", dns.TypeMX, dnssec.Secure, dns.RcodeSuccess},
	} {
		t.Run(test.name+dns.TypeToString[test.qtype], func(t *testing.T) {
			expect(t, ask(r, test.name, test.qtype), test.status, test.rcode)
			expect(t, ask(r, test.name, test.qtype), test.status, test.rcode) // from the cache
		})
	}
}

// V-11: below a proven insecure delegation nothing of the chain is asked, so that a server that misbehaves on DS cannot
// fail its good answers.
func TestNothingBelowInsecure(t *testing.T) {
	r, u, _ := setup(t, nil)
	expect(t, ask(r, "insecure.com.", dns.TypeMX), dnssec.Insecure, dns.RcodeSuccess)
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "mx.insecure.com.", dns.TypeA), dnssec.Insecure, dns.RcodeSuccess)
	if got := u.Asked(); len(got) != 1 {
		t.Errorf("asked %v, want the answer only", got)
	}
}

// X-14, V-6a, L-9: an IPv6 PTR of 34 labels below an insecure cut, cold.
func TestLongReverseName(t *testing.T) {
	r, u, _ := setup(t, nil)
	name, _ := dns.ReverseAddr("2001:db8::1")
	a := ask(r, name, dns.TypePTR)
	expect(t, a, dnssec.Insecure, dns.RcodeSuccess)
	if n := len(u.Asked()); n > 14 {
		t.Errorf("%d questions: %v", n, u.Asked())
	}
}

// V-65: the target of an alias chain that upstream left unfinished is asked for.
func TestIncompleteChain(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		if q.Name != "alias.example.com." {
			return fetch.Reply{}, nil, false
		}
		reply := u.Reply(q)
		reply.Msg.Answer = slices.DeleteFunc(reply.Msg.Answer,
			func(rr dns.RR) bool { return rr.Header().Name != q.Name })
		return reply, nil, true
	})
	a := ask(r, "alias.example.com.", dns.TypeA)
	expect(t, a, dnssec.Secure, dns.RcodeSuccess)
	if last := a.Answer[len(a.Answer)-2]; last.Header().Rrtype != dns.TypeA {
		t.Errorf("the chain does not end in an address: %v", a.Answer)
	}
	if u.Count("mx.example.com. A") == 0 {
		t.Errorf("the target was not asked for: %v", u.Asked())
	}
}

// corrupt flips an octet of every signature in the answer.
func corrupt(r fetch.Reply) fetch.Reply {
	r.Msg = r.Msg.Copy()
	misSigned(r.Msg.Answer)
	return r
}

// corruptAll corrupts a denial, too.
func corruptAll(r fetch.Reply) fetch.Reply {
	r = corrupt(r)
	misSigned(r.Msg.Ns)
	return r
}

func misSigned(rrs []dns.RR) {
	for _, rr := range rrs {
		if sig, ok := rr.(*dns.RRSIG); ok {
			sig.Signature = "AAAA" + sig.Signature[4:]
		}
	}
}

// V-14: what does not validate is asked elsewhere, answer and links alike.
func TestRetryElsewhere(t *testing.T) {
	for _, bad := range []string{"example.com. MX", "com. DS", "com. DNSKEY", "example.com. DNSKEY", ". DNSKEY"} {
		t.Run(bad, func(t *testing.T) {
			r, u, _ := setup(t, nil)
			u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
				if fetch.Describe(q) != bad || slices.Contains(try.Avoid, "bad") {
					return fetch.Reply{}, nil, false
				}
				reply := corrupt(u.Reply(q))
				reply.Upstream = "bad"
				return reply, nil, true
			})
			expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		})
	}
}

// V-14: the last try asks with CD=0 over TCP; then it is SERVFAIL.
func TestLastTry(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
		if fetch.Describe(q) != "example.com. MX" || !try.CD && try.TCP {
			return fetch.Reply{}, nil, false
		}
		return corrupt(u.Reply(q)), nil, true
	})
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	if n := u.Count("example.com. MX"); n != 3 {
		t.Errorf("%d tries, want 3", n)
	}
}

// V-14, S-15: a validating upstream answers SERVFAIL to the last try, which is without CD. What was wrong with its
// replies before is the reason, of an answer as of a link, and is remembered as such (C-11).
func TestReasonOutlivesTheLastTry(t *testing.T) {
	for broken, want := range map[string]string{
		"example.com. MX":     "example.com. MX (key",
		"example.com. DNSKEY": "example.com. DNSKEY (key",
	} {
		t.Run(broken, func(t *testing.T) {
			r, u, now := setup(t, nil)
			u.Follow(func(_ context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
				switch {
				case fetch.Describe(q) != broken:
					return fetch.Reply{}, nil, false
				case !try.CD:
					return fetch.Reply{}, errors.New("answered SERVFAIL"), true
				}
				return corrupt(u.Reply(q)), nil, true
			})
			a := ask(r, "example.com.", dns.TypeMX)
			expect(t, a, dnssec.Bogus, dns.RcodeServerFailure)
			if f := a.Notes[0]; f.Code != dns.ExtendedErrorCodeDNSBogus || !strings.Contains(f.Text, want) {
				t.Errorf("notes %s", notes(a))
			}
			if tries := u.Tries("*"); tries[len(tries)-1].CD {
				t.Error("there was no try without CD")
			}
			if f, ok := r.Store.failures.alive(question("example.com.", dns.TypeMX), now.Now()); !ok ||
				f.status != dnssec.Bogus {
				t.Errorf("remembered as %v, %v", f.status, ok)
			}
		})
	}
}

// An upstream that fails on one type only, or loses it once, fails nothing else.
func TestOneTypeFails(t *testing.T) {
	r, u, now := setup(t, nil)
	fault := &dnssec.Failure{Code: dns.ExtendedErrorCodeNoReachableAuthority, Text: "SERVFAIL from all"}
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		return fetch.Reply{}, fault, q.Qtype == dns.TypeTLSA
	})
	a := ask(r, "_25._tcp.mx.example.com.", dns.TypeTLSA)
	expect(t, a, dnssec.Indeterminate, dns.RcodeServerFailure)
	if a.Notes[0].Code != fault.Code {
		t.Errorf("EDE %d, want %d", a.Notes[0].Code, fault.Code)
	}
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		expect(t, ask(r, "mx.example.com.", qtype), dnssec.Secure, dns.RcodeSuccess)
	}
	quiet(t, r)
	u.Forget()
	if again := ask(r, "_25._tcp.mx.example.com.", dns.TypeTLSA); !again.Cached || u.Count("* TLSA") > 0 {
		t.Errorf("a fresh failure was not remembered: asked %v", u.Asked())
	}
	now.Advance(networkLife)
	u.Follow(nil)
	expect(t, ask(r, "_25._tcp.mx.example.com.", dns.TypeTLSA), dnssec.Secure, dns.RcodeSuccess)
}

// C-11: a link that could not be fetched is asked again after 1 s, and says so (EDE 5).
func TestLinkLost(t *testing.T) {
	r, u, now := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		return fetch.Reply{}, errors.New("connection refused"), fetch.Describe(q) == "com. DNSKEY"
	})
	a := ask(r, "example.com.", dns.TypeMX)
	expect(t, a, dnssec.Indeterminate, dns.RcodeServerFailure)
	if a.Notes[0].Code != dns.ExtendedErrorCodeDNSSECIndeterminate ||
		!strings.Contains(a.Notes[0].Text, "connection refused") {
		t.Errorf("notes %s", notes(a))
	}
	u.Follow(nil)
	now.Advance(time.Second)
	expect(t, ask(r, "insecure.com.", dns.TypeMX), dnssec.Insecure, dns.RcodeSuccess)
}

// X-14, V-14: after a key roll the cached DNSKEY is stale; the first answer with the new key is Secure all the same.
func TestStaleKeys(t *testing.T) {
	r, u, now := setup(t, nil)
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	u.Tree.Roll("example.com.")
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)

	t.Run("at most once in 30 s", func(t *testing.T) {
		now.Advance(5 * time.Second)
		u.Tree.Roll("example.com.")
		quiet(t, r)
		u.Forget()
		expect(t, ask(r, "mx.example.com.", dns.TypeAAAA), dnssec.Bogus, dns.RcodeServerFailure)
		if n := u.Count("example.com. DNSKEY"); n > 0 {
			t.Errorf("links fetched again: %v", u.Asked())
		}
		now.Advance(30 * time.Second)
		expect(t, ask(r, "mx.example.com.", dns.TypeAAAA), dnssec.Secure, dns.RcodeSuccess)
	})
	t.Run("a stale parent", func(t *testing.T) {
		now.Advance(time.Minute)
		u.Tree.Roll("com.")
		expect(t, ask(r, "insecure.com.", dns.TypeMX), dnssec.Insecure, dns.RcodeSuccess)
	})
}

// C-8, V-14: a zone that went insecure is believed as soon as that is proven, and not before.
func TestGoesInsecure(t *testing.T) {
	r, u, _ := setup(t, nil)
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	u.Tree.Plan("example.com.").Config.Unsigned = true
	u.Tree.Publish()
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Insecure, dns.RcodeSuccess)
}

// L-13: identical questions in flight are joined, and so are the links of different ones.
func TestJoin(t *testing.T) {
	r, u, _ := setup(t, nil)
	release := make(chan struct{})
	u.Follow(func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
		<-release
		return fetch.Reply{}, nil, false
	})
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			name := "example.com."
			if i%2 == 1 {
				name = "insecure.com."
			}
			if a := ask(r, name, dns.TypeMX); a.Rcode != dns.RcodeSuccess {
				t.Errorf("%s: %s", name, notes(a))
			}
		})
	}
	// who comes later may just miss the flight and the cache
	for u.Count("* MX") < 2 || u.Count("* DNSKEY") < 4 || waiting(r) < 100 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	all.Wait()
	if got := u.Asked(); len(got) != len(slices.Compact(slices.Sorted(slices.Values(got)))) {
		t.Errorf("something was asked twice: %v", got)
	}
}

// waiting counts the clients that wait for a flight.
func waiting(r *Resolver) (n int) {
	for _, key := range r.flights.keys() {
		n += r.flights.waitingFor(key)
	}
	return n
}

// L-10: the client has its SERVFAIL in time, with a sentence of what is missing; the work goes on and fills the cache.
func TestDeadline(t *testing.T) {
	r, u, _ := setup(t, nil)
	release := make(chan struct{})
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		if fetch.Describe(q) == "com. DNSKEY" {
			<-release
		}
		return fetch.Reply{}, nil, false
	})
	q := question("example.com.", dns.TypeMX)
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan *Answer)
	go func() { answer <- r.Resolve(ctx, q) }()
	eventually(t, "it waits for the keys of com.", func() bool {
		f := r.flights.find(keyOf(q))
		return f != nil && strings.Contains(f.overdue(q, r.Timeout).Notes[0].Text, "com. DNSKEY")
	})
	cancel() // the client's time is up
	a := <-answer
	expect(t, a, dnssec.Indeterminate, dns.RcodeServerFailure)
	if !strings.Contains(a.Notes[0].Text, "com. DNSKEY") || !a.Notes[0].Limit() {
		t.Errorf("notes %s", notes(a))
	}
	close(release)
	eventually(t, "it is cached", func() bool { return r.Cached(q) != nil })
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
}

// L-6a: a query that hits a limit fails alone: the links it shares with others are neither failed nor cached.
func TestLimitFailsAlone(t *testing.T) {
	r, u, _ := setup(t, func(c *Config) { c.UpstreamQuestions = 3 })
	a := ask(r, "stripped.com.", dns.TypeMX)
	expect(t, a, dnssec.Indeterminate, dns.RcodeServerFailure)
	if !a.Notes[0].Limit() || a.Notes[0].Code != dns.ExtendedErrorCodeOther {
		t.Errorf("notes %s", notes(a))
	}
	r.fetcher.Questions = 100
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
}

// L-11: more than 256 KiB of replies are too much for one question.
func TestResponseOctets(t *testing.T) {
	r, u, _ := setup(t, nil)
	u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		reply := u.Reply(q)
		reply.Size = 100 << 10
		return reply, nil, true
	})
	a := ask(r, "example.com.", dns.TypeMX)
	expect(t, a, dnssec.Indeterminate, dns.RcodeServerFailure)
	if !a.Notes[0].Limit() {
		t.Errorf("notes %s", notes(a))
	}
}

// V-1a, V-12: without an anchor a name is Insecure and costs one question; the closest anchor decides.
func TestAnchors(t *testing.T) {
	t.Run("none", func(t *testing.T) {
		r, u, _ := setup(t, func(c *Config) { delete(c.Anchors, ".") })
		expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Insecure, dns.RcodeSuccess)
		if got := u.Asked(); len(got) != 1 {
			t.Errorf("asked %v", got)
		}
	})
	t.Run("nested", func(t *testing.T) {
		r, u, _ := setup(t, nil)
		r.Anchors["example.com."] = r.Anchors["."] // matches nothing there
		expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
		expect(t, ask(r, "insecure.com.", dns.TypeMX), dnssec.Insecure, dns.RcodeSuccess)
		r.Anchors["example.com."] = u.Tree.DS("example.com.")
		r.Store.ForgetFailures()
		expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	})
	t.Run("unsupported alone", func(t *testing.T) { // T-15: the point decides, and counts as unsigned (V-40)
		r, u, _ := setup(t, nil)
		gost := &dns.DS{Hdr: dns.RR_Header{Name: "example.com."}, Algorithm: dns.ECCGOST, DigestType: dns.SHA256,
			Digest: strings.Repeat("00", 32)}
		r.Anchors["example.com."] = []*dns.DS{gost}
		for _, name := range []string{"mx.example.com.", "example.com."} {
			a := ask(r, name, dns.TypeA)
			expect(t, a, dnssec.Insecure, dns.RcodeSuccess)
			if len(a.Notes) != 1 || a.Notes[0].Code != dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm {
				t.Errorf("%s: %v", name, a.Notes)
			}
		}
		// what is below is asked on speculation
		for _, link := range []string{". DNSKEY", "com. DS", "com. DNSKEY", "example.com. DS"} {
			if slices.Contains(u.Asked(), link) {
				t.Errorf("%s was asked for", link)
			}
		}
		expect(t, ask(r, "com.", dns.TypeSOA), dnssec.Secure, dns.RcodeSuccess)
		if e := r.Explain(context.Background(), question("mx.example.com.", dns.TypeA)); len(e.Zones) != 1 ||
			e.Zones[0].Name != "example.com." {
			t.Errorf("the chain is %v", e.Zones)
		}
		if err := r.Prime(context.Background()); err != nil {
			t.Errorf("not primed: %v", err)
		}
		delete(r.Anchors, ".")
		if err := r.Prime(context.Background()); err != nil {
			t.Errorf("nothing needs to be validated: %v", err)
		}
		r.Anchors["."] = u.Tree.DS("com.") // matches nothing there
		r.Store.flush(".")
		if err := r.Prime(context.Background()); err == nil {
			t.Error("the root's anchor is wrong, and it was primed")
		}
		r.Anchors["."] = []*dns.DS{gost}
		r.Store.flush(".")
		expect(t, ask(r, "com.", dns.TypeSOA), dnssec.Bogus, dns.RcodeServerFailure)
	})
	t.Run("below an insecure delegation", func(t *testing.T) { // V-11
		r, u, _ := setup(t, nil)
		u.Tree.Plan("insecure.com.").Text += "alias CNAME mx.island.alias\n"
		u.Tree.Add(world.Domain("island.alias.insecure.com."))
		// so that the alias has been found Insecure before its target is judged
		u.Follow(u.FirstLinkOnly)
		r.Anchors["island.alias.insecure.com."] = r.Anchors["."] // matches nothing there
		expect(t, ask(r, "alias.insecure.com.", dns.TypeA), dnssec.Bogus, dns.RcodeServerFailure)
		r.Anchors["island.alias.insecure.com."] = u.Tree.DS("island.alias.insecure.com.")
		r.Store.ForgetFailures()
		expect(t, ask(r, "alias.insecure.com.", dns.TypeA), dnssec.Insecure, dns.RcodeSuccess)
		expect(t, ask(r, "mx.island.alias.insecure.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	})
	t.Run("one of two primed", func(t *testing.T) { // T-13
		r, _, _ := setup(t, nil)
		r.Anchors["example.com."] = r.Anchors["."] // matches nothing there
		if err := r.Prime(context.Background()); err != nil {
			t.Errorf("the root's anchor is good: %v", err)
		}
	})
	t.Run("primed when the network comes", func(t *testing.T) { // T-13
		r, u, now := setup(t, nil)
		u.Follow(func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
			return fetch.Reply{}, refusedByAll, true
		})
		if err := r.Prime(context.Background()); err == nil {
			t.Error("primed without an upstream")
		}
		u.Follow(nil)
		now.Advance(time.Second)
		if err := r.Prime(context.Background()); err != nil {
			t.Errorf("not primed a second later: %v", err)
		}
	})
	t.Run("primed", func(t *testing.T) {
		r, u, _ := setup(t, nil)
		if err := r.Prime(context.Background()); err != nil {
			t.Errorf("a good anchor fails: %v", err)
		}
		r, _, _ = setup(t, func(c *Config) { c.Anchors["."] = u.Tree.DS("com.") })
		if err := r.Prime(context.Background()); err == nil {
			t.Error("an anchor that matches nothing was primed")
		}
	})
}

// C-4: a Secure name error holds for all types of the name, one that is not for the type asked only.
func TestNameErrors(t *testing.T) {
	r, u, _ := setup(t, nil)
	expect(t, ask(r, "nothing.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	expect(t, ask(r, "nothing.insecure.com.", dns.TypeA), dnssec.Insecure, dns.RcodeNameError)
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "nothing.example.com.", dns.TypeTLSA), dnssec.Secure, dns.RcodeNameError)
	if len(u.Asked()) != 0 {
		t.Errorf("asked %v", u.Asked())
	}
	expect(t, ask(r, "nothing.insecure.com.", dns.TypeTLSA), dnssec.Insecure, dns.RcodeNameError)
	if len(u.Asked()) != 1 {
		t.Errorf("an insecure name error answered for another type")
	}
	expect(t, ask(r, "dangling.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	expect(t, ask(r, "dangling.example.com.", dns.TypeCNAME), dnssec.Secure, dns.RcodeSuccess)
}

// C-1, C-2: nothing is served past the end of a signature it rests on, and no TTL says otherwise.
func TestExpiration(t *testing.T) {
	r, u, now := setup(t, nil)
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	now.Advance(u.Tree.Plan(".").Config.Expiration.Sub(now.Now()) - 50*time.Second)
	r.Store = NewStore(1 << 20)
	a := ask(r, "example.com.", dns.TypeMX)
	expect(t, a, dnssec.Secure, dns.RcodeSuccess)
	if ttl := a.Answer[0].Header().Ttl; ttl > 50 {
		t.Errorf("TTL %d, 50 s before the signature expires", ttl)
	}
	now.Advance(51 * time.Second)
	a = ask(r, "example.com.", dns.TypeMX)
	expect(t, a, dnssec.Bogus, dns.RcodeServerFailure)
	if a.Notes[0].Code != dns.ExtendedErrorCodeSignatureExpired {
		t.Errorf("notes %s", notes(a))
	}
}

// A fixed validation time judges data of that time, while failures still end.
func TestValidationTime(t *testing.T) {
	r, u, now := setup(t, func(c *Config) {
		c.ValidationTime = c.Clock()
		start := c.Clock().AddDate(20, 0, 0)
		at := c.Clock
		c.Clock = func() time.Time { return at().Add(start.Sub(c.ValidationTime)) }
	})
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	if r.Cached(question("example.com.", dns.TypeMX)) == nil {
		t.Error("not cached")
	}
	u.Follow(func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
		return fetch.Reply{}, errors.New("down"), true
	})
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Indeterminate, dns.RcodeServerFailure)
	u.Follow(nil)
	now.Advance(networkLife)
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
}

// V-76, C-11: CD=1 gets what came, unvalidated, even when the failure is remembered; it poisons nothing.
func TestUnchecked(t *testing.T) {
	r, u, _ := setup(t, nil)
	q := question("stripped.com.", dns.TypeMX)
	for range 2 {
		a := r.Unchecked(context.Background(), q)
		expect(t, a, dnssec.Bogus, dns.RcodeServerFailure)
		if a.Unvalidated == nil || len(a.Unvalidated.Answer) == 0 {
			t.Fatal("no unvalidated reply")
		}
	}
	expect(t, r.Resolve(context.Background(), q), dnssec.Bogus, dns.RcodeServerFailure)
	u.Tree.Plan("stripped.com.").Fault = zones.Fault{}
	u.Tree.Publish()
	expect(t, r.Unchecked(context.Background(), q), dnssec.Secure, dns.RcodeSuccess)
	if f, ok := r.Store.failures.alive(q, r.now()); ok {
		t.Errorf("the failure outlives a success: %v", f.cause)
	}
}

// panicking is an exchanger with a fault in its code for MX.
type panicking struct{ fetch.Exchanger }

func (p panicking) Ask(q dns.Question, t fetch.Try, done func(fetch.Reply, error)) (cancel func()) {
	if q.Qtype == dns.TypeMX {
		panic("boom")
	}
	return p.Exchanger.Ask(q, t, done)
}

// S-27: a panic under one query is a SERVFAIL for that query only.
func TestPanic(t *testing.T) {
	r, _, _ := setup(t, func(c *Config) { c.Exchanger = panicking{c.Exchanger} })
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Indeterminate, dns.RcodeServerFailure)
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
}

// S-27: the same for a panic of the judge, over a record that is not of the type it says, in the answer and in a link.
func TestPanicOfTheJudge(t *testing.T) {
	for bad, q := range map[string]dns.Question{
		"alias.example.com. A": question("alias.example.com.", dns.TypeA),
		"insecure.com. DS":     question("mx.insecure.com.", dns.TypeA),
	} {
		meter := &limits{hits: map[string]int{}}
		r, u, _ := setup(t, func(c *Config) { c.Meter = meter })
		u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			if fetch.Describe(q) != bad {
				return fetch.Reply{}, nil, false
			}
			reply := u.Reply(q)
			for _, section := range [][]dns.RR{reply.Msg.Answer, reply.Msg.Ns} {
				for i, rr := range section {
					if h := rr.Header(); h.Rrtype == dns.TypeCNAME || h.Rrtype == dns.TypeSOA {
						section[i] = &dns.RFC3597{Hdr: *h, Rdata: "0000"}
					}
				}
			}
			return reply, nil, true
		})
		for name, a := range map[string]*Answer{"Resolve": r.Resolve(context.Background(), q),
			"Explain": r.Explain(context.Background(), q).Answer} {
			if a.Rcode != dns.RcodeServerFailure || !a.Notes[0].Limit() {
				t.Errorf("%s, %s: %v %s", bad, name, a.Status, notes(a))
			}
		}
		expect(t, ask(r, "deep.co.uk.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		if meter.hits["panic"] != 1 { // Explain's is nobody's query
			t.Errorf("%s: counted %v", bad, meter.hits)
		}
	}
}

// The chain is told from the root down.
func TestExplain(t *testing.T) {
	r, _, _ := setup(t, nil)
	for name, want := range map[string]string{
		"mx.example.com.":  ". Secure, com. Secure, example.com. Secure",
		"mx.insecure.com.": ". Secure, com. Secure, insecure.com. Insecure",
		"nokey.com.":       ". Secure, com. Secure, nokey.com. Bogus",
	} {
		var got []string
		for _, z := range r.Explain(context.Background(), question(name, dns.TypeA)).Zones {
			got = append(got, fmt.Sprintf("%s %v", z.Name, z.Status))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
}

// Close leaves nothing running, whatever is under way; many different questions at once are all answered.
func TestManyAndClose(t *testing.T) {
	before := runtime.NumGoroutine()
	r, u, _ := setup(t, nil)
	u.Follow(func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
		return fetch.Reply{}, errors.New("lost"), rand.IntN(3) == 0
	})
	names := []string{"example.com.", "insecure.com.", "mx.example.com.", "nothing.example.com.",
		"deep.co.uk.", "alias.example.com."}
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			a := ask(r, fmt.Sprintf("r%d.%s", rand.IntN(20), names[i%len(names)]), dns.TypeA)
			if a.Status == dnssec.Bogus {
				t.Errorf("lost packets made something Bogus: %s", notes(a))
			}
		})
	}
	all.Wait()
	r.Close()
	for tries := 0; runtime.NumGoroutine() > before && tries < 1000; tries++ {
		time.Sleep(5 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}
