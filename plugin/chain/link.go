package chain

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// builders are those who find out the places of names, of all client queries: each is judged once (L-13).
type builders struct {
	mu    sync.Mutex
	calls map[string]*builder
}

type builder struct {
	done   chan struct{}
	result Place
	shared bool // false: it hit a limit of its own, and one of those who wait takes over (L-6a)
}

func (b *builders) join(name string) (*builder, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if call := b.calls[name]; call != nil {
		return call, false
	}
	call := &builder{done: make(chan struct{})}
	b.calls[name] = call
	return call, true
}

func (b *builders) finish(name string, call *builder, p Place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.calls, name)
	failed, ok := p.(Failed)
	call.result, call.shared = p, !ok || !failed.Zone.Cause.Limit()
	close(call.done)
}

// link returns the place of name: as it is known, or by its links, which the zone above is given for (nil at an anchor).
func (w *Walk) link(ctx context.Context, above *dnssec.Zone, name string) Place {
	p := w.joined(ctx, name, func() Place {
		if p := w.place(name); p != nil {
			return p // maybe built by another in the meantime
		}
		p := w.build(ctx, above, name, 0, anything)
		// Who is past its time remembers nothing of a link, and a limit is its own (L-6a).
		if failed, ok := p.(Failed); ok && !failed.Zone.Cause.Limit() && ctx.Err() == nil {
			w.chain.Store.fail(name, failed, w.chain.Now())
		}
		return p
	})
	w.note(name, p)
	return p
}

// joined runs build for name, one client query at a time, or waits for the one that does.
func (w *Walk) joined(ctx context.Context, name string, build func() Place) Place {
	for {
		call, leads := w.chain.building.join(name)
		if leads {
			return w.lead(name, call, build)
		}
		w.chain.Joined()
		select {
		case <-call.done:
			if call.shared {
				return call.result
			}
		case <-ctx.Done():
			return broken(name, fetch.Expired(ctx, w.account.Question(), name+" DS and DNSKEY"))
		}
	}
}

func (w *Walk) lead(name string, call *builder, build func() Place) (p Place) {
	defer func() { w.chain.building.finish(name, call, p) }()
	defer w.rescue(name, func(f Failed) { p = f })
	return build()
}

// build fetches and judges the links of name from the n-th try on, and again elsewhere if they do not validate (V-14) or
// what they prove is not enough. It returns, and keeps, the last proof there was.
func (w *Walk) build(ctx context.Context, above *dnssec.Zone, name string, n int, enough func(Place) bool) Place {
	var best Place = broken(name, &dnssec.Failure{Kind: dnssec.OfMissingLink, Code: dns.ExtendedErrorCodeDNSSECIndeterminate})
	for {
		got, spent := w.fetchLinks(ctx, name, above == nil, n)
		if spent {
			return w.learn(name, best)
		}
		p := w.judgeLinks(ctx, &above, name, got, n > 0)
		w.cameFrom(name, got.upstreams())
		unanswered := got.ds.failed != nil || got.keys.failed != nil
		failed, hasFailed := p.(Failed)
		switch worse, isWorse := best.(Failed); {
		case !hasFailed && enough(p):
			return w.learn(name, p)
		case !hasFailed:
			best = p
		case isWorse && (!unanswered || failed.Zone.Cause.Limit() || worse.Zone.Status != dnssec.Bogus):
			best = p // what is wrong with a link says more than that none came
		}
		if hasFailed && failed.Zone.Cause.Limit() {
			return best
		}
		n = w.chain.Fetcher.NextTry(n, unanswered)
	}
}

// anything is enough for a name of which nothing is known.
func anything(Place) bool { return true }

// learn keeps what was proven of name, in this walk and beyond.
func (w *Walk) learn(name string, p Place) Place {
	if _, failed := p.(Failed); !failed {
		w.note(name, p)
		w.chain.Store.learn(name, p, w.chain.Now(), w.chain.MaxTTL)
	}
	return p
}

// sourcesOf returns the upstreams that this walk had the links of name from, so that others are asked.
func (w *Walk) sourcesOf(name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sources[name]
}

func (w *Walk) cameFrom(name string, upstreams []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sources[name] = append(slices.Clip(w.sources[name]), upstreams...)
}

// fetched is what came of one question.
type fetched struct {
	got    *fetch.Grouped
	failed *dnssec.Failure
}

// links are what came for DS and DNSKEY of one name in one try.
type links struct {
	ds, keys fetched
	// more fetches DNSKEY, once DS says that it is needed; nil if that is done.
	more func() fetched
}

func (l *links) upstreams() (names []string) {
	for _, r := range []fetched{l.ds, l.keys} {
		if r.got != nil {
			names = append(names, r.got.Upstream)
		}
	}
	return names
}

