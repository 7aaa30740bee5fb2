package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// credentials are a host's key and certificate, and its authority's.
type credentials struct {
	key           *ecdsa.PrivateKey
	cert, ca      []byte // DER
	spki, caSPKI  []byte
	private, pem  string
	fullchain     string
	caPEM, secret string
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func newCredentials(t *testing.T, names ...string) credentials {
	t.Helper()
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	generate := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	c := credentials{key: generate()}
	authority := generate()
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(24 * time.Hour),
	}
	leaf := &x509.Certificate{DNSNames: names, NotBefore: ca.NotBefore,
		NotAfter: time.Date(2100, 2, 3, 4, 5, 0, 0, time.UTC)}
	ca.NotAfter = leaf.NotAfter
	c.ca = must(x509.CreateCertificate(rand.Reader, ca, ca, authority.Public(), authority))
	c.cert = must(x509.CreateCertificate(rand.Reader, leaf, ca, c.key.Public(), authority))
	c.spki, c.caSPKI = must(x509.MarshalPKIXPublicKey(c.key.Public())), must(x509.MarshalPKIXPublicKey(
		authority.Public()))
	c.private = block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(c.key)))
	c.secret = block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(c.key)))
	c.pem, c.caPEM = block("CERTIFICATE", c.cert), block("CERTIFICATE", c.ca)
	c.fullchain = c.pem + c.caPEM
	return c
}

func sum256(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

// TestTLSAFiles: the record of what is in a file, in each form that it comes in.
func TestTLSAFiles(t *testing.T) {
	c := newCredentials(t, "mx.example.org")
	digest512 := sha512.Sum512(c.cert)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	rsaPublic := x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)
	rsaSPKI, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, crypto.Signer(c.key))
	if err != nil {
		t.Fatal(err)
	}
	const owner = "_25._tcp.mx.example.org. "
	for _, test := range []struct {
		name    string
		content string
		args    []string
		want    string
	}{
		{"certificate", c.pem, nil, owner + "IN TLSA 3 1 1 " + sum256(c.spki)},
		{"chain", c.fullchain, []string{"-ttl", "300"}, owner + "300 IN TLSA 3 1 1 " + sum256(c.spki)},
		{"chain with key in front, as Postfix has it", c.private + c.fullchain, nil, owner + "IN TLSA 3 1 1 " +
			sum256(c.spki)},
		{"whole certificate", c.pem, []string{"-selector", "0"}, owner + "IN TLSA 3 0 1 " + sum256(c.cert)},
		{"SHA-512", c.pem, []string{"-selector", "0", "-matching", "2"}, owner + "IN TLSA 3 0 2 " +
			hex.EncodeToString(digest512[:])},
		{"the key itself", c.pem, []string{"-matching", "0"}, owner + "IN TLSA 3 1 0 " + hex.EncodeToString(c.spki)},
		{"authority", c.fullchain, []string{"-usage", "2"}, owner + "IN TLSA 2 1 1 " + sum256(c.caSPKI)},
		{"authority alone", c.caPEM, []string{"-usage", "2", "-selector", "0", "-host", "mx.example.org."},
			owner + "IN TLSA 2 0 1 " + sum256(c.ca)},
		{"PKCS#8", c.secret, []string{"-host", "mx.example.org"}, owner + "IN TLSA 3 1 1 " + sum256(c.spki)},
		{"EC key with its parameters", block("EC PARAMETERS", nil) + c.private, []string{"-host", "MX.example.org"},
			owner + "IN TLSA 3 1 1 " + sum256(c.spki)},
		{"PKCS#1", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), []string{"-host", "mx.example.org"},
			owner + "IN TLSA 3 1 1 " + sum256(rsaSPKI)},
		{"public RSA key", block("RSA PUBLIC KEY", rsaPublic), []string{"-host", "mx.example.org"},
			owner + "IN TLSA 3 1 1 " + sum256(rsaSPKI)},
		{"public key", block("PUBLIC KEY", c.spki), []string{"-host", "mx.example.org"}, owner + "IN TLSA 3 1 1 " +
			sum256(c.spki)},
		{"request", block("CERTIFICATE REQUEST", request), []string{"-host", "mx.example.org"},
			owner + "IN TLSA 3 1 1 " + sum256(c.spki)},
		{"another port", c.pem, []string{"-port", "465"}, "_465._tcp.mx.example.org. IN TLSA 3 1 1 " + sum256(c.spki)},
	} {
		code, out, stderr := here(append([]string{"tlsa", write(t, "file.pem", test.content)}, test.args...)...)
		if code != 0 || stderr != "" || !strings.Contains(out, test.want+"\n") {
			t.Errorf("%s: exit code %d\n%s%s\nwant %s", test.name, code, out, stderr, test.want)
		}
	}
}

