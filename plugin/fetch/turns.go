package fetch

import (
	"container/list"
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
	waiting  [2]*list.List // of *waiter, in order of arrival: costly work and cheap work
	arrivals uint64
	began    time.Time
	oldest   atomic.Int64 // how long after began the one came who has waited the longest; negative: nobody waits
}

// The queues for a turn.
const (
	costly = iota
	cheap
)

type waiter struct {
	arrival uint64
	since   time.Time
	ready   chan *turn
}

// turn is the right to verify.
type turn struct{ reserved bool }

// All turns are one of the two.
var forAnybody, forCheap = &turn{}, &turn{reserved: true}

func newTurns() *turns {
	n := runtime.GOMAXPROCS(0)
	s := &turns{free: n - 1, reserved: 1, waiting: [2]*list.List{list.New(), list.New()},
		began: time.Now()}
	s.oldest.Store(-1)
	if n == 1 {
		s.free, s.reserved, s.single = 1, 0, true
	}
	return s
}

// acquire waits for a turn; the error is ctx's.
func (s *turns) acquire(ctx context.Context, isCheap bool) (*turn, error) {
	s.mu.Lock()
	if got := s.take(isCheap); got != nil {
		s.mu.Unlock()
		return got, nil
	}
	queue := s.waiting[costly]
	if isCheap {
		queue = s.waiting[cheap]
	}
	s.arrivals++
	w := &waiter{s.arrivals, time.Now(), make(chan *turn, 1)}
	place := queue.PushBack(w)
	s.noteOldest()
	s.mu.Unlock()
	select {
	case got := <-w.ready:
		return got, nil
	case <-ctx.Done():
		s.abandon(w, queue, place)
		return nil, context.Cause(ctx)
	}
}

// shortAfter is how long work waits for a turn when processors are what is short: a burst of some hundred questions is
// through by then, and no client has gone.
const shortAfter = 250 * time.Millisecond

// short reports whether processors are what is short. It is asked for every question.
func (s *turns) short() bool {
	oldest := s.oldest.Load()
	return oldest >= 0 && time.Since(s.began)-time.Duration(oldest) >= shortAfter
}

// noteOldest notes for short who waits; mu is held.
func (s *turns) noteOldest() {
	oldest := time.Duration(-1)
	for _, queue := range s.waiting {
		if e := queue.Front(); e != nil {
			if since := e.Value.(*waiter).since.Sub(s.began); oldest < 0 || since < oldest {
				oldest = since
			}
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
func (s *turns) abandon(w *waiter, queue *list.List, place *list.Element) {
	s.mu.Lock()
	queue.Remove(place)
	s.noteOldest()
	s.mu.Unlock()
	select {
	case got := <-w.ready:
		s.release(got)
	default:
	}
}

// release gives a turn back: to the next whom it may serve, or to the store of free ones.
func (s *turns) release(got *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch queue := s.next(got); {
	case queue != nil:
		queue.Remove(queue.Front()).(*waiter).ready <- got
		s.noteOldest()
	case got.reserved:
		s.reserved++
	default:
		s.free++
	}
}

// next returns the queue whose first waiter a turn goes to; nil if there is none.
func (s *turns) next(got *turn) *list.List {
	atCheap, atCostly := s.waiting[cheap].Front(), s.waiting[costly].Front()
	switch {
	case atCheap != nil && (got.reserved || s.single || atCostly == nil || arrival(atCheap) < arrival(atCostly)):
		return s.waiting[cheap]
	case atCostly != nil && !got.reserved:
		return s.waiting[costly]
	}
	return nil
}

func arrival(e *list.Element) uint64 { return e.Value.(*waiter).arrival }
