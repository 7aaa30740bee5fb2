// Package cache keeps validated answers as packed DNS messages in memory that is bounded in octets (L-15). It knows
// nothing of DNSSEC: status, lifetime and notes are its user's.
//
// Answers and their index lie outside Go's heap where the system allows it, since the collector lets the heap grow to a
// multiple of what lives in it. So do other things that are packed: those of an [Octets] and an [Ordered]. What must
// lie in the heap, all of a [Table], is charged by that multiple at GOGC=100, so that a bound given here is one on the
// memory of the process. With a greater GOGC it takes more, with a smaller one less.
package cache

import (
	"hash/maphash"
	"iter"
	"math"
	"sync/atomic"
	"time"
)

// Key names one cached answer.
type Key struct {
	Name string // canonical FQDN
	Type uint16 // 0 for a name error of the whole name (C-4)
	// Plain is that of a variant of the answer, for clients that want no signatures (V-75). It is made of the answer,
	// and goes with it.
	Plain bool
}

// variant is the key of the variant of an answer, and whole that of the answer.
func (k Key) variant() Key { return Key{k.Name, k.Type, true} }
func (k Key) whole() Key   { return Key{k.Name, k.Type, false} }

// variant is the hash of the one from that of the other.
func variant(hash uint32) uint32 { return hash ^ 1<<31 }

// Entry is one cached answer.
type Entry struct {
	Status  uint8         // the greater is the better (C-8)
	Flags   uint8         // the user's own
	Proven  bool          // it rests on a fresh proof and may replace a better one (C-8); not stored
	Stored  time.Time     // when it was made, to the second
	Life    time.Duration // it ends at Stored+Life; whole seconds
	Expires time.Time     // it ends here too (C-1, C-2); zero: never
	Claimed bool          // somebody renews it, or has tried in vain (Claim); not stored
	Wire    []byte        // a packed DNS message without OPT
	Notes   []byte        // the user's own

	serial uint32 // of what was got; not for users
}

// Cache is a bounded, sharded store of Entries. It is safe for concurrent use.
type Cache struct {
	hash   func(Key) uint64
	shift  uint // the bits of a hash above it choose the shard
	shards []*shard
	linger atomic.Int64 // seconds
}

// New returns a cache that holds at most size octets of answers, its own bookkeeping included.
func New(size int64) *Cache {
	// The greatest answer of 64 KiB must fit into a shard many times over, or it would drive out all others.
	const leastShard = 512 << 10
	n, shift := shardCount(size, leastShard)
	c := &Cache{hash: seededHash(), shift: shift, shards: make([]*shard, n)}
	for i := range c.shards {
		c.shards[i] = newShard(size / int64(n))
	}
	return c
}

// seededHash returns a hash that nobody outside can foresee, so nobody can have keys fall together.
func seededHash() func(Key) uint64 {
	seed := maphash.MakeSeed()
	return func(k Key) uint64 {
		const odd = 0x9e3779b97f4a7c15 // spreads the types of one name over all shards (Knuth, TAOCP 6.4)
		return maphash.String(seed, k.Name) ^ uint64(k.Type)*odd
	}
}

// Get fills e with the entry of k if it is still alive at now: e.Wire and e.Notes are copies in e's own memory, which
// is reused, and every TTL in e.Wire has been counted down by the whole seconds since Stored (C-7). An entry whose
// Stored is later than now is not alive (C-18), nor one in the second in which it ends: a TTL of 0 is not reused.
// Otherwise e is left as it is.
func (c *Cache) Get(k Key, now time.Time, e *Entry) bool {
	s, h := c.shard(k)
	return s.get(h, k, now.Unix(), c.linger.Load(), e)
}

// Linger has entries whose Life is over stay for at least so long, to the second, as far as there is room: for GetStale
// alone. In a new Cache they do not.
func (c *Cache) Linger(d time.Duration) {
	seconds := int64(d / time.Second)
	for old := c.linger.Load(); old < seconds && !c.linger.CompareAndSwap(old, seconds); {
		old = c.linger.Load()
	}
}

