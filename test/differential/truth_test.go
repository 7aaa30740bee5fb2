package differential

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// truth is the right answer to a question in a tree without faults.
type truth struct {
	status   dnssec.Status // Insecure or Secure
	rcode    int
	expanded bool     // some records are expanded from a wildcard
	answer   []string // see comparable; sorted
}

// truth finds the right answer from a tree built without faults: from the settings of its zones and from their answers.
// It looks at no signature.
func (c *Case) truth(tr *tree, q Question) truth {
	t := truth{status: dnssec.Secure}
	asked := []string{}
	for name := strings.ToLower(under(tr.name, q.Name)); name != "" && !slices.Contains(asked, name); {
		asked = append(asked, name)
		z := c.inCharge(relative(tr.name, name), q.Type)
		status, m := dnssec.Secure, (*dns.Msg)(nil)
		question := dns.Question{Name: name, Qtype: q.Type, Qclass: dns.ClassINET}
		if z == nil {
			m = tr.Zone(".").Answer(question, true)
		} else {
			status, m = c.status(z.Name), tr.zone(z.Name).Answer(question, true)
		}
		end, last := leave(m, name, q.Type)
		if q.Type == dns.TypeDS && last != name && c.inCharge(relative(tr.name, last), q.Type) != z {
			end = last // the zone answered for DS at its own apex, where the zone above has to
			if !expanded(m.Answer) {
				m.Ns = nil
			}
		}
		if z != nil {
			status = status.Join(z.proves(m, last))
		}
		if q.Type == dns.TypeRRSIG && has(m.Answer, last, dns.TypeRRSIG) {
			status = status.Join(dnssec.Insecure) // nothing signs signatures (V-25)
		}
		t.expanded = t.expanded || expanded(m.Answer)
		t.status, t.rcode = t.status.Join(status), m.Rcode
		t.answer = append(t.answer, comparable(tr.name, m.Answer)...)
		name = end
	}
	if q.Type == dns.TypeANY && !q.DO { // without DO an answer to ANY has no NSEC (V-75)
		t.answer = slices.DeleteFunc(t.answer, func(line string) bool { return strings.Contains(line, "\tnsec\t") })
	}
	slices.Sort(t.answer)
	t.answer = slices.Compact(t.answer)
	return t
}

// inCharge returns the zone that answers for a name, or nil for the root.
func (c *Case) inCharge(name string, t uint16) *Zone {
	if t != dns.TypeDS {
		z := c.zone(name)
		if z == nil {
			z = c.above(name)
		}
		return z
	}
	if name == top {
		return nil
	}
	return c.above(name)
}

// status returns the status of a zone, which depends on the zones above it.
func (c *Case) status(name string) dnssec.Status {
	for z := c.zone(name); z != nil; z = c.above(z.Name) {
		if z.Unsigned || z.Island || !slices.ContainsFunc(z.Algorithms, supported) {
			return dnssec.Insecure
		}
	}
	return dnssec.Secure
}

// supported reports whether danelaw verifies an algorithm by default (V-34, V-36).
func supported(a uint8) bool { return slices.Contains([]uint8{8, 10, 13, 14, 15, 16}, a) }

// mostIterations is how many NSEC3 iterations danelaw accepts by default (V-61).
const mostIterations = 50

// proves returns Insecure if a reply of the zone rests on NSEC3 records with too many iterations, or on opt-out, where
// only a record that matches the name proves anything (V-51, V-54).
func (z *Zone) proves(m *dns.Msg, last string) dnssec.Status {
	if !z.hashed() || !hasDenial(m.Ns) {
		return dnssec.Secure
	}
	if z.overLimit() {
		return dnssec.Insecure
	}
	matches := slices.ContainsFunc(m.Ns, func(rr dns.RR) bool {
		nsec3, ok := rr.(*dns.NSEC3)
		return ok && nsec3.Match(last)
	})
	if z.Denial == "optout" && (!matches || expanded(m.Answer)) {
		return dnssec.Insecure
	}
	return dnssec.Secure
}

func hasDenial(rrs []dns.RR) bool { return slices.ContainsFunc(rrs, isDenial) }

// expanded reports whether an answer has records that are expanded from a wildcard.
func expanded(rrs []dns.RR) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return ok && int(sig.Labels) < dns.CountLabel(strings.TrimPrefix(sig.Hdr.Name, "*."))
	})
}

