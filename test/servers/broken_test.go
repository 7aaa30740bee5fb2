//go:build linux

package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// broken returns the zones with one fault, or with one thing that looks like a fault, each served by a real server.
func broken() []*zone {
	return slices.Concat(brokenSignatures(), brokenKeys(), brokenDenials(), brokenHashes(), brokenAliases(), odd())
}

func brokenSignatures() []*zone {
	return []*zone{
		at("wrong-octet.bind.", p256, mail, func(z *contents) { z.signatures(z.at("mx"), dns.TypeA, corrupt) }),
		at("wrong-octet.nsd.", hashed, mail, func(z *contents) { z.signatures(z.at("mx"), dns.TypeA, corrupt) }),
		at("wrong-octet.knot.", p256, mail, func(z *contents) { z.signatures(z.name, dns.TypeMX, corrupt) }),
		at("wrong-octet-p384.nsd.", p384, mail, func(z *contents) { z.signatures(z.name, dns.TypeMX, corrupt) }),
		at("wrong-octet-rsa.nsd.", signing{with: ldnsSigner, algorithm: "RSASHA256"}, mail, func(z *contents) {
			z.signatures(z.name, dns.TypeMX, corrupt)
		}),
		at("wrong-octet-ed25519.knot.", ed25519, mail, func(z *contents) { z.signatures(z.name, dns.TypeMX, corrupt) }),
		at("wrong-octet-ed448.bind.", ed448, mail, func(z *contents) { z.signatures(z.name, dns.TypeMX, corrupt) }),
		at("expired.bind.", expired(p256), mail, nil),
		at("expired.nsd.", expired(hashed), mail, nil),
		at("early.bind.", early(p256), mail, nil),
		at("early.knot.", early(p256), mail, nil),
		at("backwards.nsd.", p256, mail, func(z *contents) {
			z.sign(z.at("mx"), dns.TypeA, func(s *dns.RRSIG) { s.Inception, s.Expiration = s.Expiration, s.Inception })
		}),
		at("bare.bind.", p256, mail, func(z *contents) { z.remove(z.at("mx"), dns.TypeA, true) }),
		at("bare.nsd.", p256, mail, func(z *contents) { z.remove(z.at("mx"), dns.TypeA, true) }),
		at("bare.knot.", hashed, mail, func(z *contents) { z.remove(z.at("mx"), dns.TypeA, true) }),
		at("one-good.bind.", p256, mail, func(z *contents) { z.beside(z.at("mx"), dns.TypeA, corrupt) }),
		at("one-good.knot.", p256, mail, func(z *contents) {
			z.beside(z.at("mx"), dns.TypeA, func(s *dns.RRSIG) { s.KeyTag++ })
		}),
		at("short-beside.bind.", p256, mail, func(z *contents) { z.beside(z.at("mx"), dns.TypeA, shorten) }),
		at("wild-labels.nsd.", p256, full, func(z *contents) {
			z.signatures(z.at("*.wild"), dns.TypeA, func(s *dns.RRSIG) { s.Labels-- })
		}),
		at("labels-more.nsd.", p256, mail, func(z *contents) {
			z.signatures(z.at("mx"), dns.TypeA, func(s *dns.RRSIG) { s.Labels++ })
		}),
		at("labels-less.nsd.", p256, mail, beyond),
		at("signer-other.bind.", p256, mail, func(z *contents) {
			z.sign(z.at("mx"), dns.TypeA, func(s *dns.RRSIG) { s.SignerName = "p256.bind." })
		}),
		at("signer-suffix.bind.", p256, mail, func(z *contents) {
			z.sign(z.at("mx"), dns.TypeA, func(s *dns.RRSIG) { s.SignerName = "suffix.bind." })
		}),
		at("signer-below.bind.", p256, mail, func(z *contents) {
			z.sign(z.at("mx"), dns.TypeA, func(s *dns.RRSIG) { s.SignerName = z.at("mx") })
		}),
		at("short-signature.bind.", p256, mail, func(z *contents) { z.signatures(z.at("mx"), dns.TypeA, shorten) }),
		at("short-signature-rsa.nsd.", signing{with: ldnsSigner, algorithm: "RSASHA256"}, mail, func(z *contents) {
			z.signatures(z.at("mx"), dns.TypeA, shorten)
		}),
		at("ttl-more.nsd.", p256, mail, func(z *contents) {
			for _, rr := range z.records(z.at("mx"), dns.TypeA) {
				rr.Header().Ttl *= 2
			}
		}),
		at("changed.knot.", p256, mail, func(z *contents) {
			for _, rr := range z.records(z.at("mx"), dns.TypeA) {
				rr.(*dns.A).A = net.IPv4(192, 0, 2, 99)
			}
		}),
	}
}

