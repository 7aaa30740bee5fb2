package cache

import (
	"math"
	"math/rand/v2"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// entryOctets is what an entry takes beside its blocks: 64 for its node in the LRU list, and 20 to 50 in the map.
const entryOctets = 120 * heapGrowth / 100

// heapGrowth is how many octets the process takes for each 100 that live in Go's heap, at GOGC=100: about as many wait
// to be collected, and its spans are never all full. BenchmarkMemory measures it.
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
	mu      sync.RWMutex
	index   *simplelru.LRU[uint32, uint32] // from a key's hash to the first block of its record
	pool    pool
	budget  int64
	evicted uint64
}

func newShard(budget int64) *shard {
	s := &shard{budget: budget}
	// fails for counts below 1 only
	s.index, _ = simplelru.NewLRU(noLimit, func(_, first uint32) { s.pool.release(first) })
	// Blocks are never given back to the system. Were they to take the whole budget while answers are large, there
	// would be no room left for the index when they are small. One entry at least must fit beside them.
	s.pool = newPool(max(0, min(budget/4*3, budget-entryOctets)))
	freeWith(s, s.pool.memory)
	return s
}

// get is Cache.Get. The lock is shared unless the entry is to be moved in the LRU list or has died.
func (s *shard) get(hash uint32, k Key, now int64, e *Entry) bool {
	s.mu.RLock()
	h, body, found := s.find(hash, k)
	alive := found && h.alive(now)
	if alive {
		h.copyOut(body, now, e)
	}
	s.mu.RUnlock()
	switch {
	case alive && promotes():
		s.promote(hash)
	case found && h.ended(now):
		s.bury(hash, k, now)
	}
	return alive
}

func (s *shard) promote(hash uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.Get(hash)
}

// bury removes the entry of k if it has ended; it may have been replaced since that was seen.
func (s *shard) bury(hash uint32, k Key, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, _, found := s.find(hash, k); found && h.ended(now) {
		s.index.Remove(hash)
	}
}

// put is Cache.Put for a record that is alive.
func (s *shard) put(hash uint32, k Key, r record, proven bool, now int64) {
	blocks := blocksFor(len(r.body) + headerSize)
	if blocks > s.pool.capacity() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, _, found := s.find(hash, k); found && old.alive(now) {
		if old.status > r.status && !proven {
			return
		}
		if !r.outlasts(&old) {
			r.flags |= old.flags
		}
	}
	s.index.Remove(hash) // another key of the same hash, too
	for !s.fits(blocks) {
		s.index.RemoveOldest()
		s.evicted++
	}
	first := s.pool.take(blocks)
	c := s.pool.cursor(first)
	c.write(r.encode())
	c.write(r.body)
	s.index.Add(hash, first)
}

// fits says whether one more entry of so many blocks stays within the budget.
func (s *shard) fits(blocks int) bool {
	held := s.pool.heldWith(blocks)
	return held <= s.pool.capacity() && octets(held, s.index.Len()+1) <= s.budget
}

// octets is what blocks and entries take.
func octets(blocks, entries int) int64 { return int64(blocks)*blockSize + int64(entries)*entryOctets }

// claim is Cache.Claim.
func (s *shard) claim(hash uint32, k Key, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, _, found := s.find(hash, k)
	if !found || !h.alive(now) || h.flags&claimed != 0 {
		return false
	}
	h.flags |= claimed
	first, _ := s.index.Peek(hash)
	c := s.pool.cursor(first)
	c.write(h.encode())
	return true
}

func (s *shard) remove(hash uint32, k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, _, found := s.find(hash, k); found {
		s.index.Remove(hash)
	}
}

// find returns the header of k's record and a cursor at what follows the key in it. Two keys may share a hash: then the
// one stored last is there, and the other is not.
func (s *shard) find(hash uint32, k Key) (h header, body cursor, found bool) {
	first, ok := s.index.Peek(hash)
	if !ok {
		return h, body, false
	}
	body = s.pool.cursor(first)
	h = readHeader(&body)
	return h, body, h.typ == k.Type && int(h.name) == len(k.Name) && body.past(k.Name)
}

// keyAt returns the key and the notes of the record that is indexed under a hash; the notes lie in the memory of buf.
func (s *shard) keyAt(hash uint32, buf []byte) (Key, []byte) {
	first, _ := s.index.Peek(hash)
	body := s.pool.cursor(first)
	h := readHeader(&body)
	name := make([]byte, h.name)
	body.read(name)
	body.skip(int(h.wire))
	notes := resized(buf, h.notes)
	body.read(notes)
	return Key{Name: string(name), Type: h.typ}, notes
}

func (s *shard) size() (int64, int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return octets(s.pool.held, s.index.Len()), s.index.Len()
}
