package fetch

import (
	"math"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// processors tells from how long goroutines wait for a processor whether those are what is short (L-13): each question
// takes many turns of the scheduler, so with too many at once all of them come too late. It is asked for every
// question.
type processors struct {
	mu      sync.Mutex
	waits   func() (all, long uint64) // of goroutines, since the process began
	all     uint64
	long    uint64
	share   float64      // of long waits among all, lately
	looked  atomic.Int64 // when, in nanoseconds of the clock
	isShort atomic.Bool  // what was seen then
}

const (
	longWait  = 10 * time.Millisecond  // a question takes some ten turns
	longShare = 0.1                    // of all waits: more are a sign that processors are short
	lookEvery = 50 * time.Millisecond  // takes some microseconds
	lately    = 250 * time.Millisecond // a burst of some hundred questions is over by then, and no client has gone
)

func newProcessors() *processors { return &processors{waits: goroutineWaits()} }

// short reports whether processors have been short lately.
func (p *processors) short(now time.Time) bool {
	at, looked := now.UnixNano(), p.looked.Load()
	since := time.Duration(at - looked).Abs() // the clock may have been set back
	if since >= lookEvery && p.looked.CompareAndSwap(looked, at) {
		p.look(since)
	}
	return p.isShort.Load()
}

// look reads the figures, so long after the last time.
func (p *processors) look(since time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, long := p.waits()
	seen := float64(long-p.long) / float64(max(1, all-p.all))
	p.share += (seen - p.share) * (1 - math.Exp(-float64(since)/float64(lately)))
	p.all, p.long = all, long
	p.isShort.Store(p.share >= longShare)
}

// goroutineWaits returns a reader of the runtime's own figures.
func goroutineWaits() func() (all, long uint64) {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	return func() (all, long uint64) {
		metrics.Read(sample)
		h := sample[0].Value.Float64Histogram()
		for i, n := range h.Counts {
			if all += n; h.Buckets[i] >= longWait.Seconds() {
				long += n
			}
		}
		return all, long
	}
}
