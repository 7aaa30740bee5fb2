// Package world gives tests a tree of signed zones. A few lines describe it, a [zones.Fault] or [Upstream.Spoil] breaks
// one thing of it, and it may change while it is asked.
package world

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// Base is the text of a zone with nothing of its own. Delegations come from the zones below it.
const Base = `@ SOA ns hostmaster 1 7200 3600 86400 300
@ NS ns
ns A 192.0.2.53
`

// Host is one that receives mail, with the TLSA record of DANE.
const Host = `mx A 192.0.2.25
_25._tcp.mx TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000
`

// Mail is the text of a domain that receives mail with DANE.
const Mail = Base + Host + "@ MX 10 mx\n"

// Zone is one with [Base] and further lines.
func Zone(name string, lines ...string) zones.Plan {
	return zones.Plan{Name: name, Text: Base + strings.Join(lines, "\n") + "\n"}
}

// Domain is one with [Mail] and further lines.
func Domain(name string, lines ...string) zones.Plan {
	return zones.Plan{Name: name, Text: Mail + strings.Join(lines, "\n") + "\n"}
}

// Tree is a tree of signed zones. One goroutine may change it while others ask: Plan, Each, Roll and Add say how, and
// Publish brings that in.
type Tree struct {
	clock func() time.Time
	plans map[string]*zones.Plan

	mu    sync.Mutex
	built *zones.World
}

// validity is how long signatures of a tree are valid, as those of most zones.
const validity = 14 * 24 * time.Hour

// New makes a tree. Signatures are valid from an hour before the clock's time, for 14 days, where a plan does not say
// otherwise. A tree that cannot be built is a mistake of the test: it panics.
func New(clock func() time.Time, plans ...zones.Plan) *Tree {
	t := &Tree{clock: clock, plans: map[string]*zones.Plan{}}
	t.Add(plans...)
	return t
}

// Add puts zones into the tree, in the place of those of the same name, and publishes it.
func (t *Tree) Add(plans ...zones.Plan) {
	for _, p := range plans {
		if p.Config.Inception.IsZero() {
			p.Config.Inception = t.clock().Add(-time.Hour)
		}
		if p.Config.Expiration.IsZero() {
			p.Config.Expiration = p.Config.Inception.Add(validity)
		}
		p.Config.Lazy = true // most of a tree is never asked for
		t.plans[dns.CanonicalName(p.Name)] = &p
	}
	t.Publish()
}

// Plan is how a zone is made. What is changed there comes with the next Publish.
func (t *Tree) Plan(name string) *zones.Plan { return t.plans[name] }

// Each has f change all plans.
func (t *Tree) Each(f func(*zones.Plan)) {
	for _, p := range t.plans {
		f(p)
	}
}

// Publish makes all zones anew as their plans say. The keys stay.
func (t *Tree) Publish() {
	var plans []zones.Plan
	for _, name := range slices.Sorted(maps.Keys(t.plans)) {
		plans = append(plans, *t.plans[name])
	}
	built, err := zones.Build(t.clock(), plans...)
	if err != nil {
		panic(err)
	}
	for name, p := range t.plans {
		if keys := built.Zone(name).Keys; len(keys) > 0 {
			p.Config.Keys = keys
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.built = built
}

// Roll gives a zone new keys, and DS and signatures with them, all at once.
func (t *Tree) Roll(name string) {
	t.plans[name].Config.Keys = nil
	t.Publish()
}

// Zone is a zone as it is served now.
func (t *Tree) Zone(name string) *zones.Zone {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.built.Zone(name)
}

// DS are the trust anchors for one zone.
func (t *Tree) DS(name string) []*dns.DS { return t.Zone(name).DS(dns.SHA256) }

// Anchors are the trust anchors for the tree: those of the root.
func (t *Tree) Anchors() map[string][]*dns.DS { return map[string][]*dns.DS{".": t.DS(".")} }

// Recursor returns one with an empty cache, which asks the zones as they are when it does.
func (t *Tree) Recursor() *zones.Recursor {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.built.Recursor(t.clock)
	for name := range r.Servers {
		r.Servers[name] = func(q dns.Question) *dns.Msg { return t.Zone(name).Answer(q, true) }
	}
	return r
}

// Authority is one server that has all zones but the root.
func (t *Tree) Authority() *zones.Authority {
	a := &zones.Authority{}
	for name := range t.plans {
		if name != "." {
			a.Zones = append(a.Zones, t.Zone(name))
		}
	}
	return a
}

// Sign returns the signatures of each key over an RRset, which its zone may know nothing of.
func Sign(rrs []dns.RR, inception, expiration time.Time, keys ...*zones.Key) (sigs []dns.RR) {
	for _, k := range keys {
		sig, err := k.Sign(rrs, inception, expiration)
		if err != nil {
			panic(err) // the keys have signed their zone
		}
		sigs = append(sigs, sig)
	}
	return sigs
}