// TestTLSAErrors: what cannot be used is told with the file, the reason and the remedy.
func TestTLSAErrors(t *testing.T) {
	c, other := newCredentials(t, "mx.example.org"), newCredentials(t, "mx.example.org", "*.example.org")
	encrypted := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY",
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte{1}}))
	wild := newCredentials(t, "*.example.org")
	for _, test := range []struct {
		name    string
		content string
		args    []string
		code    int
		want    []string
	}{
		{"empty", "", nil, 1, []string{"file.pem", "BEGIN CERTIFICATE"}},
		{"DER", string(c.cert), nil, 1, []string{"file.pem", "in DER", "openssl x509 -inform der"}},
		{"a broken certificate", block("CERTIFICATE", c.cert[:50]), nil, 1,
			[]string{"file.pem: block 1, CERTIFICATE: "}},
		{"encrypted", block("ENCRYPTED PRIVATE KEY", nil), nil, 1, []string{"block 1", "encrypted", "openssl pkey"}},
		{"encrypted the old way", encrypted, nil, 1, []string{"encrypted", "openssl pkey"}},
		{"something else", block("X509 CRL", nil), nil, 1, []string{"X509 CRL", "neither a certificate nor a key"}},
		{"parameters alone", block("DH PARAMETERS", nil), nil, 1, []string{"neither a certificate nor a key"}},
		{"a key of another", other.private + c.pem, nil, 1, []string{"do not belong together"}},
		{"usage 2 without the authority", c.pem, []string{"-usage", "2"}, 1, []string{"file.pem", "fullchain.pem"}},
		{"the certificate of a key", c.secret, []string{"-selector", "0", "-host", "mx.example.org"}, 1,
			[]string{"-selector 0 needs the certificate"}},
		{"a key without name", c.secret, nil, 2, []string{"names no host", "-host"}},
		{"two names", other.pem, nil, 2, []string{"*.example.org, mx.example.org", "-host"}},
		{"a wildcard", wild.pem, nil, 2, []string{"*.example.org", "-host"}},
		{"no name", c.pem, []string{"-host", "a b"}, 2, []string{`"a b" is not a domain name`}},
		{"usage 1", c.pem, []string{"-usage", "1"}, 2, []string{"-usage 1", "[2 3]"}},
		{"selector 2", c.pem, []string{"-selector", "2"}, 2, []string{"-selector 2", "[0 1]"}},
		{"TTL", c.pem, []string{"-ttl", "-1"}, 2, []string{"-1 is no TTL"}},
		{"both", c.pem, []string{"-smtp", "mx.example.org"}, 2, []string{"either files or --smtp"}},
		{"nobody to ask", c.pem, []string{"-lab"}, 2, []string{"--lab is for --check and --smtp"}},
	} {
		code, out, stderr := here(append([]string{"tlsa", write(t, "file.pem", test.content)}, test.args...)...)
		for _, want := range test.want {
			if code != test.code || out != "" || !strings.Contains(stderr, want) {
				t.Errorf("%s: exit code %d, %s%s, want %d and %q", test.name, code, out, stderr, test.code, want)
			}
		}
	}
	for want, args := range map[string][]string{
		"nothing.pem":                  {filepath.Join(t.TempDir(), "nothing.pem")},
		"either files or --smtp":       {},
		"say with --host":              {"-smtp", "192.0.2.25"},
		"-smtp mx.example:0: \"0\" is": {"-smtp", "mx.example:0"},
		"\"a/b\" is not a domain name": {"-smtp", "mx.example", "-host", "a/b"},
		"is a URL; give the domain":    {"-smtp", "https://mx.example/", "-host", "mx.example"},
	} {
		code, out, stderr := here(append([]string{"tlsa"}, args...)...)
		if code == 0 || out != "" || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %s%s, want %q", args, code, out, stderr, want)
		}
	}
}

