//go:build linux

package servers

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// The scripted server has faults that no zone file can have: faults of replies. Its zones lie below lie., which is
// signed with NSEC, and lie3., with NSEC3.

// spoiler changes a reply before it is sent.
type spoiler func(q dns.Question, m *dns.Msg) *dns.Msg

// lies builds the tree of the scripted server.
func lies() *world.Tree {
	plans := []zones.Plan{liar("lie.", nil, zones.Fault{}), liar("lie3.", new(zones.NSEC3), zones.Fault{})}
	for _, l := range lieTable {
		var hash *zones.NSEC3
		if strings.HasSuffix(l.name, ".lie3.") {
			hash = &zones.NSEC3{Iterations: 1, Salt: "aabb"}
		}
		plan := liar(l.name, hash, l.fault)
		if l.text != "" {
			plan.Text = fmt.Sprintf(l.text, l.name)
		}
		if l.config != nil {
			l.config(&plan.Config)
		}
		plans = append(plans, plan)
	}
	return world.New(time.Now, plans...)
}

func liar(name string, hash *zones.NSEC3, f zones.Fault) zones.Plan {
	text := fmt.Sprintf(base, name, "ns", scripted.address()) + full + "real.wild A 192.0.2.9\n"
	return zones.Plan{Name: name, Text: text, Config: zones.Config{NSEC3: hash}, Fault: f}
}

// tell starts the scripted server and returns the DS of its top-level domains.
func tell(t *testing.T) []*dns.DS {
	t.Helper()
	tree := lies()
	world.Serve(t, net.JoinHostPort(scripted.address(), "53"), tree.Authority().Answer)
	return append(tree.DS("lie."), tree.DS("lie3.")...)
}

// spoils returns the fault that changes a zone's replies by s.
func spoils(s spoiler) zones.Fault { return zones.Fault{Zone: func(z *zones.Zone) { z.Spoil(s) }} }

// denies returns a fault that changes the denials of a zone by f.
func denies(f func(z *zones.Zone, q dns.Question, m *dns.Msg)) zones.Fault {
	return zones.Fault{Zone: func(z *zones.Zone) {
		z.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
			if len(m.Answer) == 0 && !infrastructure(z, q) {
				f(z, q, m)
			}
			return m
		})
	}}
}

// infrastructure reports whether resolvers ask q to find the zone. The replies to such questions are left alone, or
// they would not find it.
func infrastructure(z *zones.Zone, q dns.Question) bool {
	name := dns.CanonicalName(q.Name)
	return name == z.Name || name == "ns."+z.Name
}

// drop removes the i-th NSEC or NSEC3 RRset from the authority section.
func drop(m *dns.Msg, i int) {
	var owners []string
	for _, rr := range m.Ns {
		if isDenial(rr) && !slices.Contains(owners, rr.Header().Name) {
			owners = append(owners, rr.Header().Name)
		}
	}
	if i < len(owners) {
		m.Ns = slices.DeleteFunc(m.Ns, func(rr dns.RR) bool {
			return rr.Header().Name == owners[i] && covers(rr) != dns.TypeSOA
		})
	}
}

func isDenial(rr dns.RR) bool {
	t := rr.Header().Rrtype
	return t == dns.TypeNSEC || t == dns.TypeNSEC3
}

// covers returns the type of a record; for a signature, the type that it covers.
func covers(rr dns.RR) uint16 {
	if sig, ok := rr.(*dns.RRSIG); ok {
		return sig.TypeCovered
	}
	return rr.Header().Rrtype
}

// only returns the records of the given types, with their signatures.
func only(rrs []dns.RR, types ...uint16) []dns.RR {
	return slices.DeleteFunc(slices.Clone(rrs), func(rr dns.RR) bool { return !slices.Contains(types, covers(rr)) })
}

// dropping is the fault of denials without their i-th NSEC or NSEC3 record.
func dropping(i int) zones.Fault {
	return denies(func(_ *zones.Zone, _ dns.Question, m *dns.Msg) { drop(m, i) })
}

// replayed is the fault of denials with the zone's proof about another of its names.
func replayed(name string) zones.Fault {
	return denies(func(z *zones.Zone, _ dns.Question, m *dns.Msg) { m.Ns = z.Proof(name + "." + z.Name) })
}

