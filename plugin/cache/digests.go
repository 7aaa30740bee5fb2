package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"sync"
)

// Digests is a set of SHA-256 digests in memory that is bounded in octets and lies outside Go's heap, as that of a
// Cache does. A new digest takes the place of an older one; those that are met again and again soon come back. Nobody
// can make two inputs with one digest, so a digest that is found was put there. It is safe for concurrent use.
type Digests struct {
	mu     sync.RWMutex
	memory []byte // places for a digest each
	used   int    // so many of them, a power of two: what is never touched takes no memory
	count  int
}

const (
	firstUsed  = 256 // places
	mostFilled = 4   // one place in so many is taken before more are used
)

// NewDigests returns a set of at most size octets; at least one digest fits.
func NewDigests(size int64) *Digests {
	places := 1 << (bits.Len64(uint64(max(1, size/sha256.Size))) - 1)
	d := &Digests{memory: reserve(int64(places) * sha256.Size), used: min(firstUsed, places)}
	freeWith(d, d.memory)
	return d
}

func (d *Digests) at(place int) *[sha256.Size]byte {
	return (*[sha256.Size]byte)(d.memory[place*sha256.Size:])
}

// place returns where a digest belongs.
func (d *Digests) place(digest *[sha256.Size]byte) *[sha256.Size]byte {
	return d.at(int(binary.NativeEndian.Uint64(digest[:]) & uint64(d.used-1)))
}

// Has reports whether a digest is there.
func (d *Digests) Has(digest [sha256.Size]byte) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return *d.place(&digest) == digest
}

// Add puts a digest there.
func (d *Digests) Add(digest [sha256.Size]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	place := d.place(&digest)
	if *place == [sha256.Size]byte{} {
		d.count++
	}
	*place = digest
	if d.count > d.used/mostFilled && 2*d.used*sha256.Size <= len(d.memory) {
		d.grow()
	}
}

// grow uses twice as many places. A digest stays where it is, or moves to a new place that is no other's.
func (d *Digests) grow() {
	d.used *= 2
	for i := range d.used / 2 {
		from := d.at(i)
		if to := d.place(from); to != from && *from != [sha256.Size]byte{} {
			*to, *from = *from, [sha256.Size]byte{}
		}
	}
}

// Size returns the octets taken, and the digests held.
func (d *Digests) Size() (octets int64, entries int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return int64(d.used) * sha256.Size, d.count
}
