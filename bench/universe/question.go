package universe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Question is what a client asks, and what a validator must answer. It is for one goroutine.
type Question struct {
	Query  []byte // packed, with ID zero
	Name   string
	Type   uint16
	Rcode  int
	Secure bool // AD is set, else it is not

	truth []byte // a reply with the right content; nil: that is not known
	enemy bool   // it is asked by somebody who does not mind a failure
	told  bool   // the reply says why the answer is Insecure
	forms []form // replies that have been found right
	do    bool   // the client wants signatures
}

// Ask is the question with DO and AD, as Postfix asks it, to which truth is the right reply, or one that has the same
// content.
func Ask(q dns.Question, secure bool, truth []byte) Question {
	asked := Known(q, int(truth[3]&0xf), secure)
	asked.truth = truth
	return asked
}

// Attack is such a question by somebody who does not mind a failure: only AD where it does not belong is wrong, and
// data where there should be none.
func Attack(q dns.Question, rcode int, secure bool) Question {
	asked := Known(q, rcode, secure)
	asked.enemy = true
	return asked
}

// Known is such a question of whose answer only RCODE and AD are known.
func Known(q dns.Question, rcode int, secure bool) Question {
	m := &dns.Msg{Question: []dns.Question{{Name: q.Name, Qtype: q.Qtype, Qclass: dns.ClassINET}}}
	m.RecursionDesired, m.AuthenticatedData = true, true
	return Question{
		Query: pack(m.SetEdns0(udpSize, true)), Name: q.Name, Type: q.Qtype, Rcode: rcode, Secure: secure, do: true,
	}
}

// Plain is the same question without EDNS, as programs in a cluster ask it: nobody tells them of AD.
func (q Question) Plain() Question {
	m := &dns.Msg{Question: []dns.Question{{Name: q.Name, Qtype: q.Type, Qclass: dns.ClassINET}}}
	m.RecursionDesired = true
	q.Query, q.Secure, q.do, q.forms = pack(m), false, false, nil
	return q
}

// Told is the same question about a name that is Insecure for the algorithm of its signatures: the reply has an EDE 1.
func (q Question) Told() Question {
	q.told, q.forms = true, nil
	return q
}

// pack packs a query whose name has been in a message already.
func pack(m *dns.Msg) []byte {
	query, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return query
}

// Missing says whether the right answer is a proof that the name does not exist.
func (q *Question) Missing() bool { return q.Secure && q.Rcode == dns.RcodeNameError }

// Asked says whether a message is a response to this question: a resolver hands the name back as it was written.
func (q *Question) Asked(reply []byte) bool {
	end := len(q.Query)
	if q.do {
		end -= optSize
	}
	response := len(reply) >= headerSize && reply[2]&0x80 != 0
	return response && bytes.HasPrefix(reply[headerSize:], q.Query[headerSize:end])
}

// Failed says whether a response is a SERVFAIL where there should be none; for an attack, whether it has another RCODE
// than it should, and nothing that is wrong.
func (q *Question) Failed(reply []byte) bool {
	rcode := int(reply[3] & 0xf)
	return rcode != q.Rcode && (rcode == dns.RcodeServerFailure || q.enemy && !q.forged(reply))
}

// forged says whether a response has AD where it does not belong, or data where there should be none.
func (q *Question) forged(reply []byte) bool {
	ad, rcode, data := reply[3]&0x20 != 0, int(reply[3]&0xf), binary.BigEndian.Uint16(reply[6:]) > 0
	return ad && !q.Secure || data && rcode == dns.RcodeSuccess && q.Rcode != dns.RcodeSuccess
}

// Fault says what is wrong with a response; "" if nothing is. One that differs in nothing but TTLs from one that was
// found right is right; any other is unpacked and compared, record by record, with the truth.
func (q *Question) Fault(reply []byte) string {
	for i := range q.forms {
		if q.forms[i].equals(reply) {
			return ""
		}
	}
	truncated, ad, rcode := reply[2]&0x02 != 0, reply[3]&0x20 != 0, int(reply[3]&0xf)
	if q.enemy && !q.forged(reply) {
		return ""
	}
	if truncated || ad != q.Secure || rcode != q.Rcode {
		return fmt.Sprintf("%s, want %s%s", describe(rcode, ad, truncated), describe(q.Rcode, q.Secure, false),
			errorsIn(reply))
	}
	unsupported := func(e *dns.EDNS0_EDE) bool { return e.InfoCode == dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm }
	if q.told && !slices.ContainsFunc(extended(reply), unsupported) {
		return "it has no EDE 1" + errorsIn(reply)
	}
	if q.truth == nil {
		return ""
	}
	fault := q.compare(reply)
	if fault == "" && len(q.forms) < mostForms {
		q.forms = append(q.forms, formOf(reply))
	}
	return fault
}

