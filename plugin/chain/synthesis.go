package chain

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Aggressive says which Secure records answer questions that were not asked before, instead of an upstream (C-9, RFC 8198). Whatever it
// is, what lies below a name that provably does not exist does not exist either (C-17), and records held answer instead of a failure
// (D-17).
type Aggressive uint8

// The ways of aggressive use.
const (
	AggressiveOff  Aggressive = iota // none
	AggressiveNSEC                   // NSEC
	AggressiveAll                    // NSEC3 without opt-out too
)

// Proof says by what an answer was made that nobody was asked for; it labels metrics.
type Proof string

// The proofs of answers made here.
const (
	ProofCut      Proof = "cut"      // a name above does not exist (RFC 8020)
	ProofNSEC     Proof = "nsec"     // NSEC held from other answers (RFC 8198)
	ProofNSEC3    Proof = "nsec3"    // NSEC3, likewise
	ProofWildcard Proof = "wildcard" // data of a wildcard, and the proof that it answers for the name (RFC 8198 section 5.3)
)

// zoneHeld returns the deepest zone known on the way to q's name, or to its parent's for DS (V-8); nil unless it is Secure. Only its
// records say anything about the name (C-10): a zone above may have delegated it since, an anchor may make it a world of its own, and
// what is asked elsewhere may differ from what is public.
func (r *Resolver) zoneHeld(q dns.Question, n *negatives) *dnssec.Zone {
	name := q.Name
	if q.Qtype == dns.TypeDS {
		name = dnssec.Parent(name)
	}
	anchor, ok := r.anchor(name, n)
	if !ok || n.at(anchor, r.now()) != nil {
		return nil // nothing there is Secure (T-18)
	}
	z := r.zoneKnown(name, anchor)
	if z == nil || z.Status != dnssec.Secure || !r.public(z.Name, name) {
		return nil
	}
	return z
}

// public reports whether names in a zone are asked where the zone is: no route of its own lies between the two (C-17).
func (r *Resolver) public(zone, name string) bool {
	for ; name != zone; name = dnssec.Parent(name) {
		if r.Apart[name] {
			return false
		}
	}
	return true
}

// candidate is what may answer a question.
type candidate struct {
	proof Proof
	reply *dns.Msg
}

// candidates returns what is held that may answer q, by the records of the zone that use allows.
func (r *Resolver) candidates(q dns.Question, zone string, use Aggressive) (all []candidate) {
	now := r.now()
	add := func(proof Proof, m *dns.Msg) {
		if m != nil && len(m.Answer) > 0 {
			proof = ProofWildcard
		}
		if m != nil {
			m.Question = []dns.Question{q}
			all = append(all, candidate{proof, m})
		}
	}
	add(ProofCut, r.Store.cut(q, zone, now))
	if use >= AggressiveNSEC {
		add(ProofNSEC, r.Store.ranges.byNSEC(zone, q, now))
	}
	if use >= AggressiveAll {
		add(ProofNSEC3, r.Store.ranges.byNSEC3(zone, q, now))
	}
	return all
}

// cut returns the denial held of the nearest name above q's and in the zone that does not exist (C-17).
func (s *Store) cut(q dns.Question, zone string, now time.Time) *dns.Msg {
	for at := q.Name; at != zone; {
		if at = dnssec.Parent(at); at == zone {
			break
		}
		if a, _ := s.answer(question(at, nameError), now); a != nil && a.Status == dnssec.Secure && soaOf(zone, a.Ns) {
			return &dns.Msg{Ns: a.Ns}
		}
	}
	return nil
}

// soaOf reports whether the SOA of a zone is among rrs: the denial is the zone's.
func soaOf(zone string, rrs []dns.RR) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeSOA && dns.CanonicalName(rr.Header().Name) == zone
	})
}

// unasked answers q by what is held before anybody is asked.
func (w *query) unasked(q dns.Question) (part, bool) {
	if w.why.asks() {
		return part{}, false
	}
	return w.synthesise(q, w.r.Aggressive)
}

// synthesise answers q by what is held, if that proves an answer.
func (w *query) synthesise(q dns.Question, use Aggressive) (part, bool) {
	zone := w.r.zoneHeld(q, w.negatives)
	if zone == nil {
		return part{}, false
	}
	for _, c := range w.r.candidates(q, zone.Name, use) {
		if p, ok := w.proves(q, zone.Name, c); ok {
			w.r.Meter.Synthesised(c.proof)
			return p, true
		}
	}
	return part{}, false
}

// proves has the judge say whether a candidate answers q: Secure by the keys of the zone it was held for, and nothing else.
func (w *query) proves(q dns.Question, zone string, c candidate) (part, bool) {
	message, err := dnssec.Group(c.reply)
	if err != nil {
		return part{}, false
	}
	var v dnssec.Verdict
	judge := func() bool {
		return w.judge(func(check *dnssec.Check) { v = check.Answer(q, message, w) }) == nil
	}
	if !judge() {
		return part{}, false
	}
	if len(v.Needs) == 1 && v.Needs[0] == zone {
		if w.find(zone); !judge() {
			return part{}, false
		}
	}
	if len(v.Needs) > 0 || v.Status != dnssec.Secure || v.TTL == 0 {
		return part{}, false
	}
	if c.proof != ProofCut {
		v.Notes = append(v.Notes, synthesised(q, zone))
	}
	return part{Verdict: v, raw: c.reply, held: true}, true
}

// synthesised is what the client is told of an answer by aggressive use (RFC 8914 section 4.30).
func synthesised(q dns.Question, zone string) *dnssec.Failure {
	return &dnssec.Failure{
		Code: dns.ExtendedErrorCodeSynthesized, Zone: zone, Owner: q.Name, Type: q.Qtype,
		Text: fmt.Sprintf("%s: proven by records of %s that are in the cache", fetch.Describe(q), zone),
	}
}

// insteadOf answers q, of which a failure is remembered, by what has come since that proves an answer (D-17). Nil if there is nothing.
func (r *Resolver) insteadOf(ctx context.Context, q dns.Question) (a *Answer) {
	zone := r.zoneHeld(q, r.negatives.Load())
	if zone == nil || len(r.candidates(q, zone.Name, AggressiveAll)) == 0 {
		return nil
	}
	defer rescue(q, &a)
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fetch.ErrDeadline)
	defer cancel()
	w := r.newQuery(ctx, q)
	p, ok := w.synthesise(q, AggressiveAll)
	r.Meter.Checks(w.account.Work())
	if !ok || p.Next != "" {
		return nil
	}
	o := &outcome{question: q, parts: []part{p}}
	a = o.answer(r.judgedAt(), r.MaxTTL)
	r.Store.remember(q, o, a, r.now(), r.MinTTL, r.MaxTTL)
	r.settle(w, q, o, a)
	return a
}
