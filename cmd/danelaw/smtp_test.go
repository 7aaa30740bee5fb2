package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/probe"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// seen are the addresses of a host by the kinds of their failures, "" for none.
func seen(kinds ...probe.Kind) (all []connection) {
	for _, k := range kinds {
		s := connection{smtpView: smtpView{Address: "192.0.2.1:25"}}
		if k != "" {
			s.Failure = &smtpFailure{Kind: string(k), Text: "it is " + string(k)}
		}
		all = append(all, s)
	}
	return all
}

// withHosts is a Secure domain, each of whose hosts has a usable TLSA record if its action is DANE, an unusable one if
// it is Encrypt, and none else.
func withHosts(actions ...mail.Action) *view {
	answer := mail.Lookup{Status: dnssec.Secure, Data: true}
	v := &view{domainView: domainView{Domain: "d."}, domain: mail.Domain{Name: "d.", MX: answer}}
	for _, a := range actions {
		record := &dns.TLSA{Usage: mail.DANEEE, Selector: mail.SPKI, MatchingType: mail.SHA256,
			Certificate: strings.Repeat("ab", 32)}
		if a == mail.Encrypt {
			record.Usage = mail.PKIXEE
		}
		h := mail.Host{Exchange: mail.Exchange{Name: "h."}, Expanded: "h.", Addresses: []mail.Lookup{answer}}
		if a != mail.Opportunistic {
			h.TLSA = []mail.TLSA{{Lookup: answer, Base: "h.", Records: []*dns.TLSA{record}}}
		}
		v.domain.Hosts = append(v.domain.Hosts, h)
		v.add(&hostView{Name: "h."})
	}
	return v
}

// TestAfterSMTP: what is seen at the hosts changes decisions where it keeps a sender from delivering, and only there.
func TestAfterSMTP(t *testing.T) {
	const dane, encrypt, opportunistic = mail.DANE, mail.Encrypt, mail.Opportunistic
	one := func(a mail.Action, kinds ...probe.Kind) *view {
		v := withHosts(a)
		v.hosts[0].connections = seen(kinds...)
		return v
	}
	two := func(a, b mail.Action, first, second []connection) *view {
		v := withHosts(a, b)
		v.hosts[0].connections, v.hosts[1].connections = first, second
		return v
	}
	for _, tt := range []struct {
		name   string
		v      *view
		want   mail.Action
		wanted bool
	}{
		{"nobody looked", one(dane), dane, true},
		{"all is well", one(dane, ""), dane, true},
		{"another certificate", one(dane, probe.Certificate), mail.Defer, false},
		{"no STARTTLS", one(dane, probe.NoSTARTTLS), mail.Defer, false},
		{"no TLS", one(dane, probe.Handshake), mail.Defer, false},
		{"what danelaw does not speak", one(dane, probe.Unspoken), dane, false},
		{"what danelaw does not speak, and need not", one(opportunistic, probe.Unspoken), opportunistic, true},
		{"a slow host", one(opportunistic, probe.Slow), opportunistic, false},
		{"a host that dislikes the name", one(dane, probe.Name), dane, false},
		{"no mail", one(opportunistic, probe.Protocol), mail.Defer, false},
		{"nobody there", one(opportunistic, probe.Unreachable), mail.Defer, false},
		{"no STARTTLS, and none is needed", one(opportunistic, probe.NoSTARTTLS), opportunistic, true},
		{"no TLS, and none is needed", one(opportunistic, probe.Handshake), opportunistic, true},
		{"encryption without STARTTLS", one(encrypt, probe.NoSTARTTLS), mail.Defer, false},
		{"one family is not routed", one(dane, "", probe.Unreachable), dane, true},
		{"one address has another certificate", one(dane, probe.Certificate, ""), dane, false},
		{"one host has another certificate", two(dane, dane, seen(probe.Certificate), seen("")), dane, false},
		{"one host is down", two(dane, dane, seen(probe.Unreachable), seen("")), dane, false},
		{"the host without DANE is down", two(opportunistic, dane, seen(probe.Unreachable), seen("")), dane, false},
		{"the host with DANE is down", two(dane, opportunistic, seen(probe.Unreachable), seen("")), opportunistic,
			false},
		{"all are down", two(dane, opportunistic, seen(probe.Unreachable), seen(probe.Unreachable)), mail.Defer, false},
	} {
		d, _ := tt.v.decision(mail.Standard)
		if d.Action != tt.want || tt.v.wanted(lookOptions{}) != tt.wanted {
			t.Errorf("%s: %v, wanted is %v", tt.name, d, tt.v.wanted(lookOptions{}))
		}
	}
	v := one(dane, probe.Unreachable, probe.Certificate)
	if d, _ := v.decision(mail.Standard); d.Why != "h. at 192.0.2.1:25: it is certificate" {
		t.Errorf("what tells most is not told: %q", d.Why)
	}
}

