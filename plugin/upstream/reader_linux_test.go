package upstream

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// S-6: what arrived while this machine was too busy to read it was not lost: no copy is sent.
func TestPatienceWhileBusy(t *testing.T) {
	leakless(t)
	var set atomic.Pointer[Set]
	busy := make(chan struct{})
	s := serve(t, func(a *asked) {
		if a.n == 0 && a.network == "udp" {
			set.Load().reader.mu.Lock() // it cannot go on
			close(busy)
		}
		a.answer(theMX(t))
	})
	set.Store(rootSet(t, s.plain()))
	goesOn := sync.OnceFunc(func() {
		<-busy
		set.Load().reader.mu.Unlock()
	})
	defer goesOn()
	defer time.AfterFunc(5*time.Second, goesOn).Stop() // copies would have been sent by then
	wantMX(t, set.Load())
	if n := len(s.got("udp")) + len(s.got("tcp")); n != 1 {
		t.Errorf("asked %d times", n)
	}
}