// beyond signs an RRset as if it were expanded from a wildcard in the zone above: its Labels are fewer than the
// signer's (V-18).
func beyond(z *contents) {
	const wildcard = "*.nsd."
	set := z.records(z.at("mx"), dns.TypeA)
	rename := func(from, to string) {
		z.signatures(from, dns.TypeA, func(s *dns.RRSIG) { s.Hdr.Name = to })
		for _, rr := range set {
			rr.Header().Name = to
		}
	}
	rename(z.at("mx"), wildcard)
	z.sign(wildcard, dns.TypeA, nil)
	rename(wildcard, z.at("mx"))
}

// beside adds a changed copy of a signature.
func (z *contents) beside(owner string, t uint16, change func(*dns.RRSIG)) {
	z.signatures(owner, t, func(s *dns.RRSIG) {
		other := dns.Copy(s).(*dns.RRSIG)
		change(other)
		z.rrs = append(z.rrs, other)
	})
}

// brokenKeys returns the faults of the chain of trust.
func brokenKeys() []*zone {
	both := func(change func(sha1, sha256 *dns.DS)) func([]*dns.DS) []*dns.DS {
		return func(all []*dns.DS) []*dns.DS {
			sha1 := dns.Copy(all[0]).(*dns.DS)
			change(sha1, all[0])
			return []*dns.DS{sha1, all[0]}
		}
	}
	return []*zone{
		at("ds-without-key.bind.", p256, mail,
			nil).with(func(all []*dns.DS) []*dns.DS { return []*dns.DS{foreign(all[0])} }),
		at("ds-without-key.nsd.", hashed, mail,
			nil).with(func(all []*dns.DS) []*dns.DS { return []*dns.DS{foreign(all[0])} }),
		at("unused-ds.bind.", p256, mail,
			nil).with(func(all []*dns.DS) []*dns.DS { return append(all, foreign(all[0])) }),
		at("wrong-key-set.knot.", p256, mail, func(z *contents) { z.signatures(z.name, dns.TypeDNSKEY, corrupt) }),
		at("zsk-signs-keys.nsd.", p256, mail, zskSignsKeys),
		at("chain.bind.", p256, mail, func(z *contents) { z.signatures(z.at("broken"), dns.TypeDS, corrupt) }),
		at("good.chain.bind.", p256, mail, nil),
		at("broken.chain.bind.", p256, mail, nil),
		at("below.wrong-key-set.knot.", p256, mail, nil),
		at("no-keys.nsd.", p256, mail, func(z *contents) { z.remove(z.name, dns.TypeDNSKEY, false) }),
		renumbered("unknown-algorithm.bind.", 23),
		renumbered("rsamd5.nsd.", dns.RSAMD5),
		renumbered("dsa.knot.", dns.DSA),
		renumbered("dsa-nsec3.bind.", dns.DSANSEC3SHA1),
		renumbered("gost.nsd.", dns.ECCGOST),
		at("gost-digest.bind.", p256, mail, nil).with(func(all []*dns.DS) []*dns.DS {
			all[0].DigestType = dns.GOST94
			return all
		}),
		at("unknown-digest.knot.", p256, mail, nil).with(func(all []*dns.DS) []*dns.DS {
			all[0].DigestType = 5
			return all
		}),
		at("short-digest.nsd.", p256, mail, nil).with(func(all []*dns.DS) []*dns.DS {
			all[0].Digest = all[0].Digest[:40]
			return all
		}),
		at("sha1.bind.", unsafe5, mail, nil),
		at("sha1-nsec3.knot.", unsafe7, mail, nil),
		{name: "sha1-ds.bind.", server: bind, signing: p256, text: mail, digest: dns.SHA1},
		{name: "sha384-ds.nsd.", server: nsd, signing: p256, text: mail, digest: dns.SHA384},
		{name: "downgrade.bind.", server: bind, signing: p256, text: mail, digest: dns.SHA1,
			ds: both(func(_, other *dns.DS) {
				other.DigestType, other.Digest = dns.SHA256, strings.Repeat("00", 32)
			})},
		{name: "unusable-sha256.knot.", server: knot, signing: p256, text: mail, digest: dns.SHA1,
			ds: both(func(_, other *dns.DS) {
				other.DigestType, other.Digest, other.Algorithm = dns.SHA256, strings.Repeat("00", 32), 23
			})},
		at("rsa-512.nsd.", signing{with: ldnsSigner, algorithm: "RSASHA256", bits: 512}, mail, nil),
		at("rsa-4096.bind.", signing{with: bindSigner, algorithm: "RSASHA256", bits: 4096}, mail, nil),
		at("exponent.bind.", ofExponent(1<<32+1), mail, nil),
		at("exponent.nsd.", ofExponent(1<<31+1), mail, nil),
		at("exponent-above.knot.", ofExponent(1<<32+3), mail, nil),
		at("off-curve-beside.bind.", p256, mail, offCurveBeside),
		at("off-curve.nsd.", p256, mail, offCurve),
		at("rsasha512.knot.", signing{with: bindSigner, algorithm: "RSASHA512"}, mail, nil),
		at("half-signed.bind.", p256, mail, anotherAlgorithm),
	}
}

