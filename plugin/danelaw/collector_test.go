package danelaw

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// L-15: while little lives in the heap it grows as far as is spared, and never by less than is usual.
func TestGrowth(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		octets              int64
		live, lookedThrough uint64
		want                int
	}{
		{24 * mib, 8 * mib, 8 * mib, 200},
		{24 * mib, 8 * mib, 16 * mib, 100},
		{24 * mib, 12 * mib, 12 * mib, 100},
		{24 * mib, 20 * mib, 20 * mib, 100},
		{24 * mib, 200 * mib, 200 * mib, 100},
		{24 * mib, 1 * mib, 1 * mib, 600}, // by Go's least heap the collector waits for 24 MiB
		{24 * mib, 0, 0, 600},
		{4 * mib, 1 * mib, 1 * mib, 100},
		{1 * mib, 0, 0, 100},
	} {
		if got := growth(tt.octets, tt.live, tt.lookedThrough); got != tt.want {
			t.Errorf("%d octets with %d of %d: %d, want %d", tt.octets, tt.live, tt.lookedThrough, got, tt.want)
		}
	}
}

// L-15: the next run of the collector comes after half a second, if as much memory is asked for until then as was since
// the last one, and a run at the same moment is no reason to take all memory there is.
func TestPace(t *testing.T) {
	const mib = 1 << 20
	begun := time.Now()
	p := &pace{at: begun}
	for _, tt := range []struct {
		after time.Duration // since the beginning
		asked uint64
		want  int64
	}{
		{time.Second, 10 * mib, 5 * mib}, {1100 * time.Millisecond, 20 * mib, 50 * mib},
		{time.Minute + 1100*time.Millisecond, 32 * mib, mib / 10}, {time.Minute + 1100*time.Millisecond, 32 * mib, 0},
	} {
		if got := p.next(tt.asked, begun.Add(tt.after)); got < tt.want*99/100 || got > tt.want*101/100 {
			t.Errorf("%d MiB after %v: %d octets more, want %d", tt.asked/mib, tt.after, got, tt.want)
		}
	}
}

// After each run of the collector the next one is put off, in danelaw's own program only, and GOGC wins.
func TestSpareCollector(t *testing.T) {
	percent := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before := debug.SetGCPercent(usualGrowth)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "50")
	SpareCollector()
	runtime.GC()
	time.Sleep(10 * time.Millisecond)
	if got := percent(); got != usualGrowth {
		t.Errorf("GOGC is set, and is %d", got)
	}
	t.Setenv("GOGC", "")
	p := new(pace)
	p.spare(1<<40, 1<<40)
	most := percent()
	debug.SetGCPercent(usualGrowth)
	ran, ended := make(chan struct{}, 1), make(chan struct{})
	var over atomic.Bool
	var end sync.Once
	afterEachCollection(func() {
		if over.Load() {
			end.Do(func() { close(ended) })
			return
		}
		p.spare(1<<40, 1<<40)
		select {
		case ran <- struct{}{}:
		default:
		}
	})
	defer func() { // none may set anything after GOGC is as it was: then the collector would run no more
		over.Store(true)
		collect(ended)
	}()
	for range 2 {
		collect(ran)
	}
	if got := percent(); got < most/2 || got == usualGrowth {
		t.Errorf("GOGC is %d, want about %d", got, most)
	}
}

// collect runs the collector until something has come of it: what comes of one run may be too late for the next.
func collect(done <-chan struct{}) {
	for {
		runtime.GC()
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
	}
}
