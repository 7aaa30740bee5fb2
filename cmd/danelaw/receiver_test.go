package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/probe"
	"github.com/danelaw-dns/danelaw/zones"
)

// tlsaOf asks the lab for the TLSA records of a host.
func tlsaOf(t *testing.T, lab *zones.Lab, host string) (all []*dns.TLSA) {
	t.Helper()
	query := new(dns.Msg).SetQuestion("_25._tcp."+host, dns.TypeTLSA)
	m, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(query, lab.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for _, rr := range m.Answer {
		if r, ok := rr.(*dns.TLSA); ok {
			all = append(all, r)
		}
	}
	return all
}

// TestLabReceivers: the mail hosts of the lab present what their domains are there to show.
func TestLabReceivers(t *testing.T) {
	lab := newLab(t)
	p := &probe.Prober{Timeout: patience, Dial: lab.Dial}
	for _, test := range []struct {
		host, address string
		key           probe.Key
		usable        int
		kind          probe.Kind // "" if a record matches
		result        mail.Result
	}{
		{"mx1.good.dane.", "192.0.2.25", "", 1, "", ""},
		{"mx1.good.dane.", "2001:db8::25", "", 1, "", ""},
		{"mx2.good.dane.", "192.0.2.26", "", 2, "", ""},
		{"mx1.good.dane.", "192.0.2.25", probe.RSA, 1, probe.Handshake, mail.ValidationFailure},
		{"mx.alias-tlsa.dane.", "192.0.2.25", "", 1, "", ""},
		{"mx.wildcard.dane.", "192.0.2.25", "", 1, "", ""},
		{"mx.large-tlsa.dane.", "192.0.2.25", "", 40, "", ""},
		{"mx.dane-ta.dane.", "192.0.2.25", "", 1, "", ""},
		{"mx.two-certificates.dane.", "192.0.2.25", probe.RSA, 2, "", ""},
		{"mx.two-certificates.dane.", "192.0.2.25", probe.ECDSA, 2, "", ""},
		{"mx.mismatch.dane.", "192.0.2.25", "", 1, probe.Certificate, mail.CertificateNotTrusted},
		{"mx.expired-ee.dane.", "192.0.2.25", "", 1, "", ""},
		{"mx.expired-ta.dane.", "192.0.2.25", "", 1, probe.Certificate, mail.CertificateExpired},
		{"mx.other-name.dane.", "192.0.2.25", "", 1, probe.Certificate, mail.CertificateHostMismatch},
		{"mx.unusable-tlsa.dane.", "192.0.2.25", "", 0, "", ""},
		{"mx.no-starttls.dane.", "192.0.2.27", "", 1, probe.NoSTARTTLS, mail.STARTTLSNotSupported},
		{"nobody.dane.", "192.0.2.80", "", 0, probe.Unreachable, ""},
		{"", "192.0.2.25", "", 0, probe.Handshake, mail.ValidationFailure}, // no SNI
	} {
		usable, _ := mail.Usable(tlsaOf(t, lab, test.host))
		if len(usable) != test.usable {
			t.Errorf("%s has %d usable records, want %d", test.host, len(usable), test.usable)
		}
		r := p.Probe(t.Context(), probe.Target{
			Address: netip.AddrPortFrom(netip.MustParseAddr(test.address), 25), Base: test.host, Usable: usable,
			Key: test.key,
		})
		switch {
		case test.kind == "" && (r.Failure != nil || test.usable > 0 && r.Record == nil):
			t.Errorf("%s at %s, key %q: %v", test.host, test.address, test.key, r.Failure)
		case test.kind != "" && (r.Failure == nil || r.Failure.Kind != test.kind || r.Failure.Result() != test.result):
			t.Errorf("%s at %s, key %q: %+v, want %s", test.host, test.address, test.key, r.Failure, test.kind)
		}
		if test.key != "" && r.Failure == nil && probe.KeyOf(r.Chain[0]) != test.key {
			t.Errorf("%s: a key of %s", test.host, probe.KeyOf(r.Chain[0]))
		}
	}
}

// TestLabReceiversEnd: the receivers go with the lab, though a sender is still connected.
func TestLabReceiversEnd(t *testing.T) {
	lab, err := zones.Start(zones.Options{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	at := lab.Receivers()["192.0.2.25"]
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	lab.Close()
	if other, err := net.Dial("tcp", at); err == nil {
		other.Close()
		t.Error("the receiver is still there")
	}
}
