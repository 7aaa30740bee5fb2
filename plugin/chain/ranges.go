package chain

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// ranges are what of Secure answers says more than was asked (RFC 8198): NSEC and NSEC3, the SOA of their zones, and what came from
// wildcards. They find what may prove an answer, and decide nothing: the judge does, from the signatures that they keep.
type ranges struct {
	table *cache.Ordered[held]
}

// held is one RRset with its signatures.
type held struct {
	wire   []byte // a packed message that has it as its answer
	stored time.Time
	life   time.Duration
}

func newRanges(size int64) *ranges {
	const octets = 60 // of a held beside its message
	return &ranges{cache.NewOrdered(size, func(h held) int64 { return octets + int64(len(h.wire)) })}
}

// The kinds of keys. Each begins with the zone, which has no NUL in its presentation form.
const (
	soaKey   = "\x00s"
	nsecKey  = "\x00n"
	nsec3Key = "\x003"
	wildKey  = "\x00w"
)

// last sorts behind all that may follow a kind.
const last = "\xff"

// keep keeps what of a Secure part may answer other questions. What was made of such things itself brings nothing new.
func (s *ranges) keep(p part, age uint32, now time.Time, most time.Duration) {
	if p.Status != dnssec.Secure || p.held {
		return
	}
	for _, set := range p.Authority {
		if zone := soleSigner(set); zone != "" && own(set) {
			s.put(denialKey(zone, set), set, age, now, most)
		}
	}
	for _, set := range p.Answer {
		if zone := soleSigner(set); zone != "" && set.Type != dns.TypeDNAME && set.Type != dns.TypeNSEC {
			s.put(wildcardKey(zone, set), set, age, now, most)
		}
	}
}

// put stores a set; a TTL of 0 is not reused (C-7).
func (s *ranges) put(key string, set *dnssec.RRset, age uint32, now time.Time, most time.Duration) {
	life := min(time.Duration(aged(set.TTL, age))*time.Second, most)
	if key == "" || life == 0 {
		return
	}
	m := dns.Msg{Compress: true, Answer: appendSets(nil, []*dnssec.RRset{set}, age, seconds(life))}
	if wire, err := m.Pack(); err == nil {
		s.table.Put(key, held{wire, now, life})
	}
}

// soleSigner returns the zone that signed a set; "" if there is none, or several, of which it is not known who vouches for it.
func soleSigner(set *dnssec.RRset) (zone string) {
	for _, sig := range set.Sigs {
		signer := dns.CanonicalName(sig.SignerName)
		if zone != "" && zone != signer {
			return ""
		}
		zone = signer
	}
	return zone
}

// own reports whether a set stands in its zone as it is, and was not made from a wildcard (V-50e).
func own(set *dnssec.RRset) bool {
	return !slices.ContainsFunc(set.Sigs, func(s *dns.RRSIG) bool { return int(s.Labels) != dnssec.Labels(set.Owner) })
}

// denialKey is where a SOA, NSEC or NSEC3 is kept; "" if it is not worth it.
func denialKey(zone string, set *dnssec.RRset) string {
	switch rr := set.RRs[0].(type) {
	case *dns.SOA:
		if set.Owner == zone {
			return zone + soaKey
		}
	case *dns.NSEC:
		if !madeToMeasure(set.Owner) && !madeToMeasure(dns.CanonicalName(rr.NextDomain)) {
			return zone + nsecKey + orderKey(set.Owner)
		}
	case *dns.NSEC3:
		return nsec3RecordKey(zone, set.Owner, rr)
	}
	return ""
}

// madeToMeasure reports whether a name looks like one that a server makes for one question, just before or behind the name asked for
// (RFC 4470, RFC 4471, RFC 9824): such an NSEC covers nothing that will be asked. No host is called so (RFC 1123 section 2.1).
func madeToMeasure(name string) bool {
	wire, ok := packed(name)
	return ok && wire[0] > 0 && bytes.ContainsAny(wire[1:1+wire[0]], "\x00!~\xff")
}

