//go:build !race

package cache

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// A cache that nobody holds any more gives its memory back, wherever it lies.
func TestMemoryIsGivenBack(t *testing.T) {
	const size, most = 4 << 30, time.Minute
	before := virtual(t)
	c := New(size)
	fill(c, &Entry{Stored: noon, Life: time.Hour, Wire: txt(t, "example.", 1)}, 0, 1000)
	if grown := virtual(t) - before; grown < size/2 {
		t.Fatalf("the process has grown by %d octets only", grown)
	}
	runtime.KeepAlive(c)
	for start := time.Now(); virtual(t)-before >= size/2; runtime.GC() { // after it, cleanups run in their own time
		if time.Since(start) > most {
			t.Fatalf("the process is still larger by %d octets", virtual(t)-before)
		}
	}
}

// virtual returns the size of the process's address space.
func virtual(t *testing.T) int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages int64
	fmt.Sscan(string(statm), &pages)
	return pages * int64(os.Getpagesize())
}
