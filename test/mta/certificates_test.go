package mta

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/certificates"
)

// identity is what a receiver shows: a certificate with that of its authority, which nobody knows but by a TLSA record.
type identity struct {
	chain           tls.Certificate
	leaf, authority *x509.Certificate
}

func newIdentity(t *testing.T, name string, end time.Time) identity {
	t.Helper()
	a := certificates.New(t)
	chain := a.Server(t, name, end)
	leaf, err := x509.ParseCertificate(chain.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	chain.Certificate = append(chain.Certificate, a.Certificate.Raw)
	return identity{chain, leaf, a.Certificate}
}

func (i identity) tls() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{i.chain}} }

// tlsa is the RDATA of the TLSA record that names a certificate's key by its SHA-256.
func tlsa(usage int, c *x509.Certificate) string {
	digest, err := dns.CertificateToDANE(1, 1, c)
	if err != nil {
		panic(err) // we made it
	}
	return fmt.Sprintf("%d 1 1 %s", usage, digest)
}
