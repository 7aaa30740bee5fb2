// Package cache keeps validated answers as packed DNS messages in memory that is bounded in octets. It knows nothing of
// DNSSEC: status, lifetime and notes are its user's.
package cache

import "time"

// Key names one cached answer.
type Key struct {
	Name string // canonical FQDN
	Type uint16 // 0 for a name error of the whole name (C-4)
}

// Entry is one cached answer.
type Entry struct {
	Status  uint8         // the greater is the better (C-8)
	Proven  bool          // it rests on a fresh proof and may replace a better one (C-8); not stored
	Stored  time.Time     // when it was made, to the second
	Life    time.Duration // it ends at Stored+Life; whole seconds
	Expires time.Time     // it ends here too (C-1, C-2); zero: never
	Wire    []byte        // a packed DNS message without OPT
	Notes   []byte        // the user's own
}

// Cache is a bounded, sharded store of Entries. It is safe for concurrent use.
type Cache struct{}

// New returns a cache that holds at most size octets of answers, its own bookkeeping included.
func New(size int64) *Cache { panic("unbuilt") }

// Get fills e with the entry of k if it is still alive at now: e.Wire and e.Notes are copies in e's own memory, which
// is reused, and every TTL in e.Wire has been counted down by the whole seconds since Stored (C-7). An entry whose
// Stored is later than now is not alive (C-18).
func (c *Cache) Get(k Key, now time.Time, e *Entry) bool { panic("unbuilt") }

// Put stores e, unless one that is still alive at now and better is there already (C-8). It copies what it keeps. An entry that is no
// DNS message or larger than a shard may hold is not stored.
func (c *Cache) Put(k Key, e *Entry, now time.Time) { panic("unbuilt") }

// Remove forgets k.
func (c *Cache) Remove(k Key) { panic("unbuilt") }

// Size returns the octets in use and the number of entries.
func (c *Cache) Size() (octets int64, entries int) { panic("unbuilt") }

// Table is a sharded map from names to parsed objects, bounded by the octets that cost says each takes beside its key; the least recently used go
// first. It is safe for concurrent use. Lifetimes are its user's business.
type Table[V any] struct{}

// NewTable returns a table of at most size octets.
func NewTable[V any](size int64, cost func(V) int64) *Table[V] { panic("unbuilt") }

// Get returns what is stored under key.
func (t *Table[V]) Get(key string) (V, bool) { panic("unbuilt") }

// Put stores v under key.
func (t *Table[V]) Put(key string, v V) { panic("unbuilt") }

// Update puts what f makes of the value under key (the zero V and false if there is none), in one step; if f returns false the
// key is removed.
func (t *Table[V]) Update(key string, f func(old V, ok bool) (V, bool)) { panic("unbuilt") }

// Remove forgets key.
func (t *Table[V]) Remove(key string) { panic("unbuilt") }

// Size returns the octets in use and the number of entries.
func (t *Table[V]) Size() (octets int64, entries int) { panic("unbuilt") }
