package reuse

import (
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// byNSEC returns what may answer q by the NSEC of its zone; nil if there is nothing.
func (s *Store) byNSEC(q dns.Question, in Search) *dns.Msg {
	near, proof := s.nsec(in, q.Name)
	if near == nil {
		return nil
	}
	owner, next := dns.CanonicalName(near.Hdr.Name), dns.CanonicalName(near.NextDomain)
	if owner == q.Name {
		return s.nodata(q, in, near.TypeBitMap, proof)
	}
	if next != in.Zone && dnssec.Compare(next, q.Name) <= 0 {
		return nil // the one that covers q's name is not kept
	}
	shared := max(dns.CompareDomainName(q.Name, owner), dns.CompareDomainName(q.Name, next))
	encloser := dnssec.Ancestor(q.Name, shared)
	if encloser == q.Name { // an empty non-terminal (V-48)
		return s.denial(in, proof)
	}
	return s.belowEncloser(q, in, dnssec.Wildcard(encloser), owner, proof)
}

// belowEncloser answers q, whose name the NSEC of owner covers, by what is known of the wildcard at its closest
// encloser.
func (s *Store) belowEncloser(q dns.Question, in Search, wildcard, owner string, proof []dns.RR) *dns.Msg {
	near, more := s.nsec(in, wildcard)
	if near == nil {
		return nil
	}
	switch dns.CanonicalName(near.Hdr.Name) {
	case wildcard:
		return s.byWildcard(q, in, wildcard, near.TypeBitMap, proof, more)
	case owner: // covers both
		return s.denial(in, proof)
	}
	return s.denial(in, proof, more)
}

// nsec returns the NSEC at or before name, with its signatures.
func (s *Store) nsec(in Search, name string) (*dns.NSEC, []dns.RR) {
	_, rrs := s.floor(in.Zone+nsecKind, in.Zone+nsecKind+orderKey(name), in.Now)
	if rrs == nil {
		return nil, nil
	}
	nsec, _ := rrs[0].(*dns.NSEC)
	return nsec, rrs
}
