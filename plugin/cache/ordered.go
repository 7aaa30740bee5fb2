package cache

import (
	"bytes"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"sync"
	"unsafe"
)

// Ordered is an [Octets] in the order of its keys, octet by octet.
//
// It is not sharded: neighbours have to be found, and one large zone may fill it.
type Ordered struct {
	mu   sync.RWMutex
	seed maphash.Seed
	space
	first [levels]uint32 // where the lists begin
}

// levels is how many lists the keys are in: the lowest has all, each next one a quarter of the one below it, drawn by
// chance (Pugh, Skip Lists, 1990). A link is one more than a place, or 0 at the end.
const levels = 12

// NewOrdered returns a map of at most size octets.
func NewOrdered(size int64) *Ordered {
	o := &Ordered{seed: maphash.MakeSeed()}
	o.space = newSpace(o, size, ofOctets)
	o.moved = o.relink
	return o
}

// height is how many lists the key of a hash, which nobody outside can foresee, is in.
func height(hash uint32) int { return min(levels, 1+bits.LeadingZeros32(hash|1)/2) }

// knot is a pair as it lies in memory: a header, its links, the key, the value.
type knot struct {
	*pairHeader
	links []uint32
	body  []byte
}

const linkSize = 4

func (o *Ordered) knot(place int) knot {
	octets := o.octets(place)
	n := height(o.at(place).hash)
	links := unsafe.Slice((*uint32)(unsafe.Pointer(&octets[pairSize])), n)
	return knot{(*pairHeader)(unsafe.Pointer(o.at(place))), links, octets[pairSize+n*linkSize:]}
}

func (k knot) named() []byte  { return k.body[:k.key] }
func (k knot) valued() []byte { return k.body[k.key:][:k.value] }

// seek returns, on each level, the link to the first key that is not less than key; and the place of the last key that
// is, -1 if there is none.
func (o *Ordered) seek(key []byte) (to [levels]*uint32, before int) {
	links, before := o.first[:], -1
	for level := levels - 1; level >= 0; level-- {
		for links[level] != 0 {
			next := o.knot(int(links[level]) - 1)
			if bytes.Compare(next.named(), key) >= 0 {
				break
			}
			before, links = int(links[level])-1, next.links
		}
		to[level] = &links[level]
	}
	return to, before
}

// relink has the lists lead to a new place of a record, or past it if it is given up.
func (o *Ordered) relink(from, to int) {
	k := o.knot(from)
	at, _ := o.seek(k.named())
	for level, next := range k.links {
		if to >= 0 {
			next = uint32(to) + 1
		}
		*at[level] = next
	}
}

// Put stores value under key. What is larger than all there is room for, or than 65,535 octets, is not stored.
func (o *Ordered) Put(key string, value []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	hash := o.hash(key)
	n := pairSize + height(hash)*linkSize + len(key) + len(value)
	if len(key) > math.MaxUint16 || len(value) > math.MaxUint16 || !o.fits(n) {
		return
	}
	if place, ok := o.find(hash); ok {
		if k := o.knot(place); string(k.named()) == key && len(key)+len(value) <= len(k.body) {
			k.write(key, value) // where it is in the lists
			return
		}
	}
	place := o.add(hash, n)
	k := o.knot(place)
	k.write(key, value)
	at, _ := o.seek(k.named())
	for level := range k.links {
		k.links[level], *at[level] = *at[level], uint32(place)+1
	}
}

func (k knot) write(key string, value []byte) {
	k.key, k.value = uint16(len(key)), uint16(len(value))
	copy(k.body[copy(k.body, key):], value)
}

// Floor returns the greatest key that is not greater than the one given, and what is stored under it.
func (o *Ordered) Floor(key string) (found string, value []byte, ok bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	at, place := o.seek([]byte(key))
	if next := *at[0]; next != 0 && string(o.knot(int(next)-1).named()) == key {
		place = int(next) - 1
	}
	if place < 0 {
		return "", nil, false
	}
	k := o.knot(place)
	o.used(k.hash)
	return string(k.named()), bytes.Clone(k.valued()), true
}

// Remove forgets key.
func (o *Ordered) Remove(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	hash := o.hash(key)
	if place, ok := o.find(hash); ok && string(o.knot(place).named()) == key {
		o.space.remove(hash)
	}
}

// Keys returns all keys that match says yes to, in order.
func (o *Ordered) Keys(match func(key string) bool) (keys []string) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	o.each(func(place int) {
		if key := string(o.knot(place).named()); match(key) {
			keys = append(keys, key)
		}
	})
	slices.Sort(keys)
	return keys
}

// Size returns the octets held, memory that waits to be used again included, and the number of keys.
func (o *Ordered) Size() (octets int64, keys int) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.size()
}

// Evicted returns how many keys were evicted to make room for others.
func (o *Ordered) Evicted() uint64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.evicted
}

func (o *Ordered) hash(key string) uint32 { return uint32(maphash.String(o.seed, key)) }