// fromParent puts the records of the zone above about the zone cut into denials.
func fromParent(parent, zone *zones.Zone) {
	proof := only(parent.Proof(zone.Name), dns.TypeNSEC, dns.TypeNSEC3)
	zone.Spoil(func(_ dns.Question, m *dns.Msg) *dns.Msg {
		if len(m.Answer) == 0 {
			m.Ns = append(only(m.Ns, dns.TypeSOA), proof...)
		}
		return m
	})
}

// fromChild answers for DS, and refers, with the denial record of the zone below at its own apex (V-50c).
func fromChild(parent, zone *zones.Zone) {
	proof := zone.Proof(zone.Name)
	parent.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
		if !dns.IsSubDomain(zone.Name, dns.CanonicalName(q.Name)) {
			return m
		}
		m.Answer = only(m.Answer, dns.TypeNS)
		m.Ns = append(only(m.Ns, dns.TypeNS), proof...)
		return m
	})
}

// rcode is the fault of denials with another RCODE.
func rcode(n int) zones.Fault {
	return denies(func(_ *zones.Zone, _ dns.Question, m *dns.Msg) { m.Rcode = n })
}

// resigned is the fault of denials whose records are changed and signed again.
func resigned(change func(dns.RR)) zones.Fault {
	return denies(func(z *zones.Zone, _ dns.Question, m *dns.Msg) {
		kept := only(m.Ns, dns.TypeSOA)
		for _, rr := range m.Ns {
			if isDenial(rr) {
				kept = append(kept, signedAgain(z, rr, change)...)
			}
		}
		m.Ns = kept
	})
}

func signedAgain(z *zones.Zone, rr dns.RR, change func(dns.RR)) []dns.RR {
	rr = dns.Copy(rr)
	change(rr)
	now, rrs := time.Now(), []dns.RR{rr}
	return append(rrs, world.Sign(rrs, now.Add(-time.Hour), now.Add(validity), z.Keys[0])...)
}

// other returns the same zone, with the same keys, and with other NSEC3 parameters or with NSEC.
func other(z *zones.Zone, hash *zones.NSEC3) *zones.Zone {
	plan := liar(z.Name, hash, zones.Fault{})
	plan.Config.Keys = z.Keys
	return world.New(time.Now, plan).Zone(z.Name)
}

// mixed is the fault of denials without their i-th record, to which the proof of another version of the zone is added
// without its j-th record.
func mixed(hash *zones.NSEC3, i, j int) zones.Fault {
	return zones.Fault{Zone: func(z *zones.Zone) {
		twin := other(z, hash)
		z.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
			if len(m.Answer) > 0 || infrastructure(z, q) {
				return m
			}
			added := &dns.Msg{Ns: only(twin.Proof(q.Name), dns.TypeNSEC, dns.TypeNSEC3)}
			drop(added, j)
			drop(m, i)
			m.Ns = append(m.Ns, added.Ns...)
			return m
		})
	}}
}

// answers returns a fault that changes the replies with data by f.
func answers(f func(z *zones.Zone, q dns.Question, m *dns.Msg)) zones.Fault {
	return zones.Fault{Zone: func(z *zones.Zone) {
		z.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
			if len(m.Answer) > 0 && q.Qtype != dns.TypeDNSKEY && q.Qtype != dns.TypeNS && q.Qtype != dns.TypeSOA {
				f(z, q, m)
			}
			return m
		})
	}}
}

// wildcardForName answers for the address of a name that exists with the expanded wildcard.
func wildcardForName(z *zones.Zone) {
	expanded := z.Answer(dns.Question{Name: "x.wild." + z.Name, Qtype: dns.TypeA, Qclass: dns.ClassINET}, true).Answer
	z.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
		if q.Qtype == dns.TypeA && strings.HasPrefix(strings.ToLower(q.Name), "real.wild.") {
			m.Answer = nil
			for _, rr := range expanded {
				rr = dns.Copy(rr)
				rr.Header().Name = q.Name
				m.Answer = append(m.Answer, rr)
			}
		}
		return m
	})
}

// hideDNAME denies names below a DNAME with the NSEC of the DNAME's owner (V-50b).
func hideDNAME(z *zones.Zone) {
	z.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
		if name := dns.CanonicalName(q.Name); name != "old."+z.Name && dns.IsSubDomain("old."+z.Name, name) {
			m.Rcode, m.Answer, m.Ns = dns.RcodeNameError, nil, z.Proof(name)
		}
		return m
	})
}

