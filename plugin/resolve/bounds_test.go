package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/zones"
)

// eventually waits until ok holds, however slow the machine is.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 20000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("never: " + what)
}

// hold makes the upstream keep all questions back until they are released or given up; it counts those outstanding.
func hold(u *scripted.Upstream) (outstanding *atomic.Int64, release func()) {
	outstanding = new(atomic.Int64)
	gate := make(chan struct{})
	u.Follow(func(ctx context.Context, _ dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		outstanding.Add(1)
		defer outstanding.Add(-1)
		select {
		case <-gate:
			return fetch.Reply{}, nil, false
		case <-ctx.Done():
			return fetch.Reply{}, ctx.Err(), true
		}
	})
	return outstanding, sync.OnceFunc(func() { close(gate) })
}

// L-9: however many client queries there are, no more than 64 questions are in flight on speculation.
func TestSpeculationIsBounded(t *testing.T) {
	const clients = 200
	r, u, _ := setup(t, nil)
	_, release := hold(u)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			if a := ask(r, fmt.Sprintf("a.tld%d.", i), dns.TypeA); a.Rcode != dns.RcodeNameError {
				t.Errorf("%v %s", a.Status, notes(a))
			}
		})
	}
	eventually(t, "all answers asked for", func() bool { return u.Count("* A") == clients })
	links := func() int { return u.Count("* DS") + u.Count("* DNSKEY") }
	eventually(t, "speculation", func() bool { return links() == 64 })
	time.Sleep(10 * time.Millisecond)
	if n := links(); n != 64 {
		t.Errorf("%d links asked for ahead, at most 64 allowed", n)
	}
	release()
	all.Wait()
}

// L-9: what the zones of a long alias chain make it ask ahead is bounded for the whole client query, and asked once.
func TestSpeculationOfOneQuery(t *testing.T) {
	roles := &roles{asked: map[fetch.Role]int{}}
	r, u, _ := setup(t, func(c *Config) { c.Meter = roles })
	aliasZones(u.Tree, 11)
	expect(t, ask(r, "link.z0.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	r.Close()
	if n := roles.asked[fetch.RoleWarm]; n != 6 {
		t.Errorf("%d links asked for ahead, want %d: %v", n, 6, u.Asked())
	}
	if all := u.Asked(); len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Errorf("asked twice: %v", all)
	}
}

// roles counts questions to upstreams by what they are for.
type roles struct {
	noMeter
	mu    sync.Mutex
	asked map[fetch.Role]int
}

func (r *roles) Fetch(role fetch.Role, _ bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[role]++
}

// L-9: speculation ends while the table of client questions is half full.
func TestNoSpeculationUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, _ := setup(t, func(c *Config) { c.InFlight = 2 })
		_, release := hold(u)
		defer r.Close()
		defer release()
		go ask(r, "example.com.", dns.TypeMX)
		synctest.Wait() // until all is asked that is to be
		if got := u.Asked(); len(got) != 1 {
			t.Errorf("asked %v with one of two places taken", got)
		}
	})
}

// L-9: speculation never goes to or below a label that begins with an underscore, whatever the hints.
func TestNoSpeculationBelowUnderscore(t *testing.T) {
	r, u, _ := setup(t, nil)
	for _, name := range []string{"_25._tcp.mx.example.com.", "x._domainkey.example.com.", "_dmarc.com.", "_tcp."} {
		ask(r, name, dns.TypeTXT)
	}
	for _, q := range u.Asked() {
		if strings.HasPrefix(q, "_") && !strings.HasSuffix(q, " TXT") ||
			strings.Contains(q, "._") && !strings.HasSuffix(q, " TXT") {
			t.Errorf("asked %s", q)
		}
	}
}

