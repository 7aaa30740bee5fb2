package probe

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func newECDSA(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSA(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate is one signed by itself, for mx.example.
func certificate(t *testing.T, key crypto.Signer, end time.Time) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example"},
		NotBefore: end.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: c}
}

func record(t *testing.T, c tls.Certificate) *dns.TLSA {
	t.Helper()
	r := &dns.TLSA{Usage: mail.DANEEE, Selector: mail.SPKI, MatchingType: mail.SHA256}
	var err error
	if r.Certificate, err = dns.CertificateToDANE(r.Selector, r.MatchingType, c.Leaf); err != nil {
		t.Fatal(err)
	}
	return r
}

// receiver is a mail host until the test ends.
func receiver(t *testing.T, c *tls.Config) netip.AddrPort {
	t.Helper()
	packets, stream := ports.Open(t)
	packets.Close()
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return noMail{}, nil }))
	s.Domain, s.TLSConfig, s.ErrorLog = "mx.example", c, quiet{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(stream) //nolint:errcheck // it ends with Close
	}()
	t.Cleanup(func() {
		s.Close()
		<-ended
	})
	return netip.MustParseAddrPort(stream.Addr().String())
}

// noMail is a session in which nobody sends anything.
type noMail struct{ smtp.Session }

func (noMail) Logout() error { return nil }

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// script is a peer that says a line, then for each line that it hears another; with "" it closes.
func script(t *testing.T, says ...string) netip.AddrPort {
	t.Helper()
	packets, stream := ports.Open(t)
	packets.Close()
	t.Cleanup(func() { stream.Close() })
	go func() {
		for {
			conn, err := stream.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewScanner(conn)
				for _, line := range says {
					if _, err := io.WriteString(conn, line); err != nil || line == "" || !in.Scan() {
						return
					}
				}
				io.Copy(io.Discard, conn) //nolint:errcheck // until the other side ends
			}()
		}
	}()
	return netip.MustParseAddrPort(stream.Addr().String())
}

// probe asks a receiver with a Prober that waits.
func probe(t *testing.T, to Target) *Report {
	t.Helper()
	if to.Base == "" {
		to.Base = "mx.example."
	}
	return (&Prober{Timeout: patience}).Probe(t.Context(), to)
}

// TestMatch: the certificate is compared with the records, and all is told.
func TestMatch(t *testing.T) {
	end := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	c := certificate(t, newECDSA(t), end)
	var sni string
	at := receiver(t, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		sni = h.ServerName
		return &c, nil
	}})
	want := record(t, c)
	r := probe(t, Target{Address: at, Usable: []*dns.TLSA{want}})
	if r.Failure != nil || r.Record != want || r.Version != tls.VersionTLS13 || r.Address != at {
		t.Errorf("%+v, %v", r, r.Failure)
	}
	if !strings.Contains(r.Greeting, "mx.example") || len(r.Chain) != 1 || !r.Expires().Equal(end.UTC()) {
		t.Errorf("greeting %q, %d certificates, expires %v", r.Greeting, len(r.Chain), r.Expires())
	}
	if sni != "mx.example" {
		t.Errorf("SNI %q", sni)
	}
}

// TestMismatch: another key is a failure that shows the chain, and without records nothing is compared.
func TestMismatch(t *testing.T) {
	end := time.Now().Add(time.Hour)
	c, other := certificate(t, newECDSA(t), end), certificate(t, newECDSA(t), end)
	at := receiver(t, &tls.Config{Certificates: []tls.Certificate{c}})
	r := probe(t, Target{Address: at, Usable: []*dns.TLSA{record(t, other)}})
	if r.Failure == nil || r.Failure.Kind != Certificate || r.Failure.Result() != mail.CertificateNotTrusted ||
		len(r.Chain) != 1 || r.Record != nil {
		t.Errorf("%+v, %v", r, r.Failure)
	}
	if r := probe(t, Target{Address: at}); r.Failure != nil || r.Record != nil || len(r.Chain) != 1 {
		t.Errorf("%+v, %v", r, r.Failure)
	}
}

