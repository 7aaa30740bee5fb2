package chain

import (
	"context"
	"slices"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// links are DS and DNSKEY of one name, as one walk fetches and judges them.
type links struct {
	walk  *Walk
	name  string
	above *dnssec.Zone // by which DS is judged; nil at an anchor, which needs none
	try   int          // the number of the try (V-14)
	wrong []string     // the upstreams whose replies did not validate
	short bool         // there was no retry left for a try

	ds, keys fetched // what came in this try
}

// fetched is what came of one question; nothing if it was not asked.
type fetched struct {
	got    *fetch.Grouped
	failed *dnssec.Failure
}

// build fetches and judges the links, and again elsewhere if they do not validate (V-14) or what they prove is not
// enough. It returns, and keeps, the last proof there was.
func (l *links) build(ctx context.Context, enough func(Place) bool) Place {
	var best Place = broken(l.name, &missingLink)
	for l.fetch(ctx) {
		before := len(l.wrong)
		p := l.judge(ctx)
		l.avoidNow(l.wrong[before:])
		unanswered := l.ds.failed != nil || l.keys.failed != nil
		failed, hasFailed := p.(Failed)
		switch worse, isWorse := best.(Failed); {
		case !hasFailed && enough(p):
			l.walk.account.Suspect(l.wrong, l.ds.got, l.keys.got)
			l.keep(p)
			return l.walk.learn(l.name, p)
		case !hasFailed:
			best = p
		case isWorse && (!unanswered || failed.Zone.Cause.Limit() || worse.Zone.Status != dnssec.Bogus):
			best = p // what is wrong with a link says more than that none came
		}
		if hasFailed && failed.Zone.Cause.Limit() {
			return best
		}
		l.try = l.walk.chain.Fetcher.NextTry(l.try, unanswered)
	}
	if failed, ok := best.(Failed); ok && l.short {
		best = broken(l.name, fetch.With(failed.Zone.Cause, fetch.ErrShort))
	}
	return l.walk.learn(l.name, best)
}

// keep hands on the replies that have proven p, unless the zone is Insecure (C-18).
func (l *links) keep(p Place) {
	c := l.walk.chain
	if cut, ok := p.(Cut); c.Keep == nil || ok && cut.Zone.Status != dnssec.Secure {
		return
	}
	life := p.until().Sub(c.Now())
	l.walk.Keep(func() {
		for qtype, f := range map[uint16]fetched{dns.TypeDS: l.ds, dns.TypeDNSKEY: l.keys} {
			if f.got != nil {
				c.Keep(dnssec.Question(l.name, qtype), f.got.Raw, life)
			}
		}
	})
}

// anything is enough for a name of which nothing is known.
func anything(Place) bool { return true }

// avoidNow has further tries ask others than the upstreams that were wrong in this one, or all that replied to it if it
// was none of them.
func (l *links) avoidNow(wrong []string) {
	w := l.walk
	w.asking.Lock()
	defer w.asking.Unlock()
	for _, r := range []fetched{l.ds, l.keys} {
		if r.got != nil && (len(wrong) == 0 || slices.Contains(wrong, r.got.Upstream)) {
			w.sources.set(l.name, append(slices.Clip(w.sources.at(l.name)), r.got.Upstream))
		}
	}
}

// fetch fetches DS, and for a further try DNSKEY beside it, since either may be the stale one. It reports whether there
// was a try left.
func (l *links) fetch(ctx context.Context) bool {
	l.ds, l.keys = fetched{}, fetched{}
	if l.try == 0 {
		if l.above != nil {
			l.ds = l.fetchFirst(ctx, dns.TypeDS)
		}
		return true
	}
	keys, ds := l.fetchAgain(ctx, dns.TypeDNSKEY), (*fetch.Inquiry)(nil)
	if l.above != nil {
		if ds = l.fetchAgain(ctx, dns.TypeDS); ds == nil {
			return false
		}
		l.ds.got, l.ds.failed = ds.Wait(ctx)
	}
	if keys == nil {
		return false
	}
	l.keys.got, l.keys.failed = keys.Wait(ctx)
	return true
}

// fetchFirst makes the first try for one of the links.
func (l *links) fetchFirst(ctx context.Context, qtype uint16) (f fetched) {
	f.got, f.failed = l.walk.account.Fetch(ctx, dnssec.Question(l.name, qtype), fetch.RoleLink)
	return f
}

// fetchAgain begins a further try for one of the links.
func (l *links) fetchAgain(ctx context.Context, qtype uint16) *fetch.Inquiry {
	l.walk.asking.Lock()
	avoid := l.walk.sources.at(l.name)
	l.walk.asking.Unlock()
	i, short := l.walk.account.Again(ctx, dnssec.Question(l.name, qtype), l.try, avoid, true)
	l.short = l.short || short
	return i
}

// judge judges what came. If it does not validate with what is known of the zone above, that is fetched anew, and above
// replaced.
func (l *links) judge(ctx context.Context) Place {
	if l.above == nil {
		return l.judgeAnchor(ctx)
	}
	if l.ds.failed != nil {
		return l.missing(dns.TypeDS, l.ds.failed)
	}
	d := delegation(ctx, l.walk.account, l.above, l.name, l.ds.got)
	if d.Cut == dnssec.Unproven && !d.Cause.Limit() {
		z := (refresh{l.walk, l.try > 0}).zoneOf(ctx, l.above, dnssec.Parent(l.name))
		if z != nil && z.Status == dnssec.Insecure {
			return Within{Zone: z.Name, end: z.Until}
		}
		if z != nil {
			l.above = z
			d = delegation(ctx, l.walk.account, z, l.name, l.ds.got)
		}
	}
	if d.Cut == dnssec.Unproven {
		l.wrong = append(l.wrong, l.ds.got.Upstream)
	}
	if d.Cut != dnssec.NoCut && d.Cut != dnssec.NoCutBelow {
		return l.judgeCut(ctx, d)
	}
	return Within{l.above.Name, d.Cut == dnssec.NoCutBelow, dnssec.Earlier(d.Until, d.Expires)}
}

// judgeAnchor judges what hangs from the trust anchors of a zone.
func (l *links) judgeAnchor(ctx context.Context) Place {
	c := l.walk.chain
	d := c.Policy.Anchor(l.name, l.walk.anchors[l.name])
	if d.Cut == dnssec.InsecureCut { // T-15
		d.Until = c.Now().Add(c.MaxTTL)
	}
	p := l.judgeCut(ctx, d)
	if f, ok := p.(Failed); ok {
		cause := *f.Zone.Cause
		cause.Anchor = true
		return broken(l.name, &cause)
	}
	return p
}

// judgeCut judges what lies below a delegation: of a signed one, its DNSKEY RRset, which the first try asks for only
// now, unless it is there already or on its way.
func (l *links) judgeCut(ctx context.Context, d dnssec.Delegation) Place {
	switch d.Cut {
	case dnssec.Unproven:
		return broken(d.Name, d.Cause)
	case dnssec.InsecureCut:
		return Cut{dnssec.InsecureZone(d)}
	}
	if l.try == 0 {
		l.keys = l.fetchFirst(ctx, dns.TypeDNSKEY)
	}
	if l.keys.failed != nil {
		return l.missing(dns.TypeDNSKEY, l.keys.failed)
	}
	var z *dnssec.Zone
	if f := l.walk.account.Judge(ctx, func(c *dnssec.Check) { z = c.Apex(d, l.keys.got.Message) }); f != nil {
		return broken(d.Name, f)
	}
	if z.Status != dnssec.Secure {
		l.wrong = append(l.wrong, l.keys.got.Upstream)
		return Failed{z}
	}
	return Cut{z}
}

// missing is the place of a name of which a link could not be had (EDE 5); the reason stays within.
func (l *links) missing(qtype uint16, why *dnssec.Failure) Place {
	if why.Limit() {
		return broken(l.name, why)
	}
	f := missingLink
	f.Zone, f.Owner, f.Type, f.Err = l.name, l.name, qtype, why
	return broken(l.name, f.Says("%s: the chain of trust could not be fetched: %s", l.name, why.Text))
}

var missingLink = dnssec.Failure{Kind: dnssec.OfMissingLink, Code: dns.ExtendedErrorCodeDNSSECIndeterminate}
