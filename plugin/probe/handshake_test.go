package probe

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// opensslKey makes a certificate of `openssl req` signed by itself, and returns the files of both and the certificate.
func opensslKey(t *testing.T, args ...string) (key, cert string, der []byte) {
	t.Helper()
	dir := t.TempDir()
	key, cert = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	run := exec.Command("openssl", append([]string{"req", "-x509", "-nodes", "-subj", "/CN=mx.example", "-days", "30",
		"-keyout", key, "-out", cert,
		"-addext", "subjectAltName=DNS:mx.example"}, args...)...)
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	return key, cert, block.Bytes
}

// opensslServer is `openssl s_server` behind SMTP: what a client says after STARTTLS goes there. It returns where.
func opensslServer(t *testing.T, args ...string) netip.AddrPort {
	t.Helper()
	behind := fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
	server := exec.Command("openssl", append([]string{"s_server", "-accept", behind, "-quiet"}, args...)...)
	var said strings.Builder
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait() //nolint:errcheck // it was killed
		if t.Failed() {
			t.Log(said.String())
		}
	})
	return starttls(t, func(conn net.Conn) {
		var to net.Conn
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			var err error
			if to, err = net.Dial("tcp", behind); err == nil {
				break
			}
			if time.Now().After(deadline) {
				return
			}
		}
		defer to.Close()
		go func() { io.Copy(to, conn); to.(*net.TCPConn).CloseWrite() }() //nolint:errcheck // the prober tells
		io.Copy(conn, to)                                                 //nolint:errcheck // the prober tells
	})
}

// starttls is a mail host that hands a connection over after STARTTLS.
func starttls(t *testing.T, secured func(net.Conn)) netip.AddrPort {
	t.Helper()
	packets, stream := ports.Open(t)
	packets.Close()
	t.Cleanup(func() { stream.Close() })
	go func() {
		for conn, err := stream.Accept(); err == nil; conn, err = stream.Accept() {
			go func() {
				defer conn.Close()
				in := bufio.NewScanner(conn)
				for _, line := range []string{"220 mx.example\r\n", "250-mx.example\r\n250 STARTTLS\r\n"} {
					if io.WriteString(conn, line); !in.Scan() { //nolint:errcheck // the prober tells
						return
					}
				}
				io.WriteString(conn, "220 go\r\n") //nolint:errcheck // the prober tells
				secured(conn)
			}()
		}
	}()
	return netip.MustParseAddrPort(stream.Addr().String())
}

