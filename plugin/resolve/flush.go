package resolve

import (
	"context"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Distrust replaces the negative trust anchors. Where there is another now, all that was remembered of the names at and
// below it is forgotten, and so are all answers that rest on one, and failures (C-12).
func (r *Resolver) Distrust(all []chain.NegativeAnchor) {
	zones, elsewhere := r.chain.Distrust(all)
	r.flights.detach()
	for _, zone := range zones {
		r.Store.flush(zone)
	}
	if elsewhere {
		r.Store.flushNTA()
	}
	r.Store.ForgetFailures()
}

// Flush forgets what is remembered of name and of all below it (C-12), and what is being found out.
func (r *Resolver) Flush(name string) Flushed {
	r.chain.Restart()
	r.flights.detach()
	name = dnssec.Canonical(name)
	if r.Beyond != nil {
		r.Beyond.Forget(name, r.now())
	}
	return r.Store.flush(name)
}

// Retest answers q past the cache of answers, as if there were no negative trust anchors.
func (r *Resolver) Retest(ctx context.Context, q dns.Question) (a *Answer) {
	q.Name = dnssec.Canonical(q.Name)
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fetch.ErrDeadline)
	defer cancel()
	defer rescue(q, &a)
	w := r.newWork(q, purpose{role: fetch.RoleAnswer, past: true})
	defer w.account.Close()
	w.walk.TrustAll()
	return w.complete(ctx).answer(r.judgedAt(), r.MaxTTL)
}

// Flushed counts what was forgotten.
type Flushed struct {
	Answers  int // validated, denials among them
	Zones    int // names known to be zone cuts, or to be none
	Failures int // of questions and of links
}

// flush forgets all about name and the names below it, and what would deny them.
func (s *Store) flush(name string) (n Flushed) {
	s.proofs.Flush(name)
	for at := name; at != "."; {
		at = dnssec.Parent(at)
		s.answers.Remove(cache.Key{Name: at, Type: nameError}) // C-17
	}
	under := func(key string) bool { return dnssec.IsSubDomain(name, key) }
	for _, k := range s.answers.Keys(func(k cache.Key, _ *cache.Entry) bool { return under(k.Name) }) {
		s.answers.Remove(k)
		n.Answers++
	}
	if s.links != nil {
		for _, k := range s.links.Keys(func(k cache.Key, _ *cache.Entry) bool { return under(k.Name) }) {
			s.links.Remove(k)
		}
	}
	n.Zones, n.Failures = s.places.Flush(name)
	for _, f := range s.failures.below(name) {
		s.failures.drop(f.question)
		n.Failures++
	}
	return n
}

// flushNTA forgets the answers that rest on a negative trust anchor.
func (s *Store) flushNTA() {
	for _, k := range s.answers.Keys(func(_ cache.Key, e *cache.Entry) bool { return e.Flags&underNTA != 0 }) {
		s.answers.Remove(k)
	}
}
