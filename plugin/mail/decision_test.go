package mail

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

const (
	secure        = dnssec.Secure
	insecure      = dnssec.Insecure
	bogus         = dnssec.Bogus
	indeterminate = dnssec.Indeterminate
)

var (
	usableTLSA   = &dns.TLSA{Usage: DANEEE, Selector: SPKI, MatchingType: SHA256, Certificate: strings.Repeat("ab", 32)}
	unusableTLSA = &dns.TLSA{Usage: PKIXEE, Selector: SPKI, MatchingType: SHA256, Certificate: strings.Repeat("ab", 32)}
)

func addresses(a, aaaa Lookup) []Lookup {
	a.Name, a.Type, aaaa.Name, aaaa.Type = "h.", dns.TypeA, "h.", dns.TypeAAAA
	return []Lookup{a, aaaa}
}

// data and denied are answers of a status, with and without data.
func data(s dnssec.Status) Lookup   { return Lookup{Status: s, Data: true} }
func denied(s dnssec.Status) Lookup { return Lookup{Status: s} }

func tlsa(base string, l Lookup, records ...*dns.TLSA) TLSA {
	l.Name, l.Type = TLSAName(base, Port), dns.TypeTLSA
	return TLSA{Lookup: l, Base: base, Records: records}
}

func host(address Lookup, all ...TLSA) Host {
	return Host{Exchange: Exchange{Name: "h.", Preference: 10}, Addresses: addresses(address, denied(address.Status)),
		Expanded: "h.", TLSA: all}
}

func alias(address dnssec.Status, first dnssec.Status, all ...TLSA) Host {
	h := host(data(address), all...)
	h.Expanded, h.First = "e.", first
	return h
}

// to is a domain of D-2's, good but for what a case changes.
func to(mx Lookup, hosts ...Host) *Domain {
	mx.Name, mx.Type = "d.", dns.TypeMX
	return &Domain{Name: "d.", MX: mx, Hosts: hosts}
}

