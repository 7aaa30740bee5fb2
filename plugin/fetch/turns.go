package fetch

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// turns lets at most GOMAXPROCS client queries verify at once (L-7). One turn serves only queries whose chain is
// cached, so that expensive chains, an attacker's among them, cannot keep cached ones waiting; with a single turn those
// go to the head of the queue instead.
type turns struct {
	mu       sync.Mutex
	free     int // turns for anybody
	reserved int // free turns for cheap work only: 0 or 1
	single   bool
	waiting  [2]queue // costly work and cheap work
	arrivals uint64
	began    time.Time
	oldest   atomic.Int64 // how long after began the one came who has waited the longest; negative: nobody waits
}

// The queues for a turn.
const (
	costly = iota
	cheap
)

// waiter is one who waits for a turn, once at a time. It is its own place in the queue: nothing is allocated while the
// lock is held, for which everybody else waits.
type waiter struct {
	ready         chan *turn // has room for one
	queue         *queue     // nil: it does not wait any more
	before, after *waiter
	arrival       uint64
	since         time.Duration // since turns.began
}

func newWaiter() waiter { return waiter{ready: make(chan *turn, 1)} }

// queue is those who wait, in order of arrival.
type queue struct{ first, last *waiter }

func (q *queue) enter(w *waiter) {
	w.queue, w.before, w.after = q, q.last, nil
	if q.last == nil {
		q.first = w
	} else {
		q.last.after = w
	}
	q.last = w
}

// leave takes w out of its queue, and reports whether it was in one.
func (w *waiter) leave() bool {
	q := w.queue
	if q == nil {
		return false
	}
	if w.before == nil {
		q.first = w.after
	} else {
		w.before.after = w.after
	}
	if w.after == nil {
		q.last = w.before
	} else {
		w.after.before = w.before
	}
	w.queue, w.before, w.after = nil, nil, nil
	return true
}

// turn is the right to verify.
type turn struct{ reserved bool }

// All turns are one of the two.
var forAnybody, forCheap = &turn{}, &turn{reserved: true}

func newTurns() *turns {
	n := runtime.GOMAXPROCS(0)
	s := &turns{free: n - 1, reserved: 1, began: time.Now()}
	s.oldest.Store(-1)
	if n == 1 {
		s.free, s.reserved, s.single = 1, 0, true
	}
	return s
}

// acquire waits for a turn, as w; the error is ctx's.
func (s *turns) acquire(ctx context.Context, isCheap bool, w *waiter) (*turn, error) {
	s.mu.Lock()
	if got := s.take(isCheap); got != nil {
		s.mu.Unlock()
		return got, nil
	}
	s.arrivals++
	w.arrival, w.since = s.arrivals, time.Since(s.began)
	if isCheap {
		s.waiting[cheap].enter(w)
	} else {
		s.waiting[costly].enter(w)
	}
	s.noteOldest()
	s.mu.Unlock()
	select {
	case got := <-w.ready:
		return got, nil
	case <-ctx.Done():
		s.abandon(w)
		return nil, context.Cause(ctx)
	}
}

// shortAfter is how long work waits for a turn when processors are what is short: a burst of some hundred questions is
// through by then, and no client has gone.
const shortAfter = 250 * time.Millisecond

// short reports whether processors are what is short.
func (s *turns) short() bool { return s.waited() >= shortAfter }

// waited is how long the one has waited for a turn who has waited the longest. It is asked for every question.
func (s *turns) waited() time.Duration {
	oldest := s.oldest.Load()
	if oldest < 0 {
		return 0
	}
	return time.Since(s.began) - time.Duration(oldest)
}

// noteOldest notes for short who waits; mu is held.
func (s *turns) noteOldest() {
	oldest := time.Duration(-1)
	for i := range s.waiting {
		if w := s.waiting[i].first; w != nil && (oldest < 0 || w.since < oldest) {
			oldest = w.since
		}
	}
	s.oldest.Store(int64(oldest))
}

func (s *turns) take(isCheap bool) *turn {
	switch {
	case s.free > 0:
		s.free--
		return forAnybody
	case isCheap && s.reserved > 0:
		s.reserved--
		return forCheap
	}
	return nil
}

// abandon takes a waiter out of the queue; a turn it was given in the same moment goes on to the next.
func (s *turns) abandon(w *waiter) {
	s.mu.Lock()
	waited := w.leave()
	s.noteOldest()
	s.mu.Unlock()
	if !waited {
		s.release(<-w.ready)
	}
}

// release gives a turn back: to the next whom it may serve, or to the store of free ones.
func (s *turns) release(got *turn) {
	if w := s.next(got); w != nil {
		w.ready <- got
	}
}

// next takes out of the queue whom a turn goes to; if there is nobody it is free, and next nil.
func (s *turns) next(got *turn) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.first(got)
	switch {
	case w != nil:
		w.leave()
		s.noteOldest()
	case got.reserved:
		s.reserved++
	default:
		s.free++
	}
	return w
}

// first returns the one to whom a turn goes; nil if there is none.
func (s *turns) first(got *turn) *waiter {
	atCheap, atCostly := s.waiting[cheap].first, s.waiting[costly].first
	switch {
	case atCheap != nil && (got.reserved || s.single || atCostly == nil || atCheap.arrival < atCostly.arrival):
		return atCheap
	case atCostly != nil && !got.reserved:
		return atCostly
	}
	return nil
}
