package bench

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
	"github.com/danelaw-dns/danelaw/bench/upstream"
)

// TestHits: one answer in a thousand may be none from memory, and a few more of what a server asks of itself; neither
// the upstream's count nor the server's own may say more.
func TestHits(t *testing.T) {
	for _, c := range []struct {
		replies, asked, questions, misses float64
		fetched, missed                   bool
	}{
		{100_000, 50, 100_000, 50, false, false}, // 99.95 %
		{100_000, 200, 100_000, 200, true, true}, // 99.8 %
		{100_000, 100, 100_000, 100, false, false},
		{100_000, 101, 100_000, 101, true, true},
		{100, 10, 100, 10, false, false}, // of itself
		{100, 11, 100, 11, true, true},
		{100_000, 0, 99_000, 0, false, false},
		{100_000, 0, 98_900, 0, false, true}, // it does not count all
	} {
		counts := server.Counts{Questions: c.questions, Misses: c.misses}
		fetched, missed := fetched(c.replies, c.asked), missed(c.replies, counts)
		if (fetched != "") != c.fetched || (missed != "") != c.missed {
			t.Errorf("%+v: %q, %q", c, fetched, missed)
		}
	}
	if got := hitShare(server.Counts{Questions: 1000, Misses: 2}); got != 99.8 {
		t.Errorf("%v %% are hits", got)
	}
}

// TestRates: cached answers are asked for as fast as they come, and at 20,000 and 60,000 questions a second.
func TestRates(t *testing.T) {
	b := &bench{}
	all := append(slices.Clone(manners), explained(server.Server{}))
	for _, a := range against {
		all = append(all, a.manner)
	}
	for _, m := range all {
		want := map[string]time.Duration{
			"hot-20k": time.Second / 20_000, "hot-60k": time.Second / 60_000,
			"against-20k": time.Second / 20_000, "against-60k": time.Second / 60_000,
		}[m.workload]
		got := time.Duration(0)
		if paced, ok := m.script(b, nil).(load.Paced); ok {
			got = paced.Interval()
		}
		if got != want {
			t.Errorf("%s asks each %v, want %v", m.workload, got, want)
		}
	}
}

// TestRounds: what --help and README.md say of how often is so.
func TestRounds(t *testing.T) {
	most := map[string]int{"quarter": 1, "memory": 1, "algorithms": 1, "latency": 2}
	for _, f := range Floods() {
		most[f] = 1
	}
	for _, w := range workloads {
		if want := cmp.Or(most[w.name], often); w.rounds != want {
			t.Errorf("%s: %d rounds at most, want %d", w.name, w.rounds, want)
		}
	}
}