// TestDecisions: every row of D-2, what Postfix and Exim make of it where they differ (D-11..D-14), and the result type
// (D-20).
func TestDecisions(t *testing.T) {
	good := host(data(secure), tlsa("h.", data(secure), usableTLSA))
	mixed := host(data(secure), tlsa("h.", data(secure), unusableTLSA, usableTLSA))
	unusable := host(data(secure), tlsa("h.", data(secure), unusableTLSA))
	none := host(data(secure), tlsa("h.", denied(secure)))
	failing := func(s dnssec.Status) Host { return host(data(secure), tlsa("h.", denied(s))) }
	oneFamily := func(a, aaaa Lookup) Host {
		h := good
		h.Addresses = addresses(a, aaaa)
		return h
	}
	withEmpty := func(usage uint8, beside ...*dns.TLSA) Host {
		empty := &dns.TLSA{Hdr: dns.RR_Header{Rdlength: 3}, Usage: usage, Selector: SPKI, MatchingType: SHA256}
		return host(data(secure), tlsa("h.", data(secure), append(beside, empty)...))
	}
	nameError, null := to(denied(secure)), to(data(secure))
	nameError.NameError, null.Null = true, true
	insecureNameError := to(denied(insecure))
	insecureNameError.NameError = true
	for _, tt := range []struct {
		name   string
		domain *Domain
		want   string // RFC 7672, Postfix, Exim, result, policy type
	}{
		{"all is well", to(data(secure), good), "dane dane dane  tlsa"},
		{"some records unusable", to(data(secure), mixed), "dane dane dane  tlsa"},
		{"one without data beside a good one", to(data(secure), withEmpty(3, usableTLSA)), "dane defer dane  tlsa"},
		{"one without data alone", to(data(secure), withEmpty(2)), "encrypt defer encrypt tlsa-invalid tlsa"},
		{"one without data of usage 1", to(data(secure), withEmpty(1, usableTLSA)), "dane dane dane  tlsa"},

		{"MX Insecure", to(data(insecure), good), "opportunistic dane opportunistic  tlsa"},
		{"MX Insecure, host Insecure", to(data(insecure), host(data(insecure))),
			"opportunistic opportunistic opportunistic  no-policy-found"},
		{"MX Insecure, TLSA fails", to(data(insecure), failing(bogus)),
			"opportunistic defer opportunistic dnssec-invalid no-policy-found"},
		{"MX Bogus", to(denied(bogus)), "defer defer defer dnssec-invalid no-policy-found"},
		{"MX Indeterminate", to(denied(indeterminate)), "defer defer defer dnssec-invalid no-policy-found"},
		{"MX Bogus, though data came", to(data(bogus), good), "defer defer defer dnssec-invalid tlsa"},

		{"no MX: the domain itself", to(denied(secure), good), "dane dane dane  tlsa"},
		{"no MX, Insecurely", to(denied(insecure), good), "opportunistic dane dane  tlsa"},
		{"no MX, no address", to(denied(secure), host(denied(secure))), "bounce bounce bounce  no-policy-found"},
		{"no such domain", nameError, "bounce bounce bounce  no-policy-found"},
		{"no such domain, Insecurely", insecureNameError, "bounce bounce bounce  no-policy-found"},
		{"null MX", null, "null-mx null-mx null-mx  no-policy-found"},

		{"address Insecure", to(data(secure), host(data(insecure))),
			"opportunistic opportunistic opportunistic  no-policy-found"},
		{"address Bogus", to(data(secure), host(denied(bogus))), "defer defer defer dnssec-invalid no-policy-found"},
		{"address Indeterminate", to(data(secure), host(denied(indeterminate))),
			"defer defer defer dnssec-invalid no-policy-found"},
		{"no address", to(data(secure), host(denied(secure))), "bounce bounce bounce  no-policy-found"},
		{"A alone, AAAA Bogus", to(data(secure), oneFamily(data(secure), denied(bogus))), "dane dane dane  tlsa"},
		{"AAAA alone, A fails", to(data(secure), oneFamily(denied(indeterminate), data(secure))),
			"dane dane dane  tlsa"},
		{"A Secure, AAAA denied Insecurely", to(data(secure), oneFamily(data(secure), denied(insecure))),
			"dane dane dane  tlsa"},
		{"A denied, AAAA Bogus", to(data(secure), oneFamily(denied(secure), denied(bogus))),
			"defer defer defer dnssec-invalid tlsa"},

		{"TLSA unusable", to(data(secure), unusable), "encrypt encrypt encrypt tlsa-invalid tlsa"},
		{"TLSA denied", to(data(secure), none), "opportunistic opportunistic opportunistic  no-policy-found"},
		{"TLSA denied Insecurely", to(data(secure), failing(insecure)),
			"opportunistic opportunistic opportunistic  no-policy-found"},
		{"TLSA Insecure", to(data(secure), host(data(secure), tlsa("h.", data(insecure), usableTLSA))),
			"opportunistic opportunistic opportunistic  no-policy-found"},
		{"TLSA Bogus", to(data(secure), failing(bogus)), "defer defer defer dnssec-invalid no-policy-found"},
		{"TLSA Indeterminate", to(data(secure), failing(indeterminate)),
			"defer defer defer dnssec-invalid no-policy-found"},

		// D-4; Exim asks at the target of the alias alone, and only if the whole alias chain is Secure
		{"alias, TLSA at its target", to(data(secure), alias(secure, secure, tlsa("e.", data(secure), usableTLSA))),
			"dane dane dane  tlsa"},
		{"alias, TLSA at itself", to(data(secure), alias(secure, secure, tlsa("e.", denied(secure)),
			tlsa("h.", data(secure), usableTLSA))), "dane dane opportunistic  tlsa"},
		{"alias, Insecure TLSA at its target",
			to(data(secure), alias(secure, secure, tlsa("e.", data(insecure), usableTLSA),
				tlsa("h.", data(secure), usableTLSA))), "dane dane opportunistic  tlsa"},
		{"alias, TLSA at its target fails", to(data(secure), alias(secure, secure, tlsa("e.", denied(bogus)))),
			"defer defer defer dnssec-invalid no-policy-found"},
		{"alias into an Insecure zone, TLSA at itself",
			to(data(secure), alias(insecure, secure, tlsa("h.", data(secure), usableTLSA))),
			"dane dane opportunistic  tlsa"},
		{"Insecure alias", to(data(secure), alias(insecure, insecure)),
			"opportunistic opportunistic opportunistic  no-policy-found"},

		// a domain of several hosts
		{"one host without TLSA", to(data(secure), good, none), "opportunistic opportunistic opportunistic  tlsa"},
		{"one host fails", to(data(secure), failing(bogus), good), "dane dane dane dnssec-invalid tlsa"},
		{"one host unusable", to(data(secure), good, unusable), "encrypt encrypt encrypt tlsa-invalid tlsa"},
		{"one host without address", to(data(secure), host(denied(secure)), good), "dane dane dane  tlsa"},
		{"one fails, one has no address", to(data(secure), host(denied(secure)), failing(bogus)),
			"defer defer defer dnssec-invalid no-policy-found"},
	} {
		var got []string
		for _, s := range []Sender{Standard, Postfix, Exim} {
			d := s.Domain(tt.domain)
			got = append(got, d.Action.String())
			if d.Why == "" || (d.Failed != nil) != (d.Action == Defer) {
				t.Errorf("%s: %s: %+v", tt.name, s, d)
			}
			if words := s.Consequence(tt.domain, d); d.Action.Delivers() != strings.HasPrefix(words, "delivers") {
				t.Errorf("%s: %s: %q", tt.name, s, words)
			}
		}
		if got := strings.Join(append(got, string(tt.domain.Result()), tt.domain.PolicyType(false)),
			" "); got != tt.want {
			t.Errorf("%s:\n%s, want\n%s", tt.name, got, tt.want)
		}
	}
}

