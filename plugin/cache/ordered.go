package cache

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/tidwall/btree"
)

// Ordered is a map in the order of its keys, octet by octet, bounded as a [Table] is. What is not used goes first. It
// is safe for concurrent use. Lifetimes are its user's business.
//
// It is not sharded: neighbours have to be found, and one large zone may fill it.
type Ordered[V any] struct {
	mu           sync.RWMutex
	index        *simplelru.LRU[string, priced[V]]
	keys         btree.Set[string]
	used, budget int64
	evicted      uint64
	cost         func(V) int64
}

// NewOrdered returns a map of at most size octets.
func NewOrdered[V any](size int64, cost func(V) int64) *Ordered[V] {
	o := &Ordered[V]{budget: size, cost: cost}
	o.index, _ = simplelru.NewLRU(noLimit, func(key string, p priced[V]) { // fails for counts below 1 only
		o.used -= p.octets
		o.keys.Delete(key)
	})
	return o
}

// Floor returns the greatest key that is not greater than the one given, and what is stored under it.
func (o *Ordered[V]) Floor(key string) (found string, v V, ok bool) {
	o.mu.RLock()
	o.keys.Descend(key, func(k string) bool {
		found, ok = k, true
		return false
	})
	if ok {
		p, _ := o.index.Peek(found)
		v = p.value
	}
	o.mu.RUnlock()
	if ok && promotes() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.index.Get(found)
	}
	return found, v, ok
}

// Put stores v under key. What is larger than all there is room for is not stored.
func (o *Ordered[V]) Put(key string, v V) {
	const place = 200 // as in Table, and 40 to 60 in the tree
	p := priced[V]{v, (o.cost(v) + int64(len(key)) + place) * heapGrowth / 100}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.index.Remove(key)
	if p.octets > o.budget {
		return
	}
	for o.used+p.octets > o.budget {
		o.index.RemoveOldest()
		o.evicted++
	}
	o.index.Add(key, p)
	o.keys.Insert(key)
	o.used += p.octets
}

// Remove forgets key.
func (o *Ordered[V]) Remove(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.index.Remove(key)
}

// Keys returns all keys that match says yes to, in order.
func (o *Ordered[V]) Keys(match func(key string, v V) bool) (keys []string) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	o.keys.Scan(func(key string) bool {
		if p, _ := o.index.Peek(key); match(key, p.value) {
			keys = append(keys, key)
		}
		return true
	})
	return keys
}

// Size returns the octets in use and the number of entries.
func (o *Ordered[V]) Size() (octets int64, entries int) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.used, o.index.Len()
}

// Evicted returns how many entries were put out to make room for others.
func (o *Ordered[V]) Evicted() uint64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.evicted
}
