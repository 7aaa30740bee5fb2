package trustanchors

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"github.com/miekg/dns"
)

// digestOctets is the length of the digests that are supported (V-38, V-39).
var digestOctets = map[uint8]int{dns.SHA1: 20, dns.SHA256: 32, dns.SHA384: 48}

// checkDigest reports a digest that is none, and writes it in lower case, as DNS code does.
func checkDigest(ds *dns.DS) error {
	digest, err := hex.DecodeString(ds.Digest)
	if err != nil {
		return fmt.Errorf("the digest %q is not hexadecimal (%v); copy it again", ds.Digest, err)
	}
	want, known := digestOctets[ds.DigestType]
	switch {
	case len(digest) == 0: // the DNS library takes a DS without any RDATA
		return fmt.Errorf("the digest is missing; copy the whole record again")
	case known && len(digest) != want:
		return fmt.Errorf("the digest %q has %d octets, and digest type %d has %d; copy it again, or correct the type",
			ds.Digest, len(digest), ds.DigestType, want)
	}
	ds.Digest = strings.ToLower(ds.Digest)
	return nil
}

// checkKey reports a key that cannot sign a zone's DNSKEY records (V-4, V-5) or is no key of its algorithm.
func checkKey(k *dns.DNSKEY) error {
	switch {
	case k.Flags&dns.ZONE == 0:
		return fmt.Errorf("the key's flags %d lack the zone bit (256); use a zone's key, mostly of flags 257", k.Flags)
	case k.Flags&dns.REVOKE != 0:
		return fmt.Errorf("the key's flags %d have the bit of a revoked key (128); use the zone's current key", k.Flags)
	case k.Protocol != 3:
		return fmt.Errorf("the key's protocol is %d; it must be 3", k.Protocol)
	}
	key, err := base64.StdEncoding.DecodeString(k.PublicKey)
	if err != nil {
		return fmt.Errorf("the key %q is not base64 (%v); copy it again", k.PublicKey, err)
	}
	if k.ToDS(dns.SHA256) == nil {
		return fmt.Errorf("the key of %d octets is too long to be one; copy it again", len(key))
	}
	if err := checkPublicKey(k.Algorithm, key); err != nil {
		return fmt.Errorf("the key %q is none of algorithm %d: %v; copy it again, or correct the algorithm",
			k.PublicKey, k.Algorithm, err)
	}
	return nil
}

// checkPublicKey checks the form of a key of a supported algorithm (V-42, V-44). The forms of others are not known.
func checkPublicKey(algorithm uint8, key []byte) error {
	switch algorithm {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256:
		return checkRSA(key, 512)
	case dns.RSASHA512:
		return checkRSA(key, 1024)
	case dns.ECDSAP256SHA256:
		return checkPoint(elliptic.P256(), key)
	case dns.ECDSAP384SHA384:
		return checkPoint(elliptic.P384(), key)
	case dns.ED25519:
		return checkLength(key, 32)
	case dns.ED448:
		return checkLength(key, 57)
	}
	return nil
}

func checkLength(key []byte, want int) error {
	if len(key) != want {
		return fmt.Errorf("it has %d octets instead of %d", len(key), want)
	}
	return nil
}

// checkPoint checks a key of RFC 6605 section 4, a point without the octet that says it is uncompressed.
func checkPoint(curve elliptic.Curve, key []byte) error {
	_, err := ecdsa.ParseUncompressedPublicKey(curve, append([]byte{4}, key...))
	return err
}

// checkRSA checks a key of RFC 3110 section 2: the exponent behind its length of one or three octets, then the modulus.
func checkRSA(key []byte, least int) error {
	const most = 4096
	if len(key) > 0 && key[0] != 0 {
		key = append([]byte{0, 0}, key...)
	}
	if len(key) < 3 {
		return fmt.Errorf("it has no exponent")
	}
	length, rest := int(binary.BigEndian.Uint16(key[1:])), key[3:]
	if length > len(rest) {
		return fmt.Errorf("it ends in its exponent")
	}
	exponent, modulus := new(big.Int).SetBytes(rest[:length]), new(big.Int).SetBytes(rest[length:])
	if max := big.NewInt(1<<32 + 1); exponent.Bit(0) == 0 || exponent.Cmp(big.NewInt(3)) < 0 || exponent.Cmp(max) > 0 {
		return fmt.Errorf("its exponent %v is not an odd number from 3 to %v", exponent, max)
	}
	if bits := modulus.BitLen(); bits < least || bits > most {
		return fmt.Errorf("its modulus of %d bits is not one of %d to %d", bits, least, most)
	}
	return nil
}
