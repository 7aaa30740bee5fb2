package upstream

import (
	"fmt"
	"sync"
	"time"
)

const (
	// firstCopy is how long the first copy of a question is waited for before the second goes out. Twice the smoothed
	// round trip, if that is more, but no more than lastCopy.
	firstCopy = 400 * time.Millisecond
	lastCopy  = 2 * time.Second
	// steadyCopies is how far the time between copies grows: within the time a client waits (L-10) six fit in.
	steadyCopies = time.Second
	// maxMissed questions in a row without any reply, and an upstream counts as dead. Fewer may all have been about names
	// whose own servers are dead.
	maxMissed = 4
	// A dead upstream is tried again after firstBackoff, and then ever less often.
	firstBackoff = time.Second
	lastBackoff  = time.Minute
)

// health is what questions and the fitness test have taught of one upstream.
type health struct {
	changed func(fit, alive bool, why string) // is told of each change; not called concurrently

	mu      sync.Mutex
	unfit   bool
	missed  int           // questions without reply since the last one
	backoff time.Duration // 0: alive
	again   time.Time     // when it is tried again, if dead
	rtt     time.Duration // smoothed; 0 while unknown
}

// heard notes a reply of any kind.
func (h *health) heard(took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.missed = 0
	if h.rtt == 0 {
		h.rtt = took
	}
	h.rtt += (took - h.rtt) / 8 // RFC 6298 section 2.3
	if h.backoff > 0 {
		h.backoff = 0
		h.report("")
	}
}

// missing notes that a question was given up without a reply.
func (h *health) missing(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.missed++; h.missed >= maxMissed {
		h.die(now, fmt.Sprintf("sent no reply to %d questions in a row", h.missed))
	}
}

// broke notes that it cannot be reached at all, and what it did.
func (h *health) broke(now time.Time, did string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.die(now, did)
}

func (h *health) die(now time.Time, did string) {
	if h.backoff == 0 {
		h.backoff, h.again = firstBackoff, now.Add(firstBackoff)
		h.report(did)
	}
}

// judged notes the outcome of the fitness test.
func (h *health) judged(fit bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unfit == fit {
		h.unfit = !fit
		h.report("")
	}
}

func (h *health) report(why string) { h.changed(!h.unfit, h.backoff == 0, why) }

// state reports the outcome of the last fitness test, and whether questions are answered.
func (h *health) state() (fit, alive bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.unfit, h.backoff == 0
}

// due reports whether a dead upstream is to be tried again now. Who is told so tries it.
func (h *health) due(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.backoff == 0 || now.Before(h.again) {
		return false
	}
	h.backoff = min(2*h.backoff, lastBackoff)
	h.again = now.Add(h.backoff)
	return true
}

// patience is how long to wait before a question is sent once more.
func (h *health) patience() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return min(max(firstCopy, 2*h.rtt), lastCopy)
}

// State is what is known of one upstream.
type State struct {
	Upstream string  `json:"upstream"`
	Fit      bool    `json:"fit"`    // it has not failed the last test of fitness
	Alive    bool    `json:"alive"`  // it answers
	RTT      float64 `json:"rtt_ms"` // smoothed, in milliseconds; 0 before the first reply
}

// States returns the states of all upstreams, in the order of the configuration.
func (s *Set) States() []State {
	all := []State{}
	for _, u := range s.upstreams {
		u.health.mu.Lock()
		all = append(all, State{
			Upstream: u.name, Fit: !u.health.unfit, Alive: u.health.backoff == 0, RTT: float64(u.health.rtt.Microseconds()) / 1000,
		})
		u.health.mu.Unlock()
	}
	return all
}
