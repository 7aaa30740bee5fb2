package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// Digests is a set of SHA-256 digests in memory that is bounded in octets and lies outside Go's heap, as that of a
// Cache does. A new digest takes the place of an older one; those that are met again and again soon come back. Nobody
// can make two inputs with one digest, so a digest that is found was put there. It is safe for concurrent use.
type Digests struct {
	locks  [64]sync.RWMutex
	memory []byte // places for a digest each, under the lock of its number, by its last bits
	held   atomic.Int64
}

// NewDigests returns a set of at most size octets; at least one digest fits.
func NewDigests(size int64) *Digests {
	d := &Digests{memory: reserve(max(1, size/sha256.Size) * sha256.Size)}
	freeWith(d, d.memory)
	return d
}

// place returns where a digest belongs, and the lock of that.
func (d *Digests) place(digest [sha256.Size]byte) (*[sha256.Size]byte, *sync.RWMutex) {
	i := binary.NativeEndian.Uint64(digest[:]) % uint64(len(d.memory)/sha256.Size)
	return (*[sha256.Size]byte)(d.memory[i*sha256.Size:]), &d.locks[i%uint64(len(d.locks))]
}

// Has reports whether a digest is there.
func (d *Digests) Has(digest [sha256.Size]byte) bool {
	place, lock := d.place(digest)
	lock.RLock()
	defer lock.RUnlock()
	return *place == digest
}

// Add puts a digest there.
func (d *Digests) Add(digest [sha256.Size]byte) {
	place, lock := d.place(digest)
	lock.Lock()
	defer lock.Unlock()
	if *place == [sha256.Size]byte{} {
		d.held.Add(1)
	}
	*place = digest
}

// Size returns the octets that it may take, and the digests held.
func (d *Digests) Size() (octets int64, entries int) {
	return int64(len(d.memory)), int(d.held.Load())
}
