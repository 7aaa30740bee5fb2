package zones

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

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
	maxHops   = 16    // zones that one alias chain may lead through
	maxCached = 10000 // replies; when they are that many all are forgotten
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