// nsec3RecordKey is where an NSEC3 is kept. One with opt-out denies nothing (C-9), and one that covers next to no hash is made to measure
// too (RFC 7129 appendix B).
func nsec3RecordKey(zone, owner string, rr *dns.NSEC3) string {
	const narrow = 18 // octets of 20 that no two hashes of a zone have in common by chance
	hash, err := base32.HexEncoding.DecodeString(strings.ToUpper(dnssec.FirstLabel(owner)))
	next, errNext := base32.HexEncoding.DecodeString(strings.ToUpper(rr.NextDomain))
	if err != nil || errNext != nil || rr.Flags != 0 || len(hash) < narrow || len(next) < narrow ||
		!bytes.Equal(hash, next) && bytes.Equal(hash[:narrow], next[:narrow]) {
		return ""
	}
	return zone + nsec3Key + parameters{rr.Iterations, rr.Salt}.key() + string(hash)
}

// wildcardKey is where a set that a wildcard gave is kept; "" if none did.
func wildcardKey(zone string, set *dnssec.RRset) string {
	n := int(set.Sigs[0].Labels)
	if slices.ContainsFunc(set.Sigs, func(s *dns.RRSIG) bool { return int(s.Labels) != n }) {
		return ""
	}
	encloser := dnssec.Ancestor(set.Owner, n)
	if set.Owner != dnssec.Wildcard(encloser) && n >= dns.CountLabel(set.Owner) {
		return ""
	}
	return wildcardTypeKey(zone, dnssec.Wildcard(encloser), set.Type)
}

func wildcardTypeKey(zone, owner string, qtype uint16) string {
	return string(binary.BigEndian.AppendUint16([]byte(zone+wildKey+orderKey(owner)), qtype))
}

// orderKey makes of a canonical name octets that sort as names do in a zone (V-31): label by label from the right, each ended by the
// octet 0, for which another stands where it is one of the label.
func orderKey(name string) string {
	wire, _ := packed(name)
	var starts []int
	for at := 0; at < len(wire) && wire[at] > 0; at += 1 + int(wire[at]) {
		starts = append(starts, at)
	}
	var key []byte
	for _, at := range slices.Backward(starts) {
		for _, b := range wire[at+1 : at+1+int(wire[at])] {
			if b <= 1 {
				key, b = append(key, 1), b+1
			}
			key = append(key, b)
		}
		key = append(key, 0)
	}
	return string(key)
}

// packed returns a name on the wire (RFC 1035 section 3.1).
func packed(name string) ([]byte, bool) {
	var buf [255]byte
	n, err := dns.PackDomainName(name, buf[:], 0, nil, false)
	return buf[:n], err == nil
}

// parameters are those of NSEC3 records that belong together (V-60).
type parameters struct {
	iterations uint16
	salt       string // as NSEC3 has it: hexadecimal, empty or "-" for none
}

func (p parameters) key() string {
	salt := strings.ToLower(strings.TrimPrefix(p.salt, "-"))
	return string(binary.BigEndian.AppendUint16(nil, p.iterations)) + string([]byte{byte(len(salt)), byte(len(salt) >> 8)}) + salt
}

// hash returns the raw hash of a name.
func (p parameters) hash(name string) string {
	hash, _ := base32.HexEncoding.DecodeString(dns.HashName(name, dns.SHA1, p.iterations, strings.TrimPrefix(p.salt, "-")))
	return string(hash)
}

// at returns the records kept under the greatest key not greater than the given one that begins with prefix, TTLs counted down; none if
// they have ended, or are from the future (C-18).
func (s *ranges) at(prefix, key string, now time.Time) (found string, rrs []dns.RR) {
	found, h, ok := s.table.Floor(key)
	age := now.Sub(h.stored)
	switch {
	case !ok || !strings.HasPrefix(found, prefix) || age < 0:
		return "", nil
	case age >= h.life:
		s.table.Remove(found)
		return "", nil
	}
	var m dns.Msg
	if dnssec.Unpack(&m, h.wire) != nil {
		return "", nil
	}
	for _, rr := range m.Answer {
		rr.Header().Ttl = aged(rr.Header().Ttl, seconds(age+time.Second-1)) // rounded up: never above the true rest (C-7)
	}
	return found, m.Answer
}

