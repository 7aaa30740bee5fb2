package chain

import (
	"container/list"
	"context"
	"runtime"
	"sync"
)

// slots lets at most GOMAXPROCS client queries verify at once (L-7). One slot serves only queries whose chain is cached,
// so that expensive chains, an attacker's among them, cannot keep cached ones waiting; with a single slot those go to
// the head of the queue instead.
type slots struct {
	mu       sync.Mutex
	free     int // slots for anybody
	reserved int // free slots for cheap work only: 0 or 1
	single   bool
	queue    *list.List // of *waiter
}

type waiter struct {
	cheap bool
	ready chan *slot
}

// slot is the right to verify.
type slot struct{ reserved bool }

func newSlots() *slots {
	n := runtime.GOMAXPROCS(0)
	if n == 1 {
		return &slots{free: 1, single: true, queue: list.New()}
	}
	return &slots{free: n - 1, reserved: 1, queue: list.New()}
}

// acquire waits for a slot; the error is ctx's.
func (s *slots) acquire(ctx context.Context, cheap bool) (*slot, error) {
	s.mu.Lock()
	if got := s.take(cheap); got != nil {
		s.mu.Unlock()
		return got, nil
	}
	w := &waiter{cheap, make(chan *slot, 1)}
	place := s.enqueue(w)
	s.mu.Unlock()
	select {
	case got := <-w.ready:
		return got, nil
	case <-ctx.Done():
		s.abandon(w, place)
		return nil, context.Cause(ctx)
	}
}

func (s *slots) take(cheap bool) *slot {
	switch {
	case s.free > 0:
		s.free--
		return &slot{}
	case cheap && s.reserved > 0:
		s.reserved--
		return &slot{reserved: true}
	}
	return nil
}

func (s *slots) enqueue(w *waiter) *list.Element {
	if s.single && w.cheap {
		return s.queue.PushFront(w)
	}
	return s.queue.PushBack(w)
}

// abandon takes a waiter out of the queue; a slot it was given in the same moment goes on to the next.
func (s *slots) abandon(w *waiter, place *list.Element) {
	s.mu.Lock()
	s.queue.Remove(place)
	s.mu.Unlock()
	select {
	case got := <-w.ready:
		s.release(got)
	default:
	}
}

// release gives a slot back: to the first in the queue whom it may serve, or to the store of free ones.
func (s *slots) release(got *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.queue.Front(); e != nil; e = e.Next() {
		if w := e.Value.(*waiter); w.cheap || !got.reserved {
			s.queue.Remove(e)
			w.ready <- got
			return
		}
	}
	if got.reserved {
		s.reserved++
	} else {
		s.free++
	}
}
