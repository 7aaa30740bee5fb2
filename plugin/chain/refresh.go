package chain

import (
	"cmp"
	"context"
	"slices"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Refresh fetches anew what led to owner, whose records do not validate: what was taken from the store, and with own
// what this walk fetched itself. It reports whether any of it is another now; At has it no more then (V-14).
func (w *Walk) Refresh(ctx context.Context, owner string, own bool) bool {
	changed := false
	for _, name := range w.found.wayTo(owner) {
		if z := w.found.at(name); z != nil && (refresh{w, own}).zoneOf(ctx, z, name) != nil {
			w.found.forget(z.Name)
			changed = true
		}
	}
	return changed
}

// refresh fetches anew what does not let something validate: what the store had, and with own what the walk has fetched
// itself, and an upstream may hold for long; that only once another upstream's word on what does not validate was no
// better.
type refresh struct {
	walk *Walk
	own  bool
}

// zoneOf returns the zone of name if it is another than the one that was taken for it: the keys are others, or there is
// a cut where there was none. Nil if nothing is newer.
func (r refresh) zoneOf(ctx context.Context, old *dnssec.Zone, name string) *dnssec.Zone {
	zone := cmp.Or(r.cut(ctx, old), old)
	if zone.Status == dnssec.Secure {
		r.within(ctx, zone, name)
	}
	zone = r.walk.ZoneOf(ctx, name)
	if zone.Status <= dnssec.Bogus || zone.Name == old.Name && sameKeys(zone, old) {
		return nil
	}
	return zone
}

// cut returns a newer state of a zone: one that this walk or another has learned meanwhile, or what its links, fetched
// past the store, prove. It returns nil when the zone was refreshed within 30 s, or nothing else came.
func (r refresh) cut(ctx context.Context, old *dnssec.Zone) *dnssec.Zone {
	p := r.walk.learnedOf(old.Name)
	if p == nil || r.own && same(p, Cut{old}) {
		above, ok := r.walk.findAbove(ctx, old.Name)
		if !ok {
			return nil
		}
		p = r.place(ctx, above, old.Name, Cut{old})
	}
	if cut, ok := p.(Cut); ok && !sameKeys(cut.Zone, old) {
		return cut.Zone
	}
	return nil
}

// within fetches anew the proofs that there is no cut between a zone and name. When one of them holds no longer, what
// is known of the names below is forgotten.
func (r refresh) within(ctx context.Context, zone *dnssec.Zone, name string) {
	store, now, changed := r.walk.chain.Store, r.walk.chain.Now(), false
	for at := zone.Name; at != name; {
		at = dnssec.Toward(at, name)
		old, ok := store.place(at, now).(Within)
		if !ok || !r.own && r.walk.learnedOf(at) != nil {
			continue
		}
		if changed {
			store.forget(at)
			continue
		}
		switch p := r.place(ctx, zone, at, old).(type) {
		case Cut, Within:
			changed = !same(p, old)
		}
	}
}

// place fetches the links of name past the store, at most once in 30 s, unless another walk has done so meanwhile. What
// is kept is replaced only by what validates. An upstream may hold the same old ones, so if nothing has changed another
// is asked. Nil says that there is nothing new.
func (r refresh) place(ctx context.Context, above *dnssec.Zone, name string, old Place) Place {
	store, now := r.walk.chain.Store, r.walk.chain.Now()
	p := r.walk.joined(ctx, name, func() Place {
		if p := store.place(name, now); p == nil || !same(p, old) {
			return p
		}
		if !store.mayRefresh(name, now) {
			return nil
		}
		return (&links{walk: r.walk, name: name, above: above, try: 1}).build(ctx,
			func(p Place) bool { return !same(p, old) })
	})
	r.walk.note(name, p)
	return p
}

// findAbove returns the zone by which the links of name are judged, nil at an anchor; ok if there is one, or none is
// needed.
func (w *Walk) findAbove(ctx context.Context, name string) (z *dnssec.Zone, ok bool) {
	anchor, anchored := w.anchor(name, w.chain.Now())
	if !anchored || anchor == name {
		return nil, anchored
	}
	z = w.ZoneOf(ctx, dnssec.Parent(name))
	return z, z.Status == dnssec.Secure
}

func sameKeys(a, b *dnssec.Zone) bool {
	return a.Status == b.Status && slices.EqualFunc(a.Keys, b.Keys, sameKey)
}

func sameKey(a, b *dnssec.Key) bool {
	return a.RR.Flags == b.RR.Flags && a.RR.Algorithm == b.RR.Algorithm && a.RR.PublicKey == b.RR.PublicKey
}

// renew fetches DS and DNSKEY of a cut in use again before they end (C-14).
func (c *Chain) renew(zone string) {
	if !c.Renew || c.Busy() {
		return
	}
	r := c.Store.record(zone)
	if r.claimed || !r.isCut() || !EndsSoon(c.Now(), r.since, r.until.Sub(r.since), r.expires) ||
		!c.Store.claim(zone) {
		return
	}
	c.Fetcher.Go(func() {
		ctx, cancel := context.WithTimeoutCause(c.Fetcher.Context(), c.Life, fetch.ErrDeadline)
		defer cancel()
		account := c.Fetcher.Open(dnssec.Question(zone, dns.TypeDNSKEY), c.Fetcher.NewBudget())
		defer account.Close()
		w := c.NewWalk(account)
		defer w.rescue(zone, func(Failed) {})
		if above, ok := w.findAbove(ctx, zone); ok {
			w.joined(ctx, zone, func() Place {
				return (&links{walk: w, name: zone, above: above}).build(ctx, anything)
			})
		}
	})
}