// recordOf is a TLSA record of a certificate in DER.
func recordOf(t *testing.T, der []byte, usage, selector, matching uint8) *dns.TLSA {
	t.Helper()
	c, err := mail.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	r := &dns.TLSA{Usage: usage, Selector: selector, MatchingType: matching}
	if r.Certificate, err = dns.CertificateToDANE(selector, matching, c); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestOpenSSL: what senders with OpenSSL agree on with a host, danelaw sees as well, or says that it cannot.
func TestOpenSSL(t *testing.T) {
	needs.Tools(t, "openssl")
	rsa, ec := []string{"-newkey", "rsa:2048"}, []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	ed448, pss := []string{"-newkey", "ed448"}, []string{"-newkey", "rsa-pss"}
	negative := append([]string{"-set_serial", "-5"}, ec...)
	weak := "ALL:@SECLEVEL=0"
	for _, test := range []struct {
		name, version string
		key, server   []string
		kind          Kind
		note          string
	}{
		{"AES128-SHA", "TLS 1.2", rsa, []string{"-tls1_2", "-cipher", "AES128-SHA"}, "", ""},
		{"AES256-SHA256", "TLS 1.2", rsa, []string{"-tls1_2", "-cipher", "AES256-SHA256,AES128-SHA256"}, "", ""},
		{"AES256-GCM by RSA", "TLS 1.2", rsa, []string{"-tls1_2", "-cipher", "AES256-GCM-SHA384"}, "", ""},
		{"DHE", "TLS 1.2", rsa, []string{"-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"}, "", "was not ended"},
		{"DHE with CBC", "TLS 1.2", rsa, []string{"-tls1_2", "-cipher", "DHE-RSA-AES128-SHA"}, "", "was not ended"},
		{"TLS 1.0", "TLS 1.0", rsa, []string{"-tls1", "-cipher", weak}, "", ""},
		{"TLS 1.1", "TLS 1.1", ec, []string{"-tls1_1", "-cipher", weak}, "", ""},
		{"TLS 1.0 with DHE", "TLS 1.0", rsa, []string{"-tls1", "-cipher", "DHE-RSA-AES128-SHA:@SECLEVEL=0"},
			"", "was not ended"},
		{"TLS 1.2", "TLS 1.2", ec, []string{"-tls1_2"}, "", ""},
		{"TLS 1.3", "TLS 1.3", ec, []string{"-tls1_3"}, "", ""},
		{"P-521", "TLS 1.2", ec, []string{"-tls1_2", "-groups", "P-521"}, "", ""},
		{"X448", "TLS 1.2", ec, []string{"-tls1_2", "-groups", "X448"}, "", "was not ended"},
		{"Ed448", "TLS 1.2", ed448, []string{"-tls1_2"}, "", "was not ended"},
		{"Ed448 and TLS 1.3", "", ed448, []string{"-tls1_3"}, Unspoken, ""},
		{"RSASSA-PSS", "TLS 1.2", pss, []string{"-tls1_2"}, "", "was not ended"},
		{"RSASSA-PSS and TLS 1.3", "", pss, []string{"-tls1_3"}, Unspoken, ""},
		{"a negative serial number", "TLS 1.2", negative, nil, "", "was not ended"},
		{"a negative serial number and TLS 1.3", "", negative, []string{"-tls1_3"}, Unspoken, ""},
		{"a cipher that nobody offers", "", rsa, []string{"-tls1_2", "-cipher", "AECDH-AES128-SHA:@SECLEVEL=0"},
			Handshake, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			key, cert, der := opensslKey(t, test.key...)
			at := opensslServer(t, append([]string{"-key", key, "-cert", cert}, test.server...)...)
			for _, r := range []*dns.TLSA{recordOf(t, der, 3, 1, 1), recordOf(t, der, 3, 0, 0),
				recordOf(t, der, 3, 0, 2)} {
				if usable, _ := mail.Usable([]*dns.TLSA{r}); len(usable) != 1 {
					t.Fatalf("%s is not usable", mail.Brief(r))
				}
				got := probe(t, Target{Address: at, Usable: []*dns.TLSA{r}})
				if test.kind != "" {
					if got.Failure == nil || got.Failure.Kind != test.kind || got.Record != nil {
						t.Errorf("%+v, %v", got, got.Failure)
					}
					continue
				}
				if got.Failure != nil || got.Record != r || tls.VersionName(got.Version) != test.version ||
					!strings.Contains(got.Note, test.note) ||
					(got.Note == "") != (test.note == "") {
					t.Errorf("%+v, %v, %s", got, got.Failure, tls.VersionName(got.Version))
				}
			}
			if test.kind != "" {
				return
			}
			_, _, other := opensslKey(t, test.key...)
			got := probe(t, Target{Address: at, Usable: []*dns.TLSA{recordOf(t, other, 3, 1, 1)}})
			if got.Failure == nil || got.Failure.Result() != mail.CertificateNotTrusted {
				t.Errorf("by the record of another: %+v, %v", got, got.Failure)
			}
		})
	}
}

// negative is a certificate with a serial number below zero, which crypto/x509 refuses. Its own signature is broken by
// that.
func negative(t *testing.T) tls.Certificate {
	t.Helper()
	c := certificate(t, newECDSA(t), time.Now().Add(time.Hour))
	der := bytes.Replace(c.Certificate[0], []byte{2, 1, 1, 0x30}, []byte{2, 1, 0xfb, 0x30}, 1)
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("the serial number is not negative")
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.PrivateKey}
}

// TestUnparsable: a certificate that crypto/x509 refuses is compared by its octets, where its host proves that it has
// the key; its part in a chain is not known.
func TestUnparsable(t *testing.T) {
	c, other := negative(t), negative(t)
	at := receiver(t, &tls.Config{Certificates: []tls.Certificate{c}, MaxVersion: tls.VersionTLS12})
	for _, selector := range []uint8{mail.Cert, mail.SPKI} {
		for _, matching := range []uint8{mail.Full, mail.SHA256, mail.SHA512} {
			want := recordOf(t, c.Certificate[0], mail.DANEEE, selector, matching)
			r := probe(t, Target{Address: at, Usable: []*dns.TLSA{want}})
			if r.Failure != nil || r.Record != want || r.Note == "" || r.Version != tls.VersionTLS12 ||
				len(r.Chain) != 1 || !r.Expires().After(time.Now()) {
				t.Errorf("3 %d %d: %+v, %v", selector, matching, r, r.Failure)
			}
		}
	}
	r := probe(t, Target{Address: at, Usable: []*dns.TLSA{recordOf(t, other.Certificate[0], mail.DANEEE,
		mail.SPKI, mail.SHA256)}})
	if r.Failure == nil || r.Failure.Kind != Certificate || r.Failure.Result() != mail.CertificateNotTrusted {
		t.Errorf("another: %+v, %v", r, r.Failure)
	}
	r = probe(t, Target{Address: at, Usable: []*dns.TLSA{recordOf(t, other.Certificate[0], mail.DANETA,
		mail.Cert, mail.Full)}})
	if r.Failure == nil || r.Failure.Kind != Unspoken || r.Failure.Result() != "" ||
		!strings.Contains(r.Failure.Error(), "danelaw cannot tell") {
		t.Errorf("an anchor of such a kind: %+v, %v", r, r.Failure)
	}
	thief := receiver(t, &tls.Config{Certificates: []tls.Certificate{{Certificate: c.Certificate,
		PrivateKey: other.PrivateKey}}, MaxVersion: tls.VersionTLS12})
	r = probe(t, Target{Address: thief, Usable: []*dns.TLSA{recordOf(t, c.Certificate[0], mail.DANEEE,
		mail.SPKI, mail.SHA256)}})
	if r.Failure == nil || r.Failure.Kind != Handshake || r.Record != nil {
		t.Errorf("without the key: %+v, %v", r, r.Failure)
	}
	at = receiver(t, &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS13})
	r = probe(t, Target{Address: at, Usable: []*dns.TLSA{recordOf(t, c.Certificate[0], mail.DANEEE,
		mail.SPKI, mail.SHA256)}})
	if r.Failure == nil || r.Failure.Kind != Unspoken || !strings.Contains(r.Failure.Error(), "TLS 1.3") {
		t.Errorf("TLS 1.3: %+v, %v", r, r.Failure)
	}
	t.Setenv("GODEBUG", "x509negativeserial=1") // as danelaw is built
	if r := probe(t, Target{Address: at, Usable: []*dns.TLSA{recordOf(t, c.Certificate[0], mail.DANEEE, mail.SPKI,
		mail.SHA256)}}); r.Failure != nil || r.Note != "" {
		t.Errorf("TLS 1.3, as danelaw is built: %+v, %v", r, r.Failure)
	}
}

