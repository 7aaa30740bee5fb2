package zones

import (
	"cmp"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	udpSize   = 1232 // what the lab's servers send at most over UDP (RFC 9715)
	portTries = 20   // until a port is found that is free for UDP and TCP
)

// answerer makes the reply to a question; nil stands for SERVFAIL.
type answerer func(q dns.Question, do bool) *dns.Msg

// Listen serves answer at an address, over UDP and TCP, until end is called, which waits for the questions being
// answered; at is the address, also where the port asked for was 0. A nil reply stands for SERVFAIL.
func Listen(addr string, answer func(q dns.Question, do bool) *dns.Msg) (at string, end func() error, err error) {
	packets, stream, err := sockets(addr)
	if err != nil {
		return "", nil, err
	}
	udp, tcp := &dns.Server{PacketConn: packets}, &dns.Server{Listener: stream, MaxTCPQueries: -1}
	for _, s := range []*dns.Server{udp, tcp} {
		started := make(chan struct{})
		s.Handler = answerer(answer)
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe() //nolint:errcheck // it ends with end
		<-started
	}
	return packets.LocalAddr().String(), func() error { return errors.Join(udp.Shutdown(), tcp.Shutdown()) }, nil
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
	if best = cmp.Or(best, apex); best == nil {
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

// Server answers one question for the zones it serves; nil if it fails. The reply belongs to the caller.
type Server func(q dns.Question) *dns.Msg

// Recursor is a plain recursor that validates nothing: it asks the server of the deepest zone it knows, follows aliases
// across zones, hands on signatures and proofs, and caches. What is faulty passes untouched.
type Recursor struct {
	Servers map[string]Server // by zone
	Clock   func() time.Time

	mu    sync.Mutex
	cache map[dns.Question]cached
}

type cached struct {
	msg   *dns.Msg
	since time.Time
}

const (
	maxHops   = 16   // zones that one alias chain may lead through
	maxCached = 1000 // replies; when they are that many all are forgotten
)

// Resolve answers q as a recursor does for a client that sets DO; CD makes no difference to one that does not validate.
// The case of the question is kept.
func (r *Recursor) Resolve(q dns.Question) *dns.Msg {
	reply := new(dns.Msg)
	reply.Response, reply.RecursionDesired, reply.RecursionAvailable = true, true, true
	reply.Question = []dns.Question{q}
	if !r.gather(reply, dns.CanonicalName(q.Name), q) {
		reply.Rcode, reply.Answer, reply.Ns = dns.RcodeServerFailure, nil, nil
	}
	restoreCase(reply, q.Name)
	return reply
}

// gather collects the replies of the zones through which aliases lead; false if one of them fails.
func (r *Recursor) gather(reply *dns.Msg, name string, q dns.Question) bool {
	asked := []string{}
	for name != "" && !slices.Contains(asked, name) {
		if len(asked) == maxHops {
			return false
		}
		asked = append(asked, name)
		m := r.ask(dns.Question{Name: name, Qtype: q.Qtype, Qclass: q.Qclass})
		if m == nil {
			return false
		}
		reply.Rcode = m.Rcode
		reply.Answer = append(reply.Answer, m.Answer...)
		reply.Ns = append(reply.Ns, m.Ns...)
		if hasType(m.Ns, dns.TypeSOA) {
			return true
		}
		name = follow(m.Answer, name, q.Qtype)
	}
	return true
}

// follow returns the name at which the aliases that begin at name leave the answer; "" if there are none, or they end
// in data or go in a circle.
func follow(answer []dns.RR, name string, t uint16) string {
	if t == dns.TypeCNAME || t == dns.TypeANY {
		return ""
	}
	seen := []string{}
	for end := name; !slices.Contains(seen, end); {
		seen = append(seen, end)
		i := slices.IndexFunc(answer, func(rr dns.RR) bool {
			h := rr.Header()
			return dns.CanonicalName(h.Name) == end && (h.Rrtype == t || h.Rrtype == dns.TypeCNAME)
		})
		if i < 0 && end != name {
			return end
		}
		if i < 0 || answer[i].Header().Rrtype == t {
			return ""
		}
		end = dns.CanonicalName(answer[i].(*dns.CNAME).Target)
	}
	return ""
}

func hasType(rrs []dns.RR, t uint16) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool { return rr.Header().Rrtype == t })
}

// restoreCase writes owners as the name was asked, which is what compression makes of them in a real reply (0x20).
func restoreCase(m *dns.Msg, name string) {
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		if strings.EqualFold(rr.Header().Name, name) {
			rr.Header().Name = name
		}
	}
}

// ask returns the reply of the server in charge, or a cached one with its TTLs counted down; nil if there is no usable
// one.
func (r *Recursor) ask(q dns.Question) *dns.Msg {
	now := r.Clock()
	if m := r.cached(q, now); m != nil {
		return m
	}
	server := r.Servers[r.inCharge(q)]
	if server == nil {
		return nil
	}
	m := server(q)
	if m == nil || !usable(m) {
		return nil
	}
	r.keep(q, cached{m, now})
	return aged(m, 0)
}

// usable says whether m is an answer; a referral is none, as the recursor knows all servers itself.
func usable(m *dns.Msg) bool {
	switch m.Rcode {
	case dns.RcodeSuccess:
		return len(m.Answer) > 0 || hasType(m.Ns, dns.TypeSOA) || !hasType(m.Ns, dns.TypeNS)
	case dns.RcodeNameError, dns.RcodeYXDomain:
		return true
	}
	return false
}

func (r *Recursor) cached(q dns.Question, now time.Time) *dns.Msg {
	r.mu.Lock()
	c, ok := r.cache[q]
	r.mu.Unlock()
	if age := now.Sub(c.since); ok && age >= 0 && age < lifetime(c.msg) {
		return aged(c.msg, uint32(age/time.Second))
	}
	return nil
}

func (r *Recursor) keep(q dns.Question, c cached) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cache == nil || len(r.cache) == maxCached {
		r.cache = map[dns.Question]cached{}
	}
	r.cache[q] = c
}

// inCharge returns the zone to be asked: the deepest one, but for DS the one above.
func (r *Recursor) inCharge(q dns.Question) string {
	name := q.Name
	if q.Qtype == dns.TypeDS {
		name = parent(name)
	}
	for r.Servers[name] == nil && name != "." {
		name = parent(name)
	}
	return name
}

// lifetime is the smallest TTL of a message, at most an hour.
func lifetime(m *dns.Msg) time.Duration {
	least := uint32(3600)
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		least = min(least, rr.Header().Ttl)
	}
	return time.Duration(least) * time.Second
}

// aged returns a copy of m with TTLs counted down.
func aged(m *dns.Msg, age uint32) *dns.Msg {
	m = m.Copy()
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		rr.Header().Ttl -= min(age, rr.Header().Ttl)
	}
	return m
}
