package reuse

import (
	"iter"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Use says which Secure records answer questions that were not asked before, instead of an upstream (C-9, RFC 8198).
// Whatever it is, what lies below a name that provably does not exist does not exist either (C-17).
type Use uint8

// The uses of records.
const (
	Off  Use = iota // none
	NSEC            // NSEC
	All             // NSEC3 without opt-out too
)

// Proof says what proves a candidate; it labels metrics.
type Proof string

// The proofs of candidates.
const (
	ProofCut      Proof = "cut"      // a name above does not exist (RFC 8020)
	ProofNSEC     Proof = "nsec"     // NSEC of other answers (RFC 8198)
	ProofNSEC3    Proof = "nsec3"    // NSEC3, likewise
	ProofWildcard Proof = "wildcard" // data of a wildcard, and that it answers for the name (RFC 8198 section 5.3)
)

// Candidate is a reply that may answer a question, once the judge has found it Secure.
type Candidate struct {
	Proof Proof
	Reply *dns.Msg
}

// Search says where evidence is looked for, and which.
type Search struct {
	// Zone is the deepest Secure zone known on the way to the name. Records of no other zone say anything of it (C-10).
	Zone string
	Now  time.Time
	Use  Use
	// Denied returns the authority section of a Secure name error that is remembered for a name, nil if there is none.
	Denied func(name string) []dns.RR
	// Judge runs its argument with the check of the client query when it is that one's turn (L-7), or not at all. The
	// check hashes names, and counts them.
	Judge func(func(*dnssec.Check)) *dnssec.Failure
}

// Candidates yields the replies to q that the Store has evidence for, the cheapest first. The replies are the caller's.
func (s *Store) Candidates(q dns.Question, in Search) iter.Seq[Candidate] {
	return func(yield func(Candidate) bool) {
		_ = offer(yield, q, ProofCut, in.cut(q)) &&
			(in.Use < NSEC || offer(yield, q, ProofNSEC, s.byNSEC(q, in))) &&
			(in.Use < All || offer(yield, q, ProofNSEC3, s.byNSEC3(q, in)))
	}
}

// offer yields a reply to q, if there is one, and reports whether more is wanted.
func offer(yield func(Candidate) bool, q dns.Question, proof Proof, reply *dns.Msg) bool {
	if reply == nil {
		return true
	}
	if len(reply.Answer) > 0 {
		proof = ProofWildcard
	}
	reply.Question = []dns.Question{q}
	return yield(Candidate{proof, reply})
}

// cut returns the zone's denial of the nearest name above q's that does not exist (C-17).
func (in Search) cut(q dns.Question) *dns.Msg {
	for at := q.Name; at != in.Zone; {
		if at = dnssec.Parent(at); at == in.Zone {
			break
		}
		if denial := in.Denied(at); hasSOA(denial, in.Zone) {
			return &dns.Msg{Ns: denial}
		}
	}
	return nil
}

// hasSOA reports whether the SOA of a zone is among rrs: they are the zone's denial.
func hasSOA(rrs []dns.RR, zone string) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeSOA && dns.CanonicalName(rr.Header().Name) == zone
	})
}

// denial is a denial by the zone: proofs, and the SOA that limits its lifetime (C-10). Nil without that.
func (s *Store) denial(in Search, proofs ...[]dns.RR) *dns.Msg {
	soa := s.exactly(in.Zone+soaKind, in.Now)
	if soa == nil {
		return nil
	}
	return &dns.Msg{Ns: slices.Concat(soa, slices.Concat(proofs...))}
}

// nodata is a denial by a record of an owner that has the given types, if q's is not among them.
func (s *Store) nodata(q dns.Question, in Search, types []uint16, proofs ...[]dns.RR) *dns.Msg {
	if slices.Contains(types, q.Qtype) || slices.Contains(types, dns.TypeCNAME) {
		return nil
	}
	return s.denial(in, proofs...)
}

// byWildcard answers q by a wildcard: with its data if they are kept, or that it has none of that type. absent proves
// that q's name does not exist, present has the types of the wildcard.
func (s *Store) byWildcard(q dns.Question, in Search, owner string, types []uint16, absent, present []dns.RR) *dns.Msg {
	if slices.Contains(types, q.Qtype) {
		return positive(s.expand(q, in, owner), absent)
	}
	return s.nodata(q, in, types, absent, present)
}

// expand returns the data of a wildcard under q's name (RFC 8198 section 5.3). An alias answers no question but that
// for itself: where it leads has to be found out anyway.
func (s *Store) expand(q dns.Question, in Search, owner string) []dns.RR {
	data := s.exactly(wildcardTypeKey(in.Zone, owner, q.Qtype), in.Now)
	for _, rr := range data {
		rr.Header().Name = q.Name
	}
	return data
}

// positive is a reply of data that a wildcard gives, with the proof that it does; nil if one of them is missing.
func positive(data, proof []dns.RR) *dns.Msg {
	if data == nil || proof == nil {
		return nil
	}
	return &dns.Msg{Answer: data, Ns: proof}
}
