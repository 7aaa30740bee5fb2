package world

import (
	"sync"
	"time"
)

// Clock stands still until it is moved by hand. The zero value shows the zero time.
type Clock struct {
	mu   sync.Mutex
	now  time.Time
	told func(time.Time)
}

// NewClock returns a clock that shows now.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is the time it shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Set has it show another time.
func (c *Clock) Set(now time.Time) { c.move(func(time.Time) time.Time { return now }) }

// Advance moves it on.
func (c *Clock) Advance(d time.Duration) { c.move(func(now time.Time) time.Time { return now.Add(d) }) }

// Tell has f be told of the time now, and of each change.
func (c *Clock) Tell(f func(time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = f
	f(c.now)
}

func (c *Clock) move(to func(time.Time) time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now = to(c.now); c.told != nil {
		c.told(c.now)
	}
}
