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

// shard is a part of a Cache with a lock and a budget of its own.
type shard struct {
	mu sync.RWMutex
	space
	serial uint32 // of the last entry
}

// ofAnswers is the share of the index. It has room for an answer of some 170 octets each.
const ofAnswers = 16

func newShard(budget int64) *shard {
	s := new(shard)
	s.space = newSpace(s, budget, ofAnswers)
	return s
}

// get is Cache.Get. The lock is shared unless the entry is to be buried.
func (s *shard) get(hash uint32, k Key, now, linger int64, e *Entry) bool {
	s.mu.RLock()
	r, found := s.of(hash, k)
	alive := found && r.alive(now)
	gone := found && r.gone(now, linger)
	if alive {
		r.copyOut(now, e)
		s.used(hash)
	}
	s.mu.RUnlock()
	if gone {
		s.bury(hash, k, now, linger)
	}
	return alive
}

// getStale is Cache.GetStale.
func (s *shard) getStale(hash uint32, k Key, now, most int64, e *Entry) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, found := s.of(hash, k)
	if !found || !r.stale(now, most) {
		return false
	}
	r.copyOut(now, e)
	s.used(hash)
	return true
}

// spend is Cache.Spend.
func (s *shard) spend(hash uint32, k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, found := s.of(hash, k); found {
		r.header.spent = true
	}
}

// peek is get for who only looks.
func (s *shard) peek(hash uint32, k Key, now int64, e *Entry) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, found := s.of(hash, k)
	if !found || !r.alive(now) {
		return false
	}
	r.copyOut(now, e)
	return true
}

// bury removes the entry of k if it is gone; it may have been replaced since that was seen.
func (s *shard) bury(hash uint32, k Key, now, linger int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, found := s.of(hash, k); found && r.gone(now, linger) {
		s.space.remove(hash)
	}
}

// put is Cache.Put for an entry that is alive, of so many octets.
func (s *shard) put(hash uint32, k Key, e *Entry, h header, octets int, ttls []uint16, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fits(octets) && s.welcome(hash, k, e, &h, now) {
		place := s.add(hash, octets)
		h.lot = *s.at(place)
		s.write(place, h, k, e, ttls)
	}
}

// welcome reports whether an entry is to be stored. One that is takes its serial; a variant has its entry's, which must
// be there still.
func (s *shard) welcome(hash uint32, k Key, e *Entry, h *header, now int64) bool {
	if k.Plain {
		of, found := s.of(variant(hash), k.whole())
		return found && of.serial == e.serial
	}
	if old, found := s.of(hash, k); found && old.alive(now) {
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

// claim is Cache.Claim.
func (s *shard) claim(hash uint32, k Key, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, found := s.of(hash, k)
	if !found || !r.alive(now) || r.claim {
		return false
	}
	r.header.claim = true
	if plain, found := s.of(variant(hash), k.variant()); found {
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
	if _, found := s.of(hash, k); found {
		s.space.remove(hash)
	}
}

// of returns k's record. Two keys may share a hash: then the one stored last is there, and the other is not.
func (s *shard) of(hash uint32, k Key) (r record, found bool) {
	place, ok := s.find(hash)
	if !ok {
		return r, false
	}
	r = s.record(place)
	return r, r.is(k)
}

// each calls f for all records.
func (s *shard) each(f func(record)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.space.each(func(place int) { f(s.record(place)) })
}

func (s *shard) size() (octets int64, entries int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.space.size()
}
