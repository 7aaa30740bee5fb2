package cache

import (
	"slices"

	"github.com/tidwall/btree"
)

// Ordered is a map in the order of its keys, octet by octet, bounded as a [Table] is. What is not used goes first. It
// is safe for concurrent use. Lifetimes are its user's business.
//
// It is not sharded: neighbours have to be found, and one large zone may fill it.
type Ordered[V any] struct {
	*part[V]
	keys btree.Set[string]
}

// NewOrdered returns a map of at most size octets.
func NewOrdered[V any](size int64, cost func(V) int64) *Ordered[V] {
	const place = 200 // as in Table, and 40 to 60 in the tree
	o := new(Ordered[V])
	o.part = newPart(size, place, cost, o.keys.Delete)
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
	if ok {
		o.hit(found)
	}
	return found, v, ok
}

// Put stores v under key. What is larger than all there is room for is not stored.
func (o *Ordered[V]) Put(key string, v V) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.index.Remove(key)
	if o.add(key, v) {
		o.keys.Insert(key)
	}
}

// Keys returns all keys that match says yes to, in order.
func (o *Ordered[V]) Keys(match func(key string, v V) bool) []string {
	return slices.Sorted(slices.Values(o.part.Keys(match)))
}
