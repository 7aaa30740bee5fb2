package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/bench/universe"
	"github.com/danelaw-dns/danelaw/bench/upstream"
)

// world is a universe with questions about all its domains.
func world(t *testing.T) (*universe.Universe, [][]universe.Question) {
	t.Helper()
	const domains = 30
	u, err := universe.New(t.Context(), universe.Spec{
		Domains: domains, Insecure: 0.5, Providers: 1, Algorithms: []int{15}, Denial: universe.Mixed,
		TopLevel: universe.Mixed, Now: time.Now(),
	}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	var all [][]universe.Question
	for i := range domains {
		questions, err := u.Delivery(i)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, questions)
	}
	return u, all
}

// resolver answers from a universe, with AD where it has signatures or proofs; change may spoil a reply.
type resolver struct {
	*universe.Universe
	asked  atomic.Int64
	change func(n int64, reply []byte) []byte
}

func (r *resolver) Reply(dst, query []byte, stream bool) []byte {
	reply := r.Universe.Reply(nil, query, stream)
	m := new(dns.Msg)
	if m.Unpack(reply) != nil {
		return dst
	}
	for _, rr := range append(m.Answer, m.Ns...) {
		if rr.Header().Rrtype == dns.TypeRRSIG {
			reply[3] |= 0x20 // AD
		}
	}
	if n := r.asked.Add(1); r.change != nil {
		reply = r.change(n, reply)
	}
	return append(dst, reply...)
}

