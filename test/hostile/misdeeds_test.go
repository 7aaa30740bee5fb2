package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// misdeed is one thing that a hostile upstream, or the owner of a zone, does.
type misdeed struct {
	name string
	zone string // its victim, named by build
	act  func(a *asked)
	over []string // the transports over which it is done; nil: all
	// own, if set, makes an upstream of the misdeed's own. Without act, all questions to that upstream are its victims.
	own func(a *arena, t *testing.T, h *hostile)

	text   string // of the zone; "": mailZone
	config zones.Config
	fault  zones.Fault

	ask     string // the name asked, below the zone; "": the zone itself
	qtype   uint16 // 0: MX
	want    outcome
	instead map[string]outcome // the outcome over transports where it differs
	timeout time.Duration      // of danelaw in TestAlone, where want is the outcome; 0: usualTimeout
	later   *outcome           // the outcome that asking again has in the end
	// breaks is set if it ends the connection that all share over TLS, or holds it up until danelaw gives it up
	breaks bool

	// The bounds of the work for the question, with the chain from the root; 0: the usual ones.
	checks, hashes, questions int
}

// transports returns the transports over which it is done.
func (m *misdeed) transports() []string {
	if m.over == nil {
		return transports
	}
	return m.over
}

// outcome returns the right outcome over a transport, and danelaw's timeout.
func (m *misdeed) outcome(over string) (outcome, time.Duration) {
	if o, other := m.instead[over]; other {
		return o, 0
	}
	return m.want, m.timeout
}

func (m *misdeed) plan() zones.Plan {
	if m.text == "" {
		m.text = mailZone
	}
	return zones.Plan{Name: m.zone, Text: m.text, Config: m.config, Fault: m.fault}
}

// question returns what is asked. A label makes it a question that nobody has asked before.
func (m *misdeed) question(label string) (string, uint16) {
	name := m.zone
	if m.ask != "" {
		name = m.ask + "." + name
	}
	if m.qtype == 0 {
		return label + name, dns.TypeMX
	}
	return label + name, m.qtype
}

const (
	short = 700 * time.Millisecond // a timeout for replies that never come

	servfail  = dns.RcodeServerFailure
	noReply   = dns.ExtendedErrorCodeNoReachableAuthority
	network   = dns.ExtendedErrorCodeNetworkError
	invalid   = dns.ExtendedErrorCodeInvalidData
	other     = dns.ExtendedErrorCodeOther
	noRRSIG   = dns.ExtendedErrorCodeRRSIGsMissing
	noNSEC    = dns.ExtendedErrorCodeNSECMissing
	noLink    = dns.ExtendedErrorCodeDNSSECIndeterminate
	badProof  = dns.ExtendedErrorCodeDNSBogus
	wrongKey  = dns.ExtendedErrorCodeDNSKEYMissing
	tooManyIt = dns.ExtendedErrorCodeUnsupportedNSEC3IterValue
)

// udp does something over UDP only. Over other transports the reply is honest.
func udp(act func(a *asked)) func(a *asked) {
	return func(a *asked) {
		if a.network == "udp" {
			act(a)
		} else {
			a.write(a.reply)
		}
	}
}

// change changes the honest reply.
func change(f func(a *asked, m *dns.Msg)) func(a *asked) {
	return func(a *asked) {
		f(a, a.reply)
		a.write(a.reply)
	}
}

// bytewise changes the octets of the honest reply.
func bytewise(f func(wire []byte) []byte) func(a *asked) {
	return func(a *asked) { a.send(f(pack(a.reply))) }
}

// data does something to questions for data. Questions for DS and DNSKEY are answered honestly.
func data(act func(a *asked)) func(a *asked) {
	return func(a *asked) {
		if t := a.q.Question[0].Qtype; t == dns.TypeDS || t == dns.TypeDNSKEY {
			a.write(a.reply)
		} else {
			act(a)
		}
	}
}

// times does act n times, and then does then.
func times(n int, act, then func(a *asked)) func(a *asked) {
	return func(a *asked) {
		for range n {
			act(a)
		}
		then(a)
	}
}

