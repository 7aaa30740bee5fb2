package upstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// Bounds of what is read from the wire (L-14).
const (
	maxHops    = 127 // compression pointers of one name
	maxName    = 255 // octets of a name, RFC 1035 section 2.3.4
	maxOptions = 32  // EDNS options of an OPT record
)

// Fixed parts of the wire format, in octets (RFC 1035 section 4.1).
const (
	headerSize    = 12
	questionFixed = 4  // QTYPE and QCLASS
	recordFixed   = 10 // TYPE, CLASS, TTL and RDLENGTH
)

// The sections of records, in the order of their counts in the header.
const (
	answer = iota
	authority
	additional
	sections
)

var (
	errShort     = errors.New("it ends too early")
	errName      = errors.New("it holds a malformed name")
	errQuestions = errors.New("it does not hold one question")
	errOPT       = errors.New("its OPT record is malformed, misplaced or not the only one")
)

// unpack reads a message record by record. [dns.Msg.Unpack] fails a whole message for one odd record; here that record is
// left out, if nothing but evidence is lost with it: a record of the answer section, unless it is a signature, cannot be
// left out, because half an RRset is no answer (D-10) and none at all would say that nothing exists (D-16).
func unpack(wire []byte) (*dns.Msg, error) {
	s, err := scan(wire)
	if err != nil {
		return nil, err
	}
	m, err := s.head()
	if err != nil {
		return nil, err
	}
	into := [sections]*[]dns.RR{answer: &m.Answer, authority: &m.Ns, additional: &m.Extra}
	for _, r := range s.records {
		rr, err := s.unpack(r)
		if err == nil {
			*into[r.section] = append(*into[r.section], rr)
		} else if r.section == answer && r.rrtype != dns.TypeRRSIG {
			return nil, fmt.Errorf("its %s record is malformed: %w", dns.Type(r.rrtype), err)
		}
	}
	return m, nil
}

// scanned is a message of which the outlines are known to be sound.
type scanned struct {
	wire     []byte
	question int // where the question ends
	records  []record
	extended int  // the upper bits of the RCODE, RFC 6891 section 6.1.3
	opt      bool // an OPT record has been seen
}

// record is where a record lies in a message.
type record struct {
	section           int
	rrtype            uint16
	start, rdata, end int
}