// foreign changes DS to those of a key that the zone does not have.
func foreign(ds *dns.DS) *dns.DS {
	other := *ds
	other.KeyTag ^= 1
	digest := []byte(ds.Digest)
	slices.Reverse(digest)
	other.Digest = string(digest)
	return &other
}

// zskSignsKeys makes a valid signature over the DNSKEY RRset, by a key to which no DS points (V-2).
func zskSignsKeys(z *contents) {
	key, private := z.key(dns.ZONE)
	z.signatures(z.name, dns.TypeDNSKEY, func(s *dns.RRSIG) {
		s.KeyTag = key.KeyTag()
		if err := s.Sign(private, z.records(z.name, dns.TypeDNSKEY)); err != nil {
			z.fail("%w", err)
		}
	})
}

// renumbered gives keys, signatures and DS an algorithm that nobody verifies (V-35, V-37).
func renumbered(name string, algorithm uint8) *zone {
	return at(name, p256, mail, func(z *contents) {
		for _, rr := range z.rrs {
			switch rr := rr.(type) {
			case *dns.DNSKEY:
				rr.Algorithm = algorithm
			case *dns.RRSIG:
				rr.Algorithm = algorithm
			}
		}
	}).with(func(all []*dns.DS) []*dns.DS {
		all[0].Algorithm = algorithm
		return all
	})
}

// twin returns a key with the key tag of another. The key tag is a sum, and two of its terms are swapped. The public
// key is then no point on the curve.
func twin(key *dns.DNSKEY) *dns.DNSKEY {
	raw, err := base64.StdEncoding.DecodeString(key.PublicKey)
	if err != nil {
		panic(err) // it was parsed
	}
	other := dns.Copy(key).(*dns.DNSKEY)
	for i := 2; ; i += 2 {
		swapped := slices.Clone(raw)
		copy(swapped, raw[i:i+2])
		copy(swapped[i:], raw[:2])
		if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, swapped...)); err != nil {
			other.PublicKey = base64.StdEncoding.EncodeToString(swapped)
			return other
		}
	}
}

// offCurveBeside adds the twin of the zone-signing key. It verifies nothing, but a validator may try it for each
// signature (V-24, V-44).
func offCurveBeside(z *contents) {
	if key, _ := z.key(dns.ZONE); key != nil {
		z.rrs = append(z.rrs, twin(key))
		z.sign(z.name, dns.TypeDNSKEY, nil)
	}
}

// offCurve replaces the zone-signing key by its twin.
func offCurve(z *contents) {
	if key, _ := z.key(dns.ZONE); key != nil {
		key.PublicKey = twin(key).PublicKey
		z.sign(z.name, dns.TypeDNSKEY, nil)
	}
}

