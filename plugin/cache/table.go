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
	shards []*bounded[V]
}

// NewTable returns a table of at most size octets.
func NewTable[V any](size int64, cost func(V) int64) *Table[V] {
	// A zone of 60 keys, as an attacker has it (CVE-2023-50387), takes 100 KiB, one of all the keys that a message has
	// room for six times that: what is too large for a shard would be parsed anew for each name.
	const leastShard = 1 << 20
	n, shift := shardCount(size, leastShard)
	t := &Table[V]{seed: maphash.MakeSeed(), shift: shift, shards: make([]*bounded[V], n)}
	for i := range t.shards {
		t.shards[i] = newBounded(size/int64(n), cost)
	}
	return t
}

// Get returns what is stored under key.
func (t *Table[V]) Get(key string) (V, bool) {
	s := t.shard(key)
	s.mu.RLock()
	p, ok := s.index.Peek(key)
	s.mu.RUnlock()
	if ok {
		s.hit(key)
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
		s.add(key, v)
	}
}

// Remove forgets key.
func (t *Table[V]) Remove(key string) { t.shard(key).Remove(key) }

// Keys returns all keys that match says yes to, in no order.
func (t *Table[V]) Keys(match func(key string, v V) bool) (keys []string) {
	for _, s := range t.shards {
		keys = append(keys, s.Keys(match)...)
	}
	return keys
}

// Size returns the octets in use and the number of entries.
func (t *Table[V]) Size() (octets int64, entries int) {
	for _, s := range t.shards {
		o, n := s.Size()
		octets, entries = octets+o, entries+n
	}
	return octets, entries
}

// Evicted returns how many entries were evicted to make room for others.
func (t *Table[V]) Evicted() (n uint64) {
	for _, s := range t.shards {
		n += s.Evicted()
	}
	return n
}

func (t *Table[V]) shard(key string) *bounded[V] {
	return t.shards[maphash.String(t.seed, key)>>t.shift]
}

// bounded is a part of a [Table] with a lock and a budget of its own.
type bounded[V any] struct {
	mu           sync.RWMutex
	index        *simplelru.LRU[string, priced[V]]
	cost         func(V) int64
	used, budget int64
	evicted      uint64
}

// priced is a value and what it is charged, which must not change while it is there.
type priced[V any] struct {
	value  V
	octets int64
}

func newBounded[V any](budget int64, cost func(V) int64) *bounded[V] {
	p := &bounded[V]{cost: cost, budget: budget}
	p.index, _ = simplelru.NewLRU(noLimit, func(_ string, v priced[V]) { // fails for counts below 1 only
		p.used -= v.octets
	})
	return p
}

// hit notes that the value under key was found.
func (p *bounded[V]) hit(key string) {
	if promotes() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.index.Get(key)
	}
}

// add stores v under key, where there is nothing, and makes room for it, unless it is larger than all there is. The
// lock is held.
func (p *bounded[V]) add(key string, v V) {
	const place = 140 // 80 for a node in the LRU list, and 30 to 70 in the map
	octets := (p.cost(v) + int64(len(key)) + place) * heapGrowth / 100
	if octets > p.budget {
		return
	}
	for p.used+octets > p.budget {
		p.index.RemoveOldest()
		p.evicted++
	}
	p.index.Add(key, priced[V]{v, octets})
	p.used += octets
}

// Remove forgets key.
func (p *bounded[V]) Remove(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index.Remove(key)
}

// Keys returns all keys that match says yes to, in no order.
func (p *bounded[V]) Keys(match func(key string, v V) bool) (keys []string) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, key := range p.index.Keys() {
		if v, _ := p.index.Peek(key); match(key, v.value) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Size returns the octets in use and the number of entries.
func (p *bounded[V]) Size() (octets int64, entries int) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.used, p.index.Len()
}

// Evicted returns how many entries were evicted to make room for others.
func (p *bounded[V]) Evicted() uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.evicted
}