// scan finds the records of a message, and checks the names and counts that dns.UnpackRR would let pass. Its work is
// bounded by the octets of the message, whatever the counts in the header claim.
func scan(wire []byte) (*scanned, error) {
	if len(wire) < headerSize {
		return nil, errShort
	}
	if binary.BigEndian.Uint16(wire[4:]) != 1 {
		return nil, errQuestions
	}
	end, err := nameEnd(wire, headerSize, len(wire))
	if err != nil {
		return nil, err
	}
	s := &scanned{wire: wire, question: end + questionFixed}
	off := s.question
	for section := range sections {
		for range binary.BigEndian.Uint16(wire[6+2*section:]) {
			if off, err = s.record(section, off); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// record notes the record at off and returns where it ends.
func (s *scanned) record(section, off int) (int, error) {
	end, err := nameEnd(s.wire, off, len(s.wire))
	if err != nil {
		return 0, err
	}
	rdata := end + recordFixed
	if rdata > len(s.wire) {
		return 0, errShort
	}
	r := record{
		section: section, rrtype: binary.BigEndian.Uint16(s.wire[end:]),
		start: off, rdata: rdata, end: rdata + int(binary.BigEndian.Uint16(s.wire[rdata-2:])),
	}
	if r.end > len(s.wire) {
		return 0, errShort
	}
	if r.rrtype == dns.TypeOPT {
		if s.opt || section != additional || !soundOptions(s.wire[r.rdata:r.end]) {
			return 0, errOPT
		}
		s.opt, s.extended = true, int(s.wire[end+4])<<4
	}
	s.records = append(s.records, r)
	return r.end, nil
}

// soundOptions reports whether the RDATA of an OPT record holds whole options, and not too many.
func soundOptions(rdata []byte) bool {
	n := 0
	for ; len(rdata) >= 4 && n < maxOptions; n++ {
		size := 4 + int(binary.BigEndian.Uint16(rdata[2:]))
		if size > len(rdata) {
			return false
		}
		rdata = rdata[size:]
	}
	return len(rdata) == 0
}

// head returns the message with header and question only.
func (s *scanned) head() (*dns.Msg, error) {
	if s.question > len(s.wire) {
		return nil, errShort
	}
	head := slices.Clone(s.wire[:s.question])
	clear(head[6:headerSize])
	m := new(dns.Msg)
	if err := m.Unpack(head); err != nil {
		return nil, err
	}
	m.Rcode |= s.extended
	return m, nil
}

func (s *scanned) unpack(r record) (dns.RR, error) {
	if err := s.soundRdata(r); err != nil {
		return nil, err
	}
	rr, _, err := dns.UnpackRR(s.wire[:r.end], r.start)
	return rr, err
}

// soundRdata checks what dns.UnpackRR does not: that the names inside are read within the RDLENGTH only (V-33) and with
// backward pointers only (L-14), and that a type that cannot be empty is not.
func (s *scanned) soundRdata(r record) error {
	if r.rdata == r.end && !mayBeEmpty(r.rrtype) {
		return errShort
	}
	skip, names := namesIn(r.rrtype, s.wire[r.rdata:r.end])
	off := r.rdata + skip
	for ; names != 0 && (names > 0 || off < r.end); names-- {
		end, err := nameEnd(s.wire, off, r.end)
		if err != nil {
			return err
		}
		off = end
	}
	return nil
}

// mayBeEmpty reports whether records of a type may have no RDATA; dns.UnpackRR takes any such for one of a dynamic update
// (RFC 2136), which has no place in a reply.
func mayBeEmpty(rrtype uint16) bool {
	_, known := dns.TypeToRR[rrtype]
	return !known || rrtype == dns.TypeOPT || rrtype == dns.TypeNULL || rrtype == dns.TypeAPL
}

// namesIn tells how many octets of RDATA come before its names, and how many names there are; below 0: up to the end.
func namesIn(rrtype uint16, rdata []byte) (skip, names int) {
	switch rrtype {
	case dns.TypeNS, dns.TypeMD, dns.TypeMF, dns.TypeCNAME, dns.TypeMB, dns.TypeMG, dns.TypeMR, dns.TypePTR, dns.TypeDNAME,
		dns.TypeNSAPPTR, dns.TypeNSEC, dns.TypeNXT, dns.TypeTKEY, dns.TypeTSIG:
		return 0, 1
	case dns.TypeSOA, dns.TypeMINFO, dns.TypeRP, dns.TypeTALINK:
		return 0, 2
	case dns.TypeMX, dns.TypeAFSDB, dns.TypeRT, dns.TypeKX, dns.TypeLP, dns.TypeSVCB, dns.TypeHTTPS:
		return 2, 1
	case dns.TypePX:
		return 2, 2
	case dns.TypeSRV:
		return 6, 1
	case dns.TypeRRSIG, dns.TypeSIG:
		return 18, 1
	case dns.TypeNAPTR: // RFC 3403 section 4.1: three strings before the name
		return stringsEnd(rdata, 4, 3), 1
	case dns.TypeIPSECKEY: // RFC 4025 section 2.3: a name if the gateway type is 3
		return gatewayName(rdata, 3, 0xff)
	case dns.TypeAMTRELAY: // RFC 8777 section 4.2.3: likewise, below the D bit
		return gatewayName(rdata, 2, 0x7f)
	case dns.TypeHIP: // RFC 8005 section 5: names after the tag and the key, as many as fit
		if len(rdata) >= 4 {
			return 4 + int(rdata[0]) + int(binary.BigEndian.Uint16(rdata[2:])), -1
		}
	}
	return 0, 0
}

// stringsEnd returns where n character-strings that begin at off end.
func stringsEnd(rdata []byte, off, n int) int {
	for range n {
		if off >= len(rdata) {
			break
		}
		off += 1 + int(rdata[off])
	}
	return off
}

// gatewayName: the second octet says whether a name follows.
func gatewayName(rdata []byte, skip int, mask byte) (int, int) {
	if len(rdata) >= 2 && rdata[1]&mask == dns.IPSECGatewayHost {
		return skip, 1
	}
	return 0, 0
}

// nameEnd returns where the name at off ends. Its labels lie before limit. Each pointer leads to before the place where
// the labels read so far began, and what it leads to ends before that place too: names go strictly backwards (L-14) and
// never reach past the record they stand in (V-33).
func nameEnd(wire []byte, off, limit int) (int, error) {
	octets, hops, begin := 1, 0, off // one octet for the root
	end := 0                         // the furthest place read to, as everything after the first pointer lies before it
	for off < limit {
		switch c := int(wire[off]); {
		case c == 0:
			return max(end, off+1), nil
		case c < 0x40:
			off += 1 + c
			if octets += 1 + c; octets > maxName {
				return 0, errName
			}
		case c >= 0xC0 && off+1 < limit:
			end = max(end, off+2)
			target := (c&0x3F)<<8 | int(wire[off+1])
			if hops++; hops > maxHops || target < headerSize || target >= begin {
				return 0, errName
			}
			off, begin, limit = target, target, begin
		default:
			return 0, errName
		}
	}
	return 0, errName
}
