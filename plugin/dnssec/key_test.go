package dnssec

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func dnskey(t testing.TB, line string) *dns.DNSKEY {
	t.Helper()
	return rrs(t, line)[0].(*dns.DNSKEY)
}

const (
	keyRFC4034 = "dskey.example.com. DNSKEY 256 3 5 " +
		"AQOeiiR0GOMYkDshWoSKz9XzfwJr1AYtsmx3TGkJaNXVbfi/2pHm822aJ5iI9BMzNXxeYCmZDRD99WYwYqUS" +
		"djMmmAphXdvxegXd/M5+X7OrzKBaMbCVdFLUUh6DhweJBjEVv5f2wwjM9XzcnOf+EPbtG9DMBmADjFDc2w/rljwvFw=="
	keyP256 = "example.net. DNSKEY 257 3 13 " +
		"GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA=="
	keyP384 = "example.net. DNSKEY 257 3 14 " +
		"xKYaNhWdGOfJ+nPrL8/arkwf2EY3MDJ+SErKivBVSum1w/egsXvSADtNJhyem5RCOpgQ6K8X1DRSEkrbYQ+OB+v8" +
		"/uX45NBwY8rp65F6Glur8I/mlVNgF6W/qTI37m40"
	key3613  = "example.com. DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4="
	key35217 = "example.com. DNSKEY 257 3 15 zPnZ/QwEe7S8C5SPz2OfS5RR40ATk2/rYnE9xHIEijs="
	key9713  = "example.com. DNSKEY 257 3 16 " +
		"3kgROaDjrh0H2iuixWBrc8g2EpBBLCdGzHmn+G2MpTPhpj/OiBVHHSfPodx1FYYUcJKm1MDpJtIA"
	key38353 = "example.com. DNSKEY 257 3 16 " +
		"kkreGWoccSDmUBGAe7+zsbG6ZAFQp+syPmYUurBRQc3tDjeMCJcVMRDmgcNLp5HlHAMy12VoISsA"
	key9033 = "example.net. DNSKEY 256 3 8 " +
		"AwEAAcFcGsaxxdgiuuGmCkVImy4h99CqT7jwY3pexPGcnUFtR2Fh36BponcwtkZ4cAgtvd4Qs8PkxUdp6p/DlUmObdk="
	key3740 = "example.net. DNSKEY 256 3 10 " +
		"AwEAAdHoNTOW+et86KuJOWRDp1pndvwb6Y83nSVXXyLA3DLroROUkN6X0O6pnWnjJQujX/AyhqFDxj13tOnD9u/1" +
		"kTg7cV6rklMrZDtJCQ5PCl/D7QNPsgVsMu1J2Q8gpMpztNFLpPBz1bWXjDtaR7ZQBlZ3PFY12ZTSncorffcGmhOL"
	// The root's keys as IANA publishes them.
	key20326 = ". DNSKEY 257 3 8 " +
		"AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQ" +
		"lNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+" +
		"sqqls3eNbuv7" +
		"pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8s" +
		"ubX2Nn6UwNR1" +
		"AkUTV74bU="
	key38696 = ". DNSKEY 257 3 8 " +
		"AwEAAa96jeuknZlaeSrvyAJj6ZHv28hhOKkx3rLGXVaC6rXTsDc449/cidltpkyGwCJNnOAlFNKF2jBosZBU5eeHspaQWOmOElZsjI" +
		"CMQMC3aeHbGiShvZsx4wMYSjH8e7Vrhbu6irwCzVBApESjbUdpWWmEnhathWu1jo+siFUiRAAxm9qyJNg/wOZqqzL/dL/q8PkcRU5oUKEp" +
		"Uge71M3ej2/7" +
		"CPqpdVwuMoTvoB+ZOT4YeGyxMvHmbrxlFzGOHOijtzN+u1TQNatX2XBuzZNQ1K+s2CXkPIZo7s6JgZyvaBevYtxPvYLw4z9mR7K2vaF18U" +
		"YH9Z9GNUUeay" +
		"ffKC73PYc="
)

