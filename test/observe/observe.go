// Package observe shows tests the output of a process, and how many goroutines and how much memory their own process
// uses.
package observe

import (
	"bytes"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// Output collects what is written to it. It may be read at the same time.
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

// Process watches the goroutines and the heap of this process. The function that it returns ends that, and returns the
// greatest number of goroutines and by how many octets the live heap grew at most. Only what a garbage collection finds
// live counts: how much garbage there is besides depends on the load of the machine, not on what is watched.
func Process() (end func() (goroutines int, heap uint64)) {
	stop, done := make(chan struct{}), make(chan struct{})
	var goroutines int
	var heap uint64
	runtime.GC()
	runtime.GC() // the second collection frees what lay in pools
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
		runtime.GC() // so that at least one collection sees what is watched
		heap = max(heap, live())
		return goroutines, heap - min(heap, before)
	}
}

// live returns how many octets of the heap the last collection found live.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
