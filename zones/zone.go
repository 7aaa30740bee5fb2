package zones

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Config says how a zone is signed. The zero value, with the times filled in, is an ECDSA P-256 key and NSEC.
type Config struct {
	Unsigned              bool
	Algorithms            []uint8 // one key of each; default 13
	Flags                 uint16  // of the keys; default 257
	NSEC3                 *NSEC3  // nil: NSEC
	Compact               bool    // compact denial of existence (RFC 9824) instead of a chain
	Inception, Expiration time.Time
	Keys                  []*Key // instead of fresh ones
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
	Keys []*Key
	// Reply, if set, may spoil a reply before it is sent: the faults that no zone file can carry. Nil stands for SERVFAIL.
	Reply func(q dns.Question, m *dns.Msg) *dns.Msg

	config Config
	nodes  map[string]node // by canonical owner
	chain  []link          // the denial records in their order
}

// node is what one owner has, by type.
type node map[uint16]*rrset

type rrset struct {
	rrs  []dns.RR
	sigs []dns.RR
}

// link is one NSEC or NSEC3 of the chain: its owner and its place in the order, which is the owner or its hash.
type link struct{ place, owner string }

// Parse reads a zone in zone-file form; name is its apex and origin. Nothing is signed yet.
func Parse(name, text string) (*Zone, error) {
	z := &Zone{Name: dns.CanonicalName(name), nodes: map[string]node{}}
	p := dns.NewZoneParser(strings.NewReader(text), z.Name, z.Name+"zone")
	p.SetDefaultTTL(3600)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		z.Add(rr)
	}
	if err := p.Err(); err != nil {
		return nil, err
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
		}
		set := z.nodes[owner][rr.Header().Rrtype]
		if set == nil {
			set = &rrset{}
			z.nodes[owner][rr.Header().Rrtype] = set
		}
		set.rrs = append(set.rrs, rr)
	}
}

// Remove takes an RRset out of the zone.
func (z *Zone) Remove(owner string, t uint16) {
	delete(z.nodes[owner], t)
	if len(z.nodes[owner]) == 0 {
		delete(z.nodes, owner)
	}
}

// Edit changes records and signatures of one RRset of a signed zone; what f returns takes their place.
func (z *Zone) Edit(owner string, t uint16, f func(rrs, sigs []dns.RR) (newRRs, newSigs []dns.RR)) {
	if set := z.set(owner, t); set != nil {
		set.rrs, set.sigs = f(set.rrs, set.sigs)
	}
}

func (z *Zone) set(owner string, t uint16) *rrset { return z.nodes[owner][t] }

// Sign makes keys, the denial chain and all signatures, anew if it was signed before.
func (z *Zone) Sign(c Config) error {
	z.unsign()
	z.config = c
	if c.Unsigned {
		return nil
	}
	if err := z.makeKeys(); err != nil {
		return err
	}
	for _, k := range z.Keys {
		z.Add(k.DNSKEY)
	}
	if c.NSEC3 != nil {
		z.hashedChain()
	} else if !c.Compact {
		z.plainChain()
	}
	return z.signAll()
}

// unsign removes what Sign made.
func (z *Zone) unsign() {
	z.chain, z.Keys = nil, nil
	for owner, n := range z.nodes {
		for _, set := range n {
			set.sigs = nil
		}
		for _, t := range []uint16{dns.TypeDNSKEY, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM} {
			z.Remove(owner, t)
		}
	}
}

func (z *Zone) makeKeys() error {
	if z.Keys = slices.Clone(z.config.Keys); len(z.Keys) > 0 {
		return nil
	}
	algorithms, flags := z.config.Algorithms, z.config.Flags
	if len(algorithms) == 0 {
		algorithms = []uint8{dns.ECDSAP256SHA256}
	}
	if flags == 0 {
		flags = dns.ZONE | dns.SEP
	}
	for _, algorithm := range algorithms {
		key, err := NewKey(z.Name, algorithm, flags)
		if err != nil {
			return err
		}
		z.Keys = append(z.Keys, key)
	}
	return nil
}

// DS returns the DS records for the parent zone, of one digest type.
func (z *Zone) DS(digest uint8) []*dns.DS {
	var all []*dns.DS
	for _, k := range z.Keys {
		all = append(all, k.DS(digest))
	}
	return all
}

// signAll signs every authoritative RRset.
func (z *Zone) signAll() error {
	for owner, n := range z.nodes {
		for t, set := range n {
			if !z.authoritative(owner, t) {
				continue
			}
			sigs, err := z.signatures(set.rrs)
			if err != nil {
				return err
			}
			set.sigs = sigs
		}
	}
	return nil
}