// expandNSEC denies with the wildcard's NSEC under the name asked (V-50e).
func expandNSEC(z *zones.Zone, q dns.Question, m *dns.Msg) {
	kept := only(m.Ns, dns.TypeSOA)
	for _, rr := range only(z.Proof("*.wild."+z.Name), dns.TypeNSEC) {
		rr = dns.Copy(rr)
		rr.Header().Name = q.Name
		kept = append(kept, rr)
	}
	m.Ns = kept
}

// badSignatures makes the signatures over one type in a section wrong.
func badSignatures(rrs []dns.RR, t uint16) {
	for i, rr := range rrs {
		if sig, ok := rr.(*dns.RRSIG); ok && sig.TypeCovered == t {
			rrs[i] = dns.Copy(rr)
			corrupt(rrs[i].(*dns.RRSIG))
		}
	}
}

// timed signs the answer again at the time of the reply, with an inception and an expiration close to it (V-20).
func timed(inception, expiration time.Duration) zones.Fault {
	return answers(func(z *zones.Zone, _ dns.Question, m *dns.Msg) {
		m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
		now := time.Now()
		m.Answer = append(m.Answer, world.Sign(m.Answer, now.Add(inception), now.Add(expiration), z.Keys[0])...)
	})
}

// signedTwice adds a signature by the zone above to the address of mx; own and above may then change the signatures
// (V-7).
func signedTwice(own, above func(*dns.RRSIG)) zones.Fault {
	return zones.Fault{Parent: func(parent, zone *zones.Zone) {
		zone.Edit("mx."+zone.Name, dns.TypeA, func(rrs, sigs []dns.RR) (_, _ []dns.RR) {
			now := time.Now()
			others := world.Sign(rrs, now.Add(-time.Hour), now.Add(validity), parent.Keys[0])
			own(sigs[0].(*dns.RRSIG))
			above(others[0].(*dns.RRSIG))
			return rrs, append(sigs, others...)
		})
	}}
}

// healing is a zone whose server gives each answer with a wrong signature the first time, and then rightly.
var healing struct {
	sync.Mutex
	told map[dns.Question]bool
}

// relapse makes it give wrong signatures again.
func relapse() {
	healing.Lock()
	defer healing.Unlock()
	healing.told = map[dns.Question]bool{}
}

func heal(_ *zones.Zone, q dns.Question, m *dns.Msg) {
	healing.Lock()
	defer healing.Unlock()
	q.Name = dns.CanonicalName(q.Name)
	if !healing.told[q] {
		healing.told[q] = true
		badSignatures(m.Answer, q.Qtype)
	}
}

func whole(*dns.RRSIG) {}

// withUseless adds an NSEC3 with an unknown hash algorithm, which is to be ignored, for each one that is there (V-15a,
// V-59).
func withUseless(z *zones.Zone, _ dns.Question, m *dns.Msg) {
	for _, rr := range m.Ns {
		if isDenial(rr) {
			m.Ns = append(m.Ns, signedAgain(z, rr, func(rr dns.RR) {
				hash := []byte(strings.Split(rr.Header().Name, ".")[0])
				slices.Reverse(hash) // or both would be one RRset
				rr.Header().Name, rr.(*dns.NSEC3).Hash = string(hash)+"."+z.Name, 2
			})...)
		}
	}
}

// alone is the text of a zone with no name but its apex, so that its chain has one record (V-63).
const alone = `$ORIGIN %s
$TTL 3600
@ SOA ns.lie3. hostmaster 1 3600 900 1209600 300
@ NS ns.lie3.
`

// garbage adds a wrong signature to one over an expanded wildcard. By its Labels the answer is not expanded (V-49).
func garbage(m *dns.Msg) {
	for _, rr := range m.Answer {
		if sig, ok := rr.(*dns.RRSIG); ok {
			bad := dns.Copy(sig).(*dns.RRSIG)
			corrupt(bad)
			bad.Labels = uint8(dns.CountLabel(bad.Hdr.Name))
			m.Answer = append(m.Answer, bad)
			return
		}
	}
}

func record(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err) // a mistake in this file
	}
	return rr
}

// lie is a zone of the scripted server.
type lie struct {
	name   string
	text   string // instead of the usual text
	fault  zones.Fault
	config func(*zones.Config)
}

