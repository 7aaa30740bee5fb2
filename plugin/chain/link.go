package chain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// refreshEvery bounds how often a zone's links are fetched past the cache because something below did not validate (V-14).
const refreshEvery = 30 * time.Second

// links are the zones being built, of all client queries: each is judged once (L-13).
type links struct {
	mu    sync.Mutex
	calls map[string]*linkCall
}

type linkCall struct {
	done   chan struct{}
	result mark
	shared bool // false: its builder hit a limit of its own, one of those who wait takes over (L-6a)
}

// link builds the mark of name, the zone above being given (nil at an anchor), or waits for the client query that is
// doing so. A mark that could not be proven holds a zone that is Bogus or Indeterminate and is not kept.
func (w *query) link(above *dnssec.Zone, name string) mark {
	m := w.joined(name, func() mark {
		if m, ok := w.mark(name); ok {
			return m // built by another in the meantime
		}
		if f, ok := w.r.Store.failures.alive(linkKey(name), w.r.now()); ok {
			return broken(name, f.cause)
		}
		m := w.build(above, name, 0, anything)
		if m.failed() && !m.zone.Cause.Limit() && w.ctx.Err() == nil { // who is past his time remembers nothing of a link (L-6a)
			w.r.Store.failures.add(linkKey(name), failure{status: m.zone.Status, cause: m.zone.Cause, link: true}, w.r.now())
		}
		return m
	})
	if !m.failed() {
		w.note(name, m)
	}
	return m
}

// joined runs build for name, one client query at a time.
func (w *query) joined(name string, build func() mark) mark {
	for {
		call, leads := w.r.building.join(name)
		if leads {
			m := w.guarded(name, build)
			w.r.building.finish(name, call, m)
			return m
		}
		w.r.Meter.Joined()
		select {
		case <-call.done:
			if call.shared {
				return call.result
			}
		case <-w.ctx.Done():
			return broken(name, fetch.Expired(w.ctx, w.question, name+" DS and DNSKEY"))
		}
	}
}

// guarded runs build; a panic there costs this query alone and leaves nobody waiting (S-27).
func (w *query) guarded(name string, build func() mark) (m mark) {
	defer func() {
		if p := recover(); p != nil {
			m = broken(name, internalError(w.question, p))
		}
	}()
	return build()
}

func (l *links) join(name string) (*linkCall, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if call := l.calls[name]; call != nil {
		return call, false
	}
	call := &linkCall{done: make(chan struct{})}
	l.calls[name] = call
	return call, true
}

func (l *links) finish(name string, call *linkCall, m mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, name)
	call.result, call.shared = m, !m.failed() || !m.zone.Cause.Limit()
	close(call.done)
}

// broken is the mark of a name whose links could not be had or proven.
func broken(name string, cause *dnssec.Failure) mark {
	return mark{cut: dnssec.SignedCut, zone: dnssec.BogusZone(name, cause)}
}

// failed reports whether nothing was proven.
func (m mark) failed() bool { return m.zone != nil && m.zone.Status <= dnssec.Bogus }

// build fetches and judges the links of name from the n-th try on, and again elsewhere if they do not validate (V-14) or
// what they prove is not enough. It returns, and keeps, the last proof there was.
func (w *query) build(above *dnssec.Zone, name string, n int, enough func(mark) bool) mark {
	best := broken(name, &dnssec.Failure{Code: dns.ExtendedErrorCodeDNSSECIndeterminate})
	for {
		got, spent := w.fetchLink(name, above == nil, n)
		if spent {
			return w.learn(name, best)
		}
		m, failure := w.judgeLink(&above, name, got, n > 0)
		w.cameFrom(name, got.upstreams())
		unanswered := got.dsFailed != nil || got.keysFailed != nil
		switch {
		case failure == nil && enough(m):
			return w.learn(name, m)
		case failure == nil:
			best = m
		case best.failed() && (!unanswered || failure.Limit() || best.zone.Status != dnssec.Bogus):
			best = broken(name, failure) // what is wrong with a link says more than that none came
		}
		if failure.Limit() {
			return best
		}
		n = w.r.fetcher.NextTry(n, unanswered)
	}
}

// anything is enough for a name of which nothing is known.
func anything(mark) bool { return true }

// sourcesOf returns the upstreams that this query had the links of name from, so that others are asked.
func (w *query) sourcesOf(name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sources[name]
}

func (w *query) cameFrom(name string, upstreams []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sources[name] = append(slices.Clip(w.sources[name]), upstreams...)
}

// linkReply is what came for DS and DNSKEY of one name in one try.
type linkReply struct {
	ds, dnskey           *fetch.Grouped
	dsFailed, keysFailed *dnssec.Failure
	more                 func() (*fetch.Grouped, *dnssec.Failure) // fetches DNSKEY, once DS says that it is needed
}

