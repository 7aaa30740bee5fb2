package danelaw

import (
	"math"
	"net/netip"
	"slices"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// writer writes and counts replies.
type writer struct {
	adClients []netip.Prefix // who may receive AD (V-78)
	ednsSize  uint16         // in octets (S-1)
	meter     *meter
	history   *history
	failures  flood
}

// send writes a reply in the form that the client and its transport can take, and returns what ServeDNS has to.
func (w *writer) send(q *query, re reply) int {
	m := w.message(q, re)
	w.meter.replied(re.verdict, q.qtype(), q.begun)
	w.history.replied(re.verdict, q.begun)
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			w.meter.told(o.(*dns.EDNS0_EDE).InfoCode)
		}
	}
	if clog.D.Value() {
		log.Debugf("%s from %s: %s, %s, AD=%t, after %v", q, q.client, re.verdict, dns.RcodeToString[re.rcode],
			m.AuthenticatedData, time.Since(q.begun).Round(time.Microsecond))
	}
	if err := w.write(q, m); err != nil {
		w.unwritten(q, m, err)
	}
	return dns.RcodeSuccess
}

// write writes m, which fits. CoreDNS would measure it once more, by the size that the client has, and turn compression
// off if it seems to fit without; so for as long as it writes, the query says how much room there is (S-1).
func (w *writer) write(q *query, m *dns.Msg) error {
	if q.udp && q.opt != nil {
		size := q.opt.UDPSize()
		q.opt.SetUDPSize(uint16(w.roomFor(q)))
		defer q.opt.SetUDPSize(size)
	}
	return q.w.WriteMsg(m)
}

// unwritten sends SERVFAIL instead of a reply that cannot be packed, so that the client does not wait. After any other
// error the client has gone.
func (w *writer) unwritten(q *query, m *dns.Msg, err error) {
	if _, unpacked := m.Pack(); unpacked == nil {
		return
	}
	if w.failures.open() {
		log.Errorf("%s: the reply cannot be packed: %v", q, err)
	}
	_ = w.write(q, w.message(q, crash(q)))
}

// message makes the DNS message of a reply.
func (w *writer) message(q *query, re reply) *dns.Msg {
	m := new(dns.Msg)
	m.Id, m.Response, m.Opcode = q.Id, true, q.Opcode
	m.RecursionDesired, m.CheckingDisabled, m.RecursionAvailable = q.RecursionDesired, q.CheckingDisabled, true
	m.Question = q.Question[:min(1, len(q.Question))] // as it came (S-24)
	m.Rcode, m.Truncated, m.Compress = re.rcode, re.truncated, true
	m.Answer, m.Ns = re.answer, re.ns
	m.AuthenticatedData = re.secure && w.wantsAD(q)
	if !q.dnssecOK() {
		m.Answer, m.Ns = resolve.Plain(q.qtype(), m.Answer), resolve.Plain(q.qtype(), m.Ns) // V-75
	}
	asCame(m)
	if q.opt != nil {
		m.Extra = []dns.RR{w.opt(q, re.notes)}
	}
	fit(m, w.roomFor(q))
	return m
}

// asCame has the names in m that are part of the name asked for, which a reply compresses to it, in the case of the
// question, as in what is packed (S-24).
func asCame(m *dns.Msg) {
	if len(m.Answer)+len(m.Ns) == 0 || m.Question[0].Name == dns.CanonicalName(m.Question[0].Name) {
		return
	}
	const question = 12 // where it begins (RFC 1035 section 4.1)
	var cased dns.Msg
	packed := *m
	packed.Question = []dns.Question{dnssec.Question(dns.CanonicalName(m.Question[0].Name), m.Question[0].Qtype)}
	wire, err := packed.Pack()
	if err != nil {
		return // send tells it
	}
	if _, err = dns.PackDomainName(m.Question[0].Name, wire, question, nil, false); err != nil {
		return
	}
	if dnssec.Unpack(&cased, wire) == nil {
		m.Answer, m.Ns = cased.Answer, cased.Ns
	}
}