// L-9: a flood of names that are made up costs one question each, soon: where no zone begins below another, none is
// asked for ahead, be the names denied, be it with opt-out, or a wildcard's.
func TestSpeculationInVain(t *testing.T) {
	const names = 20
	for flood, world := range map[string]struct {
		zone, below string
		config      zones.Config // of com.
		status      dnssec.Status
		most        int // names whose links are asked for in vain
	}{
		"NSEC":    {"com.", "com.", zones.Config{}, dnssec.Secure, 7},
		"NSEC3":   {"com.", "com.", zones.Config{NSEC3: &zones.NSEC3{}}, dnssec.Secure, 7},
		"opt-out": {"com.", "com.", zones.Config{NSEC3: &zones.NSEC3{OptOut: true}}, dnssec.Insecure, 7},
		// which shows that its zone signs names below itself
		"a wildcard": {"example.com.", "wild.example.com.", zones.Config{}, dnssec.Secure, 1},
	} {
		t.Run(flood, func(t *testing.T) {
			r, u, _ := setup(t, nil)
			u.Tree.Plan("example.com.").Text += "\n*.wild A 192.0.2.9"
			u.Tree.Plan("com.").Config = world.config
			u.Tree.Publish()
			expect(t, ask(r, world.zone, dns.TypeSOA), dnssec.Secure, dns.RcodeSuccess)
			for i := range names {
				if a := ask(r, fmt.Sprintf("n%d.%s", i, world.below), dns.TypeA); a.Status != world.status {
					t.Fatalf("%v %s", a.Status, notes(a))
				}
			}
			quiet(t, r)
			ahead := slices.DeleteFunc(u.Asked(), func(q string) bool {
				return !strings.HasPrefix(q, "n") || !strings.HasSuffix(q, " DS")
			})
			if len(ahead) != world.most {
				t.Errorf("asked for ahead: %v, want %d", ahead, world.most)
			}
		})
	}
}

// L-6a: a flight that ran out of time is begun anew for a client who joined it late and has time left.
func TestLateFlightIsTakenOver(t *testing.T) {
	r, _, _ := setup(t, nil)
	q := question("example.com.", dns.TypeMX)
	first, leads, _ := r.flights.join(keyOf(q), "", noZone)
	if !leads {
		t.Fatal("there was a flight already")
	}
	answers := make(chan *Answer)
	const clients = 3
	for range clients {
		go func() { answers <- r.Resolve(context.Background(), q) }()
	}
	eventually(t, "all have joined", func() bool { return r.flights.waitingFor(keyOf(q)) == 1+clients })
	r.flights.remove(first)
	first.finish(first.overdue(q, r.Timeout))
	for range clients {
		expect(t, <-answers, dnssec.Secure, dns.RcodeSuccess)
	}
}

// C-11: a question that no upstream replies to is a failure of theirs, remembered for 5 s, once the work on it ends,
// and those who wait for it by then are told; before, each who asks waits for a reply as long as he may.
func TestSilenceIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, now := setup(t, nil)
		hold(u)
		q := question("mx.example.com.", dns.TypeA)
		for i, want := range []struct {
			waits  time.Duration
			limit  bool
			cached bool
		}{
			{4500 * time.Millisecond, true, false},
			{4500 * time.Millisecond, true, false},
			{time.Second, false, false},
			{0, false, true},
		} {
			begun := time.Now()
			a := r.Resolve(context.Background(), q)
			waited := time.Since(begun)
			if waited != want.waits || a.Notes[0].Limit() != want.limit || a.Cached != want.cached ||
				a.Notes[0].Code != 22 {
				t.Errorf("question %d: after %v cached %v, %s; want %+v", i, waited, a.Cached, notes(a), want)
			}
		}
		if n := u.Count(fetch.Describe(q)); n != 1 {
			t.Errorf("asked %d times", n)
		}
		now.Advance(5 * time.Second)
		if a := r.Resolve(context.Background(), q); a.Cached || u.Count(fetch.Describe(q)) != 2 {
			t.Errorf("after 5 s: cached %v, asked %d times", a.Cached, u.Count(fetch.Describe(q)))
		}
		r.Close()
	})
}