// TestTLSARefused: a record that is made though senders would refuse the certificate by it comes with a warning.
func TestTLSARefused(t *testing.T) {
	c := newCredentials(t, "mx.example.org")
	code, out, stderr := here("tlsa", "-usage", "2", "-host", "mx.example.net", write(t, "file.pem", c.fullchain))
	if code != 0 || !strings.Contains(out, "TLSA 2 1 1") || !strings.Contains(stderr, "not for mx.example.net.") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
}

// TestTLSARollover: both records and the steps; with the same key nothing has to be done.
func TestTLSARollover(t *testing.T) {
	c, next := newCredentials(t, "mx.example.org"), newCredentials(t, "mx.example.org")
	now := write(t, "now.pem", c.pem)
	code, out, stderr := here("tlsa", "-ttl", "1800", "-next", write(t, "next.pem", next.secret), now)
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	for _, want := range []string{
		"; the ECDSA certificate of " + now + ", valid to 2100-02-03 04:05 UTC\n", "1800 IN TLSA 3 1 1 " +
			sum256(c.spki) + "\n",
		"; next: the key of ", "1800 IN TLSA 3 1 1 " + sum256(next.spki) + "\n",
		"; 2. Wait 1h0m0s, twice the TTL (1800 s, that of --ttl)", "; 4. Remove",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	_, out, _ = here("tlsa", "-next", write(t, "next.pem", next.secret), now)
	if !strings.Contains(out, "; 2. Wait 2h0m0s, twice the TTL (3600 s, assumed") {
		t.Error(out)
	}
	_, out, _ = here("tlsa", "-next", write(t, "same.pem", c.private), now)
	if !strings.Contains(out, "; has the same record\n") ||
		!strings.Contains(out, "if it is published, as --check tells") || strings.Contains(out, "Wait") {
		t.Error(out)
	}
}

// TestTLSACheck: published records beside what the lab's hosts present.
func TestTLSACheck(t *testing.T) {
	file := write(t, "next.pem", newCredentials(t, "mx2.good.dane").pem)
	for _, test := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"-smtp", "mx1.good.dane", "-check"}, 0,
			[]string{"Secure: 1 record\n", "is that of the ECDSA certificate of mx1.good.dane. at 192.0.2.25"}},
		{[]string{"-smtp", "mx2.good.dane:25", "-check"}, 0,
			[]string{"Secure: 2 records\n", "TLSA 3 1 1 0a94e6b7d12f853c... matches nothing given here"}},
		{[]string{"-smtp", "mx2.good.dane", "-check", "-next", file}, 1,
			[]string{"No published record is good for the ECDSA certificate of " + file,
				"twice the TTL (3600 s, that of the published records)"}},
		{[]string{"-smtp", "192.0.2.25", "-host", "mx.two-certificates.dane", "-check"}, 0,
			[]string{"is that of the RSA certificate", "is that of the ECDSA certificate"}},
		{[]string{"-smtp", "[2001:db8::25]:25", "-host", "mx1.good.dane"}, 0, []string{"at 2001:db8::25"}},
		{[]string{"-smtp", "mx.dane-ta.dane", "-usage", "2", "-check"}, 0,
			[]string{"TLSA 2 1 1", "is that of the ECDSA certificate"}},
		{[]string{"-smtp", "mx.mismatch.dane", "-check"}, 1,
			[]string{"matches nothing given here", "No published record is good for"}},
		{[]string{"-smtp", "mx.expired-ta.dane", "-check"}, 1, []string{"which senders refuse", "expired"}},
		{[]string{"-smtp", "mx.other-name.dane", "-check"}, 1,
			[]string{"which senders refuse", "the certificate is for mx.elsewhere.dane"}},
		{[]string{"-smtp", "mx.unusable-tlsa.dane", "-check"}, 1,
			[]string{"is unusable: usage 1", "is unusable: its digest has 31 octets"}},
		{[]string{"-smtp", "mx.no-tlsa.dane", "-check"}, 1,
			[]string{"Secure: 0 records\n", "No published record is good for"}},
		{[]string{"-smtp", "mx.no-starttls.dane", "-check"}, 1,
			[]string{"mx.no-starttls.dane. at 192.0.2.27:25: the host does not offer STARTTLS"}},
		{[]string{"-smtp", "mx.unsigned.dane", "-check"}, 1, []string{"are Insecure: no sender looks"}},
		{[]string{"-smtp", "mx.expired.dane"}, 1, []string{"expired.dane.: the RRSIG over expired.dane. DNSKEY"}},
		{[]string{"-check", file, "-host", "mx.tlsa-servfail.dane"}, 1,
			[]string{"are Indeterminate, senders defer mail"}},
		{[]string{"-smtp", "mx.alias-signed.dane", "-check"}, 0, []string{"take mx1.good.dane. for the base",
			"\n_25._tcp.mx1.good.dane. IN TLSA 3 1 1 ",
			"Published at _25._tcp.mx1.good.dane., Secure: 1 record\n",
			"is that of the ECDSA certificate of mx.alias-signed.dane. at 192.0.2.25"}},
		{[]string{"-smtp", "mx.alias-signed.dane"}, 0, []string{"\n_25._tcp.mx1.good.dane. IN TLSA 3 1 1 "}},
		{[]string{"-smtp", "mx.alias-unsigned.dane"}, 0, []string{"\n_25._tcp.mx.alias-unsigned.dane. IN TLSA 3 1 1 "}},
		{[]string{"-smtp", "mx.alias-unsigned.dane", "-check"}, 0,
			[]string{"Published at _25._tcp.mx.alias-unsigned.dane., Secure: 1 record\n"}},
		{[]string{"-host", "mx.alias-signed.dane", "-check", file}, 1,
			[]string{"\n_25._tcp.mx1.good.dane. IN TLSA 3 1 1 ", "matches nothing given here"}},
		{[]string{"-smtp", "mx.alias-tlsa.dane", "-check", "-next", file}, 1, []string{
			"; _25._tcp.mx.alias-tlsa.dane. is an alias of _dane.alias-tlsa.dane., where the records belong\n",
			"\n_dane.alias-tlsa.dane. IN TLSA 3 1 1 ",
			"; 1. At _dane.alias-tlsa.dane. publish",
			"twice the TTL (3600 s, the longest of the published records and of the alias"}},
		{[]string{"-smtp", "mx2.good.dane", "-next", file}, 0,
			[]string{"twice the TTL (3600 s, that of the published records)"}},
		{[]string{"-smtp", "good.dane"}, 1, []string{"good.dane has no address"}},
		{[]string{"-smtp", "localhost"}, 1, []string{"localhost. is a special name"}},
	} {
		says(t, append([]string{"tlsa", "-lab"}, test.args...), test.code, test.want...)
	}
}

