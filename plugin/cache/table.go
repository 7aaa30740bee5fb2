package cache

import (
	"hash/maphash"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Table is a sharded map from names to parsed objects, bounded by the octets that cost says each takes beside its key
// and its place in the index, all times 2.5 (see the package doc); the least recently used go first. It is safe for
// concurrent use. Lifetimes are its user's business.
type Table[V any] struct {
	seed   maphash.Seed
	shift  uint // the bits of a hash above it choose the shard
	shards []*tableShard[V]
	cost   func(V) int64
}

// tableShard is a part of a Table with a lock and a budget of its own.
type tableShard[V any] struct {
	mu           sync.RWMutex
	index        *simplelru.LRU[string, priced[V]]
	used, budget int64
	evicted      uint64
}

// priced is a value and what it is charged, which must not change while it is there.
type priced[V any] struct {
	value  V
	octets int64
}

// NewTable returns a table of at most size octets.
func NewTable[V any](size int64, cost func(V) int64) *Table[V] {
	const leastShard = 64 << 10 // some tens of zones
	n, shift := shardCount(size, leastShard)
	t := &Table[V]{seed: maphash.MakeSeed(), shift: shift, shards: make([]*tableShard[V], n), cost: cost}
	for i := range t.shards {
		s := &tableShard[V]{budget: size / int64(n)}
		// fails for counts below 1 only
		s.index, _ = simplelru.NewLRU(noLimit, func(_ string, p priced[V]) { s.used -= p.octets })
		t.shards[i] = s
	}
	return t
}

// Get returns what is stored under key.
func (t *Table[V]) Get(key string) (V, bool) {
	s := t.shard(key)
	s.mu.RLock()
	p, ok := s.index.Peek(key)
	s.mu.RUnlock()
	if ok && promotes() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.index.Get(key)
	}
	return p.value, ok
}

// Put stores v under key. What is larger than a shard may hold is not stored.
func (t *Table[V]) Put(key string, v V) {
	t.Update(key, func(V, bool) (V, bool) { return v, true })
}

// Update puts what f makes of the value under key (the zero V and false if there is none), in one step; if f returns
// false the key is removed. f must not use the table.
func (t *Table[V]) Update(key string, f func(old V, ok bool) (V, bool)) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.index.Peek(key)
	v, keep := f(old.value, ok)
	s.index.Remove(key)
	if keep {
		s.add(key, priced[V]{v, t.charge(key, v)})
	}
}

// charge is what v costs under key, with its place in the index: 80 for its node in the LRU list, and 30 to 70 in the
// map.
func (t *Table[V]) charge(key string, v V) int64 {
	const place = 140
	return (t.cost(v) + int64(len(key)) + place) * heapGrowth / 100
}

// add stores p under key, which is not there, and makes room for it.
func (s *tableShard[V]) add(key string, p priced[V]) {
	if p.octets > s.budget {
		return
	}
	for s.used+p.octets > s.budget {
		s.index.RemoveOldest()
		s.evicted++
	}
	s.index.Add(key, p)
	s.used += p.octets
}

// Remove forgets key.
func (t *Table[V]) Remove(key string) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.Remove(key)
}

// Size returns the octets in use and the number of entries.
func (t *Table[V]) Size() (octets int64, entries int) {
	for _, s := range t.shards {
		s.mu.RLock()
		octets, entries = octets+s.used, entries+s.index.Len()
		s.mu.RUnlock()
	}
	return octets, entries
}

// Evicted returns how many entries were put out to make room for others.
func (t *Table[V]) Evicted() (n uint64) {
	for _, s := range t.shards {
		s.mu.RLock()
		n += s.evicted
		s.mu.RUnlock()
	}
	return n
}

func (t *Table[V]) shard(key string) *tableShard[V] {
	return t.shards[maphash.String(t.seed, key)>>t.shift]
}