// C-11, L-6a: where replies come, but the last is asked for so late that time is over before it can be there, that is
// no failure of the upstreams.
func TestLateIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, _ := setup(t, nil)
		u.Follow(func(ctx context.Context, q dns.Question, n fetch.Try) (fetch.Reply, error, bool) {
			if q.Name == "alias.example.com." && q.Qtype == dns.TypeA {
				time.Sleep(7 * time.Second)
				return u.FirstLinkOnly(ctx, q, n)
			}
			if q.Name == "mx.example.com." {
				<-ctx.Done()
				return fetch.Reply{}, ctx.Err(), true
			}
			return fetch.Reply{}, nil, false
		})
		for range 2 {
			expect(t, ask(r, "alias.example.com.", dns.TypeA), dnssec.Indeterminate, dns.RcodeServerFailure)
		}
		if a := ask(r, "alias.example.com.", dns.TypeA); a.Cached || !a.Notes[0].Limit() {
			t.Errorf("cached %v, %s", a.Cached, notes(a))
		}
		r.Close()
	})
}

// L-6a: whose time is over while a link is awaited in vain remembers nothing of it: the next client asks for it.
func TestNothingIsRememberedOfALinkInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, _ := setup(t, nil)
		silent := true
		u.Follow(func(ctx context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			if silent && q.Name == "com." {
				<-ctx.Done()
				return fetch.Reply{}, ctx.Err(), true
			}
			return fetch.Reply{}, nil, false
		})
		expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Indeterminate, dns.RcodeServerFailure)
		time.Sleep(background - r.Timeout)
		synctest.Wait() // its time is over, and com. has been awaited for all of it
		silent = false
		expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
		r.Close()
	})
}

// L-13: work that goes on after its client was told SERVFAIL holds no slot.
func TestBackgroundHoldsNoSlot(t *testing.T) {
	r, u, _ := setup(t, func(c *Config) { c.InFlight = 8 })
	_, release := hold(u)
	defer release()
	r.Timeout = time.Millisecond
	for _, name := range []string{"a.example.com.", "b.example.com."} {
		expect(t, ask(r, name, dns.TypeA), dnssec.Indeterminate, dns.RcodeServerFailure)
	}
	eventually(t, "no slot is held, and both go on", func() bool {
		r.flights.mu.Lock()
		defer r.flights.mu.Unlock()
		return r.flights.running+r.flights.yielding.Len() == 0 && r.flights.count() == 2
	})
}

// L-15: what replies took is given back, whatever they were asked for.
func TestRoomIsGivenBack(t *testing.T) {
	const all = 64 << 20
	for what, do := range map[string]func(ctx context.Context, r *Resolver, q dns.Question){
		"a client":    func(ctx context.Context, r *Resolver, q dns.Question) { r.Resolve(ctx, q) },
		"a chain":     func(ctx context.Context, r *Resolver, q dns.Question) { r.Explain(ctx, q) },
		"a retest":    func(ctx context.Context, r *Resolver, q dns.Question) { r.Retest(ctx, q) },
		"the anchors": func(ctx context.Context, r *Resolver, _ dns.Question) { _ = r.Prime(ctx) },
		"their keys":  func(ctx context.Context, r *Resolver, _ dns.Question) { r.Sight(ctx, ".") },
	} {
		room := fetch.NewRoom(all)
		r, u, _ := setup(t, func(c *Config) { c.Room = room })
		do(t.Context(), r, question("example.com.", dns.TypeMX))
		r.Close()
		if len(u.Asked()) == 0 {
			t.Errorf("%s: nothing was asked", what)
		}
		if !room.Take(all, true) {
			t.Errorf("%s: something is kept", what)
		}
	}
}

