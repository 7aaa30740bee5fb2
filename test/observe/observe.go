// Package observe tells tests what a process has written, and what the one they run in takes.
package observe

import (
	"bytes"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// Output is what has been written so far. It may be read while it is written to.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Process watches goroutines and heap of this process; what it returns ends that and tells the most there were, of the
// heap, in octets, beside what was live before. What counts of the heap is what a collection finds live: how much
// garbage waits for the next one depends on what was in use before and on the load of the machine, not on what is
// watched.
func Process() (end func() (goroutines int, heap uint64)) {
	stop, done := make(chan struct{}), make(chan struct{})
	var goroutines int
	var heap uint64
	runtime.GC()
	runtime.GC() // what lay in pools goes with the second
	before := live()
	go func() {
		defer close(done)
		for {
			goroutines, heap = max(goroutines, runtime.NumGoroutine()), max(heap, live())
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() (int, uint64) {
		close(stop)
		<-done
		runtime.GC() // at least one collection has seen what is watched
		heap = max(heap, live())
		return goroutines, heap - min(heap, before)
	}
}

// live tells how much of the heap the last collection found live, in octets.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
