package danelaw

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	usualGrowth = 100     // percent: GOGC as Go has it
	goLeastHeap = 4 << 20 // octets at GOGC=100, as Go's runtime has it
)

// SpareCollector has Go's collector begin later while little lives in the heap: what is promised for questions in
// flight (L-15) may be garbage as long as these do not take it. Answers are kept outside of the heap, and by itself the
// collector would look through it with every 4 MiB: ten times a second while domains never seen come, for a tenth of
// the processor. GOGC, if it is set, wins.
func SpareCollector() {
	if os.Getenv("GOGC") == "" {
		afterEachCollection(func() { spare(ours().work) })
	}
}

// afterEachCollection has f called soon after each run of the collector.
func afterEachCollection(f func()) {
	runtime.AddCleanup(new([2]*int), func(f func()) {
		f()
		afterEachCollection(f)
	}, f)
}

// spare sets by how much the heap may grow, so that it reaches the given octets.
func spare(octets int64) {
	sample := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
		{Name: "/gc/gogc:percent"},
	}
	metrics.Read(sample)
	live := sample[0].Value.Uint64()
	want := growth(octets, live, live+sample[1].Value.Uint64()+sample[2].Value.Uint64())
	// to set it stops the process for a moment
	if now := float64(sample[3].Value.Uint64()); math.Abs(float64(want)-now) > now/10 {
		debug.SetGCPercent(want)
	}
}

// growth is the GOGC with which a heap in which so much lives is looked through when it has so many octets, but not
// before it has grown by what is usual. GOGC is a percentage of what is looked through: of stacks and globals, too.
func growth(octets int64, live, lookedThrough uint64) (percent int) {
	percent = int((octets - int64(live)) * 100 / int64(max(1, lookedThrough)))
	return min(max(usualGrowth, percent), max(usualGrowth, int(octets*usualGrowth/goLeastHeap)))
}