// L-13: whoever joins a question later has it hold its slot no longer than its first client does.
func TestLateClientHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, _ := setup(t, nil)
		_, release := hold(u)
		defer r.Close()
		defer release()
		answers := make(chan *Answer, 2)
		for range 2 {
			go func() { answers <- ask(r, "a.example.com.", dns.TypeA) }()
			time.Sleep(r.Timeout / 2)
		}
		expect(t, <-answers, dnssec.Indeterminate, dns.RcodeServerFailure)
		synctest.Wait()
		r.flights.mu.Lock()
		if held := r.flights.running + r.flights.yielding.Len(); held != 0 || r.flights.count() != 1 {
			t.Errorf("%d slots are held for %d questions", held, r.flights.count())
		}
		r.flights.mu.Unlock()
		expect(t, <-answers, dnssec.Indeterminate, dns.RcodeServerFailure)
	})
}

// L-13: a client that has gone waits no longer, and its question holds no slot.
func TestGoneClientHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, _ := setup(t, nil)
		_, release := hold(u)
		defer r.Close()
		defer release()
		ctx, gone := context.WithCancel(t.Context())
		answers := make(chan *Answer, 1)
		begun := time.Now()
		q := dnssec.Question("a.example.com.", dns.TypeA)
		if !(Memory{r}).Later(ctx, q, "", func(a *Answer) { answers <- a }) {
			t.Fatal("it is not asked")
		}
		synctest.Wait()
		gone()
		expect(t, <-answers, dnssec.Indeterminate, dns.RcodeServerFailure)
		if took := time.Since(begun); took > 0 {
			t.Errorf("it has waited for %v", took)
		}
		r.flights.mu.Lock()
		defer r.flights.mu.Unlock()
		if held := r.flights.running + r.flights.yielding.Len(); held != 0 {
			t.Errorf("%d slots are held", held)
		}
	})
}

// L-13, L-15: what a question displaced by a newer one has asked ends with it; what others have joined goes on.
func TestDisplacedQuestionsLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, _ := setup(t, func(c *Config) { c.InFlight = 4 })
		outstanding, release := hold(u)
		defer r.Close()
		defer release()
		answers := make(chan *Answer, 5)
		begin := func(i int) {
			go func() { answers <- ask(r, fmt.Sprintf("n%d.example.com.", i), dns.TypeA) }()
			synctest.Wait() // until all is asked that is to be, ahead as well
		}
		for i := range 4 {
			begin(i)
		}
		before := outstanding.Load()
		r.flights.mu.Lock()
		for e := r.flights.yielding.Front(); e != nil; e = e.Next() {
			e.Value.(*flight).began = time.Now().Add(-time.Second)
		}
		r.flights.mu.Unlock()
		begin(4)
		a := <-answers
		if !errors.Is(a.Notes[0], errYielded) {
			t.Fatalf("%v %s", a.Status, notes(a))
		}
		if now := outstanding.Load(); now != before {
			t.Errorf("%d questions are outstanding, %d were before: %v", now, before, u.Asked())
		}
		release()
		for range 4 {
			expect(t, <-answers, dnssec.Secure, dns.RcodeNameError)
		}
		r.Close()
		if f, ok := r.Store.failures.alive(question("n2.example.com.", dns.TypeA), r.now()); ok {
			t.Errorf("it is remembered that there was no room: %v", f.cause)
		}
	})
}

// limits is a Meter that counts limits, and what was joined.
type limits struct {
	noMeter
	mu     sync.Mutex
	hits   map[string]int
	joined atomic.Int64
}

func (l *limits) Joined() { l.joined.Add(1) }

func (l *limits) Limit(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hits[name]++
}

