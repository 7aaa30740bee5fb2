package universe

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/miekg/dns"
)

// replies are packed answers by question.
type replies struct {
	mu     sync.RWMutex
	packed map[string][]byte
}

const (
	headerSize  = 12
	optSize     = 11
	udpSize     = 1232 // that servers and clients here have room for
	typeAndCode = 4    // octets of QTYPE and QCLASS
)

// packedReply is the reply to a question, as it is sent.
func packedReply(q dns.Question, m *dns.Msg) ([]byte, error) {
	m.Authoritative, m.RecursionAvailable, m.Compress = false, true, true
	packed, err := m.SetEdns0(udpSize, true).Pack()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", q.Name, dns.Type(q.Qtype), err)
	}
	return packed, nil
}

// keep packs the reply to a question.
func (r *replies) keep(q dns.Question, m *dns.Msg) error {
	packed, err := packedReply(q, m)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.packed[key(q)] = packed
	return nil
}

func (r *replies) get(key string) []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.packed[key]
}

// find is get for a key that has not been made a string.
func (r *replies) find(key []byte) []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.packed[string(key)]
}

// key is the name in wire form, in lower case, and the type.
func key(q dns.Question) string {
	wire := make([]byte, 256)
	end, err := dns.PackDomainName(dns.CanonicalName(q.Name), wire, 0, nil, false)
	if err != nil {
		panic(err) // names come from a Spec or a parsed query
	}
	return string(binary.BigEndian.AppendUint16(wire[:end], q.Qtype))
}

// Reply appends to dst the reply to a query; nothing if the query is none. Over a stream it is always whole, over UDP
// truncated if the client has no room for it.
func (u *Universe) Reply(dst, query []byte, stream bool) []byte {
	end := questionEnd(query)
	if end == 0 {
		return dst
	}
	var room [256 + 2]byte
	key := lower(room[:0], query[headerSize:end-2]) // without the class
	packed := u.replies.find(key)
	if packed == nil {
		if packed = u.foresee(query, string(key)); packed == nil {
			return dst
		}
	}
	start := len(dst)
	if stream || len(packed) <= datagram(query[end:]) {
		dst = append(dst, packed...)
	} else {
		dst = truncated(dst, packed, end)
	}
	reply := dst[start:]
	copy(reply, query[:2])                          // ID
	reply[2] |= query[2] & 0x01                     // RD
	reply[3] |= query[3] & 0x10                     // CD
	copy(reply[headerSize:], query[headerSize:end]) // the case of letters
	return dst
}

// foresee answers a question that nobody thought of. What is asked of a trap is different each time, and not kept.
func (u *Universe) foresee(query []byte, key string) []byte {
	m := new(dns.Msg)
	if m.Unpack(query) != nil || len(m.Question) != 1 {
		return nil
	}
	q := m.Question[0]
	if t := trapOf(q.Name); t != nil {
		return u.spring(t, q)
	}
	u.unforeseen.Add(1)
	if u.keep(q) != nil {
		return nil
	}
	return u.replies.get(key)
}

// questionEnd is where the one question of a query ends; 0 if it is no such query.
func questionEnd(query []byte) int {
	if len(query) < headerSize || query[2]&0xf8 != 0 || binary.BigEndian.Uint16(query[4:]) != 1 {
		return 0
	}
	for at := headerSize; at < len(query) && query[at] < 64; at += 1 + int(query[at]) {
		if end := at + 1 + typeAndCode; query[at] == 0 {
			if end <= len(query) && end <= headerSize+255+typeAndCode {
				return end
			}
			return 0
		}
	}
	return 0
}

// lower appends a name in lower case, and the type behind it as it is. The length of a label, under 64, is no letter.
func lower(dst, name []byte) []byte {
	for _, c := range name[:len(name)-2] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return append(dst, name[len(name)-2:]...)
}

// datagram is the size of a datagram that the OPT record behind the question allows.
func datagram(additional []byte) int {
	if len(additional) >= optSize && additional[0] == 0 && binary.BigEndian.Uint16(additional[1:]) == dns.TypeOPT {
		return max(int(binary.BigEndian.Uint16(additional[3:])), dns.MinMsgSize)
	}
	return dns.MinMsgSize
}

// truncated appends a reply without its records, but for the OPT record at its end.
func truncated(dst, packed []byte, end int) []byte {
	start := len(dst)
	dst = append(dst, packed[:end]...)
	dst = append(dst, packed[len(packed)-optSize:]...)
	dst[start+2] |= 0x02 // TC
	clear(dst[start+6 : start+10])
	return dst
}