func honest(a *asked) { a.write(a.reply) }

func silent(*asked) {}

func late(d time.Duration) func(a *asked) {
	return func(a *asked) {
		a.wait(d)
		a.write(a.reply)
	}
}

func rcode(rcode int) func(a *asked) { return func(a *asked) { a.write(a.empty(rcode)) } }

// record parses a record, in which @ stands for the name asked.
func record(a *asked, text string) dns.RR {
	rr, err := dns.NewRR(strings.Replace(text, "@", a.q.Question[0].Name, 1))
	if err != nil {
		panic(err)
	}
	return rr
}

// forged makes the reply an unsigned answer that leads mail elsewhere, with AD set.
func forged(a *asked, m *dns.Msg) {
	m.Rcode, m.AuthenticatedData, m.Authoritative = dns.RcodeSuccess, true, true
	m.Answer, m.Ns = []dns.RR{record(a, "@ 300 MX 1 evil.example."), record(a, "@ 300 A 203.0.113.6")}, nil
}

// elsewhere sends forged replies from another address or port.
func elsewhere(local string) func(a *asked) {
	return func(a *asked) {
		forged(a, a.reply)
		from, err := net.ResolveUDPAddr("udp4", local)
		if err != nil {
			panic(err)
		}
		c, err := net.DialUDP("udp4", from, a.from.(*net.UDPAddr))
		if err != nil {
			return
		}
		defer c.Close()
		for range 20 {
			c.Write(pack(a.reply)) //nolint:errcheck // refused, as it should be
		}
	}
}

// flood adds n records to a section.
func flood(section func(m *dns.Msg) *[]dns.RR, n int, make func(a *asked, i int) dns.RR) func(a *asked) {
	return change(func(a *asked, m *dns.Msg) {
		s := section(m)
		for i := range n {
			*s = append(*s, make(a, i))
		}
	})
}

func answer(m *dns.Msg) *[]dns.RR     { return &m.Answer }
func authority(m *dns.Msg) *[]dns.RR  { return &m.Ns }
func additional(m *dns.Msg) *[]dns.RR { return &m.Extra }

// address returns the i-th address record of one RRset.
func address(a *asked, i int) dns.RR {
	return record(a, fmt.Sprintf("@ 300 A 10.0.%d.%d", i>>8, i&255))
}

// typed returns a record of the i-th unknown type, so that each makes an RRset.
func typed(a *asked, i int) dns.RR {
	return &dns.RFC3597{Hdr: dns.RR_Header{Name: a.q.Question[0].Name, Rrtype: uint16(1000 + i), Class: dns.ClassINET},
		Rdata: ""}
}

// padding makes m almost 64 kB long.
func padding(a *asked, m *dns.Msg) {
	m.Extra = append(m.Extra, record(a, "@ 300 TXT"+strings.Repeat(" "+strings.Repeat("p", 200),
		(dns.MaxMsgSize-2000-m.Len())/201)))
}

// pointer sets the compression pointer in the owner of the first answer.
func pointer(to int) func(wire []byte) []byte {
	return func(wire []byte) []byte {
		end := 12 + bytes.IndexByte(wire[12:], 0) + 5
		if binary.BigEndian.Uint16(wire[6:]) > 0 && wire[end] >= 0xC0 {
			at := to
			if at < 0 {
				at += end + 1 // relative to the pointer itself
			}
			binary.BigEndian.PutUint16(wire[end:], 0xC000|uint16(at))
		}
		return wire
	}
}

// options puts n options into the OPT.
func options(n int) func(a *asked, m *dns.Msg) {
	return func(_ *asked, m *dns.Msg) {
		for range n {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: 65001})
		}
	}
}

// slander answers SERVFAIL with error texts that are no text.
func slander(a *asked) {
	m := a.empty(servfail)
	for i := range 20 {
		text := "\x1b[2J\r\nall is well\x00\xff\xfe" + strings.Repeat("é", 200+i)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: uint16(i), ExtraText: text})
	}
	a.send(pack(m))
}