// anotherAlgorithm adds a key of another algorithm, with which nothing is signed (V-23).
func anotherAlgorithm(z *contents) {
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: z.name, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: dns.ZONE, Protocol: 3, Algorithm: dns.ED25519,
	}
	if _, err := key.Generate(256); err != nil {
		z.fail("%w", err)
	}
	z.rrs = append(z.rrs, key)
	z.sign(z.name, dns.TypeDNSKEY, nil)
}

// nsec returns a fault that changes the NSEC of a name and signs it again.
func nsec(name string, change func(*contents, *dns.NSEC)) fault {
	return func(z *contents) {
		owner := z.at(name)
		for _, rr := range z.records(owner, dns.TypeNSEC) {
			change(z, rr.(*dns.NSEC))
		}
		z.sign(owner, dns.TypeNSEC, nil)
	}
}

// types replaces the types of an NSEC.
func types(all ...uint16) func(*contents, *dns.NSEC) {
	slices.Sort(all)
	return func(_ *contents, rr *dns.NSEC) { rr.TypeBitMap = all }
}

func withoutNSEC(name string) fault {
	return func(z *contents) { z.remove(z.at(name), dns.TypeNSEC, false) }
}

// brokenDenials returns the faults of NSEC. The NSEC of `alias`, whose next name is `mx`, covers the name `mmm`.
func brokenDenials() []*zone {
	const child = "u NS ns.u\nns.u A 198.18.0.5\n" // nothing answers there; only the delegation counts
	return []*zone{
		at("no-nsec.bind.", p256, full, withoutNSEC("mx")),
		at("no-nsec.nsd.", p256, full, withoutNSEC("mx")),
		at("no-nsec.knot.", p256, full, withoutNSEC("mx")),
		at("wrong-nsec.bind.", p256, full, func(z *contents) { z.signatures(z.at("mx"), dns.TypeNSEC, corrupt) }),
		at("bare-nsec.nsd.", p256, full, func(z *contents) { z.remove(z.at("mx"), dns.TypeNSEC, true) }),
		at("claims.bind.", p256, full, nsec("mx", types(dns.TypeA, dns.TypeAAAA, dns.TypeRRSIG, dns.TypeNSEC))),
		at("claims.knot.", p256, full, nsec("mx", types(dns.TypeA, dns.TypeAAAA, dns.TypeRRSIG, dns.TypeNSEC))),
		at("claims-cname.nsd.", p256, full, nsec("mx", types(dns.TypeA, dns.TypeCNAME, dns.TypeRRSIG, dns.TypeNSEC))),
		at("delegates.nsd.", p256, full, nsec("mx", types(dns.TypeNS, dns.TypeRRSIG, dns.TypeNSEC))),
		at("short.bind.", p256, full, nsec("ns", func(z *contents, rr *dns.NSEC) { rr.NextDomain = z.at("ns0") })),
		at("missing-nsec.bind.", p256, full, withoutNSEC("ns")),
		at("missing-nsec.knot.", p256, full, withoutNSEC("ns")),
		at("no-wildcard-proof.nsd.", p256, full, withoutNSEC("@")),
		at("outside.bind.", p256, full, nsec("mx", func(_ *contents, rr *dns.NSEC) { rr.NextDomain = "zzz.bind." })),
		at("expanded-unproven.bind.", p256, full, withoutNSEC("*.wild")),
		at("expanded-unproven.nsd.", p256, full, withoutNSEC("*.wild")),
		at("expanded-unproven.knot.", p256, full, withoutNSEC("*.wild")),
		at("cut-unproven.bind.", p256, child, withoutNSEC("u")),
		at("cut-unproven.knot.", p256, child, withoutNSEC("u")),
		at("cut-with-soa.bind.", p256, child, nsec("u", types(dns.TypeNS, dns.TypeSOA, dns.TypeRRSIG, dns.TypeNSEC))),
		at("cut-with-ds.nsd.", p256, child, nsec("u", types(dns.TypeNS, dns.TypeDS, dns.TypeRRSIG, dns.TypeNSEC))),
		at("cut-proven.nsd.", p256, child, nil),
	}
}