// TestMostAddresses: no domain makes danelaw connect without end.
func TestMostAddresses(t *testing.T) {
	v := withHosts(mail.DANE)
	h := v.Hosts[0]
	for range 20 {
		v.domain.Hosts[0].IPs = append(v.domain.Hosts[0].IPs, netip.MustParseAddr("127.0.0.1"))
	}
	lab := newLab(t)
	a := &asker{prober: &probe.Prober{Dial: lab.Dial}} // nobody receives at that address
	a.connect(t.Context(), v, lookOptions{port: mail.Port})
	if len(h.SMTP) != mostAddresses || h.Untried != 12 || h.SMTP[0].Failure.Kind != string(probe.Unreachable) {
		t.Errorf("%d tried, %d not: %+v", len(h.SMTP), h.Untried, h.SMTP[0])
	}
}

// TestDays: what has ended is told so, on the day that it ends too.
func TestDays(t *testing.T) {
	now := time.Now()
	for left, want := range map[time.Duration]string{
		50 * time.Hour: "2 days left", 25 * time.Hour: "1 day left", time.Hour: "0 days left",
		-time.Hour:      "it has ended, less than a day ago",
		-25 * time.Hour: "it has ended, more than 1 day ago", -50 * time.Hour: "it has ended, more than 2 days ago",
	} {
		if got := days(drawing.DaysLeft(now.Add(left), now)); got != want {
			t.Errorf("%v: %q, want %q", left, got, want)
		}
	}
}

// TestTold: what fails is the last word on a domain that is deferred; Exchange Online's bound is told.
func TestTold(t *testing.T) {
	v := withHosts(mail.DANE)
	v.Signatures = []drawing.Signature{{Owner: ".", Type: "DNSKEY", DaysLeft: 13}}
	v.Decision = "dane"
	if got := v.firstToExpire(); !strings.Contains(got, "13 days left") {
		t.Error(got)
	}
	v.Decision, v.Culprit = "defer", &drawing.Failure{Text: "expired"}
	if got := v.firstToExpire(); strings.Contains(got, "days left") {
		t.Error(got)
	}
	rows := (&tlsaView{Parts: make([]tlsaRecordView, mostForExchange+1)}).rows()
	if last := rows[len(rows)-1].Text; !strings.Contains(last, "13 records: Exchange Online fails with more than 12") {
		t.Error(last)
	}
}

// noMail is a session in which nobody sends anything.
type noMail struct{ smtp.Session }

func (noMail) Logout() error { return nil }

// onlyTLS13 is a mail host that speaks TLS 1.3 and nothing older, with the certificate of the credentials.
func onlyTLS13(t *testing.T, c credentials) (addr string) {
	t.Helper()
	stream, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return noMail{}, nil }))
	s.Domain, s.ErrorLog = "mx.example", log.New(io.Discard, "", 0)
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.cert}, PrivateKey: c.key}},
		MinVersion: tls.VersionTLS13}
	var served sync.WaitGroup
	served.Go(func() { s.Serve(stream) })          //nolint:errcheck // it ends with Close
	t.Cleanup(func() { s.Close(); served.Wait() }) //nolint:errcheck // the test has ended
	return stream.Addr().String()
}

