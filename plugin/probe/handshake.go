package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// suites are the cipher suites of TLS 1.2 and older by the key that signs, or is encrypted for.
var suites = map[Key][]uint16{
	RSA: {
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	},
	ECDSA: {
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
	},
}

// wideSuites are what senders offer that crypto/tls can speak. 3DES and RC4 are left out: Debian's OpenSSL has neither,
// nor has GnuTLS by default.
var wideSuites = slices.Concat(suites[ECDSA], suites[RSA])

// smallGroups are those of a ClientHello that fits into one segment: without ML-KEM, as senders with OpenSSL before 3.5
// and GnuTLS before 3.8.9 have it.
var smallGroups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// configuration is that of a sender with DANE: the certificate is judged afterwards, by TLSA records alone, and TLS 1.0
// does as well as any (RFC 7672 section 6).
func configuration(t Target) *tls.Config {
	c := &tls.Config{ServerName: sni(t), InsecureSkipVerify: true, MinVersion: tls.VersionTLS10,
		CipherSuites: wideSuites}
	if t.Key != AnyKey {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, suites[t.Key]
	}
	return c
}

func sni(t Target) string { return strings.TrimSuffix(t.Base, ".") }

// agree has TLS agreed on. The first try is that of a new sender; a host that breaks it off gets a smaller ClientHello,
// and what crypto/tls does not speak is looked at in clear.
func (p *Prober) agree(ctx context.Context, t Target, r *Report) error {
	c := configuration(t)
	first := p.handshake(ctx, t, r, c, p.timeout()/3)
	if t.Key != AnyKey || !failedHandshake(first) || ctx.Err() != nil {
		return first
	}
	if brokenOff(first) {
		c.CurvePreferences = smallGroups
		switch err := p.handshake(ctx, t, r, c, p.timeout()); {
		case err == nil:
			r.Note = "the host breaks off a large ClientHello, with ML-KEM in it, as senders with OpenSSL 3.5 or " +
				"newer send it"
			return nil
		case ctx.Err() != nil:
			return err
		}
	}
	if errors.As(first, new(tls.RecordHeaderError)) { // no TLS at all
		return first
	}
	return p.glance(ctx, t, r, first)
}

// Other asks a host that has shown one certificate for the one with the other kind of key. It returns nil if there is
// none, as with most hosts. A host that speaks nothing older than TLS 1.3 cannot be asked; first.Note then says so.
func (p *Prober) Other(ctx context.Context, t Target, first *Report) *Report {
	if t.Key = RSA; KeyOf(first.Chain[0]) == RSA {
		t.Key = ECDSA
	}
	r := p.Probe(ctx, t)
	switch {
	case len(r.Chain) > 0:
		return r
	case r.Failure != nil && tooOld(r.Failure):
		first.Note = strings.TrimPrefix(fmt.Sprintf("%s; the host speaks nothing older than TLS 1.3, so that another "+
			"certificate, with a key of %s, cannot be seen, if it has one", first.Note, t.Key), "; ")
	}
	return nil
}

// tooOld reports whether the host refused the version of TLS: crypto/tls has no type for the alerts that it reads.
func tooOld(err error) bool {
	return failedHandshake(err) && strings.HasSuffix(err.Error(), tls.AlertError(protocolVersion).Error())
}

func failedHandshake(err error) bool {
	f, ok := errors.AsType[*Failure](err)
	return ok && f.Kind == Handshake
}

// brokenOff reports whether a handshake ended without a word of TLS: closed, reset, or in silence.
func brokenOff(err error) bool {
	ends := []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, context.DeadlineExceeded}
	return slices.ContainsFunc(ends, func(end error) bool { return errors.Is(err, end) })
}

// handshake connects and does a handshake of crypto/tls, within the time given.
func (p *Prober) handshake(ctx context.Context, t Target, r *Report, c *tls.Config, patience time.Duration) error {
	conn, err := p.open(ctx, t.Address, r)
	if err != nil {
		return err
	}
	defer conn.Close()
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	secured := tls.Client(conn, c)
	if err := secured.HandshakeContext(limited); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &Failure{Handshake, fmt.Errorf("the TLS handshake failed: %w", short{err})}
	}
	state := secured.ConnectionState()
	r.Version, r.Chain = state.Version, state.PeerCertificates
	within := newSession(secured)
	if p.Implicit {
		if err := within.greeting(r); err != nil {
			return err
		}
	}
	secured.SetDeadline(time.Now().Add(farewell)) //nolint:errcheck // it ends anyway
	within.command("QUIT")                        //nolint:errcheck // a farewell matters to nobody
	return nil
}

// farewell is how long a reply to QUIT is waited for.
const farewell = 5 * time.Second

// glance looks at a host with which crypto/tls has failed, and tells what can be told of it.
func (p *Prober) glance(ctx context.Context, t Target, r *Report, failed error) error {
	conn, err := p.open(ctx, t.Address, r)
	if err != nil {
		return failed
	}
	defer conn.Close()
	g, err := look(conn, sni(t))
	switch {
	case err == protocolVersion:
		return &Failure{Unspoken, fmt.Errorf("the host takes nothing older than TLS 1.3, and of that nothing that "+
			"danelaw can speak: %w", failed)}
	case err != nil: // a sender would not come further
		return failed
	}
	r.Version, r.Chain = g.version, g.chain
	switch err := g.prove(); {
	case errors.Is(err, errUnproven):
		return p.unproven(t, r, failed)
	case err != nil:
		return &Failure{Handshake, err}
	}
	r.Note = "the handshake was not ended, as danelaw cannot speak all that the host wants, but its proof of having " +
		"the key is good"
	return nil
}

// unproven is the failure of a host that has shown a certificate without proof that it has the key. A certificate that
// no record matches is a fault all the same; one that matches does not show that there is none.
func (p *Prober) unproven(t Target, r *Report, failed error) error {
	if err := p.verify(t, r); err != nil {
		return err
	}
	matched := ""
	if r.Record != nil {
		matched = "; its certificate matches " + mail.Brief(r.Record) + ", and " + errUnproven.Error()
		r.Record = nil
	}
	return &Failure{Unspoken, fmt.Errorf("danelaw cannot speak what the host wants: %w%s", failed, matched)}
}

// unreadable says what keeps a chain from being verified by a record of usage 2 that may fit: a certificate of which
// crypto/x509 cannot tell whether it leads to the trust anchor. It is nil if all can be judged.
func unreadable(usable []*dns.TLSA, chain []*x509.Certificate) error {
	for _, r := range usable {
		if len(chain) == 0 || r.Usage != mail.DANETA || r.MatchingType != mail.Full &&
			!slices.ContainsFunc(chain[1:], func(c *x509.Certificate) bool { return mail.Matches(r, c) }) {
			continue
		}
		for _, c := range slices.Concat(chain, mail.Inside(r)) {
			if mail.Partial(c) || c.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm ||
				slices.Contains(unverified, c.SignatureAlgorithm) {
				return fmt.Errorf("danelaw cannot tell whether the chain leads to the trust anchor of %s: it does "+
					"not know what the certificate %q is made of", mail.Brief(r), printable.Short(c.Subject.String()))
			}
		}
	}
	return nil
}

// unverified are the signatures that crypto/x509 does not verify. Senders may.
var unverified = []x509.SignatureAlgorithm{
	x509.UnknownSignatureAlgorithm, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
	x509.DSAWithSHA256,
}
