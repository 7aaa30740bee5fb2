package fetch

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// What a crew has begun runs once, be it by a goroutine that was there; when it is shut what runs ends as it would, no
// more begins, and none is left waiting.
func TestCrew(t *testing.T) {
	before := runtime.NumGoroutine()
	var c crew
	ran := make(chan int)
	for round := range 3 {
		for i := range 2 * mostIdle {
			if !c.start(func() { ran <- i }) {
				t.Fatal("closed too early")
			}
		}
		seen := map[int]bool{}
		for range 2 * mostIdle {
			seen[<-ran] = true
		}
		if len(seen) != 2*mostIdle {
			t.Fatalf("round %d: %d ran", round, len(seen))
		}
	}
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines of %d wait on", runtime.NumGoroutine(), before)
		}
	}
	goOn := make(chan struct{})
	var last sync.WaitGroup
	last.Add(1)
	c.start(func() { <-goOn; last.Done() })
	c.shut()
	if c.start(func() { t.Error("begun after the end") }) || c.begin() {
		t.Error("begins after the end")
	}
	close(goOn)
	c.wait()
	last.Wait()
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
		}
	}
}
