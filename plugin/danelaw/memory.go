package danelaw

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/danelaw-dns/danelaw/plugin/chain"
)

// memory is what outlives a reload: the cache, the last verdicts on mail domains, the last hour for operators, and that danelaw has once been
// ready.
type memory struct {
	*chain.Store
	ready   atomic.Bool
	last    *lastVerdicts
	history history
	key     string
	size    int64 // octets of the cache
	uses    int   // under memories
}

// memories holds the memory of every server block in use, by block and judgement: what was judged otherwise is no
// answer. The old Handler of a block ends after the new one has begun, so what one block needs is never freed by a
// reload.
var memories = struct {
	sync.Mutex
	byKey map[string]*memory
}{byKey: map[string]*memory{}}

// acquire returns the memory for a configuration; it must be released. Failures are forgotten: whoever reloads may have
// mended what they come from.
func acquire(c Config) *memory {
	key := c.judgement()
	memories.Lock()
	defer memories.Unlock()
	m := memories.byKey[key]
	if m == nil {
		m = &memory{Store: chain.NewStore(c.CacheSize), last: newLastVerdicts(), key: key, size: c.CacheSize}
		memories.byKey[key] = m
	}
	m.ForgetFailures()
	m.uses++
	boundHeap(caches())
	return m
}

// release gives it back.
func (m *memory) release() {
	memories.Lock()
	defer memories.Unlock()
	if m.uses--; m.uses == 0 {
		delete(memories.byKey, m.key)
		boundHeap(caches())
	}
}

// caches returns the octets of all caches in use; memories is locked.
func caches() (octets int64) {
	for _, m := range memories.byKey {
		octets += m.size
	}
	return octets
}

// judgement spells out everything by which cached verdicts would differ, and the size, which cannot change in use.
func (c Config) judgement() string {
	parts := []string{c.Block, fmt.Sprint(c.CacheSize), fmt.Sprintf("%+v", c.Policy), c.ValidationTime.String()}
	for _, set := range c.Anchors {
		for _, ds := range set {
			parts = append(parts, ds.String())
		}
	}
	for _, zone := range c.Private {
		parts = append(parts, "private "+zone)
	}
	for _, a := range c.Negative {
		parts = append(parts, "negative "+a.Zone)
	}
	slices.Sort(parts[4:])
	return strings.Join(parts, "\n")
}

// handlers are those that serve, oldest first. During a reload a block has two.
type handlers struct {
	sync.Mutex
	all []*Handler
}

var live handlers

func (l *handlers) add(h *Handler) {
	l.Lock()
	defer l.Unlock()
	l.all = append(l.all, h)
}

func (l *handlers) remove(h *Handler) {
	l.Lock()
	defer l.Unlock()
	l.all = slices.DeleteFunc(l.all, func(o *Handler) bool { return o == h })
}

// keep closes all that belong to another load of a Corefile: to one that failed. Those of no Corefile are their
// program's.
func (l *handlers) keep(generation *instance) {
	l.Lock()
	all := slices.Clone(l.all)
	l.Unlock()
	for _, h := range all {
		if h.generation != nil && h.generation != generation {
			h.Close()
		}
	}
}

// newest returns the latest Handler of each block.
func (l *handlers) newest() map[string]*Handler {
	l.Lock()
	defer l.Unlock()
	byBlock := map[string]*Handler{}
	for _, h := range l.all {
		byBlock[h.Block] = h
	}
	return byBlock
}
