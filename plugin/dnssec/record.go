package dnssec

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// Fixed parts of the wire format, in octets (RFC 1035 section 4.1).
const (
	headerOctets   = 12
	questionOctets = 4  // QTYPE and QCLASS
	recordOctets   = 10 // TYPE, CLASS, TTL and RDLENGTH
)

var errShort = errors.New("it ends too early")

// Unpack reads a message that was packed here into m, with records as [UnpackRR] has them.
func Unpack(m *dns.Msg, wire []byte) error {
	if err := m.Unpack(wire[:min(headerOctets, len(wire))]); err != nil {
		return err
	}
	off := headerOctets
	for range binary.BigEndian.Uint16(wire[4:]) {
		name, end, err := dns.UnpackDomainName(wire, off)
		if off = end + questionOctets; err != nil || off > len(wire) {
			return errShort
		}
		m.Question = append(m.Question, dns.Question{
			Name: name, Qtype: binary.BigEndian.Uint16(wire[end:]), Qclass: binary.BigEndian.Uint16(wire[end+2:]),
		})
	}
	for i, section := range []*[]dns.RR{&m.Answer, &m.Ns, &m.Extra} {
		rrs, end, err := unpackRRs(binary.BigEndian.Uint16(wire[6+2*i:]), wire, off)
		if err != nil {
			return err
		}
		*section, off = rrs, end
	}
	return nil
}

// unpackRRs reads n records and returns where they end.
func unpackRRs(n uint16, msg []byte, off int) (rrs []dns.RR, end int, err error) {
	for range n {
		var rr dns.RR
		if rr, off, err = UnpackRR(msg, off); err != nil {
			return nil, 0, err
		}
		rrs = append(rrs, rr)
	}
	return rrs, off, nil
}

// UnpackRR reads the record at off and returns where it ends. The DNS library's forms of RDATA lose octets, with which
// signatures fail and unsigned data goes out changed (V-29, RFC 3597 section 4). It has only what is read here, or
// holds names that a reply may compress; all else is a *dns.RFC3597: octets, in which only the names that senders may
// compress are written out. The names inside must be known to be sound.
func UnpackRR(msg []byte, off int) (rr dns.RR, end int, err error) {
	name, off, err := dns.UnpackDomainName(msg, off)
	if err != nil || off+recordOctets > len(msg) {
		return nil, 0, errShort
	}
	h := dns.RR_Header{
		Name: name, Rrtype: binary.BigEndian.Uint16(msg[off:]), Class: binary.BigEndian.Uint16(msg[off+2:]),
		Ttl: binary.BigEndian.Uint32(msg[off+4:]), Rdlength: binary.BigEndian.Uint16(msg[off+8:]),
	}
	off += recordOctets
	if end = off + int(h.Rdlength); end > len(msg) {
		return nil, 0, errShort
	}
	if readable(h.Rrtype, msg[off:end]) {
		rr, end, err = dns.UnpackRRWithHeader(h, msg[:end], off)
		return rr, end, err
	}
	octets, err := uncompressed(h.Rrtype, msg[:end], off)
	if err != nil {
		return nil, 0, err
	}
	return &dns.RFC3597{Hdr: h, Rdata: hex.EncodeToString(octets)}, end, nil
}

// readable reports whether RDATA is kept in the library's form. What is too short for its type would grow in it, and a
// bit map with trailing zeros would shrink.
func readable(t uint16, rdata []byte) bool {
	switch t {
	case dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeCNAME, dns.TypeDNAME, dns.TypePTR, dns.TypeMX, dns.TypeSOA,
		dns.TypeRRSIG, dns.TypeOPT:
		return true
	case dns.TypeTLSA:
		return len(rdata) >= 3
	case dns.TypeDS, dns.TypeDNSKEY:
		return len(rdata) >= 4
	case dns.TypeNSEC:
		return !zeroEnded(rdata[skipName(rdata):])
	case dns.TypeNSEC3:
		bitmap, whole := nsec3BitMap(rdata)
		return whole && !zeroEnded(bitmap)
	}
	return false
}

// nsec3BitMap returns what stands behind the salt and the hash of an NSEC3, if both are whole (RFC 5155 section 3.2).
func nsec3BitMap(rdata []byte) (bitmap []byte, whole bool) {
	const fixed = 4 // algorithm, flags and iterations
	if len(rdata) <= fixed {
		return nil, false
	}
	hash := skipStrings(rdata, fixed, 1)
	if hash >= len(rdata) {
		return nil, false
	}
	at := skipStrings(rdata, hash, 1)
	return rdata[min(at, len(rdata)):], at <= len(rdata)
}

// zeroEnded reports whether a bit map of types has a block that ends in a zero (RFC 4034 section 4.1.2).
func zeroEnded(bitmap []byte) bool {
	for len(bitmap) > 2 {
		end := 2 + int(bitmap[1])
		if end == 2 || end > len(bitmap) {
			return false // malformed in a way that the library finds
		}
		if bitmap[end-1] == 0 {
			return true
		}
		bitmap = bitmap[end:]
	}
	return false
}

// uncompressed returns the RDATA from off to the end of msg with its names in full.
func uncompressed(t uint16, msg []byte, off int) ([]byte, error) {
	skip, count := NamesIn(t, msg[off:])
	if count == 0 {
		return msg[off:], nil
	}
	if off+skip > len(msg) {
		return nil, errShort
	}
	var rdata []byte
	rdata = append(rdata, msg[off:off+skip]...)
	off += skip
	for range count {
		name, end, err := dns.UnpackDomainName(msg, off)
		if err != nil {
			return nil, err
		}
		rdata, off = append(rdata, wireName(name)...), end
	}
	return append(rdata, msg[off:]...), nil
}

// Typed returns a record in the DNS library's form of its type, to be read: what goes out is the record itself. One
// that has no such form is returned as it is.
func Typed(rr dns.RR) dns.RR {
	raw, ok := rr.(*dns.RFC3597)
	if !ok {
		return rr
	}
	rdata, err := hex.DecodeString(raw.Rdata)
	if err != nil || len(rdata) > 0xffff {
		return rr
	}
	h := raw.Hdr
	h.Rdlength = uint16(len(rdata))
	typed, _, err := dns.UnpackRRWithHeader(h, rdata, 0)
	if err != nil {
		return rr
	}
	return typed
}

// Presentation returns a record as a line of a zone file: in the form of its type if that tells all octets, else in the
// one for unknown types (RFC 3597 section 5).
func Presentation(rr dns.RR) string {
	raw, ok := rr.(*dns.RFC3597)
	if !ok {
		return rr.String()
	}
	var again dns.RFC3597
	if typed := Typed(rr); printable(typed) && again.ToRFC3597(typed) == nil && again.Rdata == raw.Rdata {
		return typed.String()
	}
	return fmt.Sprintf(`%s\# %d %s`, raw.Hdr.String(), len(raw.Rdata)/2, raw.Rdata)
}

// printable reports whether the library has text for a record: that of a NULL would be its octets.
func printable(rr dns.RR) bool {
	switch rr.(type) {
	case *dns.NULL, *dns.RFC3597:
		return false
	}
	return true
}
