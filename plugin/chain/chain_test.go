package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

var question = dnssec.Question

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// nobody is an upstream that fails.
type nobody struct{}

func (nobody) Ask(_ dns.Question, _ fetch.Try, done func(fetch.Reply, error)) (cancel func()) {
	go done(fetch.Reply{}, errors.New("unreachable"))
	return func() {}
}

func (nobody) Fetch(fetch.Role, bool) {}

// setup returns a Chain behind upstreams that fail, at noon, and an account of the question for MX at example.com.
func setup(t *testing.T) (*Chain, *fetch.Account) {
	f := fetch.New(fetch.Config{
		Pause:     func() {},
		Exchanger: nobody{}, Meter: nobody{}, Room: fetch.NewRoom(1 << 30), Patience: 10 * time.Second, Questions: 100,
		Check: func() *dnssec.Check { return &dnssec.Check{Now: noon, SignatureChecks: 128} },
	})
	t.Cleanup(f.Close)
	now := func() time.Time { return noon }
	return New(Config{
		Fetcher: f, Store: NewStore(1 << 20), Policy: dnssec.DefaultPolicy(), Clock: now, Now: now,
		MaxTTL: 24 * time.Hour,
		Busy:   func() bool { return false }, Joined: func() {},
		Anchors: map[string][]*dns.DS{".": {{Algorithm: dns.ECDSAP256SHA256}}},
	}, nil), f.Open(question("example.com.", dns.TypeMX), f.NewBudget())
}

// secure is a place at which a Secure zone begins, with links for an hour.
func secure(name string) Cut {
	return Cut{&dnssec.Zone{Name: name, Status: dnssec.Secure, Until: noon.Add(time.Hour),
		Expires: noon.Add(2 * time.Hour)}}
}

// tooMany is the place of a name whose builder may ask no more.
func tooMany(name string) Failed {
	return broken(name, fetch.Limit(question("example.com.", dns.TypeMX), "upstream_questions", "too many"))
}

// L-13, L-6a: while one client query finds out the place of a name others wait, and take what it finds, but no limit of
// its own, nor that it found nothing newer than what it had: one of them takes over then.
func TestJoined(t *testing.T) {
	for _, tt := range []struct {
		outcome   Place
		takenOver bool
	}{{secure("com."), false}, {tooMany("com."), true}, {nil, true}} {
		synctest.Test(t, func(t *testing.T) {
			c, account := setup(t)
			defer c.Fetcher.Close()
			first, leads := c.building.join(buildKey{name: "com."})
			if !leads {
				t.Fatal("built by nobody, but not led")
			}
			built, got := 0, make(chan Place, 3)
			for range 3 {
				go func() {
					got <- c.NewWalk(account).joined(t.Context(), "com.", func() Place {
						built++
						return secure("com.")
					})
				}()
			}
			synctest.Wait()
			c.building.finish(buildKey{name: "com."}, first, tt.outcome)
			for range 3 {
				if _, ok := (<-got).(Cut); !ok {
					t.Errorf("%v: handed on", tt.outcome)
				}
			}
			if (built > 0) != tt.takenOver || len(c.building.calls) != 0 {
				t.Errorf("%v: built %d times", tt.outcome, built)
			}
		})
	}
}

// T-8: what a walk finds out that has begun with other trust anchors is not kept, and no walk of now waits for it.
func TestTrustedBefore(t *testing.T) {
	c, account := setup(t)
	defer c.Fetcher.Close()
	before := c.NewWalk(account)
	if before.learn("com.", secure("com.")); c.Store.place("com.", c.Now()) == nil {
		t.Error("what was learned is not kept")
	}
	if _, leads := c.building.join(before.buildKey("net.")); !leads {
		t.Fatal("built by nobody, but not led")
	}
	old := c.Trusted()["."]
	if c.Trust(map[string][]*dns.DS{".": {}}, dnssec.BogusZone(".", new(dnssec.Failure))) || len(old) == 0 {
		t.Error("all holds, and no trust anchor is left")
	}
	if before.learn("org.", secure("org.")); c.Store.place("org.", c.Now()) != nil {
		t.Error("what was learned by the trust anchors of before is kept")
	}
	now := c.NewWalk(account)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if p, ok := now.joined(ctx, "net.", func() Place { return secure("net.") }).(Cut); !ok {
		t.Errorf("it waited for who began before: %+v", p)
	}
	if now.learn("org.", secure("org.")); c.Store.place("org.", c.Now()) == nil {
		t.Error("what was learned by those of now is not kept")
	}
	if zone, ok := c.ground().anchor("com.", c.Now()); zone != "." || !ok { // T-9
		t.Errorf("a root without anchors covers nothing: %q %v", zone, ok)
	}
}

