//go:build linux

package packages

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/receiver"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

const (
	domain     = "good.dane."
	mailHost   = "192.0.2.25"
	nameserver = "192.0.2.53" // of the network, which also answers on an address of this host
)

// stage is what the machine finds on its internet: a signed domain with a mail host, and a recursor.
type stage struct {
	upstream, anchor string
	received         chan string // the recipients
}

func newStage(t *testing.T) *stage {
	t.Helper()
	name := "mx." + strings.TrimSuffix(domain, ".")
	shown := certificates.New(t).Server(t, name, time.Now().Add(time.Hour))
	leaf, err := x509.ParseCertificate(shown.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	digest, err := dns.CertificateToDANE(1, 1, leaf)
	if err != nil {
		t.Fatal(err)
	}
	tree := world.New(time.Now, zones.Plan{Name: ".", Text: world.Base}, world.Zone("dane."), zones.Plan{Name: domain,
		Text: world.Base + fmt.Sprintf("@ MX 10 mx\nmx A %s\n_25._tcp.mx TLSA 3 1 1 %s\n2.0.0.127.bl A 127.0.0.2\n",
			mailHost, digest)}, zones.Plan{Name: "bogus.dane.", Text: world.Base + "@ MX 10 mx\n",
		Fault: zones.Faults["expired"]})
	recursor := tree.Caching()
	recursor.Serve(t, nameserver+":53")
	w := &stage{upstream: recursor.Serve(t, "127.0.0.54:53"), anchor: tree.DS(".")[0].String() + "\n",
		received: make(chan string, 10)}
	w.listen(t, &tls.Config{Certificates: []tls.Certificate{shown}})
	return w
}

// listen opens the mail host.
func (w *stage) listen(t *testing.T, c *tls.Config) {
	t.Helper()
	l, err := net.Listen("tcp", mailHost+":25")
	if err != nil {
		t.Fatal(err)
	}
	receiver.Serve(t, l, mailHost, c, func(to []string, _ bool) {
		for _, name := range to {
			w.received <- name
		}
	})
}

// postfix: by what danelaw setup has done, Postfix delivers with DANE through the package's danelaw.
func postfix(m *machine, w *stage) {
	after := m.run("systemctl", "show", "postfix@-", "--property=After")
	if !strings.Contains(after, "danelaw.service") {
		m.t.Errorf("Postfix is started %s", after)
	}
	recipient := "postmaster@" + strings.TrimSuffix(domain, ".")
	if out, err := m.with("Subject: hello\n\nhello\n", "sendmail", "-f", "sender@localhost", recipient); err != nil {
		m.t.Fatal(err, out)
	}
	select {
	case to := <-w.received:
		if to != recipient {
			m.t.Errorf("mail to %s has come", to)
		}
	case <-time.After(patience):
		log, _ := m.try("cat", "/var/log/mail.log")
		m.t.Fatalf("no mail has come:\n%s", log)
	}
	const verified = "Verified TLS connection established to mx.good.dane[" + mailHost + "]:25"
	m.eventually("status=sent", func() bool {
		return strings.Contains(m.run("cat", "/var/log/mail.log"), "status=sent")
	})
	text := m.run("cat", "/var/log/mail.log")
	if !strings.Contains(text, verified) {
		m.t.Errorf("the log lacks %q:\n%s", verified, text)
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "Verified") || strings.Contains(line, "status=sent") {
			m.t.Log(strings.TrimSpace(line))
		}
	}
}

// policies: the service answers Postfix at the socket that the package's Corefile has opened, for the user that asks
// by proxy:.
func policies(m *machine, _ *stage) {
	const socket = "/run/danelaw/policy.sock"
	if got := m.run("stat", "--format=%U %a", "/run/danelaw", socket); got != "danelaw 755\ndanelaw 666\n" {
		m.t.Errorf("directory and socket are of %q", got)
	}
	name := strings.TrimSuffix(domain, ".")
	got := m.run("runuser", "--user", "postfix", "--", "postmap", "-q", name, "socketmap:unix:"+socket+":QUERY")
	if got != "dane-only\n" {
		m.t.Errorf("of %s it says %q", name, got)
	}
	if out := m.run("danelaw", "policy", "query", name); !strings.Contains(out, domain+"  dane-only\n") {
		m.t.Errorf("danelaw policy query says\n%s", out)
	}
}
