package world

import (
	"sync"
	"time"
)

// Clock is a clock that only the test moves. The zero value shows the zero time.
type Clock struct {
	mu   sync.Mutex
	now  time.Time
	told func(time.Time)
}

// NewClock returns a clock that shows now.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now returns the time that it shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Set makes it show another time.
func (c *Clock) Set(now time.Time) { c.move(func(time.Time) time.Time { return now }) }

// Advance moves it forward.
func (c *Clock) Advance(d time.Duration) { c.move(func(now time.Time) time.Time { return now.Add(d) }) }

// Tell calls f with the time now, and again after each change.
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