// key tags and DS digests as published; one octet off and the DS names no key (V-2, V-27, V-38).
func TestDSVectors(t *testing.T) {
	for _, row := range []struct {
		name, key string
		tag       uint16
		digest    uint8
		want      string
	}{
		{"X-1 RFC 4034 5.4", keyRFC4034, 60485, 1, "2BB183AF5F22588179A53B0A98631FAD1A292118"},
		{"X-1 RFC 4509 2.3", keyRFC4034, 60485, 2, "D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A"},
		{"X-8 P-256", keyP256, 55648, 2, "b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17"},
		{"X-8 P-384", keyP384, 10771, 4,
			"72d7b62976ce06438e9c0bf319013cf801f09ecc84b8d7e9495f27e305c6a9b0563a9b5f4d288405c3008a946df983d6"},
		{"X-9", key3613, 3613, 2, "3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b"},
		{"X-9", key35217, 35217, 2, "401781b934e392de492ec77ae2e15d70f6575a1c0bc59c5275c04ebe80c6614c"},
		{"X-9", key9713, 9713, 2, "6ccf18d5bc5d7fc2fceb1d59d17321402f2aa8d368048db93dd811f5cb2b19c7"},
		{"X-9", key38353, 38353, 2, "645ff078b3568f5852b70cb60e8e696cc77b75bfaaffc118cf79cbda1ba28af4"},
		{"X-11", key20326, 20326, 2, "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"},
		{"X-11", key20326, 20326, 1, "AE1EA5B974D4C858B740BD03E3CED7EBFCBD1724"},
		{"X-11", key20326, 20326, 4, "538F47BA9BB88908E1DC335D6DFD51CA66B4D824192E6E6E210AE8CC18ECE46A0F62B9F0D2F88" +
			"DFC87D4BB8B8AED21CB"},
		{"X-11", key38696, 38696, 2, "683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16"},
	} {
		key := dnskey(t, row.key)
		ds := &dns.DS{KeyTag: row.tag, Algorithm: key.Algorithm, DigestType: row.digest, Digest: row.want}
		rdata := canonicalRDATA(key)
		if !matches(ds, key, rdata) {
			t.Errorf("%s: the DS of key %d with digest type %d does not match", row.name, row.tag, row.digest)
		}
		shouted := *key
		shouted.Hdr.Name = strings.ToUpper(key.Hdr.Name)
		if !matches(ds, &shouted, rdata) {
			t.Errorf("%s: the case of the owner counts", row.name)
		}
		for name, spoil := range map[string]func(*dns.DS, *dns.DNSKEY){
			"tag":           func(ds *dns.DS, _ *dns.DNSKEY) { ds.KeyTag++ },
			"algorithm":     func(ds *dns.DS, _ *dns.DNSKEY) { ds.Algorithm++ },
			"digest":        func(ds *dns.DS, _ *dns.DNSKEY) { ds.Digest = "00" + ds.Digest[2:] },
			"digest, short": func(ds *dns.DS, _ *dns.DNSKEY) { ds.Digest = ds.Digest[2:] },
			"digest type 3": func(ds *dns.DS, _ *dns.DNSKEY) { ds.DigestType = 3 },
			"owner":         func(_ *dns.DS, key *dns.DNSKEY) { key.Hdr.Name = "x." },
		} {
			ds, key := *ds, *key
			if spoil(&ds, &key); matches(&ds, &key, rdata) {
				t.Errorf("%s, key %d: another %s matches", row.name, row.tag, name)
			}
		}
	}
	if tag := dnskey(t, keyRFC4034).KeyTag(); tag != 60485 {
		t.Errorf("X-1: tag %d", tag)
	}
	rfc := "example.com. DNSKEY 256 3 5 " +
		"AQPSKmynfzW4kyBv015MUG2DeIQ3Cbl+BBZH4b/0PY1kxkmvHjcZc8nokfzj31GajIQKY+5CptLr3buXA10hWqTkF7H6RfoR" +
		"qXQeogmMHfpftf6zMv1LyBUgia7za6ZEzOJBOztyvhjL742iU/TpPSEDhm2SNKLijfUppn1UaNvv4w=="
	if tag := dnskey(t, rfc).KeyTag(); tag != 2642 {
		t.Errorf("X-1 RFC 4034 2.3: tag %d", tag)
	}
}

