package differential

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// questionsPerTree is how many questions are asked about a tree: several, so that caches are tested as well.
const questionsPerTree = 8

// kinds are the names of all kinds of faults. Their order decides what a seed draws.
var kinds = slices.Sorted(maps.Keys(breakers))

// shares is into how many parts cases are divided: one for each kind of fault, and eight without a fault.
var shares = uint64(len(kinds) + 8)

// generate draws a case from its seed, which decides everything in it.
func generate(seed uint64) *Case {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), c: &Case{Seed: seed}}
	g.trees()
	for i := range g.c.Zones {
		g.records(i)
	}
	g.c.OneServer = g.one(4)
	if i := int(seed % shares); i < len(kinds) { // else there is no fault
		g.fault(kinds[i])
		if g.one(8) {
			g.fault(kinds[g.IntN(len(kinds))])
		}
	}
	for range questionsPerTree {
		g.question()
	}
	return g.c
}

type generator struct {
	*rand.Rand
	c *Case
}

// one returns true once in n times.
func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// trees draws the zones: a line of zones, each below the one before, and some that branch off.
func (g *generator) trees() {
	g.c.Zones = append(g.c.Zones, g.zone(top))
	for depth := 1 + g.IntN(5); len(g.c.Zones) < depth; {
		g.child(g.c.Zones[len(g.c.Zones)-1].Name)
	}
	for range g.IntN(4) {
		g.child(g.c.Zones[g.IntN(len(g.c.Zones))].Name)
	}
}

// child adds a zone below another, at times with an empty non-terminal between the two.
func (g *generator) child(parent string) {
	label := string(rune('a' + len(g.c.Zones)))
	if g.one(5) {
		label += ".ent-" + label
	}
	g.c.Zones = append(g.c.Zones, g.zone(join(label, parent)))
}

func (g *generator) zone(name string) Zone {
	z := Zone{Name: name, Denial: pick(g, "nsec", "nsec", "nsec", "nsec3", "nsec3", "nsec3",
		"optout", "optout", "compact")}
	if name != top && g.one(8) {
		return Zone{Name: name, Unsigned: true}
	}
	z.Algorithms = []uint8{pick[uint8](g, 13, 13, 13, 13, 13, 15, 15, 15, 15, 8, 8, 14, 10, 16)}
	if g.one(20) {
		z.Algorithms = []uint8{pick[uint8](g, 5, 7, 23, 17, 253, 100)}
	}
	if g.one(15) {
		z.Algorithms = append(z.Algorithms, pick[uint8](g, 8, 13, 15, 23))
	}
	if z.hashed() {
		z.Iterations = pick[uint16](g, 0, 0, 0, 1, 10, 50, 51, 200)
		z.Salt = pick(g, "", "", "aabbccdd", "00")
	}
	z.Digests = pick(g, []uint8{2}, []uint8{2}, []uint8{2}, []uint8{4}, []uint8{1}, []uint8{2, 4}, []uint8{1, 2})
	z.Island = name != top && g.one(12)
	z.Split = g.one(4)
	return z
}

// records draws the records of a zone.
func (g *generator) records(i int) {
	z := &g.c.Zones[i]
	add := func(format string, args ...any) { z.Records = append(z.Records, fmt.Sprintf(format, args...)) }
	add("@ MX 10 mx")
	add("mx A 192.0.2.25")
	add("www A 192.0.2.80")
	some := []func(){
		func() { add("mx AAAA 2001:db8::25") },
		func() { add("_25._tcp.mx TLSA 3 1 1 %064x", g.Uint64()) },
		func() { add("deep.under.ent A 192.0.2.1") },
		func() { add("www A 192.0.2.81") },
		func() { add(`www TXT "some text"`) },
		func() { add("*.wild A 192.0.2.2"); add("*.wild MX 10 mx") },
		func() { add("*.under.empty A 192.0.2.3"); add("host.*.stars A 192.0.2.3") },
		func() { add("* MX 20 mx") },
		func() {
			add("_tcp.*.names TLSA 3 1 1 %064x", g.Uint64())
			add("*._tcp.www TLSA 3 1 1 %064x", g.Uint64())
		},
		func() { add("alias CNAME %s", g.target(i)) },
		func() { add("_25._tcp.host CNAME %s", g.target(i)); add("host A 192.0.2.4") },
		func() { add("*.maybe CNAME %s", g.target(i)) },
		func() { add("dn DNAME %s", g.later(i)) },
	}
	for _, f := range some {
		if g.one(2) {
			f()
		}
	}
}

