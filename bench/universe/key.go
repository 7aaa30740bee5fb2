package universe

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// key is the key of a zone, which signs all of it. It follows from the seed.
func (s Spec) key(zone string, algorithm int) (*zones.Key, error) {
	const tries = 8 // of a thousand seeds not one needs a second: some numbers are no key, and some tags are none
	var err error
	for try := range tries {
		var private crypto.Signer
		if private, err = s.private(algorithm, fmt.Sprintf("%d %d %d %s", s.Seed, algorithm, try, zone)); err != nil {
			continue
		}
		var key *zones.Key
		if key, err = zones.KeyFrom(zone, uint8(algorithm), dns.ZONE|dns.SEP, private); err == nil {
			return key, nil
		}
	}
	return nil, err
}

// private is the private key that a text stands for.
func (s Spec) private(algorithm int, text string) (crypto.Signer, error) {
	seed := sha512.Sum512([]byte(text))
	switch algorithm {
	case int(dns.RSASHA256), int(dns.RSASHA512):
		return sharedRSA(s.Seed), nil
	case int(dns.ECDSAP256SHA256):
		return ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:32])
	case int(dns.ECDSAP384SHA384):
		return ecdsa.ParseRawPrivateKey(elliptic.P384(), seed[:48])
	case int(dns.ED25519), unknown:
		return ed25519.NewKeyFromSeed(seed[:ed25519.SeedSize]), nil
	}
	return nil, fmt.Errorf("a universe is signed with algorithm 8, 10, 13, 14 or 15, not %d", algorithm)
}

// rsaBits is a size that zone-signing keys often have, and with which a denial by NSEC3 fits into a datagram.
const rsaBits = 1024

var rsaKeys = struct {
	sync.Mutex
	bySeed map[uint64]*rsa.PrivateKey
}{bySeed: map[uint64]*rsa.PrivateKey{}}

// sharedRSA is the key of all zones with RSA, as one takes long to find. The standard library makes none from a seed.
func sharedRSA(seed uint64) *rsa.PrivateKey {
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	if k := rsaKeys.bySeed[seed]; k != nil {
		return k
	}
	chance, one := rand.New(rand.NewPCG(seed, rsaBits)), big.NewInt(1)
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int), E: 65537}, D: new(big.Int)}
	for k.N.BitLen() != rsaBits || k.Validate() != nil {
		p, q := prime(chance), prime(chance)
		k.Primes = []*big.Int{p, q}
		k.N.Mul(p, q)
		k.D.ModInverse(big.NewInt(int64(k.E)), new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)))
		k.Precompute()
	}
	rsaKeys.bySeed[seed] = k
	return k
}

// prime draws a prime of half the size of a key.
func prime(chance *rand.Rand) *big.Int {
	octets := make([]byte, rsaBits/16)
	for p := new(big.Int); ; {
		for i := range octets {
			octets[i] = byte(chance.Uint32())
		}
		octets[0] |= 0xc0
		octets[len(octets)-1] |= 1
		if p.SetBytes(octets).ProbablyPrime(20) {
			return p
		}
	}
}

// Check returns what checks a signature of an algorithm, and nothing else, with Go's own libraries.
func Check(algorithm int) (func() bool, error) {
	private, err := Spec{}.private(algorithm, "check")
	if err != nil {
		return nil, err
	}
	data := sha512.Sum512([]byte("data"))
	digest, hash := data[:32], crypto.SHA256
	switch key := private.(type) {
	case *rsa.PrivateKey:
		if algorithm == int(dns.RSASHA512) {
			digest, hash = data[:], crypto.SHA512
		}
		sig, err := rsa.SignPKCS1v15(nil, key, hash, digest)
		return func() bool { return rsa.VerifyPKCS1v15(&key.PublicKey, hash, digest, sig) == nil }, err
	case *ecdsa.PrivateKey:
		if algorithm == int(dns.ECDSAP384SHA384) {
			digest, hash = data[:48], crypto.SHA384
		}
		sig, err := key.Sign(nil, digest, hash)
		return func() bool { return ecdsa.VerifyASN1(&key.PublicKey, digest, sig) }, err
	}
	key := private.(ed25519.PrivateKey)
	sig := ed25519.Sign(key, data[:])
	return func() bool { return ed25519.Verify(key.Public().(ed25519.PublicKey), data[:], sig) }, nil
}