// X-11, T-4: REVOKE moves the tag of a root key, and such a key matches neither its old DS nor is it a zone key (V-4,
// V-5).
func TestRevokedRootKeys(t *testing.T) {
	for line, want := range map[string]uint16{key20326: 20454, key38696: 38824} {
		key := dnskey(t, line)
		ds := key.ToDS(dns.SHA256)
		key.Flags |= flagRevoke
		if got := key.KeyTag(); got != want || matches(ds, key, canonicalRDATA(key)) || zoneKey(key) {
			t.Errorf("tag %d, want %d; matches %v, zone key %v", got, want, matches(ds, key, canonicalRDATA(key)),
				zoneKey(key))
		}
	}
}

// V-4: zone key flag, protocol 3, not revoked; SEP and unknown flags play no part (V-3).
func TestZoneKey(t *testing.T) {
	for _, row := range []struct {
		flags    uint16
		protocol uint8
		want     bool
	}{
		{256, 3, true}, {257, 3, true}, {0xff7f, 3, true}, {0, 3, false}, {1, 3, false},
		{256, 2, false}, {256, 4, false},
		{256 | 128, 3, false}, {257 | 128, 3, false},
	} {
		if got := zoneKey(&dns.DNSKEY{Flags: row.flags, Protocol: row.protocol}); got != row.want {
			t.Errorf("flags %d, protocol %d: %v", row.flags, row.protocol, got)
		}
	}
}

// V-34..V-37, V-45: which algorithms count, with SHA-1 and without.
func TestSupportedAlgorithms(t *testing.T) {
	always, sha1 := []int{8, 10, 13, 14, 15, 16}, []int{5, 7}
	for algorithm := range 256 {
		for _, policy := range []Policy{{}, {SHA1: true}} {
			want := slices.Contains(always, algorithm) || policy.SHA1 && slices.Contains(sha1, algorithm)
			if got := policy.supported(uint8(algorithm)); got != want {
				t.Errorf("algorithm %d with %+v: %v", algorithm, policy, got)
			}
			if _, err := parsePublic(uint8(algorithm), []byte("not a key of any algorithm")); err == nil {
				t.Errorf("algorithm %d takes any key", algorithm)
			}
		}
	}
	if _, err := parsePublic(253, make([]byte, 57)); err == nil {
		t.Error("V-37: a private algorithm takes an Ed448 key")
	}
}

func utc(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 12, 0, 0, 0, time.UTC)
}

