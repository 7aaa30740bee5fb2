package dnssec

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha1" // algorithms 5 and 7, digest 1
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/cloudflare/circl/sign/ed448"
	"github.com/miekg/dns"
)

// flagRevoke is the REVOKE flag of RFC 5011 section 2.1.
const flagRevoke = 1 << 7

// Key is a zone key whose public key has been parsed once.
type Key struct {
	RR     *dns.DNSKEY
	Tag    uint16 // RFC 4034 appendix B
	public publicKey
}

// publicKey checks one signature over data. A signature of the wrong form is a wrong one.
type publicKey interface {
	verify(data, signature []byte) bool
}

// supported says whether signatures of the algorithm can be verified under the policy (V-34, V-45, RFC 9904, RFC 9905).
func (p Policy) supported(algorithm uint8) bool {
	switch algorithm {
	case dns.RSASHA256, dns.RSASHA512, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519, dns.ED448:
		return true
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1: // V-36
		return p.SHA1
	}
	return false // V-35, V-37
}

// zoneKey says whether a DNSKEY may sign zone data (V-4): zone key flag, protocol 3, not revoked.
func zoneKey(k *dns.DNSKEY) bool {
	return k.Flags&dns.ZONE != 0 && k.Protocol == 3 && k.Flags&flagRevoke == 0
}

// ParseKey parses the public key of a DNSKEY of a supported algorithm.
func ParseKey(rr *dns.DNSKEY) (*Key, error) {
	octets, err := base64.StdEncoding.DecodeString(rr.PublicKey)
	if err != nil {
		return nil, err
	}
	public, err := parsePublic(rr.Algorithm, octets)
	if err != nil {
		return nil, err
	}
	return &Key{RR: rr, Tag: rr.KeyTag(), public: public}, nil
}