// TestClock: certificates are judged by the Prober's clock, by the names of the target and by its SNI.
func TestClock(t *testing.T) {
	now := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	ca := certificate(t, newECDSA(t), now.Add(time.Hour))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(time.Hour),
	}
	ca.Certificate[0], _ = x509.CreateCertificate(rand.Reader, template, template,
		ca.PrivateKey.(crypto.Signer).Public(), ca.PrivateKey)
	ca.Leaf, _ = x509.ParseCertificate(ca.Certificate[0])
	key := newECDSA(t)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"example.org"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(2 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	at := receiver(t, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der, ca.Certificate[0]},
		PrivateKey: key}}})
	anchor := record(t, ca)
	anchor.Usage = mail.DANETA
	for _, test := range []struct {
		now    time.Time
		names  []string
		result mail.Result
	}{
		{now, []string{"example.org."}, ""},
		{now, nil, mail.CertificateHostMismatch},
		{now.Add(61 * time.Minute), []string{"example.org."}, mail.CertificateExpired},
	} {
		p := &Prober{Timeout: patience, Clock: func() time.Time { return test.now }}
		r := p.Probe(t.Context(), Target{Address: at, Base: "mx.example.", Names: test.names,
			Usable: []*dns.TLSA{anchor}})
		if test.result == "" && (r.Failure != nil || !r.Expires().Equal(now.Add(time.Hour))) {
			t.Errorf("%v, expires %v", r.Failure, r.Expires())
		}
		if test.result != "" && (r.Failure == nil || r.Failure.Result() != test.result) {
			t.Errorf("%v, want %s", r.Failure, test.result)
		}
	}
}

// TestKeys: a receiver with two certificates shows the one that is asked for, and one without it fails the handshake.
func TestKeys(t *testing.T) {
	end := time.Now().Add(time.Hour)
	both := map[Key]tls.Certificate{RSA: certificate(t, newRSA(t), end), ECDSA: certificate(t, newECDSA(t), end)}
	at := receiver(t, &tls.Config{Certificates: []tls.Certificate{both[RSA], both[ECDSA]}})
	for key, c := range both {
		r := probe(t, Target{Address: at, Usable: []*dns.TLSA{record(t, c)}, Key: key})
		if r.Failure != nil || KeyOf(r.Chain[0]) != key || r.Version != tls.VersionTLS12 {
			t.Errorf("%s: %v, TLS %s", key, r.Failure, tls.VersionName(r.Version))
		}
	}
	at = receiver(t, &tls.Config{Certificates: []tls.Certificate{both[ECDSA]}})
	if r := probe(t, Target{Address: at, Key: RSA}); r.Failure == nil || r.Failure.Kind != Handshake ||
		r.Failure.Result() != mail.ValidationFailure {
		t.Errorf("%+v, %v", r, r.Failure)
	}
}

// TestOther: the certificate with the other kind of key is found if there is one, and at a host of TLS 1.3 alone it is
// told that it cannot be seen.
func TestOther(t *testing.T) {
	end := time.Now().Add(time.Hour)
	withRSA, withECDSA := certificate(t, newRSA(t), end), certificate(t, newECDSA(t), end)
	const unseen = "the host speaks nothing older than TLS 1.3, so that another certificate, with a key of RSA, " +
		"cannot be seen, if it has one"
	for _, test := range []struct {
		name  string
		c     *tls.Config
		other Key
		note  string
	}{
		{"one", &tls.Config{Certificates: []tls.Certificate{withECDSA}}, "", ""},
		{"two", &tls.Config{Certificates: []tls.Certificate{withECDSA, withRSA}}, RSA, ""},
		{"TLS 1.3 alone", &tls.Config{Certificates: []tls.Certificate{withECDSA}, MinVersion: tls.VersionTLS13}, "",
			unseen},
		{"two, TLS 1.3 alone", &tls.Config{Certificates: []tls.Certificate{withECDSA, withRSA},
			MinVersion: tls.VersionTLS13}, "", unseen},
		{"TLS 1.2 alone", &tls.Config{Certificates: []tls.Certificate{withECDSA}, MaxVersion: tls.VersionTLS12}, "",
			""},
	} {
		to := Target{Address: receiver(t, test.c)}
		p := &Prober{Timeout: time.Minute}
		r := p.Probe(t.Context(), to)
		other := p.Other(t.Context(), to, r)
		if r.Failure != nil || (other != nil) != (test.other != "") ||
			other != nil && KeyOf(other.Chain[0]) != test.other || r.Note != test.note {
			t.Errorf("%s: %v, other %+v, note %q", test.name, r.Failure, other, r.Note)
		}
	}
}

