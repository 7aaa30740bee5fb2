package danelaw

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	usualGrowth = 100     // percent: GOGC as Go has it
	goLeastHeap = 4 << 20 // octets at GOGC=100, as Go's runtime has it
	// seldom is how long the collector is to be left alone. A flood of random names would have it run a third of the
	// time, and what is asked of the cache meanwhile waits for it.
	seldom = 500 * time.Millisecond
)

// SpareCollector has Go's collector begin later while little lives in the heap: what is promised for questions in
// flight (L-15) may be garbage as long as these do not take it. Answers are kept outside of the heap, and by itself the
// collector would look through it with every 4 MiB: ten times a second while domains never seen come, for a tenth of
// the processor. Where it still runs often, all that is promised for the heap may be garbage. GOGC, if it is set, wins.
func SpareCollector() {
	if os.Getenv("GOGC") == "" {
		p := &pace{at: time.Now()}
		afterEachCollection(func() { p.spare(ours().work, heapPromised()) })
	}
}

// heapPromised is how much the heap may have of what is promised. An eighth is for stacks and the runtime's own.
func heapPromised() int64 { return (caches.Load()/8 + atRest - fileBacked + ours().work) / 8 * 7 }

// afterEachCollection has f called soon after each run of the collector.
func afterEachCollection(f func()) {
	runtime.AddCleanup(new([2]*int), func(f func()) {
		f()
		afterEachCollection(f)
	}, f)
}

// pace is how fast memory was asked for between two runs of the collector.
type pace struct {
	at    time.Time // of the last one
	asked uint64    // octets till then
}

// spare sets by how much the heap may grow, so that it reaches least octets, or as many more, up to most, as keep the
// collector from running soon.
func (p *pace) spare(least, most int64) {
	sample := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
		{Name: "/gc/gogc:percent"}, {Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(sample)
	live := sample[0].Value.Uint64()
	soon := int64(live) + p.next(sample[4].Value.Uint64(), time.Now())
	want := growth(max(least, min(soon, most)), live, live+sample[1].Value.Uint64()+sample[2].Value.Uint64())
	// to set it stops the process for a moment
	if now := float64(sample[3].Value.Uint64()); math.Abs(float64(want)-now) > now/10 {
		debug.SetGCPercent(want)
	}
}

// next notes how much has been asked for by now, and returns how much will be before the collector is to run again.
func (p *pace) next(asked uint64, now time.Time) int64 {
	passed := max(now.Sub(p.at), time.Millisecond)
	octets := float64(asked-p.asked) * float64(seldom) / float64(passed)
	p.at, p.asked = now, asked
	return int64(octets)
}

// growth is the GOGC with which a heap in which so much lives is looked through when it has so many octets, but not
// before it has grown by what is usual. GOGC is a percentage of what is looked through: of stacks and globals, too.
func growth(octets int64, live, lookedThrough uint64) (percent int) {
	percent = int((octets - int64(live)) * 100 / int64(max(1, lookedThrough)))
	return min(max(usualGrowth, percent), max(usualGrowth, int(octets*usualGrowth/goLeastHeap)))
}
