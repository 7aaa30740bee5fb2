package cache

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"sync"
	"unsafe"
)

// Digests is a set of SHA-256 digests in memory that is bounded in octets and lies outside Go's heap, as that of a
// Cache does. A new digest takes the place of an older one; those that are met again and again soon come back. Of each
// only half is kept, of a digest over it and a secret: nobody can make two inputs with one digest, nor, without the
// secret, two that have that half in common. So a digest that is found was put there. It is safe for concurrent use.
type Digests struct {
	secret [sha256.Size]byte
	mu     sync.RWMutex
	rows   []row // in memory of reserve
	used   int   // so many of them, a power of two: what is never touched takes no memory
	count  int   // of marks
}

// mark is what is kept of a digest; none is all zero but that of a free place.
type mark [16]byte

// row has the places in which one mark may be, the last put there first.
type row [8]mark

const (
	rowSize    = int64(unsafe.Sizeof(row{}))
	firstUsed  = 32 // rows
	mostFilled = 5  // of the places of a row are taken, on average, before more rows are used
)

// NewDigests returns a set of at most size octets; at least one row of them is there.
func NewDigests(size int64) *Digests {
	n := 1 << (bits.Len64(uint64(max(1, size/rowSize))) - 1)
	memory := reserve(int64(n) * rowSize)
	d := &Digests{rows: unsafe.Slice((*row)(unsafe.Pointer(unsafe.SliceData(memory))), n), used: min(firstUsed, n)}
	rand.Read(d.secret[:]) //nolint:errcheck // it never fails
	freeWith(d, memory)
	return d
}

// mark is that of a digest.
func (d *Digests) mark(digest *[sha256.Size]byte) (m mark) {
	var both [2 * sha256.Size]byte
	copy(both[:], d.secret[:])
	copy(both[sha256.Size:], digest[:])
	keyed := sha256.Sum256(both[:])
	copy(m[:], keyed[:])
	return m
}

// row returns where a mark belongs.
func (d *Digests) row(m *mark) *row {
	return &d.rows[binary.NativeEndian.Uint64(m[:])&uint64(d.used-1)]
}

// Has reports whether a digest is there.
func (d *Digests) Has(digest [sha256.Size]byte) bool {
	m := d.mark(&digest)
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, has := range d.row(&m) {
		if has == m {
			return true
		}
	}
	return false
}

// Add puts a digest there.
func (d *Digests) Add(digest [sha256.Size]byte) {
	m := d.mark(&digest)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count += d.row(&m).put(m)
	if d.count > d.used*mostFilled && 2*d.used <= len(d.rows) {
		d.grow()
	}
}

// put makes a mark the first one of a row; what was the last one goes. It returns by how many they are more.
func (r *row) put(m mark) (more int) {
	at := 0
	for at < len(r)-1 && r[at] != m && r[at] != (mark{}) {
		at++
	}
	if r[at] == (mark{}) {
		more = 1
	}
	copy(r[1:], r[:at])
	r[0] = m
	return more
}

// grow uses twice as many rows. A mark stays where it is, or moves to a new row that has none of any other.
func (d *Digests) grow() {
	d.used *= 2
	for i := range d.used / 2 {
		old := d.rows[i]
		d.rows[i] = row{}
		for at := len(old) - 1; at >= 0; at-- {
			if m := old[at]; m != (mark{}) {
				d.row(&m).put(m)
			}
		}
	}
}

// Size returns the octets taken, and the digests held.
func (d *Digests) Size() (octets int64, entries int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return int64(d.used) * rowSize, d.count
}