// TestPolicyType: DANE wins over MTA-STS (D-21).
func TestPolicyType(t *testing.T) {
	with := to(data(secure), host(data(secure), tlsa("h.", data(secure), usableTLSA)))
	without := to(data(secure), host(data(secure), tlsa("h.", denied(secure))))
	if got := fmt.Sprint(with.PolicyType(true), " ", without.PolicyType(true)); got != "tlsa sts" {
		t.Error(got)
	}
}

// TestConsequences: the words that operators find in their logs.
func TestConsequences(t *testing.T) {
	good := host(data(secure), tlsa("h.", data(secure), usableTLSA))
	null := to(data(secure))
	null.Null = true
	for _, tt := range []struct {
		sender Sender
		domain *Domain
		want   string
	}{
		{Standard, to(data(secure), good), "or defers"},
		{Postfix, to(data(secure), good), `"Verified"`},
		{Postfix, to(data(insecure), good), `"Trusted"`},
		{Postfix, to(denied(insecure), good), `"Verified"`}, // no MX name that could be forged
		{Postfix, to(denied(bogus)), `4.4.3, "Name service error for name=d"`},
		{Exim, to(denied(bogus)), `"host lookup did not complete"`},
		{Standard, to(denied(bogus)), "defers: the lookup of d. MX fails"},
		{Postfix, to(data(secure), host(data(secure), tlsa("h.", denied(bogus)))), `4.7.5, "TLSA lookup error"`},
		{Exim, to(data(secure), host(data(secure), tlsa("h.", denied(bogus)))), `"DANE error: tlsa lookup DEFER"`},
		{Postfix, to(data(secure), host(data(secure), tlsa("h.", data(secure), unusableTLSA))),
			"whatever the certificate"},
		{Exim, to(data(secure), host(data(secure), tlsa("h.", data(secure), unusableTLSA))),
			"whatever the certificate"},
		{Postfix, null, "bounces (5.1.0): d. says by a null MX"},
		{Postfix, to(data(secure), host(denied(secure))), "bounces (5.4.4)"},
		{Exim, null, "bounces: d. says"},
		{Exim, to(data(insecure), good), "if the host offers it; d. MX is Insecure"},
	} {
		if got := tt.sender.Consequence(tt.domain, tt.sender.Domain(tt.domain)); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q lacks %q", tt.sender, got, tt.want)
		}
	}
}

// TestZeroDecision: what nobody decided delivers nothing.
func TestZeroDecision(t *testing.T) {
	if d := (Decision{}); d.Action.Delivers() || d.Action.String() != "defer" {
		t.Errorf("%v", d)
	}
}

// TestExchangeOnline: D-23.
func TestExchangeOnline(t *testing.T) {
	for result, want := range map[Result]string{
		STARTTLSNotSupported: "4/5.7.321", CertificateExpired: "4/5.7.322", TLSAInvalid: "4/5.7.323",
		DNSSECInvalid:           "4/5.7.324",
		CertificateHostMismatch: "5.7.325", CertificateNotTrusted: "", ValidationFailure: "", DANERequired: "", "": "",
	} {
		if got := result.ExchangeOnline(); got != want {
			t.Errorf("%s: %q, want %q", result, got, want)
		}
	}
}

