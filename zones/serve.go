package zones

import (
	"errors"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	udpSize   = 1232 // what the lab's servers send at most over UDP (RFC 9715)
	portTries = 20   // until a port is found that is free for UDP and TCP
)

// listener answers on one port of 127.0.0.1, over UDP and TCP.
type listener struct {
	addr    string
	servers []*dns.Server
}

// answerer makes the reply to a question; nil stands for SERVFAIL.
type answerer func(q dns.Question, do bool) *dns.Msg

// listen serves answer at an address until Close.
func listen(addr string, answer answerer) (*listener, error) {
	packets, stream, err := sockets(addr)
	if err != nil {
		return nil, err
	}
	l := &listener{addr: packets.LocalAddr().String()}
	for _, s := range []*dns.Server{{PacketConn: packets}, {Listener: stream, MaxTCPQueries: -1}} {
		started := make(chan struct{})
		s.Handler = answer
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe() //nolint:errcheck // it ends with Close
		<-started
		l.servers = append(l.servers, s)
	}
	return l, nil
}

// Listen serves answer at an address, over UDP and TCP, until end is called; at is the address, also where the port
// asked for was 0. A nil reply stands for SERVFAIL.
func Listen(addr string, answer func(q dns.Question, do bool) *dns.Msg) (at string, end func() error, err error) {
	l, err := listen(addr, answer)
	if err != nil {
		return "", nil, err
	}
	return l.addr, l.close, nil
}

// sockets opens a port for both transports: what the system hands out for one may be taken for the other.
func sockets(addr string) (packets net.PacketConn, stream net.Listener, err error) {
	for range portTries {
		if packets, err = net.ListenPacket("udp", addr); err != nil {
			return nil, nil, err
		}
		if stream, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			return packets, stream, nil
		}
		packets.Close()
	}
	return nil, nil, err
}

// close ends the service, once the questions being answered are.
func (l *listener) close() error {
	var errs []error
	for _, s := range l.servers {
		errs = append(errs, s.Shutdown())
	}
	return errors.Join(errs...)
}

// ServeDNS answers a query by the rules of EDNS (RFC 6891) and without cutting RRsets: what does not fit makes an empty
// reply with TC.
func (answer answerer) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	reply := answer.reply(query)
	if w.LocalAddr().Network() == "udp" {
		truncate(reply, query.IsEdns0())
	}
	w.WriteMsg(reply) //nolint:errcheck // the client is gone
}

func (answer answerer) reply(query *dns.Msg) *dns.Msg {
	opt, q := query.IsEdns0(), query.Question[0] // miekg's server lets no other number of questions through
	reply := new(dns.Msg)
	switch {
	case opt != nil && opt.Version() != 0:
		reply.Rcode = dns.RcodeBadVers
	case q.Qclass != dns.ClassINET:
		reply.Rcode = dns.RcodeRefused
	case q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR:
		reply.Rcode = dns.RcodeRefused
	default:
		reply = answer(q, opt != nil && opt.Do())
	}
	return dressed(reply, query, opt)
}

// dressed makes m the reply to query.
func dressed(m, query *dns.Msg, opt *dns.OPT) *dns.Msg {
	if m == nil {
		m = &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}
	}
	m.Id, m.Response, m.Question, m.Compress = query.Id, true, query.Question, true
	m.RecursionDesired, m.CheckingDisabled = query.RecursionDesired, query.CheckingDisabled
	if opt != nil {
		m.SetEdns0(udpSize, opt.Do())
	}
	return m
}

// truncate empties a reply that is too long for the client.
func truncate(m *dns.Msg, opt *dns.OPT) {
	size := dns.MinMsgSize
	if opt != nil {
		size = min(max(int(opt.UDPSize()), size), udpSize)
	}
	if m.Len() > size {
		m.Truncated, m.Answer, m.Ns = true, nil, nil
	}
}

// Authority is an authoritative server of several zones.
type Authority struct {
	Zones []*Zone
}

// Answer replies for the deepest zone to which the name belongs; DS at an apex belongs to the zone above, if that is
// here too (RFC 4035 section 3.1.4.1). It refuses other names.
func (a *Authority) Answer(q dns.Question, do bool) *dns.Msg {
	var best, apex *Zone
	for _, z := range a.Zones {
		switch name := dns.CanonicalName(q.Name); {
		case !dns.IsSubDomain(z.Name, name):
		case q.Qtype == dns.TypeDS && z.Name == name:
			apex = z
		case best == nil || dns.IsSubDomain(best.Name, z.Name):
			best = z
		}
	}
	if best == nil {
		best = apex
	}
	if best == nil {
		return &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Rcode: dns.RcodeRefused}, Question: []dns.Question{q}}
	}
	return best.Answer(q, do)
}

// exchangeTimeout is how long the recursor waits for a server of the lab, which is on the same host.
const exchangeTimeout = 2 * time.Second

// over is the server at addr, asked by UDP with DO, and again by TCP if the reply is truncated or lost. What concerned
// only this hop is not in the reply.
func over(addr string) Server {
	return func(q dns.Question) *dns.Msg {
		query := new(dns.Msg)
		query.Id = dns.Id()
		query.Question = []dns.Question{q}
		query.SetEdns0(udpSize, true)
		for _, network := range []string{"udp", "tcp"} {
			m, _, err := (&dns.Client{Net: network, Timeout: exchangeTimeout}).Exchange(query, addr)
			if err == nil && (network == "tcp" || !m.Truncated) {
				m.Extra = nil
				return m
			}
		}
		return nil
	}
}

// Answer is [Recursor.Resolve] for a client that may not set DO: without DO signatures and proofs are left out unless
// they were asked for (RFC 4035 section 3.2.1).
func (r *Recursor) Answer(q dns.Question, do bool) *dns.Msg {
	m := r.Resolve(q)
	if !do {
		unasked := func(rr dns.RR) bool {
			switch t := rr.Header().Rrtype; t {
			case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3:
				return t != q.Qtype && q.Qtype != dns.TypeANY
			}
			return false
		}
		m.Answer, m.Ns = slices.DeleteFunc(m.Answer, unasked), slices.DeleteFunc(m.Ns, unasked)
	}
	return m
}
