// Package probe connects to a mail host as a sender of mail would: EHLO, STARTTLS, SNI, and the certificate compared
// with the TLSA records of the host (RFC 7672). It sends no mail.
//
//	r := (&probe.Prober{}).Probe(ctx, probe.Target{
//		Address: netip.MustParseAddrPort("192.0.2.25:25"),
//		Base:    "mx.example.org.",            // the TLSA base domain
//		Names:   []string{"example.org."},     // further reference identifiers
//		Usable:  usable,                       // of mail.Usable
//	})
//	if r.Failure != nil { ... r.Failure.Kind, r.Failure.Result() ... }
//
// A receiver that offers STARTTLS to some clients only, or another certificate by address, is seen as this host sees
// it. To ask for the certificate of one kind of key, TLS 1.2 has to be spoken: a receiver that speaks nothing but TLS
// 1.3 fails such a handshake.
package probe

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// Timeout is how long a Prober of the zero value waits for all of one probe: longer than receivers let clients wait for
// their greeting to tell robots by their haste, shorter than anybody waits for a command.
const Timeout = 30 * time.Second

// SenderTimeout is how long senders wait for a greeting or the reply to a command (RFC 5321 section 4.5.3.2, and
// Postfix and Exim by default).
const SenderTimeout = 5 * time.Minute

// Key is the kind of public key that the receiver is asked to show.
type Key string

// The kinds of keys that the cipher suites of TLS 1.2 tell apart. Ed25519 and Ed448 count as ECDSA (RFC 8422 section
// 5.10).
const (
	AnyKey Key = ""
	RSA    Key = "RSA"
	ECDSA  Key = "ECDSA"
)

// KeyOf is the kind of the key of a certificate.
func KeyOf(c *x509.Certificate) Key {
	if _, ok := mail.PublicKey(c).(*rsa.PublicKey); ok {
		return RSA
	}
	return ECDSA
}

// Target is what is probed.
type Target struct {
	Address netip.AddrPort
	Base    string      // the TLSA base domain: sent as SNI (RFC 7672 section 8.1), and a reference identifier
	Names   []string    // further reference identifiers: the next-hop domain, if its MX RRset is Secure (section 3.2.2)
	Usable  []*dns.TLSA // of [mail.Usable]; without records nothing is compared
	Key     Key
}