// wantsAD reports whether the client understands AD (V-74) and may believe it (V-78).
func (w *writer) wantsAD(q *query) bool {
	return (q.dnssecOK() || q.AuthenticatedData) && contains(w.adClients, q.client)
}

// loopbackSize is the EDNS size for clients on this host, where nothing gets fragmented (S-1).
const loopbackSize = 4096

// size is the EDNS size that danelaw offers to a client.
func (w *writer) size(client netip.Addr) uint16 {
	if client.IsLoopback() {
		return loopbackSize
	}
	return w.ednsSize
}

// room is how many octets a reply may have (S-1), for a client whose OPT, if there is one, says a size.
func (w *writer) room(client netip.Addr, udp, edns bool, size uint16) int {
	switch {
	case !udp:
		return math.MaxUint16
	case !edns:
		return dns.MinMsgSize
	default:
		return int(min(max(size, dns.MinMsgSize), w.size(client)))
	}
}

// roomFor is room for the reply to a query.
func (w *writer) roomFor(q *query) int {
	if q.opt == nil {
		return w.room(q.client, q.udp, false, 0)
	}
	return w.room(q.client, q.udp, true, q.opt.UDPSize())
}

// opt is the OPT of a reply, with DO as in the query (RFC 3225 section 3).
func (w *writer) opt(q *query, notes []*dnssec.Failure) *dns.OPT {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(w.size(q.client))
	opt.SetDo(q.dnssecOK())
	opt.Option = resolve.Errors(notes)
	return opt
}

// fit makes m no larger than size: first by leaving out Extended DNS Errors, the last first (S-15), then by whole
// RRsets, the last first, with TC (S-3). A message of which nothing is left vouches for nothing (V-77).
func fit(m *dns.Msg, size int) {
	if exceeds(m, size) {
		measurable(m.Answer)
		measurable(m.Ns)
	}
	if opt := m.IsEdns0(); opt != nil {
		for len(opt.Option) > 0 && exceeds(m, size) {
			opt.Option = opt.Option[:len(opt.Option)-1]
		}
	}
	for exceeds(m, size) && len(m.Answer)+len(m.Ns) > 0 {
		m.Truncated = true
		if len(m.Ns) > 0 {
			m.Ns = withoutLast(m.Ns)
		} else {
			m.Answer = withoutLast(m.Answer)
		}
	}
	if m.Truncated && len(m.Answer)+len(m.Ns) == 0 {
		m.AuthenticatedData = false
	}
}

// exceeds reports whether m is larger than size: most replies are not even without compression, which is dearer to
// measure.
func exceeds(m *dns.Msg, size int) bool {
	plain := *m
	plain.Compress = false
	return plain.Len() > size && m.Len() > size
}

// measurable turns records into octets of which the library measures more than it writes: two octets for a signature,
// up to fourteen for an NSEC3. What it measures decides what CoreDNS cuts (S-3).
func measurable(rrs []dns.RR) {
	for i, rr := range rrs {
		switch rr.Header().Rrtype {
		case dns.TypeRRSIG, dns.TypeDNSKEY, dns.TypeNSEC, dns.TypeNSEC3:
			if raw := new(dns.RFC3597); raw.ToRFC3597(rr) == nil {
				rrs[i] = raw
			}
		}
	}
}

// withoutLast returns rrs without those of the RRset, and its signatures, that the last one is of.
func withoutLast(rrs []dns.RR) []dns.RR {
	last := setOf(rrs[len(rrs)-1])
	return slices.DeleteFunc(rrs, func(rr dns.RR) bool { return setOf(rr) == last })
}

// setOf is the question for the RRset that a record, or a signature, belongs to.
func setOf(rr dns.RR) dns.Question {
	set := dnssec.Question(dns.CanonicalName(rr.Header().Name), rr.Header().Rrtype)
	if set.Qtype == dns.TypeRRSIG {
		if sig, ok := dnssec.Typed(rr).(*dns.RRSIG); ok {
			set.Qtype = sig.TypeCovered
		}
	}
	return set
}