// piecemeal sets TC over UDP, and sends the message in pieces over other transports.
func piecemeal(size int, pause time.Duration) func(a *asked) {
	return truncatedThen(func(a *asked) {
		wire := pack(a.reply)
		a.whole.Lock() // so that the pieces of two replies do not mix
		defer a.whole.Unlock()
		for piece := range slices.Chunk(a.framed(wire), size) {
			if !a.raw(piece) {
				return
			}
			a.wait(pause)
		}
	})
}

// truncatedThen sets TC over UDP, and does something over other transports.
func truncatedThen(act func(a *asked)) func(a *asked) {
	return func(a *asked) {
		if a.network != "udp" {
			act(a)
			return
		}
		m := a.empty(dns.RcodeSuccess)
		m.Truncated = true
		a.write(m)
	}
}

// halves sends the message in two datagrams.
func halves(a *asked) {
	wire := pack(a.reply)
	a.send(wire[:len(wire)/2])
	a.send(wire[len(wire)/2:])
}

// lame answers with the referral of a server that does not serve the zone.
func lame(a *asked) {
	m := a.empty(dns.RcodeSuccess)
	m.RecursionAvailable = false
	m.Ns = []dns.RR{record(a, "com. 300 NS ns.com.")}
	a.write(m)
}

// referred turns a denial of DS into a referral to the zone with the same proof, as a server sends that does not
// recurse (RFC 5155 section 7.2.7).
func referred(a *asked, m *dns.Msg) {
	q := m.Question[0]
	if q.Qtype != dns.TypeDS || len(m.Answer) > 0 {
		return
	}
	m.RecursionAvailable, m.Authoritative = false, false
	m.Ns = slices.DeleteFunc(m.Ns, func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return rr.Header().Rrtype == dns.TypeSOA || ok && sig.TypeCovered == dns.TypeSOA
	})
	m.Ns = append(m.Ns, record(a, q.Name+" 300 NS ns."+q.Name))
}

// inCapitals returns the question in upper case.
func inCapitals(_ *asked, m *dns.Msg) { m.Question[0].Name = strings.ToUpper(m.Question[0].Name) }

// foreignCookie answers with a client cookie that is not danelaw's.
func foreignCookie(_ *asked, m *dns.Msg) {
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE,
		Cookie: "0123456789abcdef0123456789abcdef"})
}

// noCookies answers FORMERR to a query with a cookie, without the question.
var noCookies = toCookies(func(a *asked) {
	a.write(&dns.Msg{MsgHdr: dns.MsgHdr{Id: a.q.Id, Response: true, Rcode: dns.RcodeFormatError}})
})

// onlyCookie is a reply with nothing but the right cookie.
func onlyCookie(a *asked, m *dns.Msg) {
	m.Answer, m.Ns = nil, nil
	for _, o := range a.q.IsEdns0().Option {
		if c, ok := o.(*dns.EDNS0_COOKIE); ok {
			opt := m.IsEdns0()
			opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: c.Cookie[:16] +
				"0123456789abcdef"})
		}
	}
}

// toCookies does something to queries with a cookie.
func toCookies(act func(a *asked)) func(a *asked) {
	return func(a *asked) {
		for _, o := range a.q.IsEdns0().Option {
			if o.Option() == dns.EDNS0COOKIE {
				act(a)
				return
			}
		}
		honest(a)
	}
}

// firstLinkOnly answers with the first alias of a chain only.
func firstLinkOnly(_ *asked, m *dns.Msg) {
	first := m.Answer[:0]
	for _, rr := range m.Answer {
		if rr.Header().Name == m.Question[0].Name {
			first = append(first, rr)
		}
	}
	m.Answer = first
}

// endless answers each name with an alias to a new name.
func endless(a *asked) {
	labels := dns.SplitDomainName(a.q.Question[0].Name)
	zone := strings.Join(labels[len(labels)-2:], ".") + "."
	m := a.empty(dns.RcodeSuccess)
	m.Answer = []dns.RR{record(a, "@ 300 CNAME "+fmt.Sprintf("x%d.%s", time.Now().UnixNano(), zone))}
	a.write(m)
}

