package zones

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// internet holds the zone files of the lab and its table.
//
//go:embed internet
var internet embed.FS

// Config says how a zone is signed. The zero value, with the times filled in, is an ECDSA P-256 key and NSEC.
type Config struct {
	Unsigned              bool
	Algorithms            []uint8 // one key of each; default 13
	Flags                 uint16  // of the keys; default 257
	Split                 bool    // a zone-signing key beside each
	NSEC3                 *NSEC3  // nil: NSEC
	Compact               bool    // compact denial of existence (RFC 9824) instead of a chain
	Digests               []uint8 // of the DS in the zone above; default 2
	Inception, Expiration time.Time
	Keys                  []*Key // instead of fresh ones
	// each RRset is signed when a reply first needs it; then the zone must not change Keys or Config
	Lazy bool
}

// NSEC3 are the parameters of a hashed denial (RFC 5155).
type NSEC3 struct {
	Iterations uint16
	Salt       string // hex
	OptOut     bool
}

// Zone is an authoritative zone in memory, signed or not. Change it only before it is served.
type Zone struct {
	Name string
	Keys []*Key // where some have the SEP flag and some have not, those sign the DNSKEY RRset and these all others
	// Reply, if set, may spoil a reply before it is sent: the faults that no zone file can carry. Nil stands for
	// SERVFAIL.
	Reply func(q dns.Question, m *dns.Msg) *dns.Msg

	config Config
	nodes  map[string]node // by canonical owner
	inner  map[string]int  // how many owners are below a name, by each name between them and the apex
	chain  []link          // the denial records in their order
}

// node is what one owner has, by type. NSEC3 belong to no node: their owners do not exist (RFC 5155 section 7.2.8).
type node map[uint16]*rrset

type rrset struct {
	rrs  []dns.RR
	sigs []dns.RR
	late func() // makes sigs, once; nil if there are to be none, or they are there
}

// sign makes the signatures that are still to be made.
func (s *rrset) sign() {
	if s.late != nil {
		s.late()
	}
}

// link is one NSEC or NSEC3 of the chain: its place in the order, which is the owner or its hash, and the record.
type link struct {
	place []string
	owner string
	set   *rrset
}

// Parse reads a zone in zone-file form; name is its apex and origin. $INCLUDE finds the files of the lab, such as
// mail.zone. Nothing is signed yet.
func Parse(name, text string) (*Zone, error) {
	z := &Zone{Name: dns.CanonicalName(name), nodes: map[string]node{}, inner: map[string]int{}}
	p := dns.NewZoneParser(strings.NewReader(text), z.Name, "internet/"+z.Name)
	p.SetDefaultTTL(3600)
	p.SetIncludeAllowed(true)
	p.SetIncludeFS(internet)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		z.Add(rr)
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("zone %s: %w", z.Name, err)
	}
	if z.set(z.Name, dns.TypeSOA) == nil {
		return nil, fmt.Errorf("zone %s has no SOA", z.Name)
	}
	return z, nil
}

// Add puts records into a zone that is not signed yet.
func (z *Zone) Add(rrs ...dns.RR) {
	for _, rr := range rrs {
		owner := dns.CanonicalName(rr.Header().Name)
		if z.nodes[owner] == nil {
			z.nodes[owner] = node{}
			z.lead(owner, 1)
		}
		set := z.nodes[owner][rr.Header().Rrtype]
		if set == nil {
			set = &rrset{}
			z.nodes[owner][rr.Header().Rrtype] = set
		}
		set.rrs = append(set.rrs, rr)
	}
}

// Remove takes an RRset out of a zone that is not signed yet.
func (z *Zone) Remove(owner string, t uint16) {
	if z.set(owner, t) == nil {
		return
	}
	delete(z.nodes[owner], t)
	if len(z.nodes[owner]) == 0 {
		delete(z.nodes, owner)
		z.lead(owner, -1)
	}
}

// lead counts one more, or one less, owner below the names that lead to it.
func (z *Zone) lead(owner string, one int) {
	for owner != z.Name && owner != "." {
		owner = parent(owner)
		z.inner[owner] += one
	}
}

// Records returns a copy of the RRset of owner and type; none if there is none.
func (z *Zone) Records(owner string, t uint16) (rrs []dns.RR) {
	if set := z.set(dns.CanonicalName(owner), t); set != nil {
		for _, rr := range set.rrs {
			rrs = append(rrs, dns.Copy(rr))
		}
	}
	return rrs
}

