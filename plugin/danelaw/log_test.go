package danelaw

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/probe"
)

// TestLogIsLines: what a certificate or a server says forges no line of the log and drives no terminal.
func TestLogIsLines(t *testing.T) {
	_, w := watching(t, config(t), "example.org.")
	book := logged(t)
	const words = "evil\x1b[31m\u009b2J\u202e\r\n[INFO] forged"
	failed := &probe.Failure{Kind: probe.Certificate,
		Err: &mail.CertificateError{Err: errors.New("the certificate is for " + words)}}
	at := netip.MustParseAddrPort("192.0.2.25:25")
	w.remember(&Seen{Domain: "example.org.", State: StateNone, Why: words, Hosts: []SeenHost{{
		Name: "mx.example.org.", State: StateSecure,
		Certificates: []SeenCertificate{{&probe.Report{Address: at, Failure: failed}, probe.AnyKey}},
	}}})
	log.Warningf("%s", words)
	log.trace("panic: %s\n%s", words, "goroutine 1\n\tmain.go:1")
	const want = `evil\u001b[31m\u009b2J\u202e\r\n[INFO] forged`
	if got := book.String(); strings.Count(got, want) != 3 || strings.Contains(got, "\n[INFO]") ||
		strings.ContainsAny(got, "\x1b\u009b\u202e\r") ||
		!strings.Contains(got, "\n\tgoroutine 1\n\tmain.go:1\n") {
		t.Errorf("the log is\n%q", got)
	}
}
