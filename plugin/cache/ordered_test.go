package cache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// C-9, L-15: a random sequence of changes leaves what a sorted list of the same leaves, but for what had to make room,
// within the bound.
func TestOrdered(t *testing.T) {
	for _, size := range []int64{20 << 10, 60 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			seed := rand.Uint64()
			rnd := rand.New(rand.NewPCG(seed, 0))
			o, want := NewOrdered(size), map[string]string{}
			for i := range 5000 {
				key := fmt.Sprint(rnd.IntN(500))
				if rnd.IntN(3) == 0 {
					o.Remove(key)
					delete(want, key)
				} else {
					want[key] = fmt.Sprint(i, strings.Repeat("x", rnd.IntN(200)))
					o.Put(key, []byte(want[key]))
				}
				checkFloor(t, o, want, fmt.Sprint(rnd.IntN(500)))
				if held, n := o.Size(); held > size || n > len(want) {
					t.Fatalf("seed %d: %d octets, %d keys of %d", seed, held, n, len(want))
				}
			}
			here := o.Keys(func(string) bool { return true })
			if _, n := o.Size(); n != len(here) || !slices.IsSorted(here) || o.Evicted() == 0 && n != len(want) {
				t.Errorf("seed %d: %d keys, %d entries, %d put", seed, len(here), n, len(want))
			}
			if size == 1<<20 && o.Evicted() > 0 {
				t.Errorf("seed %d: %d evicted though there is room", seed, o.Evicted())
			}
		})
	}
}

// checkFloor compares a floor with what a list of the keys that are there says.
func checkFloor(t *testing.T, o *Ordered, want map[string]string, sought string) {
	t.Helper()
	floor := ""
	for _, key := range o.Keys(func(key string) bool { return key <= sought }) {
		floor = key
	}
	found, v, ok := o.Floor(sought)
	if found != floor || string(v) != want[floor] || ok != (floor != "") {
		t.Fatalf("the floor of %s is %s %s %v, want %s %s", sought, found, v, ok, floor, want[floor])
	}
}

// The lists are still whole, and their links too, however often what is in them was moved and replaced.
func TestOrderedLinks(t *testing.T) {
	o := NewOrdered(100 << 10)
	for i := range 30000 {
		o.Put(fmt.Sprint(rand.IntN(3000)), make([]byte, rand.IntN(60)))
		o.Floor(fmt.Sprint(rand.IntN(30))) // what is used is spared, and moves
		if i%500 > 0 {
			continue
		}
		for level := range levels {
			var last []byte
			n := 0
			for link := o.first[level]; link != 0; n++ {
				k := o.knot(int(link) - 1)
				if bytes.Compare(last, k.named()) >= 0 || len(k.links) <= level {
					t.Fatalf("level %d: %q comes after %q, and is in %d lists", level, k.named(), last, len(k.links))
				}
				last, link = k.named(), k.links[level]
			}
			if _, all := o.Size(); level == 0 && n != all {
				t.Fatalf("%d keys in the list, %d are there", n, all)
			}
		}
	}
	if o.Evicted() == 0 {
		t.Error("nothing had to make room")
	}
}

// L-15: the bound holds, what is used stays, and what went away is found no more.
func TestOrderedBound(t *testing.T) {
	const size = 64 << 10
	o := NewOrdered(size)
	value := make([]byte, 400)
	for i := range 1000 {
		o.Put(fmt.Sprintf("%03d", i), value)
		o.Floor("000")
		if used, _ := o.Size(); used > size {
			t.Fatalf("%d octets after %d entries, more than %d", used, i+1, size)
		}
	}
	if found, _, _ := o.Floor("000"); found != "000" {
		t.Error("what was in use all the time is gone")
	}
	if found, _, _ := o.Floor("500"); found != "000" {
		t.Errorf("%s was not driven out", found)
	}
	for _, size := range []int64{-1, 0, 1, 100} {
		o = NewOrdered(size)
		o.Put("large", value)
		if used, kept := o.Size(); kept != 0 || used > max(0, size) {
			t.Errorf("what is larger than the bound of %d was kept", size)
		}
	}
	o = NewOrdered(1 << 20)
	for _, tt := range [][2]int{{1 << 16, 1}, {1, 1 << 16}} {
		o.Put(strings.Repeat("x", tt[0]), make([]byte, tt[1]))
		if _, kept := o.Size(); kept != 0 {
			t.Errorf("a key of %d octets with %d was kept", tt[0], tt[1])
		}
	}
}

// Concurrent use is safe: the race detector and the count at the end say so.
func TestOrderedConcurrent(t *testing.T) {
	o := NewOrdered(1 << 20)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 500 {
				key := fmt.Sprint(i % 50)
				o.Put(key, []byte{byte(g)})
				o.Floor(key)
				o.Remove(fmt.Sprint((i + g) % 50))
			}
		})
	}
	all.Wait()
	if _, n := o.Size(); n > 50 {
		t.Errorf("%d entries", n)
	}
}
