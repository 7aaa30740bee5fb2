package fastpath

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"github.com/miekg/dns"
)

// Question is a query of the usual kind: one question of class IN about a name of letters, digits, hyphens and
// underscores, which desires recursion, with no record but OPT. It stands until whoever is given it returns.
type Question struct {
	Name string // canonical
	Type uint16

	AuthenticData, CheckingDisabled bool

	EDNS     bool
	DNSSECOK bool
	Size     uint16 // what the client's OPT says; 0 without

	Origin

	message []byte
	end     int // of the question in it
	name    [maxName]byte
}

// Origin is where a query is from, and when it was read.
type Origin struct {
	Client netip.Addr // without a zone
	UDP    bool
	Read   time.Time
}

// read takes a sound query, if it is of the usual kind.
func (q *Question) read(message []byte, s query, from client) bool {
	const (
		counts  = questionsAt + 2 // of records
		class   = 2
		queryOf = opcodeMask<<opcodeShift | bitRD
	)
	flags := flagsOf(message)
	records := binary.BigEndian.Uint32(message[counts:])
	additional := binary.BigEndian.Uint16(message[counts+4:])
	switch {
	case len(message) > slimQuery, flags&queryOf != bitRD, records != 0, additional > 1,
		(additional == 1) != (s.opt > 0), binary.BigEndian.Uint16(message[s.question-class:]) != dns.ClassINET:
		return false
	}
	q.message, q.end = message, s.question
	q.Type = binary.BigEndian.Uint16(message[s.question-2*class:])
	q.AuthenticData, q.CheckingDisabled = flags&bitAD != 0, flags&bitCD != 0
	q.Origin = Origin{from.addr.Addr().WithZone(""), from.udp, from.read}
	return q.readOPT(s.opt) && q.readName()
}

// Take takes a query that the library has unpacked; false if it is not of the usual kind.
func (q *Question) Take(m *dns.Msg, o Origin) bool {
	message, err := m.Pack()
	s := scan(message)
	return err == nil && s.sort == sound && q.read(message, s, client{netip.AddrPortFrom(o.Client, 0), o.UDP, o.Read})
}

// readOPT takes what the OPT record at an offset says, if it is of version 0 and its cookies have a length that there
// is (RFC 7873 sections 4, 5.2.2). Other options change nothing.
func (q *Question) readOPT(at int) bool {
	q.EDNS, q.DNSSECOK, q.Size = at > 0, false, 0
	if !q.EDNS {
		return true
	}
	const sizeAt, versionAt, flagsAt, cookie = 3, 6, 7, 10
	opt := q.message[at:]
	q.Size, q.DNSSECOK = binary.BigEndian.Uint16(opt[sizeAt:]), opt[flagsAt]&0x80 != 0
	data := opt[1+recordFixed:][:binary.BigEndian.Uint16(opt[1+recordFixed-2:])]
	for len(data) > 0 {
		code, length := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		if code == cookie && length != 8 && (length < 16 || length > 40) {
			return false
		}
		data = data[optionHeader+length:]
	}
	return opt[versionAt] == 0
}

// canonical has the usual octets of names, in lower case; 0 for all others.
var canonical = func() (lower [256]byte) {
	for c := range 256 {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			lower[c] = byte(c)
		case 'A' <= c && c <= 'Z':
			lower[c] = byte(c - 'A' + 'a')
		}
	}
	return lower
}()

// readName takes the name of the question, if it has usual octets only.
func (q *Question) readName() bool {
	n := 0
	for at := headerSize; q.message[at] != 0; n++ {
		label := q.message[at+1:][:q.message[at]]
		for _, c := range label {
			if q.name[n] = canonical[c]; q.name[n] == 0 {
				return false
			}
			n++
		}
		q.name[n] = '.'
		at += 1 + len(label)
	}
	if n == 0 {
		q.name[0], n = '.', 1
	}
	q.Name = unsafe.String(&q.name[0], n)
	return true
}

// Reply is what a [Question] is answered with.
type Reply struct {
	// Wire is a reply to the same question in lower case, of any type, without OPT; of its header, RCODE and counts
	// matter.
	Wire      []byte
	Authentic bool   // it gets AD
	Size      uint16 // for OPT, which it gets if the question has it
	Options   []byte // for OPT
}

// optOctets is what an OPT has without options: name, type, size, flags and length (RFC 6891 section 6.1.2).
const optOctets = 1 + 2 + 2 + 4 + 2

// Append appends the reply to dst, as it is sent: with the client's ID and flags, and the question as it came. What of
// the reply's names is part of the question is written as there.
func (q *Question) Append(dst []byte, r Reply) []byte {
	begin := len(dst)
	dst = slices.Grow(dst, len(r.Wire)+optOctets+len(r.Options))
	dst = append(dst, r.Wire[:headerSize]...)
	flags := flagsOf(q.message)&bitCD | flagsOf(r.Wire)&rcodeMask | bitQR | bitRD | bitRA
	if r.Authentic {
		flags |= bitAD
	}
	header := dst[begin:]
	copy(header, q.message[:flagsAt])
	binary.BigEndian.PutUint16(header[flagsAt:], flags)
	dst = append(append(dst, q.message[headerSize:q.end]...), r.Wire[q.end:]...)
	if q.EDNS {
		dst[begin+headerSize-1] = 1 // of ARCOUNT
		var do byte
		if q.DNSSECOK {
			do = 0x80
		}
		dst = append(dst, 0, 0, byte(dns.TypeOPT), byte(r.Size>>8), byte(r.Size), 0, 0, do, 0,
			byte(len(r.Options)>>8), byte(len(r.Options)))
		dst = append(dst, r.Options...)
	}
	return dst
}

// Fail appends the reply that has an RCODE and no records but OPT, as Append does.
func (q *Question) Fail(dst []byte, rcode int, r Reply) []byte {
	var wire [headerSize + maxName + 4]byte
	wire[flagsAt+1], wire[questionsAt+1] = byte(rcode), 1
	r.Wire = wire[:q.end]
	return q.Append(dst, r)
}

// Octets is how many the query has.
func (q *Question) Octets() int { return len(q.message) }
