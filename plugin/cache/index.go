package cache

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// index says where the record of a hash lies. It is a table of open addressing that holds no pointers; readers share it
// and change only the reference bit of what they have found. One hash has one record.
type index struct {
	slots []slot // in memory of reserve
	used  int    // so many of them, a power of two: what is never touched takes no memory
	count int    // of records
}

// slot is 0 if it is empty, else a hash, the reference bit of the CLOCK algorithm and one more than a place.
type slot uint64

const (
	slotSize   = 8
	firstSlots = 64 // slots
	referenced = slot(1)
	hashMask   = 1<<32 - 2 // of a hash: the place of the reference bit is not kept
)

func newSlot(hash uint32, place int) slot { return slot(place+1)<<32 | slot(hash&hashMask) }

func (s slot) hash() uint32 { return uint32(s) & hashMask }
func (s slot) place() int   { return int(s>>32) - 1 }

// newIndex makes one of the memory given.
func newIndex(memory []byte) index {
	n := len(memory) / slotSize
	if n == 0 {
		return index{}
	}
	return index{slots: unsafe.Slice((*slot)(unsafe.Pointer(unsafe.SliceData(memory))), 1<<(bits.Len(uint(n))-1))}
}

// full reports whether no more can be held: probing stays short while a quarter is empty.
func (x *index) full() bool { return x.count >= len(x.slots)*3/4 }

func (x *index) home(hash uint32) int { return int(hash>>1) & (x.used - 1) }

// find returns the slot of a hash, or where that would be. Nothing is found while used is 0.
func (x *index) find(hash uint32) (s *slot, ok bool) {
	for at := x.home(hash); x.used > 0; at = (at + 1) & (x.used - 1) {
		s = &x.slots[at]
		if has := s.load(); has == 0 || has.hash() == hash&hashMask {
			return s, has != 0
		}
	}
	return nil, false
}

// load reads a slot whose reference bit readers may set meanwhile.
func (s *slot) load() slot { return slot(atomic.LoadUint64((*uint64)(s))) }

// reference notes that a record was used.
func (s *slot) reference() {
	if s.load()&referenced == 0 {
		atomic.OrUint64((*uint64)(s), uint64(referenced))
	}
}

// set has a hash lead to a place. There must be room for it.
func (x *index) set(hash uint32, place int) {
	if s, ok := x.find(hash); ok {
		*s = newSlot(hash, place)
		return
	}
	if x.count >= x.used*3/4 {
		x.grow()
	}
	s, _ := x.find(hash)
	*s = newSlot(hash, place)
	x.count++
}

// grow uses twice as many slots.
func (x *index) grow() {
	old := append([]slot(nil), x.slots[:x.used]...)
	clear(x.slots[:x.used])
	x.used = min(max(firstSlots, 2*x.used), len(x.slots))
	for _, s := range old {
		if s != 0 {
			to, _ := x.find(s.hash())
			*to = s
		}
	}
}

// remove forgets a hash. Those that lie behind it for want of a free slot move up (Knuth, TAOCP 6.4, algorithm R).
func (x *index) remove(hash uint32) {
	gone, ok := x.find(hash)
	if !ok {
		return
	}
	x.count--
	mask := x.used - 1
	hole := int((uintptr(unsafe.Pointer(gone)) - uintptr(unsafe.Pointer(&x.slots[0]))) / slotSize)
	for at := (hole + 1) & mask; x.slots[at] != 0; at = (at + 1) & mask {
		if (at-x.home(x.slots[at].hash()))&mask >= (at-hole)&mask {
			x.slots[hole], hole = x.slots[at], at
		}
	}
	x.slots[hole] = 0
}
