// Package chain finds the zone that a name lies in, by the chain of trust from an anchor down to it. A [Chain] keeps
// what is known of names, with one builder for each; a [Walk] is what one client query knows and finds out, on that
// query's account.
package chain

import (
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Config is what a Chain is made of. All but Renew and Keep is required.
type Config struct {
	Fetcher *fetch.Fetcher
	Store   *Store
	// Anchors are the trust anchors at the beginning, by canonical zone name; DNSKEY anchors as their DS. A zone that
	// has none left is an anchor point all the same. See Chain.Trust.
	Anchors map[string][]*dns.DS
	// Unvalidated are zones that count as Insecure, whatever is above and below them (S-21).
	Unvalidated []string
	Policy      dnssec.Policy
	Clock       func() time.Time // the time of day
	Now         func() time.Time // the time by which memory lives
	MaxTTL      time.Duration    // C-5
	Renew       bool             // fetch the links of zones in use again before they end (C-14)
	Busy        func() bool      // reports whether there is too much to do for anything that nobody waits for
	Joined      func()           // is told that a link is being built already (L-13)
	// Keep, if not nil, is told of the reply that has proven a link to be Secure, or that there is none, and how long
	// that may count. It is called with what is shared: nobody changes it.
	Keep func(q dns.Question, reply *dns.Msg, life time.Duration)
	// Life is how long work may go on that no client waits for (L-10).
	Life time.Duration
}

// Chain is the chain of trust to all names. It is safe for concurrent use.
type Chain struct {
	Config
	building builders
	anchors  atomic.Pointer[map[string][]*dns.DS]
	negative atomic.Pointer[negativeAnchors]
}

// New returns a Chain with negative trust anchors.
func New(c Config, negative []NegativeAnchor) *Chain {
	chain := &Chain{Config: c, building: builders{calls: map[buildKey]*builder{}}}
	chain.anchors.Store(&c.Anchors)
	chain.negative.Store(chain.newNegativeAnchors(negative))
	return chain
}

// Known returns the deepest zone known on the way to name, as a walk that begins now has it; nil if there is none.
// Nobody is asked.
func (c *Chain) Known(name string) *dnssec.Zone {
	zone, _, _ := c.ground().deepest(name, c.Store.place)
	return zone
}
