package cache

import (
	"bytes"
	"testing"
	"time"
)

// C-13: an entry is stale from the end of its Life for as long as asked for and as it lingers, but not past its
// Expires, and not once it is spent; meanwhile it is not alive. Where nothing lingers, what is looked at after its end
// is gone.
func TestStale(t *testing.T) {
	k, wire := Key{Name: "example.", Type: 15}, message(t, "example.", "example. 120 IN MX 1 mx.example.")
	for name, test := range map[string]struct {
		expires       int // seconds after noon; 0: never
		linger, most  time.Duration
		spent         bool
		first, beyond int // seconds after noon
	}{
		"for an hour":               {0, time.Hour, time.Hour, false, 100, 3700},
		"lingers longer":            {0, 24 * time.Hour, time.Hour, false, 100, 3700},
		"to its end":                {500, time.Hour, time.Hour, false, 100, 500},
		"ended by its end":          {90, time.Hour, time.Hour, false, 0, 0},
		"ended by both":             {100, time.Hour, time.Hour, false, 0, 0},
		"spent":                     {0, time.Hour, time.Hour, true, 0, 0},
		"does not linger":           {0, 0, time.Hour, false, 0, 0},
		"lingers, but not for this": {0, time.Hour, 0, false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c, e := New(64<<10), Entry{Status: 3, Stored: noon, Life: 100 * time.Second, Wire: wire}
			if test.expires > 0 {
				e.Expires = after(test.expires)
			}
			c.Linger(test.linger)
			c.Linger(0) // another user does not need it
			c.Put(k, &e, noon)
			if test.spent {
				c.Spend(k)
			}
			for at := range 4000 {
				var e Entry
				alive := c.Get(k, after(at), &e)
				if want := at < 100 && (test.expires == 0 || at < test.expires); alive != want {
					t.Fatalf("after %d s: alive %v", at, alive)
				}
				stale := c.GetStale(k, after(at), test.most, &e)
				if want := at >= test.first && at < test.beyond; stale != want {
					t.Fatalf("after %d s: stale %v", at, stale)
				}
				if stale && !bytes.Equal(e.Wire[2:], aged(t, wire, min(at, 120))[2:]) {
					t.Fatalf("after %d s: %v", at, unpack(t, e.Wire))
				}
			}
			c.Get(k, after(100_000), new(Entry))
			if _, n := c.Size(); n != 0 {
				t.Errorf("%d entries lie there for nothing", n)
			}
		})
	}
}

// C-13: what takes the place of a spent entry is not spent, and a variant is never stale.
func TestStaleAnew(t *testing.T) {
	c, k := withVariant(t)
	c.Linger(time.Hour)
	c.Spend(k)
	e := got(t, c, k, after(1))
	e.Expires = time.Time{}
	c.Put(k, e, after(1))
	if !c.GetStale(k, after(200), time.Hour, new(Entry)) || c.GetStale(k.variant(), after(200), time.Hour, new(Entry)) {
		t.Error("it is spent, or its variant is stale")
	}
	c.Remove(k)
	if c.GetStale(k, after(200), time.Hour, new(Entry)) {
		t.Error("removed, it is stale")
	}
}
