package fetch

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// mostIdle is how many goroutines wait for more work: what ends in one moment begins anew in the next.
	mostIdle = 128
	// idleLife is how long those wait that are not needed.
	idleLife = time.Second
)

// crew is the work in the background. A sync.WaitGroup alone must not be added to while it is waited for. Goroutines
// that have done their work wait for more: the stack of a new one would have to grow again, as verifying takes 16 KiB.
type crew struct {
	gate   sync.RWMutex // is held to read while work begins, which many may do at once
	closed atomic.Bool  // is set with gate
	work   sync.WaitGroup

	mu    sync.Mutex
	idle  []chan func() // of goroutines that wait, the latest last
	spare int           // how many have waited since due was set
	due   *time.Timer   // ends the wait of the spare; nil while none waits
}

// start runs f, unless the crew is closed.
func (c *crew) start(f func()) bool {
	if !c.begin() {
		return false
	}
	if more := c.rested(); more != nil {
		more <- f
	} else {
		go c.labour(f)
	}
	return true
}

// rested is the goroutine that has come last of those that wait; nil if none does.
func (c *crew) rested() (more chan func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.idle); n > 0 {
		more, c.idle = c.idle[n-1], c.idle[:n-1]
		c.spare = min(c.spare, n-1)
	}
	return more
}

// labour runs f, and then what comes.
func (c *crew) labour(f func()) {
	more := make(chan func(), 1)
	for f != nil {
		c.finish(f)
		if !c.rest(more) {
			return
		}
		f = <-more
	}
}

func (c *crew) finish(f func()) {
	defer c.end()
	f()
}

// rest notes that a goroutine waits for more, if it is to.
func (c *crew) rest(more chan func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() || len(c.idle) == mostIdle {
		return false
	}
	c.idle = append(c.idle, more)
	if c.due == nil {
		c.due = time.AfterFunc(idleLife, c.dismiss)
	}
	return true
}

// dismiss ends goroutines that were not needed for a while.
func (c *crew) dismiss() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, more := range c.idle[:c.spare] {
		close(more)
	}
	c.idle = slices.Delete(c.idle, 0, c.spare)
	if c.spare = len(c.idle); c.spare > 0 {
		c.due.Reset(idleLife)
	} else {
		c.due = nil
	}
}

// begin notes work that somebody does, unless the crew is closed.
func (c *crew) begin() bool {
	c.gate.RLock()
	defer c.gate.RUnlock()
	if c.closed.Load() {
		return false
	}
	c.work.Add(1)
	return true
}

func (c *crew) end() { c.work.Done() }

// shut lets no more work begin.
func (c *crew) shut() {
	c.gate.Lock()
	c.closed.Store(true)
	c.gate.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.due != nil {
		c.due.Stop()
	}
	for _, more := range c.idle {
		close(more)
	}
	c.idle, c.spare = nil, 0
}

// wait waits for all work.
func (c *crew) wait() { c.work.Wait() }
