package chain

import (
	"sync"
	"sync/atomic"
)

// generation counts what puts out of date all that has begun: other trust anchors, be they negative, and that what is
// known is forgotten (C-12, T-8).
type generation struct {
	keeping sync.RWMutex // is held to read by who keeps what it has found
	now     atomic.Uint64
}

// next begins another one. From then on who began before keeps nothing: what it has kept is there, to be forgotten.
func (g *generation) next() {
	g.keeping.Lock()
	defer g.keeping.Unlock()
	g.now.Add(1)
}

// keep calls f, which keeps what was found by who began with a generation, if that is the present one.
func (g *generation) keep(began uint64, f func()) (kept bool) {
	g.keeping.RLock()
	defer g.keeping.RUnlock()
	if began != g.now.Load() {
		return false
	}
	f()
	return true
}
