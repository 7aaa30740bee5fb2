// Package world gives tests trees of signed zones, and upstreams and servers for them. A few lines describe a tree, a
// [zones.Fault] or [Upstream.Spoil] breaks one thing in it, and it may change while it is asked.
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

// Base is the text of a zone that has nothing but SOA, NS and the address of its server. Delegations are added for the
// zones below it.
const Base = `@ SOA ns hostmaster 1 7200 3600 86400 300
@ NS ns
ns A 192.0.2.53
`

// Host is the text of a host that receives mail, with a TLSA record for DANE.
const Host = `mx A 192.0.2.25
_25._tcp.mx TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000
`

// Mail is the text of a domain that receives mail with DANE.
const Mail = Base + Host + "@ MX 10 mx\n"

// Zone returns the plan of a zone with [Base] and further lines.
func Zone(name string, lines ...string) zones.Plan {
	return zones.Plan{Name: name, Text: Base + strings.Join(lines, "\n") + "\n"}
}

// Domain returns the plan of a zone with [Mail] and further lines.
func Domain(name string, lines ...string) zones.Plan {
	return zones.Plan{Name: name, Text: Mail + strings.Join(lines, "\n") + "\n"}
}

// Tree is a tree of signed zones. One goroutine may change it while others ask: it changes plans ([Tree.Plan],
// [Tree.Each]) and then calls [Tree.Publish].
type Tree struct {
	clock func() time.Time
	plans map[string]*zones.Plan

	mu    sync.Mutex
	built *zones.World
}

// validity is how long the signatures of a tree are valid: as long as those of most zones.
const validity = 14 * 24 * time.Hour

// New makes a tree. Unless a plan says otherwise, signatures are valid from an hour before the clock's time, for 14
// days. New panics if the tree cannot be built, since that is a mistake of the test.
func New(clock func() time.Time, plans ...zones.Plan) *Tree {
	t := &Tree{clock: clock, plans: map[string]*zones.Plan{}}
	t.Add(plans...)
	return t
}

// Add puts zones into the tree and publishes it. A zone replaces one of the same name.
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

// Plan returns the plan of a zone. Changes to it take effect with the next Publish.
func (t *Tree) Plan(name string) *zones.Plan { return t.plans[name] }

// Each calls f for all plans, which f may change.
func (t *Tree) Each(f func(*zones.Plan)) {
	for _, p := range t.plans {
		f(p)
	}
}

// Publish builds all zones again from their plans. The keys stay.
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

// Roll gives a zone new keys, with a new DS and new signatures, all at once.
func (t *Tree) Roll(name string) {
	t.plans[name].Config.Keys = nil
	t.Publish()
}

// Zone returns a zone as it is served now.
func (t *Tree) Zone(name string) *zones.Zone {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.built.Zone(name)
}

// DS returns the trust anchors for one zone.
func (t *Tree) DS(name string) []*dns.DS { return t.Zone(name).DS(dns.SHA256) }

// Anchors returns the trust anchors for the tree: those of the root.
func (t *Tree) Anchors() map[string][]*dns.DS { return map[string][]*dns.DS{".": t.DS(".")} }

// Recursor returns a recursor with an empty cache, which always asks the zones that are served now.
func (t *Tree) Recursor() *zones.Recursor {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.built.Recursor(t.clock)
	for name := range r.Servers {
		r.Servers[name] = func(q dns.Question) *dns.Msg { return t.Zone(name).Answer(q, true) }
	}
	return r
}

// Authority returns one server that has all zones of the tree but the root.
func (t *Tree) Authority() *zones.Authority {
	a := &zones.Authority{}
	for name := range t.plans {
		if name != "." {
			a.Zones = append(a.Zones, t.Zone(name))
		}
	}
	return a
}

// Sign returns one signature by each key over an RRset, which need not be in the zone of the key.
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