// S-27: a panic while a place is found out is that query's failure, and leaves nobody waiting.
func TestPanicFailsAlone(t *testing.T) {
	c, account := setup(t)
	w := c.NewWalk(account)
	p, _ := w.joined(t.Context(), "com.", func() Place { panic("fault") }).(Failed)
	if p.Zone == nil || !errors.Is(p.Zone.Cause, fetch.ErrPanic) || len(c.building.calls) != 0 {
		t.Errorf("%+v", p)
	}
}

// L-9: what is asked ahead, when nothing is known and when something is: two cuts deep below the deepest zone known,
// nothing below labels that begin with an underscore, in the reverse trees, in an unsigned zone, and in one that signs
// names below its apex itself.
func TestSpeculation(t *testing.T) {
	c, _ := setup(t)
	know := func(p Cut) { c.Store.learn(p.Zone.Name, p, noon, time.Hour) }
	check := func(name string, qtype uint16, want ...string) {
		t.Helper()
		var got []string
		links, _ := c.newView().linksTo(question(name, qtype))
		for _, q := range links {
			got = append(got, fetch.Describe(q))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s %s: asks %v ahead, want %v", name, dns.TypeToString[qtype], got, want)
		}
	}
	com := []string{". DNSKEY", "com. DS", "com. DNSKEY"}
	example := []string{"example.com. DS", "example.com. DNSKEY"}
	check("example.com.", dns.TypeMX, slices.Concat(com, example)...)
	check("a.b.c.example.com.", dns.TypeMX, slices.Concat(com, example)...)
	check("example.com.", dns.TypeDS, com...)
	check("_25._tcp.example.com.", dns.TypeTLSA, slices.Concat(com, example)...)
	check("4.3.2.1.in-addr.arpa.", dns.TypePTR)
	know(secure("."))
	know(secure("com."))
	check("_dmarc.example.com.", dns.TypeTXT, example...)
	know(Cut{&dnssec.Zone{Name: "insecure.com.", Status: dnssec.Insecure, Until: noon.Add(time.Hour)}})
	check("mx.insecure.com.", dns.TypeA)
	know(secure("example.com."))
	check("mx.example.com.", dns.TypeA, "mx.example.com. DS", "mx.example.com. DNSKEY")
	c.Store.noteAhead("example.com.", hopeless)
	check("other.example.com.", dns.TypeA)
}

// L-9: where no zone began for seven names in a row none is asked for ahead any more, until one begins; then half of
// that is enough. So it is after the zone's own links were fetched anew.
func TestSpeculationInVain(t *testing.T) {
	c, account := setup(t)
	for _, zone := range []string{".", "com."} {
		c.Store.learn(zone, secure(zone), noon, time.Hour)
	}
	// resolves reports whether links of a name were worth asking for, and has a zone begin there or not.
	resolves := func(name string, cut bool) (ahead bool) {
		w := c.NewWalk(account)
		q := question(name, dns.TypeMX)
		links, _ := w.linksTo(q)
		guess := w.Ahead(q)
		if cut {
			w.learn(name, secure(name))
		}
		guess.Note()
		guess.Note()
		return len(links) > 0
	}
	names := 0
	vain := func(most int) {
		t.Helper()
		for i := range most + 3 {
			names++
			if got := resolves(fmt.Sprintf("n%d.com.", names), false); got != (i < most) {
				t.Errorf("name %d of %d in vain: asked ahead %v", i, most, got)
			}
		}
	}
	vain(7)
	c.Store.learn("com.", secure("com."), noon, 2*time.Hour)
	vain(0)
	if resolves("first.com.", true) {
		t.Error("asked ahead before a zone began")
	}
	vain(4)
	for _, name := range []string{"second.com.", "third.com.", "fourth.com."} {
		resolves(name, true)
	}
	vain(7)
	if !resolves("name.net.", false) {
		t.Error("not asked ahead below another zone")
	}
}

// L-7: the judge has a zone that is known without a walk, for which it would need a second turn; any other it has to
// name.
func TestKnownZones(t *testing.T) {
	c, account := setup(t)
	for _, p := range []Place{secure("."), secure("com."), secure("example.com."),
		Cut{&dnssec.Zone{Name: "insecure.com.", Status: dnssec.Insecure, Until: noon.Add(time.Hour)}}} {
		c.Store.learn(p.(Cut).Zone.Name, p, noon, time.Hour)
	}
	c.Store.learn("mx.example.com.", Within{Zone: "example.com.", end: noon.Add(time.Hour)}, noon, time.Hour)
	w := c.NewWalk(account)
	for name, want := range map[string]string{
		"com.": "com.", "example.com.": "example.com.", "mx.example.com.": "example.com.",
		"a.b.insecure.com.": "insecure.com.", "other.example.com.": "", "example.net.": "",
	} {
		zone := w.At(name)
		if got := ""; zone != nil {
			got = zone.Name
			if w.found.at(name) != zone {
				t.Errorf("%s: the answer rests on %s, which is not among what the walk has found", name, got)
			}
			if got != want {
				t.Errorf("%s lies in %q, want %q", name, got, want)
			}
		} else if want != "" {
			t.Errorf("%s: to be walked to, want %q", name, want)
		}
	}
}

