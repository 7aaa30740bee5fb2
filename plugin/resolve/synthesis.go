package resolve

import (
	"context"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
)

// zoneHeld returns the deepest zone known on the way to q's name, or to its parent's for DS (V-8); nil unless it is
// Secure. Only its records say anything about the name (C-10): a zone above may have delegated it since, an anchor may
// make it a world of its own, and what is asked elsewhere may differ from what is public.
func (c *Config) zoneHeld(q dns.Question, known func(name string) *dnssec.Zone) *dnssec.Zone {
	name := dnssec.InCharge(q.Name, q.Qtype == dns.TypeDS)
	if z := known(name); z != nil && z.Status == dnssec.Secure && c.public(z.Name, name) {
		return z
	}
	return nil
}

// public reports whether names in a zone are asked where the zone is: no route of its own lies between the two (C-17).
func (c *Config) public(zone, name string) bool {
	return dnssec.IsSubDomain(c.home(name), zone)
}

// home returns the deepest zone at or above name that is asked elsewhere than what is above it; the root if there is
// none.
func (c *Config) home(name string) string {
	for at := range dnssec.Ancestors(name) {
		if c.Apart[at] {
			return at
		}
	}
	return "."
}

// unasked answers q by what is held before anybody is asked.
func (w *work) unasked(ctx context.Context, q dns.Question) (part, bool) {
	if w.why.asks() {
		return part{}, false
	}
	return w.synthesise(ctx, q, w.r.Aggressive)
}

// synthesise answers q by what is held, if that proves an answer.
func (w *work) synthesise(ctx context.Context, q dns.Question, use reuse.Use) (part, bool) {
	zone := w.r.zoneHeld(q, w.walk.Known)
	if zone == nil {
		return part{}, false
	}
	search := reuse.Search{
		Zone: zone.Name, Now: w.r.now(), Use: use,
		Denied: func(name string) []dns.RR { return w.r.Store.denied(name, w.r.now()) },
		Judge:  func(judge func(*dnssec.Check)) *dnssec.Failure { return w.account.Judge(ctx, judge) },
	}
	for c := range w.r.Store.proofs.Candidates(q, search) {
		if p, ok := w.proves(ctx, q, zone.Name, c); ok {
			w.r.Meter.Synthesised(c.Proof)
			return p, true
		}
	}
	return part{}, false
}

// denied returns the authority section of the Secure name error that is remembered for a name (C-17); nil if none is.
func (s *Store) denied(name string, now time.Time) []dns.RR {
	if a, _ := s.answer(dnssec.Question(name, nameError), now); a != nil && a.Status == dnssec.Secure {
		return a.Ns
	}
	return nil
}

// proves has the judge say whether a candidate answers q: Secure by the keys of the zone it was held for, and nothing
// else.
func (w *work) proves(ctx context.Context, q dns.Question, zone string, c reuse.Candidate) (part, bool) {
	message, err := dnssec.Group(c.Reply)
	if err != nil {
		return part{}, false
	}
	var v dnssec.Verdict
	judge := func() bool {
		return w.account.Judge(ctx, func(check *dnssec.Check) { v = check.Answer(q, message, w.walk) }) == nil
	}
	if !judge() {
		return part{}, false
	}
	if len(v.Needs) == 1 && v.Needs[0] == zone {
		if w.walk.Find(ctx, v.Needs); !judge() {
			return part{}, false
		}
	}
	if len(v.Needs) > 0 || v.Status != dnssec.Secure || v.TTL == 0 {
		return part{}, false
	}
	if c.Proof != reuse.ProofCut {
		v.Notes = append(v.Notes, synthesised(q, zone))
	}
	return part{Verdict: v, raw: c.Reply, held: true}, true
}

// synthesised is what the client is told of an answer by aggressive use (RFC 8914 section 4.30).
func synthesised(q dns.Question, zone string) *dnssec.Failure {
	f := dnssec.Failure{Code: dns.ExtendedErrorCodeSynthesized, Zone: zone, Owner: q.Name, Type: q.Qtype}
	return f.Says("%s: proven by records of %s that are in the cache", fetch.Describe(q), zone)
}

// insteadOf answers q, of which a failure is remembered, by what has come since that proves an answer (D-17). Nil if
// there is nothing.
func (r *Resolver) insteadOf(ctx context.Context, q dns.Question) (a *Answer) {
	if r.zoneHeld(q, r.chain.Known) == nil {
		return nil
	}
	defer rescue(q, &a)
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fetch.ErrDeadline)
	defer cancel()
	w := r.newWork(q, forClient)
	defer w.account.Close()
	p, ok := w.synthesise(ctx, q, reuse.All)
	r.Meter.Checks(w.account.Work())
	if !ok || p.Next != "" {
		return nil
	}
	return w.keep(ctx, &outcome{parts: []part{p}})
}
