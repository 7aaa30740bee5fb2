package upstream

import (
	"container/heap"
	"sync"
	"time"
)

// schedule is what is due when, with one timer for all of it: copies, the ends of questions and of sockets. It is safe
// for concurrent use.
type schedule struct {
	pause   func() // as Config.Pause, between two that are due at once; nil: nothing is done
	mu      sync.Mutex
	queue   dueTimes
	timer   *time.Timer
	rings   time.Time // when the timer does; zero: not at all
	ringing bool      // it has: next winds it
	closed  bool
}

// due is something that may be due at a time.
type due struct {
	// ring is called then, and soon once the schedule is closed, by a goroutine of the schedule. It may be called just
	// after the time was changed.
	ring  func()
	at    time.Time
	place int // in the queue, counted from 1; 0: not there
}

// set has d ring at a time, and at no other.
func (s *schedule) set(d *due, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch d.at = at; {
	case s.closed:
		go d.ring()
	case d.place > 0:
		heap.Fix(&s.queue, d.place-1)
		s.wind()
	default:
		heap.Push(&s.queue, d)
		s.wind()
	}
}

// drop has d ring no more.
func (s *schedule) drop(d *due) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.place > 0 {
		heap.Remove(&s.queue, d.place-1)
	}
}

// wind has the timer ring early enough; s.mu is held. Where it rings too early, as what was first has been dropped, it
// is wound again then.
func (s *schedule) wind() {
	if s.ringing || len(s.queue) == 0 || !s.rings.IsZero() && !s.queue[0].at.Before(s.rings) {
		return
	}
	s.rings = s.queue[0].at
	if d := time.Until(s.rings); s.timer == nil {
		s.timer = time.AfterFunc(d, s.ring)
	} else {
		s.timer.Reset(d)
	}
}

// ring rings all that is due. Only one goroutine does, for which the timer stands still: what is due may take long, and
// there would be another one whenever something is, which is more than its share of the processors.
func (s *schedule) ring() {
	for d := s.next(); d != nil; d = s.next() {
		if s.pause != nil {
			s.pause()
		}
		d.ring()
	}
}

// next takes out what is due; nil: nothing is any more, and the timer runs again.
func (s *schedule) next() *due {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ringing = len(s.queue) > 0 && (s.closed || !s.queue[0].at.After(time.Now())); s.ringing {
		return heap.Pop(&s.queue).(*due)
	}
	s.rings = time.Time{}
	s.wind()
	return nil
}

// over reports whether the schedule is closed.
func (s *schedule) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// close makes all that is in the schedule due, and what comes later too.
func (s *schedule) close() {
	s.mu.Lock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.ring()
}

// dueTimes is a heap, the earliest first.
type dueTimes []*due

func (q dueTimes) Len() int           { return len(q) }
func (q dueTimes) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q dueTimes) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i+1, j+1
}

func (q *dueTimes) Push(d any) {
	*q = append(*q, d.(*due))
	d.(*due).place = len(*q)
}

func (q *dueTimes) Pop() any {
	last := len(*q) - 1
	d := (*q)[last]
	(*q)[last] = nil
	*q, d.place = (*q)[:last], 0
	return d
}