// nsec3 returns the NSEC3 that matches a name, or else the one that covers it.
func (z *contents) nsec3(name string) *dns.NSEC3 {
	var covering *dns.NSEC3
	for _, rr := range z.rrs {
		switch rr, ok := rr.(*dns.NSEC3); {
		case !ok:
		case rr.Match(name):
			return rr
		case rr.Cover(name):
			covering = rr
		}
	}
	if covering == nil {
		z.fail("no NSEC3 for %s", name)
		return &dns.NSEC3{}
	}
	return covering
}

func withoutNSEC3(name string) fault {
	return func(z *contents) { z.remove(z.nsec3(z.at(name)).Hdr.Name, dns.TypeNSEC3, false) }
}

// nsec3Of returns a fault that changes the NSEC3 that matches or covers a name, and signs it again.
func nsec3Of(name string, change func(*dns.NSEC3)) fault {
	return func(z *contents) {
		rr := z.nsec3(z.at(name))
		change(rr)
		z.sign(rr.Hdr.Name, dns.TypeNSEC3, nil)
	}
}

// behindLast returns a label whose hash comes after all hashes in the chain of a zone with the text mail: only the last
// record, which wraps around, covers it (V-63).
func behindLast(zone string) string {
	hash := func(name string) string { return dns.HashName(name+zone, dns.SHA1, 0, "") }
	last := slices.Max([]string{hash(""), hash("ns."), hash("mx."), hash("_tcp.mx."), hash("_25._tcp.mx.")})
	for i := 0; ; i++ {
		if label := fmt.Sprintf("n%d", i); hash(label+".") > last {
			return label
		}
	}
}

// brokenHashes returns the faults of NSEC3.
func brokenHashes() []*zone {
	const child = "u NS ns.u\nns.u A 198.18.0.5\n"
	zones := []*zone{
		at("wraps.nsd.", hashed, mail, nil),
		at("no-wrap.nsd.", hashed, mail, withoutNSEC3(behindLast("no-wrap.nsd."))),
		at("no-nsec3.bind.", hashed, full, withoutNSEC3("mx")),
		at("no-nsec3.nsd.", hashed, full, withoutNSEC3("mx")),
		at("no-nsec3.knot.", hashed, full, withoutNSEC3("mx")),
		at("wrong-nsec3.nsd.", hashed, full,
			func(z *contents) { z.signatures(z.nsec3(z.at("mx")).Hdr.Name, dns.TypeNSEC3, corrupt) }),
		at("claims3.nsd.", hashed, full, nsec3Of("mx", func(rr *dns.NSEC3) {
			rr.TypeBitMap = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeRRSIG}
		})),
		at("claims-cname3.knot.", hashed, full, nsec3Of("mx", func(rr *dns.NSEC3) {
			rr.TypeBitMap = []uint16{dns.TypeA, dns.TypeCNAME, dns.TypeRRSIG}
		})),
		at("no-encloser3.nsd.", hashed, mail, withoutNSEC3("@")),
		at("no-next-closer3.nsd.", hashed, mail, withoutNSEC3("nothing")),
		at("no-wildcard3.nsd.", hashed, mail, withoutNSEC3("*")),
		at("expanded-unproven3.bind.", hashed, full, withoutNSEC3("x.wild")),
		at("expanded-unproven3.knot.", hashed, full, withoutNSEC3("x.wild")),
		at("cut-unproven3.knot.", hashed, child, withoutNSEC3("u")),
		at("cut-proven3.bind.", hashed, child, nil),
		at("opted-out-unproven.knot.", optOut, child+"* TXT any\n", nsec3Of("u", func(rr *dns.NSEC3) { rr.Flags = 0 })),
		at("opted-out.bind.", optOut, child+"d.deep NS ns.d.deep\nns.d.deep A 198.18.0.5\n", nil),
		at("opted-out.nsd.", optOut, child+"d.deep NS ns.d.deep\nns.d.deep A 198.18.0.5\n", nil),
	}
	for _, n := range []int{50, 51, 100, 150, 151, 500} {
		zones = append(zones, at(fmt.Sprintf("iterations-%d.nsd.", n), iterated(n), mail+child, nil))
	}
	return zones
}

