package policy

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
)

const domain = "d.example."

// holding is a world in which a policy of a week is held, and the service that holds it.
func holding(t *testing.T, mode string) (*internet, *Service) {
	t.Helper()
	n := newInternet(t)
	n.insecure(domain, "a.example.")
	n.sts(domain, "1", file(mode, week, "a.example"))
	s := n.service(NewStore())
	if n.want(s, map[string]string{"enforce": "secure a.example"}[mode]); n.fetches() != 1 {
		t.Fatalf("fetched %d times", n.fetches())
	}
	return n, s
}

// want asks once; "" stands for none.
func (n *internet) want(s *Service, want string) {
	n.t.Helper()
	if want == "" {
		want = "none"
	}
	if got := level(s, domain); got != want {
		n.t.Errorf("%q, want %q", got, want)
	}
}

// TestHeld: D-28. A policy is enforced to its end, whatever happens meanwhile, and not longer.
func TestHeld(t *testing.T) {
	for name, attack := range map[string]func(n *internet){
		"TXT gone":       func(n *internet) { n.lacks("_mta-sts."+domain+" TXT", dnssec.Insecure) },
		"TXT unanswered": func(n *internet) { n.lacks("_mta-sts."+domain+" TXT", dnssec.Indeterminate) },
		"TXT Bogus":      func(n *internet) { n.lacks("_mta-sts."+domain+" TXT", dnssec.Bogus) },
		"TXT broken":     func(n *internet) { n.announces(domain, "no-id") },
		"new id, HTTPS blocked": func(n *internet) {
			n.announces(domain, "2")
			n.lacks("mta-sts."+domain+" A", dnssec.Insecure)
		},
		"new id, host taken over": func(n *internet) {
			n.announces(domain, "2")
			n.serves(domain, text(file("none", week)))
			n.certs["mta-sts.d.example"] = newInternet(n.t).ca.Server(n.t, "mta-sts.d.example", n.clock.Now().Add(week))
		},
		"new id, policy broken": func(n *internet) { n.announces(domain, "2"); n.serves(domain, text("gone")) },
		"host away":             func(n *internet) { n.serves(domain, http.NotFound) },
	} {
		t.Run(name, func(t *testing.T) {
			n, s := holding(t, "enforce")
			attack(n)
			for range 7*24 - 1 {
				n.clock.Advance(time.Hour)
				n.want(s, "secure a.example")
			}
			n.clock.Advance(time.Hour - time.Second)
			n.want(s, "secure a.example")
			n.clock.Advance(time.Second)
			if got := level(s, domain); got == "secure a.example" || name == "TXT Bogus" && got != "temp" {
				t.Errorf("%q after its end", got)
			}
			told := !strings.HasPrefix(name, "TXT unanswered") && name != "TXT Bogus"
			if want := map[bool]int{true: 1}[told]; len(n.gone) != want {
				t.Errorf("told %d times that it vanished, want %d", len(n.gone), want)
			}
		})
	}
}

// TestRenewed: what is announced and served again lasts, and was not fetched more often than is due.
func TestRenewed(t *testing.T) {
	n, s := holding(t, "enforce")
	for range 30 * 24 {
		n.clock.Advance(time.Hour)
		n.want(s, "secure a.example")
	}
	if got := n.fetches(); got < 30 || got > 31 {
		t.Errorf("fetched %d times in 30 days", got)
	}
	if !slices.Equal(n.changes, []string{"d.example. nothing enforce"}) || len(n.gone) != 0 {
		t.Errorf("told %q, vanished %q", n.changes, n.gone)
	}
}

