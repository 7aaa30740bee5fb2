package chain

import (
	"context"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// aheadInFlight bounds what is being resolved for nobody at once: it must not become an amplifier either.
const aheadInFlight = 64

// Ahead answers q in the background, before a client asks. If near, no cut is expected between q's name and the deepest zone known on
// the way to it, and no links are asked for on speculation. then, if not nil, gets the answer, which may be a cached one.
//
// Nothing happens when q is being resolved already, failed a moment ago, or there is too much to do: whoever asks for q later waits for
// the same flight or begins one.
func (r *Resolver) Ahead(q dns.Question, near bool, then func(*Answer)) {
	if !r.Prefetch {
		return
	}
	q.Name = dns.CanonicalName(q.Name)
	now := r.now()
	why := purpose{role: fetch.RoleAhead, near: near, then: then}
	if a, _ := r.Store.answer(q, now); a != nil {
		why.done(a)
		return
	}
	if _, failed := r.Store.failures.alive(failureKey(q), now); !failed {
		r.ahead(q, why)
	}
}

// InsecureAbove reports whether a proven insecure delegation at or above name is known: no TLSA there is of use.
func (r *Resolver) InsecureAbove(name string) bool {
	z := r.zoneKnown(dns.CanonicalName(name), ".")
	return z != nil && z.Status == dnssec.Insecure
}

// ZoneAbove returns the deepest zone known on the way to name; "" if there is none.
func (r *Resolver) ZoneAbove(name string) string {
	if z := r.zoneKnown(dns.CanonicalName(name), "."); z != nil {
		return z.Name
	}
	return ""
}

// zoneKnown returns the zone in which name lies by what is known of the deepest name on the way up to top; nil if nothing is.
func (r *Resolver) zoneKnown(name, top string) *dnssec.Zone {
	now := r.now()
	for at := name; ; at = dnssec.Parent(at) {
		m, known := r.Store.mark(at, now)
		if known && m.zone == nil {
			m, known = r.Store.mark(m.above, now)
		}
		switch {
		case known:
			return m.zone
		case at == top:
			return nil
		}
	}
}

// purpose is what a flight is for.
type purpose struct {
	role fetch.Role    // of its first question
	near bool          // nothing is asked on speculation
	past bool          // upstreams are asked, whatever is held
	then func(*Answer) // gets the answer, if not nil
}

// done hands out the answer, nil if there was no flight.
func (p purpose) done(a *Answer) {
	if p.then != nil {
		p.then(a)
	}
}

// renews reports whether the flight is to replace what is cached: its failure is nobody's, what is there lasts to its end (C-14).
func (p purpose) renews() bool { return p.role == fetch.RoleRenew }

// asks reports whether upstreams are asked, whatever is held: what is made of that would end no later.
func (p purpose) asks() bool { return p.past || p.renews() }

// ahead begins a flight that no client waits for, if there is room.
func (r *Resolver) ahead(q dns.Question, why purpose) {
	if r.aheads.Add(1) > aheadInFlight {
		r.aheads.Add(-1)
		return
	}
	f := r.flights.ahead(failureKey(q))
	if f == nil {
		r.aheads.Add(-1)
		return
	}
	asked := why
	why.then = func(a *Answer) {
		r.aheads.Add(-1)
		asked.done(a)
	}
	r.launch(f, q, why)
}

// renew resolves q anew in the background, since what is cached ends soon (C-14).
func (r *Resolver) renew(q dns.Question) {
	if r.Prefetch && r.Store.claim(q, r.now()) {
		r.ahead(q, purpose{role: fetch.RoleRenew})
	}
}

// endsSoon reports whether an entry with a first TTL of at least 10 s has a tenth of it left, or signatures that end before half of it is
// over (C-14).
func endsSoon(now, stored time.Time, life time.Duration, expires time.Time) bool {
	const least = 10 * time.Second
	return life >= least && (stored.Add(life).Sub(now) <= life/10 || !expires.IsZero() && expires.Sub(now) < life/2)
}

// claim reports whether the caller is to renew the answer to q.
func (s *Store) claim(q dns.Question, now time.Time) bool {
	return s.answers.Claim(cache.Key{Name: q.Name, Type: q.Qtype}, now) || s.answers.Claim(cache.Key{Name: q.Name, Type: nameError}, now)
}

// renewLinks fetches DS and DNSKEY of a cut in use again before they end (C-14).
func (r *Resolver) renewLinks(name string, m mark) {
	if !r.Prefetch || m.claimed || m.zone == nil || !endsSoon(r.now(), m.since, m.until.Sub(m.since), m.zone.Expires) ||
		r.flights.busy() || !r.Store.claimMark(name) {
		return
	}
	r.fetcher.Go(func() {
		ctx, cancel := context.WithTimeoutCause(r.fetcher.Context(), background, fetch.ErrDeadline)
		defer cancel()
		w := r.newQuery(ctx, question(name, dns.TypeDNSKEY))
		if above, ok := w.above(name); ok {
			w.joined(name, func() mark { return w.build(above, name, 0, anything) })
		}
	})
}

// claimMark reports whether the caller is to renew the mark of name.
func (s *Store) claimMark(name string) (may bool) {
	s.marks.Update(name, func(m mark, ok bool) (mark, bool) {
		may = ok && !m.claimed
		m.claimed = true
		return m, ok
	})
	return may
}
