package chain

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
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
		m := w.build(above, name, 0)
		if m.failed() && !m.zone.Cause.Limit() {
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
			return broken(name, expired(w.ctx, w.question, name+" DS and DNSKEY"))
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

// build fetches and judges the links of name, beginning with try first, and again elsewhere if they do not validate
// (V-14).
func (w *query) build(above *dnssec.Zone, name string, first int) mark {
	w.cold.Store(true)
	cause := &dnssec.Failure{}
	var avoid []string
	for n := first; ; {
		got, spent := w.fetchLink(name, above == nil, n, avoid)
		if spent {
			break
		}
		m, failure := w.judgeLink(&above, name, got)
		if failure == nil {
			w.r.Store.failures.drop(linkKey(name))
			if first > 0 {
				m.tried = w.r.now()
			}
			return w.learn(name, m)
		}
		if cause = failure; cause.Limit() {
			return broken(name, cause)
		}
		avoid = append(avoid, got.upstreams()...)
		n = w.nextTry(n, got.dsFailed != nil || got.keysFailed != nil)
	}
	return broken(name, cause)
}

// linkReply is what came for DS and DNSKEY of one name in one try.
type linkReply struct {
	ds, dnskey           *reply
	dsFailed, keysFailed *dnssec.Failure
	more                 func() (*reply, *dnssec.Failure) // fetches DNSKEY, once DS says that it is needed
}

func (l *linkReply) upstreams() (names []string) {
	for _, r := range []*reply{l.ds, l.dnskey} {
		if r != nil {
			names = append(names, r.upstream)
		}
	}
	return names
}

// fetchLink fetches DS, and for a further try DNSKEY beside it, since either may be the stale one. The first try asks for
// DNSKEY only when DS has shown a cut, unless it is there already or on its way.
func (w *query) fetchLink(name string, anchor bool, n int, avoid []string) (*linkReply, bool) {
	l := &linkReply{}
	ds, dnskey := question(name, dns.TypeDS), question(name, dns.TypeDNSKEY)
	if n == 0 {
		l.more = func() (*reply, *dnssec.Failure) { return w.fetch(dnskey, RoleLink) }
		if !anchor {
			l.ds, l.dsFailed = w.fetch(ds, RoleLink)
		}
		return l, false
	}
	keysTry := w.again(dnskey, n, avoid)
	if !anchor {
		dsTry := w.again(ds, n, avoid)
		if dsTry == nil {
			return l, true
		}
		l.ds, l.dsFailed = w.wait(dsTry)
	}
	if keysTry == nil {
		return l, true
	}
	l.dnskey, l.keysFailed = w.wait(keysTry)
	l.more = func() (*reply, *dnssec.Failure) { return l.dnskey, l.keysFailed }
	return l, false
}

// judgeLink judges what came. If the signature on the DS does not validate with cached keys of the zone above, those are
// fetched anew, and above replaced.
func (w *query) judgeLink(above **dnssec.Zone, name string, got *linkReply) (mark, *dnssec.Failure) {
	if *above == nil {
		return w.judgeKeys(dnssec.Anchor(name, w.r.Anchors[name]), got)
	}
	if got.dsFailed != nil {
		return mark{}, unfetched(name, dns.TypeDS, got.dsFailed)
	}
	d := w.delegation(*above, name, got.ds)
	if d.Cut == dnssec.Unproven && !d.Cause.Limit() {
		z := w.refresh(*above)
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
		return mark{cut: d.Cut, above: (*above).Name, until: d.Until}, nil
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

// refreshAll fetches anew the links of every zone that was taken from the cache, at most once in 30 s for each, and
// reports whether any of them is another now (V-14).
func (w *query) refreshAll() bool {
	w.mu.Lock()
	used := map[*dnssec.Zone]bool{}
	for _, z := range w.found {
		used[z] = true
	}
	w.mu.Unlock()
	changed := false
	for old := range used {
		if w.refresh(old) != nil {
			w.forget(old)
			changed = true
		}
	}
	return changed
}

// forget makes the judge ask again for the names in a zone that is out of date.
func (w *query) forget(old *dnssec.Zone) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.found, func(_ string, z *dnssec.Zone) bool { return z == old })
}

// refresh returns a newer state of a zone that was taken from the cache: one that another query has learned meanwhile, or
// what its links, fetched past the cache, prove. The cached ones are replaced only by such as validate. It returns nil
// when the zone is new already, was refreshed within 30 s, or nothing better came.
func (w *query) refresh(old *dnssec.Zone) *dnssec.Zone {
	name := old.Name
	anchor, anchored := w.r.anchor(name)
	if m, own := w.noted(name); own || !anchored {
		return m.newer(old)
	}
	var above *dnssec.Zone
	if anchor != name {
		if above = w.zone(parent(name)); above.Status != dnssec.Secure {
			return nil
		}
	}
	m := w.joined(name, func() mark {
		m, ok := w.r.Store.mark(name, w.r.now())
		if !ok || m.zone != old {
			return m
		}
		if !w.r.Store.mayRefresh(name, m, w.r.now()) {
			return mark{}
		}
		return w.build(above, name, 1)
	})
	z := m.newer(old)
	if z != nil {
		w.note(name, m)
	}
	return z
}

// newer returns the proven zone of m if it is another than old.
func (m mark) newer(old *dnssec.Zone) *dnssec.Zone {
	if m.failed() || m.zone == old {
		return nil
	}
	return m.zone
}
