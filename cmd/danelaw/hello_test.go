package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// forwardSecret are the names of cipher suites with forward secrecy: all of TLS 1.3, and those of ECDHE.
var forwardSecret = regexp.MustCompile("^TLS_(AES|CHACHA20|ECDHE)_")

// TestStrictHello: that mail hosts are offered all that senders offer them changes nothing for encrypted upstreams:
// they are offered TLS 1.2 and newer with forward secrecy alone (S-9).
func TestStrictHello(t *testing.T) {
	lab := newLab(t)
	hellos := make(chan *tls.ClientHelloInfo, 100)
	l, err := tls.Listen("tcp", "127.0.0.1:0",
		&tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			select {
			case hellos <- h:
			default:
			}
			return nil, fmt.Errorf("seen")
		}, Certificates: []tls.Certificate{certificates.New(t).Server(t, "dot.example", time.Now().Add(time.Hour))}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func(conn net.Conn) {
				defer conn.Close()
				conn.(*tls.Conn).Handshake()
			}(conn) //nolint:errcheck // it fails
		}
	}()
	for _, upstream := range []string{"tls://" + l.Addr().String() + "%dot.example", "https://" + l.Addr().String() +
		"/dns-query%dot.example"} {
		file := write(t, "Corefile", corefile(ports.Closed(t), upstream, anchors(t, lab)))
		here("check", "-conf", file, "example.org", "MX")
		select {
		case h := <-hellos:
			if slices.ContainsFunc(h.SupportedVersions, func(v uint16) bool { return v < tls.VersionTLS12 }) ||
				!slices.Contains(h.SupportedCurves, tls.X25519MLKEM768) {
				t.Errorf("%s: versions %x, groups %v", upstream, h.SupportedVersions, h.SupportedCurves)
			}
			for _, suite := range h.CipherSuites {
				if name := tls.CipherSuiteName(suite); !forwardSecret.MatchString(name) {
					t.Errorf("%s: %s is offered", upstream, name)
				}
			}
			if slices.Contains(h.SignatureSchemes, tls.PKCS1WithSHA1) ||
				slices.Contains(h.SignatureSchemes, tls.ECDSAWithSHA1) {
				t.Errorf("%s: signatures %v", upstream, h.SignatureSchemes)
			}
		default:
			t.Errorf("%s: no ClientHello came", upstream)
		}
		for len(hellos) > 0 {
			<-hellos
		}
	}
}