// GetStale fills e, as Get does, with the entry of k if its Life is over, for less than most, but it has not come to
// its Expires and is not spent (C-13).
func (c *Cache) GetStale(k Key, now time.Time, most time.Duration, e *Entry) bool {
	s, h := c.shard(k)
	return s.getStale(h, k, now.Unix(), int64(most/time.Second), e)
}

// Spend has the entry of k never be stale: something newer is known than what it says. To its end it is what it was.
func (c *Cache) Spend(k Key) {
	s, h := c.shard(k)
	s.spend(h, k)
}

// Put stores e, unless one that is still alive at now and better is there already (C-8). It copies what it keeps. An
// entry that is not alive at now, is no DNS message or is larger than a shard may hold is not stored. A variant is
// what Get gives of the answer at its Stored, with another message; it is not stored if the answer has changed since.
func (c *Cache) Put(k Key, e *Entry, now time.Time) {
	ttls, ok := ttlOffsets(e.Wire)
	stored := e.Stored.Unix()
	if !ok || len(k.Name) > math.MaxUint16 || len(e.Notes) > math.MaxUint16 || stored < 0 || stored > mostTime {
		return
	}
	h, octets := newHeader(k, e, ttls)
	if !h.alive(now.Unix()) {
		return
	}
	s, hash := c.shard(k)
	s.put(hash, k, e, h, octets, ttls, now.Unix())
}

// Claim reports whether the caller is the one who may renew the entry of k: the first who asked since it was stored. An
// entry that takes its place and ends no later is claimed from the beginning: a source that counts down too has nothing
// newer to give (C-14).
func (c *Cache) Claim(k Key, now time.Time) bool {
	s, h := c.shard(k)
	return s.claim(h, k, now.Unix())
}

// Remove forgets k and its variant.
func (c *Cache) Remove(k Key) {
	s, h := c.shard(k)
	s.remove(h, k)
}

// Keys returns the keys of all answers, dead ones among them, that match says yes to, in no order. It is given the key
// and the user's notes, which it must not keep. One shard at a time is locked, and open to readers.
func (c *Cache) Keys(match func(k Key, e *Entry) bool) (keys []Key) {
	for _, s := range c.shards {
		s.each(func(r record) {
			if k := r.key(); !k.Plain && match(k, &Entry{Status: r.status, Flags: r.user, Notes: r.noted()}) {
				keys = append(keys, k)
			}
		})
	}
	return keys
}

// All are the answers that are alive at now, in no order, as Get gives them, but not as if they were in use. The Entry
// is used again for the next one. No lock is held meanwhile: what changes may be there or not.
func (c *Cache) All(now time.Time) iter.Seq2[Key, *Entry] {
	return func(yield func(Key, *Entry) bool) {
		var e Entry
		for _, s := range c.shards {
			var keys []Key
			s.each(func(r record) {
				if !r.plain {
					keys = append(keys, r.key())
				}
			})
			for _, k := range keys {
				if s, hash := c.shard(k); s.peek(hash, k, now.Unix(), &e) && !yield(k, &e) {
					return
				}
			}
		}
	}
}

// Size returns the octets held, memory that waits to be used again included, and the number of entries.
func (c *Cache) Size() (octets int64, entries int) {
	for _, s := range c.shards {
		o, n := s.size()
		octets, entries = octets+o, entries+n
	}
	return octets, entries
}

// Evicted returns how many entries were evicted to make room for others.
func (c *Cache) Evicted() (n uint64) {
	for _, s := range c.shards {
		s.mu.RLock()
		n += s.space.evicted
		s.mu.RUnlock()
	}
	return n
}

// shard returns where k belongs, and its hash there, which is short to keep the index small.
func (c *Cache) shard(k Key) (s *shard, hash uint32) {
	h := c.hash(k)
	if hash = uint32(h); k.Plain {
		hash = variant(hash)
	}
	return c.shards[h>>c.shift], hash
}
