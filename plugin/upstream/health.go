package upstream

import (
	"fmt"
	"sync"
	"time"
)

const (
	// firstCopy is how long the first copy of a question is waited for before the second goes out, while no round trip
	// has been measured.
	firstCopy = 400 * time.Millisecond
	// quickCopy and lastCopy are the bounds of that time once one has. The lower is Unbound's: less is the jitter of a
	// busy machine.
	quickCopy = 50 * time.Millisecond
	lastCopy  = 2 * time.Second
	// steadyCopies is how far the time between copies grows.
	steadyCopies = time.Second
	// maxMissed questions in a row without any reply, and an upstream counts as dead. Fewer may all have been about
	// names whose own servers are dead.
	maxMissed = 4
	// A dead upstream is tried again after firstBackoff, and then ever less often.
	firstBackoff = time.Second
	lastBackoff  = time.Minute
)

// health is what questions and the fitness test have taught of one upstream.
type health struct {
	changed func(alive bool, why string) // is told when it dies or comes back; not called concurrently

	mu      sync.Mutex
	unfit   bool
	missed  int           // questions without reply since the last one
	backoff time.Duration // 0: alive
	again   time.Time     // when it is tried again, if dead
	times   roundTrips
}

// roundTrips is what has been measured of the time from a question to its reply.
type roundTrips struct {
	known     bool
	mean, dev time.Duration // SRTT and RTTVAR of RFC 6298
	// rare is what one reply in twenty or so exceeds. Replies from a resolver's cache are quick, those that it had to
	// fetch are slow. Among many quick ones mean and deviation soon forget a few slow ones, and then each slow one
	// would cost copies.
	rare time.Duration
}

func (r *roundTrips) add(took time.Duration) {
	if !r.known {
		r.known, r.mean, r.dev = true, took, took/2 // RFC 6298 section 2.2
	} else { // section 2.3
		r.dev += ((took - r.mean).Abs() - r.dev) / 4
		r.mean += (took - r.mean) / 8
	}
	if took > r.rare {
		r.rare += (took - r.rare) / 2
	} else {
		r.rare -= r.rare / 32
	}
}

// timeout is how long a reply is to be waited for before it is to be thought lost.
func (r *roundTrips) timeout() time.Duration {
	if !r.known {
		return firstCopy
	}
	return min(max(quickCopy, r.mean+4*r.dev, r.rare), lastCopy)
}

// outage is how long something on the way may be down for the last of the first four copies to get through.
const outage = 2200 * time.Millisecond

// copyAfter is the time between copies: the patience before the first, counted from 0, then twice of it, and then so
// long that something on the way may have recovered. With mostCopies they go out after 0, 50, 150 and 2200 ms on a
// quick path, and after 0, 400, 1200 and 2200 ms for the first question of all.
func copyAfter(n int, patience time.Duration) time.Duration {
	switch n {
	case 0:
		return patience
	case 1:
		return max(patience, min(2*patience, steadyCopies))
	case 2:
		return max(patience, steadyCopies, outage-3*patience)
	}
	return max(patience, steadyCopies)
}

// measured notes how long after it went out a message was replied to.
func (h *health) measured(took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.times.add(took)
}

// heard notes a reply of any kind.
func (h *health) heard() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.missed = 0
	if h.backoff > 0 {
		h.backoff = 0
		h.changed(true, "")
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
		h.changed(false, did)
	}
}

// judged notes the outcome of the fitness test.
func (h *health) judged(fit bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unfit = !fit
}

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
	return h.times.timeout()
}

// State is what is known of one upstream.
type State struct {
	Upstream string
	Fit      bool    // it has not failed the last test of fitness
	Alive    bool    // it answers
	RTT      float64 // smoothed, in milliseconds; 0 before the first reply
}

// States returns the states of all upstreams, in the order of the configuration.
func (s *Set) States() []State {
	all := []State{}
	for _, u := range s.upstreams {
		u.health.mu.Lock()
		all = append(all, State{
			Upstream: u.name, Fit: !u.health.unfit, Alive: u.health.backoff == 0,
			RTT: float64(u.health.times.mean.Microseconds()) / 1000,
		})
		u.health.mu.Unlock()
	}
	return all
}