// Owners returns the names that have records of type t, sorted.
func (z *Zone) Owners(t uint16) (owners []string) {
	for owner, n := range z.nodes {
		if n[t] != nil {
			owners = append(owners, owner)
		}
	}
	slices.Sort(owners)
	return owners
}

// Edit changes records and signatures of one RRset of a signed zone; what f returns takes their place.
func (z *Zone) Edit(owner string, t uint16, f func(rrs, sigs []dns.RR) (newRRs, newSigs []dns.RR)) {
	if set := z.set(owner, t); set != nil {
		set.sign()
		set.rrs, set.sigs = f(set.rrs, set.sigs)
	}
}

// Spoil adds f to what is done to replies: it comes after those added before, unless one of them made it a SERVFAIL.
func (z *Zone) Spoil(f func(q dns.Question, m *dns.Msg) *dns.Msg) {
	before := z.Reply
	z.Reply = func(q dns.Question, m *dns.Msg) *dns.Msg {
		if before != nil {
			m = before(q, m)
		}
		if m == nil {
			return nil
		}
		return f(q, m)
	}
}

func (z *Zone) set(owner string, t uint16) *rrset { return z.nodes[owner][t] }

// cut returns the delegation at or above name; "" if there is none.
func (z *Zone) cut(name string) (cut string) {
	for ; name != z.Name && name != "."; name = parent(name) {
		if z.set(name, dns.TypeNS) != nil {
			cut = name
		}
	}
	return cut
}

// dname returns the owner of the DNAME above name, or "".
func (z *Zone) dname(name string) string {
	for name != z.Name && name != "." {
		if name = parent(name); z.set(name, dns.TypeDNAME) != nil {
			return name
		}
	}
	return ""
}

// authoritative says whether the zone answers for an RRset itself: not for glue, nor for a delegation's NS.
func (z *Zone) authoritative(owner string, t uint16) bool {
	cut := z.cut(owner)
	return cut == "" || cut == owner && (t == dns.TypeDS || t == dns.TypeNSEC)
}

// exists says whether name is in the zone, with records or as an empty non-terminal. What leads to glue alone, below a
// delegation, is not in it.
func (z *Zone) exists(name string) bool {
	return z.nodes[name] != nil || z.inner[name] > 0 && z.cut(name) == ""
}

// encloser returns the closest existing ancestor of name.
func (z *Zone) encloser(name string) string {
	for name != z.Name && !z.exists(name) {
		name = parent(name)
	}
	return name
}