// TestLargeHello: a host that breaks off a ClientHello of more than a segment, or is silent to it, is spoken to with a
// smaller one, and the operator is told.
func TestLargeHello(t *testing.T) {
	c := certificate(t, newECDSA(t), time.Now().Add(time.Hour))
	for name, refuse := range map[string]func(net.Conn){
		"resets": func(conn net.Conn) { conn.(*net.TCPConn).SetLinger(0) }, //nolint:errcheck // the prober tells
		"closes": func(net.Conn) {},
		"hangs":  func(conn net.Conn) { io.Copy(io.Discard, conn) }, //nolint:errcheck // until the prober gives up
	} {
		at := starttls(t, func(conn net.Conn) {
			in := bufio.NewReader(conn)
			head, err := in.Peek(5)
			if err != nil {
				return
			}
			if size := int(head[3])<<8 | int(head[4]); size > 1000 {
				refuse(conn)
				return
			}
			//nolint:errcheck // the prober tells
			tls.Server(&peeked{conn, in}, &tls.Config{Certificates: []tls.Certificate{c}}).Handshake()
		})
		p := &Prober{Timeout: 6 * time.Second}
		r := p.Probe(t.Context(), Target{Address: at, Base: "mx.example.", Usable: []*dns.TLSA{record(t, c)}})
		if r.Failure != nil || r.Record == nil || !strings.Contains(r.Note, "large ClientHello") {
			t.Errorf("%s: %+v, %v", name, r, r.Failure)
		}
	}
}

// peeked is a connection of which something was read already.
type peeked struct {
	net.Conn
	in io.Reader
}

func (p *peeked) Read(to []byte) (int, error) { return p.in.Read(to) }

// TestGarbledHandshake: whatever a host sends in the place of a handshake is a failure, and no panic.
func TestGarbledHandshake(t *testing.T) {
	hello := "\x02\x00\x00\x26\x03\x03" + strings.Repeat("r", 32) + "\x00\x00\x9e\x00" // DHE
	handshake := func(body string) string {
		return "\x16\x03\x03" + string([]byte{byte(len(body) >> 8), byte(len(body))}) + body
	}
	for _, says := range []string{
		"", "\x15\x03\x03\x00\x02\x02\x28", "\x15\x03\x03\x00\x00", "\x16\x03\x03\xff\xff", handshake(""),
		handshake("\x02\x00\x00\x00"), handshake(hello),
		handshake(hello) + handshake("\x0e\x00\x00\x00"),
		handshake(hello) + handshake("\x0b\x00\x00\x00") + handshake("\x0e\x00\x00\x00"),
		handshake(hello) + handshake("\x0b\x00\x00\x03\x00\x00\x00") + handshake("\x0e\x00\x00\x00"),
		handshake(hello) + handshake("\x0b\x00\x00\x07\x00\x00\x04\x00\x00\x01\x30") + handshake("\x0e\x00\x00\x00"),
		handshake(hello) + handshake("\x0c\x00\x00\x02\x00\x09") + handshake("\x0e\x00\x00\x00"),
	} {
		at := starttls(t, func(conn net.Conn) {
			bufio.NewReader(conn).Peek(1) //nolint:errcheck // the prober tells
			io.WriteString(conn, says)    //nolint:errcheck // the prober tells
		})
		if r := probe(t, Target{Address: at}); r.Failure == nil || r.Failure.Kind != Handshake {
			t.Errorf("%q: %+v, %v", says, r, r.Failure)
		}
	}
}
