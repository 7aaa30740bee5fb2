// Package zones is danelaw's lab: a small signed mail internet that is built in memory from zone files, broken on
// purpose in named places, and served on loopback by authoritative servers and a plain recursor. It is imported by the
// lab command, by bench and by tests only.
package zones

import (
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
	"github.com/miekg/dns"
)

// Key is a signing key of a zone.
type Key struct {
	DNSKEY *dns.DNSKEY
	signer crypto.Signer
}

// NewKey makes a fresh key for zone. Flags are 256 or 257 (RFC 4034 section 2.1.1); algorithms are 5, 7, 8, 10, 13, 14,
// 15 and 16.
func NewKey(zone string, algorithm uint8, flags uint16) (*Key, error) {
	k := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: dns.CanonicalName(zone), Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: flags, Protocol: 3, Algorithm: algorithm,
	}
	if algorithm == dns.ED448 {
		public, private, err := ed448.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		k.PublicKey = base64.StdEncoding.EncodeToString(public)
		return &Key{k, ed448Signer{private}}, nil
	}
	bits := map[uint8]int{5: 1024, 7: 1024, 8: 1024, 10: 1024, 13: 256, 14: 384, 15: 256}[algorithm]
	if bits == 0 {
		return nil, fmt.Errorf("no signer for algorithm %d", algorithm)
	}
	private, err := k.Generate(bits)
	if err != nil {
		return nil, err
	}
	return &Key{k, private.(crypto.Signer)}, nil
}

// DS returns the DS of the key with the given digest type (1, 2 or 4).
func (k *Key) DS(digest uint8) *dns.DS { return k.DNSKEY.ToDS(digest) }

// Sign returns the RRSIG of the key over rrset, whose records share owner, type and TTL. A wildcard owner gets the Labels of RFC
// 4034 section 3.1.3.
func (k *Key) Sign(rrset []dns.RR, inception, expiration time.Time) (*dns.RRSIG, error) {
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Ttl: rrset[0].Header().Ttl},
		Algorithm: k.DNSKEY.Algorithm, KeyTag: k.DNSKEY.KeyTag(), SignerName: k.DNSKEY.Hdr.Name,
		Inception: uint32(inception.Unix()), Expiration: uint32(expiration.Unix()),
	}
	if sig.Algorithm != dns.ED448 {
		return sig, sig.Sign(k.signer, rrset)
	}
	// The DNS library knows no Ed448. It hands the data to be signed whole to an Ed25519 signer, so it may make up
	// that data, and our signer mends the one octet that differs.
	sig.Algorithm = dns.ED25519
	err := sig.Sign(k.signer, rrset)
	sig.Algorithm = dns.ED448
	return sig, err
}

// ed448Signer signs the RRSIG data of algorithm 15 as that of algorithm 16.
type ed448Signer struct{ private ed448.PrivateKey }

func (s ed448Signer) Public() crypto.PublicKey { return s.private.Public() }

func (s ed448Signer) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	const algorithmOffset = 2 // after Type Covered, RFC 4034 section 3.1
	message[algorithmOffset] = dns.ED448
	return ed448.Sign(s.private, message, ""), nil
}
