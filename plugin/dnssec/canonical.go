package dnssec

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"

	"github.com/miekg/dns"
)

// compressible says where domain names stand in the RDATA of the types in which a sender may have compressed them: the
// octets before the first, and how many there are (RFC 3597 section 4, V-33). They are those of which the canonical
// form has the names in lower case (V-28, RFC 4034 section 6.2 as corrected by RFC 6840 section 5.1), and later ones
// whose names keep their case: no sender may compress these, but a pointer would lead elsewhere in another message.
// HINFO, which RFC 4034 lists too, holds none. All others are opaque (V-29, RFC 3597 section 7).
var compressible = map[uint16]struct{ skip, count int }{
	dns.TypeNS: {0, 1}, dns.TypeMD: {0, 1}, dns.TypeMF: {0, 1}, dns.TypeCNAME: {0, 1}, dns.TypeSOA: {0, 2},
	dns.TypeMB: {0, 1}, dns.TypeMG: {0, 1}, dns.TypeMR: {0, 1}, dns.TypePTR: {0, 1}, dns.TypeMINFO: {0, 2},
	dns.TypeMX: {2, 1}, dns.TypeRP: {0, 2}, dns.TypeAFSDB: {2, 1}, dns.TypeRT: {2, 1}, dns.TypeSIG: {18, 1},
	dns.TypePX: {2, 2}, dns.TypeNXT: {0, 1}, dns.TypeKX: {2, 1}, dns.TypeSRV: {6, 1}, dns.TypeDNAME: {0, 1},
	dns.TypeRRSIG: {18, 1},
	dns.TypeNSEC:  {0, 1}, dns.TypeSVCB: {2, 1}, dns.TypeHTTPS: {2, 1}, dns.TypeLP: {2, 1}, dns.TypeTALINK: {0, 2},
}

// NamesIn says where the names stand in RDATA that a sender may have compressed: the octets before the first, and how
// many there are.
func NamesIn(t uint16, rdata []byte) (skip, count int) {
	if t == dns.TypeNAPTR { // RFC 3403 section 4.1: three strings before the name
		return skipStrings(rdata, 4, 3), 1
	}
	where := compressible[t]
	return where.skip, where.count
}

const typeA6 = 38 // RFC 2874; the DNS library does not know it

// canonicalRDATA returns the RDATA of rr in canonical form, or nil if it cannot be packed.
func canonicalRDATA(rr dns.RR) []byte {
	if raw, ok := rr.(*dns.RFC3597); ok {
		rdata, err := hex.DecodeString(raw.Rdata)
		if err != nil || len(rdata) > math.MaxUint16 {
			return nil
		}
		lowerNames(raw.Hdr.Rrtype, rdata)
		return rdata
	}
	buf := make([]byte, dns.Len(rr)+16)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil
	}
	owner := skipName(buf)
	rdata := buf[owner+10 : end : end] // type, class, TTL, RDLENGTH
	lowerNames(rr.Header().Rrtype, rdata)
	return rdata
}

func lowerNames(t uint16, rdata []byte) {
	at, count := NamesIn(t, rdata)
	switch t {
	case dns.TypeNSEC, dns.TypeSVCB, dns.TypeHTTPS, dns.TypeLP, dns.TypeTALINK:
		return
	case typeA6:
		at, count = skipSuffix(rdata), 1
	}
	for ; count > 0 && at < len(rdata); count-- {
		at += lowerName(rdata[at:])
	}
}

// skipStrings returns the offset behind n character-strings that begin at the given one.
func skipStrings(rdata []byte, at, n int) int {
	for ; n > 0 && at < len(rdata); n-- {
		at += 1 + int(rdata[at])
	}
	return at
}

// skipSuffix returns the offset of the prefix name of an A6 (RFC 2874 section 3.1).
func skipSuffix(rdata []byte) int {
	if len(rdata) == 0 || rdata[0] == 0 || rdata[0] > 128 {
		return len(rdata)
	}
	return 1 + (128-int(rdata[0])+7)/8
}

// lowerName makes the uncompressed name at the start of wire lower-case and returns its length.
func lowerName(wire []byte) int {
	n := skipName(wire)
	for i, b := range wire[:n] {
		if 'A' <= b && b <= 'Z' { // a length octet is at most 63, below 'A'
			wire[i] = b + 'a' - 'A'
		}
	}
	return n
}

// skipName returns where the name at the start of wire ends, compressed or not.
func skipName(wire []byte) int {
	at := 0
	for at < len(wire) && wire[at] != 0 {
		if wire[at] >= 0xC0 {
			return min(at+2, len(wire))
		}
		at += 1 + int(wire[at])
	}
	return min(at+1, len(wire))
}

// appendPrefix appends the part of the signed data that stands before every record: owner, type, class and Original TTL
// (RFC 4034 section 3.1.8.1). The owner of wildcard-expanded data is the wildcard (V-32).
func appendPrefix(b []byte, set *RRset, sig *dns.RRSIG) []byte {
	b = appendWireName(b, signedOwner(set.Owner, sig))
	b = append(b, byte(set.Type>>8), byte(set.Type), 0, dns.ClassINET)
	return binary.BigEndian.AppendUint32(b, sig.OrigTtl)
}

// signedData is what the signature in sig is made over (V-27, RFC 4034 section 3.1.8.1), and the signature.
func signedData(set *RRset, sig *dns.RRSIG) (data, signature []byte) {
	rdata := set.signature(sig)
	end := min(rrsigFixed, len(rdata))
	end += skipName(rdata[end:])
	size := end
	for _, rdata := range set.rdata {
		size += len(set.Owner) + 14 + len(rdata) // a wildcard owner is no longer
	}
	data = append(make([]byte, 0, size), rdata[:end]...)
	prefix := appendPrefix(data, set, sig)[end:] // where the first one is to be
	for _, rdata := range set.rdata {
		data = append(data, prefix...)
		data = binary.BigEndian.AppendUint16(data, uint16(len(rdata)))
		data = append(data, rdata...)
	}
	return data, rdata[end:]
}

// rrsigFixed is where the Signer's Name stands in the RDATA of an RRSIG (RFC 4034 section 3.1), which the signature is
// behind.
const rrsigFixed = 18

// signature returns the canonical RDATA of an RRSIG.
func (s *RRset) signature(sig *dns.RRSIG) []byte {
	if i := slices.Index(s.Sigs, sig); i >= 0 && i < len(s.sigdata) {
		return s.sigdata[i]
	}
	return canonicalRDATA(sig)
}
