package differential

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// truth is what holds of a question in a tree in which nothing is broken.
type truth struct {
	status   dnssec.Status // Insecure or Secure
	rcode    int
	expanded bool     // some of it comes from a wildcard
	answer   []string // the records without signatures, TTLs and case, relative to the tree, sorted
}

// truth finds out what holds from a sound build of a case, by what its zones are and answer: no signature is looked at.
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
			end = last // the zone spoke of its own top, which is for the one above to do
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
	if q.Type == dns.TypeANY && !q.DO { // who does not want proofs has none of them in an answer of all types (V-75)
		t.answer = slices.DeleteFunc(t.answer, func(line string) bool { return strings.Contains(line, "\tnsec\t") })
	}
	slices.Sort(t.answer)
	t.answer = slices.Compact(t.answer)
	return t
}

// inCharge is the zone that answers for a name; nil for the root.
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

// status of a zone, by those above it.
func (c *Case) status(name string) dnssec.Status {
	for z := c.zone(name); z != nil; z = c.above(z.Name) {
		if z.Unsigned || z.Island || !slices.ContainsFunc(z.Algorithms, supported) {
			return dnssec.Insecure
		}
	}
	return dnssec.Secure
}

// supported algorithms are those that danelaw verifies by default (V-34, V-36).
func supported(a uint8) bool { return slices.Contains([]uint8{8, 10, 13, 14, 15, 16}, a) }

// most iterations that danelaw takes by default (V-61).
const mostIterations = 50

// proves is Insecure if a reply of the zone rests on NSEC3 records that prove no more than that: by their iterations,
// or by opt-out, under which only a match proves anything (V-51, V-54).
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

// expanded reports whether an answer has records made from a wildcard.
func expanded(rrs []dns.RR) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return ok && int(sig.Labels) < dns.CountLabel(strings.TrimPrefix(sig.Hdr.Name, "*."))
	})
}

// leave returns the name at which the aliases of a reply leave it to be asked on, "" if it is not to be, and their last
// name.
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

// sameTree stands for the name of any tree.
const sameTree = "tree."

// comparable is what an answer says, without what caches and their clients may change.
func comparable(tree string, rrs []dns.RR) (lines []string) {
	for _, rr := range rrs {
		if t := rr.Header().Rrtype; t == dns.TypeRRSIG {
			continue
		}
		rr = dns.Copy(rr)
		rr.Header().Ttl = 0
		if ds, ok := rr.(*dns.DS); ok {
			// of the name too, which is another one in each tree, and of what the key says of itself
			ds.Digest, ds.KeyTag = "", 0
		}
		lines = append(lines, strings.ReplaceAll(strings.ToLower(rr.String()), tree, sameTree))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// told reports whether a reply tells the truth. Of what there is at a name an answer to ANY may leave out some (RFC
// 8482 section 4.1).
func (t truth) told(q Question, got reply) bool {
	if q.Type == dns.TypeANY && len(got.answer) > 0 {
		return got.rcode == t.rcode && !slices.ContainsFunc(got.answer,
			func(rr string) bool { return !slices.Contains(t.answer, rr) })
	}
	return got.rcode == t.rcode && slices.Equal(got.answer, t.answer)
}

// judge says what danelaw's reply cannot be, given the truth; "" if it may be right.
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
		return "AD on what is not true"
	case q.CD:
		return "" // what there is may be told without being true
	case c.fatalTo(q) && got.rcode != dns.RcodeServerFailure:
		return "an answer in spite of a fatal fault"
	case !all(func(b *breaker) bool { return b.harmless }):
		return ""
	case got.rcode != t.rcode:
		return fmt.Sprintf("%s, want %s", dns.RcodeToString[got.rcode], dns.RcodeToString[t.rcode])
	case !got.ad && strings.Contains(got.ede, "27 ") &&
		(situation{c: c, q: q, truth: t, danelaw: got}).passes(c.skipsName):
		return "" // iterations-above-empty-name: by then the denial of the empty name may be known
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

// fatalTo reports whether the question is for an RRset that a fault makes Bogus, in a zone that is Secure but for it.
// Where a zone's denials are Insecure, so may be what should be signed there and below (V-61), and one fault more may
// make the zone Insecure.
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

// overLimit: all denials of the zone are Insecure (V-61).
func (z Zone) overLimit() bool { return z.hashed() && z.Iterations > mostIterations }

// provesLess: some of the denials of the zone are Insecure (V-51).
func (z Zone) provesLess() bool { return z.overLimit() || z.Denial == "optout" }
