package resolve

import (
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// aheadInFlight bounds what is being resolved for nobody at once: it must not become an amplifier either.
const aheadInFlight = 64

// Ahead is what is resolved in the background because of one answer, before a client asks. All of it spends one budget,
// that of one client query (L-6).
type Ahead struct {
	r      *Resolver
	budget *fetch.Budget
}

// Ahead returns a new Ahead.
func (r *Resolver) Ahead() *Ahead { return &Ahead{r, r.fetcher.NewBudget()} }

// Resolve answers q in the background. If near, no cut is expected between q's name and the deepest zone known on the
// way to it, and no links are asked for on speculation. then, if not nil, gets the answer, which may be a cached one.
//
// Nothing happens when q is being resolved already, failed a moment ago, or there is too much to do: whoever asks for q
// later waits for the same flight or begins one.
func (a *Ahead) Resolve(q dns.Question, near bool, then func(*Answer)) {
	r := a.r
	if !r.Prefetch {
		return
	}
	q.Name = dnssec.Canonical(q.Name)
	now := r.now()
	why := purpose{role: fetch.RoleAhead, near: near, then: then, budget: a.budget}
	if a, _ := r.Store.answer(q, now); a != nil {
		why.done(a)
		return
	}
	if _, failed := r.Store.failures.alive(q, now); !failed {
		r.ahead(q, why)
	}
}

// ZoneKnown returns the deepest zone known on the way to name, "" if there is none, and whether it is proven to be
// unsigned: no TLSA there is of use.
func (r *Resolver) ZoneKnown(name string) (zone string, insecure bool) {
	if z := r.chain.Known(dnssec.Canonical(name)); z != nil {
		return z.Name, z.Status == dnssec.Insecure
	}
	return "", false
}

// purpose is what a question is resolved for.
type purpose struct {
	role   fetch.Role    // of its first question
	near   bool          // nothing is asked on speculation
	past   bool          // upstreams are asked, whatever is held
	beside bool          // it is asked for what is learned by it, on the account of another
	then   func(*Answer) // gets the answer, if not nil
	budget *fetch.Budget // what it spends; nil for one of its own
}

// forClient is the purpose of what a client asks.
var forClient = purpose{role: fetch.RoleAnswer}

// spends returns the budget that is spent.
func (p purpose) spends(f *fetch.Fetcher) *fetch.Budget {
	if p.budget == nil {
		return f.NewBudget()
	}
	return p.budget
}

// mayFail reports whether it is remembered that the question has failed: a limit belongs to the client query that hit
// it (L-6a).
func (p purpose) mayFail(f *dnssec.Failure) bool {
	return !p.renews() && !(f.Limit() && (p.beside || p.ahead()))
}

// ahead reports whether no client waits for the answer, and its budget is another's.
func (p purpose) ahead() bool { return p.role == fetch.RoleAhead }

// done hands out the answer, nil if there was no flight.
func (p purpose) done(a *Answer) {
	if p.then != nil {
		p.then(a)
	}
}

// renews reports whether the flight is to replace what is cached: its failure is nobody's, what is there lasts to its
// end (C-14).
func (p purpose) renews() bool { return p.role == fetch.RoleRenew }

// asks reports whether upstreams are asked, whatever is held: what is made of that would end no later.
func (p purpose) asks() bool { return p.past || p.renews() }

// ahead begins a flight that no client waits for, if there is room.
func (r *Resolver) ahead(q dns.Question, why purpose) {
	if r.aheads.Add(1) > aheadInFlight {
		r.aheads.Add(-1)
		return
	}
	f := r.flights.ahead(keyOf(q))
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

// claim reports whether the caller is to renew the answer to q.
func (s *Store) claim(q dns.Question, now time.Time) bool {
	return s.answers.Claim(cache.Key{Name: q.Name, Type: q.Qtype}, now) ||
		s.answers.Claim(cache.Key{Name: q.Name, Type: nameError}, now)
}
