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
		if octets > max(size, rowSize) || entries > 8*int(octets/rowSize) || entries == 0 {
			t.Errorf("%d octets: %d octets are taken by %d digests", size, octets, entries)
		}
	}
	if d := NewDigests(1 << 20); d.Has([sha256.Size]byte{1}) {
		t.Error("an empty set has a digest")
	}
}

// Few digests take little memory, however much they may take, and nearly all of them are found again.
func TestDigestsGrow(t *testing.T) {
	const size = 1 << 18
	d := NewDigests(size)
	for i := range 8000 {
		d.Add(digestOf(i))
		if octets, entries := d.Size(); octets > max(firstUsed*rowSize, int64(i+1)*64) || entries > i+1 {
			t.Fatalf("%d digests take %d octets, and %d are held", i+1, octets, entries)
		}
	}
	found := 0
	for i := range 8000 {
		if d.Has(digestOf(i)) {
			found++
		}
	}
	if octets, entries := d.Size(); octets > size || found != entries || found < 7600 {
		t.Errorf("%d of 8000 are found, %d are held in %d octets", found, entries, octets)
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
