package chain

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Walk is what one client query knows of the zones that its answer rests on. It implements [dnssec.Zones]. It is safe for
// concurrent use.
type Walk struct {
	chain      *Chain
	account    *fetch.Account
	negative   negativeAnchors
	generation uint64

	mu       sync.Mutex
	learned  map[string]Place        // in this walk; the store may hold it shorter
	found    map[string]*dnssec.Zone // by the names walked to
	sources  map[string][]string     // the upstreams that the links of a name were had from
	likely   map[string]bool         // names where a zone cut is likely (V-6a)
	insecure bool                    // an insecure delegation was proven in this walk (C-8)
}

// NewWalk returns a walk on an account.
func (c *Chain) NewWalk(account *fetch.Account) *Walk {
	return &Walk{
		chain: c, account: account, generation: c.generation.Load(), negative: *c.negative.Load(),
		learned: map[string]Place{}, found: map[string]*dnssec.Zone{}, sources: map[string][]string{}, likely: map[string]bool{},
	}
}

// TrustAll has the walk, which has not begun, go on as if there were no negative trust anchors.
func (w *Walk) TrustAll() { w.negative = nil }

// Current reports whether the walk began with what holds now.
func (w *Walk) Current() bool { return w.generation == w.chain.generation.Load() }

// InsecureProven reports whether an insecure delegation was proven in this walk, and not known before (C-8).
func (w *Walk) InsecureProven() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.insecure
}

// unanchored is the zone of all names that no anchor covers (V-1a).
var unanchored = &dnssec.Zone{Status: dnssec.Insecure}

// Find walks to all names at once, for At.
func (w *Walk) Find(ctx context.Context, names []string) {
	if len(names) == 1 {
		w.find(ctx, names[0])
		return
	}
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() { w.find(ctx, name) })
	}
	all.Wait()
}

func (w *Walk) find(ctx context.Context, name string) {
	var zone *dnssec.Zone
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.found[name] = zone
	}()
	defer w.rescue(name, func(f Failed) { zone = f.Zone })
	zone = w.ZoneOf(ctx, name)
}

// rescue, deferred, makes a failure of a panic: it costs this query alone, and leaves nobody waiting (S-27).
func (w *Walk) rescue(name string, failed func(Failed)) {
	if panicked := recover(); panicked != nil {
		failed(broken(name, fetch.Panic(w.account.Question(), panicked)))
	}
}

// At implements dnssec.Zones.
func (w *Walk) At(name string) *dnssec.Zone {
	w.mu.Lock()
	defer w.mu.Unlock()
	anchor := w.Anchor(name)
	for at := range dnssec.Ancestors(name) {
		if z := w.found[at]; z != nil && (at == name || z.Status != dnssec.Secure) {
			return z // what is not Secure holds for all below, unless a nearer anchor is configured (V-11)
		}
		if at == anchor {
			break
		}
	}
	return nil
}

// Anchor implements dnssec.Zones. Where no anchor covers name no zone is Secure, and any bound will do (V-1a).
func (w *Walk) Anchor(name string) string {
	if zone, ok := w.chain.anchor(name, w.negative); ok {
		return zone
	}
	return "."
}

// Known returns the deepest zone known on the way to name; nil if there is none. Nobody is asked.
func (w *Walk) Known(name string) *dnssec.Zone {
	zone, _, _ := w.deepest(name)
	return zone
}

// deepest returns the deepest zone known on the way to name and the name down to which that is known; ends if it decides for
// name. If none is known, that is nil and the anchor.
func (w *Walk) deepest(name string) (zone *dnssec.Zone, at string, ends bool) {
	anchor, ok := w.chain.anchor(name, w.negative)
	if !ok {
		return unanchored, name, true
	}
	if z := w.negative.at(anchor, w.chain.Now()); z != nil {
		return z, name, true
	}
	for at := range dnssec.Ancestors(name) {
		switch p := w.place(at).(type) {
		case Cut:
			return p.Zone, at, at == name || p.Zone.Status != dnssec.Secure
		case Within:
			if apex, ok := w.place(p.Zone).(Cut); ok {
				return apex.Zone, at, at == name || p.Below || apex.Zone.Status != dnssec.Secure
			}
		}
		if at == anchor {
			break
		}
	}
	return nil, anchor, false
}

