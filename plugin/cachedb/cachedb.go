package cachedb

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Source is one memory beyond the process. It is safe for concurrent use.
type Source interface {
	// Name is what its replies are known by, as an upstream is by its address.
	Name() string
	// Find returns the record of the first of the keys that has one, which nobody has judged. It gives up with ctx.
	Find(ctx context.Context, now time.Time, keys ...cache.Key) (Record, bool)
	// Keep offers a record. It is quick, and keeps nothing of it but copies.
	Keep(r Record)
	// Forget has nothing come back of a name and those below it that was stored by now.
	Forget(name string, now time.Time)
}

// DB is all memory beyond the process, of one who asks. It implements resolve.Beyond.
type DB struct {
	Sources []Source // in the order in which they are asked
	Now     func() time.Time
}

// Ask implements [fetch.Exchanger].
func (d *DB) Ask(q dns.Question, t fetch.Try, done func(fetch.Reply, error)) (cancel func()) {
	ctx, cancel := context.WithDeadline(context.Background(), t.Until)
	go func() {
		defer cancel()
		done(d.find(ctx, q))
	}()
	return cancel
}

// find survives a panic (S-27): what it reads is anybody's.
func (d *DB) find(ctx context.Context, q dns.Question) (reply fetch.Reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fetch.Panic(q, p)
		}
	}()
	keys := []cache.Key{{Name: q.Name, Type: q.Qtype}}
	if q.Qtype != dns.TypeDS { // which the zone above answers: no word of that one's stands for it (V-8)
		keys = keysFor(q.Name, q.Qtype)
	}
	for _, s := range d.Sources {
		now := d.Now()
		r, ok := s.Find(ctx, now, keys...)
		if !ok || !r.alive(now) {
			continue
		}
		if m := r.reply(q, now); m != nil {
			return fetch.Reply{Msg: m, Upstream: s.Name(), Size: len(r.Wire)}, nil
		}
	}
	none := fetch.Unanswered(q, nil)
	return fetch.Reply{}, none.Says("%s: not in memory beyond the process", fetch.Describe(q))
}

// Keep implements resolve.Beyond.
func (d *DB) Keep(k cache.Key, e *cache.Entry) {
	for _, s := range d.Sources {
		s.Keep(recordOf(k, e, d.Now()))
	}
}

// Forget implements resolve.Beyond.
func (d *DB) Forget(name string, now time.Time) {
	for _, s := range d.Sources {
		s.Forget(name, now)
	}
}

// FromFile is the Source that a cache file is. The file may be replaced.
type FromFile struct {
	forgotten forgotten
	mu        sync.RWMutex
	file      *File // nil: there is none
}

// Name implements [Source].
func (*FromFile) Name() string { return "cache_file" }

// Find implements [Source].
func (s *FromFile) Find(_ context.Context, _ time.Time, keys ...cache.Key) (Record, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range keys {
		if s.file == nil {
			break
		}
		if r, ok := s.file.find(k); ok && !s.forgotten.has(r) {
			return r, true
		}
	}
	return Record{}, false
}

// Keep implements [Source]: what is to be kept is written all at once.
func (*FromFile) Keep(Record) {}

// Forget implements [Source].
func (s *FromFile) Forget(name string, now time.Time) { s.forgotten.add(name, now) }

// Records is how many the file has.
func (s *FromFile) Records() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return 0
	}
	return s.file.Records()
}

// Replace makes f the file, which may be nil, and closes the one before it.
func (s *FromFile) Replace(f *File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.file
	if s.file = f; old == nil {
		return nil
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("the cache file before: %w", err)
	}
	return nil
}

// Rest are the records of the file that are not forgotten. It must not be replaced meanwhile.
func (s *FromFile) Rest() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		s.mu.RLock()
		f := s.file
		s.mu.RUnlock()
		if f == nil {
			return
		}
		for r := range f.all() {
			if !s.forgotten.has(r) && !yield(r) {
				return
			}
		}
	}
}
