package zones

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestKeyTagZero: a zone whose share of the common RSA key would have key tag 0, which the DNS library does not sign
// with, gets a key of its own.
func TestKeyTagZero(t *testing.T) {
	shared := &Key{DNSKEY: &dns.DNSKEY{
		Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}, Flags: 257, Protocol: 3,
		Algorithm: dns.RSASHA256,
	}}
	for n := range uint32(math.MaxUint16 + 2) {
		shared.DNSKEY.PublicKey = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, 0xffff0000|n))
		if !shared.canSign() {
			break
		}
	}
	if shared.canSign() {
		t.Fatal("no key with tag 0 was found")
	}
	k, err := (&ring{shared}).key("example.", dns.RSASHA256, 257)
	if err != nil || !k.canSign() {
		t.Errorf("%v: the key has tag %d", err, k.DNSKEY.KeyTag())
	}
}

// TestKeyFrom: a key made from a private key signs as one that was generated, and another kind of key is refused.
func TestKeyFrom(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []uint8{dns.RSASHA256, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519} {
		generated, err := NewKey("example.", algorithm, dns.ZONE)
		if err != nil {
			t.Fatal(err)
		}
		k, err := KeyFrom("example.", algorithm, dns.ZONE, generated.signer)
		if err != nil {
			t.Fatal(err)
		}
		if k.DNSKEY.String() != generated.DNSKEY.String() {
			t.Errorf("algorithm %d:\n%s\nwas\n%s", algorithm, k.DNSKEY, generated.DNSKEY)
		}
		set := []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "a.example.", Rrtype: dns.TypeA, Class: dns.ClassINET},
			A: net.IPv4(192, 0, 2, 1)}}
		sig, err := k.Sign(set, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		if err != nil || sig.Verify(k.DNSKEY, set) != nil {
			t.Errorf("algorithm %d: %v, %v", algorithm, err, sig)
		}
	}
	if k, err := KeyFrom("example.", 23, dns.ZONE, edwards); err != nil || k.DNSKEY.Algorithm != 23 {
		t.Errorf("algorithm 23: %v", err)
	}
	if _, err := KeyFrom("example.", dns.ECDSAP256SHA256, dns.ZONE, foreignSigner{}); err == nil {
		t.Error("a key of no kind was taken")
	}
}

// TestLazy: a zone whose RRsets are signed when they are needed gives the replies of one that is signed at once.
func TestLazy(t *testing.T) {
	k, err := NewKey("example.", dns.ED25519, dns.ZONE) // signs the same twice
	if err != nil {
		t.Fatal(err)
	}
	replies := func(lazy bool) (all string) {
		z, err := Parse("example.", "@ SOA ns hostmaster 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n*.w A 192.0.2.2\n")
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1<<30, 0)
		c := Config{Keys: []*Key{k}, Lazy: lazy, NSEC3: &NSEC3{}, Inception: now, Expiration: now.Add(time.Hour)}
		if err := z.Sign(c); err != nil {
			t.Fatal(err)
		}
		z.Edit("ns.example.", dns.TypeA, func(rrs, sigs []dns.RR) (_, _ []dns.RR) { return rrs, append(sigs, sigs...) })
		for _, q := range []dns.Question{
			{Name: "ns.example.", Qtype: dns.TypeA}, {Name: "x.w.example.", Qtype: dns.TypeA},
			{Name: "nope.example.", Qtype: dns.TypeA},
			{Name: "example.", Qtype: dns.TypeSOA}, {Name: "ns.example.", Qtype: dns.TypeRRSIG},
		} {
			m := z.Answer(q, true)
			m.Id = 0
			all += m.String()
		}
		return all
	}
	if now, late := replies(false), replies(true); now != late || !strings.Contains(now, "RRSIG") {
		t.Errorf("lazy:\n%s\nat once:\n%s", late, now)
	}
}

// TestProof: what a zone proves about a name, existing or not.
func TestProof(t *testing.T) {
	z, err := Parse("example.", "@ SOA ns hostmaster 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := z.Sign(Config{Inception: time.Now(), Expiration: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for name, owners := range map[string][]string{"ns.example.": {"ns.example."}, "nope.example.": {"example."}} {
		var got []string
		for _, rr := range z.Proof(name) {
			if rr.Header().Rrtype == dns.TypeNSEC {
				got = append(got, rr.Header().Name)
			}
		}
		if !slices.Equal(got, owners) {
			t.Errorf("%s: NSEC of %v, want %v", name, got, owners)
		}
	}
}
