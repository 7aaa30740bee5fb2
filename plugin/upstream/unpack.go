package upstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
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
	errLength    = errors.New("it has the wrong length")
	errOPT       = errors.New("its OPT record is malformed, misplaced or not the only one")
)

// Unpack reads a message record by record. [dns.Msg.Unpack] fails a whole message for one odd record; here that record
// is left out, if nothing but evidence is lost with it: a record of the answer section, unless it is a signature,
// cannot be left out, because half an RRset is no answer (D-10) and none at all would say that nothing exists (D-16).
func Unpack(wire []byte) (*dns.Msg, error) {
	s, err := scan(wire)
	if err != nil {
		return nil, err
	}
	m, err := s.head()
	if err != nil {
		return nil, err
	}
	into := [sections]*[]dns.RR{answer: &m.Answer, authority: &m.Ns, additional: &m.Extra}
	for section, rrs := range into {
		if n := s.count(section); n > 0 {
			*rrs = make([]dns.RR, 0, n)
		}
	}
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

// scan finds the records of a message, and checks the names and counts that the DNS library would let pass. Its work is
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
	off, claimed := s.question, 0
	for section := range sections {
		claimed += s.count(section)
	}
	s.records = make([]record, 0, min(claimed, len(wire)/leastRecord))
	for section := range sections {
		for range s.count(section) {
			if off, err = s.record(section, off); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// count returns how many records the header says that a section has.
func (s *scanned) count(section int) int { return int(binary.BigEndian.Uint16(s.wire[6+2*section:])) }

// leastRecord is how many octets a record takes at least: a name, the root's, what is fixed, and no RDATA.
const leastRecord = 1 + recordFixed

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
	rr, _, err := dnssec.UnpackRR(s.wire[:r.end], r.start)
	return rr, err
}

// timers is what stands behind the names of a SOA, in octets (RFC 1035 section 3.3.13).
const timers = 20

// soundRdata checks that the names inside are read within the RDLENGTH only (V-33) and with backward pointers only
// (L-14), and that a type with a form of its own is whole. RDATA without names is what it is (V-29).
func (s *scanned) soundRdata(r record) error {
	if r.rrtype == dns.TypeA && r.end-r.rdata != net.IPv4len ||
		r.rrtype == dns.TypeAAAA && r.end-r.rdata != net.IPv6len {
		return errLength
	}
	skip, names := dnssec.NamesIn(r.rrtype, s.wire[r.rdata:r.end])
	off := r.rdata + skip
	for range names {
		end, err := nameEnd(s.wire, off, r.end)
		if err != nil {
			return err
		}
		off = end
	}
	if r.rrtype == dns.TypeSOA && r.end-off != timers {
		return errLength
	}
	return nil
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
