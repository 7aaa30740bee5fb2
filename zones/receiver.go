package zones

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"
)

// The addresses of the lab's mail hosts, by what receives there: with STARTTLS, or without.
var (
	securedHosts = []string{"192.0.2.25", "192.0.2.26", "2001:db8::25", "2001:db8::26"}
	plainHosts   = []string{"192.0.2.27", "2001:db8::27"}
)

// certificateAge and certificateLife are those of the receivers' certificates, when the lab starts.
const (
	certificateAge  = 24 * time.Hour
	certificateLife = 90 * 24 * time.Hour
)

// receivers are the mail hosts of the lab. All present certificates of one authority, made for the name that the sender
// asks for, with one key; those with a second certificate have it with an RSA key.
type receivers struct {
	now       time.Time
	entries   []*entry
	authority *tls.Certificate
	ecdsa     crypto.Signer
	rsa       crypto.Signer // nil until somebody needs it: it takes long to make

	mu       sync.Mutex
	withRSA  map[string]bool // hosts, by canonical name
	made     map[string]*tls.Certificate
	closers  []io.Closer
	ended    sync.WaitGroup
	byTarget map[string]string // the loopback address by that of the host
}

func newReceivers(now time.Time, entries []*entry) (*receivers, error) {
	r := &receivers{now: now, entries: entries, authority: new(tls.Certificate), withRSA: map[string]bool{},
		made: map[string]*tls.Certificate{}, byTarget: map[string]string{}}
	var err error
	if r.ecdsa, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if r.authority.PrivateKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	template := r.template("the lab's authority")
	template.IsCA, template.DNSNames = true, nil
	return r, r.issue(r.authority, template, template)
}

// template is a certificate for a name, still without a key.
func (r *receivers) template(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: r.now.Add(-certificateAge), NotAfter: r.now.Add(certificateLife), BasicConstraintsValid: true,
	}
}

// issue has the authority sign a certificate for the private key that is in it already.
func (r *receivers) issue(c *tls.Certificate, template, parent *x509.Certificate) (err error) {
	public := c.PrivateKey.(crypto.Signer).Public()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, r.authority.PrivateKey)
	if err != nil {
		return err
	}
	c.Certificate = append([][]byte{der}, c.Certificate...)
	c.Leaf, err = x509.ParseCertificate(der)
	return err
}

// certificate returns the one of a host, as the fault of its domain wants it, with the authority's behind it.
func (r *receivers) certificate(host string, withRSA bool) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, id := r.ecdsa, host
	if withRSA {
		key, id = r.rsa, host+" RSA"
	}
	if c := r.made[id]; c != nil {
		return c, nil
	}
	c := &tls.Certificate{PrivateKey: key, Certificate: slices.Clone(r.authority.Certificate)}
	template := r.template(strings.TrimSuffix(host, "."))
	if fault := Faults[r.faultOf(host)]; fault.Certificate != nil {
		fault.Certificate(template)
	}
	r.made[id] = c
	return c, r.issue(c, template, r.authority.Leaf)
}

// faultOf is the fault of the domain that a host is in.
func (r *receivers) faultOf(host string) (fault string) {
	labels := -1
	for _, e := range r.entries {
		if n := dns.CountLabel(e.name); n > labels && dns.IsSubDomain(e.name, host) {
			fault, labels = e.fault, n
		}
	}
	return fault
}

// What stands in the zone files for data that the lab knows only when it runs: the same digit all over.
const (
	ofECDSA = '0' // of the host's certificate, or of its authority's where the usage says so
	ofRSA   = '1' // of the host's second certificate
)

// fill puts what the receivers present into the TLSA records of a zone.
func (r *receivers) fill(z *Zone) error {
	for _, owner := range z.Owners(dns.TypeTLSA) {
		host := owner
		for host[0] == '_' || host[0] == '*' {
			host = parent(host)
		}
		records := z.Records(owner, dns.TypeTLSA)
		z.Remove(owner, dns.TypeTLSA)
		for _, rr := range records {
			if err := r.fillRecord(host, rr.(*dns.TLSA)); err != nil {
				return err
			}
			z.Add(rr)
		}
	}
	return nil
}

func (r *receivers) fillRecord(host string, tlsa *dns.TLSA) (err error) {
	digit := tlsa.Certificate[0]
	if strings.Trim(tlsa.Certificate, string(digit)) != "" || digit != ofECDSA && digit != ofRSA {
		return nil
	}
	if digit == ofRSA {
		r.withRSA[host] = true
		if r.rsa == nil {
			if r.rsa, err = rsa.GenerateKey(rand.Reader, bits[dns.RSASHA256]); err != nil {
				return err
			}
		}
	}
	c := r.authority
	if tlsa.Usage%2 == 1 { // the usages of hosts, 1 and 3
		if c, err = r.certificate(host, digit == ofRSA); err != nil {
			return err
		}
	}
	tlsa.Certificate, err = dns.CertificateToDANE(tlsa.Selector, tlsa.MatchingType, c.Leaf)
	return err
}

// present chooses the certificate for a handshake.
func (r *receivers) present(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := dns.CanonicalName(hello.ServerName)
	if host == "." {
		return nil, errors.New("the lab's receivers go by SNI, and there is none")
	}
	c, err := r.certificate(host, false)
	if err == nil && r.withRSA[host] && hello.SupportsCertificate(c) != nil {
		return r.certificate(host, true)
	}
	return c, err
}

// listen opens the receivers on free ports of 127.0.0.1.
func (r *receivers) listen() error {
	for _, hosts := range []struct {
		addresses []string
		config    *tls.Config
	}{{securedHosts, &tls.Config{GetCertificate: r.present}}, {plainHosts, nil}} {
		stream, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return inbox{}, nil }))
		s.Domain, s.TLSConfig, s.ErrorLog = "lab.invalid", hosts.config, log.New(io.Discard, "", 0)
		r.closers = append(r.closers, s, stream) // a server that has not begun yet leaves its listener open
		r.ended.Go(func() { s.Serve(stream) })   //nolint:errcheck // it ends with close
		for _, address := range hosts.addresses {
			r.byTarget[address] = stream.Addr().String()
		}
	}
	return nil
}

// close ends the receivers.
func (r *receivers) close() {
	for _, c := range r.closers {
		c.Close() //nolint:errcheck // closed twice, most of them
	}
	r.closers = nil
	r.ended.Wait()
}

// inbox is a session in which mail is taken, and thrown away.
type inbox struct{}

// Mail implements smtp.Session.
func (inbox) Mail(string, *smtp.MailOptions) error { return nil }

// Rcpt implements smtp.Session.
func (inbox) Rcpt(string, *smtp.RcptOptions) error { return nil }

// Data implements smtp.Session.
func (inbox) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// Reset implements smtp.Session.
func (inbox) Reset() {}

// Logout implements smtp.Session.
func (inbox) Logout() error { return nil }

// Receivers are where the mail hosts of the lab receive, by their addresses in DNS, which nobody has. Which host is
// meant a receiver knows by SNI.
func (l *Lab) Receivers() map[string]string { return l.receivers.byTarget }

// Dial connects to the receiver that stands for an address of the lab, whatever the port. Nobody listens at all others.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	at, known := l.receivers.byTarget[host]
	if !known {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	return new(net.Dialer).DialContext(ctx, network, at)
}
