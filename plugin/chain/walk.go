package chain

import (
	"context"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Walk is what one client query knows of the zones that its answer rests on. It implements [dnssec.Zones]. It is safe
// for concurrent use.
type Walk struct {
	*view
	account *fetch.Account

	found found

	asking  sync.Mutex
	sources names[[]string] // the upstreams that the links of a name were had from in vain
}

// NewWalk returns a walk on an account.
func (c *Chain) NewWalk(account *fetch.Account) *Walk {
	w := &Walk{view: c.newView(), account: account}
	w.stored = account.Stored()
	return w
}

// TrustAll has the walk, which has not begun, go on as if there were no negative trust anchors.
func (w *Walk) TrustAll() { w.negative = *w.chain.newNegativeAnchors(nil) }

// Find walks to all names at once, for At.
func (w *Walk) Find(ctx context.Context, names []string) {
	var others sync.WaitGroup
	for _, name := range names[1:] {
		others.Go(func() { w.find(ctx, name) })
	}
	w.find(ctx, names[0])
	others.Wait()
}

func (w *Walk) find(ctx context.Context, name string) {
	var zone *dnssec.Zone
	defer func() { w.found.note(name, zone) }()
	defer w.rescue(name, func(f Failed) { zone = f.Zone })
	zone = w.ZoneOf(ctx, name)
}

// rescue, deferred, makes a failure of a panic: it costs this query alone, and leaves nobody waiting (S-27).
func (w *Walk) rescue(name string, failed func(Failed)) {
	if panicked := recover(); panicked != nil {
		failed(broken(name, fetch.Panic(w.account.Question(), panicked)))
	}
}

// At implements dnssec.Zones. A zone that is known needs no walk, so that the judge takes no second turn for it (L-7).
func (w *Walk) At(name string) *dnssec.Zone {
	anchor := w.Anchor(name)
	for at := range dnssec.Ancestors(name) {
		if z := w.found.at(at); z != nil && (at == name || z.Status != dnssec.Secure) {
			return z // what is not Secure holds for all below, unless a nearer anchor is configured (V-11)
		}
		if at == anchor {
			break
		}
	}
	zone, at, ends := w.deepest(name)
	if zone == nil || at != name && !ends {
		return nil
	}
	w.chain.renew(zone.Name) // in the background
	w.found.note(name, zone)
	return zone
}

// ZoneOf returns the zone that name lies in: from the deepest known zone it climbs to where a cut is likely, then goes
// down label by label (V-6, V-6a), and stops at the first zone that is not Secure (V-1).
func (w *Walk) ZoneOf(ctx context.Context, name string) *dnssec.Zone {
	zone, at, ends := w.deepest(name)
	if zone == nil {
		zone, ends = w.enter(ctx, nil, w.findPlace(ctx, nil, at))
	} else {
		w.chain.renew(zone.Name)
	}
	if cut := w.likelyCut(at, name); cut != "" && !ends {
		if p := w.climb(ctx, zone, cut); p != nil {
			at = cut
			zone, ends = w.enter(ctx, zone, p)
		}
	}
	for at != name && !ends {
		at = dnssec.Toward(at, name)
		p := w.findPlace(ctx, zone, at)
		if failed, ok := p.(Failed); ok {
			p, at = w.past(ctx, zone, failed, at, name)
		}
		zone, ends = w.enter(ctx, zone, p)
	}
	return zone
}

// enter returns the zone below a name of place p, to which the way led through zone; ends if it decides for all names
// below.
func (w *Walk) enter(ctx context.Context, zone *dnssec.Zone, p Place) (_ *dnssec.Zone, ends bool) {
	switch p := p.(type) {
	case Cut:
		zone = p.Zone
	case Failed:
		zone = p.Zone
	case Within:
		if ends = p.Below; zone == nil || zone.Name != p.Zone {
			zone = w.ZoneOf(ctx, p.Zone) // as it is known now
		}
	}
	return zone, ends || zone.Status != dnssec.Secure
}

// past finds a cut below a name whose links cannot be had, if that is none: servers that fail on DS of empty names are
// no obstacle where the zone above has signed what lies further down. As deep as speculation goes is deep enough.
func (w *Walk) past(ctx context.Context, zone *dnssec.Zone, failed Failed, at, name string) (Place, string) {
	below := at
	for range cutsAhead {
		if below == name || failed.Zone.Cause.Limit() {
			break
		}
		below = dnssec.Toward(below, name)
		switch p := w.climb(ctx, zone, below).(type) {
		case Cut, Within:
			return p, below
		}
	}
	return failed, at
}

// climb judges the DS of cut by the zone whose signature or SOA is on the reply, with no question for the labels
// between (V-6a). It returns only what it can prove, else nil: the way down finds out then.
func (w *Walk) climb(ctx context.Context, base *dnssec.Zone, cut string) Place {
	got, failure := w.account.Fetch(ctx, dnssec.Question(cut, dns.TypeDS), fetch.RoleLink)
	if failure != nil {
		return nil
	}
	signers, apex := dnssec.Hint(cut, got.Message)
	for _, signer := range slices.Concat(signers, []string{apex}) {
		if signer == "" || signer == cut || !dnssec.IsSubDomain(base.Name, signer) || !dnssec.IsSubDomain(signer, cut) {
			continue // a signer above the deepest known Secure zone proves nothing (V-8)
		}
		above := base
		if signer != base.Name {
			w.expect(signer)
			above = w.ZoneOf(ctx, signer)
		}
		switch above.Status {
		case dnssec.Secure:
		case dnssec.Insecure:
			return Within{Zone: above.Name}
		default:
			continue // a false hint costs questions and no more
		}
		if delegation(ctx, w.account, above, cut, got).Cut != dnssec.Unproven {
			return w.findPlace(ctx, above, cut)
		}
	}
	return nil
}

// delegation judges a DS reply; a limit makes it Unproven.
func delegation(ctx context.Context, account *fetch.Account, above *dnssec.Zone, name string,
	got *fetch.Grouped) (d dnssec.Delegation) {
	if f := account.Judge(ctx, func(c *dnssec.Check) { d = c.Delegation(above, name, got.Message) }); f != nil {
		return dnssec.Delegation{Name: name, Cause: f}
	}
	return d
}
