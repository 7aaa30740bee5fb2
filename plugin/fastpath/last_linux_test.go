package fastpath

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// oneProcessor has Go's scheduler use one, as it does in a container with one.
func oneProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// Each time, but for the race detector, with which Go's scheduler has chance decide who is next.
const (
	tries      = 40
	leastRight = tries / 4
)

// L-7: who goes last has all others run that can, once.
func TestGoLast(t *testing.T) {
	oneProcessor(t)
	const others = 8
	right := 0
	for range tries {
		var ran atomic.Int64
		for range others {
			go func() { ran.Add(1) }()
		}
		if goLast(); ran.Load() == others {
			right++
		}
	}
	if right < leastRight {
		t.Errorf("all others have run before in %d of %d", right, tries)
	}
}

// L-7: who goes last does not let those go before again and again that are never done, as he would by runtime.Gosched.
func TestGoLastOnce(t *testing.T) {
	oneProcessor(t)
	const others, times = 4, 20
	var rounds atomic.Int64
	stop := make(chan struct{})
	var again func()
	again = func() {
		if rounds.Add(1); !done(stop) {
			go again()
			go func() {}() // after which the one before is behind all others
		}
	}
	for range others {
		go again()
	}
	goLast() // all of them have begun
	before := rounds.Load()
	for range times {
		goLast()
	}
	n := rounds.Load() - before
	close(stop)
	if n < times || n > 3*others*times {
		t.Errorf("%d others have run %d times while one went last %d times", others, n, times)
	}
}

func done(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// L-7: a look has others run that wait for the processor, once in a while: it is called by what has it for long.
func TestLookGoesLast(t *testing.T) {
	oneProcessor(t)
	looked(t, deferring(func(context.Context, []byte, replier) {}))
	right := 0
	for range tries {
		time.Sleep(spell + 2*lookEvery)
		var ran atomic.Bool
		go func() { ran.Store(true) }()
		if Look(); ran.Load() {
			right++
		}
	}
	if right < leastRight {
		t.Errorf("another has run in %d looks of %d", right, tries)
	}
}

// L-7: who has let others go first has his turn when all have run that wait for the processor, once he is let in.
func TestLetIn(t *testing.T) {
	oneProcessor(t)
	right := 0
	for range tries {
		var ran atomic.Bool
		begun := make(chan struct{})
		go func() {
			close(begun)
			runtime.Gosched()
			ran.Store(true)
		}()
		<-begun
		goLast() // until he lets others go first
		letIn()
		if goLast(); ran.Load() {
			right++
		}
		for !ran.Load() {
			runtime.Gosched()
		}
	}
	if right < leastRight {
		t.Errorf("has run in %d of %d", right, tries)
	}
}
