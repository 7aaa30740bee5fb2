package fastpath

import (
	"encoding/binary"
	"errors"

	"github.com/miekg/dns"
)

// The octets of a message (RFC 1035 section 4.1).
const (
	flagsAt      = 2
	questionsAt  = 4
	recordFixed  = 10 // TYPE, CLASS, TTL and RDLENGTH
	maxName      = 255
	maxLabel     = 63
	maxHops      = 127 // compression pointers of one name (L-14)
	pointer      = 0xC0
	optionHeader = 4 // of an EDNS option (RFC 6891 section 6.1.2)
	maxOptions   = 32
	// A query is held until it is answered, and many may be (L-15): of one over slimQuery no option over maxOption is
	// kept, which is padding or unknown, and then it has at most maxQuery octets.
	slimQuery, maxQuery, maxOption = 512, 4 << 10, 256
)

// Bits of the flags, and an opcode among them.
const (
	bitQR       = 1 << 15
	bitRD       = 1 << 8
	bitRA       = 1 << 7
	bitAD       = 1 << 5
	bitCD       = 1 << 4
	rcodeMask   = 0xF
	opcodeShift = 11
	opcodeMask  = 0xF
)

// sort is what a message is to a server.
type sort uint8

const (
	ignored   sort = iota // no query: shorter than a header, or a reply
	malformed             // FORMERR
	foreign               // NOTIMP: without the one question that a query has, and of another opcode
	sound
)

// query is what the octets of a message say.
type query struct {
	sort
	question int // its octets end here; 0 if it cannot be read
	opt      int // the OPT record begins here; 0 if there is none
}

// scan reads a message without believing any of it (L-14): names of 255 octets at most, compression pointers strictly
// backwards, so that the question, which no name stands before, has none, and nothing behind the last record.
func scan(message []byte) query {
	if len(message) < headerSize || flagsOf(message)&bitQR != 0 {
		return query{}
	}
	q := query{sort: malformed}
	var counts [4]int
	for i := range counts {
		counts[i] = int(binary.BigEndian.Uint16(message[questionsAt+2*i:]))
	}
	opcode := flagsOf(message) >> opcodeShift & opcodeMask
	if counts[0] != 1 {
		if opcode != dns.OpcodeQuery && opcode != dns.OpcodeNotify { // DSO has none (RFC 8490 section 5.4)
			q.sort = foreign
		}
		return q
	}
	at, ok := pastName(message, headerSize)
	if !ok || at+4 > len(message) {
		return q
	}
	at += 4
	q.question = at
	for section, count := range counts[1:] {
		for range count {
			if at, ok = q.pastRecord(message, at, section == 2); !ok {
				return q
			}
		}
	}
	if at == len(message) {
		q.sort = sound
	}
	return q
}

func flagsOf(message []byte) uint16 { return binary.BigEndian.Uint16(message[flagsAt:]) }

// pastRecord returns where the record at an offset ends.
func (q *query) pastRecord(message []byte, at int, additional bool) (end int, ok bool) {
	fixed, ok := pastName(message, at)
	if !ok || fixed+recordFixed > len(message) {
		return 0, false
	}
	data := fixed + recordFixed
	end = data + int(binary.BigEndian.Uint16(message[data-2:]))
	if end > len(message) {
		return 0, false
	}
	if binary.BigEndian.Uint16(message[fixed:]) != dns.TypeOPT {
		return end, true
	}
	if !additional || fixed != at+1 || q.opt != 0 { // its name is the root's, and there is one (RFC 6891 section 6.1.1)
		return 0, false
	}
	q.opt = at
	return end, wholeOptions(message[data:end])
}

// wholeOptions reports whether EDNS options, not too many (L-14), fill data.
func wholeOptions(data []byte) bool {
	for n := 0; len(data) >= optionHeader && n < maxOptions; n++ {
		size := optionHeader + int(binary.BigEndian.Uint16(data[2:]))
		if size > len(data) {
			return false
		}
		data = data[size:]
	}
	return len(data) == 0
}

