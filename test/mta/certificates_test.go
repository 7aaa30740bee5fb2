//go:build linux

package mta

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/certificates"
)

// identity is the certificate that a receiver shows, with the certificate of its authority.
type identity struct {
	chain           tls.Certificate
	leaf, authority *x509.Certificate
}

func newIdentity(t *testing.T, a *certificates.Authority, name string, end time.Time) identity {
	t.Helper()
	chain := a.Server(t, name, end)
	leaf, err := x509.ParseCertificate(chain.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	chain.Certificate = append(chain.Certificate, a.Certificate.Raw)
	return identity{chain, leaf, a.Certificate}
}

func (i identity) tls() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{i.chain}} }

// cert describes a certificate: of mx.DOMAIN if its name is leaf, else of an authority.
type cert struct {
	name string
	by   string // the name of the issuer
	edit func(*x509.Certificate)
}

// issue makes the certificates of a domain. It returns them by name, and the chain that its host sends.
func issue(t *testing.T, domain string, certs []cert, sends string) (map[string]*x509.Certificate, tls.Certificate) {
	t.Helper()
	made, keys := map[string]*x509.Certificate{}, map[string]*ecdsa.PrivateKey{}
	for i, p := range certs {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[p.name] = key
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(1 + i)), Subject: pkix.Name{CommonName: p.name}, BasicConstraintsValid: true,
			IsCA:      p.name != "leaf",
			NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		if p.name == "leaf" {
			template.DNSNames = []string{"mx." + domain}
		}
		if p.edit != nil {
			p.edit(template)
		}
		parent := made[p.by]
		if parent == nil { // it is self-signed
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), keys[p.by])
		if err != nil {
			t.Fatal(err)
		}
		if made[p.name], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	shown := tls.Certificate{PrivateKey: keys["leaf"]}
	for name := range strings.FieldsSeq(sends) {
		shown.Certificate = append(shown.Certificate, made[name].Raw)
	}
	return made, shown
}

// wanted matches the place in a text where TLSA RDATA for a certificate is to be filled in: {usage selector
// matching-type name}. sha512 matches the place for the SHA-512 of its key alone.
var (
	wanted = regexp.MustCompile(`\{(\d) (\d) (\d) (\w+)\}`)
	sha512 = regexp.MustCompile(`\{512 (\w+)\}`)
)

// fillIn fills TLSA RDATA for certificates into a text.
func fillIn(text string, certs map[string]*x509.Certificate) string {
	data := func(selector, matching string, name string) string {
		selected, _ := strconv.Atoi(selector)
		kind, _ := strconv.Atoi(matching)
		hex, err := dns.CertificateToDANE(uint8(min(selected, 1)), uint8(kind), certs[name])
		if err != nil {
			panic(err) // a mistake in the table
		}
		return hex
	}
	text = wanted.ReplaceAllStringFunc(text, func(s string) string {
		f := wanted.FindStringSubmatch(s)
		return strings.Join([]string{f[1], f[2], f[3], data(f[2], f[3], f[4])}, " ")
	})
	return sha512.ReplaceAllStringFunc(text,
		func(s string) string { return data("1", "2", sha512.FindStringSubmatch(s)[1]) })
}

// records returns TLSA records at a name. In all, each is given in braces, or as four words.
func records(name, all string) (text string) {
	for _, r := range regexp.MustCompile(`\{[^}]*\}|\d+ \d \d+ (?:\{[^}]*\}|\w+)`).FindAllString(all, -1) {
		text += name + " TLSA " + r + "\n"
	}
	return text
}

// tlsa returns the RDATA of a TLSA record with the SHA-256 of a certificate's key.
func tlsa(usage int, c *x509.Certificate) string {
	digest, err := dns.CertificateToDANE(1, 1, c)
	if err != nil {
		panic(err) // we made it
	}
	return fmt.Sprintf("%d 1 1 %s", usage, digest)
}