// ZoneOf returns the zone that name lies in: from the deepest known zone it climbs to where a cut is likely, then goes
// down label by label (V-6, V-6a), and stops at the first zone that is not Secure (V-1).
func (w *Walk) ZoneOf(ctx context.Context, name string) *dnssec.Zone {
	zone, at, ends := w.deepest(name)
	if zone == nil {
		zone, ends = w.enter(ctx, nil, w.link(ctx, nil, at))
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
		p := w.link(ctx, zone, at)
		if failed, ok := p.(Failed); ok {
			p, at = w.past(ctx, zone, failed, at, name)
		}
		zone, ends = w.enter(ctx, zone, p)
	}
	return zone
}

// enter returns the zone below a name of place p, to which the way led through zone; ends if it decides for all names below.
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

// past finds a cut below a name whose links cannot be had, if that is none: servers that fail on DS of empty names are no
// obstacle where the zone above has signed what lies further down. As deep as speculation goes is deep enough.
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
	got, failure := w.account.Fetch(ctx, question(cut, dns.TypeDS), fetch.RoleLink)
	if failure != nil {
		return nil
	}
	signers, apex := dnssec.Hint(cut, got.Message)
	for _, signer := range slices.Concat(signers, []string{apex}) {
		if signer == "" || signer == cut || !dns.IsSubDomain(base.Name, signer) || !dns.IsSubDomain(signer, cut) {
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
		if w.delegation(ctx, above, cut, got).Cut != dnssec.Unproven {
			return w.link(ctx, above, cut)
		}
	}
	return nil
}

// Hint takes from a reply where zone cuts are likely: the signers of signed data, the owner of SOA or NS of unsigned
// (V-6a). Hints choose questions, proofs decide.
func (w *Walk) Hint(reply *dnssec.Message) {
	for _, sets := range [][]*dnssec.RRset{reply.Answer, reply.Authority} {
		for _, set := range sets {
			for _, sig := range set.Sigs {
				w.expect(dns.CanonicalName(sig.SignerName))
			}
			if len(set.Sigs) == 0 && (set.Type == dns.TypeSOA || set.Type == dns.TypeNS) {
				w.expect(set.Owner)
			}
		}
	}
}

// expect notes that name is likely to be a zone cut.
func (w *Walk) expect(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.likely[name] = true
}

// likelyCut returns the deepest name below at, down to name, where a cut is likely; "" if there is none.
func (w *Walk) likelyCut(at, name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ; name != at; name = dnssec.Parent(name) {
		if w.likely[name] {
			return name
		}
	}
	return ""
}

// place returns what is known of name and still holds; nil if nothing is.
func (w *Walk) place(name string) Place {
	if p := w.learnedOf(name); p != nil {
		return p
	}
	return w.chain.Store.place(name, w.chain.Now())
}

// learnedOf returns what was learned of name in this walk and not from the store; nil if nothing was.
func (w *Walk) learnedOf(name string) Place {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.learned[name]
}

// note keeps what was proven of name for this walk, however short it lives.
func (w *Walk) note(name string, p Place) {
	if _, failed := p.(Failed); failed || p == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.learned[name] = p
	cut, ok := p.(Cut)
	w.insecure = w.insecure || ok && cut.Zone.Status == dnssec.Insecure
}

// Zones returns every zone on the way to those found, parents before children.
func (w *Walk) Zones() []*dnssec.Zone {
	w.mu.Lock()
	found := maps.Clone(w.found)
	w.mu.Unlock()
	zones := map[string]*dnssec.Zone{}
	for _, z := range found {
		w.collect(zones, found, z.Name)
	}
	return slices.SortedFunc(maps.Values(zones), func(a, b *dnssec.Zone) int { return dnssec.Compare(a.Name, b.Name) })
}

// collect adds the zones from name up to its anchor.
func (w *Walk) collect(zones, found map[string]*dnssec.Zone, name string) {
	anchor, anchored := w.chain.anchor(name, w.negative)
	if z := w.negative.at(anchor, w.chain.Now()); z != nil {
		zones[anchor] = z
		return
	}
	least := dnssec.Indeterminate
	for at := range dnssec.Ancestors(name) {
		z := found[at]
		if cut, ok := w.place(at).(Cut); ok && (z == nil || z.Name != at) {
			z = cut.Zone
		}
		// A Secure zone is not below an Insecure name: its DS needed no proof about that (V-62).
		if anchored && z != nil && z.Name == at && z.Status >= least {
			zones[at], least = z, z.Status
		}
		if at == anchor {
			return
		}
	}
}

// Unsigned returns the deepest zone found that is Insecure; "" if none is.
func (w *Walk) Unsigned() (zone string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, z := range w.found {
		if z.Status == dnssec.Insecure && len(z.Name) > len(zone) {
			zone = z.Name
		}
	}
	return zone
}
