// Package zones is danelaw's lab: a small signed mail internet that is built in memory from zone files, broken on
// purpose in named places, and served on loopback by authoritative servers and a plain recursor ([Start]). Its parts
// serve tests without sockets: [Parse] and [Zone.Sign] make one zone, [Build] a tree of them with a [Fault] here and
// there.
//
// It is imported by the lab command, by bench and by tests only. Its keys are short and its files are trusted: it is no
// signer for real zones.
package zones

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
	"github.com/miekg/dns"
)

// Key is a signing key of a zone.
type Key struct {
	DNSKEY *dns.DNSKEY
	signer crypto.Signer
}

// bits are the key sizes of the algorithms that the DNS library signs with. RSA is as short as Go allows.
var bits = map[uint8]int{
	dns.RSASHA1: 1024, dns.RSASHA1NSEC3SHA1: 1024, dns.RSASHA256: 1024, dns.RSASHA512: 1024,
	dns.ECDSAP256SHA256: 256, dns.ECDSAP384SHA384: 384, dns.ED25519: 256,
}

// NewKey makes a fresh key for zone. Flags are those of RFC 4034 section 2.1.1, usually 256 or 257. Algorithms 5, 7, 8,
// 10, 13, 14, 15 and 16 are real; under any other number the key is one that no validator can use.
func NewKey(zone string, algorithm uint8, flags uint16) (*Key, error) {
	for {
		k, err := generate(zone, algorithm, flags)
		if err != nil || k.canSign() {
			return k, err
		}
	}
}

// canSign reports whether the DNS library signs with the key: it takes key tag 0, which one key of 65,536 has, for a
// missing one.
func (k *Key) canSign() bool { return k.DNSKEY.KeyTag() != 0 }

func generate(zone string, algorithm uint8, flags uint16) (*Key, error) {
	k := &Key{DNSKEY: newDNSKEY(zone, algorithm, flags)}
	var private crypto.Signer
	var err error
	switch {
	case algorithm == dns.ED448:
		_, private, err = ed448.GenerateKey(rand.Reader)
	case bits[algorithm] == 0:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		var made crypto.PrivateKey
		if made, err = k.DNSKEY.Generate(bits[algorithm]); err == nil {
			k.signer = made.(crypto.Signer)
		}
		return k, err
	}
	if err != nil {
		return nil, err
	}
	return k, k.take(private)
}

// newDNSKEY is the record of a key that is still to come.
func newDNSKEY(zone string, algorithm uint8, flags uint16) *dns.DNSKEY {
	return &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: dns.CanonicalName(zone), Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: flags, Protocol: 3, Algorithm: algorithm,
	}
}

// KeyFrom makes the key of a zone from a private key that is there already: of *rsa.PrivateKey, *ecdsa.PrivateKey,
// ed25519.PrivateKey or ed448.PrivateKey the one that the algorithm asks for. Under a number without an algorithm it is
// an Ed25519 key that no validator can use, as from [NewKey].
func KeyFrom(zone string, algorithm uint8, flags uint16, private crypto.Signer) (*Key, error) {
	k := &Key{DNSKEY: newDNSKEY(zone, algorithm, flags)}
	if err := k.take(private); err != nil {
		return nil, err
	}
	if !k.canSign() {
		return nil, errors.New("the DNS library does not sign with a key of tag 0")
	}
	return k, nil
}

// take makes a private key that of k.
func (k *Key) take(private crypto.Signer) error {
	algorithm := k.DNSKEY.Algorithm
	k.signer = private
	var public []byte
	switch key := private.(type) {
	case *rsa.PrivateKey:
		exponent := big.NewInt(int64(key.E)).Bytes() // RFC 3110 section 2
		public = slices.Concat([]byte{byte(len(exponent))}, exponent, key.N.Bytes())
	case *ecdsa.PrivateKey:
		point, err := key.PublicKey.Bytes()
		if err != nil {
			return err
		}
		public = point[1:] // RFC 6605 section 4: without the octet that says it is uncompressed
		k.signer = repeatable{key}
	case ed25519.PrivateKey:
		public = key.Public().(ed25519.PublicKey)
		if bits[algorithm] == 0 {
			k.signer = foreignSigner{algorithm, func(m []byte) []byte { return ed25519.Sign(key, m) }}
		}
	case ed448.PrivateKey:
		public = key.Public().(ed448.PublicKey)
		k.signer = foreignSigner{algorithm, func(m []byte) []byte { return ed448.Sign(key, m, "") }}
	default:
		return fmt.Errorf("no zone is signed with a %T", private)
	}
	k.DNSKEY.PublicKey = base64.StdEncoding.EncodeToString(public)
	return nil
}