// types returns the type bit map of an owner.
func (z *Zone) types(owner string, more ...uint16) []uint16 {
	types := more
	for t := range z.nodes[owner] {
		if z.authoritative(owner, t) || t == dns.TypeNS {
			types = append(types, t)
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// negativeTTL is the TTL of denials and their records (RFC 2308 section 5, RFC 9077).
func (z *Zone) negativeTTL() uint32 {
	soa := z.set(z.Name, dns.TypeSOA).rrs[0].(*dns.SOA)
	return min(soa.Hdr.Ttl, soa.Minttl)
}

func (z *Zone) header(owner string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: t, Class: dns.ClassINET, Ttl: z.negativeTTL()}
}

// canonicalOrder turns a name into its labels from the right, whose order is that of RFC 4034 section 6.1.
func canonicalOrder(name string) (labels []string) {
	wire := make([]byte, 256)
	end, err := dns.PackDomainName(name, wire, 0, nil, false)
	if err != nil {
		panic(err) // it came from a parsed message or zone file
	}
	for off := 0; off < end-1; off += 1 + int(wire[off]) {
		labels = append(labels, string(wire[off+1:off+1+int(wire[off])]))
	}
	slices.Reverse(labels)
	return labels
}

// parent returns the name one label shorter; that of the root is the root. The lab shares no code with the validator
// that it is there to test.
func parent(name string) string {
	if i, end := dns.NextLabel(name, 0); !end {
		return name[i:]
	}
	return "."
}

// below returns the name one label longer than ancestor on the way to name.
func below(ancestor, name string) string {
	for parent(name) != ancestor {
		name = parent(name)
	}
	return name
}

// child returns the name with label in front.
func child(label, name string) string { return label + "." + strings.TrimPrefix(name, ".") }

// Plan is one zone of a world that is to be built.
type Plan struct {
	Name, Text string      // as for [Parse]; NS and glue for delegations come from the zones below
	Config     Config      // by default signatures are valid from an hour before now, for [validity]
	Fault      Fault       // what is wrong with it
	Edit       func(*Zone) // if set, changes the zone before it is signed
}

// World is a tree of zones.
type World struct {
	zones map[string]*Zone
}

// validity is how long signatures of a world are valid: as long as those of most zones.
const validity = 14 * 24 * time.Hour

// Build parses, delegates, signs and breaks the zones of a world. A zone hangs from the deepest zone above it that is
// there; that zone gets its NS, glue and DS (an unsigned one no DS).
func Build(now time.Time, plans ...Plan) (*World, error) {
	w := &World{zones: map[string]*Zone{}}
	if err := w.parse(plans, now); err != nil {
		return nil, err
	}
	keys := new(ring)
	deepestFirst := slices.SortedStableFunc(slices.Values(plans), func(a, b Plan) int {
		return dns.CountLabel(b.Name) - dns.CountLabel(a.Name)
	})
	for _, p := range deepestFirst {
		z := w.zones[dns.CanonicalName(p.Name)]
		if err := z.sign(z.config, keys); err != nil {
			return nil, err
		}
		if above := w.above(z.Name); above != nil {
			above.delegate(z, p.Fault)
		}
	}
	w.spoil(plans)
	return w, nil
}

// parse reads all zones before the first is signed, as parents take records of their children.
func (w *World) parse(plans []Plan, now time.Time) error {
	for _, p := range plans {
		z, err := Parse(p.Name, p.Text)
		if err != nil {
			return err
		}
		if p.Edit != nil {
			p.Edit(z)
		}
		if w.zones[z.Name] != nil {
			return fmt.Errorf("zone %s is there twice", z.Name)
		}
		z.config = p.signing(now)
		w.zones[z.Name] = z
	}
	return nil
}

// signing is the configuration of p with its times, as its fault wants it.
func (p Plan) signing(now time.Time) Config {
	c := p.Config
	if c.Inception.IsZero() {
		c.Inception = now.Add(-time.Hour)
	}
	if c.Expiration.IsZero() {
		c.Expiration = c.Inception.Add(validity)
	}
	if p.Fault.Signing != nil {
		p.Fault.Signing(&c)
	}
	return c
}

// spoil brings in the faults of what is signed.
func (w *World) spoil(plans []Plan) {
	for _, p := range plans {
		z := w.Zone(p.Name)
		if p.Fault.Zone != nil {
			p.Fault.Zone(z)
		}
		if p.Fault.Parent != nil {
			p.Fault.Parent(w.above(z.Name), z)
		}
	}
}

// delegate puts the delegation of a signed child into a zone that is not signed yet.
func (z *Zone) delegate(child *Zone, fault Fault) {
	z.Add(child.Records(child.Name, dns.TypeNS)...)
	for _, ns := range child.Records(child.Name, dns.TypeNS) {
		for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
			z.Add(child.Records(ns.(*dns.NS).Ns, t)...)
		}
	}
	if z.config.Unsigned {
		return
	}
	for _, ds := range child.delegationSigners(fault) {
		z.Add(ds)
	}
}

// delegationSigners are the DS for the zone above, as the fault wants them.
func (z *Zone) delegationSigners(fault Fault) (all []*dns.DS) {
	digests := z.config.Digests
	if len(digests) == 0 {
		digests = []uint8{dns.SHA256}
	}
	for _, digest := range digests {
		all = append(all, z.DS(digest)...)
	}
	if fault.DS != nil {
		all = fault.DS(all)
	}
	return all
}

// above returns the zone from which name hangs, nil if there is none.
func (w *World) above(name string) *Zone {
	for name != "." {
		if name = parent(name); w.zones[name] != nil {
			return w.zones[name]
		}
	}
	return nil
}

// Zone returns a zone of the world, nil if it is not there.
func (w *World) Zone(name string) *Zone { return w.zones[dns.CanonicalName(name)] }

// Anchors returns the DS of the zones that have none above them, by name: the trust anchors for the world.
func (w *World) Anchors() map[string][]*dns.DS {
	anchors := map[string][]*dns.DS{}
	for name, z := range w.zones {
		if w.above(name) == nil {
			anchors[name] = z.DS(dns.SHA256)
		}
	}
	return anchors
}

// Recursor returns a recursor that asks the zones without sockets.
func (w *World) Recursor(clock func() time.Time) *Recursor {
	r := &Recursor{Servers: map[string]Server{}, Clock: clock}
	for name, z := range w.zones {
		r.Servers[name] = func(q dns.Question) *dns.Msg { return z.Answer(q, true) }
	}
	return r
}