// X-9a, X-10: published signatures, each good, and Bogus with one octet of signature, data or key changed, or
// with a signature or a key of another length (V-34, V-43, V-44).
func TestSignatureVectors(t *testing.T) {
	const ed = "example.com. 3600 MX 10 mail.example.com."
	for _, row := range []struct {
		name, key, record, sig string
		now                    time.Time
		want                   string
	}{
		{"X-8 P-256", keyP256, "www.example.net. 3600 A 192.0.2.1",
			"www.example.net. 3600 RRSIG A 13 3 3600 20100909100439 " +
				"20100812100439 55648 example.net. " +
				"qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==",
			utc(2010, 9, 1), "Secure"},
		{"X-8 P-384", keyP384, "www.example.net. 3600 A 192.0.2.1",
			"www.example.net. 3600 RRSIG A 14 3 3600 20100909102025 " +
				"20100812102025 10771 example.net. " +
				"/L5hDKIvGDyI1fcARX3z65qrmPsVz73QD1Mr5CEqOiLP95hxQouuroGCeZOvzFaxsT8Glr74hbavRKayJNuydCuz" +
				"WTSSPdz7wnqXL5bdcJzusdnI0RSMROxxwGipWcJm", utc(2010, 9, 1), "Secure"},
		{"X-9a erratum 4935", key3613, ed,
			"example.com. 3600 RRSIG MX 15 2 3600 1440021600 1438207200 3613 example.com. " +
				"oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==",
			utc(2015, 8, 10), "Secure"},
		{"X-9a erratum 4935", key35217, ed,
			"example.com. 3600 RRSIG MX 15 2 3600 1440021600 1438207200 35217 example.com. " +
				"zXQ0bkYgQTEFyfLyi9QoiY6D8ZdYo4wyUhVioYZXFdT410QPRITQSqJSnzQoSm5poJ7gD7AQR0O7KuI5k2pcBg==",
			utc(2015, 8, 10), "Secure"},
		{"X-9a as printed (V-17)", key3613, ed,
			"example.com. 3600 RRSIG MX 15 3 3600 1440021600 1438207200 3613 example.com. " +
				"Edk+IB9KNNWg0HAjm7FazXyrd5m3Rk8zNZbvNpAcM+eysqcUOMIjWoevFkjH5GaMWeG96GUVZu6ECKOQmemHDg==",
			utc(2015, 8, 10), "Bogus, EDE 6"},
		{"X-9a as printed (V-17)", key9713, ed,
			"example.com. 3600 RRSIG MX 16 3 3600 1440021600 1438207200 9713 example.com. " +
				"Nmc0rgGKpr3GKYXcB1JmqqS4NYwhmechvJTqVzt3jR+Qy/lSLFoIk1L+9e39GPL+5tVzDPN3f9kAwiu8" +
				"KCuPPjtl227ayaCZtRKZuJax7n9NuYlZJIusX0SOIOKBGzG+yWYtz1/jjbzl5GGkWvREUCUA", utc(2015, 8, 10),
			"Bogus, EDE 6"},
		{"X-10 RSA/SHA-256, 512 bits", key9033, "www.example.net. 3600 A 192.0.2.91",
			"www.example.net. 3600 RRSIG A 8 3 3600 " +
				"20300101000000 20000101000000 9033 example.net. " +
				"kRCOH6u7l0QGy9qpC9l1sLncJcOKFLJ7GhiUOibu4teYp5VE9RncriShZNz85mwlMgNEacFY" +
				"K/lPtPiVYP4bwg==", denialNow, "Secure"},
		{"X-10 RSA/SHA-512", key3740, "www.example.net. 3600 A 192.0.2.91", "www.example.net. 3600 RRSIG A 10 3 3600 " +
			"20300101000000 20000101000000 3740 example.net. " +
			"tsb4wnjRUDnB1BUi+t6TMTXThjVnG+eCkWqjvvjhzQL1d0YRoOe0CbxrVDYd0xDtsuJRaeUw" +
			"1ep94PzEWzr0iGYgZBWm/zpq+9fOuagYJRfDqfReKBzMweOLDiNa8iP5g9vMhpuv6OPlvpXwm9Sa9ZXIbNl1MBGk0fthPgxdDLw=",
			denialNow, "Secure"},
	} {
		key, record, sig := dnskey(t, row.key), rrs(t, row.record)[0], rrs(t, row.sig)[0].(*dns.RRSIG)
		judge := func(key *dns.DNSKEY, record dns.RR, sig *dns.RRSIG) string {
			zone := &Zone{Name: key.Hdr.Name, Status: Secure}
			if parsed, err := ParseKey(key); err == nil {
				zone.Keys = []*Key{parsed}
			}
			c := &Check{Now: row.now, Policy: DefaultPolicy(), SignatureChecks: 128}
			q := dns.Question{Name: record.Header().Name, Qtype: record.Header().Rrtype, Qclass: dns.ClassINET}
			return told(c.Answer(q, reply(t, 0, []dns.RR{record, sig}, nil), zoneMap{zone.Name: zone}))
		}
		if got := judge(key, record, sig); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
		set := reply(t, 0, []dns.RR{record}, nil).Answer[0]
		parsed, err := ParseKey(key)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		signature, _ := base64.StdEncoding.DecodeString(sig.Signature)
		if !parsed.public.verify(signedOver(set, sig), signature) {
			t.Errorf("%s: the bare signature does not hold", row.name)
		}
		for i := range signature {
			changed := bytes.Clone(signature)
			changed[i] ^= 0x10
			if parsed.public.verify(signedOver(set, sig), changed) {
				t.Errorf("%s: holds with octet %d of the signature changed", row.name, i)
			}
		}
		for name, other := range map[string][]byte{
			"empty": {}, "shorter": signature[1:], "shorter at the end": signature[:len(signature)-1],
			"longer": append([]byte{0}, signature...), "longer at the end": append(bytes.Clone(signature), 0),
			"longer in the middle": slices.Concat(signature[:len(signature)/2], []byte{0},
				signature[len(signature)/2:]),
			"in DER":   append([]byte{0x30, byte(len(signature))}, signature...),
			"all zero": make([]byte, len(signature)),
			"all ones": bytes.Repeat([]byte{0xff}, len(signature)),
		} {
			if parsed.public.verify(signedOver(set, sig), other) {
				t.Errorf("%s: holds with a signature that is %s (V-44)", row.name, name)
			}
		}
		moved := *sig
		moved.OrigTtl++
		if got := judge(key, record, &moved); got != "Bogus, EDE 6" {
			t.Errorf("%s: with another Original TTL: %s", row.name, got)
		}
		garbage := *sig
		garbage.Signature = "*" + sig.Signature
		if got := judge(key, record, &garbage); !strings.HasPrefix(got, "Bogus") {
			t.Errorf("%s: with a signature that is no base64: %s", row.name, got)
		}
	}
}

