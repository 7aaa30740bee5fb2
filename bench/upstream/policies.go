package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Policies is a server for HTTPS that is all policy hosts of MTA-STS (RFC 8461 section 3.3). Each has a certificate of
// its own, by an authority of its own; all have one key.
type Policies struct {
	Authority []byte // its certificate in PEM

	listener net.Listener
	server   http.Server
	hosts    map[string]*policyHost // by name
}

type policyHost struct {
	file        string
	certificate *tls.Certificate
}

// headerTime is how long a request may take to come.
const headerTime = time.Minute

// StartPolicies serves files, by the name of their host, at an address until Close.
func StartPolicies(at netip.AddrPort, files map[string]string) (*Policies, error) {
	p := &Policies{hosts: map[string]*policyHost{}}
	if err := p.certify(files); err != nil {
		return nil, err
	}
	var err error
	if p.listener, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at)); err != nil {
		return nil, err
	}
	p.server = http.Server{
		Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: headerTime, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{GetCertificate: p.certificate},
	}
	go p.server.ServeTLS(p.listener, "", "") //nolint:errcheck // it ends with Close
	return p, nil
}

// Addr is where it answers.
func (p *Policies) Addr() netip.AddrPort { return p.listener.Addr().(*net.TCPAddr).AddrPort() }

// Close ends it.
func (p *Policies) Close() { p.server.Close() } //nolint:errcheck // nobody reads any more

func (p *Policies) serve(w http.ResponseWriter, r *http.Request) {
	host := p.hosts[r.Host]
	if host == nil || r.URL.Path != "/.well-known/mta-sts.txt" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, host.file) //nolint:errcheck // who does not read it has none
}

func (p *Policies) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := p.hosts[hello.ServerName]
	if host == nil {
		return nil, fmt.Errorf("there is no policy host %q", hello.ServerName)
	}
	return host.certificate, nil
}

// certify makes the authority, and all certificates.
func (p *Policies) certify(files map[string]string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	begin := time.Now().Add(-time.Hour)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "danelaw bench"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: begin,
		NotAfter: begin.AddDate(0, 1, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, &key.PublicKey, key)
	if err != nil {
		return err
	}
	if authority, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	p.Authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, file := range files {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(len(p.hosts) + 2)), DNSNames: []string{name}, NotBefore: begin,
			NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, key)
		if err != nil {
			return err
		}
		p.hosts[name] = &policyHost{file, &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	}
	return nil
}
