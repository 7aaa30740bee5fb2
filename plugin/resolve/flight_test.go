package resolve

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// find returns the flight of key; nil if there is none.
func (t *flights) find(key cache.Key) *flight {
	s := t.shelves.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at(key)
}

// waitingFor returns how many clients wait for the flight of key; 0 if there is none.
func (t *flights) waitingFor(key cache.Key) int {
	s := t.shelves.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.at(key); f != nil {
		return f.waiting
	}
	return 0
}

// keys are those of all flights that may be joined.
func (t *flights) keys() (keys []cache.Key) {
	for i := range t.shelves.all {
		s := &t.shelves.all[i]
		s.mu.Lock()
		for key := range s.byKey {
			if s.at(key) != nil {
				keys = append(keys, key)
			}
		}
		s.mu.Unlock()
	}
	return keys
}

func (t *flights) count() int { return len(t.keys()) }

// L-13: identical questions are joined, up to `waiting` clients each.
func TestFlightsJoin(t *testing.T) {
	table := newTable(10, 2)
	first, leads, no := table.join(named("a"), "", noZone)
	if !leads || no != nil {
		t.Fatalf("the first client does not lead: %v %v", leads, no)
	}
	second, leads, _ := table.join(named("a"), "", noZone)
	if leads || second != first {
		t.Fatal("the second client was not joined")
	}
	if _, _, no := table.join(named("a"), "", noZone); no == nil || no.limit != "waiting" {
		t.Fatalf("the third of at most two clients got in: %v", no)
	}
	table.leave(first)
	if _, _, no := table.join(named("a"), "", noZone); no != nil {
		t.Fatalf("a place that was left is not free: %v", no)
	}
	first.finish(&Answer{Rcode: dns.RcodeSuccess})
	table.remove(first)
	if _, leads, _ := table.join(named("a"), "", noZone); !leads {
		t.Fatal("a flight that has ended is still joined")
	}
}

// L-13: with the table full, one half runs to its end; in the other the oldest question gives way once it is 200 ms
// old.
func TestFlightsYield(t *testing.T) {
	table := newTable(4, 10)
	var all []*flight
	for i := range 4 {
		f, _, no := table.join(named(fmt.Sprint(i)), "", noZone)
		if no != nil {
			t.Fatalf("question %d of 4 refused: %v", i, no)
		}
		f.began = time.Now().Add(time.Hour) // however slow the machine is
		all = append(all, f)
	}
	if _, _, no := table.join(named("young"), "", noZone); no == nil || no.limit != "in_flight" {
		t.Fatalf("full of young questions, yet one more got in: %v", no)
	}
	for _, f := range all {
		f.began = time.Now().Add(-yieldAfter)
	}
	cancelled := false
	all[2].begin(nil, func(error) { cancelled = true })
	if _, leads, no := table.join(named("new"), "", noZone); !leads || no != nil {
		t.Fatalf("nobody gave way: %v", no)
	}
	select {
	case <-all[2].done:
	default:
		t.Fatal("the oldest of the yielding half was not displaced")
	}
	if a := all[2].result; a.Rcode != dns.RcodeServerFailure || !a.Notes[0].Limit() || !cancelled {
		t.Fatalf("displaced with %+v, cancelled %v", a, cancelled)
	}
	for _, i := range []int{0, 1, 3} {
		select {
		case <-all[i].done:
			t.Errorf("flight %d was displaced", i)
		default:
		}
	}
}

// L-13: what gave way is not joined any more, though its work may go on for a moment, whose end leaves what has come
// in its place.
func TestYieldedIsNotJoined(t *testing.T) {
	table := newTable(2, 10)
	table.join(named("runs to its end"), "", noZone)
	old, _, _ := table.join(named("yields"), "", noZone)
	old.began = time.Now().Add(-yieldAfter)
	if third, _, no := table.join(named("third"), "", noZone); no != nil {
		t.Fatalf("nobody gave way: %v", no)
	} else if table.remove(third); table.known(named("yields")) {
		t.Fatal("what gave way is there")
	}
	again, leads, no := table.join(named("yields"), "", noZone)
	if !leads || no != nil {
		t.Fatalf("joined what gave way: %v", no)
	}
	table.remove(old)
	if f := table.find(named("yields")); f != again {
		t.Errorf("%p is forgotten with what gave way: %p", again, f)
	}
}