func serve(t *testing.T, a upstream.Answerer) *upstream.Upstream {
	t.Helper()
	u, err := upstream.Start(a, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// TestDeliveries: each domain's questions are asked once, one after the other, and right replies are taken for right.
func TestDeliveries(t *testing.T) {
	u, all := world(t)
	r := &resolver{Universe: u}
	result, err := Run(t.Context(), serve(t, r).Addr(), &Deliveries{Domains: all, AtOnce: 7})
	want, asked := 4*len(all), int(r.asked.Load())
	if err != nil || result.Replies != want || result.Wrong > 0 || result.Lost > 0 || asked != want {
		t.Errorf("%+v, asked %d, error %v", result, asked, err)
	}
}

// TestHot: questions are drawn until the time has come.
func TestHot(t *testing.T) {
	u, all := world(t)
	begun := time.Now()
	result, err := Run(t.Context(), serve(t, &resolver{Universe: u}).Addr(), &Hot{
		Questions: all[0], AtOnce: 16, For: 100 * time.Millisecond, Chance: rand.New(rand.NewPCG(1, 2)),
	})
	if err != nil || result.Replies < 16 || result.Wrong > 0 || time.Since(begun) < 100*time.Millisecond {
		t.Errorf("%+v, error %v", result, err)
	}
}

// TestSteady: questions come at their rate, whatever becomes of the replies, and it is known how long each took; a
// SERVFAIL is a failure and no wrong reply.
func TestSteady(t *testing.T) {
	u, all := world(t)
	r := &resolver{Universe: u, change: func(n int64, reply []byte) []byte {
		switch {
		case n == 3:
			reply[3] |= 2
		case n > 50:
			time.Sleep(time.Millisecond)
		}
		return reply
	}}
	result, err := Run(t.Context(), serve(t, r).Addr(), &Steady{Rate: 1000, Hot: Hot{
		Questions: all[0], For: 200 * time.Millisecond, Chance: rand.New(rand.NewPCG(1, 2)),
	}})
	sound := result.Failed == 1 && result.Wrong == 0 && result.Lost == 0
	if n := result.Replies; err != nil || !sound || n < 150 || n > 201 {
		t.Errorf("%+v, error %v", result, err)
	}
	if len(result.Took) != result.Right() || result.Percentile(0) <= 0 ||
		result.Percentile(0.99) < result.Percentile(0.5) || result.Percentile(1) != result.Took[len(result.Took)-1] {
		t.Errorf("took %v", result.Took)
	}
}

// slow is a script whose author takes his time.
type slow struct {
	Steady
	each time.Duration
}

func (s *slow) Next(line int) *universe.Question {
	time.Sleep(s.each)
	return s.Steady.Next(line)
}

// TestLate: of each question it is known how late it was asked.
func TestLate(t *testing.T) {
	u, all := world(t)
	const each = 5 * time.Millisecond
	result, err := Run(t.Context(), serve(t, &resolver{Universe: u}).Addr(), &slow{each: each, Steady: Steady{
		Rate: 1000, Hot: Hot{Questions: all[0], For: 20 * each, Chance: rand.New(rand.NewPCG(1, 2))},
	}})
	if n := len(result.Late); err != nil || n < 2 || n != result.Replies || !slices.IsSorted(result.Late) {
		t.Fatalf("%+v, error %v", result, err)
	}
	due, asked := time.Duration(len(result.Late)-1)*time.Millisecond, time.Duration(len(result.Late)-1)*each
	if late := result.Lateness(1); late < asked-due {
		t.Errorf("the last question was %v late: it was due after %v and asked after more than %v", late, due, asked)
	}
}

// TestAlwaysLate: who cannot ask as fast as is due looks at replies all the same, and at whether the run is over.
func TestAlwaysLate(t *testing.T) {
	u, all := world(t)
	const each = time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	answered := func(_ int64, reply []byte) []byte {
		stop()
		return reply
	}
	result, err := Run(ctx, serve(t, &resolver{Universe: u, change: answered}).Addr(), &slow{each: each, Steady: Steady{
		Rate: 10000, Hot: Hot{Questions: all[0], For: time.Minute, Chance: rand.New(rand.NewPCG(1, 2))},
	}})
	if n := len(result.Late); !errors.Is(err, context.Canceled) || n > int(10*time.Second/each) {
		t.Errorf("%d questions were asked, error %v", n, err)
	}
}

// TestWrong: each way in which a reply can be wrong is seen, once for each such reply, and told.
func TestWrong(t *testing.T) {
	u, all := world(t)
	for want, change := range map[string]func([]byte){
		"REFUSED AD=":       func(reply []byte) { reply[3] |= 5 },
		"AD=":               func(reply []byte) { reply[3] ^= 0x20 },
		"TC=true":           func(reply []byte) { reply[2] |= 0x02 },
		"OPT PSEUDOSECTION": func(reply []byte) { reply[7] = 7 },
		"the answer is":     func(reply []byte) { reply[len(reply)-30]++ },
	} {
		spoilt := &resolver{Universe: u, change: func(n int64, reply []byte) []byte {
			if n == 5 || n == 9 {
				change(reply)
			}
			return reply
		}}
		result, err := Run(t.Context(), serve(t, spoilt).Addr(), &Deliveries{Domains: all, AtOnce: 1})
		first := all[1][0].Name + " MX: "
		if err != nil || result.Wrong != 2 || !strings.Contains(result.Example, want) ||
			!strings.HasPrefix(result.Example, first) {
			t.Errorf("%+v, error %v, want %q", result, err, want)
		}
	}
}

// TestLost: a question without a reply is counted, and those after it are asked; a reply that comes too late is not
// taken for another's.
func TestLost(t *testing.T) {
	defer func(before time.Duration) { patience = before }(patience)
	patience = 200 * time.Millisecond
	u, all := world(t)
	var late []byte
	r := &resolver{Universe: u, change: func(n int64, reply []byte) []byte {
		switch n {
		case 2:
			late = reply
			return nil
		case 3:
			return late
		}
		return reply
	}}
	result, err := Run(t.Context(), serve(t, r).Addr(), &Deliveries{Domains: all[:2], AtOnce: 1})
	if err != nil || result.Lost != 2 || result.Replies != 6 || result.Wrong > 0 ||
		!strings.Contains(result.Example, "no reply") {
		t.Errorf("%+v, error %v", result, err)
	}
}

// TestInterrupted: it ends when it is told to, though a server is silent.
func TestInterrupted(t *testing.T) {
	u, all := world(t)
	silent := serve(t, &resolver{Universe: u, change: func(int64, []byte) []byte { return nil }})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, silent.Addr(), &Deliveries{Domains: all, AtOnce: 3})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}