// TestMXSets: what Postfix and Exim make of hosts that they do not try, or take for themselves; test/mta has the same
// as domains.
func TestMXSets(t *testing.T) {
	at := func(name string, preference uint16, ips ...string) Host {
		h := host(data(secure), tlsa(name, data(secure), usableTLSA))
		h.Name, h.Expanded, h.Preference = name, name, preference
		for _, ip := range ips {
			h.IPs = append(h.IPs, netip.MustParseAddr(ip))
		}
		return h
	}
	good := at("mx.d.", 10, "192.0.2.1")
	nowhere := host(denied(secure))
	nowhere.Name, nowhere.Expanded, nowhere.Preference = "nowhere.", "nowhere.", 5
	literal := nowhere
	literal.Name, literal.Expanded = "192.0.2.7.", "192.0.2.7."
	noTLSA := at("tlsa-fails.", 5, "192.0.2.2")
	noTLSA.TLSA = []TLSA{tlsa("tlsa-fails.", denied(bogus))}
	many := func(others ...string) *Domain {
		d := to(data(secure))
		for i, ip := range others {
			h := at(fmt.Sprintf("h%d.", i), uint16(i), ip)
			h.TLSA = nil // opportunistic
			d.Hosts = append(d.Hosts, h)
		}
		return d
	}
	with := func(d *Domain, last Host) *Domain {
		last.Preference = 100
		d.Hosts = append(d.Hosts, last)
		return d
	}
	null := to(data(secure), good)
	null.NullToo = true
	own := to(denied(secure), at("d.", 0, "127.0.0.1"))
	badName := to(data(secure), good)
	badName.Name = "-d."
	for _, tt := range []struct {
		name   string
		domain *Domain
		want   string // of the domain, and Postfix's code
		last   string // of the last host
	}{
		{"null MX beside a host", null, "dane null-mx dane ", "dane dane dane"},
		{"an address, preferred", to(data(secure), literal, good), "dane opportunistic dane ", "dane dane dane"},
		{"an address alone", to(data(secure), literal), "bounce opportunistic bounce ",
			"no-address opportunistic passed-over"},
		{"loopback, preferred", to(data(secure), at("localhost.", 5, "127.0.0.1", "::1"), good),
			"dane bounce dane 5.4.6", "dane passed-over dane"},
		{"loopback of the same preference", to(data(secure), at("localhost.", 10, "127.0.0.1"), good),
			"dane bounce dane 5.4.6", "dane passed-over dane"},
		{"loopback behind", to(data(secure), good, at("localhost.", 20, "127.0.0.1")), "dane dane dane ",
			"dane passed-over passed-over"},
		{"loopback behind nobody", to(data(secure), nowhere, at("localhost.", 20, "127.0.0.1")),
			"dane defer bounce 4.4.4", "dane passed-over passed-over"},
		{"no MX, and loopback", own, "dane bounce bounce 5.4.6", "dane passed-over passed-over"},
		{"a private address", to(data(secure), at("mx.", 10, "10.0.0.1")), "dane dane bounce ",
			"dane dane passed-over"},
		{"a private address and another", to(data(secure), at("mx.", 10, "10.0.0.1", "192.0.2.1")), "dane dane dane ",
			"dane dane dane"},
		{"a name with a hyphen first", to(data(secure), at("-mx.", 10, "192.0.2.1")), "dane bounce bounce ",
			"dane passed-over passed-over"},
		{"a name with a slash, preferred", to(data(insecure), at("m/x.", 5, "192.0.2.1"), good),
			"opportunistic dane opportunistic ", "opportunistic dane opportunistic"},
		{"TLSA fails at the first", to(data(secure), noTLSA, good), "dane dane defer ", "dane dane passed-over"},
		{"recipient with a hyphen first", badName, "dane bounce bounce 5.1.3", "dane dane dane"},
		{"the fifth address", with(many("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"), good),
			"opportunistic opportunistic opportunistic ", "dane dane dane"},
		{"the sixth", with(many("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"), good),
			"opportunistic opportunistic opportunistic ", "dane passed-over dane"},
		{"the sixth, the only one of its family",
			with(many("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5"), good),
			"opportunistic opportunistic opportunistic ", "dane dane dane"},
		{"the fifth, another is alone in its family",
			with(many("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::1"), good),
			"opportunistic opportunistic opportunistic ", "dane passed-over dane"},
	} {
		words := func(of func(Sender) Action) (all []string) {
			for _, s := range Senders {
				all = append(all, of(s).String())
			}
			return all
		}
		last := &tt.domain.Hosts[len(tt.domain.Hosts)-1]
		got := strings.Join(append(words(func(s Sender) Action { return s.Domain(tt.domain).Action }),
			Postfix.Domain(tt.domain).Code), " ")
		if hosts := strings.Join(words(func(s Sender) Action { return s.Host(tt.domain, last).Action }),
			" "); got != tt.want || hosts != tt.last {
			t.Errorf("%s: %s, its last host %s; want %s, %s", tt.name, got, hosts, tt.want, tt.last)
		}
	}
}