// brokenAliases returns zones with CNAME and DNAME that lead to other zones.
func brokenAliases() []*zone {
	targets := `
to-signed CNAME mx.salt.nsd.
to-unsigned CNAME mx.u.p256.bind.
to-broken CNAME mx.expired.bind.
to-nothing CNAME nothing.p256.bind.
to-nothing3 CNAME nothing.salt.nsd.
to-empty CNAME ent.p256.bind.
to-opt-out CNAME nothing.optout.nsd.
loop CNAME pool
pool CNAME loop
signed DNAME salt.nsd.
unsigned DNAME u.p256.bind.
broken DNAME expired.bind.
c1 CNAME c2.c
c2.c CNAME c3.c
c3.c CNAME c4.c
c4.c CNAME c5.c
c5.c CNAME c6.c
c6.c CNAME c7.c
c7.c CNAME mx
*.w CNAME mx.salt.nsd.
*.wb CNAME mx.wrong-octet.bind.
_25._tcp.mx2 CNAME _25._tcp.mx.salt.nsd.
`
	return []*zone{
		at("alias.bind.", p256, full+targets, nil),
		at("alias.nsd.", hashed, full+targets, nil),
		at("alias.knot.", p256, full+targets, nil),
		at("bare-alias.bind.", p256, full, func(z *contents) { z.remove(z.at("alias"), dns.TypeCNAME, true) }),
		at("wrong-alias.nsd.", p256, full, func(z *contents) { z.signatures(z.at("alias"), dns.TypeCNAME, corrupt) }),
		at("wrong-dname.bind.", p256, full, func(z *contents) { z.signatures(z.at("old"), dns.TypeDNAME, corrupt) }),
		at("wrong-dname.knot.", p256, full, func(z *contents) { z.signatures(z.at("old"), dns.TypeDNAME, corrupt) }),
		at("bare-dname.nsd.", p256, full, func(z *contents) { z.remove(z.at("old"), dns.TypeDNAME, true) }),
	}
}

// odd returns zones without a fault that validators find difficult.
func odd() []*zone {
	var certificates, texts strings.Builder
	for i := range 14 {
		fmt.Fprintf(&certificates, "_25._tcp.mx TLSA 3 0 0 %02x%s\n", i, strings.Repeat("ab", 300))
	}
	for i := range 260 {
		fmt.Fprintf(&texts, "@ TXT \"record %d of many that are kept at one name\"\n", i)
	}
	return []*zone{
		at("order.bind.", p256, order, nil),
		at("order.nsd.", p384, order, nil),
		at("order.knot.", ed25519, order, nil),
		at("large.bind.", p256, mail+certificates.String(), nil),
		at("large.nsd.", hashed, mail+certificates.String(), nil),
		at("large.knot.", p256, mail+certificates.String(), nil),
		at("texts.bind.", p256, mail+texts.String(), nil),
		at("texts.knot.", p256, mail+texts.String(), nil),
		at("island.plain.", p256, mail, nil),
		at("broken-island.plain.", p256, mail, func(z *contents) { z.signatures(z.at("mx"), dns.TypeA, corrupt) }),
		at("expired-island.plain.", expired(p256), mail, nil),
		at("island.u.p256.bind.", p256, mail, nil),
		at("no-ds.nsd.", p256, mail, nil).with(func([]*dns.DS) []*dns.DS { return nil }),
		at("no-ds.knot.", hashed, mail, nil).with(func([]*dns.DS) []*dns.DS { return nil }),
		at("unsigned.bind.", none, mail, nil),
		at("unsigned.nsd.", none, mail, nil),
		at("unsigned.knot.", none, mail, nil),
		at("unsigned.com.", none, mail, nil),
		at("unsigned.co.com.", none, mail, nil),
		at("signed.com.", p256, mail, nil),
		at("signed.co.com.", hashed, mail, nil),
		at("signed.p256.bind.", hashed, full, nil),
		at("signed.salt.nsd.", p256, full, nil),
		at("expired.com.", expired(p256), mail, nil),
		{name: "dead.bind.", server: dead, signing: p256, text: mail},
	}
}
