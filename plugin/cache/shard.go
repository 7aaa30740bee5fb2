package cache

import (
	"math"
	"math/rand/v2"
	"sync"
)

// heapGrowth is how many octets the process takes for each 100 that live in Go's heap, at GOGC=100: about as many wait
// to be collected, and its spans are never all full.
const heapGrowth = 250

// shardCount says into how many shards of at least the given octets size is divided, and how far a 64-bit hash is to be
// shifted right to be the number of one.
func shardCount(size, least int64) (n int, shift uint) {
	const most = 64 // some for every core, so that writers seldom wait for each other
	n, shift = 1, 64
	for n < most && size/int64(2*n) >= least {
		n, shift = 2*n, shift-1
	}
	return n, shift
}

// promotes says whether a hit is to make its entry the most recently used one, which takes the write lock. Of 16 hits
// one is enough to tell what is in use from what is not.
func promotes() bool { return rand.Uint32()%16 == 0 }

// noLimit is the entry count of an LRU that is bounded in octets.
const noLimit = math.MaxInt

// shard is a part of a Cache with a lock and a budget of its own. What is oldest makes room for what is new, unless it
// was used since it was stored or spared (CLOCK).
type shard struct {
	mu      sync.RWMutex
	index   index
	ring    ring
	serial  uint32 // of the last entry
	evicted uint64
}

// indexShare is the part of a budget that is for the index. It has room for an entry of some 170 octets each.
const indexShare = 16

func newShard(budget int64) *shard {
	budget = max(0, budget)
	slots, records := reserve(budget/indexShare), reserve(budget-budget/indexShare)
	s := &shard{index: newIndex(slots), ring: ring{memory: records}}
	freeWith(s, slots)
	freeWith(s, records)
	return s
}

// get is Cache.Get. The lock is shared unless the entry has died.
func (s *shard) get(hash uint32, k Key, now int64, e *Entry) bool {
	s.mu.RLock()
	r, found := s.find(hash, k)
	alive := found && r.alive(now)
	ended := found && r.ended(now)
	if alive {
		r.copyOut(now, e)
		at, _ := s.index.find(hash)
		at.reference()
	}
	s.mu.RUnlock()
	if ended {
		s.bury(hash, k, now)
	}
	return alive
}

// bury removes the entry of k if it has ended; it may have been replaced since that was seen.
func (s *shard) bury(hash uint32, k Key, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, found := s.find(hash, k); found && r.ended(now) {
		s.index.remove(hash)
	}
}

// put is Cache.Put for an entry that is alive.
func (s *shard) put(hash uint32, k Key, e *Entry, h header, ttls []uint16, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(h.size) > len(s.ring.memory) || len(s.index.slots) < 2 || !s.welcome(hash, k, e, &h, now) {
		return
	}
	h.hash = hash
	place, size := s.place(hash, int(h.size))
	h.size = uint32(size)
	s.ring.write(place, h, k, e, ttls)
	s.index.set(hash, place)
}

// welcome reports whether an entry is to be stored. One that is takes its serial; a variant has its entry's, which must
// be there still.
func (s *shard) welcome(hash uint32, k Key, e *Entry, h *header, now int64) bool {
	if k.Plain {
		of, found := s.find(variant(hash), k.whole())
		return found && of.serial == e.serial
	}
	if old, found := s.find(hash, k); found && old.alive(now) {
		if old.status > h.status && !e.Proven {
			return false
		}
		if !h.outlasts(old.header) {
			h.claim = old.claim
		}
	}
	s.drop(variant(hash), k.variant())
	s.serial++
	h.serial = s.serial
	return true
}

// place returns where so many octets are to lie under a hash: where that of the hash lies, if it has room (it may be of
// another key), so that what is renewed again and again takes no more; and the octets there.
func (s *shard) place(hash uint32, n int) (place, size int) {
	if at, ok := s.index.find(hash); ok {
		if old := s.ring.recordAt(at.place()); int(old.size) >= n {
			return at.place(), int(old.size)
		}
		s.index.remove(hash)
	}
	for spared := 0; ; {
		if !s.index.full() {
			if place, ok := s.ring.take(n); ok {
				return place, n
			}
		}
		if s.makeRoom(spared < mostSpared) {
			spared++
		}
	}
}

// mostSpared is how many entries one new one may spare: a writer must not go round all of them.
const mostSpared = 64

// makeRoom puts out the oldest record. If it was used it may be spared: it becomes the newest.
func (s *shard) makeRoom(spare bool) (spared bool) {
	tail := s.ring.tail
	old := s.ring.recordAt(tail)
	hash, size := old.hash, int(old.size)
	at, ok := s.index.find(hash)
	s.ring.give(size)
	switch {
	case !ok || at.place() != tail: // it was removed or replaced
	case spare && *at&referenced != 0:
		place, _ := s.ring.take(size) // there is room at least where it was
		copy(s.ring.memory[place:], s.ring.memory[tail:tail+size])
		*at = newSlot(hash, place)
		return true
	default:
		s.index.remove(hash)
		s.evicted++
	}
	return false
}

// claim is Cache.Claim.
func (s *shard) claim(hash uint32, k Key, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, found := s.find(hash, k)
	if !found || !r.alive(now) || r.claim {
		return false
	}
	r.header.claim = true
	if plain, found := s.find(variant(hash), k.variant()); found {
		plain.header.claim = true
	}
	return true
}

func (s *shard) remove(hash uint32, k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(hash, k)
	s.drop(variant(hash), k.variant())
}

// drop forgets k.
func (s *shard) drop(hash uint32, k Key) {
	if _, found := s.find(hash, k); found {
		s.index.remove(hash)
	}
}

// find returns k's record. Two keys may share a hash: then the one stored last is there, and the other is not.
func (s *shard) find(hash uint32, k Key) (r record, found bool) {
	at, ok := s.index.find(hash)
	if !ok {
		return r, false
	}
	r = s.ring.recordAt(at.load().place())
	return r, r.is(k)
}

// each calls f for all records.
func (s *shard) each(f func(record)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range s.index.used {
		if at := s.index.slots[i].load(); at != 0 {
			f(s.ring.recordAt(at.place()))
		}
	}
}

func (s *shard) size() (octets int64, entries int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int64(s.ring.touched) + int64(s.index.used)*slotSize, s.index.count
}
