package cache

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

func octetsOf(v string) int64 { return int64(len(v)) }

// L-15: random use of a Table never exceeds its bound, and gives back only what was put last.
func TestTableAgainstModel(t *testing.T) {
	for _, size := range []int64{0, 1000, 20 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			table, model := NewTable(size, octetsOf), map[string]string{}
			for range 20000 {
				key := fmt.Sprintf("zone%d.", rand.N(200))
				got, found := table.Get(key)
				if want, ok := model[key]; found && (!ok || got != want) {
					t.Fatalf("got %q, want %q, %v", got, want, ok)
				}
				v := string(make([]byte, rand.N(1500)))
				switch rand.N(4) {
				case 0:
					table.Remove(key)
					delete(model, key)
				case 1:
					table.Put(key, v)
					model[key] = v
				case 2:
					table.Update(key, func(old string, ok bool) (string, bool) {
						if ok != found || old != got {
							t.Fatalf("Update has %q, %v; Get had %q, %v", old, ok, got, found)
						}
						return v, true
					})
					model[key] = v
				case 3:
					table.Update(key, func(string, bool) (string, bool) { return v, false })
					delete(model, key)
				}
				if octets, entries := table.Size(); octets > size || entries > len(model) ||
					(octets == 0) != (entries == 0) {
					t.Fatalf("%d octets, %d entries; bound %d, model %d", octets, entries, size, len(model))
				}
			}
		})
	}
}

// The least recently used go first, and what is larger than the table takes nobody's place.
func TestTableForgetsTheOldest(t *testing.T) {
	const size = 60 << 10
	table := NewTable(size, octetsOf)
	table.Put("hot.", "")
	for i := range 1000 {
		for range 20 {
			table.Get("hot.")
		}
		table.Put(fmt.Sprint(i), string(make([]byte, 100)))
	}
	table.Put("large.", string(make([]byte, size)))
	if _, ok := table.Get("large."); ok {
		t.Error("what is too large is there")
	}
	if _, ok := table.Get("hot."); !ok {
		t.Error("the one in constant use is gone")
	}
	_, entries := table.Size()
	for i := range 1000 {
		if _, ok := table.Get(fmt.Sprint(i)); ok != (i > 1000-entries) {
			t.Fatalf("entry %d is there: %v, of %d entries", i, ok, entries)
		}
	}
}

// Many at once lose no update. The race detector watches.
func TestTableConcurrentUse(t *testing.T) {
	const workers, times = 8, 1000
	table := NewTable(1<<20, func(int) int64 { return 8 })
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range times {
				table.Update("counter.", func(old int, _ bool) (int, bool) { return old + 1, true })
				table.Put(fmt.Sprint(i), i)
				if v, ok := table.Get(fmt.Sprint(i)); ok && v != i {
					t.Errorf("got %d under %d", v, i)
				}
				if i%7 == 0 {
					table.Remove(fmt.Sprint(i))
				}
				table.Size()
			}
		})
	}
	wg.Wait()
	if n, _ := table.Get("counter."); n != workers*times {
		t.Errorf("counted %d, want %d", n, workers*times)
	}
}
