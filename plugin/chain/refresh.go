package chain

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Refresh fetches anew what led to owner, whose records do not validate: what was taken from the store, and with own what this
// walk fetched itself. It reports whether any of it is another now, and At lacks it then (V-14).
func (w *Walk) Refresh(ctx context.Context, owner string, own bool) bool {
	changed := false
	for _, name := range w.wayTo(owner) {
		w.mu.Lock()
		z := w.found[name]
		w.mu.Unlock()
		if z != nil && w.newer(ctx, z, name, own) != nil {
			w.forget(z.Name)
			changed = true
		}
	}
	return changed
}

// wayTo returns the names at and above owner for which a Secure zone was found, the deepest first: there the fault is likely, and
// tries are few.
func (w *Walk) wayTo(owner string) (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, z := range w.found {
		if z.Status == dnssec.Secure && dns.IsSubDomain(name, owner) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	return names
}

// forget makes the judge ask again for the names in a zone that is out of date.
func (w *Walk) forget(zone string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.found, func(_ string, z *dnssec.Zone) bool { return z.Name == zone })
}

// newer returns the zone of name if it is another than the one that was taken for it: the keys are others, or there is a cut
// where there was none. Nil if nothing is newer. What was kept is fetched anew for that; what this walk has fetched itself, and
// an upstream may hold for long, with own only: once another upstream's word on what does not validate was no better.
func (w *Walk) newer(ctx context.Context, old *dnssec.Zone, name string, own bool) *dnssec.Zone {
	zone := cmp.Or(w.refresh(ctx, old, own), old)
	if zone.Status == dnssec.Secure {
		w.recut(ctx, zone, name, own)
	}
	zone = w.ZoneOf(ctx, name)
	if zone.Status <= dnssec.Bogus || zone.Name == old.Name && sameKeys(zone, old) {
		return nil
	}
	return zone
}

// refresh returns a newer state of a zone: one that this walk or another has learned meanwhile, or what its links, fetched past
// the store, prove. It returns nil when the zone was refreshed within 30 s, or nothing else came.
func (w *Walk) refresh(ctx context.Context, old *dnssec.Zone, own bool) *dnssec.Zone {
	p := w.learnedOf(old.Name)
	if p == nil || own && same(p, Cut{old}) {
		above, ok := w.above(ctx, old.Name)
		if !ok {
			return nil
		}
		p = w.again(ctx, above, old.Name, Cut{old})
	}
	if cut, ok := p.(Cut); ok && !sameKeys(cut.Zone, old) {
		return cut.Zone
	}
	return nil
}

// above returns the zone by which the links of name are judged, nil at an anchor; ok if there is one, or none is needed.
func (w *Walk) above(ctx context.Context, name string) (z *dnssec.Zone, ok bool) {
	anchor, anchored := w.chain.anchor(name, w.negative)
	if !anchored || anchor == name {
		return nil, anchored
	}
	z = w.ZoneOf(ctx, dnssec.Parent(name))
	return z, z.Status == dnssec.Secure
}

// recut fetches anew the proofs that there is no cut between a zone and name. When one of them holds no longer, what
// is known of the names below is forgotten.
func (w *Walk) recut(ctx context.Context, zone *dnssec.Zone, name string, own bool) {
	changed := false
	for at := zone.Name; at != name; {
		at = dnssec.Toward(at, name)
		old, ok := w.chain.Store.place(at, w.chain.Now()).(Within)
		if !ok || !own && w.learnedOf(at) != nil {
			continue
		}
		if changed {
			w.chain.Store.records.Remove(at)
			continue
		}
		switch p := w.again(ctx, zone, at, old).(type) {
		case Cut, Within:
			changed = !same(p, old)
		}
	}
}

// again fetches the links of name past the store, at most once in 30 s, unless another walk has done so meanwhile. What is kept is
// replaced only by what validates. An upstream may hold the same old ones, so if nothing has changed another is asked. Nil says
// that there is nothing new.
func (w *Walk) again(ctx context.Context, above *dnssec.Zone, name string, old Place) Place {
	p := w.joined(ctx, name, func() Place {
		now := w.chain.Now()
		if p := w.chain.Store.place(name, now); p == nil || !same(p, old) {
			return p
		}
		if !w.chain.Store.mayRefresh(name, now) {
			return nil
		}
		return w.build(ctx, above, name, 1, func(p Place) bool { return !same(p, old) })
	})
	w.note(name, p)
	return p
}

func sameKeys(a, b *dnssec.Zone) bool {
	return a.Status == b.Status && slices.EqualFunc(a.Keys, b.Keys, func(a, b *dnssec.Key) bool {
		return a.RR.Flags == b.RR.Flags && a.RR.Algorithm == b.RR.Algorithm && a.RR.PublicKey == b.RR.PublicKey
	})
}

// renew fetches DS and DNSKEY of a cut in use again before they end (C-14).
func (c *Chain) renew(zone string) {
	if !c.Renew || c.Busy() {
		return
	}
	r, _ := c.Store.records.Get(zone)
	if cut, ok := r.place.(Cut); !ok || r.claimed || !EndsSoon(c.Now(), r.since, r.until.Sub(r.since), cut.Zone.Expires) ||
		!c.Store.claim(zone) {
		return
	}
	c.Fetcher.Go(func() {
		ctx, cancel := context.WithTimeoutCause(c.Fetcher.Context(), c.Life, fetch.ErrDeadline)
		defer cancel()
		w := c.NewWalk(c.Fetcher.Open(ctx, question(zone, dns.TypeDNSKEY), c.Fetcher.NewBudget()))
		defer w.rescue(zone, func(Failed) {})
		if above, ok := w.above(ctx, zone); ok {
			w.joined(ctx, zone, func() Place { return w.build(ctx, above, zone, 0, anything) })
		}
	})
}