// TestOtherCertificate: where the certificate with the other kind of key cannot be seen, check, tlsa and watch say so.
func TestOtherCertificate(t *testing.T) {
	const unseen = "the host speaks nothing older than TLS 1.3, so that another certificate, with a key of RSA, " +
		"cannot be seen, if it has one"
	at := onlyTLS13(t, newCredentials(t, "mx.example"))
	says(t, []string{"tlsa", "--smtp", at, "--host", "mx.example"}, 0, "127.0.0.1: "+unseen)
	lab := newLab(t)
	_, blocks := labBlocks(t, lab)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}
	a := &asker{prober: &probe.Prober{Timeout: time.Minute, Dial: dial}, end: func() {}, blocks: blocks}
	defer a.close()
	var text strings.Builder
	v, err := a.look(t.Context(), "mismatch.dane.", lookOptions{smtp: true, port: mail.Port})
	if err != nil {
		t.Fatal(err)
	}
	if printView(&text, v, newPainter(false)); !strings.Contains(words(text.String()), unseen) {
		t.Errorf("check:\n%s", text.String())
	}
	text.Reset()
	h, err := a.handler("mismatch.dane.")
	if err != nil {
		t.Fatal(err)
	}
	seen, err := h.Look(t.Context(), "mismatch.dane.", a.prober)
	if err != nil {
		t.Fatal(err)
	}
	if report(seen, 0).print(&text); !strings.Contains(text.String(), unseen) {
		t.Errorf("watch:\n%s", text.String())
	}
}

// TestCannotKnow: of names that are not validated here, and of Exim where a CA of the system may stand in for a TLSA
// record of usage 2 that is of another name, it is said that danelaw cannot know, not that mail is deferred.
func TestCannotKnow(t *testing.T) {
	lab := newLab(t)
	file := write(t, "Corefile", fmt.Sprintf(`.:%d {
 danelaw {
  upstream . %s
  trust_anchor %s
  private mx.mismatch.dane
  control off
 }
 forward . %[2]s
}
`, ports.Closed(t), lab.Addr(), anchors(t, lab)))
	_, out, _ := here("check", "--conf", file, "mismatch.dane")
	if got := words(out); strings.Count(got, "danelaw cannot know: mx.mismatch.dane. is private") < 3 ||
		strings.Contains(got, " defers") || !strings.Contains(got, "reported as unknown") {
		t.Errorf("private:\n%s", out)
	}
	_, out, _ = here("check", "--conf", file, "--file", write(t, "domains", "mismatch.dane\n"))
	if !strings.Contains(words(out), "mismatch.dane. unknown danelaw cannot know: ") {
		t.Errorf("private:\n%s", out)
	}
	_, blocks := labBlocks(t, lab)
	known := x509.NewCertPool()
	a := &asker{prober: &probe.Prober{Timeout: time.Minute, Dial: lab.Dial, CAs: known}, end: func() {}, blocks: blocks}
	defer a.close()
	look := func() *view {
		v, err := a.look(t.Context(), "other-name.dane.", lookOptions{smtp: true, port: mail.Port})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := look()
	if exim := v.Senders[1]; exim.Decision != "defer" || !strings.HasPrefix(exim.Text, "defers") {
		t.Errorf("a CA that nobody knows: %+v", exim)
	}
	chain := v.hosts[0].connections[0].seen.Chain
	known.AddCert(chain[len(chain)-1])
	v = look()
	if exim := v.Senders[1]; exim.Decision != "dane" ||
		!strings.Contains(exim.Text, "danelaw cannot know what Exim does: ") || v.Wanted {
		t.Errorf("a CA that the system knows: %+v, wanted %v", exim, v.Wanted)
	}
	if postfix := v.Senders[0]; postfix.Decision != "defer" {
		t.Errorf("%+v", postfix)
	}
}

// TestNothingToMatch: of a host that has no usable TLSA record it is not said that its certificate matches none: nobody
// compares it.
func TestNothingToMatch(t *testing.T) {
	_, out := checked(t, "-smtp", "unusable-tlsa.dane")
	if at := out.Domains[0].Hosts[0].SMTP; len(at) == 0 || at[0].Result != "tls" || len(at[0].Otherwise) > 0 {
		t.Errorf("%+v", at)
	}
}
