package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// Digests is a set of SHA-256 digests in memory that is bounded in octets and holds nothing for the collector to
// follow. A new digest takes the place of an older one; those that are met again and again soon come back. Nobody can
// make two inputs with one digest, so a digest that is found was put there. It is safe for concurrent use.
type Digests struct {
	locks  [64]sync.RWMutex
	places [][sha256.Size]byte // each under the lock of its index, by its last bits
	held   atomic.Int64
}

// NewDigests returns a set of at most size octets; at least one digest fits.
func NewDigests(size int64) *Digests {
	return &Digests{places: make([][sha256.Size]byte, max(1, size/sha256.Size))}
}

// place returns where a digest belongs, and the lock of that.
func (d *Digests) place(digest [sha256.Size]byte) (*[sha256.Size]byte, *sync.RWMutex) {
	i := binary.NativeEndian.Uint64(digest[:]) % uint64(len(d.places))
	return &d.places[i], &d.locks[i%uint64(len(d.locks))]
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

// Size returns the octets taken, which are the same from the beginning, and the digests held.
func (d *Digests) Size() (octets int64, entries int) {
	return int64(len(d.places)) * sha256.Size, int(d.held.Load())
}