// leave returns the name at which the aliases of a reply end, and the same name again if it has to be asked for in
// another question, else "".
func leave(m *dns.Msg, name string, t uint16) (end, last string) {
	last = name
	if t == dns.TypeCNAME || t == dns.TypeANY {
		return "", last
	}
	for range m.Answer {
		i := slices.IndexFunc(m.Answer, func(rr dns.RR) bool {
			return dns.CanonicalName(rr.Header().Name) == last && rr.Header().Rrtype == dns.TypeCNAME
		})
		if i < 0 {
			break
		}
		last = dns.CanonicalName(m.Answer[i].(*dns.CNAME).Target)
	}
	ends := has(m.Answer, last, t)
	soa := slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
	if last == name || ends || soa {
		return "", last
	}
	return last, last
}

func has(rrs []dns.RR, name string, t uint16) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool {
		return dns.CanonicalName(rr.Header().Name) == name && rr.Header().Rrtype == t
	})
}

// sameTree replaces the name of each tree, so that answers can be compared.
const sameTree = "tree."

// comparable returns the records of an answer as sorted lines, without what differs between trees and caches:
// signatures, TTLs, upper case and the name of the tree.
func comparable(tree string, rrs []dns.RR) (lines []string) {
	for _, rr := range rrs {
		if t := rr.Header().Rrtype; t == dns.TypeRRSIG {
			continue
		}
		rr = dns.Copy(rr)
		rr.Header().Ttl = 0
		if ds, ok := rr.(*dns.DS); ok {
			// both depend on the name of the tree, or on a fault in the key
			ds.Digest, ds.KeyTag = "", 0
		}
		lines = append(lines, strings.ReplaceAll(strings.ToLower(rr.String()), tree, sameTree))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// told reports whether a reply is the right one. An answer to ANY may leave out some of the records (RFC 8482 section
// 4.1).
func (t truth) told(q Question, got reply) bool {
	if q.Type == dns.TypeANY && len(got.answer) > 0 {
		return got.rcode == t.rcode && !slices.ContainsFunc(got.answer,
			func(rr string) bool { return !slices.Contains(t.answer, rr) })
	}
	return got.rcode == t.rcode && slices.Equal(got.answer, t.answer)
}

// judge returns what is wrong with danelaw's reply, given the right answer, or "" if it may be right.
func (c *Case) judge(q Question, got reply, t truth) string {
	if got.lost() {
		return ""
	}
	kinds := breakersOf(c)
	all := func(ok func(*breaker) bool) bool {
		return !slices.ContainsFunc(kinds, func(b *breaker) bool { return !ok(b) })
	}
	wantAD := t.status == dnssec.Secure && (q.DO || q.AD)
	switch {
	case got.ad && !wantAD && all(func(b *breaker) bool { return !b.lies }):
		return fmt.Sprintf("AD, but it is %s", t.status)
	case got.ad && all(func(b *breaker) bool { return !b.lies }) && !t.told(q, got):
		return "AD, but the answer is wrong"
	case q.CD:
		return "" // with CD, data may be returned that does not validate
	case c.fatalTo(q) && got.rcode != dns.RcodeServerFailure:
		return "an answer, but its RRset is Bogus"
	case !all(func(b *breaker) bool { return b.harmless }):
		return ""
	case got.rcode != t.rcode:
		return fmt.Sprintf("%s, want %s", dns.RcodeToString[got.rcode], dns.RcodeToString[t.rcode])
	case !got.ad && strings.Contains(got.ede, "27 ") &&
		(situation{c: c, q: q, truth: t, danelaw: got}).passes(c.skipsName):
		return "" // iterations-above-empty-name: the denial of the empty name may be in the cache
	case got.ad != wantAD:
		return "no AD, but it is Secure"
	}
	return ""
}

func breakersOf(c *Case) (all []*breaker) {
	for _, f := range c.Faults {
		all = append(all, breakers[f.Kind])
	}
	return all
}

// fatalTo reports whether the question is for an RRset that a fault makes Bogus, in a zone that is otherwise Secure. It
// is false below a zone whose denials are Insecure, since the RRset may then be Insecure (V-61), and where there is
// another fault, which may make the zone Insecure.
func (c *Case) fatalTo(q Question) bool {
	return len(c.Faults) == 1 && slices.ContainsFunc(c.Faults, func(f Fault) bool {
		for z := c.zone(f.Zone); z != nil; z = c.above(z.Name) {
			if z.overLimit() {
				return false
			}
		}
		return breakers[f.Kind].fatal && f.Owner == q.Name && (f.Type == q.Type || q.Type == dns.TypeANY) &&
			c.status(f.Zone) == dnssec.Secure
	})
}

// overLimit reports whether the zone has too many iterations, so that all its denials are Insecure (V-61).
func (z Zone) overLimit() bool { return z.hashed() && z.Iterations > mostIterations }

// provesLess reports whether some denials of the zone are Insecure (V-51, V-61).
func (z Zone) provesLess() bool { return z.overLimit() || z.Denial == "optout" }