// target draws the target of an alias in the i-th zone: a name of any zone that is no alias, or an alias of a later
// zone, so that there are no loops.
func (g *generator) target(i int) string {
	name := pick(g, "www", "mx", "nope", "x.wild", "@", "ent", "_25._tcp.mx", "alias", "www.dn", "y.maybe")
	zone := g.c.Zones[g.IntN(len(g.c.Zones))].Name
	switch name {
	case "alias", "www.dn", "y.maybe":
		if i+1 == len(g.c.Zones) {
			return "mx"
		}
		zone = g.c.Zones[i+1+g.IntN(len(g.c.Zones)-i-1)].Name
	}
	return inTree(name, zone)
}

// later draws the top of a later zone; for the last zone it is a name in the zone itself.
func (g *generator) later(i int) string {
	if i+1 == len(g.c.Zones) {
		return "ent"
	}
	return inTree(top, g.c.Zones[i+1+g.IntN(len(g.c.Zones)-i-1)].Name)
}

// inTree returns a name of a zone as zone files have it.
func inTree(name, zone string) string {
	if name != top {
		zone = join(name, zone)
	}
	if zone == top {
		return "TREE."
	}
	return zone + ".TREE."
}

// fault draws a fault of some kind in a zone, usually a signed one.
func (g *generator) fault(kind string) {
	z := &g.c.Zones[g.IntN(len(g.c.Zones))]
	if unsigned := slices.IndexFunc(g.c.Zones, func(z Zone) bool { return z.Unsigned }); kind == "collated" &&
		unsigned >= 0 {
		z = &g.c.Zones[unsigned]
	} else if z.Unsigned {
		z = &g.c.Zones[0]
	}
	f := Fault{Kind: kind, Zone: z.Name, N: g.Uint64()}
	if b := breakers[f.Kind]; b.aim != nil {
		goal := b.aim(g.Rand, z)
		f.Owner, f.Type = goal.owner, goal.t
	} else if b.apply != nil {
		q := g.about(z)
		f.Type = pick(g, 0, q.Type, q.Type)
		if g.one(3) {
			f.Owner = q.Name
		}
	}
	g.c.Faults = append(g.c.Faults, f)
}

// question draws a question, mostly about something that is broken.
func (g *generator) question() {
	q := Question{}
	if len(g.c.Faults) > 0 && !g.one(4) {
		q = g.aimed(g.c.Faults[g.IntN(len(g.c.Faults))])
	} else {
		q = g.about(&g.c.Zones[g.IntN(len(g.c.Zones))])
	}
	flags := g.IntN(16)
	q.DO, q.AD, q.CD = flags&1 == 0, flags&2 == 0, flags >= 14
	g.c.Questions = append(g.c.Questions, q)
}

// aimed draws a question whose reply a fault may change.
func (g *generator) aimed(f Fault) Question {
	q := g.about(g.c.zone(f.Zone))
	if f.Owner != "" && !g.one(4) {
		q.Name = f.Owner
		if strings.HasPrefix(q.Name, "*.") && g.one(2) {
			q.Name = "x" + q.Name[1:]
		}
	}
	if f.Type != 0 && !g.one(4) {
		q.Type = f.Type
	}
	return q
}

// about draws a question about a zone.
func (g *generator) about(z *Zone) Question {
	name := pick(g, g.existing(z), g.existing(z), "nope", "nope.nope", "x.wild", "x.y.wild", "ent",
		"under.ent", "nope.ent",
		"_25._tcp.mx", "_tcp.mx", "_25._tcp.www", "_25._tcp.x.names", "below.alias", "alias", "alias", "x.maybe",
		"www.dn", "nope.dn", "dn",
		"x.under.empty", "empty", "zzz", "0", "*.wild", "*", "host", "_25._tcp.host")
	q := Question{Name: name, Type: pick(g, dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeMX,
		dns.TypeMX, dns.TypeTLSA,
		dns.TypeTLSA, dns.TypeTXT, dns.TypeCNAME, dns.TypeDS, dns.TypeDS, dns.TypeDNSKEY, dns.TypeNS,
		dns.TypeSOA, dns.TypeDNAME)}
	if g.one(16) {
		q.Type = g.odd()
	}
	if name == top {
		q.Name = z.Name
	} else {
		q.Name = join(name, z.Name)
	}
	return q
}

// odd draws a type that no mail host asks for. RFC 9824 does not say what a zone with compact denial answers for NSEC
// and RRSIG, which it makes on the spot, so a tree with such a zone, to which an alias may lead, is not asked for them.
func (g *generator) odd() uint16 {
	if slices.ContainsFunc(g.c.Zones, func(z Zone) bool { return z.Denial == "compact" }) {
		return pick(g, dns.TypeANY, dns.TypeNSEC3)
	}
	return pick(g, dns.TypeANY, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeRRSIG)
}

// existing draws a name that the zone has, relative to the zone.
func (g *generator) existing(z *Zone) string {
	owners := []string{top, "ns"}
	for _, r := range z.Records {
		owners = append(owners, strings.Fields(r)[0])
	}
	return owners[g.IntN(len(owners))]
}