// TestFailures: each step that may fail, with its kind and a sentence.
func TestFailures(t *testing.T) {
	closed := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(ports.Closed(t)))
	const hello, ehlo = "220 hello\r\n", "250-mx\r\n250 STARTTLS\r\n"
	for _, test := range []struct {
		name   string
		at     netip.AddrPort
		kind   Kind
		result mail.Result
		want   string
	}{
		{"nobody there", closed, Unreachable, "", "refused"},
		{"closes at once", script(t, ""), Unreachable, "", "closed the connection"},
		{"closes after EHLO", script(t, hello, ""), Unreachable, "", "closed the connection"},
		{"another protocol", script(t, "SSH-2.0-OpenSSH\r\n"), Protocol, "", "does not speak SMTP"},
		{"no service", script(t, "554 go away\x1b[31m\r\n"), Protocol, "",
			"refuses connections: 554 go away\\u001b[31m"},
		{"refuses EHLO", script(t, hello, "421-busy\r\n421 now\r\n"), Protocol, "", "refuses EHLO: 421 busy"},
		{"no EHLO", script(t, hello, "502 what?\r\n", "250 mx\r\n"), NoSTARTTLS, mail.STARTTLSNotSupported,
			"knows no EHLO (502 what?)"},
		{"takes HELO alone", script(t, hello, "451 not now\r\n", "250 mx\r\n"), NoSTARTTLS, mail.STARTTLSNotSupported,
			"refuses EHLO (451 not now) and takes HELO"},
		{"takes neither", script(t, hello, "500 what?\r\n", "550 go away\r\n"), Protocol, "",
			"refuses EHLO and HELO: 550 go away"},
		{"refuses the name", script(t, hello, "504 need a name\r\n"), Name, "",
			"(504 need a name), and may take another name"},
		{"refuses the name by 501", script(t, hello, "501-5.5.4\r\n501 no\r\n"), Name, "", "(501 5.5.4)"},
		{"refuses the name by 550", script(t, hello, "550\r\n"), Name, "", "(550)"},
		{"is too busy", script(t, "421 too many\r\n"), Protocol, "", "refuses connections: 421 too many"},
		{"is too busy, in lines", script(t, "450-too\r\n450 many\r\n"), Protocol, "", "refuses connections: 450 too"},
		{"changes its mind", script(t, "220-hello\r\n554 no\r\n"), Protocol, "", "refuses connections: 554 hello"},
		{"no code", script(t, "2200 hello\r\n"), Protocol, "", "does not speak SMTP"},
		{"a line without end", script(t, "220 "+strings.Repeat("x", 2*maxLine)), Protocol, "", "does not speak SMTP"},
		{"too busy for STARTTLS", script(t, hello, ehlo, "421 busy\r\n"), NoSTARTTLS, mail.STARTTLSNotSupported,
			"refuses STARTTLS: 421 busy"},
		{"no STARTTLS", receiver(t, nil), NoSTARTTLS, mail.STARTTLSNotSupported, "does not offer STARTTLS"},
		{"an extension that only begins so", script(t, hello, "250-mx\r\n250 STARTTLSX\r\n"), NoSTARTTLS,
			mail.STARTTLSNotSupported, "does not offer"},
		{"refuses STARTTLS", script(t, hello, ehlo, "454 not now\r\n"), NoSTARTTLS, mail.STARTTLSNotSupported,
			"refuses STARTTLS: 454 not now"},
		{"injects", script(t, hello, ehlo, "220 go\r\n250 and this\r\n"), Protocol, "", "says more than"},
		{"no TLS", script(t, hello, "250 starttls now\r\n", "220 go\r\n", "plain text\r\n"), Handshake,
			mail.ValidationFailure, "handshake failed"},
		{"without end", script(t, "220-"+strings.Repeat("more\r\n220-", maxOctets/8)), Protocol, "", "without end"},
	} {
		r := probe(t, Target{Address: test.at})
		if r.Failure == nil || r.Failure.Kind != test.kind || r.Failure.Result() != test.result ||
			!strings.Contains(r.Failure.Error(), test.want) {
			t.Errorf("%s: %+v, want %s %q", test.name, r.Failure, test.kind, test.want)
		}
		if test.kind != Certificate && !r.Expires().IsZero() {
			t.Errorf("%s: expires %v", test.name, r.Expires())
		}
	}
}