// L-16, L-12: every limit is counted once under its name, is SERVFAIL and says so; nothing of it is kept for more than
// a second.
func TestLimitsAreCounted(t *testing.T) {
	for name, world := range map[string]func(t *testing.T, r *Resolver, u *scripted.Upstream){
		"signature_checks":   func(_ *testing.T, r *Resolver, _ *scripted.Upstream) { r.SignatureChecks = 1 },
		"upstream_questions": func(_ *testing.T, r *Resolver, _ *scripted.Upstream) { r.fetcher.Questions = 2 },
		"response_octets": func(_ *testing.T, _ *Resolver, u *scripted.Upstream) {
			u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
				reply := u.Reply(q)
				reply.Size = (256<<10)/2 + 1
				return reply, nil, true
			})
		},
		"deadline": func(t *testing.T, r *Resolver, u *scripted.Upstream) {
			_, release := hold(u)
			t.Cleanup(release)
			r.Timeout = time.Millisecond
		},
		"in_flight": func(t *testing.T, r *Resolver, _ *scripted.Upstream) {
			r.flights = newTable(1, 1)
			for _, key := range []string{"a", "b"} {
				f, _, _ := r.flights.join(named(key), "", noZone)
				f.began = time.Now().Add(time.Hour)
			}
		},
		"waiting": func(_ *testing.T, r *Resolver, _ *scripted.Upstream) {
			r.flights = newTable(10, 1)
			r.flights.join(keyOf(question("link.z0.com.", dns.TypeA)), "", noZone)
		},
		"aliases": func(t *testing.T, _ *Resolver, u *scripted.Upstream) { aliasZones(u.Tree, 13) },
	} {
		t.Run(name, func(t *testing.T) {
			meter := &limits{hits: map[string]int{}}
			r, u, now := setup(t, func(c *Config) { c.Meter = meter })
			aliasZones(u.Tree, 2)
			world(t, r, u)
			a := ask(r, "link.z0.com.", dns.TypeA)
			expect(t, a, dnssec.Indeterminate, dns.RcodeServerFailure)
			if !a.Notes[0].Limit() || a.Notes[0].Text == "" {
				t.Errorf("notes %s", notes(a))
			}
			meter.mu.Lock()
			defer meter.mu.Unlock()
			if meter.hits[name] != 1 || len(meter.hits) != 1 {
				t.Errorf("counted %v", meter.hits)
			}
			if _, ok := r.Store.failures.alive(question("link.z0.com.", dns.TypeA), now.Now().Add(limitLife)); ok {
				t.Error("remembered for more than a second")
			}
		})
	}
}

// L-9: a cold chain of three zones takes six questions; with one less it fails, asked ahead or not.
func TestUpstreamQuestionsAreCounted(t *testing.T) {
	for _, inFlight := range []int{0, 2} { // 2: nothing is asked ahead
		for questions, want := range map[int]dnssec.Status{6: dnssec.Secure, 5: dnssec.Indeterminate} {
			r, _, _ := setup(t, func(c *Config) { c.UpstreamQuestions, c.InFlight = questions, inFlight })
			if a := ask(r, "example.com.", dns.TypeMX); a.Status != want {
				t.Errorf("%d questions allowed, %d in flight: %v, want %v; %s", questions, inFlight, a.Status,
					want, notes(a))
			}
		}
	}
}

// S-27: a resolver may be closed while it is asked, and asked when it is closed: that is SERVFAIL at once.
func TestClosed(t *testing.T) {
	r, _, _ := setup(t, nil)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() { ask(r, fmt.Sprintf("n%d.example.com.", i), dns.TypeA) })
		if i == 25 {
			all.Go(r.Close)
		}
	}
	all.Wait()
	a := ask(r, "example.com.", dns.TypeMX)
	expect(t, a, dnssec.Indeterminate, dns.RcodeServerFailure)
	if n := r.flights.count(); n != 0 {
		t.Errorf("%d flights are left", n)
	}
}

// A client that leaves early costs nobody the answer: the work goes on and fills the cache.
func TestClientLeaves(t *testing.T) {
	r, u, _ := setup(t, nil)
	outstanding, release := hold(u)
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan *Answer)
	q := question("example.com.", dns.TypeMX)
	go func() { gone <- r.Resolve(ctx, q) }()
	eventually(t, "it is asked", func() bool { return outstanding.Load() > 0 })
	stays := make(chan *Answer)
	go func() { stays <- r.Resolve(context.Background(), q) }()
	cancel()
	<-gone
	release()
	expect(t, <-stays, dnssec.Secure, dns.RcodeSuccess)
	if r.Cached(q) == nil {
		t.Error("not cached")
	}
}

