package main

import (
	"crypto/tls"
	"errors"
	"testing"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/probe"
)

// TestManners: what Debian's Postfix and Exim make of how a host speaks, as test/mta has them do it.
func TestManners(t *testing.T) {
	refused := &probe.Failure{Kind: probe.Protocol, Err: errors.New("the host refuses connections: 554 no")}
	good := &probe.Report{Code: 220, Greeting: "mx ESMTP", Version: tls.VersionTLS13}
	for _, test := range []struct {
		name          string
		action        mail.Action
		seen          []*probe.Report
		postfix, exim mail.Action
	}{
		{"as most", mail.DANE, []*probe.Report{good}, mail.DANE, mail.DANE},
		{"nobody looked", mail.DANE, []*probe.Report{nil}, mail.DANE, mail.DANE},
		{"a bare greeting", mail.DANE, []*probe.Report{{Code: 220, Version: tls.VersionTLS13}}, mail.Defer, mail.DANE},
		{"a greeting of stars", mail.Encrypt,
			[]*probe.Report{{Code: 220, Greeting: "** 2**0**", Version: tls.VersionTLS13}}, mail.Defer, mail.Encrypt},
		{"a bare greeting, and TLS need not be", mail.Opportunistic,
			[]*probe.Report{{Code: 220, Version: tls.VersionTLS13}}, mail.Opportunistic, mail.Opportunistic},
		{"a bare greeting at one of two addresses", mail.DANE, []*probe.Report{{Code: 220, Version: tls.VersionTLS13},
			good}, mail.DANE, mail.DANE},
		{"TLS 1.1", mail.DANE, []*probe.Report{{Code: 220, Greeting: "mx", Version: tls.VersionTLS11}}, mail.Defer,
			mail.DANE},
		{
			"TLS 1.0, and it need not be", mail.Opportunistic,
			[]*probe.Report{{Code: 220, Greeting: "mx", Version: tls.VersionTLS10}}, mail.Opportunistic,
			mail.Opportunistic,
		},
		{"554", mail.DANE, []*probe.Report{{Code: 554, Failure: refused}}, mail.Defer, mail.Bounce},
		{"421", mail.DANE, []*probe.Report{{Code: 421, Failure: refused}}, mail.Defer, mail.Defer},
	} {
		v := withHosts(test.action)
		for _, r := range test.seen {
			s := connection{smtpView: smtpView{Address: "192.0.2.25:25"}, seen: r}
			if r != nil && r.Failure != nil {
				s.Failure = &smtpFailure{Kind: string(r.Failure.Kind), Text: r.Failure.Error()}
			}
			v.hosts[0].connections = append(v.hosts[0].connections, s)
		}
		for sender, want := range map[mail.Sender]mail.Action{mail.Postfix: test.postfix, mail.Exim: test.exim} {
			if d, _ := v.decision(sender); d.Action != want {
				t.Errorf("%s: %s: %s (%s), want %s", test.name, sender, d.Action, d.Why, want)
			}
		}
	}
}
