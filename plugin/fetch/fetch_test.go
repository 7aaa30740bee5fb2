package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// upstream replies to everything with an empty denial once it is let go.
type upstream struct {
	mu    sync.Mutex
	asked []Try
	open  int
	gate  chan struct{}
	size  int
}

func (u *upstream) Ask(q dns.Question, t Try, done func(Reply, error)) (cancel func()) {
	ctx, cancel := context.WithDeadline(context.Background(), t.Until)
	u.count(t, +1)
	gate := u.gate
	go func() {
		reply, err := u.reply(ctx, gate, q, t)
		u.count(t, -1)
		done(reply, err)
	}()
	return cancel
}

func (u *upstream) reply(ctx context.Context, gate chan struct{}, q dns.Question, t Try) (Reply, error) {
	select {
	case <-gate:
	case <-ctx.Done():
		return Reply{}, ctx.Err()
	}
	m := new(dns.Msg)
	m.SetQuestion(q.Name, q.Qtype)
	m.Response = true
	return Reply{Msg: m, Upstream: fmt.Sprint("upstream ", t.N), Size: u.size}, nil
}

func (u *upstream) count(t Try, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open += n; n > 0 {
		u.asked = append(u.asked, t)
	}
}

// questions returns how many were asked so far.
func (u *upstream) questions() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.asked)
}

type noMeter struct{}

func (noMeter) Fetch(Role, bool) {}

// setup returns a Fetcher over an upstream that replies at once.
func setup(t *testing.T, change func(c *Config)) (*Fetcher, *upstream) {
	u := &upstream{gate: make(chan struct{}), size: 50}
	close(u.gate)
	c := Config{
		Pause:     func() {},
		Exchanger: u, Meter: noMeter{}, Room: NewRoom(1 << 30), Patience: 10 * time.Second, Questions: 100, Retries: 2,
		Check: func() *dnssec.Check { return &dnssec.Check{SignatureChecks: 128} },
	}
	if change != nil {
		change(&c)
	}
	f := New(c)
	t.Cleanup(f.Close)
	return f, u
}

func question(name string) dns.Question {
	return dns.Question{Name: name, Qtype: dns.TypeA, Qclass: dns.ClassINET}
}

func open(t *testing.T, f *Fetcher) *Account {
	return f.Open(question("client.example."), f.NewBudget())
}

// expectLimit checks that a failure is that of a limit of the client's question.
func expectLimit(t *testing.T, f *dnssec.Failure, want dnssec.LimitError) {
	t.Helper()
	if f == nil || !errors.Is(f, want) || f.Owner != "client.example." || f.Text == "" {
		t.Errorf("%v, want the limit %v of the client's question", f, want)
	}
}

// L-13: an upstream question that several accounts have asked is put once, given up only when all of them are gone, and
// is not joined then.
func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, u := setup(t, nil)
		defer f.Close()
		u.gate = make(chan struct{})
		q := question("example.com.")
		first, second, third := open(t, f), open(t, f), open(t, f)
		a, _ := first.Ask(q, RoleAnswer)
		b, _ := second.Ask(q, RoleAnswer)
		if a.exchange != b.exchange {
			t.Fatal("not joined")
		}
		first.Abandon()
		if synctest.Wait(); a.ended() {
			t.Fatal("ended with one who still waits")
		}
		second.Abandon()
		if synctest.Wait(); !a.ended() {
			t.Error("goes on for nobody")
		}
		if c, _ := third.Ask(q, RoleAnswer); c.exchange == a.exchange {
			t.Error("what was given up is joined")
		}
		if synctest.Wait(); u.open != 1 {
			t.Errorf("%d open", u.open)
		}
	})
}

// L-9: a question asked twice on an account is put once; one of another's account costs nothing; one asked on
// speculation costs when its reply is taken.
func TestQuestionsAreCounted(t *testing.T) {
	f, u := setup(t, func(c *Config) { c.Questions = 2 })
	a := open(t, f)
	ctx := t.Context()
	a.Speculate(question("ahead."))
	for _, name := range []string{"one.", "one.", "ahead.", "ahead."} {
		if _, failure := a.Fetch(ctx, question(name), RoleAnswer); failure != nil {
			t.Fatalf("%s: %v", name, failure)
		}
	}
	_, failure := a.Fetch(t.Context(), question("three."), RoleAnswer)
	expectLimit(t, failure, "upstream_questions")
	if n := u.questions(); n != 2 {
		t.Errorf("%d questions put", n)
	}
	b := open(t, f)
	u.gate = make(chan struct{})
	for i := range 3 {
		open(t, f).Ask(question(fmt.Sprint(i, ".")), RoleAnswer)
		if _, failure := b.Ask(question(fmt.Sprint(i, ".")), RoleAnswer); failure != nil {
			t.Errorf("another's question %d costs: %v", i, failure)
		}
	}
	close(u.gate)
}

