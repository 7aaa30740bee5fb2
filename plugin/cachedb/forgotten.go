package cachedb

import (
	"sync"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// forgotten are the names of which nothing may come back that was stored before a time (C-12).
type forgotten struct {
	mu    sync.Mutex
	names map[string]time.Time
}

// mostForgotten is how many names are told apart: with more, all is forgotten.
const mostForgotten = 256

func (f *forgotten) add(name string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names == nil || len(f.names) >= mostForgotten {
		if f.names != nil {
			name = "."
		}
		f.names = map[string]time.Time{}
	}
	f.names[name] = now
}

// has reports whether a record is forgotten. A name that does not exist denies those below it (C-17).
func (f *forgotten) has(r Record) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, at := range f.names {
		under := dnssec.IsSubDomain(name, r.Key.Name) || r.Key.Type == nameError && dnssec.IsSubDomain(r.Key.Name, name)
		if under && !r.Stored.After(at) {
			return true
		}
	}
	return false
}

// nameError is the type of the key of a name that does not exist (C-4).
const nameError = 0

// keysFor are those under which the reply to a question may lie.
func keysFor(name string, qtype uint16) []cache.Key {
	return []cache.Key{{Name: name, Type: qtype}, {Name: name, Type: nameError}}
}
