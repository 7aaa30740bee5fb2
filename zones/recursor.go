package zones

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Server answers one question for the zones it serves; nil if it does not answer.
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

// maxHops bounds how many zones one alias chain may lead through.
const maxHops = 16

// Resolve answers q as a recursor does for a client that sets DO and CD. The case of the question is kept.
func (r *Recursor) Resolve(q dns.Question) *dns.Msg {
	reply := new(dns.Msg)
	reply.Response, reply.RecursionDesired, reply.RecursionAvailable = true, true, true
	reply.Question = []dns.Question{q}
	name := dns.CanonicalName(q.Name)
	for range maxHops {
		m := r.ask(dns.Question{Name: name, Qtype: q.Qtype, Qclass: q.Qclass})
		if m == nil {
			reply.Rcode, reply.Answer, reply.Ns = dns.RcodeServerFailure, nil, nil
			return reply
		}
		reply.Rcode = m.Rcode
		reply.Answer = append(reply.Answer, m.Answer...)
		reply.Ns = append(reply.Ns, m.Ns...)
		target := follow(reply.Answer, name, q.Qtype)
		if target == "" || hasSOA(m.Ns) {
			break
		}
		name = target
	}
	restoreCase(reply, q.Name)
	return reply
}

// follow returns the name at which the aliases that begin at name leave the answer, or "" if they end in data or there are none.
func follow(answer []dns.RR, name string, t uint16) string {
	if t == dns.TypeCNAME || t == dns.TypeANY || t == dns.TypeDS {
		return ""
	}
	for start := name; ; {
		next := ""
		for _, rr := range answer {
			if dns.CanonicalName(rr.Header().Name) != name {
				continue
			}
			if rr.Header().Rrtype == t {
				return ""
			}
			if alias, ok := rr.(*dns.CNAME); ok {
				next = dns.CanonicalName(alias.Target)
			}
		}
		switch {
		case next == "" && name == start:
			return ""
		case next == "" || next == start:
			return name
		}
		name = next
	}
}

func hasSOA(rrs []dns.RR) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// restoreCase writes the owner as it was asked, which is what compression makes of it in a real reply (0x20).
func restoreCase(m *dns.Msg, name string) {
	for _, rr := range m.Answer {
		if strings.EqualFold(rr.Header().Name, name) {
			rr.Header().Name = name
		}
	}
}

// ask returns the reply of the server in charge, or a cached one with its TTLs counted down.
func (r *Recursor) ask(q dns.Question) *dns.Msg {
	now := r.Clock()
	r.mu.Lock()
	c, ok := r.cache[q]
	r.mu.Unlock()
	if age := now.Sub(c.since); ok && age >= 0 && age < lifetime(c.msg) {
		return aged(c.msg, uint32(age/time.Second))
	}
	server := r.Servers[r.inCharge(q)]
	if server == nil {
		return nil
	}
	m := server(q)
	if m == nil || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError && m.Rcode != dns.RcodeYXDomain {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cache == nil {
		r.cache = map[dns.Question]cached{}
	}
	r.cache[q] = cached{m, now}
	return aged(m, 0)
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

// lifetime is the smallest TTL of a message.
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