// L-6: what several accounts may spend together is one budget.
func TestOneBudget(t *testing.T) {
	f, u := setup(t, func(c *Config) { c.Questions = 5 })
	b := f.NewBudget()
	for i := range 10 {
		a := f.Open(question("client.example."), b)
		a.Fetch(t.Context(), question(fmt.Sprint(i, ".")), RoleAnswer)
		a.Speculate(question(fmt.Sprint("ahead", i, ".")))
		a.Again(t.Context(), question(fmt.Sprint(i, ".")), 1, nil, false)
		a.Again(t.Context(), question(fmt.Sprint(i, ".")), 2, nil, false)
	}
	f.Close()
	if n, most := u.questions(), 5+maxGuesses+maxRetries; n != most {
		t.Errorf("%d questions put, want %d", n, most)
	}
}

// L-9: no more than six questions are put on speculation for one client query.
func TestSpeculationOfOneQuery(t *testing.T) {
	f, u := setup(t, nil)
	a := open(t, f)
	for i := range 10 {
		if more := a.Speculate(question(fmt.Sprint(i, "."))); more != (i < 6) {
			t.Errorf("question %d: %v", i, more)
		}
	}
	f.Close()
	if n := u.questions(); n != 6 {
		t.Errorf("%d questions put", n)
	}
}

// L-9: nothing is asked on speculation while work has waited 10 ms for its turn to verify: nobody has his answer sooner
// for it.
func TestNoSpeculationWhileVerifyingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, u := setup(t, nil)
		defer f.Close()
		for f.turns.take(true) != nil { // all turns are held
		}
		a := open(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		go a.Judge(ctx, func(*dnssec.Check) {})
		synctest.Wait()
		time.Sleep(10*time.Millisecond - time.Nanosecond)
		if b := open(t, f); !b.Speculate(question("soon.")) {
			t.Error("none while work has waited for less")
		}
		time.Sleep(time.Nanosecond)
		if b := open(t, f); b.Speculate(question("late.")) {
			t.Error("it may go further")
		}
		cancel()
		synctest.Wait()
		if b := open(t, f); !b.Speculate(question("again.")) {
			t.Error("none though nobody waits any more")
		}
		if synctest.Wait(); u.questions() != 2 {
			t.Errorf("%d questions put", u.questions())
		}
	})
}

// L-7: what must not wait is done whenever work has its turn, as many of those may be short.
func TestPauseOfEachTurn(t *testing.T) {
	did := ""
	f, _ := setup(t, func(c *Config) { c.Pause = func() { did += " pause" } })
	a := open(t, f)
	for range 2 {
		a.Judge(t.Context(), func(*dnssec.Check) { did += " judge" })
	}
	if want := " pause judge pause judge"; did != want {
		t.Errorf("did%s, want%s", did, want)
	}
}

// L-9: no more than 64 questions are open on speculation for all client queries, and none is counted that has ended.
func TestSpeculationOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, u := setup(t, nil)
		defer f.Close()
		for _, want := range []int{64, 128} {
			u.gate = make(chan struct{})
			for i := range 20 {
				a := open(t, f)
				for n := range 6 {
					a.Speculate(question(fmt.Sprint(n, ".", i, ".")))
				}
			}
			if synctest.Wait(); u.questions() != want {
				t.Errorf("%d questions put, want %d", u.questions(), want)
			}
			close(u.gate)
			synctest.Wait()
		}
	})
}

// V-14: links leave two of the ten retries to answers (L-9).
func TestAnswersKeepRetries(t *testing.T) {
	f, _ := setup(t, nil)
	a := open(t, f)
	retries := func(link bool) (n int) {
		for {
			again, short := a.Again(t.Context(), question(fmt.Sprint(link, n, ".")), 1, nil, link)
			if short != (again == nil) {
				t.Errorf("retry %d, of a link %v: %v, short %v", n, link, again, short)
			}
			if again == nil {
				return n
			}
			n++
		}
	}
	if links, answers := retries(true), retries(false); links != 8 || answers != 2 {
		t.Errorf("%d retries of links, then %d of answers", links, answers)
	}
}