func parsePublic(algorithm uint8, octets []byte) (publicKey, error) {
	switch algorithm {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1:
		return parseRSA(crypto.SHA1, octets, 512)
	case dns.RSASHA256:
		return parseRSA(crypto.SHA256, octets, 512)
	case dns.RSASHA512:
		return parseRSA(crypto.SHA512, octets, 1024) // RFC 5702 section 2.2
	case dns.ECDSAP256SHA256:
		return parseECDSA(elliptic.P256(), crypto.SHA256, octets)
	case dns.ECDSAP384SHA384:
		return parseECDSA(elliptic.P384(), crypto.SHA384, octets)
	case dns.ED25519:
		return parseEd(octets, ed25519.PublicKeySize, func(o []byte) publicKey { return ed25519Key(o) })
	case dns.ED448:
		return parseEd(octets, ed448.PublicKeySize, func(o []byte) publicKey { return ed448Key(o) })
	}
	// only an anchor that nobody sieved names it
	return nil, fmt.Errorf("algorithm %d, which is not supported", algorithm)
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// parseRSA reads the form of RFC 3110 section 2, within the bounds of V-42. The standard library verifies moduli from
// 1024 bits and exponents below 2^31, [smallRSA] the rest (V-43).
func parseRSA(hash crypto.Hash, octets []byte, leastBits int) (publicKey, error) {
	exponent, modulus, err := splitRSA(octets)
	if err != nil {
		return nil, err
	}
	e, n := new(big.Int).SetBytes(exponent), new(big.Int).SetBytes(modulus)
	most := new(big.Int).SetUint64(1<<32 + 1)
	switch bits := n.BitLen(); {
	case bits < leastBits || bits > 4096:
		return nil, fmt.Errorf("an RSA modulus of %d bits, allowed are %d to 4096", bits, leastBits)
	case e.Bit(0) == 0 || e.Cmp(big.NewInt(3)) < 0 || e.Cmp(most) > 0:
		return nil, fmt.Errorf("the RSA exponent %v, allowed are odd ones from 3 to 2^32+1", e)
	case bits < 1024 || e.BitLen() > 31:
		return smallRSA{hash, n, e}, nil
	}
	return rsaKey{hash, &rsa.PublicKey{N: n, E: int(e.Int64())}}, nil
}

// splitRSA separates exponent and modulus; the exponent's length takes one octet, or three of which the first is 0.
func splitRSA(octets []byte) (exponent, modulus []byte, err error) {
	if len(octets) < 3 {
		return nil, nil, errors.New("an RSA key that is cut short")
	}
	length, octets := int(octets[0]), octets[1:]
	if length == 0 {
		length, octets = int(octets[0])<<8|int(octets[1]), octets[2:]
	}
	if length >= len(octets) {
		return nil, nil, errors.New("an RSA key that is cut short")
	}
	return octets[:length], octets[length:], nil
}

type rsaKey struct {
	hash crypto.Hash
	key  *rsa.PublicKey
}

func (k rsaKey) verify(data, signature []byte) bool {
	return rsa.VerifyPKCS1v15(k.key, k.hash, digest(k.hash, data), signature) == nil
}

// smallRSA verifies where the standard library refuses to: moduli of 512 to 1023 bits and exponents of 2^31 and more
// (V-43). All it works on is public.
type smallRSA struct {
	hash crypto.Hash
	n, e *big.Int
}

// digestInfo is the DER of DigestInfo up to the digest (RFC 8017 section 9.2).
var digestInfo = map[crypto.Hash]string{
	crypto.SHA1:   "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
	crypto.SHA256: "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
	crypto.SHA512: "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
}

func (k smallRSA) verify(data, signature []byte) bool {
	size := (k.n.BitLen() + 7) / 8
	s := new(big.Int).SetBytes(signature)
	padded := append([]byte(digestInfo[k.hash]), digest(k.hash, data)...)
	padding := size - 3 - len(padded)
	if len(signature) != size || s.Cmp(k.n) >= 0 || padding < 8 { // RFC 8017 section 8.2.2, 9.2
		return false
	}
	want := slices.Concat([]byte{0, 1}, bytes.Repeat([]byte{0xff}, padding), []byte{0}, padded)
	got := new(big.Int).Exp(s, k.e, k.n).FillBytes(make([]byte, size))
	return bytes.Equal(got, want)
}

// parseECDSA reads x|y, without the octet 4 in front (V-44, RFC 6605 section 4); a point off the curve is
// refused.
func parseECDSA(curve elliptic.Curve, hash crypto.Hash, octets []byte) (publicKey, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(curve, append([]byte{4}, octets...))
	if err != nil {
		return nil, err
	}
	return ecdsaKey{hash, key, len(octets)}, nil
}

type ecdsaKey struct {
	hash crypto.Hash
	key  *ecdsa.PublicKey
	size int // octets of r|s
}

func (k ecdsaKey) verify(data, signature []byte) bool {
	if len(signature) != k.size {
		return false
	}
	return ecdsa.VerifyASN1(k.key, digest(k.hash, data), asn1Signature(signature))
}

// asn1Signature returns r|s (RFC 6605 section 4) in the form that the standard library reads: a SEQUENCE of two
// INTEGERs, which are shorter than 128 octets together.
func asn1Signature(rs []byte) []byte {
	const sequence, integer = 0x30, 0x02
	b := append(make([]byte, 0, len(rs)+8), sequence, 0)
	for _, n := range [][]byte{rs[:len(rs)/2], rs[len(rs)/2:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		if n[0] >= 0x80 { // else it would be negative
			b = append(b, integer, byte(len(n)+1), 0)
		} else {
			b = append(b, integer, byte(len(n)))
		}
		b = append(b, n...)
	}
	b[1] = byte(len(b) - 2)
	return b
}

// parseEd reads the key of Ed25519 or Ed448, which is all octets of it (RFC 8080 section 3).
func parseEd(octets []byte, size int, key func([]byte) publicKey) (publicKey, error) {
	if len(octets) != size {
		return nil, fmt.Errorf("a key of %d octets where the algorithm has %d", len(octets), size)
	}
	return key(octets), nil
}

type ed25519Key []byte

func (k ed25519Key) verify(data, signature []byte) bool {
	return ed25519.Verify(ed25519.PublicKey(k), data, signature)
}

type ed448Key []byte

func (k ed448Key) verify(data, signature []byte) bool {
	return ed448.Verify(ed448.PublicKey(k), data, signature, "")
}

// matches says whether the DS is the digest of the DNSKEY, of which the RDATA is given (RFC 4034 section 5.1.4).
func matches(ds *dns.DS, key *dns.DNSKEY, rdata []byte) bool {
	hash, known := digests[ds.DigestType]
	if !known || ds.KeyTag != key.KeyTag() || ds.Algorithm != key.Algorithm {
		return false
	}
	data := append(wireName(Canonical(key.Hdr.Name)), rdata...)
	return fmt.Sprintf("%X", digest(hash, data)) == strings.ToUpper(ds.Digest)
}

// digests are the supported DS digest types (V-38).
var digests = map[uint8]crypto.Hash{dns.SHA1: crypto.SHA1, dns.SHA256: crypto.SHA256, dns.SHA384: crypto.SHA384}
