// Package reuse keeps what validated records prove of names that nobody has asked for yet (RFC 8198, RFC 8020), and
// finds with it replies to new questions. It decides nothing: a reply that it finds is a candidate, which the judge
// believes only if the signatures and proofs in it hold.
package reuse

import (
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Store keeps single RRsets of Secure answers with their signatures: NSEC, NSEC3, the SOA of their zones, and data that
// wildcards gave. It is safe for concurrent use.
type Store struct {
	sets *cache.Ordered[signed]
}

// signed is one RRset with its signatures.
type signed struct {
	zone    string // that signed it
	wire    []byte // a packed message that has it as its answer
	learned time.Time
	life    time.Duration
}

// NewStore returns a Store of at most size octets.
func NewStore(size int64) *Store {
	const octets = 76 // of a signed beside its message
	return &Store{cache.NewOrdered(size, func(s signed) int64 { return octets + int64(len(s.wire)) })}
}

// Size returns octets and RRsets in the Store.
func (s *Store) Size() (octets int64, sets int) { return s.sets.Size() }

// Evicted returns how many RRsets were evicted to make room for others.
func (s *Store) Evicted() uint64 { return s.sets.Evicted() }

// Keep keeps what of a Secure verdict may prove something of other names (C-9, C-10). TTLs have run for age seconds
// already; nothing is kept for longer than most.
func (s *Store) Keep(v dnssec.Verdict, age uint32, now time.Time, most time.Duration) {
	if v.Status != dnssec.Secure {
		return
	}
	for _, set := range v.Authority {
		if zone := soleSigner(set); zone != "" && !expanded(set) {
			s.put(zone, denialKey(zone, set), set, age, now, most)
		}
	}
	for _, set := range v.Answer {
		if zone := soleSigner(set); zone != "" && set.Type != dns.TypeDNAME && set.Type != dns.TypeNSEC {
			s.put(zone, wildcardKey(zone, set), set, age, now, most)
		}
	}
}

// put keeps a set of a zone under a key, unless that is empty. A TTL of 0 is not reused (C-7).
func (s *Store) put(zone, key string, set *dnssec.RRset, age uint32, now time.Time, most time.Duration) {
	life := min(time.Duration(set.TTL-min(set.TTL, age))*time.Second, most)
	if key == "" || life == 0 {
		return
	}
	m := dns.Msg{Compress: true, Answer: slices.Clone(set.RRs)}
	for _, sig := range set.Sigs {
		m.Answer = append(m.Answer, sig)
	}
	if wire, err := m.Pack(); err == nil {
		s.sets.Put(key, signed{key[:len(zone)], wire, now, life})
	}
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
	found, set, ok := s.sets.Floor(key)
	age := now.Sub(set.learned)
	switch {
	case !ok || !strings.HasPrefix(found, prefix) || age < 0:
		return "", nil
	case age >= set.life:
		s.sets.Remove(found)
		return "", nil
	}
	var m dns.Msg
	if dnssec.Unpack(&m, set.wire) != nil {
		return "", nil
	}
	for _, rr := range m.Answer {
		rr.Header().Ttl = uint32((set.life - age) / time.Second) // rounded down: never above the true rest (C-7)
	}
	return found, m.Answer
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
	for _, key := range s.sets.Keys(func(_ string, set signed) bool {
		return dns.IsSubDomain(set.zone, name) || dns.IsSubDomain(name, set.zone)
	}) {
		s.sets.Remove(key)
	}
}