// TestRestored: that what vanished is there again, by its TXT record or by a fetch, is told once.
func TestRestored(t *testing.T) {
	n, s := holding(t, "enforce")
	txt := "_mta-sts." + domain + " TXT"
	for i, step := range []struct {
		does       func()
		gone, back int // told so far
	}{
		{func() { n.lacks(txt, dnssec.Indeterminate) }, 0, 0},
		{func() { n.lacks(txt, dnssec.Insecure) }, 1, 0},
		{func() {}, 1, 0},
		{func() { n.announces(domain, "1") }, 1, 1},
		{func() { n.announces(domain, "2"); n.serves(domain, http.NotFound) }, 2, 1},
		{func() { n.lacks(txt, dnssec.Indeterminate) }, 2, 1},
		{func() { n.sts(domain, "2", file("enforce", week, "a.example")) }, 2, 2},
		{func() { n.lacks(txt, dnssec.Insecure) }, 3, 2},
	} {
		step.does()
		n.clock.Advance(fetchEvery)
		if n.want(s, "secure a.example"); len(n.gone) != step.gone || len(n.back) != step.back {
			t.Errorf("step %d: told %d times that it vanished, %d that this is over", i, len(n.gone), len(n.back))
		}
	}
	n.clock.Advance(week)
	if s.renew(t.Context()); len(n.back) != 3 {
		t.Errorf("told %d times that it is over at the end", len(n.back))
	}
}

// TestNewID: another id is another policy, from the next look on.
func TestNewID(t *testing.T) {
	n, s := holding(t, "enforce")
	n.insecure(domain, "b.example.")
	n.sts(domain, "2", file("enforce", week, "b.example"))
	n.clock.Advance(fetchEvery)
	n.want(s, "secure b.example")
	n.sts(domain, "3", "version: STSv1\nmode: none\nmax_age: 86400\n")
	n.clock.Advance(fetchEvery)
	n.want(s, "none")
	want := []string{"d.example. nothing enforce", "d.example. enforce enforce", "d.example. enforce none"}
	if !slices.Equal(n.changes, want) {
		t.Errorf("told %q", n.changes)
	}
}

// TestIDAlwaysNew: an id that changes at every question has nobody fetch more often than every five minutes.
func TestIDAlwaysNew(t *testing.T) {
	n, s := holding(t, "enforce")
	for i := range 60 {
		n.clock.Advance(time.Minute)
		n.announces(domain, fmt.Sprint("x", i))
		n.want(s, "secure a.example")
	}
	if got := n.fetches(); got != 1+60/5 {
		t.Errorf("fetched %d times in an hour", got)
	}
}

// TestFailedFetch: where nothing is held, a failure is remembered for five minutes, and tried again then.
func TestFailedFetch(t *testing.T) {
	n := newInternet(t)
	n.insecure(domain, "a.example.")
	n.announces(domain, "1")
	n.serves(domain, http.NotFound)
	s := n.service(NewStore())
	for range 10 {
		n.want(s, "none")
		n.clock.Advance(29 * time.Second)
	}
	if n.fetches() != 1 {
		t.Errorf("fetched %d times within five minutes", n.fetches())
	}
	a := s.Decide(context.Background(), domain)
	if a.Failure == nil || a.Failure.Result != mail.STSPolicyFetchError || !strings.Contains(a.Why, "404") {
		t.Errorf("%+v", a)
	}
	n.serves(domain, text(file("enforce", week, "a.example")))
	n.clock.Advance(10 * time.Second)
	n.want(s, "secure a.example")
}

// TestShortAge: a policy of no age at all is in force until it may be fetched again.
func TestShortAge(t *testing.T) {
	n := newInternet(t)
	n.insecure(domain, "a.example.")
	n.sts(domain, "1", file("enforce", 0, "a.example"))
	s := n.service(NewStore())
	for range 60 {
		n.want(s, "secure a.example")
		n.clock.Advance(time.Minute)
	}
	if got := n.fetches(); got != 60/5 {
		t.Errorf("fetched %d times in an hour", got)
	}
}

