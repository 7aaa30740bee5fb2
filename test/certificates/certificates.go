// Package certificates gives tests certificate authorities, which issue certificates.
package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// Authority is a certificate authority. Only Pool trusts its certificates.
type Authority struct {
	Pool        *x509.CertPool
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// New returns a new authority.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{Pool: x509.NewCertPool()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour), // tests move their clocks
	}
	a.Certificate, a.key = a.Issue(t, template)
	a.Pool.AddCert(a.Certificate)
	return a
}

// Server issues a certificate for a server of that name. It is valid from a day ago until the given time.
func (a *Authority) Server(t testing.TB, name string, end time.Time) tls.Certificate {
	t.Helper()
	cert, key := a.Issue(t, &x509.Certificate{DNSNames: []string{name}, NotAfter: end})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// Issue makes a certificate of a template, from a day ago. The first one is the authority's own, which signs itself.
func (a *Authority) Issue(t testing.TB, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.Certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	template.SerialNumber, template.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