// as returns the same RSA key for another zone, RSA algorithm or purpose.
func (k *Key) as(zone string, algorithm uint8, flags uint16) *Key {
	key := *k.DNSKEY
	key.Hdr.Name, key.Algorithm, key.Flags = zone, algorithm, flags
	return &Key{&key, k.signer}
}

// DS returns the DS of the key with the given digest type (1, 2 or 4).
func (k *Key) DS(digest uint8) *dns.DS { return k.DNSKEY.ToDS(digest) }

// Sign returns the RRSIG of the key over rrset, whose records share owner, type and TTL. A wildcard owner gets the
// Labels of RFC 4034 section 3.1.3.
func (k *Key) Sign(rrset []dns.RR, inception, expiration time.Time) (*dns.RRSIG, error) {
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Ttl: rrset[0].Header().Ttl},
		Algorithm: k.DNSKEY.Algorithm, KeyTag: k.DNSKEY.KeyTag(), SignerName: k.DNSKEY.Hdr.Name,
		Inception: uint32(inception.Unix()), Expiration: uint32(expiration.Unix()),
	}
	if bits[sig.Algorithm] != 0 {
		return sig, sig.Sign(k.signer, rrset)
	}
	// The library hands the data to be signed whole to an Ed25519 signer, so it may make up that data, and our signer
	// mends the one octet that differs.
	sig.Algorithm = dns.ED25519
	err := sig.Sign(k.signer, rrset)
	sig.Algorithm = k.DNSKEY.Algorithm
	return sig, err
}

// repeatable signs the same data the same way each time (RFC 6979): what is built from given keys is the same octet by
// octet.
type repeatable struct{ *ecdsa.PrivateKey }

func (s repeatable) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(nil, digest, opts)
}

// foreignSigner signs the RRSIG data of algorithm 15 as that of another algorithm.
type foreignSigner struct {
	algorithm uint8
	sign      func(message []byte) []byte
}

func (s foreignSigner) Public() crypto.PublicKey { return nil }

func (s foreignSigner) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	const algorithmOffset = 2 // after Type Covered, RFC 4034 section 3.1
	message[algorithmOffset] = s.algorithm
	return s.sign(message), nil
}

// ring makes the keys of a world. RSA keys take long to make, so one serves all its zones.
type ring struct{ rsa *Key }

func (r *ring) key(zone string, algorithm uint8, flags uint16) (*Key, error) {
	isRSA := bits[algorithm] >= 1024
	if isRSA && r.rsa != nil {
		if k := r.rsa.as(zone, algorithm, flags); k.canSign() {
			return k, nil
		}
	}
	k, err := NewKey(zone, algorithm, flags)
	if isRSA && err == nil {
		r.rsa = k
	}
	return k, err
}

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

// Signers returns the keys that sign RRsets of type t.
func (z *Zone) Signers(t uint16) []*Key {
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
	for _, k := range z.Signers(dns.TypeDNSKEY) {
		all = append(all, k.DS(digest))
	}
	return all
}

// signAll signs every authoritative RRset and the chain.
func (z *Zone) signAll() error {
	var sets []*rrset
	for owner, n := range z.nodes {
		for t, set := range n {
			if t != dns.TypeNSEC && z.authoritative(owner, t) {
				sets = append(sets, set)
			}
		}
	}
	for _, l := range z.chain {
		sets = append(sets, l.set)
	}
	for _, set := range sets {
		if z.config.Lazy {
			set.late = sync.OnceFunc(func() {
				if err := z.signSet(set); err != nil {
					panic(err) // the same keys have signed before
				}
			})
		} else if err := z.signSet(set); err != nil {
			return err
		}
	}
	return nil
}

// signSet gives a set its RRSIGs.
func (z *Zone) signSet(set *rrset) error {
	set.sigs = nil
	h := set.rrs[0].Header()
	for _, k := range z.Signers(h.Rrtype) {
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