// lieTable are the zones of the scripted server. The questions about them are lieQuestions.
var lieTable = []lie{
	{name: "honest.lie."}, {name: "honest.lie3."},
	{name: "parent-proof.lie.", fault: zones.Fault{Parent: fromParent}},
	{name: "parent-proof.lie3.", fault: zones.Fault{Parent: fromParent}},
	{name: "child-proof.lie.", fault: zones.Fault{Parent: fromChild}},
	{name: "child-proof.lie3.", fault: zones.Fault{Parent: fromChild}},
	{name: "half0.lie.", fault: dropping(0)}, {name: "half1.lie.", fault: dropping(1)},
	{name: "half0.lie3.", fault: dropping(0)}, {name: "half1.lie3.", fault: dropping(1)},
	{name: "half2.lie3.", fault: dropping(2)},
	{name: "single.lie3.", text: alone},
	{name: "single-short.lie3.", text: alone, fault: resigned(func(rr dns.RR) {
		n := rr.(*dns.NSEC3)
		n.NextDomain = strings.ToUpper(strings.Split(n.Hdr.Name, ".")[0][:31]) + "V"
	})},
	{name: "useless-beside.lie3.", fault: denies(withUseless)},
	{name: "soon-valid.lie.", fault: timed(150*time.Second, time.Hour)},
	{name: "later-valid.lie.", fault: timed(10*time.Minute, time.Hour)},
	{name: "just-expired.lie.", fault: timed(-time.Hour, -time.Second)},
	{name: "two-zones.lie.", fault: signedTwice(whole, whole)},
	{name: "two-zones-own.lie.", fault: signedTwice(whole, corrupt)},
	{name: "two-zones-above.lie.", fault: signedTwice(corrupt, whole)},
	{name: "two-zones-wrong.lie.", fault: signedTwice(corrupt, corrupt)},
	{name: "heals.lie.", fault: answers(heal)},
	{name: "left-to-right.lie.", fault: replayed("oe")},
	{name: "by-case.lie.", fault: replayed("a0")},
	{name: "replayed.lie.", fault: replayed("zzz")}, {name: "replayed.lie3.", fault: replayed("zzz")},
	{name: "no-proof.lie.", fault: denies(func(_ *zones.Zone, _ dns.Question,
		m *dns.Msg) {
		m.Ns = only(m.Ns, dns.TypeSOA)
	})},
	{name: "no-proof.lie3.", fault: denies(func(_ *zones.Zone, _ dns.Question,
		m *dns.Msg) {
		m.Ns = only(m.Ns, dns.TypeSOA)
	})},
	{name: "no-soa.lie.", fault: denies(func(_ *zones.Zone, _ dns.Question,
		m *dns.Msg) {
		m.Ns = only(m.Ns, dns.TypeNSEC)
	})},
	{name: "bad-soa.lie.", fault: denies(func(_ *zones.Zone, _ dns.Question,
		m *dns.Msg) {
		badSignatures(m.Ns, dns.TypeSOA)
	})},
	{name: "bad-soa.lie3.", fault: denies(func(_ *zones.Zone, _ dns.Question,
		m *dns.Msg) {
		badSignatures(m.Ns, dns.TypeSOA)
	})},
	{name: "nothing-at-all.lie.", fault: denies(func(_ *zones.Zone, _ dns.Question, m *dns.Msg) { m.Ns = nil })},
	{name: "name-error.lie.", fault: rcode(dns.RcodeNameError)},
	{name: "name-error.lie3.", fault: rcode(dns.RcodeNameError)},
	{name: "no-error.lie.", fault: rcode(dns.RcodeSuccess)}, {name: "no-error.lie3.", fault: rcode(dns.RcodeSuccess)},
	{name: "compact.lie.", config: func(c *zones.Config) { c.Compact = true }},
	{name: "compact-error.lie.", config: func(c *zones.Config) { c.Compact = true }, fault: denies(
		func(_ *zones.Zone, _ dns.Question, m *dns.Msg) {
			if strings.Contains(m.Ns[len(m.Ns)-2].String(), "TYPE128") ||
				strings.Contains(m.Ns[len(m.Ns)-2].String(), "NXNAME") {
				m.Rcode = dns.RcodeNameError
			}
		})},
	{name: "unknown-hash.lie3.", fault: resigned(func(rr dns.RR) { rr.(*dns.NSEC3).Hash = 2 })},
	{name: "unknown-flag.lie3.", fault: resigned(func(rr dns.RR) { rr.(*dns.NSEC3).Flags = 2 })},
	{name: "next-outside.lie.", fault: resigned(func(rr dns.RR) { rr.(*dns.NSEC).NextDomain = "zzz.lie." })},
	{name: "hidden-dname.lie.", fault: zones.Fault{Zone: hideDNAME}},
	{name: "hidden-dname.lie3.", fault: zones.Fault{Zone: hideDNAME}},
	{name: "expanded-nsec.lie.", fault: denies(expandNSEC)},
	{name: "mixed-kinds.lie3.", fault: mixed(nil, 1, 0)},
	{name: "both-kinds.lie3.", fault: mixed(nil, 9, 9)},
	{name: "mixed-salts.lie3.", fault: mixed(&zones.NSEC3{Salt: "cc"}, 1, 0)},
	{name: "both-salts.lie3.", fault: mixed(&zones.NSEC3{Salt: "cc"}, 9, 9)},
	{name: "salt-off.lie3.", fault: resigned(func(rr dns.RR) {
		if n := rr.(*dns.NSEC3); !n.Match("salt-off.lie3.") {
			n.Salt, n.SaltLength = "cc", 1
		}
	})},
	{name: "over-limit-beside.lie3.", fault: mixed(&zones.NSEC3{Iterations: 500}, 9, 0)},
	{name: "wildcard-for-name.lie.", fault: zones.Fault{Zone: wildcardForName}},
	{name: "wildcard-for-name.lie3.", fault: zones.Fault{Zone: wildcardForName}},
	{name: "wildcard-unproven.lie.", fault: answers(func(_ *zones.Zone, _ dns.Question, m *dns.Msg) { m.Ns = nil })},
	{name: "wildcard-unproven.lie3.", fault: answers(func(_ *zones.Zone, _ dns.Question, m *dns.Msg) { m.Ns = nil })},
	{name: "garbage.lie.", fault: answers(func(_ *zones.Zone, _ dns.Question, m *dns.Msg) { garbage(m) })},
	{name: "garbage-unproven.lie.", fault: answers(func(_ *zones.Zone, _ dns.Question,
		m *dns.Msg) {
		garbage(m)
		m.Ns = nil
	})},
	{name: "stripped.lie.", fault: zones.Faults["stripped-signatures"]},
	{name: "stripped.lie3.", fault: zones.Faults["stripped-signatures"]},
	{name: "stripped-answer.lie.", fault: answers(func(_ *zones.Zone, _ dns.Question, m *dns.Msg) {
		m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
	})},
	{name: "one-more.lie.", fault: answers(func(_ *zones.Zone, q dns.Question, m *dns.Msg) {
		m.Answer = append(m.Answer, record(fmt.Sprintf("%s 3600 A 192.0.2.66", q.Name)))
	})},
	{name: "twice.lie.", fault: answers(func(_ *zones.Zone, _ dns.Question,
		m *dns.Msg) {
		m.Answer = append(m.Answer, m.Answer...)
	})},
	{name: "reversed.lie.", fault: spoils(func(_ dns.Question, m *dns.Msg) *dns.Msg {
		slices.Reverse(m.Answer)
		slices.Reverse(m.Ns)
		return m
	})},
	{name: "junk.lie.", fault: answers(func(z *zones.Zone, _ dns.Question, m *dns.Msg) {
		m.Ns = append(m.Ns, record(fmt.Sprintf("%s 3600 NS ns.%[1]s", z.Name)),
			record(fmt.Sprintf("%s 3600 TXT junk", z.Name)))
		m.Extra = append(m.Extra, record(fmt.Sprintf("ns.%s 3600 A %s", z.Name, scripted.address())))
	})},
	{name: "two-aliases.lie.", fault: answers(func(z *zones.Zone, q dns.Question, m *dns.Msg) {
		m.Answer = append(m.Answer, record(fmt.Sprintf("%s 3600 CNAME ns.%s", q.Name, z.Name)))
	})},
	{name: "wrong-cname.lie.", fault: answers(func(z *zones.Zone, _ dns.Question, m *dns.Msg) {
		for _, rr := range m.Answer {
			if cname, ok := rr.(*dns.CNAME); ok {
				cname.Target = "ns." + z.Name
			}
		}
	})},
	{name: "no-cname.lie.", fault: answers(func(_ *zones.Zone, _ dns.Question, m *dns.Msg) {
		m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeCNAME })
	})},
	{name: "no-zone-key.lie.", fault: zones.Faults["no-zone-key-bit"]},
	{name: "revoked.lie.", config: func(c *zones.Config) { c.Flags = dns.ZONE | dns.SEP | dns.REVOKE }},
	{name: "no-sep.lie.", config: func(c *zones.Config) { c.Flags = dns.ZONE }},
	{name: "stripped-ds.lie.", fault: zones.Faults["stripped-ds"]},
	{name: "stripped-ds.lie3.", fault: zones.Faults["stripped-ds"]},
	{name: "collated.lie.", config: func(c *zones.Config) { c.Unsigned = true },
		fault: zones.Faults["collated-denial"]},
	{name: "collated.lie3.", config: func(c *zones.Config) { c.Unsigned = true },
		fault: zones.Faults["collated-denial"]},
	{name: "servfail.lie.", fault: zones.Faults["tlsa-servfail"]},
}

