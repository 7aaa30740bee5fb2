package danelaw

import (
	"sync/atomic"

	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// memory is what outlives a reload: the cache, the last verdicts on mail domains, the last hour for operators, and that
// danelaw has once been ready.
type memory struct {
	*resolve.Store
	ready   atomic.Bool
	last    *lastVerdicts
	history history
	key     string
	size    int64 // octets of the cache
}

func (m *memory) name() string { return m.key }
func (m *memory) close()       { boundHeap(-m.size) }

// holdMemory returns the memory for a configuration. A server block keeps its memory as long as it judges in the same
// way, since a verdict by other rules is no answer. Failures are forgotten: whoever reloads may have mended their
// cause.
func holdMemory(c Config) *memory {
	key := c.judgement()
	m, _ := hold(&process, key, func() (*memory, error) {
		boundHeap(c.CacheSize)
		return &memory{Store: resolve.NewStore(c.CacheSize), last: newLastVerdicts(), key: key, size: c.CacheSize}, nil
	})
	m.ForgetFailures()
	return m
}