// TestTLSASteps: what is published decides what has to be done: stale records are never passed over, and TTLs are those
// of the old set.
func TestTLSASteps(t *testing.T) {
	key := func(b byte) *identity { return &identity{from: fmt.Sprintf("key%d", b), spki: []byte{b}} }
	set := func(owner string, ttl uint32, keys ...byte) publishedSet {
		s := publishedSet{secure: true, owner: owner, ttl: ttl}
		for _, b := range keys {
			s.records = append(s.records, &dns.TLSA{Usage: 3, Selector: 1, MatchingType: 1,
				Certificate: sum256([]byte{b})})
		}
		return s
	}
	const name = "_25._tcp.mx.example."
	for _, test := range []struct {
		what          string
		current, next byte
		set           publishedSet
		ttl           uint32
		want          []string
	}{
		{"another key", 1, 2, set(name, 7200, 1), 300,
			[]string{"At " + name + " publish all", "Wait 4h0m0s, twice the TTL (7200 s, that of the published"}},
		{"another key, an alias", 1, 2, set("_dane.example.", 7200, 1), 0,
			[]string{"At _dane.example. publish all", "and of the alias that leads to them"}},
		{"another key, published already", 1, 2, set(name, 300, 1, 2), 0,
			[]string{"All of these records are published: the next certificate can be used"}},
		{"the same key", 1, 1, set(name, 300, 1), 0, []string{"All of these records are published"}},
		{"the same key, and a stale record", 1, 1, set(name, 300, 9, 1, 8), 0,
			[]string{"All of these records are published", "Remove 2 published records that match nothing"}},
		{"the same key, which is not published", 1, 1, set(name, 300, 9), 0,
			[]string{"At " + name + " publish all", "Wait 10m0s"}},
		{"the same key, and nothing is published", 1, 1, set(name, 0), 600,
			[]string{"publish all", "Wait 20m0s, twice the TTL (600 s, that of --ttl)"}},
		{"the same key, not looked up", 1, 1, publishedSet{}, 0, []string{"if it is published, as --check tells"}},
		{"another key, not looked up", 1, 2, publishedSet{}, 0,
			[]string{"(3600 s, assumed, --ttl or --check tells another)"}},
	} {
		p := &tlsaPlan{host: "mx.example.", base: "mx.example.", port: 25,
			kind: dns.TLSA{Usage: 3, Selector: 1, MatchingType: 1}, set: test.set,
			current: []*identity{key(test.current)}, next: []*identity{key(test.next)}}
		if test.ttl > 0 {
			p.ttl = &test.ttl
		}
		out, err := p.report(true)
		if err != nil {
			t.Fatal(err)
		}
		told := strings.Join(out.Steps, "\n")
		for _, want := range test.want {
			if !strings.Contains(told, want) {
				t.Errorf("%s: lacks %q:\n%s", test.what, want, told)
			}
		}
	}
}

