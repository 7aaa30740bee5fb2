package danelaw

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// door is a thing of which one at a time may be open.
type door struct {
	of   string
	open *atomic.Int32
}

func (d *door) name() string { return d.of }
func (d *door) close()       { d.open.Add(-1) }

// TestHoldWhileOpening: while one thing is opened, another can be held, found and released; the first is not found.
func TestHoldWhileOpening(t *testing.T) {
	r := &registry{things: map[any]*counted{}}
	var open atomic.Int32
	slow, err := hold(r, "slow", func() (*door, error) {
		if _, ok := find[*door](r, "slow"); ok {
			t.Error("found before it is open")
		}
		quick, err := hold(r, "quick", func() (*door, error) { return &door{"quick", &open}, nil })
		if found, ok := find[*door](r, "quick"); !ok || found != quick || err != nil {
			t.Errorf("found %v, %v", found, err)
		}
		release(r, quick)
		return &door{"slow", &open}, nil
	})
	if found, ok := find[*door](r, "slow"); !ok || found != slow || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	release(r, slow)
	if len(r.things) != 0 {
		t.Errorf("left: %v", r.things)
	}
}

// TestHoldAtOnce: of a thing that many hold at once there is one at a time, and none in the end, also if it cannot
// always be opened.
func TestHoldAtOnce(t *testing.T) {
	r := &registry{things: map[any]*counted{}}
	var open, tries atomic.Int32
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 500 {
				d, err := hold(r, "door", func() (*door, error) {
					if tries.Add(1)%3 == 0 {
						return nil, errors.New("it sticks")
					}
					if n := open.Add(1); n != 1 {
						t.Errorf("%d are open", n)
					}
					return &door{"door", &open}, nil
				})
				if err == nil {
					release(r, d)
				}
			}
		})
	}
	work.Wait()
	if open.Load() != 0 || len(r.things) != 0 {
		t.Errorf("%d are open, left: %v", open.Load(), r.things)
	}
}