// V-44: keys of a wrong length, with the octet 4 in front, or off the curve are refused.
func TestKeyForms(t *testing.T) {
	p256, _ := base64.StdEncoding.DecodeString(dnskey(t, keyP256).PublicKey)
	p384, _ := base64.StdEncoding.DecodeString(dnskey(t, keyP384).PublicKey)
	off := bytes.Clone(p256)
	off[0] ^= 1
	for _, row := range []struct {
		name      string
		algorithm uint8
		octets    []byte
		good      bool
	}{
		{"P-256", 13, p256, true}, {"P-384", 14, p384, true},
		{"P-256 with 4 in front", 13, append([]byte{4}, p256...), false},
		{"P-256 cut", 13, p256[:63], false}, {"P-256 as P-384", 14, p256, false}, {"P-384 as P-256", 13, p384, false},
		{"off the curve", 13, off, false}, {"the origin", 13, make([]byte, 64), false}, {"empty", 13, nil, false},
		{"compressed", 13, append([]byte{2}, p256[:32]...), false},
		{"Ed25519", 15, make([]byte, 32), true}, {"Ed25519 short", 15, make([]byte, 31), false},
		{"Ed25519 long", 15, make([]byte, 33), false}, {"Ed25519 empty", 15, nil, false},
		{"Ed448", 16, make([]byte, 57), true}, {"Ed448 short", 16, make([]byte, 56), false},
		{"Ed448 long", 16, make([]byte, 58), false},
	} {
		if _, err := parsePublic(row.algorithm, row.octets); (err == nil) != row.good {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	if _, err := ParseKey(&dns.DNSKEY{Algorithm: 13, PublicKey: "no base64"}); err == nil {
		t.Error("a key that is no base64 is taken")
	}
	if small, _ := parsePublic(15, make([]byte, 32)); small.verify([]byte("data"), make([]byte, 64)) {
		t.Error("a key of small order verifies a signature of zeros")
	}
}

// rsaOctets is an RSA key in the form of RFC 3110.
func rsaOctets(e, n []byte) []byte {
	if len(e) < 256 {
		return slices.Concat([]byte{byte(len(e))}, e, n)
	}
	return slices.Concat([]byte{0, byte(len(e) >> 8), byte(len(e))}, e, n)
}

// V-42: the bounds of RSA keys and the two forms of the exponent's length.
func TestRSAForms(t *testing.T) {
	modulus := func(bits int) []byte {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return n.Add(n, big.NewInt(1)).Bytes()
	}
	const sha256, sha512 = dns.RSASHA256, dns.RSASHA512
	f4 := []byte{1, 0, 1}
	for _, row := range []struct {
		name      string
		algorithm uint8
		octets    []byte
		good      bool
	}{
		{"512 bits", sha256, rsaOctets(f4, modulus(512)), true},
		{"511 bits", sha256, rsaOctets(f4, modulus(511)), false},
		{"4096 bits", sha256, rsaOctets(f4, modulus(4096)), true},
		{"4097 bits", sha256, rsaOctets(f4, modulus(4097)), false},
		{"512 bits, algorithm 5", dns.RSASHA1, rsaOctets(f4, modulus(512)), true},
		{"512 bits, algorithm 7", dns.RSASHA1NSEC3SHA1, rsaOctets(f4, modulus(512)), true},
		{"511 bits, algorithm 5", dns.RSASHA1, rsaOctets(f4, modulus(511)), false},
		{"1024 bits, algorithm 10", sha512, rsaOctets(f4, modulus(1024)), true},
		{"1023 bits, algorithm 10", sha512, rsaOctets(f4, modulus(1023)), false},
		{"exponent 3", sha256, rsaOctets([]byte{3}, modulus(1024)), true},
		{"exponent 1", sha256, rsaOctets([]byte{1}, modulus(1024)), false},
		{"exponent 2", sha256, rsaOctets([]byte{2}, modulus(1024)), false},
		{"exponent 4", sha256, rsaOctets([]byte{4}, modulus(1024)), false},
		{"exponent 2^31-1", sha256, rsaOctets([]byte{0x7f, 0xff, 0xff, 0xff}, modulus(1024)), true},
		{"exponent 2^31+1", sha256, rsaOctets([]byte{0x80, 0, 0, 1}, modulus(1024)), true},
		{"exponent 2^32+1", sha256, rsaOctets([]byte{1, 0, 0, 0, 1}, modulus(1024)), true},
		{"exponent 2^32+3", sha256, rsaOctets([]byte{1, 0, 0, 0, 3}, modulus(1024)), false},
		{"long form", sha256, slices.Concat([]byte{0, 0, 3}, f4, modulus(1024)), true},
		{"long form, exponent of 256 octets", sha256, rsaOctets(append(make([]byte, 253), f4...), modulus(1024)), true},
		{"long form without exponent", sha256, slices.Concat([]byte{0, 0, 0}, modulus(1024)), false},
		{"long form cut", sha256, slices.Concat([]byte{0, 4, 0}, f4, modulus(1024)), false},
		{"without modulus", sha256, append([]byte{3}, f4...), false},
		{"cut in the exponent", sha256, []byte{3, 1, 0}, false},
		{"two octets", sha256, []byte{0, 1}, false}, {"empty", sha256, nil, false},
	} {
		if _, err := parsePublic(row.algorithm, row.octets); (err == nil) != row.good {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// rsaPair makes an RSA key of the size and exponent without the bounds of the standard library.
func rsaPair(t *testing.T, bits int, e int64) (n, d *big.Int) {
	t.Helper()
	exponent, one := big.NewInt(e), big.NewInt(1)
	for {
		p, errP := rand.Prime(rand.Reader, bits/2)
		q, errQ := rand.Prime(rand.Reader, bits-bits/2)
		if errP != nil || errQ != nil {
			t.Fatal(errP, errQ)
		}
		n = new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(p.Sub(p, one), q.Sub(q, one))
		if d = new(big.Int).ModInverse(exponent, phi); d != nil && n.BitLen() == bits {
			return n, d
		}
	}
}

// pkcs1 signs with the padding given by the caller, right or wrong.
func pkcs1(n, d *big.Int, padded []byte) []byte {
	s := new(big.Int).Exp(new(big.Int).SetBytes(padded), d, n)
	return s.FillBytes(make([]byte, (n.BitLen()+7)/8))
}

func padded(size int, hash crypto.Hash, data []byte) []byte {
	tail := append([]byte(digestInfo[hash]), digest(hash, data)...)
	return slices.Concat([]byte{0, 1}, bytes.Repeat([]byte{0xff}, size-3-len(tail)), []byte{0}, tail)
}

// V-43: our own PKCS#1 v1.5 verification agrees with crypto/rsa, which GODEBUG lets verify short keys here, about good
// signatures, changed ones, and such as are padded wrongly.
func TestSmallRSA(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	data := []byte("signed data")
	for _, row := range []struct {
		bits int
		e    int64
		hash crypto.Hash
	}{
		{512, 3, crypto.SHA1}, {512, 65537, crypto.SHA256}, {513, 65537, crypto.SHA256}, {1023, 65537, crypto.SHA1},
		{768, 3, crypto.SHA512}, {1024, 65537, crypto.SHA512}, {1024, 1<<31 - 1, crypto.SHA256},
		{1024, 1<<31 + 1, crypto.SHA256}, {1024, 1<<32 + 1, crypto.SHA512}, {600, 1<<32 + 1, crypto.SHA1},
	} {
		name := fmt.Sprintf("%d bits, exponent %d, %v", row.bits, row.e, row.hash)
		n, d := rsaPair(t, row.bits, row.e)
		own, size := smallRSA{row.hash, n, big.NewInt(row.e)}, (row.bits+7)/8
		theirs := func(s []byte) bool {
			return rsa.VerifyPKCS1v15(&rsa.PublicKey{N: n, E: int(row.e)}, row.hash, digest(row.hash, data), s) == nil
		}
		right := padded(size, row.hash, data)
		good := pkcs1(n, d, right)
		if !own.verify(data, good) {
			t.Errorf("%s: a good signature does not verify", name)
		}
		if own.verify([]byte("signed dataX"), good) {
			t.Errorf("%s: verifies over other data", name)
		}
		wrong := map[string][]byte{
			"empty": {}, "cut": good[1:], "with a zero in front": append([]byte{0}, good...),
			"zero":                make([]byte, size),
			"the modulus":         n.Bytes(),
			"over another digest": pkcs1(n, d, padded(size, row.hash, []byte("other"))),
		}
		if more := new(big.Int).Add(new(big.Int).SetBytes(good), n); more.BitLen() <= 8*size {
			wrong["with the modulus added"] = more.FillBytes(make([]byte, size))
		}
		for i := range right {
			changed := bytes.Clone(right)
			changed[i] ^= 1
			wrong[fmt.Sprint("padded with octet changed ", i)] = pkcs1(n, d, changed)
			changed = bytes.Clone(good)
			changed[i] ^= 1
			wrong[fmt.Sprint("octet changed ", i)] = changed
		}
		for what, s := range wrong {
			if own.verify(data, s) {
				t.Errorf("%s: verifies what is %s", name, what)
			}
			if row.e < 1<<31 && theirs(s) {
				t.Errorf("%s: crypto/rsa verifies what is %s", name, what)
			}
		}
		if row.e < 1<<31 && !theirs(good) {
			t.Errorf("%s: crypto/rsa does not verify a good signature", name)
		}
	}
	// RFC 8017 section 9.2 asks for eight octets of padding.
	for bits, want := range map[int]bool{512: false, 744: false, 752: true} {
		n, d := rsaPair(t, bits, 3)
		short := append([]byte{0}, digest(crypto.SHA512, data)[:63]...)
		if bits > 700 {
			short = padded(bits/8, crypto.SHA512, data)
		}
		if got := (smallRSA{crypto.SHA512, n, big.NewInt(3)}).verify(data, pkcs1(n, d, short)); got != want {
			t.Errorf("%d bits with %d octets of padding: %v", bits, bits/8-86, got)
		}
	}
}

// V-42, V-43: which keys the standard library gets, and which are ours.
func TestRSAChoice(t *testing.T) {
	for _, row := range []struct {
		bits int
		e    int64
		own  bool
	}{{1023, 65537, true}, {1024, 65537, false}, {1024, 1<<31 - 1, false}, {1024, 1<<31 + 1, true},
		{2048, 1<<32 + 1, true}} {
		n := new(big.Int).SetBit(big.NewInt(1), row.bits-1, 1)
		key, err := parseRSA(crypto.SHA256, rsaOctets(big.NewInt(row.e).Bytes(), n.Bytes()), 512)
		if err != nil {
			t.Fatal(err)
		}
		if _, own := key.(smallRSA); own != row.own {
			t.Errorf("%d bits, exponent %d: ours %v", row.bits, row.e, own)
		}
	}
	n, d := rsaPair(t, 1024, 65537)
	key, err := parseRSA(crypto.SHA256, rsaOctets([]byte{1, 0, 1}, n.Bytes()), 512)
	if err != nil || !key.verify([]byte("data"), pkcs1(n, d, padded(128, crypto.SHA256, []byte("data")))) {
		t.Errorf("a good signature by 1024 bits: %v", err)
	}
}

// V-34, V-36, X-9: a zone signed with each algorithm by another program, from its DS down; SHA-1 only where allowed.
func TestAlgorithms(t *testing.T) {
	for _, algorithm := range []uint8{5, 7, 8, 10, 13, 14, 15, 16} {
		key := newKey(t, "example.", algorithm)
		keys := reply(t, 0, signedBy(t, key, key.DNSKEY), nil)
		c := denialCheck()
		c.Policy.SHA1 = algorithm < 8
		zone := c.Apex(c.Policy.Anchor("example.", []*dns.DS{key.DS(dns.SHA256)}), keys)
		if zone.Status != Secure || zone.Tie.Algorithm != algorithm {
			t.Fatalf("algorithm %d: %v (%v)", algorithm, zone.Status, zone.Cause)
		}
		signed := signedBy(t, key, rrs(t, "a.example. A 192.0.2.1")...)
		m := reply(t, 0, signed, nil)
		if got := told(c.Answer(asked("a.example. A"), m, zoneMap{"example.": zone})); got != "Secure" {
			t.Errorf("algorithm %d: %s", algorithm, got)
		}
		for _, sig := range m.Answer[0].Sigs {
			*sig = *spoil(sig)
		}
		spoilt := reply(t, 0, signed, nil)
		if got := told(denialCheck().Answer(asked("a.example. A"), spoilt,
			zoneMap{"example.": zone})); got != "Bogus, EDE 6" {
			t.Errorf("algorithm %d, signature changed: %s", algorithm, got)
		}
	}
}

// An ECDSA signature of r|s holds for the digest of its curve only.
func TestECDSADigest(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := private.PublicKey.Bytes()
	key, err := parsePublic(13, raw[1:])
	if err != nil {
		t.Fatal(err)
	}
	for hash, want := range map[crypto.Hash]bool{crypto.SHA256: true, crypto.SHA384: false, crypto.SHA1: false} {
		r, s, _ := ecdsa.Sign(rand.Reader, private, digest(hash, []byte("data")))
		octets := make([]byte, 64)
		r.FillBytes(octets[:32])
		s.FillBytes(octets[32:])
		if got := key.verify([]byte("data"), octets); got != want {
			t.Errorf("%v: %v for %s", hash, got, hex.EncodeToString(octets))
		}
	}
}