// V-14: the last try asks with CD=0 over TCP, and those before as the first did; none is left behind it.
func TestTries(t *testing.T) {
	f, u := setup(t, nil)
	a := open(t, f)
	for n := range 4 {
		i, short := a.Again(t.Context(), question("example.com."), n, []string{"liar"}, false)
		if (i != nil) != (n <= 2) || short {
			t.Errorf("try %d: %v, short %v", n, i, short)
		} else if i != nil {
			i.Wait(t.Context())
		}
	}
	for n, got := range u.asked {
		if last := n == 2; got.N != n || got.CD == last || got.TCP != last || len(got.Avoid) != 1 {
			t.Errorf("try %d: %+v", n, got)
		}
	}
}

// L-11, L-15: replies are paid for in octets once each, and in memory until the query ends.
func TestRepliesAreCounted(t *testing.T) {
	room := NewRoom(8 << 20)
	f, u := setup(t, func(c *Config) { c.Room = room })
	u.size = responseOctets / 2
	a := open(t, f)
	for _, name := range []string{"one.", "one.", "two."} {
		if _, failure := a.Fetch(t.Context(), question(name), RoleAnswer); failure != nil {
			t.Fatal(failure)
		}
	}
	_, failure := a.Fetch(t.Context(), question("three."), RoleAnswer)
	expectLimit(t, failure, "response_octets")
	f.Close()
	if taken := room.taken.Load(); taken != responseOctets*replyGrowth {
		t.Errorf("%d octets of memory are taken", taken)
	}
	for range 2 {
		if a.Close(); room.taken.Load() != 0 {
			t.Errorf("%d octets of memory are kept", room.taken.Load())
		}
	}
}

// L-15: without room nothing is asked, and no reply is taken.
func TestNoRoom(t *testing.T) {
	f, u := setup(t, func(c *Config) { c.Room = NewRoom(QuestionOctets - 1) })
	_, failure := open(t, f).Fetch(t.Context(), question("example.com."), RoleAnswer)
	if !errors.Is(failure, ErrRoom) || u.questions() != 0 {
		t.Errorf("%v, %d questions", failure, u.questions())
	}
	f, u = setup(t, func(c *Config) { c.Room = NewRoom(QuestionOctets) })
	u.size = QuestionOctets
	_, failure = open(t, f).Fetch(t.Context(), question("example.com."), RoleAnswer)
	expectLimit(t, failure, ErrRoom)
}

// L-6a, C-11: whoever is out of time blames only a question that is still open, and has been for long; a reply that is
// there he takes.
func TestSilence(t *testing.T) {
	for name, test := range map[string]struct {
		late    time.Duration // after which the question is asked
		replied bool
		limit   bool
		reply   bool
	}{
		"silent all the time": {},
		"asked late":          {late: 7 * time.Second, limit: true},
		"replied long ago":    {replied: true, reply: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, u := setup(t, nil)
				defer f.Close()
				if !test.replied {
					u.gate = make(chan struct{})
				}
				ctx, cancel := context.WithTimeoutCause(t.Context(), 9*time.Second, ErrDeadline)
				defer cancel()
				a := open(t, f)
				time.Sleep(test.late)
				i, _ := a.Ask(question("com."), RoleLink)
				if test.replied {
					<-ctx.Done()
				}
				for range 20 { // a select between two that are ready takes either
					got, failure := i.Wait(ctx)
					if failure.Limit() != test.limit || (got != nil) != test.reply {
						t.Errorf("%v, %v", got, failure)
					}
				}
			})
		})
	}
}

// L-7: while costly chains take all other turns, a query whose chain is cached is still judged; one that needs a link
// has no claim to that turn, be the link asked on speculation already.
func TestReservedTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := setup(t, nil)
		defer f.Close()
		f.turns = turnsFor(t, 2)
		cold := func() *Account {
			a := open(t, f)
			a.Speculate(question("com."))
			a.Ask(question("com."), RoleLink)
			return a
		}
		release, judged := make(chan struct{}), 0
		go cold().Judge(t.Context(), func(*dnssec.Check) { <-release })
		synctest.Wait()
		go cold().Judge(t.Context(), func(*dnssec.Check) { judged++ })
		synctest.Wait()
		if failure := open(t, f).Judge(t.Context(), func(*dnssec.Check) { judged += 10 }); failure != nil ||
			judged != 10 {
			t.Errorf("%v, judged %d", failure, judged)
		}
		close(release)
		if synctest.Wait(); judged != 11 {
			t.Errorf("judged %d in the end", judged)
		}
	})
}

// S-27: a closed Fetcher asks nobody.
func TestClosed(t *testing.T) {
	f, u := setup(t, nil)
	f.Close()
	_, failure := open(t, f).Fetch(t.Context(), question("example.com."), RoleAnswer)
	if !errors.Is(failure, ErrClosed) {
		t.Errorf("%v", failure)
	}
	if f.Go(func() {}) || u.questions() != 0 {
		t.Error("work goes on")
	}
}