// TestTurns: each round begins with the next server, so that none always comes after the same other.
func TestTurns(t *testing.T) {
	b := &bench{Config: Config{Servers: []server.Server{{Name: "a"}, {Name: "b"}, {Name: "c"}}}}
	for round, want := range []string{"[a b c]", "[b c a]", "[c a b]", "[a b c]"} {
		var r Report
		one := func(_ *bench, _ context.Context, s server.Server) ([]Sample, error) { return []Sample{{}}, nil }
		if err := b.turn(t.Context(), &r, workload{run: one}, round, func(int) {}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range r.Samples {
			if got = append(got, s.Server); s.Round != round {
				t.Errorf("%+v in round %d", s, round)
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("round %d: %v, want %s", round, got, want)
		}
	}
}

// TestSignatureCost: what one check costs is that of all divided by their number, where nothing else ran meanwhile; and
// one that fails is none.
func TestSignatureCost(t *testing.T) {
	now, done := time.Now(), 0
	check := func() bool {
		done++
		now = now.Add(time.Microsecond)
		if done <= checks || done > 4*checks {
			now = now.Add(time.Millisecond) // something else runs
		}
		return true
	}
	clock := func() time.Time { return now }
	if cost, ok := costOf(check, clock); cost != time.Microsecond || !ok {
		t.Errorf("%v, %t", cost, ok)
	}
	if _, ok := costOf(func() bool { return false }, clock); ok {
		t.Error("what does not verify has a cost")
	}
}

// small is a scene of few domains, without an upstream.
func small(t *testing.T, algorithms ...int) *scene {
	t.Helper()
	spec := universe.Spec{
		Domains: 10, Providers: 1, Algorithms: algorithms, Denial: universe.NSEC, TopLevel: universe.Mixed,
		Now: time.Now(),
	}
	u, err := universe.New(t.Context(), spec, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return &scene{u, spec, nil}
}

// TestExplained: where danelaw has something to say, an answer of its own without that is wrong; of others it is right.
func TestExplained(t *testing.T) {
	asked := dns.Question{Name: "example.", Qtype: dns.TypeMX}
	m := new(dns.Msg).SetQuestion(asked.Name, asked.Qtype).SetEdns0(1232, true)
	m.Response = true
	reply, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, ours := range []bool{false, true} {
		questions := []universe.Question{universe.Known(asked, dns.RcodeSuccess, false)}
		explained(server.Server{Ours: ours}).script(&bench{}, questions)
		if fault := questions[0].Fault(reply); (fault != "") != ours {
			t.Errorf("danelaw %t: fault %q", ours, fault)
		}
	}
}

// spoilt answers SERVFAIL to questions for MX, and without AD to all others.
type spoilt struct{ upstream.Answerer }

// Reply implements [upstream.Answerer].
func (s spoilt) Reply(dst, query []byte, stream bool) []byte {
	reply := s.Answerer.Reply(dst, query, stream)
	if end := bytes.Index(query[12:], []byte{0, 0, byte(dns.TypeMX), 0, 1}); end > 0 {
		reply[3] |= dns.RcodeServerFailure
	}
	return reply
}

// TestAllCount: each reply to what a server learns counts, and of what it is asked suddenly the wrong ones do, with an
// example of these.
func TestAllCount(t *testing.T) {
	at := small(t, 13)
	up, err := upstream.Start(spoilt{at}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	p := &subject{Process: &server.Process{Addr: up.Addr()}, at: at}
	all, err := at.deliveries(0, at.spec.Domains)
	if err != nil {
		t.Fatal(err)
	}
	questions := flat(all)
	n, exchangers := len(questions), len(all)
	var learnt, asked Sample
	if err := p.learn(t.Context(), all, &learnt); err != nil {
		t.Fatal(err)
	}
	if _, err := p.suddenly(t.Context(), questions, &asked); err != nil {
		t.Fatal(err)
	}
	for s, failed := range map[*Sample]int{&learnt: exchangers, &asked: 0} {
		if s.Replies != n || s.Wrong != n-exchangers || s.Failed != failed ||
			!strings.Contains(s.Example, "NOERROR AD=false") {
			t.Errorf("%+v", s)
		}
	}
}

// TestExample: the example of a sample is a wrong reply, if there is one, and of a result that does not count there is
// none.
func TestExample(t *testing.T) {
	var s Sample
	s.countWrong(load.Result{Replies: 9, Failed: 9, Example: "failed"})
	s.count(load.Result{Replies: 9, Lost: 1, Example: "lost"})
	s.count(load.Result{Replies: 9, Wrong: 1, Example: "wrong"})
	s.count(load.Result{Replies: 9, Wrong: 1, Example: "wrong, too"})
	if s.Example != "wrong" || s.Failed != 0 || s.Lost != 1 || s.Wrong != 2 || s.Replies != 36 {
		t.Errorf("%+v", s)
	}
}

// TestSignatures: the floor of a domain is its signatures, each at the mean price of its algorithms.
func TestSignatures(t *testing.T) {
	at := small(t, 13, 15)
	n, err := at.Signatures(2, 10)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{signature: map[int]time.Duration{13: 20 * time.Microsecond, 15: 40 * time.Microsecond}}
	s := Sample{Values: map[string]float64{"seconds": 2, "units": 8, "cpu_us": 1000}}
	if err := b.checked(at, &s, 2, 10); err != nil {
		t.Fatal(err)
	}
	floor := float64(n) * 30 / 8
	if v := s.Values; n < 8 || v["signatures"] != float64(n)/2 || v["floor_us"] != floor || v["rest_us"] != 1000-floor {
		t.Errorf("%d signatures: %v", n, v)
	}
}