// exactly returns the records kept under key.
func (s *ranges) exactly(key string, now time.Time) []dns.RR {
	found, rrs := s.at(key, key, now)
	if found != key {
		return nil
	}
	return rrs
}

// denial is a reply made of what is held: to q, by the zone.
func (s *ranges) denial(zone string, now time.Time, proofs ...[]dns.RR) *dns.Msg {
	soa := s.exactly(zone+soaKey, now)
	if soa == nil {
		return nil // what gives it its lifetime (C-10)
	}
	return &dns.Msg{Ns: slices.Concat(soa, slices.Concat(proofs...))}
}

// byNSEC returns what may answer q by the NSEC of a zone; nil if there is nothing.
func (s *ranges) byNSEC(zone string, q dns.Question, now time.Time) *dns.Msg {
	near, rrs := s.nsec(zone, q.Name, now)
	if near == nil {
		return nil
	}
	owner, next := dns.CanonicalName(near.Hdr.Name), dns.CanonicalName(near.NextDomain)
	if owner == q.Name {
		return s.nodata(zone, near.TypeBitMap, q.Qtype, now, rrs)
	}
	if next != zone && orderKey(next) <= orderKey(q.Name) {
		return nil // the one that covers q's name is not held
	}
	encloser := dnssec.Ancestor(q.Name, max(dns.CompareDomainName(q.Name, owner), dns.CompareDomainName(q.Name, next)))
	if encloser == q.Name { // an empty non-terminal
		return s.denial(zone, now, rrs)
	}
	star, more := s.nsec(zone, dnssec.Wildcard(encloser), now)
	switch {
	case star == nil:
		return nil
	case dns.CanonicalName(star.Hdr.Name) == dnssec.Wildcard(encloser):
		return s.byWildcard(zone, dnssec.Wildcard(encloser), q, star.TypeBitMap, now, rrs, more)
	case dns.CanonicalName(star.Hdr.Name) == owner:
		return s.denial(zone, now, rrs)
	}
	return s.denial(zone, now, rrs, more)
}

// nsec returns the NSEC at or before name.
func (s *ranges) nsec(zone, name string, now time.Time) (*dns.NSEC, []dns.RR) {
	_, rrs := s.at(zone+nsecKey, zone+nsecKey+orderKey(name), now)
	if rrs == nil {
		return nil, nil
	}
	nsec, _ := rrs[0].(*dns.NSEC)
	return nsec, rrs
}

// nodata is a denial by the record of an owner with the given types, if they leave out what is asked for.
func (s *ranges) nodata(zone string, types []uint16, qtype uint16, now time.Time, proofs ...[]dns.RR) *dns.Msg {
	if slices.Contains(types, qtype) || slices.Contains(types, dns.TypeCNAME) {
		return nil
	}
	return s.denial(zone, now, proofs...)
}

// byWildcard answers q by a wildcard of the given types: with its data if that is held, or that there is none. The first proof is that of
// q's name.
func (s *ranges) byWildcard(zone, owner string, q dns.Question, types []uint16, now time.Time, proof, star []dns.RR) *dns.Msg {
	if slices.Contains(types, q.Qtype) {
		return answered(s.expanded(zone, owner, q, now), proof)
	}
	return s.nodata(zone, types, q.Qtype, now, proof, star)
}

// expanded returns the data of a wildcard as q's name has it, if that is held (RFC 8198 section 5.3). An alias is not made here: where it
// leads has to be found out anyway.
func (s *ranges) expanded(zone, owner string, q dns.Question, now time.Time) []dns.RR {
	data := s.exactly(wildcardTypeKey(zone, owner, q.Qtype), now)
	for _, rr := range data {
		rr.Header().Name = q.Name
	}
	return data
}

