package fetch

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// turnsFor is the queue of a machine with so many processors.
func turnsFor(t *testing.T, processors int) *turns {
	before := runtime.GOMAXPROCS(processors)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	return newTurns()
}

// given is what one in the queue got.
type given struct {
	name string
	turn *turn
}

// acquireNew is acquire for somebody who has not waited yet.
func (s *turns) acquireNew(ctx context.Context, isCheap bool) (*turn, error) {
	w := newWaiter()
	return s.acquire(ctx, isCheap, &w)
}

// enter queues up, and sends the turn when it comes.
func (s *turns) enter(order chan given, name string, isCheap bool) {
	before := s.inQueue()
	go func() {
		if got, err := s.acquireNew(context.Background(), isCheap); err == nil {
			order <- given{name, got}
		}
	}()
	for s.inQueue() == before {
		time.Sleep(time.Millisecond)
	}
}

func (s *turns) inQueue() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, q := range s.waiting {
		for w := q.first; w != nil; w = w.after {
			n++
		}
	}
	return n
}

// L-7: with several processors one turn serves cached chains only; the others serve all in the order of arrival.
func TestTurns(t *testing.T) {
	s := turnsFor(t, 2)
	ctx := context.Background()
	costly, _ := s.acquireNew(ctx, false)
	cheap, err := s.acquireNew(ctx, true)
	if err != nil || !cheap.reserved {
		t.Fatalf("cheap work did not get the reserved turn: %+v %v", cheap, err)
	}
	order := make(chan given)
	for _, name := range []string{"costly 1", "cheap 1", "costly 2", "cheap 2", "cheap 3"} {
		s.enter(order, name, strings.HasPrefix(name, "cheap"))
	}
	for _, test := range []struct {
		turn *turn
		want string
	}{{cheap, "cheap 1"}, {costly, "costly 1"}, {costly, "costly 2"}, {costly, "cheap 2"}, {cheap, "cheap 3"}} {
		s.release(test.turn)
		if got := <-order; got.name != test.want || got.turn != test.turn {
			t.Fatalf("the turn %+v went to %s, want %s", test.turn, got.name, test.want)
		}
	}
	s.release(costly)
	s.release(cheap)
	if s.free != 1 || s.reserved != 1 {
		t.Errorf("%d free and %d reserved turns at the end", s.free, s.reserved)
	}
}

// L-7: with one processor cached chains go before the others, and among themselves in the order of arrival.
func TestSingleTurn(t *testing.T) {
	s := turnsFor(t, 1)
	held, _ := s.acquireNew(context.Background(), true)
	order := make(chan given)
	for _, name := range []string{"costly 1", "cheap 1", "cheap 2", "costly 2"} {
		s.enter(order, name, strings.HasPrefix(name, "cheap"))
	}
	for _, want := range []string{"cheap 1", "cheap 2", "costly 1", "costly 2"} {
		s.release(held)
		if got := <-order; got.name != want {
			t.Fatalf("the turn went to %s, want %s", got.name, want)
		}
	}
}

// L-7, L-10: who waits too long leaves, and takes no turn with him.
func TestTurnsAbandon(t *testing.T) {
	s := turnsFor(t, 1)
	held, _ := s.acquireNew(context.Background(), false)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrDeadline)
	if _, err := s.acquireNew(ctx, true); !errors.Is(err, dnssec.ErrLimit) {
		t.Fatalf("error %v is no limit", err)
	}
	s.release(held)
	if s.free != 1 || s.inQueue() != 0 {
		t.Fatalf("%d turns free, %d in the queue", s.free, s.inQueue())
	}
}

// Processors are short once work waits a quarter of a second for one, of either queue, and no longer than it does.
func TestProcessorsAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cheap := range []bool{false, true} {
			s := newTurns()
			s.free, s.reserved, s.single = 0, 0, true
			if s.short() {
				t.Error("short without anybody who waits")
			}
			ctx, cancel := context.WithCancel(t.Context())
			go s.acquireNew(ctx, cheap)
			synctest.Wait()
			time.Sleep(shortAfter - time.Nanosecond)
			if s.short() {
				t.Error("short too early")
			}
			time.Sleep(time.Nanosecond)
			if !s.short() {
				t.Errorf("cheap %v: not short", cheap)
			}
			cancel()
			synctest.Wait()
			if s.short() {
				t.Error("short with nobody who waits any more")
			}
		}
	})
}
