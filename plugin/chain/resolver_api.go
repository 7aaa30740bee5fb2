package chain

import (
	"context"

	"github.com/miekg/dns"
)

// Resolver answers questions with validated data. It is safe for concurrent use.
type Resolver struct{}

// New returns a Resolver; zero numbers in c take the defaults named there.
func New(c Config) *Resolver { panic("unbuilt") }

// Resolve answers q (class IN, RD=1) from the cache or from upstream, within Config.Timeout. It never returns nil.
func (r *Resolver) Resolve(ctx context.Context, q dns.Question) *Answer { panic("unbuilt") }

// Cached answers q from the cache alone; nil if it is not there (RD=0, S-22).
func (r *Resolver) Cached(q dns.Question) *Answer { panic("unbuilt") }

// Explain answers q past the answer cache and tells the chain it rests on.
func (r *Resolver) Explain(ctx context.Context, q dns.Question) *Explanation { panic("unbuilt") }

// Prime asks for and judges the DNSKEY of every anchor zone (T-13). Nil if at least one could be validated, else the *dnssec.Failure
// of the first.
func (r *Resolver) Prime(ctx context.Context) error { panic("unbuilt") }

// Close ends background work and waits for it.
func (r *Resolver) Close() { panic("unbuilt") }

// Store is what a Resolver remembers: answers, zones and failures. It outlives the Resolver over a reload.
type Store struct{}

// NewStore returns a Store of at most size octets in all.
func NewStore(size int64) *Store { panic("unbuilt") }

// Size returns octets and entries held, for metrics.
func (s *Store) Size() (octets int64, entries int) { panic("unbuilt") }
