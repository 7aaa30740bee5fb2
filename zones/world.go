package zones

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Plan is one zone of a world that is to be built.
type Plan struct {
	Name, Text string      // as for [Parse]; NS and glue for delegations come from the zones below
	Config     Config      // by default signatures are valid from an hour before now, for [validity]
	Fault      Fault       // what is wrong with it
	Edit       func(*Zone) // if set, changes the zone before it is signed
}

// World is a tree of zones.
type World struct {
	zones map[string]*Zone
}

// validity is how long signatures of a world are valid: as long as those of most zones.
const validity = 14 * 24 * time.Hour

// Build parses, delegates, signs and breaks the zones of a world. A zone hangs from the deepest zone above it that is
// there; that zone gets its NS, glue and DS (an unsigned one no DS).
func Build(now time.Time, plans ...Plan) (*World, error) {
	w := &World{zones: map[string]*Zone{}}
	if err := w.parse(plans, now); err != nil {
		return nil, err
	}
	keys := new(ring)
	deepestFirst := slices.SortedStableFunc(slices.Values(plans), func(a, b Plan) int {
		return dns.CountLabel(b.Name) - dns.CountLabel(a.Name)
	})
	for _, p := range deepestFirst {
		z := w.zones[dns.CanonicalName(p.Name)]
		if err := z.sign(z.config, keys); err != nil {
			return nil, err
		}
		if above := w.above(z.Name); above != nil {
			above.delegate(z, p.Fault)
		}
	}
	w.spoil(plans)
	return w, nil
}

// parse reads all zones before the first is signed, as parents take records of their children.
func (w *World) parse(plans []Plan, now time.Time) error {
	for _, p := range plans {
		z, err := Parse(p.Name, p.Text)
		if err != nil {
			return err
		}
		if p.Edit != nil {
			p.Edit(z)
		}
		if w.zones[z.Name] != nil {
			return fmt.Errorf("zone %s is there twice", z.Name)
		}
		z.config = p.signing(now)
		w.zones[z.Name] = z
	}
	return nil
}

// signing is the configuration of p with its times, as its fault wants it.
func (p Plan) signing(now time.Time) Config {
	c := p.Config
	if c.Inception.IsZero() {
		c.Inception = now.Add(-time.Hour)
	}
	if c.Expiration.IsZero() {
		c.Expiration = c.Inception.Add(validity)
	}
	if p.Fault.Signing != nil {
		p.Fault.Signing(&c)
	}
	return c
}

// spoil brings in the faults of what is signed.
func (w *World) spoil(plans []Plan) {
	for _, p := range plans {
		z := w.Zone(p.Name)
		if p.Fault.Zone != nil {
			p.Fault.Zone(z)
		}
		if p.Fault.Parent != nil {
			p.Fault.Parent(w.above(z.Name), z)
		}
	}
}

// delegate puts the delegation of a signed child into a zone that is not signed yet.
func (z *Zone) delegate(child *Zone, fault Fault) {
	z.Add(child.Records(child.Name, dns.TypeNS)...)
	for _, ns := range child.Records(child.Name, dns.TypeNS) {
		for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
			z.Add(child.Records(ns.(*dns.NS).Ns, t)...)
		}
	}
	if z.config.Unsigned {
		return
	}
	for _, ds := range child.delegationSigners(fault) {
		z.Add(ds)
	}
}

// delegationSigners are the DS for the zone above, as the fault wants them.
func (z *Zone) delegationSigners(fault Fault) (all []*dns.DS) {
	digests := z.config.Digests
	if len(digests) == 0 {
		digests = []uint8{dns.SHA256}
	}
	for _, digest := range digests {
		all = append(all, z.DS(digest)...)
	}
	if fault.DS != nil {
		all = fault.DS(all)
	}
	return all
}

// above returns the zone from which name hangs, nil if there is none.
func (w *World) above(name string) *Zone {
	for name != "." {
		if name = parent(name); w.zones[name] != nil {
			return w.zones[name]
		}
	}
	return nil
}

// Zone returns a zone of the world, nil if it is not there.
func (w *World) Zone(name string) *Zone { return w.zones[dns.CanonicalName(name)] }

// Anchors returns the DS of the zones that have none above them, by name: the trust anchors for the world.
func (w *World) Anchors() map[string][]*dns.DS {
	anchors := map[string][]*dns.DS{}
	for name, z := range w.zones {
		if w.above(name) == nil {
			anchors[name] = z.DS(dns.SHA256)
		}
	}
	return anchors
}

// Recursor returns a recursor that asks the zones without sockets.
func (w *World) Recursor(clock func() time.Time) *Recursor {
	r := &Recursor{Servers: map[string]Server{}, Clock: clock}
	for name, z := range w.zones {
		r.Servers[name] = func(q dns.Question) *dns.Msg { return z.Answer(q, true) }
	}
	return r
}

// names returns the zones' names, sorted.
func (w *World) names() []string { return slices.Sorted(maps.Keys(w.zones)) }