// TestTogether: many questions at once fetch once, and all have the policy.
func TestTogether(t *testing.T) {
	n := newInternet(t)
	n.insecure(domain, "a.example.")
	n.sts(domain, "1", file("enforce", week, "a.example"))
	s := n.service(NewStore())
	var work sync.WaitGroup
	for range 100 {
		work.Go(func() {
			if got := level(s, domain); got != "secure a.example" {
				t.Errorf("%q", got)
			}
		})
	}
	if work.Wait(); n.fetches() != 1 {
		t.Errorf("fetched %d times", n.fetches())
	}
}

// TestGivenUp: who ends his question while a policy is fetched is told to come again, not that there is none.
func TestGivenUp(t *testing.T) {
	n := newInternet(t)
	n.insecure(domain, "a.example.")
	n.announces(domain, "1")
	asked, goOn := make(chan struct{}), make(chan struct{})
	n.serves(domain, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-goOn
		text(file("enforce", week, "a.example"))(w, r)
	})
	s := n.service(NewStore())
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-asked; cancel() }()
	if a := s.Decide(ctx, domain); a.Level != Temp {
		t.Errorf("%s: %s", a.Level, a.Why)
	}
	close(goOn)
	n.want(s, "secure a.example")
}

// TestBusy: where as many policies are fetched as may be, mail waits.
func TestBusy(t *testing.T) {
	n := newInternet(t)
	n.insecure(domain, "a.example.")
	n.sts(domain, "1", file("enforce", week, "a.example"))
	s := n.service(NewStore())
	s.store.slots = nil // there is never room
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if a := s.Decide(ctx, domain); a.Level != Temp {
		t.Errorf("%s: %s", a.Level, a.Why)
	}
}

// TestPanic: a fault ends a question, not the process.
func TestPanic(t *testing.T) {
	n := newInternet(t)
	n.insecure(domain, "a.example.")
	s := n.service(NewStore())
	told := make(chan any, 10)
	s.config.Meter = panicking{n, told}
	ask := s.config.Ask
	s.config.Ask = func(ctx context.Context, name string, qtype uint16) mail.Reply {
		if strings.HasPrefix(name, "_mta-sts.") {
			panic("test")
		}
		return ask(ctx, name, qtype)
	}
	n.want(s, "temp")
	for range 2 { // ahead, and when it is needed
		<-told
	}
}

type panicking struct {
	*internet
	told chan any
}

func (p panicking) Panicked(fault any) { p.told <- fault }

// TestRenew: policies of domains in use are renewed before anybody asks; of others they end, and are forgotten.
func TestRenew(t *testing.T) {
	n, s := holding(t, "enforce")
	for range 6 * 24 * 4 {
		n.clock.Advance(renewPause + 5*time.Minute)
		s.renew(t.Context())
	}
	if got := n.fetches(); got < 6 || got > 7 {
		t.Errorf("fetched %d times in 6 days", got)
	}
	n.lacks("_mta-sts."+domain+" TXT", dnssec.Insecure)
	n.clock.Advance(24 * time.Hour)
	s.renew(t.Context())
	if len(n.gone) != 1 {
		t.Errorf("told %q that it vanished", n.gone)
	}
	n.clock.Advance(week)
	s.renew(t.Context())
	if held := s.store.Known(n.clock.Now()).Held; held != 0 || len(s.store.entries) != 0 || s.store.octets != 0 {
		t.Errorf("%d held, %d entries, %d octets", held, len(s.store.entries), s.store.octets)
	}
}