// pastName returns where the name at an offset ends.
func pastName(message []byte, at int) (end int, ok bool) {
	size, hops, before := 0, 0, at
	for at < len(message) {
		switch length := int(message[at]); {
		case length == 0:
			if end == 0 {
				end = at + 1
			}
			return end, true
		case length <= maxLabel:
			if size += 1 + length; size >= maxName { // the root's octet is still to come
				return 0, false
			}
			at += 1 + length
		case length < pointer || at+1 == len(message):
			return 0, false
		default:
			to := (length&^pointer)<<8 | int(message[at+1])
			if hops++; hops > maxHops || to >= before || to < headerSize {
				return 0, false
			}
			if end == 0 {
				end = at + 2
			}
			at, before = to, to
		}
	}
	return 0, false
}

// refusal appends the reply to what is no sound query: FORMERR or NOTIMP, with the question if that can be read, OPT if
// the query has it (RFC 6891 section 7), and never AD.
func (q query) refusal(dst, message []byte, size uint16) []byte {
	begin := len(dst)
	dst = append(dst, message[:headerSize]...)
	reply := dst[begin:]
	flags := flagsOf(message)&(opcodeMask<<opcodeShift|bitRD|bitCD) | bitQR | bitRA | dns.RcodeFormatError
	if q.sort == foreign {
		flags ^= dns.RcodeFormatError ^ dns.RcodeNotImplemented
	}
	binary.BigEndian.PutUint16(reply[flagsAt:], flags)
	clear(reply[questionsAt:])
	if q.question > 0 {
		reply[questionsAt+1] = 1
		dst = append(dst, message[headerSize:q.question]...)
	}
	if q.opt > 0 {
		dst[begin+headerSize-1] = 1 // of ARCOUNT
		do := message[q.opt+7] & 0x80
		dst = append(dst, 0, 0, byte(dns.TypeOPT), byte(size>>8), byte(size), 0, 0, do, 0, 0, 0)
	}
	return dst
}

// errLong: a query is longer than any has to be.
var errLong = errors.New("too long for a query")

// unpack returns a sound query for CoreDNS. An option that the library cannot read is one that danelaw does not know,
// and those are ignored (RFC 6891 section 6.1.2).
func (q query) unpack(message []byte) (*dns.Msg, error) {
	m := new(dns.Msg)
	if len(message) <= slimQuery {
		if err := m.Unpack(message); err == nil || q.opt == 0 {
			return m, err
		}
		m = new(dns.Msg)
	}
	if q.opt > 0 {
		message = q.withoutOdd(message)
	}
	if len(message) > maxQuery && flagsOf(message)>>opcodeShift&opcodeMask == dns.OpcodeQuery {
		return nil, errLong
	}
	return m, m.Unpack(message)
}

// withoutOdd returns the message without those options that the library cannot read, or that are long.
func (q query) withoutOdd(message []byte) []byte {
	data := q.opt + 1 + recordFixed
	end := data + int(binary.BigEndian.Uint16(message[data-2:]))
	plain := append([]byte{}, message[:data]...)
	for at := data; at < end; {
		next := at + optionHeader + int(binary.BigEndian.Uint16(message[at+2:]))
		if next-at <= maxOption && readable(message[at:next]) {
			plain = append(plain, message[at:next]...)
		}
		at = next
	}
	binary.BigEndian.PutUint16(plain[data-2:], uint16(len(plain)-data))
	return append(plain, message[end:]...)
}

// readable reports whether the library can read an option.
func readable(option []byte) bool {
	opt := append([]byte{0, 0, byte(dns.TypeOPT), 0, 0, 0, 0, 0, 0}, byte(len(option)>>8), byte(len(option)))
	_, _, err := dns.UnpackRR(append(opt, option...), 0)
	return err == nil
}