// Prober probes. The zero value is ready, and safe for concurrent use, as long as its functions are.
type Prober struct {
	Timeout time.Duration // of all of one probe; 0: [Timeout]
	// the name sent with EHLO; "": the host's, or the own address in brackets (RFC 5321 section 4.1.3)
	Helo  string
	Clock func() time.Time // by which certificates are judged; nil: time.Now
	// Implicit has TLS begin with the first octet (RFC 8314 section 3), which port 465 is for.
	Implicit bool
	// CAs are those that a sender may know beside TLSA records; nil: the system's.
	CAs *x509.CertPool
	// Dial, if set, connects in the place of the system: a lab's hosts have addresses that nobody has.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Report is what came of a probe. What is behind the step that failed is not there.
type Report struct {
	Address  netip.AddrPort
	Code     int    // of the first reply
	Greeting string // its text
	Version  uint16 // of TLS, as crypto/tls numbers it; tls.VersionName names it
	Chain    []*x509.Certificate
	Record   *dns.TLSA // by which the receiver is authenticated; nil if there were none to compare
	Failure  *Failure  // nil: TLS was spoken, and the certificate matches a record if there are any
	Note     string    // a clause about the handshake that an operator should know of; "" mostly

	awaited string // of a host that has been connected to, the last thing
}

// Expires is when the certificate ends: the first of the chain to do so if a trust anchor is what matched. It is zero
// without one.
func (r *Report) Expires() (end time.Time) {
	for i, c := range r.Chain {
		if i == 0 || r.Record != nil && r.Record.Usage == mail.DANETA && c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// Kind is the step at which a probe failed.
type Kind string

// The kinds of failures, in the order of the steps.
const (
	Unreachable Kind = "unreachable" // no connection, or it broke or took too long
	Slow        Kind = "slow"        // it broke the patience of danelaw, not that of senders, who wait longer
	Protocol    Kind = "protocol"    // the peer does not take mail: no SMTP, or a reply that refuses
	Name        Kind = "name"        // the name sent with EHLO is refused, and senders have others
	NoSTARTTLS  Kind = "no STARTTLS" // it is not offered, or refused
	Handshake   Kind = "handshake"   // TLS was not agreed on, as senders would not either
	// danelaw does not speak what the host wants, and senders may: what they do is not known
	Unspoken    Kind = "unspoken"
	Certificate Kind = "certificate" // Err is a *[mail.CertificateError]
)

// Unknown reports whether a failure of the kind leaves it open what a sender meets.
func (k Kind) Unknown() bool { return k == Slow || k == Name || k == Unspoken }

// Failure says why a probe failed. Err is a sentence without the address.
type Failure struct {
	Kind Kind
	Err  error
}

// Error is fit to be shown, whatever of the host's own words is in it.
func (f *Failure) Error() string { return printable.Text(f.Err.Error()) }

func (f *Failure) Unwrap() error { return f.Err }

// short is an error whose words may be the peer's, as long as it likes.
type short struct{ error }

func (s short) Error() string { return printable.Short(s.error.Error()) }

func (s short) Unwrap() error { return s.error }

// Result is the result type that a sender reports (RFC 8460 section 4.3), "" for what has to do with TLS in no way.
func (f *Failure) Result() mail.Result {
	if c, ok := errors.AsType[*mail.CertificateError](f.Err); ok {
		return c.Result
	}
	switch f.Kind {
	case NoSTARTTLS:
		return mail.STARTTLSNotSupported
	case Handshake:
		return mail.ValidationFailure
	}
	return ""
}

// Probe connects, looks and takes its leave. It returns when ctx ends at the latest.
func (p *Prober) Probe(ctx context.Context, t Target) *Report {
	ctx, cancel := context.WithTimeout(ctx, p.timeout())
	defer cancel()
	r := &Report{Address: t.Address}
	err := p.agree(ctx, t, r)
	if err == nil {
		err = p.verify(t, r)
	}
	if err != nil && !errors.As(err, &r.Failure) {
		r.Failure = &Failure{Unreachable, p.plain(ctx, err)}
		if r.awaited != "" && ctx.Err() == context.DeadlineExceeded && p.timeout() < SenderTimeout {
			r.Failure = &Failure{Slow, fmt.Errorf("%s is slower than %v; senders wait 5 minutes",
				r.awaited, p.timeout())}
		}
	}
	return r
}

func (p *Prober) timeout() time.Duration { return cmp.Or(p.Timeout, Timeout) }

// plain is an error of a connection without the operation and the address, which the reader knows.
func (p *Prober) plain(ctx context.Context, err error) error {
	var timeout net.Error
	var op *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer within %v", p.timeout())
	case errors.As(err, &op):
		return op.Err
	}
	return err
}

// open connects, with a bound on what is read, and speaks SMTP until TLS may begin. The connection ends with ctx; it is
// to be closed.
func (p *Prober) open(ctx context.Context, to netip.AddrPort, r *Report) (net.Conn, error) {
	dial := p.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	endless, err := dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	conn := &bounded{Conn: endless, left: maxOctets}
	ended := context.AfterFunc(ctx, func() { conn.Close() })
	if p.Implicit {
		r.awaited = "an answer"
		return conn, nil
	}
	if err := p.hello(conn, to, r); err != nil {
		ended()
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// plainPatience is how long a greeting in plain is waited for where TLS may be waited for.
const plainPatience = 2 * time.Second

// hello speaks SMTP until TLS may begin.
func (p *Prober) hello(conn net.Conn, to netip.AddrPort, r *Report) (err error) {
	s := newSession(conn)
	r.awaited = "the greeting"
	if to.Port() == submissions {
		//nolint:errcheck // without one it takes longer
		conn.SetReadDeadline(time.Now().Add(min(plainPatience, p.timeout()/2)))
	}
	switch err = s.greeting(r); {
	case to.Port() == submissions && errors.Is(err, os.ErrDeadlineExceeded):
		return &Failure{Unspoken, errors.New("port 465 is for TLS from the first octet on, and the host waits for " +
			"that: say --implicit-tls")}
	case err != nil:
		return err
	}
	conn.SetReadDeadline(time.Time{}) //nolint:errcheck // it was set
	r.awaited = "an answer"
	return s.startTLS(p.helo(conn))
}

// submissions is the port for TLS from the first octet on (RFC 8314 section 7.3).
const submissions = 465

// hostname is another in tests.
var hostname = os.Hostname

// hostName is a name that may be in DNS: one of several labels (RFC 5321 section 2.3.5).
var hostName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*$`)

// helo is the name to be sent with EHLO.
func (p *Prober) helo(conn net.Conn) string {
	if p.Helo != "" {
		return p.Helo
	}
	if name, err := hostname(); err == nil && hostName.MatchString(name) {
		return name
	}
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	switch {
	case err != nil: // a connection of a test's own kind
		return "[127.0.0.1]"
	case local.Addr().Unmap().Is4():
		return "[" + local.Addr().Unmap().String() + "]"
	}
	return "[IPv6:" + local.Addr().WithZone("").String() + "]"
}

// verify compares what was presented with the records.
func (p *Prober) verify(t Target, r *Report) (err error) {
	if len(t.Usable) == 0 {
		return nil
	}
	now := time.Now
	if p.Clock != nil {
		now = p.Clock
	}
	if r.Record, err = mail.Verify(t.Usable, r.Chain, append([]string{t.Base}, t.Names...), now()); err == nil {
		return nil
	}
	if odd := unreadable(t.Usable, r.Chain); odd != nil &&
		err.(*mail.CertificateError).Result == mail.CertificateNotTrusted {
		return &Failure{Unspoken, odd}
	}
	return &Failure{Certificate, err}
}

// Manners is what a program whose decision is to deliver does because of how a host speaks SMTP, where RFC 7672 says
// otherwise; why is "" if it does the same. The suite test/mta shows it with Debian's Postfix 3.7 and Exim 4.96.
func (r *Report) Manners(s mail.Sender, a mail.Action) (action mail.Action, why string) {
	switch mustEncrypt := s == mail.Postfix && a > mail.Opportunistic; {
	case s == mail.Exim && r.Code/100 == 5:
		return mail.Bounce, r.Failure.Error()
	case mustEncrypt && strings.Trim(r.Greeting, "20 *") == "" && r.Code/100 == 2:
		return mail.Defer, "Postfix takes a greeting without a word for that of a Cisco PIX, says HELO, and is not " +
			"offered STARTTLS (smtp_pix_workarounds)"
	case mustEncrypt && r.Version != 0 && r.Version < tls.VersionTLS12:
		return mail.Defer, fmt.Sprintf("Postfix with OpenSSL 3 does not agree on %s where it must have TLS",
			tls.VersionName(r.Version))
	}
	return 0, ""
}

// Unsure says why it cannot be known what a sender does with a chain that its TLSA records do not authenticate; "" if
// it is known. Where a record of usage 2 matches but no name does, Exim with GnuTLS goes on to ask the CAs of its
// system, and heeds no name then (tls-gnu.c, verify_certificate): it may deliver if this system knows the chain's CA.
func (p *Prober) Unsure(s mail.Sender, err error, chain []*x509.Certificate, now time.Time) string {
	failure, ok := errors.AsType[*mail.CertificateError](err)
	if s != mail.Exim || !ok || failure.Result != mail.CertificateHostMismatch {
		return ""
	}
	o := x509.VerifyOptions{Roots: p.CAs, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return ""
	}
	return fmt.Sprintf("danelaw cannot know what Exim does: %v, but it may take the certificate by the CAs of its "+
		"system", err)
}