// signatures returns an RRSIG of every key.
func (z *Zone) signatures(rrs []dns.RR) (sigs []dns.RR, err error) {
	for _, k := range z.Keys {
		sig, err := k.Sign(rrs, z.config.Inception, z.config.Expiration)
		if err != nil {
			return nil, fmt.Errorf("signing %s %s: %w", rrs[0].Header().Name, dns.Type(rrs[0].Header().Rrtype), err)
		}
		sigs = append(sigs, sig)
	}
	return sigs, nil
}

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

// authoritative says whether the zone answers for an RRset itself: not for glue, for a delegation's NS, nor for what a DNAME
// occludes.
func (z *Zone) authoritative(owner string, t uint16) bool {
	if z.dname(owner) != "" {
		return false
	}
	cut := z.cut(owner)
	return cut == "" || cut == owner && (t == dns.TypeDS || t == dns.TypeNSEC)
}

// exists says whether name is in the zone, with records or as an empty non-terminal.
func (z *Zone) exists(name string) bool {
	if z.nodes[name] != nil {
		return true
	}
	for owner := range z.nodes {
		if dns.IsSubDomain(name, owner) && z.cut(parent(owner)) == "" {
			return true
		}
	}
	return false
}

// encloser returns the closest existing ancestor of name.
func (z *Zone) encloser(name string) string {
	for name != z.Name && !z.exists(name) {
		name = parent(name)
	}
	return name
}

// owners returns the names that belong into the denial chain: not those below a delegation or DNAME.
func (z *Zone) owners() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for owner := range maps.Keys(z.nodes) {
			if cut := z.cut(owner); (cut == "" || cut == owner) && z.dname(owner) == "" && !yield(owner) {
				return
			}
		}
	})
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

// negativeTTL is the TTL of denial records (RFC 9077).
func (z *Zone) negativeTTL() uint32 {
	soa := z.set(z.Name, dns.TypeSOA).rrs[0].(*dns.SOA)
	return min(soa.Hdr.Ttl, soa.Minttl)
}

func (z *Zone) header(owner string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: t, Class: dns.ClassINET, Ttl: z.negativeTTL()}
}

// plainChain makes the NSEC records.
func (z *Zone) plainChain() {
	for _, owner := range z.owners() {
		z.chain = append(z.chain, link{canonicalOrder(owner), owner})
	}
	slices.SortFunc(z.chain, func(a, b link) int { return strings.Compare(a.place, b.place) })
	for i, l := range z.chain {
		next := z.chain[(i+1)%len(z.chain)].owner
		z.Add(&dns.NSEC{
			Hdr: z.header(l.owner, dns.TypeNSEC), NextDomain: next, TypeBitMap: z.types(l.owner, dns.TypeNSEC, dns.TypeRRSIG),
		})
	}
}

// hashedChain makes the NSEC3 records; empty non-terminals have one, unsigned delegations under opt-out none.
func (z *Zone) hashedChain() {
	p := z.config.NSEC3
	var flags uint8
	if p.OptOut {
		flags = 1
	}
	z.Add(&dns.NSEC3PARAM{
		Hdr: z.header(z.Name, dns.TypeNSEC3PARAM), Hash: dns.SHA1, Iterations: p.Iterations, Salt: p.Salt,
		SaltLength: uint8(len(p.Salt) / 2),
	})
	hashed := map[string]string{} // hash to name
	for _, owner := range z.owners() {
		if p.OptOut && z.cut(owner) == owner && z.set(owner, dns.TypeDS) == nil {
			continue
		}
		for name := owner; ; name = parent(name) {
			hashed[z.hash(name)] = name
			if name == z.Name {
				break
			}
		}
	}
	places := slices.Sorted(maps.Keys(hashed))
	for i, h := range places {
		owner := strings.ToLower(h) + "." + strings.TrimPrefix(z.Name, ".")
		types := z.types(hashed[h])
		if len(types) > 0 && (z.cut(hashed[h]) == "" || slices.Contains(types, dns.TypeDS)) {
			types = z.types(hashed[h], dns.TypeRRSIG)
		}
		z.Add(&dns.NSEC3{
			Hdr: z.header(owner, dns.TypeNSEC3), Hash: dns.SHA1, Flags: flags, Iterations: p.Iterations, Salt: p.Salt,
			SaltLength: uint8(len(p.Salt) / 2), HashLength: 20, NextDomain: places[(i+1)%len(places)], TypeBitMap: types,
		})
		z.chain = append(z.chain, link{h, owner})
	}
}

func (z *Zone) hash(name string) string {
	return dns.HashName(name, dns.SHA1, z.config.NSEC3.Iterations, z.config.NSEC3.Salt)
}

// canonicalOrder turns a name into a string that sorts as the name does (RFC 4034 section 6.1).
func canonicalOrder(name string) string {
	labels := dns.SplitDomainName(name)
	slices.Reverse(labels)
	return strings.Join(labels, "\x00")
}

// parent returns the name one label shorter; that of the root is the root.
func parent(name string) string {
	if i, end := dns.NextLabel(name, 0); !end {
		return name[i:]
	}
	return "."
}
