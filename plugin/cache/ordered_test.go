package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// C-9, L-15: a random sequence of changes leaves what a sorted list of the same leaves, within the bound.
func TestOrdered(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	o := NewOrdered(1<<30, func(int) int64 { return 8 })
	want := map[string]int{}
	for i := range 5000 {
		key := fmt.Sprint(rnd.IntN(500))
		if rnd.IntN(3) == 0 {
			o.Remove(key)
			delete(want, key)
		} else {
			o.Put(key, i)
			want[key] = i
		}
		sought, floor := fmt.Sprint(rnd.IntN(500)), ""
		for key := range want {
			if key <= sought && key > floor {
				floor = key
			}
		}
		found, v, ok := o.Floor(sought)
		if found != floor || v != want[floor] || ok != (floor != "") {
			t.Fatalf("seed %d: the floor of %s is %s %d %v, want %s %d", seed, sought, found, v, ok, floor, want[floor])
		}
	}
	var odd []string
	for key, v := range want {
		if v%2 == 1 {
			odd = append(odd, key)
		}
	}
	slices.Sort(odd)
	if got := o.Keys(func(_ string, v int) bool { return v%2 == 1 }); !slices.Equal(got, odd) {
		t.Errorf("seed %d: keys %v, want %v", seed, got, odd)
	}
	if _, n := o.Size(); n != len(want) {
		t.Errorf("seed %d: %d entries, want %d", seed, n, len(want))
	}
}

// L-15: the bound holds, what is used stays, and what went away is found no more.
func TestOrderedBound(t *testing.T) {
	const size = 64 << 10
	o := NewOrdered(size, func(string) int64 { return 1000 })
	for i := range 1000 {
		o.Put(fmt.Sprintf("%03d", i), "v")
		for range 64 { // promotion is sampled
			o.Floor("000")
		}
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
	o.Put("000", string(slices.Repeat([]byte("x"), 10)))
	before, n := o.Size()
	o = NewOrdered(100, func(string) int64 { return 1000 })
	o.Put("large", "v")
	if _, kept := o.Size(); kept != 0 || before == 0 || n == 0 {
		t.Error("what is larger than the bound was kept")
	}
}

// Concurrent use is safe: the race detector and the count at the end say so.
func TestOrderedConcurrent(t *testing.T) {
	o := NewOrdered(1<<20, func(int) int64 { return 8 })
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 500 {
				key := fmt.Sprint(i % 50)
				o.Put(key, g)
				o.Floor(key)
				o.Remove(fmt.Sprint((i + g) % 50))
			}
		})
	}
	all.Wait()
	if used, n := o.Size(); n > 50 || n == 0 != (used == 0) {
		t.Errorf("%d entries with %d octets", n, used)
	}
}
