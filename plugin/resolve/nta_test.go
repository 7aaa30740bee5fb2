package resolve

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

const strippedTLSA = "_25._tcp.mx.stripped.com."

// distrust sets negative trust anchors that last an hour.
func distrust(r *Resolver, now *world.Clock, zones ...string) {
	var all []chain.NegativeAnchor
	for _, zone := range zones {
		all = append(all, chain.NegativeAnchor{Zone: zone, Until: now.Now().Add(time.Hour), Reason: "told them"})
	}
	r.Distrust(all)
}

// distrusted checks that an answer is Insecure, and says why.
func distrusted(t *testing.T, a *Answer) {
	t.Helper()
	expect(t, a, dnssec.Insecure, dns.RcodeSuccess)
	const want = "stripped.com.: not validated, by a negative trust anchor until 2026-06-01 13:00 UTC: told them"
	if len(a.Notes) != 1 || a.Notes[0].Code != chain.CodeNTA || a.Notes[0].Text != want {
		t.Errorf("notes %s", notes(a))
	}
	if len(a.Answer) == 0 {
		t.Error("no data")
	}
}

// TestNegativeAnchor: a zone whose signatures are lost is answered, Insecure and with EDE 33, while a negative trust
// anchor lasts: the zone and all below it, at once, and not a moment longer (T-18, C-12).
func TestNegativeAnchor(t *testing.T) {
	r, _, now := setup(t, nil)
	mx := func() *Answer { return ask(r, "stripped.com.", dns.TypeMX) }
	tlsa := func() *Answer { return ask(r, strippedTLSA, dns.TypeTLSA) }
	expect(t, mx(), dnssec.Bogus, dns.RcodeServerFailure)
	expect(t, tlsa(), dnssec.Bogus, dns.RcodeServerFailure)
	distrust(r, now, "stripped.com.")
	distrusted(t, mx())
	distrusted(t, tlsa())
	if a := mx(); !a.Cached {
		t.Error("the answer is not cached")
	} else {
		distrusted(t, a)
	}
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	expect(t, ask(r, "stripped.com.", dns.TypeDS), dnssec.Secure, dns.RcodeSuccess) // that is the zone's above
	distrust(r, now)
	expect(t, mx(), dnssec.Bogus, dns.RcodeServerFailure)
	distrust(r, now, "stripped.com.")
	distrusted(t, tlsa())
	now.Advance(time.Hour - time.Second)
	distrusted(t, tlsa())
	now.Advance(time.Second)
	expect(t, tlsa(), dnssec.Bogus, dns.RcodeServerFailure)
	expect(t, mx(), dnssec.Bogus, dns.RcodeServerFailure)
}

