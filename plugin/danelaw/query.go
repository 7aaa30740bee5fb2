package danelaw

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// query is one message of a client.
type query struct {
	*dns.Msg
	w      dns.ResponseWriter
	client netip.Addr // of the transport; the zero one if it has none
	udp    bool
	opt    *dns.OPT // nil if there is none
	begun  time.Time
}

func newQuery(w dns.ResponseWriter, r *dns.Msg) *query {
	state := request.Request{W: w, Req: r}
	return &query{
		Msg: r, w: w, client: address(w.RemoteAddr()), udp: state.Proto() == "udp", opt: r.IsEdns0(), begun: time.Now(),
	}
}

func address(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	if u, ok := a.(interface{ AddrPort() netip.AddrPort }); ok { // *net.UDPAddr, *net.TCPAddr
		return u.AddrPort().Addr().Unmap().WithZone("")
	}
	p, _ := netip.ParseAddrPort(a.String())
	return p.Addr().Unmap().WithZone("")
}

// maxOptions is how many EDNS options one OPT may hold (L-14).
const maxOptions = 32

// malformed reports a query that cannot be answered: it has no question or several, records that no query has, or
// broken EDNS (S-2, S-22).
func (q *query) malformed() bool {
	opts := 0
	for _, rr := range slices.Concat(q.Answer, q.Ns, q.Extra) {
		if rr.Header().Rrtype == dns.TypeOPT {
			opts++
		}
	}
	switch {
	case len(q.Question) != 1 || opts > 1 || q.Opcode == dns.OpcodeQuery && q.overfull():
		return true
	case q.opt == nil:
		return opts > 0 // in another section (RFC 6891 section 6.1.1)
	default:
		return q.opt.Hdr.Name != "." || len(q.opt.Option) > maxOptions || !q.foreign() && !soundCookie(q.opt)
	}
}

// overfull reports records in a question for data: it has none but its OPT and, as the last, a signature (RFC 8945
// section 5.1, RFC 2931 section 3); IXFR has the client's SOA besides (RFC 1995 section 3).
func (q *query) overfull() bool {
	if len(q.Answer) > 0 || len(q.Ns) > 0 && q.Question[0].Qtype != dns.TypeIXFR {
		return true
	}
	for i, rr := range q.Extra {
		switch t := rr.Header().Rrtype; t {
		case dns.TypeOPT:
		case dns.TypeTSIG, dns.TypeSIG:
			if i < len(q.Extra)-1 {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// soundCookie reports whether the first COOKIE of an OPT, if there is one, has a length that there is: 8 octets of the
// client, and after them none or 8 to 32 of the server (RFC 7873 sections 4, 5.2.2).
func soundCookie(opt *dns.OPT) bool {
	for _, o := range opt.Option {
		if cookie, ok := o.(*dns.EDNS0_COOKIE); ok {
			octets := len(cookie.Cookie) / 2 // it is hexadecimal
			return octets == 8 || 16 <= octets && octets <= 40
		}
	}
	return true
}

// foreign reports a version of EDNS that danelaw does not speak (S-2). CoreDNS answers it, other servers leave it to
// us.
func (q *query) foreign() bool { return q.opt != nil && q.opt.Version() != 0 }

// name is the canonical name asked for.
func (q *query) name() string { return dns.CanonicalName(q.Question[0].Name) }

// question is what is asked, with the canonical name.
func (q *query) question() dns.Question {
	return dns.Question{Name: q.name(), Qtype: q.Question[0].Qtype, Qclass: q.Question[0].Qclass}
}

// qtype is the type asked for; 0 if nothing is.
func (q *query) qtype() uint16 {
	if len(q.Question) == 0 {
		return 0
	}
	return q.Question[0].Qtype
}

func (q *query) dnssecOK() bool { return q.opt != nil && q.opt.Do() }

// String names the query in the log.
func (q *query) String() string {
	if len(q.Question) != 1 {
		return "query without a question"
	}
	return describe(q.Question[0])
}

func describe(q dns.Question) string { return q.Name + " " + dns.Type(q.Qtype).String() }

// contains reports whether one of the prefixes holds the address.
func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// asker is who asks the question.
func (q *query) asker() asker { return asker{q.question(), q.client, q.begun} }
