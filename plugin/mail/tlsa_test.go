package mail

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var now = time.Date(2026, time.November, 20, 4, 0, 0, 0, time.UTC)

// issuer is a certificate with its key.
type issuer struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// issue makes a certificate signed by another one, or by itself. Edit may change the template.
func issue(t testing.TB, by *issuer, name string, edit func(*x509.Certificate)) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), BasicConstraintsValid: true,
	}
	if edit != nil {
		edit(template)
	}
	if by == nil {
		by = &issuer{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{c, key}
}

func isCA(c *x509.Certificate) { c.IsCA = true }

func named(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

func expired(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }

// record is the TLSA record of a certificate.
func record(t testing.TB, usage, selector, matching uint8, c *issuer) *dns.TLSA {
	t.Helper()
	data, err := dns.CertificateToDANE(selector, matching, c.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return &dns.TLSA{Usage: usage, Selector: selector, MatchingType: matching, Certificate: data}
}

// TestUsable: D-6, D-7, D-8 a record at a time, and beside others.
func TestUsable(t *testing.T) {
	c := issue(t, nil, "mx.example", nil)
	digest256, digest512 := strings.Repeat("ab", 32), strings.Repeat("AB", 64)
	cert, key := hex.EncodeToString(c.Raw), hex.EncodeToString(c.RawSubjectPublicKeyInfo)
	type r = dns.TLSA
	for _, test := range []struct {
		name   string
		all    []r
		usable int    // how many of the first are
		why    string // part of what the first of the others is told
	}{
		{"3 1 1", []r{{Usage: 3, Selector: 1, MatchingType: 1, Certificate: digest256}}, 1, ""},
		{"2 0 2, in capitals", []r{{Usage: 2, Selector: 0, MatchingType: 2, Certificate: digest512}}, 1, ""},
		{"3 0 0", []r{{Usage: 3, Selector: 0, MatchingType: 0, Certificate: cert}}, 1, ""},
		{"2 1 0", []r{{Usage: 2, Selector: 1, MatchingType: 0, Certificate: key}}, 1, ""},
		{"PKIX-TA", []r{{Usage: 0, Selector: 1, MatchingType: 1, Certificate: digest256}}, 0, "public CA"},
		{"PKIX-EE", []r{{Usage: 1, Selector: 1, MatchingType: 1, Certificate: digest256}}, 0, "public CA"},
		{"usage 4", []r{{Usage: 4, Selector: 1, MatchingType: 1, Certificate: digest256}}, 0, "no usage 4"},
		{"usage 255", []r{{Usage: 255, Selector: 1, MatchingType: 1, Certificate: digest256}}, 0, "no usage 255"},
		{"selector 2", []r{{Usage: 3, Selector: 2, MatchingType: 1, Certificate: digest256}}, 0, "no selector 2"},
		{"matching type 3", []r{{Usage: 3, Selector: 1, MatchingType: 3, Certificate: digest256}}, 0,
			"no matching type 3"},
		{"short digest", []r{{Usage: 3, Selector: 1, MatchingType: 1, Certificate: digest256[2:]}}, 0, "has 31 octets"},
		{"SHA-256 as SHA-512", []r{{Usage: 3, Selector: 1, MatchingType: 2, Certificate: digest256}},
			0, "has 32 octets"},
		{"no digest", []r{{Usage: 3, Selector: 1, MatchingType: 1}}, 0, "has 0 octets"},
		{"SHA-256 as SHA-512, told", []r{{Usage: 3, Selector: 1, MatchingType: 2, Certificate: digest256}}, 0,
			"that many has a SHA-256, which is matching type 1"},
		{"SHA-512 as SHA-256", []r{{Usage: 3, Selector: 1, MatchingType: 1, Certificate: digest512}}, 0,
			"that many has a SHA-512, which is matching type 2"},
		{"SHA-256 as a key", []r{{Usage: 3, Selector: 1, Certificate: digest256}}, 0,
			"that many has a SHA-256, which is matching type 1"},
		{"SHA-512 as a certificate", []r{{Usage: 2, Certificate: digest512}}, 0,
			"that many has a SHA-512, which is matching type 2"},
		{"certificate as SHA-256", []r{{Usage: 3, MatchingType: 1, Certificate: cert}}, 0,
			"a whole certificate, which is matching type 0 with selector 0"},
		{"key as SHA-512", []r{{Usage: 3, Selector: 1, MatchingType: 2, Certificate: key}}, 0,
			"a whole public key, which is matching type 0 with selector 1"},
		{"key as certificate, told", []r{{Usage: 3, Certificate: key}}, 0,
			"a whole public key, which is matching type 0 with selector 1"},
		{"no digest of usage 1", []r{{Usage: 1, Selector: 1, MatchingType: 1}}, 0, "Postfix 3.7 crashes"},
		{"no digest of type 3", []r{{Usage: 3, Selector: 1, MatchingType: 3}}, 0, "Postfix 3.7 crashes"},
		{"nothing at all", []r{{}}, 0, "it has 0 of the 4 octets that a TLSA record has at least, and is dangerous: " +
			"take it away"},
		{"an octet", []r{{Hdr: dns.RR_Header{Rdlength: 1}, Usage: 3}}, 0, "it has 1 of the 4 octets"},
		{"two octets", []r{{Hdr: dns.RR_Header{Rdlength: 2}, Usage: 3, Selector: 1}}, 0, "it has 2 of the 4 octets"},
		{"three octets", []r{{Hdr: dns.RR_Header{Rdlength: 3}, Usage: 3, Selector: 1, MatchingType: 1}}, 0,
			"its data has 0 octets"},
		{"not hexadecimal", []r{{Usage: 3, Selector: 1, MatchingType: 1, Certificate: "xyz"}}, 0, "hexadecimal"},
		{"certificate with an octet more", []r{{Usage: 3, Certificate: cert + "00"}}, 0, "not a certificate"},
		{"key as certificate", []r{{Usage: 3, Certificate: key}}, 0, "not a certificate"},
		{"certificate as key", []r{{Usage: 3, Selector: 1, Certificate: cert}}, 0, "not a public key"},
		{"key with an octet more", []r{{Usage: 3, Selector: 1, Certificate: key + "00"}}, 0, "not a public key"},
		{"weaker digest", []r{
			{Usage: 3, Selector: 1, MatchingType: 2, Certificate: digest512},
			{Usage: 3, Selector: 1, MatchingType: 1, Certificate: digest256},
		}, 1, "stronger digest, 3 1 2"},
		{"weaker digest of another selector and of another usage", []r{
			{Usage: 3, Selector: 1, MatchingType: 2, Certificate: digest512},
			{Usage: 3, Selector: 0, MatchingType: 1, Certificate: digest256},
			{Usage: 2, Selector: 1, MatchingType: 1, Certificate: digest256},
		}, 3, ""},
		{"stronger digest that is itself unusable", []r{
			{Usage: 3, Selector: 1, MatchingType: 1, Certificate: digest256},
			{Usage: 3, Selector: 1, MatchingType: 2, Certificate: digest256},
		}, 1, "has 32 octets"},
		{"full key beside digests", []r{
			{Usage: 3, Selector: 1, MatchingType: 0, Certificate: key},
			{Usage: 3, Selector: 1, MatchingType: 2, Certificate: digest512},
			{Usage: 3, Selector: 1, MatchingType: 1, Certificate: digest256},
		}, 2, "stronger"},
		{"two of the strongest", []r{
			{Usage: 3, Selector: 1, MatchingType: 1, Certificate: digest256},
			{Usage: 3, Selector: 1, MatchingType: 1, Certificate: digest256},
		}, 2, ""},
		{"none", nil, 0, ""},
	} {
		var all []*dns.TLSA
		for i := range test.all {
			all = append(all, &test.all[i])
		}
		usable, unusable := Usable(all)
		if len(usable) != test.usable || len(usable)+len(unusable) != len(all) {
			t.Errorf("%s: %d usable and %v", test.name, len(usable), unusable)
			continue
		}
		for i, r := range usable {
			if r != all[i] {
				t.Errorf("%s: record %d is not usable", test.name, i)
			}
		}
		if len(unusable) > 0 && (test.why == "" || !strings.Contains(unusable[0].Why, test.why)) {
			t.Errorf("%s: %q", test.name, unusable[0].Why)
		}
	}
}

// world is a chain of three, and what else the cases take.
type world struct {
	root, ca, leaf, old, oldCA, ofOldCA, nameless, client, self, stranger *issuer
}

func newWorld(t testing.TB) world {
	var w world
	w.root = issue(t, nil, "root", isCA)
	w.ca = issue(t, w.root, "ca", isCA)
	w.leaf = issue(t, w.ca, "leaf", named("mx.example", "*.wild.example"))
	w.old = issue(t, w.ca, "old", func(c *x509.Certificate) { named("mx.example")(c); expired(c) })
	w.oldCA = issue(t, w.root, "old ca", func(c *x509.Certificate) { isCA(c); expired(c) })
	w.ofOldCA = issue(t, w.oldCA, "leaf of it", named("mx.example"))
	w.nameless = issue(t, w.ca, "mx.example", nil)
	w.client = issue(t, w.ca, "client", func(c *x509.Certificate) {
		named("mx.example")(c)
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	w.self = issue(t, nil, "self", func(c *x509.Certificate) { isCA(c); named("mx.example")(c) })
	w.stranger = issue(t, nil, "root", isCA) // the root's name, another key
	return w
}

// TestVerify: RFC 7671 sections 5.1 and 5.2, RFC 7672 section 3.
func TestVerify(t *testing.T) {
	w := newWorld(t)
	tlsa := func(usage, selector, matching uint8, c *issuer) *dns.TLSA {
		return record(t, usage, selector, matching, c)
	}
	capitals := tlsa(3, 1, 1, w.leaf)
	capitals.Certificate = strings.ToUpper(capitals.Certificate)
	type chain = []*issuer
	type records = []*dns.TLSA
	host := []string{"mx.example."}
	for _, test := range []struct {
		name    string
		records records
		chain   chain
		names   []string
		matched int // of the records, -1 for none
		result  Result
	}{
		{"3 1 1", records{tlsa(3, 1, 1, w.leaf)}, chain{w.leaf, w.ca}, host, 0, ""},
		{"3 1 1 in capitals", records{capitals}, chain{w.leaf}, host, 0, ""},
		{"3 0 0", records{tlsa(3, 0, 0, w.leaf)}, chain{w.leaf}, host, 0, ""},
		{"3 1 0", records{tlsa(3, 1, 0, w.leaf)}, chain{w.leaf}, host, 0, ""},
		{"3 0 2", records{tlsa(3, 0, 2, w.leaf)}, chain{w.leaf}, host, 0, ""},
		{"3 1 1 needs no name", records{tlsa(3, 1, 1, w.leaf)}, chain{w.leaf}, []string{"other.example"}, 0, ""},
		{"3 1 1 needs no date", records{tlsa(3, 1, 1, w.old)}, chain{w.old}, host, 0, ""},
		{"3 1 1 of an authority does not do", records{tlsa(3, 1, 1, w.ca)}, chain{w.leaf, w.ca}, host, -1,
			CertificateNotTrusted},
		{"3 1 1 of another key", records{tlsa(3, 1, 1, w.old)}, chain{w.leaf, w.ca}, host, -1, CertificateNotTrusted},
		{"the second record", records{tlsa(3, 1, 1, w.old), tlsa(3, 1, 1, w.leaf)}, chain{w.leaf}, host, 1, ""},
		{"no certificate", records{tlsa(3, 1, 1, w.leaf)}, nil, host, -1, ValidationFailure},
		{"no record", nil, chain{w.leaf}, host, -1, CertificateNotTrusted},
		{"usage 1", records{tlsa(1, 1, 1, w.leaf)}, chain{w.leaf}, host, -1, CertificateNotTrusted},

		{"2 1 1 of the issuer", records{tlsa(2, 1, 1, w.ca)}, chain{w.leaf, w.ca}, host, 0, ""},
		{"2 0 1 of the root", records{tlsa(2, 0, 1, w.root)}, chain{w.leaf, w.ca, w.root}, host, 0, ""},
		{"2 0 1 of the root, order mixed", records{tlsa(2, 0, 1, w.root)}, chain{w.leaf, w.root, w.ca}, host, 0, ""},
		{"2 1 1, a name by wildcard", records{tlsa(2, 1, 1, w.ca)}, chain{w.leaf, w.ca}, []string{"a.wild.example"}, 0,
			""},
		{"2 1 1, the wildcard is one label", records{tlsa(2, 1, 1, w.ca)}, chain{w.leaf, w.ca},
			[]string{"a.b.wild.example"}, -1, CertificateHostMismatch},
		{"2 1 1, the next-hop domain", records{tlsa(2, 1, 1, w.ca)}, chain{w.leaf, w.ca},
			[]string{"other.example", "MX.example"}, 0, ""},
		{"2 1 1, another name", records{tlsa(2, 1, 1, w.ca)}, chain{w.leaf, w.ca}, []string{"other.example"}, -1,
			CertificateHostMismatch},
		{"2 1 1, no name to compare", records{tlsa(2, 1, 1, w.ca)}, chain{w.leaf, w.ca}, nil, -1,
			CertificateHostMismatch},
		{"2 1 1, the common name", records{tlsa(2, 1, 1, w.ca)}, chain{w.nameless, w.ca}, host, 0, ""},
		{"2 1 1, the common name beside others", records{tlsa(2, 1, 1, w.ca)}, chain{w.leaf, w.ca}, []string{"leaf"},
			-1, CertificateHostMismatch},
		{"2 1 1, expired", records{tlsa(2, 1, 1, w.ca)}, chain{w.old, w.ca}, host, -1, CertificateExpired},
		{"2 1 1, authority expired", records{tlsa(2, 1, 1, w.oldCA)}, chain{w.ofOldCA, w.oldCA}, host, -1,
			CertificateExpired},
		{"2 1 1, between expired", records{tlsa(2, 1, 1, w.root)}, chain{w.ofOldCA, w.oldCA, w.root}, host, -1,
			CertificateExpired},
		{"2 1 0, authority in the chain expired", records{tlsa(2, 1, 0, w.oldCA)}, chain{w.ofOldCA, w.oldCA}, host, -1,
			CertificateExpired},
		{"2 1 1, for clients", records{tlsa(2, 1, 1, w.ca)}, chain{w.client, w.ca}, host, -1, CertificateNotTrusted},
		{"2 1 1, not presented", records{tlsa(2, 1, 1, w.root)}, chain{w.leaf, w.ca}, host, -1, CertificateNotTrusted},
		{"2 1 1, presented but of another chain", records{tlsa(2, 1, 1, w.stranger)}, chain{w.leaf, w.ca, w.stranger},
			host, -1, CertificateNotTrusted},
		{"2 1 1, a link missing", records{tlsa(2, 1, 1, w.root)}, chain{w.leaf, w.root}, host, -1,
			CertificateNotTrusted},
		{"2 1 1 of the receiver itself", records{tlsa(2, 1, 1, w.self)}, chain{w.self}, host, -1,
			CertificateNotTrusted},
		{"2 1 1 of the receiver, twice", records{tlsa(2, 1, 1, w.self)}, chain{w.self, w.self}, host, -1,
			CertificateNotTrusted},
		{"2 1 1 of a receiver that is no authority", records{tlsa(2, 1, 1, w.leaf)}, chain{w.leaf, w.leaf}, host, -1,
			CertificateNotTrusted},

		{"2 0 0 holds the root", records{tlsa(2, 0, 0, w.root)}, chain{w.leaf, w.ca}, host, 0, ""},
		{"2 1 0 holds the root's key", records{tlsa(2, 1, 0, w.root)}, chain{w.leaf, w.ca}, host, 0, ""},
		{"2 1 0 holds the issuer's key", records{tlsa(2, 1, 0, w.ca)}, chain{w.leaf}, host, 0, ""},
		{"2 0 0 of another", records{tlsa(2, 0, 0, w.stranger)}, chain{w.leaf, w.ca}, host, -1, CertificateNotTrusted},
		{"2 1 0 of another", records{tlsa(2, 1, 0, w.stranger)}, chain{w.leaf, w.ca}, host, -1, CertificateNotTrusted},
		{"2 0 0 expired", records{tlsa(2, 0, 0, w.oldCA)}, chain{w.ofOldCA}, host, -1, CertificateExpired},
		{"2 1 0 has no age", records{tlsa(2, 1, 0, w.oldCA)}, chain{w.ofOldCA}, host, 0, ""},
		{"2 1 0 of the receiver itself", records{tlsa(2, 1, 0, w.self)}, chain{w.self}, host, -1,
			CertificateNotTrusted},
		{"2 0 0 of the receiver itself", records{tlsa(2, 0, 0, w.self)}, chain{w.self}, host, -1,
			CertificateNotTrusted},
		{"2 1 0, another name", records{tlsa(2, 1, 0, w.root)}, chain{w.leaf, w.ca}, []string{"other.example"}, -1,
			CertificateHostMismatch},

		{"what came nearest", records{tlsa(2, 1, 1, w.stranger), tlsa(2, 1, 1, w.ca), tlsa(3, 1, 1, w.ca)},
			chain{w.leaf, w.ca},
			[]string{"other.example"}, -1, CertificateHostMismatch},
		{"3 1 1 beside a 2 1 1 that fails", records{tlsa(2, 1, 1, w.ca), tlsa(3, 1, 1, w.old)},
			chain{w.old, w.ca}, host, 1, ""},
	} {
		var certs []*x509.Certificate
		for _, c := range test.chain {
			certs = append(certs, c.Certificate)
		}
		got, err := Verify(test.records, certs, test.names, now)
		if test.matched >= 0 {
			if err != nil || got != test.records[test.matched] {
				t.Errorf("%s: %v, %v", test.name, got, err)
			}
			continue
		}
		failure := new(CertificateError)
		if !errors.As(err, &failure) || failure.Result != test.result || got != nil {
			t.Errorf("%s: %v, %v, want %s", test.name, got, err, test.result)
		}
	}
}

// TestNearest: the error names the record that came nearest.
func TestNearest(t *testing.T) {
	w := newWorld(t)
	r := record(t, 2, 1, 1, w.ca)
	_, err := Verify([]*dns.TLSA{record(t, 3, 1, 1, w.root), r},
		[]*x509.Certificate{w.leaf.Certificate, w.ca.Certificate}, []string{"b.example."}, now)
	failure := new(CertificateError)
	if !errors.As(err, &failure) || failure.Record != r {
		t.Fatalf("%+v", err)
	}
	if want := "the certificate is for mx.example, *.wild.example, not for b.example."; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	_, err = Verify([]*dns.TLSA{r}, []*x509.Certificate{w.old.Certificate, w.ca.Certificate},
		[]string{"mx.example."}, now)
	want := `the certificate "CN=old" is valid from 2026-11-20 03:00 to 2026-11-20 03:59 UTC only, and a record of ` +
		`usage 2 heeds that`
	if !errors.As(err, new(x509.CertificateInvalidError)) || err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

// FuzzVerify: neither records nor certificates of others end in a panic, and what is accepted is usable.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	for usage := range uint8(4) {
		for selector := range uint8(2) {
			for matching := range uint8(3) {
				data, _ := hex.DecodeString(record(f, usage, selector, matching, w.ca).Certificate)
				f.Add(usage, selector, matching, data, w.leaf.Raw, w.ca.Raw)
			}
		}
	}
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data, leaf, ca []byte) {
		var chain []*x509.Certificate
		for _, der := range [][]byte{leaf, ca} {
			if c, err := x509.ParseCertificate(der); err == nil {
				chain = append(chain, c)
			}
		}
		r := &dns.TLSA{Usage: usage, Selector: selector, MatchingType: matching, Certificate: hex.EncodeToString(data)}
		usable, unusable := Usable([]*dns.TLSA{r})
		if len(usable)+len(unusable) != 1 {
			t.Errorf("%d usable and %d unusable", len(usable), len(unusable))
		}
		if _, err := Verify([]*dns.TLSA{r}, chain, []string{"mx.example."}, now); err == nil && len(usable) == 0 {
			t.Errorf("%v, which is unusable, was accepted: %s", r, unusable[0].Why)
		}
	})
}