// C-11, L-6a: a link that could not be had is remembered for a second, by those who have time left; a limit is not
// remembered.
func TestFailedLinks(t *testing.T) {
	c, account := setup(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	c.NewWalk(account).findPlace(over, secure(".").Zone, "com.")
	if p := c.Store.place("com.", noon); p != nil {
		t.Errorf("remembered by whose time is over: %+v", p)
	}
	p, _ := c.NewWalk(account).findPlace(t.Context(), secure(".").Zone, "com.").(Failed)
	if p.Zone == nil || p.Zone.Status != dnssec.Indeterminate || p.Zone.Cause.Kind != dnssec.OfMissingLink ||
		p.Zone.Cause.Anchor {
		t.Fatalf("%+v", p)
	}
	anchor, _ := c.NewWalk(account).findPlace(t.Context(), nil, ".").(Failed)
	if anchor.Zone == nil || !anchor.Zone.Cause.Anchor {
		t.Fatalf("at the anchor: %+v", anchor)
	}
	if _, ok := c.Store.place("com.", noon.Add(time.Second-1)).(Failed); !ok {
		t.Error("not remembered for a second")
	}
	if p := c.Store.place("com.", noon.Add(time.Second)); p != nil {
		t.Errorf("remembered for longer: %+v", p)
	}
	c.Store.ForgetFailures()
	if p := c.Store.place("com.", noon); p != nil {
		t.Errorf("remembered though forgotten: %+v", p)
	}
}

// T-14, T-13, C-12: what fails of a walk that began before other trust anchors came, or before failures or all that is
// known were forgotten, is not remembered; what fails of one that begins then is, whatever fails of the other after it.
func TestFailedBefore(t *testing.T) {
	for name, change := range map[string]func(*Chain){
		"other trust anchors": func(c *Chain) {
			c.Trust(map[string][]*dns.DS{".": {c.Trusted()["."][0], {Algorithm: dns.ED25519}}}, secure(".").Zone)
		},
		"failures forgotten": func(c *Chain) { c.Store.ForgetFailures() },
		"all forgotten":      (*Chain).Restart,
	} {
		t.Run(name, func(t *testing.T) {
			c, account := setup(t)
			fail := func(w *Walk) Place {
				w.findPlace(t.Context(), secure(".").Zone, "com.")
				return c.Store.place("com.", noon)
			}
			before := c.NewWalk(account)
			change(c)
			if p := fail(before); p != nil {
				t.Errorf("remembered: %+v", p)
			}
			if _, ok := fail(c.NewWalk(account)).(Failed); !ok {
				t.Error("what failed since is not")
			}
			before.findPlace(t.Context(), nil, ".")
			if _, ok := fail(before).(Failed); !ok || c.Store.place(".", noon) != nil {
				t.Error("who began before has changed what is known")
			}
		})
	}
}

// C-12, T-8: while somebody keeps what he has found no other generation begins, so that what is to be forgotten then is
// there.
func TestKeepingIsAwaited(t *testing.T) {
	c, account := setup(t)
	w, next := c.NewWalk(account), make(chan struct{})
	if !w.Keep(func() {
		go func() { c.Restart(); close(next) }()
		select {
		case <-next:
			t.Error("another generation has begun meanwhile")
		case <-time.After(20 * time.Millisecond):
		}
	}) {
		t.Error("not kept")
	}
	<-next
	if w.Keep(func() { t.Error("something is kept") }) {
		t.Error("who began before keeps what he has found")
	}
}

// C-8: what failed replaces nothing that was proven and holds.
func TestFailureReplacesNothing(t *testing.T) {
	s := NewStore(1 << 20)
	s.learn("com.", secure("com."), noon, 24*time.Hour)
	s.fail("com.", tooMany("com."), noon, s.Epoch())
	if _, ok := s.place("com.", noon).(Cut); !ok {
		t.Error("what was proven is lost")
	}
	later := noon.Add(time.Hour)
	s.fail("com.", tooMany("com."), later, s.Epoch())
	if _, ok := s.place("com.", later).(Failed); !ok {
		t.Error("what has ended is not replaced")
	}
	if places, failures := s.Flush("com."); places != 0 || failures != 1 {
		t.Errorf("flushed %d and %d failures", places, failures)
	}
}

// T-18, S-21: a negative trust anchor at a zone that is not validated is without effect, at the beginning and later.
func TestNegativeAnchorOfPrivateZone(t *testing.T) {
	c, _ := setup(t)
	c.Unvalidated = []string{"corp."}
	anchors := []NegativeAnchor{{Zone: "corp.", Until: noon.Add(time.Hour)}}
	for _, c := range []*Chain{New(c.Config, nil), New(c.Config, anchors)} {
		zones, elsewhere := c.Distrust(anchors)
		z := c.Known("host.corp.")
		if len(zones) > 0 || elsewhere || z.Status != dnssec.Insecure || z.Cause != nil ||
			z.Until.Before(noon.Add(2*time.Hour)) {
			t.Errorf("%v, %v: %+v", zones, elsewhere, z)
		}
	}
}

// C-16, C-2, C-5, C-18: places end with their links, with a signature that they rest on, and after the longest time
// that is allowed, and do not hold before they were learned.
func TestPlacesEnd(t *testing.T) {
	hour := time.Hour
	short := secure("com.")
	short.Zone.Expires = noon.Add(time.Minute)
	for title, tt := range map[string]struct {
		place Place
		most  time.Duration
		ends  time.Duration
	}{
		"cut":                 {secure("com."), 24 * hour, hour},
		"cut, at most":        {secure("com."), time.Minute, time.Minute},
		"cut, its signatures": {short, 24 * hour, time.Minute + 1},
		"within":              {Within{Zone: ".", end: noon.Add(hour)}, 24 * hour, hour},
	} {
		s := NewStore(1 << 20)
		s.learn("com.", tt.place, noon, tt.most)
		for at, want := range map[time.Duration]bool{-time.Second: false, 0: true, tt.ends - 1: true, tt.ends: false} {
			if got := s.place("com.", noon.Add(at)) != nil; got != want {
				t.Errorf("%s: after %v %v", title, at, got)
			}
		}
	}
}

// V-14: links are fetched past the store once in 30 s, which do not depend on a clock that is set back. Nothing is
// refreshed of which nothing is known.
func TestMayRefresh(t *testing.T) {
	s := NewStore(1 << 20)
	if s.mayRefresh("com.", noon) {
		t.Error("of a name of which nothing is known")
	}
	s.learn("com.", secure("com."), noon, time.Hour)
	for _, step := range []struct {
		at   time.Duration
		want bool
	}{{0, true}, {29 * time.Second, false}, {30 * time.Second, true}, {-time.Hour, true}} {
		if got := s.mayRefresh("com.", noon.Add(step.at)); got != step.want {
			t.Errorf("at %v: %v", step.at, got)
		}
	}
}

// C-14: one renews the links of a zone, and nobody does again while they live no longer for that.
func TestClaim(t *testing.T) {
	s := NewStore(1 << 20)
	s.learn("com.", secure("com."), noon, 24*time.Hour)
	if !s.claim("com.") || s.claim("com.") {
		t.Error("not claimed once")
	}
	s.learn("com.", secure("com."), noon, 24*time.Hour)
	if s.claim("com.") {
		t.Error("claimed again, though nothing lives longer")
	}
	longer := secure("com.")
	longer.Zone.Until = noon.Add(2 * time.Hour)
	s.learn("com.", longer, noon, 24*time.Hour)
	if !s.claim("com.") {
		t.Error("not claimed again")
	}
}

// C-14: signatures that end within half of the TTL are reason enough, short TTLs are not.
func TestEndsSoon(t *testing.T) {
	start := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		age, life, expires time.Duration // expires 0: never
		want               bool
	}{
		{0, 100 * time.Second, 0, false},
		{89 * time.Second, 100 * time.Second, 0, false},
		{90 * time.Second, 100 * time.Second, 0, true},
		{9 * time.Second, 10 * time.Second, 0, true},
		{8500 * time.Millisecond, 9 * time.Second, 0, false},
		{50 * time.Second, 100 * time.Second, 100 * time.Second, false},
		{51 * time.Second, 100 * time.Second, 100 * time.Second, true},
		{51 * time.Second, 100 * time.Second, 1000 * time.Second, false},
	} {
		var expires time.Time
		if tt.expires != 0 {
			expires = start.Add(tt.expires)
		}
		if got := EndsSoon(start.Add(tt.age), start, tt.life, expires); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

func TestWithoutUnderscore(t *testing.T) {
	for name, want := range map[string]string{
		"_25._tcp.mx.example.com.": "mx.example.com.", "mx.example.com.": "mx.example.com.",
		"a._domainkey.example.com.": "example.com.", ".": ".", "_tcp.": ".", "_a.b._c.d.": "d.",
	} {
		if got := withoutUnderscore(name); got != want {
			t.Errorf("withoutUnderscore(%s) = %s, want %s", name, got, want)
		}
	}
}
