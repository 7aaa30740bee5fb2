package reuse

import (
	"slices"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// maxEnclosers bounds how many ancestors of a name are hashed to find its closest encloser: mail asks for names a few
// labels deep.
const maxEnclosers = 8

// byNSEC3 is byNSEC with NSEC3. Should a zone have several chains, one is used.
func (s *Store) byNSEC3(q dns.Question, in Search) (reply *dns.Msg) {
	_, rrs := s.floor(in.Zone+nsec3Kind, in.Zone+nsec3Kind+last, in.Now)
	if rrs == nil {
		return nil
	}
	p := parametersOf(rrs[0].(*dns.NSEC3))
	in.Judge(func(c *dnssec.Check) {
		reply = nsec3Chain{s, c, p, in}.reply(q)
	})
	return reply
}

// nsec3Chain is the NSEC3 of one zone and one set of parameters.
type nsec3Chain struct {
	*Store
	check *dnssec.Check // hashes (L-4)
	parameters
	in Search
}

// hashed is a name with its raw hash; "" if the name may not be hashed.
type hashed struct{ name, hash string }

func (ch nsec3Chain) named(name string) hashed {
	hash, _ := ch.check.Hash(name, ch.iterations, ch.salt)
	return hashed{name, hash}
}

func (ch nsec3Chain) prefix() string { return ch.in.Zone + nsec3Kind + ch.key() }

// match returns the record of a name.
func (ch nsec3Chain) match(n hashed) []dns.RR { return ch.exactly(ch.prefix()+n.hash, ch.in.Now) }

// cover returns the record that may cover the hash of a name: the one before it, or the last.
func (ch nsec3Chain) cover(n hashed) []dns.RR {
	found, rrs := ch.floor(ch.prefix(), ch.prefix()+n.hash, ch.in.Now)
	if found == "" {
		_, rrs = ch.floor(ch.prefix(), ch.prefix()+last, ch.in.Now)
	}
	return rrs
}

// reply returns what may answer q.
func (ch nsec3Chain) reply(q dns.Question) *dns.Msg {
	nextCloser := ch.named(q.Name)
	if match := ch.match(nextCloser); match != nil {
		return ch.nodata(q, ch.in, match[0].(*dns.NSEC3).TypeBitMap, match)
	}
	for range maxEnclosers {
		if nextCloser.name == ch.in.Zone || nextCloser.hash == "" {
			break
		}
		encloser := ch.named(dnssec.Parent(nextCloser.name))
		if match := ch.match(encloser); match != nil {
			return ch.below(q, encloser, nextCloser, match)
		}
		if data := ch.expand(q, ch.in, dnssec.Wildcard(encloser.name)); data != nil {
			return positive(data, ch.cover(nextCloser)) // the wildcard's signature says that the encloser exists (V-57)
		}
		nextCloser = encloser
	}
	return nil
}

// below answers q by what is known below its closest encloser, whose record is match.
func (ch nsec3Chain) below(q dns.Question, encloser, nextCloser hashed, match []dns.RR) *dns.Msg {
	cover := ch.cover(nextCloser)
	wildcard := ch.named(dnssec.Wildcard(encloser.name))
	if cover == nil || wildcard.hash == "" {
		return nil
	}
	if present := ch.match(wildcard); present != nil {
		types := present[0].(*dns.NSEC3).TypeBitMap
		return ch.byWildcard(q, ch.in, wildcard.name, types, slices.Concat(match, cover), present)
	}
	if data := ch.expand(q, ch.in, wildcard.name); data != nil {
		return positive(data, cover)
	}
	if none := ch.cover(wildcard); none != nil {
		return ch.denial(ch.in, match, cover, none)
	}
	return nil
}
