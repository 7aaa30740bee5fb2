package upstream

import (
	"sync/atomic"
	"testing"
)

// What arrived while this machine was too busy to read it was not lost: no copy is sent.
func TestPatienceWhileBusy(t *testing.T) {
	leakless(t)
	var set atomic.Pointer[Set]
	s := serve(t, func(a *asked) {
		set.Load().reader.mu.Lock() // it cannot go on
		a.answer(theMX(t))
	})
	set.Store(rootSet(t, s.plain()))
	wantMX(t, set.Load())
	set.Load().reader.mu.Unlock()
	if n := len(s.got("udp")) + len(s.got("tcp")); n != 1 {
		t.Errorf("asked %d times", n)
	}
}