func (l *linkReply) upstreams() (names []string) {
	for _, r := range []*fetch.Grouped{l.ds, l.dnskey} {
		if r != nil {
			names = append(names, r.Upstream)
		}
	}
	return names
}

// fetchLink fetches DS, and for a further try DNSKEY beside it, since either may be the stale one. The first try asks for
// DNSKEY only when DS has shown a cut, unless it is there already or on its way.
func (w *query) fetchLink(name string, anchor bool, n int) (*linkReply, bool) {
	l, avoid := &linkReply{}, w.sourcesOf(name)
	ds, dnskey := question(name, dns.TypeDS), question(name, dns.TypeDNSKEY)
	if n == 0 {
		l.more = func() (*fetch.Grouped, *dnssec.Failure) { return w.fetch(dnskey, fetch.RoleLink) }
		if !anchor {
			l.ds, l.dsFailed = w.fetch(ds, fetch.RoleLink)
		}
		return l, false
	}
	keysTry := w.account.Again(w.ctx, dnskey, n, avoid, true)
	if !anchor {
		dsTry := w.account.Again(w.ctx, ds, n, avoid, true)
		if dsTry == nil {
			return l, true
		}
		l.ds, l.dsFailed = dsTry.Wait(w.ctx)
	}
	if keysTry == nil {
		return l, true
	}
	l.dnskey, l.keysFailed = keysTry.Wait(w.ctx)
	l.more = func() (*fetch.Grouped, *dnssec.Failure) { return l.dnskey, l.keysFailed }
	return l, false
}

// judgeLink judges what came. If it does not validate with what is known of the zone above, that is fetched anew, as newer has
// it, and above replaced.
func (w *query) judgeLink(above **dnssec.Zone, name string, got *linkReply, own bool) (mark, *dnssec.Failure) {
	if *above == nil {
		return w.judgeAnchor(name, got)
	}
	if got.dsFailed != nil {
		return mark{}, unfetched(name, dns.TypeDS, got.dsFailed)
	}
	d := w.delegation(*above, name, got.ds)
	if d.Cut == dnssec.Unproven && !d.Cause.Limit() {
		z := w.newer(*above, dnssec.Parent(name), own)
		if z != nil && z.Status == dnssec.Insecure {
			return mark{cut: dnssec.InsecureCut, zone: z, until: z.Until}, nil
		}
		if z != nil {
			*above = z
			d = w.delegation(z, name, got.ds)
		}
	}
	switch d.Cut {
	case dnssec.Unproven:
		return mark{}, d.Cause
	case dnssec.SignedCut:
		return w.judgeKeys(d, got)
	case dnssec.InsecureCut:
		return mark{cut: d.Cut, zone: dnssec.InsecureZone(d), until: d.Until}, nil
	default:
		return mark{cut: d.Cut, above: (*above).Name, until: earlier(d.Until, d.Expires)}, nil
	}
}

// judgeAnchor judges what hangs from the trust anchors of a zone.
func (w *query) judgeAnchor(name string, got *linkReply) (mark, *dnssec.Failure) {
	switch d := w.r.Policy.Anchor(name, w.r.Anchors[name]); d.Cut {
	case dnssec.SignedCut:
		return w.judgeKeys(d, got)
	case dnssec.InsecureCut: // T-15
		return mark{cut: d.Cut, zone: dnssec.InsecureZone(d), until: w.r.now().Add(w.r.MaxTTL)}, nil
	default:
		return mark{}, d.Cause
	}
}

// judgeKeys judges the DNSKEY RRset below a signed delegation.
func (w *query) judgeKeys(d dnssec.Delegation, got *linkReply) (mark, *dnssec.Failure) {
	if got.dnskey, got.keysFailed = got.more(); got.keysFailed != nil {
		return mark{}, unfetched(d.Name, dns.TypeDNSKEY, got.keysFailed)
	}
	var z *dnssec.Zone
	if failure := w.judge(func(c *dnssec.Check) { z = c.Apex(d, got.dnskey.Message) }); failure != nil {
		return mark{}, failure
	}
	if z.Status != dnssec.Secure {
		return mark{}, z.Cause
	}
	return mark{cut: dnssec.SignedCut, zone: z, until: z.Until}, nil
}

// unfetched is the failure of a chain that lacks a link (EDE 5); the reason stays within.
func unfetched(name string, qtype uint16, why *dnssec.Failure) *dnssec.Failure {
	if why.Limit() {
		return why
	}
	return &dnssec.Failure{
		Code: dns.ExtendedErrorCodeDNSSECIndeterminate, Zone: name, Owner: name, Type: qtype, Err: why,
		Text: fmt.Sprintf("%s: the chain of trust could not be fetched: %s", name, why.Text),
	}
}