var lieQuestions = []question{
	ask("V-46", "mx.honest.lie.", "AAAA", secure),
	ask("V-47", "nothing.honest.lie.", "A", absent),
	ask("V-53", "nothing.honest.lie3.", "A", absent),
	ask("V-57", "x.wild.honest.lie3.", "A", secure).behind(either(proofless, secure), kresd),
	ask("V-50a", "mx.parent-proof.lie.", "AAAA", noDenial),
	ask("V-50a", "parent-proof.lie.", "AAAA", noDenial),
	ask("V-50a V-58", "mx.parent-proof.lie3.", "AAAA", noDenial),
	ask("V-50a V-58", "parent-proof.lie3.", "AAAA", noDenial),
	ask("V-8 V-50c", "child-proof.lie.", "MX", noDenial).behind(unlinked, "bind", "bind-validating"),
	ask("V-8 V-50c", "child-proof.lie3.", "MX", noDenial).behind(unlinked, "bind", "bind-validating"),
	ask("V-47", "nothing.half0.lie.", "A", noDenial),
	ask("V-47", "nothing.half1.lie.", "A", noDenial),
	ask("V-52 V-53", "nothing.half0.lie3.", "A", noDenial),
	ask("V-52 V-53", "nothing.half1.lie3.", "A", noDenial),
	ask("V-52 V-53", "nothing.half2.lie3.", "A", noDenial),
	ask("V-63", "nothing.single.lie3.", "A", absent),
	ask("V-63", "nothing.single-short.lie3.", "A", noDenial),
	ask("V-15a", "nothing.useless-beside.lie3.", "A", absent),
	ask("V-20", "mx.soon-valid.lie.", "A", secure),
	ask("V-20", "mx.later-valid.lie.", "A", tooNew),
	ask("V-20", "mx.just-expired.lie.", "A", tooOld),
	ask("V-7", "mx.two-zones.lie.", "A", secure),
	ask("V-7", "mx.two-zones-own.lie.", "A", secure),
	ask("V-7", "mx.two-zones-above.lie.", "A", secure),
	ask("V-7", "mx.two-zones-wrong.lie.", "A", bogus),
	// Upstreams that do not validate keep the first reply, unless they happen to ask twice.
	ask("V-14 V-73", "mx.heals.lie.", "A", either(bogus, secure)).behind(secure,
		"unbound-validating", "bind-validating"),
	ask("V-31", "oe.zz.left-to-right.lie.", "A", noDenial),
	ask("V-31", "Zlast.by-case.lie.", "A", noDenial),
	ask("V-46", "mx.replayed.lie.", "AAAA", noDenial),
	ask("V-47", "nothing.replayed.lie.", "A", noDenial),
	ask("V-54", "mx.replayed.lie3.", "AAAA", noDenial),
	ask("V-46", "mx.no-proof.lie.", "AAAA", noDenial),
	ask("V-47", "nothing.no-proof.lie.", "A", noDenial),
	ask("V-54", "mx.no-proof.lie3.", "AAAA", noDenial),
	ask("V-50i", "mx.no-soa.lie.", "AAAA", secure).behind(refused, "bind", "bind-validating"),
	ask("V-50i", "mx.bad-soa.lie.", "AAAA", secure),
	ask("V-50i", "nothing.bad-soa.lie3.", "A", absent),
	ask("V-13", "mx.nothing-at-all.lie.", "AAAA", noDenial),
	ask("V-48a", "mx.name-error.lie.", "AAAA", secure),
	ask("V-48 V-48a", "b.ent.name-error.lie.", "A", secure),
	ask("V-48a V-54", "b.ent.name-error.lie3.", "A", secure),
	ask("V-48a", "nothing.no-error.lie.", "A", absent),
	ask("V-48a", "nothing.no-error.lie3.", "A", absent),
	ask("V-69", "nothing.compact.lie.", "A", secure),
	ask("V-69", "mx.compact.lie.", "AAAA", secure),
	ask("V-69", "x.wild.compact.lie.", "A", secure),
	ask("V-69", "nothing.compact-error.lie.", "A", secure),
	ask("V-59", "mx.unknown-hash.lie3.", "AAAA", bogus),
	ask("V-59", "mx.unknown-flag.lie3.", "AAAA", bogus),
	ask("V-50d", "mx.next-outside.lie.", "AAAA", bogus).behind(noDenial, "unbound", "dnsmasq", "coredns").
		behind(either(bogus, noDenial), "unbound-validating"),
	ask("V-50b", "mx.old.hidden-dname.lie.", "A", noDenial),
	ask("V-50b V-52", "mx.old.hidden-dname.lie3.", "A", noDenial),
	ask("V-50e", "x.wild.expanded-nsec.lie.", "AAAA", bogus),
	ask("V-50g", "nothing.mixed-kinds.lie3.", "A", noDenial),
	ask("V-50g", "nothing.both-kinds.lie3.", "A", absent),
	ask("V-60", "nothing.mixed-salts.lie3.", "A", noDenial),
	ask("V-60", "nothing.both-salts.lie3.", "A", absent),
	ask("V-60", "nothing.salt-off.lie3.", "A", noDenial),
	ask("V-60", "nothing.over-limit-beside.lie3.", "A", absent),
	ask("V-49 C-15", "real.wild.wildcard-for-name.lie.", "A", noDenial),
	ask("V-57 C-15", "real.wild.wildcard-for-name.lie3.", "A", noDenial),
	ask("V-49", "x.wild.wildcard-unproven.lie.", "A", noDenial),
	ask("V-57", "x.wild.wildcard-unproven.lie3.", "A", noDenial),
	ask("V-49 V-22", "x.wild.garbage.lie.", "A", secure).behind(either(proofless, secure), kresd),
	ask("V-49 V-22", "x.wild.garbage-unproven.lie.", "A", noDenial),
	ask("V-13", "stripped.lie.", "MX", noSig),
	ask("V-13", "mx.stripped.lie3.", "AAAA", noSig).behind(either(noSig, refused), "bind-validating"),
	ask("V-13", "mx.stripped-answer.lie.", "A", noSig),
	ask("V-22", "mx.one-more.lie.", "A", bogus),
	ask("V-26", "mx.twice.lie.", "A", secure),
	ask("V-30 V-66", "mx.old.reversed.lie.", "A", secure),
	ask("V-47 L-3", "nothing.reversed.lie.", "A", absent),
	ask("V-72", "mx.junk.lie.", "A", secure),
	ask("V-67", "alias.two-aliases.lie.", "A", either(bogus, noSig)).behind(refused, "bind",
		"bind-validating").behind(failed, "pdns").
		behind(either(either(bogus, noSig), secure), kresd), // which may leave out one of them
	ask("V-66", "mx.old.wrong-cname.lie.", "A", secure),
	ask("V-66", "mx.old.no-cname.lie.", "A", secure),
	ask("V-4 V-41", "no-zone-key.lie.", "MX", noZone),
	ask("V-5", "revoked.lie.", "MX", noZone),
	ask("V-3", "no-sep.lie.", "MX", secure),
	ask("V-10 V-13", "stripped-ds.lie.", "MX", noDenial),
	ask("V-10 V-13", "stripped-ds.lie3.", "MX", noDenial),
	ask("V-50h", "mx.collated.lie.", "AAAA", insecure),
	ask("V-50h", "mx.collated.lie3.", "AAAA", insecure),
	ask("S-14 D-17", "_25._tcp.mx.servfail.lie.", "TLSA", refused),
	ask("D-17", "mx.servfail.lie.", "A", secure),
}
