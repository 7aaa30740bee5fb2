package reuse

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// The kinds of keys. Each key begins with the zone, which has no NUL in its presentation form; then comes its kind.
const (
	endOfZone    = "\x00"
	soaKind      = endOfZone + "s"
	nsecKind     = endOfZone + "n" // and the owner, in canonical order
	nsec3Kind    = endOfZone + "3" // and the parameters and the hash
	wildcardKind = endOfZone + "w" // and the owner and the type
)

// last sorts behind all that may follow a kind.
const last = "\xff"

// denialKey is where a SOA, NSEC or NSEC3 is kept; "" if it is not worth it.
func denialKey(zone string, set *dnssec.RRset) string {
	switch rr := set.RRs[0].(type) {
	case *dns.SOA:
		if set.Owner == zone {
			return zone + soaKind
		}
	case *dns.NSEC:
		if !madeToMeasure(set.Owner) && !madeToMeasure(dns.CanonicalName(rr.NextDomain)) {
			return zone + nsecKind + orderKey(set.Owner)
		}
	case *dns.NSEC3:
		return nsec3RecordKey(zone, set.Owner, rr)
	}
	return ""
}

// madeToMeasure reports whether a server seems to have made a name for one question, just before or behind the name
// asked for (RFC 4470, RFC 4471, RFC 9824). An NSEC with such a name covers nothing that will be asked (C-10), and no
// host has one (RFC 1123 section 2.1).
func madeToMeasure(name string) bool {
	label := dnssec.FirstLabel(name)
	return strings.ContainsAny(label, "\x00!~") || strings.IndexByte(label, 0xff) >= 0
}

// nsec3RecordKey is where an NSEC3 is kept. One with opt-out denies nothing (C-9). One that covers next to no hash was
// made for one question (RFC 7129 appendix B).
func nsec3RecordKey(zone, owner string, rr *dns.NSEC3) string {
	const narrow = 18 // octets of 20 that no two hashes of a zone have in common by chance
	hash, ok := dnssec.DecodeHash(dnssec.FirstLabel(owner))
	next, okNext := dnssec.DecodeHash(rr.NextDomain)
	if !ok || !okNext || rr.Flags != 0 || hash != next && hash[:narrow] == next[:narrow] {
		return ""
	}
	return zone + nsec3Kind + parametersOf(rr).key() + hash
}

// wildcardKey is where a set that a wildcard gave is kept; "" if none did.
func wildcardKey(zone string, set *dnssec.RRset) string {
	n := int(set.Sigs[0].Labels)
	if slices.ContainsFunc(set.Sigs, func(s *dns.RRSIG) bool { return int(s.Labels) != n }) {
		return ""
	}
	source := dnssec.Wildcard(dnssec.Ancestor(set.Owner, n))
	if set.Owner != source && n >= dns.CountLabel(set.Owner) {
		return ""
	}
	return wildcardTypeKey(zone, source, set.Type)
}

func wildcardTypeKey(zone, owner string, qtype uint16) string {
	return string(binary.BigEndian.AppendUint16([]byte(zone+wildcardKind+orderKey(owner)), qtype))
}

// orderKey turns a canonical name into octets that sort as names do in a zone (V-31): label by label from the right,
// each ended by the octet 0. Within a label 0 and 1 are written as 1 1 and 1 2.
func orderKey(name string) string {
	var key []byte
	for _, at := range slices.Backward(dns.Split(name)) {
		for _, b := range []byte(dnssec.FirstLabel(name[at:])) {
			if b <= 1 {
				key, b = append(key, 1), b+1
			}
			key = append(key, b)
		}
		key = append(key, 0)
	}
	return string(key)
}

// parameters are those with which the NSEC3 of one chain are hashed (V-60).
type parameters struct {
	iterations uint16
	salt       string // raw octets
}

func parametersOf(rr *dns.NSEC3) parameters {
	salt, _ := hex.DecodeString(strings.TrimPrefix(rr.Salt, "-")) // it was read from octets
	return parameters{rr.Iterations, string(salt)}
}

func (p parameters) key() string {
	return string(append(binary.BigEndian.AppendUint16(nil, p.iterations), byte(len(p.salt)))) + p.salt
}
