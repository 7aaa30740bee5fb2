package fetch

import "sync"

// mostIdle is how many goroutines wait for more work: what ends in one moment begins anew in the next.
const mostIdle = 128

// crew is the work in the background. A sync.WaitGroup alone must not be added to while it is waited for. Goroutines
// that have done their work wait for more: the stack of a new one would have to grow again, as verifying takes 16 KiB.
type crew struct {
	mu     sync.Mutex
	closed bool
	idle   []chan func() // of goroutines that wait, the latest last
	work   sync.WaitGroup
}

// start runs f, unless the crew is closed.
func (c *crew) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Add(1)
	if n := len(c.idle); n > 0 {
		c.idle[n-1] <- f
		c.idle = c.idle[:n-1]
	} else {
		go c.labour(f)
	}
	return true
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
	if c.closed || len(c.idle) == mostIdle {
		return false
	}
	c.idle = append(c.idle, more)
	return true
}

// begin notes work that somebody does, unless the crew is closed.
func (c *crew) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.work.Add(1)
	}
	return !c.closed
}

func (c *crew) end() { c.work.Done() }

// shut lets no more work begin.
func (c *crew) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, more := range c.idle {
		close(more)
	}
	c.idle = nil
}

// wait waits for all work.
func (c *crew) wait() { c.work.Wait() }
