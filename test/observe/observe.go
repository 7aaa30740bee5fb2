// Package observe tells tests what a process has written, and what the one they run in takes.
package observe

import (
	"bytes"
	"runtime"
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

// Process watches goroutines and heap of this process; what it returns ends that and tells the most there were, of the heap, in octets,
// beside what was in use before.
func Process() (end func() (goroutines int, heap uint64)) {
	stop, done := make(chan struct{}), make(chan struct{})
	var goroutines int
	var heap uint64
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before := m.HeapInuse
	go func() {
		defer close(done)
		for {
			runtime.ReadMemStats(&m)
			goroutines, heap = max(goroutines, runtime.NumGoroutine()), max(heap, m.HeapInuse)
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
		return goroutines, heap - min(heap, before)
	}
}
