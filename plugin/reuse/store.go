// Package reuse keeps what validated records prove of names that nobody has asked for yet (RFC 8198, RFC 8020), and
// finds with it replies to new questions. It decides nothing: a reply that it finds is a candidate, which the judge
// believes only if the signatures and proofs in it hold.
package reuse

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Store knows single RRsets of the Secure answers that a cache holds, with their signatures: NSEC, NSEC3, the SOA of
// their zones, and data that wildcards gave. It keeps in which answer each is, and no copy. It is safe for concurrent
// use.
type Store struct {
	places  *cache.Ordered // in which answers they are
	answers *cache.Cache
}

// NewStore returns a Store of at most size octets, of what is in the answers of a cache.
func NewStore(size int64, answers *cache.Cache) *Store {
	return &Store{cache.NewOrdered(size), answers}
}

// place is that of one RRset.
type place struct {
	answer  cache.Key
	learned time.Time // to the second
	life    time.Duration
}

// pack lays out a place: times as varints, type, name.
func (p place) pack() []byte {
	b := make([]byte, 0, 2*binary.MaxVarintLen64+2+len(p.answer.Name))
	b = binary.AppendVarint(binary.AppendVarint(b, p.learned.Unix()), int64(p.life/time.Second))
	return append(binary.BigEndian.AppendUint16(b, p.answer.Type), p.answer.Name...)
}

// unpackPlace undoes pack.
func unpackPlace(b []byte) place {
	learned, n := binary.Varint(b)
	life, m := binary.Varint(b[n:])
	b = b[n+m:]
	return place{
		answer:  cache.Key{Name: string(b[2:]), Type: binary.BigEndian.Uint16(b)},
		learned: time.Unix(learned, 0), life: time.Duration(life) * time.Second,
	}
}

// Size returns octets and RRsets in the Store.
func (s *Store) Size() (octets int64, sets int) { return s.places.Size() }

// Evicted returns how many RRsets were evicted to make room for others.
func (s *Store) Evicted() uint64 { return s.places.Evicted() }

// Keep notes what of a Secure verdict, which is in an answer of the cache, may prove something of other names (C-9,
// C-10). TTLs have run for age seconds already; nothing is kept for longer than most, or than the answer.
func (s *Store) Keep(v dnssec.Verdict, answer cache.Key, age uint32, now time.Time, most time.Duration) {
	if v.Status != dnssec.Secure {
		return
	}
	keep := func(key string, set *dnssec.RRset) {
		life := min(time.Duration(set.TTL-min(set.TTL, age))*time.Second, most)
		if key != "" && life >= time.Second { // a TTL of 0 is not reused (C-7)
			s.places.Put(key, place{answer, now, life}.pack())
		}
	}
	for _, set := range v.Authority {
		keep(keyOfProof(set), set)
	}
	for _, set := range v.Answer {
		keep(keyOfData(set), set)
	}
}

// keyOfProof is where a set of an authority section is kept; "" if it is not.
func keyOfProof(set *dnssec.RRset) string {
	if zone := soleSigner(set); zone != "" && !expanded(set) {
		return denialKey(zone, set)
	}
	return ""
}

// keyOfData is where a set of an answer section is kept; "" if it is not.
func keyOfData(set *dnssec.RRset) string {
	if zone := soleSigner(set); zone != "" && set.Type != dns.TypeDNAME && set.Type != dns.TypeNSEC {
		return wildcardKey(zone, set)
	}
	return ""
}

// soleSigner returns the zone that signed a set; "" if there is none, or several, as then nobody knows which one
// vouches.
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

// expanded reports whether a set was made from a wildcard (V-50e): it says nothing of its owner's neighbours.
func expanded(set *dnssec.RRset) bool {
	return slices.ContainsFunc(set.Sigs, func(s *dns.RRSIG) bool { return int(s.Labels) != dnssec.Labels(set.Owner) })
}

// floor returns the RRset with the greatest key that is not greater than key and begins with prefix, its TTLs counted
// down; none if its time is over, or if it was learned later than now (C-18).
func (s *Store) floor(prefix, key string, now time.Time) (found string, rrs []dns.RR) {
	found, packed, ok := s.places.Floor(key)
	if !ok || !strings.HasPrefix(found, prefix) {
		return "", nil
	}
	p := unpackPlace(packed)
	age := now.Sub(p.learned)
	if age < 0 {
		return "", nil
	}
	if age < p.life {
		rrs = s.held(found, p.answer, now)
	}
	if rrs == nil {
		s.places.Remove(found)
		return "", nil
	}
	for _, rr := range rrs {
		rr.Header().Ttl = uint32((p.life - age) / time.Second) // rounded down: never above the true rest (C-7)
	}
	return found, rrs
}

// held returns the RRset with this key from a cached answer, with its signatures; nil if it is no longer there.
func (s *Store) held(key string, answer cache.Key, now time.Time) []dns.RR {
	var e cache.Entry
	var m dns.Msg
	if !s.answers.Get(answer, now, &e) || dnssec.Unpack(&m, e.Wire) != nil {
		return nil
	}
	message, err := dnssec.Group(&m)
	if err != nil {
		return nil
	}
	for _, set := range message.Authority {
		if keyOfProof(set) == key {
			return records(set)
		}
	}
	for _, set := range message.Answer {
		if keyOfData(set) == key {
			return records(set)
		}
	}
	return nil
}

// records are those of a set, and its signatures.
func records(set *dnssec.RRset) []dns.RR {
	all := slices.Clone(set.RRs)
	for _, sig := range set.Sigs {
		all = append(all, sig)
	}
	return all
}

// exactly returns the RRset with this key.
func (s *Store) exactly(key string, now time.Time) []dns.RR {
	found, rrs := s.floor(key, key, now)
	if found != key {
		return nil
	}
	return rrs
}

// Flush forgets the RRsets of the zones at and below name, and of those above, any of which may deny it (C-12).
func (s *Store) Flush(name string) {
	for _, key := range s.places.Keys(func(key string) bool {
		zone, _, _ := strings.Cut(key, endOfZone)
		return dns.IsSubDomain(zone, name) || dns.IsSubDomain(name, zone)
	}) {
		s.places.Remove(key)
	}
}
