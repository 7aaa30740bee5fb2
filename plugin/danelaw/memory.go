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

// holdMemory returns the memory for a configuration: that of the server block, unless something was judged otherwise,
// which is no answer. Failures are forgotten: whoever reloads may have mended what they come from.
func holdMemory(c Config) *memory {
	key := c.judgement()
	m, _ := hold(&process, key, func() (*memory, error) {
		boundHeap(c.CacheSize)
		return &memory{Store: resolve.NewStore(c.CacheSize), last: newLastVerdicts(), key: key, size: c.CacheSize}, nil
	})
	m.ForgetFailures()
	return m
}
