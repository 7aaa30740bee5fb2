package cache

import (
	"math"
	"unsafe"
)

// space is where records of any kind lie: a ring, and the index that leads there. What is oldest makes room for what is
// new, unless it was used since it was stored or spared (CLOCK). Who uses a space holds the lock that it is under.
type space struct {
	index   index
	ring    ring
	evicted uint64
	// moved is told when a record leaves its place, to which it goes, or -1 if it is given up; nil if nobody wants to
	// know. What it does with the record at its old place it does at once.
	moved func(from, to int)
}

// lot is what each record begins with.
type lot struct {
	size uint32 // octets that the record takes with its lot: a multiple of the alignment
	hash uint32
}

const (
	lotSize    = int(unsafe.Sizeof(lot{}))
	alignment  = int(unsafe.Alignof(lot{})) // no field of any record needs more
	mostPlaces = math.MaxUint32             // a slot of the index leads no further
)

// newSpace divides a budget into a ring and an index, which gets one octet of so many. The memory is given back with
// its holder.
func newSpace[T any](holder *T, budget, indexShare int64) space {
	budget = max(0, budget)
	slots, records := reserve(budget/indexShare), reserve(min(budget-budget/indexShare, mostPlaces))
	freeWith(holder, slots)
	freeWith(holder, records)
	return space{index: newIndex(slots), ring: ring{memory: records}}
}

// fits reports whether a record of so many octets can be stored at all.
func (s *space) fits(n int) bool { return aligned(n) <= len(s.ring.memory) && len(s.index.slots) >= 2 }

func aligned(n int) int { return (n + alignment - 1) / alignment * alignment }

// at is the lot of the record at a place.
func (s *space) at(place int) *lot { return (*lot)(unsafe.Pointer(&s.ring.memory[place])) }

// octets are those of the record at a place.
func (s *space) octets(place int) []byte { return s.ring.memory[place:][:s.at(place).size] }

// find returns the place of the record of a hash.
func (s *space) find(hash uint32) (place int, found bool) {
	at, ok := s.index.find(hash)
	if !ok {
		return 0, false
	}
	return at.load().place(), true
}

// add makes a record of n octets under a hash, which must fit; all but the lot are its user's to write. It takes the
// place of the one of that hash if that has room, so that what is renewed again and again takes no more.
func (s *space) add(hash uint32, n int) (place int) {
	n = aligned(n)
	if old, ok := s.find(hash); ok && int(s.at(old).size) >= n {
		s.tell(old, -1)
		place = old
	} else {
		s.remove(hash)
		place = s.room(n)
		*s.at(place) = lot{uint32(n), hash}
	}
	s.index.set(hash, place)
	return place
}

// remove forgets the record of a hash.
func (s *space) remove(hash uint32) {
	if place, ok := s.find(hash); ok {
		s.tell(place, -1)
		s.index.remove(hash)
	}
}

func (s *space) tell(from, to int) {
	if s.moved != nil {
		s.moved(from, to)
	}
}

// mostSpared is how many records one new one may spare: a writer must not go round all of them.
const mostSpared = 64

// room returns a place for n octets, which must fit.
func (s *space) room(n int) (place int) {
	for spared := 0; ; {
		if !s.index.full() {
			if place, ok := s.ring.take(n); ok {
				return place
			}
		}
		if s.makeRoom(spared < mostSpared) {
			spared++
		}
	}
}

// makeRoom puts out the oldest record. If it was used it may be spared: it becomes the newest.
func (s *space) makeRoom(spare bool) (spared bool) {
	tail := s.ring.tail
	hash, size := s.at(tail).hash, int(s.at(tail).size)
	at, ok := s.index.find(hash)
	s.ring.give(size)
	switch {
	case !ok || at.place() != tail: // it was removed or replaced
	case spare && *at&referenced != 0:
		place, _ := s.ring.take(size) // there is room at least where it was
		s.tell(tail, place)
		*at = newSlot(hash, place)
		copy(s.ring.memory[place:], s.ring.memory[tail:tail+size])
		return true
	default:
		s.tell(tail, -1)
		s.index.remove(hash)
		s.evicted++
	}
	return false
}

// used notes that the record of a hash is in use.
func (s *space) used(hash uint32) {
	if at, ok := s.index.find(hash); ok {
		at.reference()
	}
}

// size returns the octets held, memory that waits to be used again included, and the number of records.
func (s *space) size() (octets int64, records int) {
	return int64(s.ring.touched) + int64(s.index.used)*slotSize, s.index.count
}

// each calls f with the places of all records.
func (s *space) each(f func(place int)) {
	for i := range s.index.used {
		if at := s.index.slots[i].load(); at != 0 {
			f(at.place())
		}
	}
}
