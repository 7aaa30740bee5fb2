package fetch

import (
	"testing"
	"time"
)

// L-13: processors are short once a tenth of all waits for one have been long for a while, not for a burst of them; and
// no more once that is over for a while.
func TestProcessorsShort(t *testing.T) {
	var all, long uint64
	p := &processors{waits: func() (uint64, uint64) { return all, long }}
	now := time.Now()
	p.short(now)
	after := func(d time.Duration, thousand uint64) bool {
		short := false
		for range d / lookEvery {
			now = now.Add(lookEvery)
			all, long = all+1000, long+thousand
			short = p.short(now)
		}
		return short
	}
	for _, row := range []struct {
		name  string
		lasts time.Duration
		long  uint64 // of a thousand waits
		want  bool
	}{
		{"at rest", time.Second, 0, false},
		{"a twentieth is long", 5 * time.Second, 50, false},
		{"at rest between", time.Second, 0, false},
		{"a burst", lookEvery, 400, false},
		{"at rest again", time.Second, 0, false},
		{"a third for a while", 200 * time.Millisecond, 333, true},
		{"a moment's rest", lookEvery, 0, true},
		{"rest", time.Second, 0, false},
	} {
		if got := after(row.lasts, row.long); got != row.want {
			t.Errorf("%s: short %v, share %.3f", row.name, got, p.share)
		}
	}
	all = 0 // nothing ran at all: no wait was long
	if p = (&processors{waits: func() (uint64, uint64) { return 0, 0 }}); p.short(now) {
		t.Error("short before anything ran")
	}
}

// The runtime gives its figures under this name: goroutines that have run were counted, and so are long waits of many
// for few processors.
func TestGoroutineWaits(t *testing.T) {
	waits := goroutineWaits()
	before, _ := waits()
	done := make(chan bool)
	for range 1000 {
		go func() { done <- true }()
	}
	for range 1000 {
		<-done
	}
	if after, long := waits(); after <= before || long > after {
		t.Errorf("%d waits before and %d after a thousand goroutines, %d of them long", before, after, long)
	}
}