// TestSilence: a peer that says nothing ends with the time allowed, or with the context.
func TestSilence(t *testing.T) {
	const senders = " is slower than 200ms; senders wait 5 minutes"
	for said, at := range map[string]netip.AddrPort{
		"the greeting" + senders: script(t), "an answer" + senders: script(t, "220 hello\r\n",
			"250 STARTTLS\r\n", "220 go\r\n"),
	} {
		r := (&Prober{Timeout: 200 * time.Millisecond}).Probe(t.Context(), Target{Address: at, Base: "mx.example."})
		if r.Failure == nil || r.Failure.Kind != Slow || !r.Failure.Kind.Unknown() || r.Failure.Result() != "" ||
			r.Failure.Error() != said {
			t.Errorf("%v, want %s", r.Failure, said)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan struct{})
	p := &Prober{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		close(heard)
		return here, nil
	}}
	go func() { <-heard; cancel() }()
	if r := p.Probe(ctx, Target{Address: netip.MustParseAddrPort("192.0.2.25:25")}); r.Failure == nil ||
		r.Failure.Err != context.Canceled {
		t.Errorf("%v", r.Failure)
	}
}

// TestHelo: the name of EHLO is that of the host if it is one of DNS, else the address of the connection, unless
// another is given.
func TestHelo(t *testing.T) {
	defer func() { hostname = os.Hostname }()
	for _, test := range []struct {
		host, want string
		p          *Prober
	}{
		{"mx", "EHLO [127.0.0.1]", &Prober{}}, {"mx_1.example.org", "EHLO [127.0.0.1]", &Prober{}},
		{"", "EHLO [127.0.0.1]", &Prober{}},
		{"192.0.2.1", "EHLO [127.0.0.1]", &Prober{}}, {"a b.example", "EHLO [127.0.0.1]", &Prober{}},
		{"mx.example\nQUIT", "EHLO [127.0.0.1]", &Prober{}},
		{"mx.example.org", "EHLO mx.example.org", &Prober{}},
		{"mx.example.org", "EHLO sender.example", &Prober{Helo: "sender.example"}},
	} {
		hostname = func() (string, error) { return test.host, nil }
		p, want := test.p, test.want
		here, there := net.Pipe()
		p.Dial = func(context.Context, string, string) (net.Conn, error) { return here, nil }
		said := make(chan string, 1)
		go func() {
			defer there.Close()
			io.WriteString(there, "220 hello\r\n") //nolint:errcheck // the test ends without
			line, _ := bufio.NewReader(there).ReadString('\n')
			said <- strings.TrimSpace(line)
		}()
		p.Probe(t.Context(), Target{Address: netip.MustParseAddrPort("192.0.2.25:25")})
		if got := <-said; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	hostname = func() (string, error) { return "", os.ErrNotExist }
	six := &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}
	if got := (&Prober{}).helo(local{six}); got != "[IPv6:2001:db8::1]" {
		t.Errorf("%q", got)
	}
}

// local is a connection that has no more than a local address.
type local struct{ at net.Addr }

func (l local) LocalAddr() net.Addr              { return l.at }
func (local) Read([]byte) (int, error)           { return 0, io.EOF }
func (local) Write([]byte) (int, error)          { return 0, io.EOF }
func (local) Close() error                       { return nil }
func (local) RemoteAddr() net.Addr               { return nil }
func (local) SetDeadline(time.Time) error        { return nil }
func (local) SetReadDeadline(time.Time) error    { return nil }
func (local) SetWriteDeadline(t time.Time) error { return nil }