// fetchLinks fetches DS, and for a further try DNSKEY beside it, since either may be the stale one. The first try asks for
// DNSKEY only when DS has shown a cut, unless it is there already or on its way. spent says that there are no more tries.
func (w *Walk) fetchLinks(ctx context.Context, name string, anchor bool, n int) (l *links, spent bool) {
	l = &links{}
	ds, keys := question(name, dns.TypeDS), question(name, dns.TypeDNSKEY)
	if n == 0 {
		l.more = func() fetched { return w.fetch(ctx, keys) }
		if !anchor {
			l.ds = w.fetch(ctx, ds)
		}
		return l, false
	}
	avoid := w.sourcesOf(name)
	keysTry := w.account.Again(ctx, keys, n, avoid, true)
	if !anchor {
		dsTry := w.account.Again(ctx, ds, n, avoid, true)
		if dsTry == nil {
			return l, true
		}
		l.ds.got, l.ds.failed = dsTry.Wait(ctx)
	}
	if keysTry == nil {
		return l, true
	}
	l.keys.got, l.keys.failed = keysTry.Wait(ctx)
	return l, false
}

func (w *Walk) fetch(ctx context.Context, q dns.Question) (f fetched) {
	f.got, f.failed = w.account.Fetch(ctx, q, fetch.RoleLink)
	return f
}

// judgeLinks judges what came. If it does not validate with what is known of the zone above, that is fetched anew, as newer has
// it, and above replaced.
func (w *Walk) judgeLinks(ctx context.Context, above **dnssec.Zone, name string, got *links, own bool) Place {
	if *above == nil {
		d := w.chain.Policy.Anchor(name, w.chain.Anchors[name])
		if d.Cut == dnssec.InsecureCut { // T-15
			d.Until = w.chain.Now().Add(w.chain.MaxTTL)
		}
		return w.judgeCut(ctx, d, got)
	}
	if got.ds.failed != nil {
		return unfetched(name, dns.TypeDS, got.ds.failed)
	}
	d := w.delegation(ctx, *above, name, got.ds.got)
	if d.Cut == dnssec.Unproven && !d.Cause.Limit() {
		z := w.newer(ctx, *above, dnssec.Parent(name), own)
		if z != nil && z.Status == dnssec.Insecure {
			return Within{Zone: z.Name, end: z.Until}
		}
		if z != nil {
			*above = z
			d = w.delegation(ctx, z, name, got.ds.got)
		}
	}
	if d.Cut == dnssec.NoCut || d.Cut == dnssec.NoCutBelow {
		p := Within{Zone: (*above).Name, Below: d.Cut == dnssec.NoCutBelow, end: d.Until}
		if !d.Expires.IsZero() && d.Expires.Before(p.end) {
			p.end = d.Expires
		}
		return p
	}
	return w.judgeCut(ctx, d, got)
}

// delegation judges a DS reply; a limit makes it Unproven.
func (w *Walk) delegation(ctx context.Context, above *dnssec.Zone, name string, got *fetch.Grouped) (d dnssec.Delegation) {
	if f := w.account.Judge(ctx, func(c *dnssec.Check) { d = c.Delegation(above, name, got.Message) }); f != nil {
		return dnssec.Delegation{Name: name, Cause: f}
	}
	return d
}

// judgeCut judges what lies below a delegation: of a signed one, its DNSKEY RRset.
func (w *Walk) judgeCut(ctx context.Context, d dnssec.Delegation, got *links) Place {
	switch d.Cut {
	case dnssec.Unproven:
		return broken(d.Name, d.Cause)
	case dnssec.InsecureCut:
		return Cut{dnssec.InsecureZone(d)}
	}
	if got.more != nil {
		got.keys = got.more()
	}
	if got.keys.failed != nil {
		return unfetched(d.Name, dns.TypeDNSKEY, got.keys.failed)
	}
	var z *dnssec.Zone
	if f := w.account.Judge(ctx, func(c *dnssec.Check) { z = c.Apex(d, got.keys.got.Message) }); f != nil {
		return broken(d.Name, f)
	}
	if z.Status != dnssec.Secure {
		return Failed{z}
	}
	return Cut{z}
}

// unfetched is the place of a name of which a link is missing (EDE 5); the reason stays within.
func unfetched(name string, qtype uint16, why *dnssec.Failure) Place {
	if why.Limit() {
		return broken(name, why)
	}
	return broken(name, &dnssec.Failure{
		Kind: dnssec.OfMissingLink, Code: dns.ExtendedErrorCodeDNSSECIndeterminate, Zone: name, Owner: name, Type: qtype, Err: why,
		Text: fmt.Sprintf("%s: the chain of trust could not be fetched: %s", name, why.Text),
	})
}
