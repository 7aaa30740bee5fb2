package cache

import (
	"bytes"
	"hash/maphash"
	"math"
	"sync"
	"unsafe"
)

// Octets is a sharded map from names to octets, bounded in octets, its own bookkeeping included, and outside Go's heap
// as a Cache is. What was not used for long goes first; of two keys that fall together by their hash, as one of some
// millions does, the one that was stored last is there. It is safe for concurrent use. Lifetimes are its user's
// business.
type Octets struct {
	seed   maphash.Seed
	shift  uint // the bits of a hash above it choose the shard
	shards []*octetShard
}

// octetShard is a part of an Octets with a lock and a budget of its own.
type octetShard struct {
	mu sync.RWMutex
	space
}

// ofOctets is the share of the index. It has room for a record of some 85 octets each.
const ofOctets = 8

// NewOctets returns a map of at most size octets.
func NewOctets(size int64) *Octets {
	const leastShard = 64 << 10 // some hundreds of zones
	n, shift := shardCount(size, leastShard)
	o := &Octets{seed: maphash.MakeSeed(), shift: shift, shards: make([]*octetShard, n)}
	for i := range o.shards {
		s := new(octetShard)
		s.space = newSpace(s, size/int64(n), ofOctets)
		o.shards[i] = s
	}
	return o
}

// pair is a key with its value as they lie in memory: a header, the key, the value.
type pair struct {
	*pairHeader
	body []byte
}

type pairHeader struct {
	lot
	key, value uint16 // octets
}

const pairSize = int(unsafe.Sizeof(pairHeader{}))

func (s *space) pair(place int) pair {
	return pair{(*pairHeader)(unsafe.Pointer(s.at(place))), s.octets(place)[pairSize:]}
}

func (p pair) named() []byte  { return p.body[:p.key] }
func (p pair) valued() []byte { return p.body[p.key:][:p.value] }

// of returns the pair of a key.
func (s *octetShard) of(hash uint32, key string) (p pair, found bool) {
	place, ok := s.find(hash)
	if !ok {
		return p, false
	}
	p = s.pair(place)
	return p, string(p.named()) == key
}

// Get returns what is stored under key, appended to dst.
func (o *Octets) Get(key string, dst []byte) (value []byte, ok bool) {
	s, hash := o.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.of(hash, key)
	if !ok {
		return nil, false
	}
	s.used(hash)
	return append(dst, p.valued()...), true
}

// Update puts what f makes of the octets under key (nil if there are none), in one step; nil removes the key. f may
// change and return what it is given, but must not keep it, nor use the map. What is larger than a shard may hold, or
// than 65,535 octets, is not stored.
func (o *Octets) Update(key string, f func(old []byte) []byte) {
	s, hash := o.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []byte
	if p, ok := s.of(hash, key); ok {
		old = bytes.Clone(p.valued())
	}
	value := f(old)
	n := pairSize + len(key) + len(value)
	switch {
	case value != nil && len(key) <= math.MaxUint16 && len(value) <= math.MaxUint16 && s.fits(n):
		p := s.pair(s.add(hash, n))
		p.key, p.value = uint16(len(key)), uint16(len(value))
		copy(p.body[copy(p.body, key):], value)
	case old != nil:
		s.space.remove(hash)
	}
}

// Remove forgets key.
func (o *Octets) Remove(key string) { o.Update(key, func([]byte) []byte { return nil }) }

// Keys returns all keys that match says yes to, in no order. It must not keep the value. One shard at a time is locked,
// and open to readers.
func (o *Octets) Keys(match func(key string, value []byte) bool) (keys []string) {
	for _, s := range o.shards {
		s.mu.RLock()
		s.each(func(place int) {
			p := s.pair(place)
			if key := string(p.named()); match(key, p.valued()) {
				keys = append(keys, key)
			}
		})
		s.mu.RUnlock()
	}
	return keys
}

// Size returns the octets held, memory that waits to be used again included, and the number of keys.
func (o *Octets) Size() (octets int64, keys int) {
	for _, s := range o.shards {
		s.mu.RLock()
		held, n := s.size()
		s.mu.RUnlock()
		octets, keys = octets+held, keys+n
	}
	return octets, keys
}

// Evicted returns how many keys were evicted to make room for others.
func (o *Octets) Evicted() (n uint64) {
	for _, s := range o.shards {
		s.mu.RLock()
		n += s.evicted
		s.mu.RUnlock()
	}
	return n
}

func (o *Octets) shard(key string) (s *octetShard, hash uint32) {
	h := maphash.String(o.seed, key)
	return o.shards[h>>o.shift], uint32(h)
}