// wrongID sets an ID that no open question has. On a stream, the IDs of open questions follow one another.
func wrongID(_ *asked, m *dns.Msg) { m.Id ^= 0x8000 }

func anotherQuestion(_ *asked, m *dns.Msg) {
	m.Question = []dns.Question{{Name: "evil.example.", Qtype: dns.TypeMX, Qclass: dns.ClassINET}}
}

func anotherClass(_ *asked, m *dns.Msg) {
	m.Question = []dns.Question{{Name: m.Question[0].Name, Qtype: m.Question[0].Qtype, Qclass: dns.ClassCHAOS}}
}

// unasked sends replies to a question that was not asked, until danelaw closes the connection.
func unasked(a *asked) {
	wrongID(a, a.reply)
	for a.raw(a.framed(pack(a.reply))) {
	}
}

func deaf(_ *arena, _ *testing.T, h *hostile) { h.deaf = true }

// misdeeds are the misdeeds of upstreams over any transport.
func misdeeds() []*misdeed {
	good, answers := secure(dns.RcodeSuccess), secure(dns.RcodeSuccess)
	stripped := func(_ *asked, m *dns.Msg) {
		signed := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG }
		m.Answer, m.Ns = slices.DeleteFunc(m.Answer, signed), slices.DeleteFunc(m.Ns, signed)
	}
	unsigned := zones.Config{Unsigned: true}
	// where nobody can have slipped it in
	mismatched := map[string]outcome{dot: told(servfail, invalid), doh: told(servfail, invalid)}
	deep := strings.Repeat("a.", 110) + "a"
	return []*misdeed{
		{name: "late, after the second copy", act: late(600 * time.Millisecond), want: good},
		{name: "late, after the deadline", act: late(2 * time.Second), timeout: short, want: told(servfail, noReply),
			later: &answers},
		{name: "data after the links", act: data(late(200 * time.Millisecond)), want: good},
		{name: "silent", act: silent, timeout: short, want: told(servfail, noReply)},
		{name: "twice", act: times(2, honest, silent), want: good},
		{name: "a hundred times", over: []string{plain, dot}, act: times(100, honest, silent), want: good},

		{name: "wrong ID", act: change(wrongID), timeout: short, want: told(servfail, noReply),
			instead: map[string]outcome{doh: told(servfail, invalid)}},
		{name: "wrong IDs without end, honest over TCP", over: []string{plain},
			act: udp(times(50, change(wrongID), silent)), want: good},
		{name: "wrong IDs without end over a stream", over: []string{plain, dot}, act: truncatedThen(unasked),
			want: told(servfail, network)},
		{name: "forged ones with wrong IDs, then the answer", over: []string{plain, dot}, act: times(5, func(a *asked) {
			m := a.reply.Copy()
			forged(a, m)
			wrongID(a, m)
			a.write(m)
		}, honest), want: good},
		{name: "wrong question", act: change(anotherQuestion), timeout: short, want: told(servfail, noReply),
			instead: mismatched},
		{name: "wrong questions without end, honest over TCP", over: []string{plain},
			act: udp(times(50, change(anotherQuestion), silent)), want: good},
		{name: "wrong class in the question", act: change(anotherClass), timeout: short, want: told(servfail, noReply),
			instead: mismatched},
		{name: "from another port", over: []string{plain},
			act: udp(func(a *asked) { r := a.reply.Copy(); elsewhere("127.0.0.1:0")(a); a.write(r) }), want: good},
		{name: "from another address", over: []string{plain},
			act: udp(func(a *asked) { r := a.reply.Copy(); elsewhere("127.0.0.7:0")(a); a.write(r) }), want: good},
		{name: "a question for an answer", act: change(func(_ *asked, m *dns.Msg) { m.Response = false }),
			timeout: short,
			want:    told(servfail, noReply), instead: mismatched},

		{name: "cut in the middle", act: bytewise(func(w []byte) []byte { return w[:len(w)*2/3] }),
			want: told(servfail, invalid)},
		{name: "cut in the middle, honest over TCP", over: []string{plain},
			act: udp(bytewise(func(w []byte) []byte { return w[:len(w)*2/3] })), want: good},
		{name: "a header only", act: bytewise(func(w []byte) []byte { return w[:12] }), timeout: short,
			want: told(servfail, noReply), instead: mismatched},
		{name: "two halves", over: []string{plain}, act: udp(halves), want: good},
		{name: "octet by octet", act: piecemeal(1, 0), want: good},
		{name: "an octet now and then", act: piecemeal(1, 100*time.Millisecond), timeout: short,
			want: told(servfail, noReply), breaks: true},
		{name: "TC, and a dead TCP port", over: []string{plain}, act: truncatedThen(silent), own: deaf,
			want: told(servfail, network)},
		{name: "TC, and silent over TCP", over: []string{plain}, act: truncatedThen(silent), timeout: short,
			want: told(servfail, noReply)},
		{name: "TC over TCP too", act: change(func(_ *asked, m *dns.Msg) { m.Truncated = true }),
			want: told(servfail, invalid)},
		{name: "closes the connection", act: truncatedThen(func(a *asked) { a.shut() }), want: told(servfail, network)},
		{name: "a length that lies", over: []string{plain, dot},
			act:  truncatedThen(func(a *asked) { a.raw([]byte{0xff, 0xff, 1, 2, 3}); a.shut() }),
			want: told(servfail, network)},
		{name: "a length that lies, and nothing more", over: []string{plain, dot},
			act:     truncatedThen(func(a *asked) { a.raw([]byte{0xff, 0xff, 1, 2, 3}) }),
			timeout: short, want: told(servfail, noReply), breaks: true},
		{name: "a length of nothing", over: []string{plain, dot},
			act: truncatedThen(func(a *asked) { a.raw([]byte{0, 0}) }), want: told(servfail, network)},
		{name: "no end of it", act: truncatedThen(func(a *asked) {
			for a.raw(zeros) {
			}
		}), want: told(servfail, network), instead: map[string]outcome{doh: told(servfail, invalid)}},

		{name: "64 kB", act: change(padding), want: good},
		{name: "64 kB in a datagram", over: []string{plain},
			act: udp(func(a *asked) { padding(a, a.reply); a.send(pack(a.reply)) }), want: good},
		{name: "ten thousand records, in words", act: bytewise(func(w []byte) []byte {
			binary.BigEndian.PutUint16(w[6:], 10000)
			return w
		}), want: told(servfail, invalid)},
		{name: "a set of 3000 records", act: data(flood(answer, 3000, address)), want: told(servfail, other)},
		{name: "3000 sets in the answer", act: data(flood(answer, 3000, typed)), want: good},
		{name: "3000 sets in the authority", act: flood(authority, 3000, typed), want: good},
		{name: "3000 records beside", act: flood(additional, 3000, address), want: good},
		{name: "a pointer to itself", act: bytewise(pointer(-1)), want: told(servfail, invalid)},
		{name: "a pointer forward", act: bytewise(pointer(200)), want: told(servfail, invalid)},
		{name: "a pointer into the header", act: bytewise(pointer(2)), want: told(servfail, invalid)},
		{name: "octets after the end", act: bytewise(func(w []byte) []byte { return append(w, make([]byte, 300)...) }),
			want: good},

		{name: "FORMERR to EDNS", act: func(a *asked) { m := a.empty(dns.RcodeFormatError); m.Extra = nil; a.write(m) },
			want: told(servfail, noReply)},
		{name: "SERVFAIL in spite of CD", act: rcode(servfail), want: told(servfail, noReply)},
		{name: "SERVFAIL with CD only", act: func(a *asked) {
			if a.q.CheckingDisabled {
				rcode(servfail)(a)
			} else {
				honest(a)
			}
		}, want: good},
		{name: "REFUSED", act: rcode(dns.RcodeRefused), want: told(servfail, noReply)},
		{name: "NOTIMP", act: rcode(dns.RcodeNotImplemented), want: told(servfail, noReply)},
		{name: "BADVERS", act: rcode(dns.RcodeBadVers), want: told(servfail, noReply)},
		{name: "a lame referral", act: lame, want: told(servfail, noReply)},
		{name: "referrals with their proof", config: unsigned, act: change(referred), want: insecure(dns.RcodeSuccess)},
		{name: "another case", act: change(inCapitals), want: good},
		{name: "the cookies of others", act: udp(change(foreignCookie)), want: good},
		{name: "FORMERR to cookies, with nothing else", act: noCookies, want: good},
		{name: "nothing to cookies", act: toCookies(rcode(dns.RcodeSuccess)), want: good},
		{name: "nothing but a cookie to cookies", act: toCookies(change(onlyCookie)), want: good},
		{name: "stripped for cookies", act: toCookies(change(stripped)), want: good},
		{name: "truncated for cookies", act: toCookies(func(a *asked) {
			m := a.empty(dns.RcodeSuccess)
			m.Truncated = true
			a.write(m)
		}), want: good},
		{name: "links refused", act: func(a *asked) {
			if t := a.q.Question[0].Qtype; t == dns.TypeDNSKEY {
				rcode(dns.RcodeRefused)(a)
			} else {
				honest(a)
			}
		}, want: told(servfail, noLink)},
		{name: "two OPT", act: change(func(_ *asked, m *dns.Msg) { m.Extra = append(m.Extra, m.Extra[0]) }),
			want: told(servfail, invalid)},
		{name: "40 options", act: change(options(40)), want: told(servfail, invalid)},
		{name: "no OPT", act: change(func(_ *asked, m *dns.Msg) { m.Extra = nil }), want: good},
		{name: "slander", act: slander, want: told(servfail, noReply)},

		{name: "another name's answer", act: data(change(func(_ *asked, m *dns.Msg) {
			m.Answer = []dns.RR{&dns.MX{Hdr: dns.RR_Header{Name: "good.com.", Rrtype: dns.TypeMX, Class: dns.ClassINET,
				Ttl: 300}, Mx: "evil.example."}}
		})), want: told(servfail, noNSEC)},
		{name: "records of another class", act: data(change(func(_ *asked, m *dns.Msg) {
			for _, rr := range m.Answer {
				rr.Header().Class = dns.ClassCHAOS
			}
		})), want: told(servfail, noNSEC)},
		{name: "forged", act: change(forged), want: told(servfail, noNSEC)},
		{name: "forged data", act: data(change(forged)), want: told(servfail, noRRSIG)},
		{name: "stripped", act: change(stripped), want: told(servfail, noRRSIG)},
		{name: "forged, of an unsigned zone", config: unsigned, act: data(change(forged)),
			want: insecure(dns.RcodeSuccess)},
		{name: "AD of an unsigned zone", config: unsigned,
			act: change(func(_ *asked, m *dns.Msg) { m.AuthenticatedData = true }), want: insecure(dns.RcodeSuccess)},
		{name: "nothing", act: rcode(dns.RcodeSuccess), want: told(servfail, noNSEC)},
		{name: "no data", act: data(rcode(dns.RcodeSuccess)), want: told(servfail, noNSEC)},
		{name: "no data of an unsigned zone", config: unsigned, act: data(rcode(dns.RcodeSuccess)),
			want: insecure(dns.RcodeSuccess)},
		{name: "NXDOMAIN for everything", act: rcode(dns.RcodeNameError), want: told(servfail, noNSEC)},
		{name: "NXDOMAIN for all data", act: data(rcode(dns.RcodeNameError)), want: told(servfail, noNSEC)},
		{name: "110 labels without a signature", text: mailZone + deep + " MX 10 mx\n",
			act: data(change(func(a *asked, m *dns.Msg) {
				stripped(a, m)
				m.Ns = nil
			})), ask: deep, want: told(servfail, other), timeout: patience, checks: 128, questions: 115},

		{name: "aliases without end", act: data(endless), qtype: dns.TypeA, want: told(servfail, noRRSIG)},
		{name: "aliases without end in an unsigned zone", config: unsigned, act: data(endless), qtype: dns.TypeA,
			want: told(servfail, other)},
	}
}