// TestFile: what is held outlives a restart, to its end and no longer, whatever the file says.
func TestFile(t *testing.T) {
	n, s := holding(t, "enforce")
	saved, err := s.store.Format()
	if err != nil {
		t.Fatal(err)
	}
	n.lacks("_mta-sts."+domain+" TXT", dnssec.Insecure)
	again := NewStore()
	n.clock.Advance(week - time.Second)
	if err := again.Load(saved, n.clock.Now()); err != nil {
		t.Fatal(err)
	}
	after := n.service(again)
	n.want(after, "secure a.example")
	n.clock.Advance(time.Second)
	n.want(after, "none")

	late := NewStore()
	if err := late.Load(saved, n.clock.Now()); err != nil || len(late.entries) != 0 || late.octets != 0 {
		t.Errorf("%v, %d entries of what has ended", err, len(late.entries))
	}
	early := NewStore() // by a clock that goes behind the one before
	if err := early.Load(saved, n.clock.Now().Add(-30*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if end := early.entries[domain].held.Ends(); end.After(n.clock.Now().Add(-30*24*time.Hour + week)) {
		t.Errorf("held until %v, now is %v", end, n.clock.Now().Add(-30*24*time.Hour))
	}
}

// TestLoad: what danelaw could not have written is refused, all of it.
func TestLoad(t *testing.T) {
	n, s := holding(t, "enforce")
	sound, err := s.store.Format()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"no JSON":     {"{", ""},
		"version":     {`"version":1`, `"version":2`},
		"domain":      {domain, "d..example."},
		"upper case":  {domain, "D.example."},
		"no domain":   {domain, ""},
		"mode":        {`"enforce"`, `"forced"`},
		"pattern":     {"a.example", "a example"},
		"two lines":   {"a.example", `a.example\nmx: b.example\nx`},
		"no mx":       {`"mx":["a.example"],`, ""},
		"max_age":     {`"max_age":604800`, `"max_age":-1`},
		"null policy": {`[{`, `[null,{`},
	} {
		store := NewStore()
		text := strings.Replace(string(sound), change[0], change[1], 1)
		if err := store.Load([]byte(text), n.clock.Now()); err == nil || len(store.entries) > 0 {
			t.Errorf("%s: %v, %d entries", name, err, len(store.entries))
		}
	}
}

// TestBounds: neither many policies nor large ones take more than there is room for, and what is enforced and in use
// goes last.
func TestBounds(t *testing.T) {
	now := time.Unix(1e9, 0)
	put := func(s *Store, domain string, mode mail.STSMode, mx ...string) {
		s.put(&Held{domain, "1", &mail.STSPolicy{Mode: mode, MX: mx, MaxAge: week}, now}, now)
		now = now.Add(time.Second)
	}
	s := NewStore()
	s.most = 50
	put(s, "kept.example.", mail.Enforce, "a.example")
	put(s, "tested.example.", mail.Testing, "a.example")
	for i := range 2 * s.most {
		s.use("kept.example.", now)
		put(s, fmt.Sprintf("d%d.example.", i), mail.Enforce, "a.example")
	}
	if s.entries["kept.example."] == nil || s.entries["tested.example."] != nil || len(s.entries) != s.most {
		t.Errorf("%d entries, of which one is in use: %v, and one is in testing: %v", len(s.entries),
			s.entries["kept.example."] != nil, s.entries["tested.example."] != nil)
	}
	s = NewStore()
	put(s, "kept.example.", mail.Enforce, "a.example")
	giant := slices.Repeat([]string{strings.Repeat("a", 60) + ".example"}, fetchOctets/72)
	for i := range 200 {
		put(s, fmt.Sprintf("d%d.example.", i), mail.Enforce, giant...)
	}
	if s.entries["kept.example."] == nil || s.octets > mostOctets {
		t.Errorf("%d octets, one small policy is held: %v", s.octets, s.entries["kept.example."] != nil)
	}
	sum := 0
	for _, e := range s.entries {
		sum += e.octets
	}
	saved, err := s.Format()
	if err != nil || sum != s.octets || len(saved) > mostOctets+1<<10 {
		t.Errorf("%d octets are counted, %d are held, %d in a file, error %v", s.octets, sum, len(saved), err)
	}
	again := NewStore()
	if err := again.Load(saved, now); err != nil || !reflect.DeepEqual(len(again.entries), len(s.entries)) {
		t.Errorf("%v, %d entries of %d are read", err, len(again.entries), len(s.entries))
	}
}
