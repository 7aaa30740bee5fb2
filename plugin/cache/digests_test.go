package cache

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
)

func digestOf(i int) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, i)) }

// L-15: a set of digests takes no more octets than it may, gives back what was put there last, and nothing that was
// not.
func TestDigests(t *testing.T) {
	for _, size := range []int64{0, 1, 31, 1000, 1 << 20} {
		d := NewDigests(size)
		for i := range 2000 {
			if d.Has(digestOf(i)) {
				t.Fatalf("%d octets: has %d before it was put there", size, i)
			}
			if d.Add(digestOf(i)); !d.Has(digestOf(i)) {
				t.Fatalf("%d octets: has lost %d at once", size, i)
			}
		}
		octets, entries := d.Size()
		if octets > max(size, sha256.Size) || entries > int(octets/sha256.Size) || entries == 0 {
			t.Errorf("%d octets: %d octets are taken by %d digests", size, octets, entries)
		}
	}
	if d := NewDigests(1 << 20); d.Has([sha256.Size]byte{1}) {
		t.Error("an empty set has a digest")
	}
}

// Many at once find only what somebody has put there. The race detector watches.
func TestDigestsAtOnce(t *testing.T) {
	d := NewDigests(1000)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 5000 {
				d.Add(digestOf(i*4 + g))
				if d.Has(digestOf(-1 - i)) {
					t.Error("has what nobody has put there")
				}
			}
		})
	}
	all.Wait()
}