// refreshAll fetches anew what led to owner, whose records do not validate: what was taken from the cache, and with own what this
// query fetched itself. It reports whether any of it is another now (V-14).
func (w *query) refreshAll(owner string, own bool) bool {
	changed := false
	for _, name := range w.wayTo(owner) {
		w.mu.Lock()
		z := w.found[name]
		w.mu.Unlock()
		if z != nil && w.newer(z, name, own) != nil {
			w.forget(z)
			changed = true
		}
	}
	return changed
}

// wayTo returns the names at and above owner for which a Secure zone was found, the deepest first: there the fault is likely, and
// tries are few.
func (w *query) wayTo(owner string) (names []string) {
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
func (w *query) forget(old *dnssec.Zone) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.found, func(_ string, z *dnssec.Zone) bool { return z == old })
}

// newer returns the zone of name if it is another than the one that was taken for it: the keys are others, or there is a cut
// where there was none. Nil if nothing is newer. What was cached is fetched anew for that; what this query has fetched itself, and
// an upstream may hold for long, with own only: once another upstream's word on what does not validate was no better.
func (w *query) newer(old *dnssec.Zone, name string, own bool) *dnssec.Zone {
	zone := cmp.Or(w.refresh(old, own), old)
	if zone.Status == dnssec.Secure {
		w.recut(zone, name, own)
	}
	zone = w.zone(name)
	if zone.Status <= dnssec.Bogus || zone.Name == old.Name && sameKeys(zone, old) {
		return nil
	}
	return zone
}

// refresh returns a newer state of a zone: one that this query or another has learned meanwhile, or what its links, fetched past
// the cache, prove. It returns nil when the zone was refreshed within 30 s, or nothing else came.
func (w *query) refresh(old *dnssec.Zone, own bool) *dnssec.Zone {
	name := old.Name
	m, mine := w.noted(name)
	if !mine || own && m.zone == old {
		above, ok := w.above(name)
		if !ok {
			return nil
		}
		m = w.renew(above, name, mark{cut: dnssec.SignedCut, zone: old})
	}
	if m.zone == nil || m.failed() || sameKeys(m.zone, old) {
		return nil
	}
	return m.zone
}

// above returns the zone by which the links of name are judged, nil at an anchor; ok if there is one, or none is needed.
func (w *query) above(name string) (z *dnssec.Zone, ok bool) {
	anchor, anchored := w.anchor(name)
	if !anchored || anchor == name {
		return nil, anchored
	}
	z = w.zone(dnssec.Parent(name))
	return z, z.Status == dnssec.Secure
}

// recut fetches anew the proofs that there is no cut between a zone and name. When one of them holds no longer, what
// is known of the names below is forgotten.
func (w *query) recut(zone *dnssec.Zone, name string, own bool) {
	changed := false
	for at := zone.Name; at != name; {
		at = dnssec.Toward(at, name)
		old, ok := w.r.Store.mark(at, w.r.now())
		if _, mine := w.noted(at); !ok || mine && !own || old.zone != nil {
			continue
		}
		if changed {
			w.r.Store.marks.Remove(at)
			continue
		}
		m := w.renew(zone, at, old)
		changed = !m.failed() && m.cut != dnssec.Unproven && m.cut != old.cut
	}
}

// renew fetches the links of name past the cache, at most once in 30 s, unless another query has done so meanwhile. The
// cached ones are replaced only by such as validate. An upstream may hold the same old ones, so if nothing has changed
// another is asked. The zero mark says that there is nothing new.
func (w *query) renew(above *dnssec.Zone, name string, old mark) mark {
	m := w.joined(name, func() mark {
		if m, ok := w.r.Store.mark(name, w.r.now()); !ok || !m.same(old) {
			return m
		}
		if !w.r.Store.mayRefresh(name, w.r.now()) {
			return mark{}
		}
		return w.build(above, name, 1, func(m mark) bool { return !m.same(old) })
	})
	if !m.failed() && m.cut != dnssec.Unproven {
		w.note(name, m)
	}
	return m
}

// same reports whether two marks let the same records validate.
func (m mark) same(o mark) bool {
	if m.zone == nil || o.zone == nil {
		return m.zone == o.zone && m.cut == o.cut
	}
	return sameKeys(m.zone, o.zone)
}

func sameKeys(a, b *dnssec.Zone) bool {
	return a.Status == b.Status && slices.EqualFunc(a.Keys, b.Keys, func(a, b *dnssec.Key) bool {
		return a.RR.Flags == b.RR.Flags && a.RR.Algorithm == b.RR.Algorithm && a.RR.PublicKey == b.RR.PublicKey
	})
}
