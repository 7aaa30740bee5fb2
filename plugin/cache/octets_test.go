package cache

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// L-15: random use of an Octets never exceeds its bound, and gives back only what was put last.
func TestOctetsAgainstModel(t *testing.T) {
	for _, size := range []int64{-1, 0, 1000, 20 << 10, 1 << 20, 16 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			o, model := NewOctets(size), map[string]string{}
			for range 20000 {
				key := fmt.Sprintf("zone%d.", rand.N(200))
				got, found := o.Get(key, []byte("x"))
				if want, ok := model[key]; found && (!ok || string(got) != "x"+want) {
					t.Fatalf("got %q, want %q, %v", got, want, ok)
				}
				value := strings.Repeat(string(rune('a'+rand.N(26))), rand.N(1500))
				if rand.N(3) == 0 {
					o.Remove(key)
					delete(model, key)
				} else {
					o.Update(key, func(old []byte) []byte {
						if (old != nil) != found || found && string(old) != string(got[1:]) {
							t.Fatalf("Update has %q; Get had %q, %v", old, got, found)
						}
						return []byte(value)
					})
					model[key] = value
				}
				if octets, keys := o.Size(); octets > max(0, size) || keys > len(model) {
					t.Fatalf("%d octets, %d keys; bound %d, model %d", octets, keys, size, len(model))
				}
			}
			if size == 16<<20 && o.Evicted() > 0 {
				t.Errorf("%d evicted although there was room", o.Evicted())
			}
		})
	}
}

// What is not used goes first, and what is larger than there is room for takes nobody's place.
func TestOctetsForgetTheOldest(t *testing.T) {
	const size = 60 << 10
	o := NewOctets(size)
	put := func(key string, octets int) { o.Update(key, func([]byte) []byte { return make([]byte, octets) }) }
	put("hot.", 0)
	for i := range 1000 {
		o.Get("hot.", nil)
		put(fmt.Sprint(i), 100)
	}
	put("large.", size)
	put("hot.", 1<<16)
	for _, key := range []string{"large.", "hot."} {
		if _, ok := o.Get(key, nil); ok {
			t.Errorf("%s is there, which is too large", key)
		}
	}
	_, keys := o.Size()
	for i := range 1000 {
		if _, ok := o.Get(fmt.Sprint(i), nil); ok != (i >= 1000-keys) {
			t.Fatalf("key %d is there: %v, of %d", i, ok, keys)
		}
	}
	if o.Evicted() != uint64(1000-keys) {
		t.Errorf("%d evicted, of 1000 %d are there", o.Evicted(), keys)
	}
}

// Keys sees each key with its value, once.
func TestOctetsKeys(t *testing.T) {
	o := NewOctets(1 << 20)
	for i := range 500 {
		o.Update(fmt.Sprint("key ", i), func([]byte) []byte { return fmt.Append(nil, "value ", i) })
	}
	got := o.Keys(func(key string, value []byte) bool {
		if key[4:] != string(value[6:]) {
			t.Errorf("%s has %s", key, value)
		}
		return strings.HasSuffix(key, "7")
	})
	if slices.Sort(got); len(slices.Compact(got)) != 50 {
		t.Errorf("%d keys", len(got))
	}
}

// Two keys that hash alike are never taken for each other: the last one is there.
func TestOctetsCollide(t *testing.T) {
	o := NewOctets(1000)
	shard, seen := o.shards[0], map[uint32]string{}
	for i := 0; ; i++ { // two of some ten thousand hash alike
		key := fmt.Sprint(i)
		hash := uint32(maphash.String(o.seed, key)) & hashMask
		other := seen[hash]
		if seen[hash] = key; other == "" {
			continue
		}
		o.Update(other, func([]byte) []byte { return []byte("old") })
		o.Update(key, func(old []byte) []byte {
			if old != nil {
				t.Error("another key's value is given for its own")
			}
			return []byte("new")
		})
		o.Remove(other)
		_, found := o.Get(other, nil)
		if value, ok := o.Get(key, nil); string(value) != "new" || !ok || found || shard.index.count != 1 {
			t.Errorf("%s is there: %v, %q; its like: %v", key, ok, value, found)
		}
		return
	}
}

// Nothing of it lies in Go's heap.
func TestOctetsNotInTheHeap(t *testing.T) {
	before := heap()
	o := NewOctets(64 << 20)
	for i := range 200_000 {
		o.Update(fmt.Sprintf("zone%07d.example.org.", i), func([]byte) []byte { return make([]byte, 40) })
	}
	_, n := o.Size()
	each := float64(int64(heap())-int64(before)) / float64(n)
	runtime.KeepAlive(o)
	if !inHeap && each > 1 {
		t.Errorf("a key takes %.1f octets of heap", each)
	}
}

// Many at once lose no update. The race detector watches.
func TestOctetsConcurrentUse(t *testing.T) {
	const workers, times = 8, 1000
	o := NewOctets(1 << 20)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range times {
				o.Update("counter.", func(old []byte) []byte { return append(old, 1) })
				o.Update(fmt.Sprint(i), func([]byte) []byte { return fmt.Append(nil, i) })
				if v, ok := o.Get(fmt.Sprint(i), nil); ok && string(v) != fmt.Sprint(i) {
					t.Errorf("got %s under %d", v, i)
				}
				if i%7 == 0 {
					o.Remove(fmt.Sprint(i))
				}
				o.Size()
			}
		})
	}
	wg.Wait()
	if v, _ := o.Get("counter.", nil); len(v) != workers*times {
		t.Errorf("counted %d, want %d", len(v), workers*times)
	}
}