// refusedByGo is a certificate in which an OCTET STRING within an extension is cut short, so that crypto/x509 does not
// take it.
func refusedByGo(t *testing.T, c credentials) []byte {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.cert)
	if err != nil {
		t.Fatal(err)
	}
	der := slices.Clone(c.cert)
	for _, e := range leaf.Extensions { // the names of the host are the only one with them in it
		if at := bytes.Index(der, e.Value); at >= 0 && bytes.Contains(e.Value, []byte("mx.example.org")) {
			der[at] = 0x05 // NULL in the place of a SEQUENCE
		}
	}
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("crypto/x509 takes it")
	}
	return der
}

// selfIssued is a certificate that says nothing of authorities, issued by itself, as `openssl req -x509` can be told
// to.
func selfIssued(t *testing.T) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.example.org"},
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return block("CERTIFICATE", der)
}

// TestTLSAPipe: a pipe that nobody writes to can be ended.
func TestTLSAPipe(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := readIdentity(ctx, fifo); err == nil || !strings.Contains(err.Error(), "ended before") {
		t.Errorf("%v, want that it ended", err)
	}
}

// TestTLSAKeyOfAuthority: a key alone does not tell whose it is.
func TestTLSAKeyOfAuthority(t *testing.T) {
	c := newCredentials(t, "mx.example.org")
	code, _, stderr := here("tlsa", "--usage", "2", "--host", "mx.example.org", write(t, "file.pem", c.private))
	if code != 0 || !strings.Contains(stderr, "key of an authority") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// TestTLSAOddFiles: files as other programs and editors make them.
func TestTLSAOddFiles(t *testing.T) {
	c, other := newCredentials(t, "mx.example.org"), newCredentials(t, "mx.example.org")
	// some auxiliary data
	trusted := block("TRUSTED CERTIFICATE", append(slices.Clone(c.cert), 0x30, 0x0a, 0x30, 0x08, 6, 6, 0x2b, 6, 1, 5, 5,
		7))
	own := "IN TLSA 3 1 1 " + sum256(c.spki)
	for _, test := range []struct {
		what, content string
		code          int
		want          []string
	}{
		{"the authority first", c.caPEM + c.pem, 0, []string{own, "put the host's own first"}},
		{"the authority first, and the key", c.caPEM + c.pem + c.private, 0, []string{own, "put the host's own first"}},
		{"an authority of others first", other.caPEM + c.pem + c.private, 0, []string{own}},
		{"an authority and two hosts", c.caPEM + c.pem + other.pem, 1,
			[]string{"file.pem", "2 others could be the host's"}},
		{"two hosts", c.pem + other.pem, 1, []string{"file.pem: 2 of its certificates could be the host's own"}},
		{"two that issued themselves, of one name", selfIssued(t) + selfIssued(t), 1,
			[]string{"file.pem: 2 of its certificates could be the host's own"}},
		{"the same twice", c.pem + c.pem + c.caPEM, 0, []string{own}},
		{"its own damaged", strings.Replace(c.pem, "MII", "M!I", 1) + c.caPEM, 1,
			[]string{"file.pem: of 2 blocks in PEM 1 can be read"}},
		{"cut off", c.pem + c.caPEM[:200], 1, []string{"file.pem: of 2 blocks in PEM 1 can be read"}},
		{"PKCS#7", block("PKCS7", c.cert), 1, []string{"block 1, PKCS7", "openssl pkcs7"}},
		{"PKCS#7 or PKCS#12 in DER", "\x30\x03\x02\x01\x03", 1, []string{"file.pem: it is binary", "openssl pkcs12"}},
		{"parameters of other kinds", block("X9.42 DH PARAMETERS", []byte{0x30, 0}) + c.pem, 0, []string{own}},
		{"one that crypto/x509 refuses", block("CERTIFICATE", refusedByGo(t, c)), 0,
			[]string{own, "the ECDSA certificate of"}},
		{"for OpenSSL alone", trusted, 0, []string{own}},
		{"a byte order mark", "\ufeff" + c.pem, 0, []string{own}},
		{"UTF-16", "\xff\xfe-\x00-\x00", 1, []string{"file.pem", "UTF-16", "iconv"}},
		{"DOS", strings.ReplaceAll(c.pem, "\n", "\r\n"), 0, []string{own}},
		{
			"Ed25519", ed25519Key, 0,
			[]string{"IN TLSA 3 1 1 593efd0748a04713f58e1b056cead8a9729a65dd62f8ea4ede7cc2e1cb32e5fa"},
		},
		{
			"Ed448", ed448Key, 0,
			[]string{"IN TLSA 3 1 1 7da03892102b0cbf0e090820254beb7e4c0df5d5c0f081b03ade992208104c00"},
		},
		{
			"RSA-PSS", pssKey, 0,
			[]string{"IN TLSA 3 1 1 e1624370e546c5247d653f99722119a4068748bcb62208541306ab40c623a823"},
		},
		{"a curve that nobody has", secp256k1Key, 1, []string{"file.pem: block 1, EC PRIVATE KEY",
			"openssl pkey -in FILE -pubout"}},
		{"the public key of such a curve", secp256k1Public, 0,
			[]string{"IN TLSA 3 1 1 b388a7895ac7a8cdcb685f466ffb7a403f1fdfdef6f154ba1566b97f4474a77c"}},
	} {
		args := []string{"tlsa", write(t, "file.pem", test.content), "--host", "mx.example.org"}
		code, out, stderr := here(args...)
		for _, want := range test.want {
			if code != test.code || !strings.Contains(out+stderr, want) {
				t.Errorf("%s: exit code %d, %s%s, want %d and %q", test.what, code, out, stderr, test.code, want)
			}
		}
	}
}

// TestTLSAJSON: the same for programs.
func TestTLSAJSON(t *testing.T) {
	c := newCredentials(t, "mx.example.org")
	code, out, stderr := here("tlsa", "--json", write(t, "file.pem", c.pem), "--host", "bücher.example")
	var got plannedJSON
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil || stderr != "" {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, stderr)
	}
	if got.Owner != "_25._tcp.xn--bcher-kva.example." || !got.Good || len(got.Certificates) != 1 ||
		got.Certificates[0].Record != got.Owner+" IN TLSA 3 1 1 "+sum256(c.spki) || got.Published != nil {
		t.Errorf("%s", out)
	}
	code, out, _ = here("tlsa", "--lab", "--json", "--check", "--smtp", "mx2.good.dane")
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil || got.Published == nil ||
		len(got.Published.Records) != 2 {
		t.Errorf("exit code %d, %v\n%s", code, err, out)
	}
}