// mostForms is how many forms of a right reply are kept: servers turn the records of a set round.
const mostForms = 4

func describe(rcode int, ad, truncated bool) string {
	return fmt.Sprintf("%s AD=%t TC=%t", dns.RcodeToString[rcode], ad, truncated)
}

// errorsIn is what the Extended DNS Errors of a reply say.
func errorsIn(reply []byte) (text string) {
	for _, e := range extended(reply) {
		text += fmt.Sprintf("; EDE %d %q", e.InfoCode, e.ExtraText)
	}
	return text
}

// extended are the Extended DNS Errors of a reply.
func extended(reply []byte) (all []*dns.EDNS0_EDE) {
	m := new(dns.Msg)
	if m.Unpack(reply) != nil || m.IsEdns0() == nil {
		return nil
	}
	for _, o := range m.IsEdns0().Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			all = append(all, e)
		}
	}
	return all
}

// compare says what of a reply's content is not as in the truth.
func (q *Question) compare(reply []byte) string {
	got, want := new(dns.Msg), new(dns.Msg)
	if err := got.Unpack(reply); err != nil {
		return fmt.Sprintf("it cannot be read: %v", err)
	}
	if err := want.Unpack(q.truth); err != nil {
		return fmt.Sprintf("the truth cannot be read: %v", err)
	}
	has, should := q.records(got.Answer), q.records(want.Answer)
	if !slices.Equal(has, should) {
		return fmt.Sprintf("the answer is %q, want %q", has, should)
	}
	if len(should) > 0 {
		return ""
	}
	var denial []uint16
	for _, rr := range got.Ns {
		denial = append(denial, rr.Header().Rrtype)
	}
	proven := slices.Contains(denial, dns.TypeNSEC) || slices.Contains(denial, dns.TypeNSEC3)
	if !slices.Contains(denial, dns.TypeSOA) || q.do && q.Secure && !proven {
		return fmt.Sprintf("the denial has records of types %v only", denial)
	}
	return ""
}

// records are the records that this client wants to see, without their TTLs, in an order of their own.
func (q *Question) records(rrs []dns.RR) (texts []string) {
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeRRSIG || q.do {
			rr.Header().Ttl = 0
			rr.Header().Name = strings.ToLower(rr.Header().Name)
			texts = append(texts, rr.String())
		}
	}
	slices.Sort(texts)
	return texts
}

// form is a reply, and where its TTLs are.
type form struct {
	reply []byte
	ttls  []int
}

// formOf keeps a reply that has been unpacked.
func formOf(reply []byte) form {
	f := form{reply: bytes.Clone(reply)}
	at := headerSize
	for ; reply[at] != 0; at += 1 + int(reply[at]) {
	}
	at += 1 + typeAndCode
	count := func(at int) int { return int(binary.BigEndian.Uint16(reply[at:])) }
	for range count(6) + count(8) + count(10) {
		for ; reply[at] != 0 && reply[at] < 0xc0; at += 1 + int(reply[at]) {
		}
		if reply[at] >= 0xc0 {
			at++
		}
		at += 1 + typeAndCode
		if count(at-typeAndCode) != int(dns.TypeOPT) {
			f.ttls = append(f.ttls, at)
		}
		at += 4
		at += 2 + count(at)
	}
	return f
}

// equals says whether a reply differs in its ID and TTLs only.
func (f *form) equals(reply []byte) bool {
	if len(reply) != len(f.reply) {
		return false
	}
	from := 2
	for _, ttl := range f.ttls {
		if !bytes.Equal(reply[from:ttl], f.reply[from:ttl]) {
			return false
		}
		from = ttl + 4
	}
	return bytes.Equal(reply[from:], f.reply[from:])
}