// L-13, L-10: what nobody waits for any more, as all of its clients have gone, holds no slot: it is a luxury, and ends
// when half of the table is taken. A client that still waits keeps it.
func TestClientsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, _ := setup(t, func(c *Config) { c.InFlight = 8 })
		outstanding, release := hold(u)
		defer r.Close()
		defer release()
		var all []context.CancelFunc
		gone := make(chan *Answer)
		come := func(name string) {
			ctx, cancel := context.WithCancel(context.Background())
			all = append(all, cancel)
			go func() { gone <- r.Resolve(ctx, question(name, dns.TypeA)) }()
			key := keyOf(question(name, dns.TypeA))
			eventually(t, name+" to be asked", func() bool {
				return r.flights.waitingFor(key) > 0 && u.Count(name+" A") == 1
			})
		}
		table := func() (slots, background int) {
			r.flights.mu.Lock()
			defer r.flights.mu.Unlock()
			return r.flights.running + r.flights.yielding.Len(), r.flights.background.Len()
		}
		for i := range 4 {
			come(fmt.Sprintf("n%d.example.com.", i))
		}
		come("n0.example.com.")
		eventually(t, "the second client to have joined", func() bool {
			return r.flights.waitingFor(keyOf(question("n0.example.com.", dns.TypeA))) == 2
		})
		leave := func(i int) {
			all[i]()
			<-gone
		}
		leave(0)
		leave(1)
		if slots, background := table(); slots != 3 || background != 1 {
			t.Errorf("%d slots are held, %d go on in the background; want n0, n2 and n3, and n1", slots, background)
		}
		leave(4)
		if slots, background := table(); slots != 2 || background != 2 {
			t.Errorf("%d slots are held, %d go on in the background; want n2 and n3, and n0 and n1", slots, background)
		}
		for i := range 3 { // with these the table is more than half full
			come(fmt.Sprintf("late%d.example.com.", i))
		}
		synctest.Wait()
		before := outstanding.Load()
		leave(2)
		if slots, background := table(); slots != 4 || background != 0 {
			t.Errorf("%d slots are held, %d go on in the background of a table that is half full", slots, background)
		}
		eventually(t, "their questions to end", func() bool { return outstanding.Load() < before })
		release()
		for range 4 {
			expect(t, <-gone, dnssec.Secure, dns.RcodeNameError)
		}
	})
}

// V-76, C-11: who sets CD gets the data that is there, also when the chain could not be fetched, be that remembered,
// and when its time is up. Nothing is there when no reply came.
func TestUncheckedGetsWhatIsThere(t *testing.T) {
	for title, tt := range map[string]struct {
		fails  func(q dns.Question) bool
		silent bool
		data   bool
	}{
		"the chain fails": {fails: func(q dns.Question) bool { return q.Name == "com." }, data: true},
		"the chain is silent": {fails: func(q dns.Question) bool { return q.Name == "com." },
			silent: true, data: true},
		"the answer fails":     {fails: func(q dns.Question) bool { return q.Qtype == dns.TypeMX }},
		"the answer is silent": {fails: func(q dns.Question) bool { return q.Qtype == dns.TypeMX }, silent: true},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, u, _ := setup(t, nil)
				u.Follow(func(ctx context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
					if !tt.fails(q) {
						return fetch.Reply{}, nil, false
					}
					if tt.silent {
						<-ctx.Done()
					}
					return fetch.Reply{}, errors.New("SERVFAIL"), true
				})
				for i := range 2 {
					a := r.Unchecked(context.Background(), question("example.com.", dns.TypeMX))
					if a.Status > dnssec.Bogus || (a.Unvalidated != nil) != tt.data ||
						tt.data && len(a.Unvalidated.Answer) == 0 {
						t.Errorf("question %d: %v, %v", i, a.Status, a.Unvalidated)
					}
				}
				r.Close()
			})
		})
	}
}
