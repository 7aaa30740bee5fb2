package zones

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Sign makes keys, the denial chain and all signatures, anew if it was signed before.
func (z *Zone) Sign(c Config) error { return z.sign(c, new(ring)) }

func (z *Zone) sign(c Config, r *ring) error {
	z.unsign()
	z.config = c
	if c.Unsigned {
		return nil
	}
	if err := z.makeKeys(r); err != nil {
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
			set.sigs, set.late = nil, nil
		}
		for _, t := range []uint16{dns.TypeDNSKEY, dns.TypeNSEC, dns.TypeNSEC3PARAM} {
			z.Remove(owner, t)
		}
	}
}

func (z *Zone) makeKeys(r *ring) error {
	if z.Keys = slices.Clone(z.config.Keys); len(z.Keys) > 0 {
		return nil
	}
	algorithms, flags := z.config.Algorithms, []uint16{cmp.Or(z.config.Flags, dns.ZONE|dns.SEP)}
	if len(algorithms) == 0 {
		algorithms = []uint8{dns.ECDSAP256SHA256}
	}
	if z.config.Split {
		flags = append(flags, dns.ZONE)
	}
	for _, algorithm := range algorithms {
		for _, f := range flags {
			key, err := r.key(z.Name, algorithm, f)
			if err != nil {
				return err
			}
			z.Keys = append(z.Keys, key)
		}
	}
	return nil
}

// signers returns the keys that sign RRsets of type t.
func (z *Zone) signers(t uint16) []*Key {
	keys := slices.DeleteFunc(slices.Clone(z.Keys), func(k *Key) bool {
		return (k.DNSKEY.Flags&dns.SEP != 0) != (t == dns.TypeDNSKEY)
	})
	if len(keys) == 0 {
		return z.Keys
	}
	return keys
}

// DS returns the DS records for the parent zone, of one digest type.
func (z *Zone) DS(digest uint8) []*dns.DS {
	var all []*dns.DS
	for _, k := range z.signers(dns.TypeDNSKEY) {
		all = append(all, k.DS(digest))
	}
	return all
}

// signAll signs every authoritative RRset and the chain.
func (z *Zone) signAll() error {
	for owner, n := range z.nodes {
		for t, set := range n {
			if t == dns.TypeNSEC || !z.authoritative(owner, t) {
				continue
			}
			if err := z.signNowOrLate(set); err != nil {
				return err
			}
		}
	}
	for _, l := range z.chain {
		if err := z.signNowOrLate(l.set); err != nil {
			return err
		}
	}
	return nil
}

func (z *Zone) signNowOrLate(set *rrset) error {
	if !z.config.Lazy {
		return z.signSet(set)
	}
	set.late = sync.OnceFunc(func() {
		if err := z.signSet(set); err != nil {
			panic(err) // the same keys have signed before
		}
	})
	return nil
}

// signSet gives a set its RRSIGs.
func (z *Zone) signSet(set *rrset) error {
	set.sigs = nil
	h := set.rrs[0].Header()
	for _, k := range z.signers(h.Rrtype) {
		sig, err := k.Sign(set.rrs, z.config.Inception, z.config.Expiration)
		if err != nil {
			return fmt.Errorf("signing %s %s: %w", h.Name, dns.Type(h.Rrtype), err)
		}
		set.sigs = append(set.sigs, sig)
	}
	return nil
}

// owners returns the names that belong into the denial chain: not those below a delegation or DNAME.
func (z *Zone) owners() (owners []string) {
	for owner := range z.nodes {
		if cut := z.cut(owner); (cut == "" || cut == owner) && z.dname(owner) == "" {
			owners = append(owners, owner)
		}
	}
	return owners
}

// plainChain makes the NSEC records.
func (z *Zone) plainChain() {
	owners := z.owners()
	slices.SortFunc(owners, func(a, b string) int { return slices.Compare(canonicalOrder(a), canonicalOrder(b)) })
	for i, owner := range owners {
		z.Add(&dns.NSEC{
			Hdr: z.header(owner, dns.TypeNSEC), NextDomain: owners[(i+1)%len(owners)],
			TypeBitMap: z.types(owner, dns.TypeNSEC, dns.TypeRRSIG),
		})
		z.chain = append(z.chain, link{canonicalOrder(owner), owner, z.set(owner, dns.TypeNSEC)})
	}
}

// hashedChain makes the NSEC3 records; empty non-terminals have one, unsigned delegations under opt-out none.
func (z *Zone) hashedChain() {
	p := z.config.NSEC3
	z.Add(&dns.NSEC3PARAM{
		Hdr: z.header(z.Name, dns.TypeNSEC3PARAM), Hash: dns.SHA1, Iterations: p.Iterations, Salt: p.Salt,
		SaltLength: uint8(len(p.Salt) / 2),
	})
	hashed := z.hashedNames()
	hashes := slices.Sorted(maps.Keys(hashed))
	for i, h := range hashes {
		nsec3 := &dns.NSEC3{
			Hdr: z.header(child(strings.ToLower(h), z.Name), dns.TypeNSEC3), Hash: dns.SHA1, Iterations: p.Iterations,
			Salt: p.Salt, SaltLength: uint8(len(p.Salt) / 2), HashLength: 20, NextDomain: hashes[(i+1)%len(hashes)],
			TypeBitMap: z.hashedTypes(hashed[h]),
		}
		if p.OptOut {
			nsec3.Flags = 1
		}
		z.chain = append(z.chain, link{[]string{h}, nsec3.Hdr.Name, &rrset{rrs: []dns.RR{nsec3}}})
	}
}

// hashedNames returns the names that have an NSEC3, by hash: the owners and what lies between them and the apex.
func (z *Zone) hashedNames() map[string]string {
	hashed := map[string]string{z.hash(z.Name): z.Name}
	for _, owner := range z.owners() {
		if z.config.NSEC3.OptOut && z.cut(owner) == owner && z.set(owner, dns.TypeDS) == nil {
			continue
		}
		for name := owner; name != z.Name; name = parent(name) {
			hashed[z.hash(name)] = name
		}
	}
	return hashed
}

// hashedTypes returns the type bit map of an NSEC3, which has RRSIG only if the zone signs something there (RFC 5155
// section 7.1).
func (z *Zone) hashedTypes(name string) []uint16 {
	types := z.types(name)
	if len(types) > 0 && (z.cut(name) == "" || slices.Contains(types, dns.TypeDS)) {
		return z.types(name, dns.TypeRRSIG)
	}
	return types
}

func (z *Zone) hash(name string) string {
	return dns.HashName(name, dns.SHA1, z.config.NSEC3.Iterations, z.config.NSEC3.Salt)
}