// L-13: a question is displaced from its 200 ms on and not before.
func TestFlightsYieldByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTable(2, 10)
		table.join(named("runs to its end"), "", noZone)
		table.join(named("yields"), "", noZone)
		time.Sleep(200*time.Millisecond - 1)
		if _, _, no := table.join(named("new"), "", noZone); no == nil {
			t.Error("displaced too early")
		}
		time.Sleep(time.Nanosecond)
		if _, _, no := table.join(named("new"), "", noZone); no != nil {
			t.Errorf("not displaced: %v", no)
		}
	})
}

// L-13: work that goes on after its clients were answered holds no slot.
func TestFlightsRelease(t *testing.T) {
	table := newTable(2, 10)
	a, _, _ := table.join(named("a"), "", noZone)
	b, _, _ := table.join(named("b"), "", noZone)
	table.release(a)
	table.release(b)
	for _, key := range []string{"c", "d"} {
		if _, leads, no := table.join(named(key), "", noZone); !leads || no != nil {
			t.Fatalf("%s found no slot: %v", key, no)
		}
	}
	if _, leads, _ := table.join(named("a"), "", noZone); leads {
		t.Fatal("background work is no longer joined")
	}
	table.remove(a)
	table.remove(b)
	if table.running+table.yielding.Len() != 2 {
		t.Fatalf("slots held: %d running, %d yielding; 2 expected", table.running, table.yielding.Len())
	}
}

// C-11: Bogus lives 5 s and doubles to 60 s, network failures 5 s, limits 1 s without doubling (L-6a).
func TestFailureLives(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	q := question("x.", 1)
	bogus := failure{question: q, status: dnssec.Bogus, cause: &dnssec.Failure{Code: 6}}
	network := failure{question: q, cause: &dnssec.Failure{Code: 22}}
	limit := failure{question: q, status: dnssec.Bogus, cause: fetch.Limit(q, "aliases", "limit")}
	for _, test := range []struct {
		name  string
		f     failure
		lives []int
	}{
		{"bogus", bogus, []int{5, 10, 20, 40, 60, 60}},
		{"network", network, []int{5, 5, 5}},
		{"limit", limit, []int{1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			failures, now := newFailures(1<<20, func() uint64 { return 0 }), start
			for i, life := range test.lives {
				failures.add(test.f, now)
				end := now.Add(time.Duration(life) * time.Second)
				if _, ok := failures.alive(q, end.Add(-1)); !ok {
					t.Errorf("failure %d ended before %d s", i, life)
				}
				if _, ok := failures.alive(q, end); ok {
					t.Errorf("failure %d lives at %d s", i, life)
				}
				now = end
			}
		})
	}
	t.Run("a long quiet time begins anew", func(t *testing.T) {
		failures := newFailures(1<<20, func() uint64 { return 0 })
		failures.add(bogus, start)
		failures.add(bogus, start.Add(time.Hour))
		if _, ok := failures.alive(q, start.Add(time.Hour+6*time.Second)); ok {
			t.Error("doubled after an hour of quiet")
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		epoch := uint64(0)
		failures := newFailures(1<<20, func() uint64 { return epoch })
		failures.add(bogus, start)
		epoch++
		if _, ok := failures.alive(q, start); ok {
			t.Error("still remembered")
		}
		again := bogus
		again.epoch = epoch
		failures.add(again, start)
		failures.add(bogus, start) // its work began before
		if _, ok := failures.alive(q, start); !ok {
			t.Error("replaced by what was forgotten")
		}
	})
}

func TestNotesRoundTrip(t *testing.T) {
	in := []*dnssec.Failure{{Kind: dnssec.OfDistrust, Code: 1, Text: "one"}, {Code: 27, Text: ""}, {Code: 6, Text: "ü"}}
	out := unpackNotes(packNotes(in))
	if len(out) != len(in) {
		t.Fatalf("%d notes of %d", len(out), len(in))
	}
	for i := range in {
		if *in[i] != *out[i] {
			t.Errorf("note %d: %+v became %+v", i, in[i], out[i])
		}
	}
}
