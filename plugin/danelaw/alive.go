package danelaw

import (
	"cmp"
	"fmt"
	"sync"
	"time"
)

// aliveEvery is how often the log tells of one upstream that dies and comes back all the time.
const aliveEvery = time.Minute

// aliveLog logs that an upstream has died or come back: at once, but no more often than once in an interval.
type aliveLog struct {
	every  time.Duration // 0: aliveEvery
	mu     sync.Mutex
	closed bool
	by     map[string]*lifeline
}

// lifeline is what is known, and what was told, of one upstream.
type lifeline struct {
	alive   bool
	why     string // if it is not
	died    time.Time
	changes int // since it was told of
	told    time.Time
	telling *time.Timer // tells the state as it is then; nil if all was told
}

// changed notes that an upstream has died, or come back.
func (l *aliveLog) changed(to string, alive bool, why string) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[string]*lifeline{}
	}
	u := l.by[to]
	if u == nil {
		u = new(lifeline)
		l.by[to] = u
	}
	u.alive, u.why = alive, why
	if u.changes++; !alive {
		u.died = now
	}
	switch wait := u.told.Add(cmp.Or(l.every, aliveEvery)).Sub(now); {
	case l.closed || u.telling != nil:
	case wait <= 0:
		u.tell(to, now)
	default:
		u.telling = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if u.telling = nil; !l.closed {
				u.tell(to, time.Now())
			}
		})
	}
}

// tell writes the line.
func (u *lifeline) tell(to string, now time.Time) {
	often := ""
	if u.changes > 1 {
		often = fmt.Sprintf("; it came or went %d times in %v", u.changes, now.Sub(u.told).Round(time.Second))
	}
	u.told, u.changes = now, 0
	if u.alive {
		log.Infof("upstream %s answers again, %v after it died%s", to, now.Sub(u.died).Round(time.Second), often)
	} else {
		log.Warningf("upstream %s counts as dead: it %s%s", to, u.why, often)
	}
}

// close ends it: what was not told is not any more.
func (l *aliveLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, u := range l.by {
		if u.telling != nil {
			u.telling.Stop()
		}
	}
}