// TestNegativeAnchorOfAHost: the signatures of the zone above a negative trust anchor that is no zone hold, but what is
// at or below it is Insecure all the same, denials too.
func TestNegativeAnchorOfAHost(t *testing.T) {
	r, _, now := setup(t, nil)
	distrust(r, now, "mx.example.com.")
	for _, tt := range []struct {
		name   string
		qtype  uint16
		status dnssec.Status
		rcode  int
	}{
		{"mx.example.com.", dns.TypeA, dnssec.Insecure, dns.RcodeSuccess},
		{"mx.example.com.", dns.TypeAAAA, dnssec.Insecure, dns.RcodeSuccess},
		{"_25._tcp.mx.example.com.", dns.TypeTLSA, dnssec.Insecure, dns.RcodeSuccess},
		{"_26._tcp.mx.example.com.", dns.TypeTLSA, dnssec.Insecure, dns.RcodeNameError},
		{"alias.example.com.", dns.TypeA, dnssec.Insecure, dns.RcodeSuccess},
		{"alias.example.com.", dns.TypeCNAME, dnssec.Secure, dns.RcodeSuccess},
		{"mx.example.com.", dns.TypeDS, dnssec.Secure, dns.RcodeSuccess},
		{"example.com.", dns.TypeMX, dnssec.Secure, dns.RcodeSuccess},
		{"xmx.example.com.", dns.TypeA, dnssec.Secure, dns.RcodeNameError},
	} {
		a := ask(r, tt.name, tt.qtype)
		if a.Status != tt.status || a.Rcode != tt.rcode {
			t.Errorf("%s %s: %v %s, want %v %s; %s", tt.name, dns.Type(tt.qtype), a.Status, dns.RcodeToString[a.Rcode],
				tt.status,
				dns.RcodeToString[tt.rcode], notes(a))
		}
		if under := len(a.Notes) == 1 &&
			a.Notes[0].Code == chain.CodeNTA; under != (tt.status == dnssec.Insecure) {
			t.Errorf("%s %s: notes %s", tt.name, dns.Type(tt.qtype), notes(a))
		}
	}
	distrust(r, now)
	expect(t, ask(r, "alias.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess) // cached under a name outside
}

// TestNegativeAnchorUnderNearer: a trust anchor below a negative one is nearer to its names and decides; one at the
// same name too, and that of the root always (T-18, V-12).
func TestNegativeAnchorUnderNearer(t *testing.T) {
	r, _, now := setup(t, func(c *Config) {
		tree := c.Exchanger.(*scripted.Upstream).Tree
		c.Anchors["stripped.com."], c.Anchors["example.com."] = tree.DS("stripped.com."), tree.DS("example.com.")
	})
	distrust(r, now, ".", "com.", "stripped.com.")
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	expect(t, ask(r, "stripped.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
	expect(t, ask(r, "nokey.com.", dns.TypeMX), dnssec.Insecure, dns.RcodeSuccess)
	expect(t, ask(r, "deep.co.uk.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
}

// TestNegativeAnchorAsksNoChain: below a negative trust anchor no DS and no DNSKEY is asked for: the servers of the
// zone may fail on those.
func TestNegativeAnchorAsksNoChain(t *testing.T) {
	r, u, now := setup(t, nil)
	distrust(r, now, "stripped.com.")
	distrusted(t, ask(r, "stripped.com.", dns.TypeMX))
	if asked := u.Asked(); len(asked) != 1 {
		t.Errorf("asked %v", asked)
	}
}

// TestNegativeAnchorInFlight: an answer that was on its way when a negative trust anchor came or went is for those who
// asked before: it is neither joined nor remembered.
func TestNegativeAnchorInFlight(t *testing.T) {
	r, u, now := setup(t, nil)
	for _, tt := range []struct {
		before, after []string
		status        dnssec.Status
	}{
		{nil, []string{"stripped.com."}, dnssec.Insecure},
		{[]string{"stripped.com."}, nil, dnssec.Bogus},
	} {
		distrust(r, now, tt.before...)
		r.Flush(".")
		held, gate := make(chan struct{}, 1), make(chan struct{})
		u.Follow(func(ctx context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			if q.Qtype == dns.TypeMX {
				select {
				case held <- struct{}{}:
				default:
				}
				<-gate
			}
			return fetch.Reply{}, nil, false
		})
		first, second := make(chan *Answer, 1), make(chan *Answer, 1)
		go func() { first <- ask(r, "stripped.com.", dns.TypeMX) }()
		<-held
		distrust(r, now, tt.after...)
		go func() { second <- ask(r, "stripped.com.", dns.TypeMX) }()
		for r.flights.count() == 0 {
			time.Sleep(time.Millisecond)
		}
		close(gate)
		if a := <-first; a.Status == tt.status {
			t.Errorf("%v: the first is %v", tt.after, a.Status)
		}
		if a := <-second; a.Status != tt.status {
			t.Errorf("%v: the second is %v", tt.after, a.Status)
		}
		if a := ask(r, "stripped.com.", dns.TypeMX); a.Status != tt.status {
			t.Errorf("%v: later it is %v", tt.after, a.Status)
		}
	}
}

// TestFailedInFlight: what was on its way when trust anchors came, failures or all names were forgotten, or another
// resolver took over, as after a reload, and fails then, is not remembered to have failed (C-11, C-12, T-13, T-14).
func TestFailedInFlight(t *testing.T) {
	for name, change := range map[string]func(r *Resolver) (after *Resolver){
		"trust anchors": func(r *Resolver) *Resolver {
			right := r.Trusted()["."][0]
			wrong := *right
			wrong.Digest = strings.Repeat("0", len(wrong.Digest))
			r.Trust(map[string][]*dns.DS{".": {right, &wrong}}, ".", dnssec.Sight{})
			return r
		},
		"failures forgotten": func(r *Resolver) *Resolver { r.Store.ForgetFailures(); return r },
		"flushed":            func(r *Resolver) *Resolver { r.Flush("example.com."); return r },
		"reloaded": func(r *Resolver) *Resolver {
			r.Store.ForgetFailures()
			after := New(r.Config)
			t.Cleanup(after.Close)
			return after
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, u, _ := setup(t, nil)
			held, gate := make(chan struct{}, 100), make(chan struct{})
			fails := func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
				held <- struct{}{}
				<-gate
				return fetch.Reply{}, &dnssec.Failure{Code: dns.ExtendedErrorCodeNoReachableAuthority}, true
			}
			u.Follow(fails)
			first := make(chan *Answer, 1)
			go func() { first <- ask(r, "example.com.", dns.TypeMX) }()
			<-held
			after := change(r)
			close(gate)
			expect(t, <-first, dnssec.Indeterminate, dns.RcodeServerFailure)
			quiet(t, r)
			u.Follow(nil)
			expect(t, ask(after, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		})
	}
}

// TestPrimedBefore: a daemon whose trust anchors are too old is right at once when others are imported, though what it
// looks at with the old ones fails only then (T-13).
func TestPrimedBefore(t *testing.T) {
	var right map[string][]*dns.DS
	r, u, _ := setup(t, func(c *Config) {
		right = c.Anchors
		wrong := *right["."][0]
		wrong.KeyTag ^= 1
		c.Anchors = map[string][]*dns.DS{".": {&wrong}}
	})
	held, gate := make(chan struct{}, 100), make(chan struct{})
	u.Follow(func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
		held <- struct{}{}
		<-gate
		return fetch.Reply{}, nil, false
	})
	primed := make(chan error, 1)
	go func() { primed <- r.Prime(t.Context()) }()
	<-held
	r.Trust(map[string][]*dns.DS{".": append(right["."], r.Trusted()["."]...)}, ".", dnssec.Sight{})
	close(gate)
	if err := <-primed; err == nil {
		t.Error("the old trust anchor matches")
	}
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
}

// TestRetest: what a negative trust anchor covers is tried as if there were none, and what comes is not remembered.
func TestRetest(t *testing.T) {
	r, u, now := setup(t, nil)
	distrust(r, now, "stripped.com.", "com.")
	distrusted(t, ask(r, "stripped.com.", dns.TypeMX))
	retest := func() *Answer { return r.Retest(context.Background(), question("Stripped.com.", dns.TypeMX)) }
	expect(t, retest(), dnssec.Bogus, dns.RcodeServerFailure)
	u.Tree.Plan("stripped.com.").Fault = zones.Fault{}
	u.Tree.Publish()
	now.Advance(time.Minute) // past what is remembered of failed links
	expect(t, retest(), dnssec.Secure, dns.RcodeSuccess)
	distrusted(t, ask(r, "stripped.com.", dns.TypeMX))
}

// TestFailed: the store remembers which questions below a zone failed.
func TestFailed(t *testing.T) {
	r, u, _ := setup(t, nil)
	expect(t, ask(r, "stripped.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
	expect(t, ask(r, strippedTLSA, dns.TypeTLSA), dnssec.Bogus, dns.RcodeServerFailure)
	expect(t, ask(r, "nokey.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
	u.Follow(func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
		return fetch.Reply{}, &dnssec.Failure{Code: dns.ExtendedErrorCodeNoReachableAuthority}, true
	})
	ask(r, "mx.stripped.com.", dns.TypeA)
	var got []string
	for _, q := range r.Store.Failed("stripped.com.", 10) {
		got = append(got, fetch.Describe(q))
	}
	// The second was asked for want of the first (D-17).
	if want := []string{strippedTLSA + " TLSA", "_tcp.mx.stripped.com. A", "mx.stripped.com. A",
		"stripped.com. MX"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := r.Store.Failed("stripped.com.", 1); len(got) != 1 {
		t.Errorf("at most one: %v", got)
	}
}

// TestFlush: a name and all below it are forgotten, answers, denials, zones and failures, and nothing else (C-12).
func TestFlush(t *testing.T) {
	r, u, _ := setup(t, nil)
	all := func() {
		expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		expect(t, ask(r, "nothing.example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeNameError)
		expect(t, ask(r, "deep.co.uk.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		expect(t, ask(r, "stripped.com.", dns.TypeMX), dnssec.Bogus, dns.RcodeServerFailure)
	}
	all()
	quiet(t, r)
	u.Forget()
	all()
	if n := len(u.Asked()); n > 0 {
		t.Fatalf("not cached: %v", u.Asked())
	}
	if n := r.Flush("Example.com."); n.Answers != 2 || n.Zones != 1 || n.Failures != 0 {
		t.Errorf("flushed %+v", n)
	}
	all()
	if u.Count("example.com. DNSKEY") == 0 || u.Count("example.com. MX") != 1 ||
		u.Count("nothing.example.com. MX") != 1 ||
		u.Count("*uk. *")+u.Count("*stripped.com. *") > 0 {
		t.Errorf("asked %v", u.Asked())
	}
	if n := r.Flush("com."); n.Answers != 2 || n.Failures == 0 {
		t.Errorf("flushed %+v", n)
	}
	quiet(t, r)
	u.Forget()
	all()
	if u.Count("stripped.com. MX") == 0 || u.Count("*uk. *") > 0 {
		t.Errorf("asked %v", u.Asked())
	}
	r.Flush(".")
	left := r.Store.Sizes() // signatures are of no name
	if left.Answers.Entries+left.Zones.Entries+left.Failures.Entries+left.Proofs.Entries > 0 {
		t.Errorf("left of the root: %+v", left)
	}
}

// TestDump: what is remembered of a subtree is told, with what is left of its life.
func TestDump(t *testing.T) {
	r, _, now := setup(t, nil)
	ask(r, "example.com.", dns.TypeMX)
	ask(r, "nothing.example.com.", dns.TypeMX)
	ask(r, "stripped.com.", dns.TypeMX)
	now.Advance(2 * time.Second)
	all, found := r.Dump("COM.", 10)
	if found != 3 || len(all) != 3 {
		t.Fatalf("%d of %d: %+v", len(all), found, all)
	}
	want := []Dumped{
		{Name: "example.com.", Type: "MX", Status: "Secure", Rcode: "NOERROR", TTL: 3598},
		{Name: "nothing.example.com.", Type: "", Status: "Secure", Rcode: "NXDOMAIN", TTL: 298},
		{Name: "stripped.com.", Type: "MX", Status: "Bogus", Rcode: "SERVFAIL", TTL: 3},
	}
	for i, d := range all {
		if d.Name != want[i].Name || d.Type != want[i].Type || d.Status != want[i].Status || d.Rcode != want[i].Rcode ||
			d.TTL != want[i].TTL ||
			(len(d.Records) == 0) != (d.Status == "Bogus") || (len(d.Notes) == 0) != (d.Status == "Secure") {
			t.Errorf("%+v, want %+v", d, want[i])
		}
	}
	if all, found := r.Dump("example.com.", 1); found != 2 || len(all) != 1 || all[0].Name != "example.com." {
		t.Errorf("%d: %+v", found, all)
	}
}

// TestNegativeAnchorWithProofsHeld: what is held of a zone, or of one above, proves nothing under a negative trust
// anchor, though it is Secure (C-9, C-17, D-17); and no denial is sought there.
func TestNegativeAnchorWithProofsHeld(t *testing.T) {
	for _, use := range []reuse.Use{reuse.Off, reuse.NSEC, reuse.All} {
		r, u, now := setup(t, func(c *Config) { c.Aggressive = use })
		expect(t, ask(r, "a.nothing.example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeNameError)
		expect(t, ask(r, "nothing.example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeNameError)
		for _, zone := range []string{"example.com.", "c.nothing.example.com."} {
			distrust(r, now, zone)
			if zone != "example.com." {
				// what it denies is held again
				expect(t, ask(r, "nothing.example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeNameError)
			}
			expect(t, ask(r, "c.nothing.example.com.", dns.TypeMX), dnssec.Insecure, dns.RcodeNameError)
			expect(t, ask(r, "b.c.nothing.example.com.", dns.TypeTLSA), dnssec.Insecure, dns.RcodeNameError)
			distrust(r, now)
			expect(t, ask(r, "c.nothing.example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeNameError)
		}
		distrust(r, now, "example.com.")
		quiet(t, r)
		u.Forget()
		u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			return fetch.Reply{}, &dnssec.Failure{Code: dns.ExtendedErrorCodeNoReachableAuthority},
				q.Qtype == dns.TypeTLSA
		})
		if a := ask(r, "_26._tcp.mx.example.com.", dns.TypeTLSA); a.Status > dnssec.Bogus ||
			u.Count("*_tcp.mx.example.com. A") > 0 {
			t.Errorf("the server fails on TLSA: %v, asked %v", a.Status, u.Asked())
		}
	}
}