// Whatever an Exchanger fails with is of no reply. One that says that it reaches nobody is believed, and so is an error
// that is no failure.
func TestAsFailure(t *testing.T) {
	for kind, err := range map[dnssec.Kind]error{
		dnssec.OfNoReply:    &dnssec.Failure{Text: "SERVFAIL"},
		dnssec.OfNoUpstream: &dnssec.Failure{Kind: dnssec.OfNoUpstream, Text: "no route to host"},
	} {
		if f := AsFailure(question("mx.example."), err); f.Kind != kind || f.Text != err.Error() || !f.Missing() {
			t.Errorf("%v: kind %d, %v", err, f.Kind, f)
		}
	}
	if f := AsFailure(question("mx.example."), ErrClosed); f.Kind != dnssec.OfNoUpstream || !errors.Is(f, ErrClosed) {
		t.Errorf("kind %d, %v", f.Kind, f)
	}
}

// V-14: questions that come after are put to others than an upstream that another has shown to be wrong, by a query of
// their own; those of other client queries are not, nor is anything where the right one and the wrong one are the same.
// Who is right where another is wrong is asked as before, whatever was thought of it.
func TestSuspects(t *testing.T) {
	f, u := setup(t, func(c *Config) { c.Retries = 0 })
	u.gate = make(chan struct{})
	a, other := open(t, f), open(t, f)
	other.Ask(question("example.com."), RoleAnswer)
	a.Suspect([]string{"honest"}, &Grouped{Upstream: "liar"})
	a.Suspect([]string{"liar", "fickle"}, nil, &Grouped{Upstream: "fickle"}, &Grouped{Upstream: "honest"})
	a.Suspect(nil, &Grouped{Upstream: "liar"}) // nobody else was wrong
	a.Ask(question("example.com."), RoleAnswer)
	a.Speculate(question("example.net."))
	other.Ask(question("example.net."), RoleLink)
	close(u.gate)
	f.Close()
	avoided := map[int]int{}
	for _, got := range u.asked {
		avoided[len(got.Avoid)]++
		if len(got.Avoid) > 0 && !slices.Equal(got.Avoid, []string{"liar"}) {
			t.Errorf("%v avoided", got.Avoid)
		}
	}
	if avoided[0] != 2 || avoided[1] != 2 {
		t.Errorf("asked %+v", u.asked)
	}
}

// V-14: a further try avoids suspects too, before those that were wrong about the very question.
func TestRetryAvoidsSuspects(t *testing.T) {
	f, u := setup(t, nil)
	a := open(t, f)
	a.Suspect([]string{"liar", "fool"}, &Grouped{Upstream: "honest"})
	again, _ := a.Again(t.Context(), question("example.com."), 1, []string{"liar"}, false)
	again.Wait(t.Context())
	if avoid := u.asked[0].Avoid; !slices.Equal(avoid, []string{"fool", "liar"}) {
		t.Errorf("%v avoided", avoid)
	}
}

// V-14: what has come of an upstream that was shown to be wrong since it was asked is asked anew of others when it is
// needed, looked at before or not; once, and at no retry. Where no question is left (L-9), it is taken as it is.
func TestDoubtful(t *testing.T) {
	q := question("example.com.")
	first, anew := Try{CD: true}, Try{CD: true, Avoid: []string{"upstream 0"}}
	for what, c := range map[string]struct {
		left int // questions, beside that for q
		seen bool
		want []Try
	}{
		"in doubt":              {9, false, []Try{first, anew}},
		"looked at":             {9, true, []Try{first, anew}},
		"without question left": {0, false, []Try{first}},
	} {
		for _, here := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				f, u := setup(t, func(conf *Config) { conf.Questions = 1 + c.left })
				defer f.Close()
				u.gate = make(chan struct{})
				a := open(t, f)
				i, _ := a.Ask(q, RoleLink)
				if here || c.seen {
					close(u.gate)
					synctest.Wait()
				}
				if c.seen {
					i.Wait(t.Context())
				}
				a.Suspect([]string{"upstream 0"}, &Grouped{Upstream: "honest"})
				if !here && !c.seen {
					time.AfterFunc(time.Second, func() { close(u.gate) })
				}
				for range 2 {
					if got, failure := a.Fetch(t.Context(), q, RoleLink); got == nil {
						t.Errorf("%s: %v", what, failure)
					}
				}
				if !slices.EqualFunc(u.asked, c.want, func(got, want Try) bool {
					return got.N == want.N && got.CD == want.CD && slices.Equal(got.Avoid, want.Avoid)
				}) {
					t.Errorf("%s: asked %+v, want %+v", what, u.asked, c.want)
				}
			})
		}
	}
}