// answered is a reply with data and the proof that a wildcard gives it; nil if one of them is missing.
func answered(data, proof []dns.RR) *dns.Msg {
	if data == nil || proof == nil {
		return nil
	}
	return &dns.Msg{Answer: data, Ns: proof}
}

// flush forgets what is held of the zones at and below name, and of those above, of which any may deny it.
func (s *ranges) flush(name string) {
	for _, key := range s.table.Keys(func(key string) bool {
		zone, _, _ := strings.Cut(key, "\x00")
		return dns.IsSubDomain(zone, name) || dns.IsSubDomain(name, zone)
	}) {
		s.table.Remove(key)
	}
}

// maxEnclosers bounds how many ancestors of a name are hashed to find the closest that exists: mail asks for names a few labels deep.
const maxEnclosers = 8

// byNSEC3 is byNSEC with NSEC3.
func (s *ranges) byNSEC3(zone string, q dns.Question, now time.Time) *dns.Msg {
	h := s.nsec3Chain(zone, now)
	if h == nil {
		return nil
	}
	closer := h.named(q.Name)
	if match := h.match(closer); match != nil {
		return s.nodata(zone, match[0].(*dns.NSEC3).TypeBitMap, q.Qtype, now, match)
	}
	for range maxEnclosers {
		if closer.name == zone {
			break
		}
		encloser := h.named(dnssec.Parent(closer.name))
		if match := h.match(encloser); match != nil {
			return h.below(encloser, closer, q, match)
		}
		if data := s.expanded(zone, dnssec.Wildcard(encloser.name), q, now); data != nil {
			return answered(data, h.cover(closer)) // whose signature tells that the encloser exists (V-57)
		}
		closer = encloser
	}
	return nil
}

// nsec3Chain is the NSEC3 of one zone and one set of parameters.
type nsec3Chain struct {
	*ranges
	parameters
	zone, prefix string
	now          time.Time
}

// nsec3Chain returns the NSEC3 of a zone; should there be several sets of parameters, those of one. Nil if there are none.
func (s *ranges) nsec3Chain(zone string, now time.Time) *nsec3Chain {
	_, rrs := s.at(zone+nsec3Key, zone+nsec3Key+last, now)
	if rrs == nil {
		return nil
	}
	n := rrs[0].(*dns.NSEC3)
	p := parameters{n.Iterations, n.Salt}
	return &nsec3Chain{s, p, zone, zone + nsec3Key + p.key(), now}
}

// hashed is a name with its raw hash.
type hashed struct{ name, hash string }

func (h *nsec3Chain) named(name string) hashed { return hashed{name, h.hash(name)} }

// match returns the record of a name.
func (h *nsec3Chain) match(n hashed) []dns.RR { return h.exactly(h.prefix+n.hash, h.now) }

// cover returns the record that may cover the hash of a name: the one before it, or the last.
func (h *nsec3Chain) cover(n hashed) []dns.RR {
	found, rrs := h.at(h.prefix, h.prefix+n.hash, h.now)
	if found == "" {
		_, rrs = h.at(h.prefix, h.prefix+last, h.now)
	}
	return rrs
}

// below answers q, which lies at or below closer, if that does not exist below its encloser.
func (h *nsec3Chain) below(encloser, closer hashed, q dns.Question, match []dns.RR) *dns.Msg {
	cover := h.cover(closer)
	if cover == nil {
		return nil
	}
	star := h.named(dnssec.Wildcard(encloser.name))
	if types := h.match(star); types != nil {
		bits := types[0].(*dns.NSEC3).TypeBitMap
		return h.byWildcard(h.zone, star.name, q, bits, h.now, slices.Concat(match, cover), types)
	}
	if data := h.expanded(h.zone, star.name, q, h.now); data != nil {
		return answered(data, cover)
	}
	if none := h.cover(star); none != nil {
		return h.denial(h.zone, h.now, match, cover, none)
	}
	return nil
}
