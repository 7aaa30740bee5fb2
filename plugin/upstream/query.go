package upstream

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// query is one question as it is put.
type query struct {
	dns.Question
	tcp  bool   // over TCP at once
	cd   bool   // the CD bit
	size uint16 // the EDNS size to advertise (S-1)
	// again: it is outstanding at the same upstream already, and this is one more copy.
	again bool
	// spare: it is a copy over TCP, where a path that loses datagrams is no obstacle. That TCP fails says nothing of
	// the upstream.
	spare bool
	// apart: over TCP it goes on a connection of its own, since the one that all share has not brought the reply.
	apart bool
	// further: it is a further try of V-14, which is of no use if it comes to the same.
	further bool
	// test: it is asked to learn about the upstream.
	test   bool
	until  time.Time  // as fetch.Try.Until
	demand func() int // as fetch.Try.Demand
}

// wanted is what Demand tells.
func (q query) wanted() int {
	if q.demand == nil {
		return 1
	}
	return q.demand()
}

// message is the query with RD, DO and EDNS set (V-73).
func (q query) message(id uint16, options ...dns.EDNS0) *dns.Msg {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: options}
	opt.SetUDPSize(q.size)
	opt.SetDo()
	return &dns.Msg{
		MsgHdr:   dns.MsgHdr{Id: id, RecursionDesired: true, CheckingDisabled: q.cd},
		Question: []dns.Question{q.Question},
		Extra:    []dns.RR{opt},
	}
}

// pack returns the query in wire format. It is done for each question, and so without a map of the names that may be
// compressed, of which there is one.
func (q query) pack(id uint16, options ...dns.EDNS0) ([]byte, error) {
	m := q.message(id, options...)
	opt := m.Extra[0]
	wire := make([]byte, headerSize+len(q.Name)+1+questionFixed+dns.Len(opt))
	binary.BigEndian.PutUint16(wire, id)
	if m.RecursionDesired {
		wire[2] = 1
	}
	if m.CheckingDisabled {
		wire[3] = 1 << 4
	}
	wire[5], wire[11] = 1, 1 // QDCOUNT and ARCOUNT
	end, err := dns.PackDomainName(q.Name, wire, headerSize, nil, false)
	if err == nil {
		binary.BigEndian.PutUint16(wire[end:], q.Qtype)
		binary.BigEndian.PutUint16(wire[end+2:], q.Qclass)
		end, err = dns.PackRR(opt, wire, end+questionFixed, nil, false)
	}
	if err != nil {
		return nil, &fault{Invalid, "cannot be asked: " + err.Error(), err}
	}
	return wire[:end], nil
}

// paddingBlock is what the size of an encrypted query is a multiple of (RFC 8467 section 4.1).
const paddingBlock = 128

// padded returns the query for an encrypted transport, with ID 0.
func (q query) padded() ([]byte, error) {
	padding := &dns.EDNS0_PADDING{}
	rest := q.message(0, padding).Len() % paddingBlock
	padding.Padding = make([]byte, (paddingBlock-rest)%paddingBlock)
	return q.pack(0, padding)
}

// unpadded returns the query for TCP, with ID 0.
func (q query) unpadded() ([]byte, error) { return q.pack(0) }

// randomID comes from a CSPRNG, as do ports (S-6, RFC 5452 section 9.2).
func randomID() uint16 {
	var b [2]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint16(b[:])
}

// qrAndOpcode are the bits of the third octet that tell a reply to a query, 0x80, from all else.
const qrAndOpcode = 0xF8

// matches reports whether wire is a reply to the query asked: same ID, QR set, opcode QUERY and the same question, its
// name without case (S-6, RFC 4343 section 3): some upstreams give it back as they first met it, or in capitals.
func matches(wire, asked []byte) bool {
	end, err := nameEnd(asked, headerSize, len(asked))
	if err != nil || len(wire) < end+questionFixed {
		return false
	}
	return bytes.Equal(wire[:2], asked[:2]) && wire[2]&qrAndOpcode == 0x80 && binary.BigEndian.Uint16(wire[4:]) == 1 &&
		dnssec.EqualFold(wire[headerSize:end], asked[headerSize:end]) &&
		bytes.Equal(wire[end:end+questionFixed], asked[end:end+questionFixed])
}

// truncated reports whether the TC bit of a message is set.
func truncated(wire []byte) bool { return wire[2]&2 != 0 }

// bareError reports whether wire is an error about the query asked that leaves out the question, as servers send it
// that could not read the query, or say so (RFC 6891 section 7). It is worth no more than its RCODE.
func bareError(wire, asked []byte) bool {
	if len(wire) < headerSize || !bytes.Equal(wire[:2], asked[:2]) || wire[2]&qrAndOpcode != 0x80 {
		return false
	}
	questionsAndAnswers := binary.BigEndian.Uint32(wire[4:])
	return questionsAndAnswers == 0 && refuses(int(wire[3]&0xF))
}

// refuses reports whether an RCODE is no answer.
func refuses(rcode int) bool {
	return rcode != dns.RcodeSuccess && rcode != dns.RcodeNameError && rcode != dns.RcodeYXDomain
}

// usable returns nil for a reply that can be judged, and what is wrong with any other (S-14).
func usable(q dns.Question, m *dns.Msg) error {
	switch {
	case m.Truncated:
		return faultf(Invalid, "truncated its reply over TCP")
	case refuses(m.Rcode):
		return faultf(Refusal, "answered %s%s", rcodeName(m.Rcode), extendedErrors(m))
	case referral(q, m):
		return faultf(Refusal, "answered with a referral; "+
			"it must be a recursive resolver, or authoritative for the name")
	}
	return nil
}

// referral reports whether m only names other servers: from one that neither is authoritative nor recurses. One that
// names those of a zone asked for its DS, and brings the signed proof that it has none (RFC 5155 section 7.2.7, RFC
// 4035 section 3.1.4), is all the answer there can be.
func referral(q dns.Question, m *dns.Msg) bool {
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) > 0 || m.Authoritative || m.RecursionAvailable {
		return false
	}
	above := false
	for _, rr := range m.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			owner := rr.Header().Name
			if q.Qtype == dns.TypeDS && strings.EqualFold(owner, q.Name) && denied(q, m) == "" {
				return false
			}
			above = above || dnssec.IsSubDomain(owner, q.Name)
		}
	}
	return above
}

func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers { // miekg calls 16 by its other name, which is for TSIG
		return "BADVERS"
	}
	if name, ok := dns.RcodeToString[rcode]; ok {
		return name
	}
	return fmt.Sprintf("RCODE %d", rcode)
}

// extendedErrors carries the reasons that an upstream gave into our sentence (S-15). They are quoted, as anyone may
// have written them.
func extendedErrors(m *dns.Msg) string {
	var b strings.Builder
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*dns.EDNS0_EDE); ok {
				b.WriteString(printable.Text(fmt.Sprintf(" (EDE %d %.100q)", ede.InfoCode, ede.ExtraText)))
			}
		}
	}
	return b.String()
}
