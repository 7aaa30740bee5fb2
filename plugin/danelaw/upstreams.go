package danelaw

import (
	"maps"
	"sync"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// upstreams are whom a Handler asks, and what is known of them. It implements upstream.Meter.
type upstreams struct {
	*upstream.Set
	block  string
	memory *memory
	states upstreamStates
	alive  aliveLog
}

var _ upstream.Meter = (*upstreams)(nil)

func newUpstreams(c Config, m *memory) (u *upstreams, err error) {
	u = &upstreams{block: c.Block, memory: m}
	u.Set, err = upstream.New(upstream.Config{
		Routes: c.Routes, Next: c.Next, Private: c.Private, RootCAs: c.RootCAs, EDNSSize: c.EDNSSize,
		Clock: c.Clock, Meter: u,
	})
	return u, err
}

// Close ends them.
func (u *upstreams) Close() {
	u.Set.Close()
	u.alive.close()
}

// Asked implements upstream.Meter.
func (u *upstreams) Asked(to string) { upstreamQuestions.WithLabelValues(u.block, to).Inc() }

// Answered implements upstream.Meter.
func (u *upstreams) Answered(to string, took time.Duration) {
	upstreamDuration.WithLabelValues(u.block, to).Observe(took.Seconds())
}

// Failed implements upstream.Meter.
func (u *upstreams) Failed(to string, reason upstream.Reason) {
	upstreamFailures.WithLabelValues(u.block, to, string(reason)).Inc()
}

// Mismatched implements upstream.Meter.
func (u *upstreams) Mismatched(to string) { upstreamMismatches.WithLabelValues(u.block, to).Inc() }

// Exhausted implements upstream.Meter.
func (u *upstreams) Exhausted(to string) { exhausted.WithLabelValues(u.block, to).Inc() }

// State implements upstream.Meter. What failed while an upstream was away is worth another try now (C-11).
func (u *upstreams) State(to string, fit, alive bool, why string) {
	old := u.states.set(to, upstreamState{fit, alive})
	if alive != old.alive {
		u.alive.changed(to, alive, why)
	}
	if alive && !old.alive {
		u.memory.ForgetFailures()
	}
}

// upstreamState is what is known of an upstream.
type upstreamState struct{ fit, alive bool }

// upstreamStates are those of all upstreams of a Handler. One of which nothing was heard is in order.
type upstreamStates struct {
	mu sync.Mutex
	by map[string]upstreamState
}

// set replaces the state of an upstream and returns the old one.
func (u *upstreamStates) set(to string, s upstreamState) upstreamState {
	u.seen(to)
	u.mu.Lock()
	defer u.mu.Unlock()
	old := u.by[to]
	u.by[to] = s
	return old
}

// seen notes that there is such an upstream.
func (u *upstreamStates) seen(to string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.by[to]; ok {
		return
	}
	if u.by == nil {
		u.by = map[string]upstreamState{}
	}
	u.by[to] = upstreamState{fit: true, alive: true}
}

func (u *upstreamStates) all() map[string]upstreamState {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.by)
}