// TestTLSAImplicit: with --implicit-tls a host is spoken TLS to from the first octet on.
func TestTLSAImplicit(t *testing.T) {
	c := newCredentials(t, "mx.example.org")
	l, err := tls.Listen("tcp", "127.0.0.1:0",
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.cert}, PrivateKey: c.key}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func() {
				defer conn.Close()
				io.WriteString(conn, "220 mx.example.org\r\n") //nolint:errcheck // the prober tells
				io.Copy(io.Discard, io.LimitReader(conn, 6))   //nolint:errcheck // QUIT
			}()
		}
	}()
	at := []string{"tlsa", "--host", "mx.example.org", "--smtp", l.Addr().String()}
	says(t, append(at, "--implicit-tls"), 0, "IN TLSA 3 1 1 "+sum256(c.spki))
	says(t, append(at, "--wait", "1s"), exitFailure, "the greeting is slower than 1s; senders wait 5 minutes")
}

// TestTLSASource: a host that is really there is probed by the system's own ways.
func TestTLSASource(t *testing.T) {
	at := fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
	code, _, stderr := here("tlsa", "-upstream", "192.0.2.53", "-host", "mx.example.org", "-smtp", at)
	if code != 1 || !strings.Contains(stderr, at+": connect: connection refused") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// Keys that OpenSSL has made, of kinds that Go makes none of, or that it does not read.
const (
	ed25519Key = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIKAfDckIsj01MH2szBVRDbnlqaDMJGV+XRXBQVwmRdQi
-----END PRIVATE KEY-----
`
	ed448Key = `-----BEGIN PRIVATE KEY-----
MEcCAQAwBQYDK2VxBDsEOaUTuZOZb2oGUnZC+d6yVH0IzhAzqYUbQGLtu2L180Vs
rkTHy5m6CmqnyAW+2WxPttk1m/PGNtAttg==
-----END PRIVATE KEY-----
`
	pssKey = `-----BEGIN PRIVATE KEY-----
MIICdAIBADALBgkqhkiG9w0BAQoEggJgMIICXAIBAAKBgQC8L9Hym83Q8GC6Lphb
yNOT8A83/IUYACjJmfVE0r473z4FE4GcoAi/V02VivRT7jqaXXlkkabw69+u006m
sFweVcJB2CR7Q9dsrd+M3aQAznlcs4XSRXEWHiaF6IpoThD4QKZC44qFcDGNcnAL
lPEoZ18Ap9zIvO7bGedkQaLZXwIDAQABAoGAPrIH1jYGKdgLwbuIUvvjUWQnDdX5
WXekHxZF2noDmtrTRMms4suGXojtdibnI5c4uvjtWo4T+iv7R7lqeKpE5dwH3i7g
wLLsEsNA8G6LNlx4XRBfR7Bdhwi/4pjgT9GjVbvFEJIhWRP/7WVD7pOP5q1WBDC1
53BsaitgagwvfMECQQDiFIX4VMQF2NlQ72smhzpl63UMAzYJx6rrNcxs1AMehq27
NUQV8ZT6q5I3x+OXF8OBOtk/Ze08isO4kiJCmqgRAkEA1Rd9R0KlxqZomUcKM4pe
P6xNFsZbDBFy0R75lfEm52tASMSK4J21d6U/MhsJuVjdHGVHeor5uWwaqmU1155a
bwJAbAsS21LnO0Qe1ycUNh16MysLjOob8SCS9kWHpJrNwtDqRgV2vGXvpLxJ7I6C
nbqlnCTbngjAD6bhUlvEM8BlgQJBALs/wdl9qljOX/nY4BD8VOeUy8TolpcbOg6j
LmThHPOcXkfTVcodK5owfkDUW44glWPfZ5k6SEj0wtXazB5ly0cCQCNjGJZD2GFc
Fv4Vk98qO4Jc1UG3daECemHltL8rwMO/z8dyW1gX5ro9GvKBX1fs78qqcvw+qHE0
GShL2e+8Ecw=
-----END PRIVATE KEY-----
`
	secp256k1Key = `-----BEGIN EC PRIVATE KEY-----
MHQCAQEEID13rAp0G9cSHlbjgr0g9WUtV9+FXLGnOw6DhSlYU97PoAcGBSuBBAAK
oUQDQgAEiGlTQoYJYJAZhwH8S0mdZfPF2VyQyT83KaisLgmWqquDZgiIXHCKcpPl
A2bwMdgr8mYlkw93ORjFxDeOwupNiQ==
-----END EC PRIVATE KEY-----
`
	secp256k1Public = `-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEiGlTQoYJYJAZhwH8S0mdZfPF2VyQyT83
KaisLgmWqquDZgiIXHCKcpPlA2bwMdgr8mYlkw93ORjFxDeOwupNiQ==
-----END PUBLIC KEY-----
`
)

// TestTLSAWithoutData: a published record without data is a fault although another is good for the certificate.
func TestTLSAWithoutData(t *testing.T) {
	c := newCredentials(t, "mx.example")
	id, err := readIdentity(t.Context(), write(t, "cert.pem", c.fullchain))
	if err != nil {
		t.Fatal(err)
	}
	p := &tlsaPlan{host: "mx.example.", base: "mx.example.", port: 25,
		kind: dns.TLSA{Usage: 3, Selector: 1, MatchingType: 1}, current: []*identity{id}}
	right, err := p.record(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		records []*dns.TLSA
		good    bool
	}{
		{[]*dns.TLSA{right}, true},
		{[]*dns.TLSA{right, {Hdr: dns.RR_Header{Rdlength: 3}, Usage: 3, Selector: 1, MatchingType: 1}}, false},
	} {
		p.set = publishedSet{secure: true, owner: "_25._tcp.mx.example.", records: test.records}
		out, err := p.report(true)
		if err != nil || out.Good != test.good || !test.good && !strings.Contains(out.Published.Records[1].Text,
			"Postfix 3.7 crashes") {
			t.Errorf("%v: %+v, %v", test.records, out, err)
		}
	}
}
