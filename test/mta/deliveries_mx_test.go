//go:build linux

package mta

import (
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// What the MTAs say of such domains.
const (
	nullMX      = "bounced nullMX"
	noHost      = "bounced : all relevant MX records point to non-existent hosts"
	malformed   = "bounced Malformed or unexpected name server reply"
	loops       = "bounced loops back to myself"
	unreachable = "deferred Network is unreachable"
	badAddress  = "bounced bad address syntax"
	refused     = "" // Exim does not accept a message to such a recipient
)

// good is a host with DANE: mail is Verified if it went there.
const good = "mx A {A}\n_25._tcp.mx TLSA {EE}\n"

// mxSets are domains with unusual MX records.
var mxSets = []delivery{
	{domain: "null-mx-preferred.dane", text: "@ MX 10 .\n", want: takesNoMail},
	{domain: "null-mx-first.dane", text: "@ MX 0 .\n@ MX 10 mx\n" + good, want: [2]string{nullMX, verified}},
	{domain: "null-mx-last.dane", text: "@ MX 10 mx\n@ MX 20 .\n" + good, want: [2]string{nullMX, verified}},
	{domain: "null-mx-tie.dane", text: "@ MX 10 mx\n@ MX 10 .\n" + good, want: [2]string{nullMX, verified}},
	{domain: "null-mx-unsigned.dane", config: unsigned, text: "@ MX 0 .\n@ MX 10 mx\n" + good,
		want: [2]string{nullMX, untrusted}},
	{domain: "null-mx-nowhere.dane", text: "@ MX 0 .\n@ MX 10 nowhere\n", want: takesNoMail},
	{domain: "null-mx-nowhere-last.dane", text: "@ MX 20 .\n@ MX 10 nowhere\n", want: [2]string{nullMX, noHost}},
	{domain: "mx-ipv4.dane", text: "@ MX 10 {A}.\n", want: [2]string{untrusted, noHost}},
	{domain: "mx-ipv4-first.dane", text: "@ MX 5 {A}.\n@ MX 10 mx\n" + good, want: [2]string{untrusted, verified}},
	{domain: "mx-ipv4-last.dane", text: "@ MX 50 {A}.\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-ipv4-short.dane", text: "@ MX 5 192.0.2.\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-ipv4-zero.dane", text: "@ MX 5 0.0.0.0.\n@ MX 10 mx\n" + good, want: [2]string{loops, verified}},
	{domain: "mx-ipv4-of-us.dane", text: "@ MX 5 127.0.0.1.\n@ MX 10 mx\n" + good, want: [2]string{loops, verified}},
	{domain: "mx-ipv4-of-us-last.dane", text: "@ MX 50 127.0.0.1.\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-ipv4-brackets.dane", text: "@ MX 5 [{A}].\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-ipv6.dane", text: "@ MX 10 2001:db8::1.\n", want: [2]string{unreachable, noHost}},
	{domain: "mx-ipv6-first.dane", text: "@ MX 5 2001:db8::1.\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-localhost.dane", text: "@ MX 10 localhost.\n", want: [2]string{loops, noHost}},
	{domain: "mx-localhost-first.dane", text: "@ MX 5 localhost.\n@ MX 10 mx\n" + good,
		want: [2]string{loops, verified}},
	{domain: "mx-localhost-last.dane", text: "@ MX 50 localhost.\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-hyphen.dane", text: "@ MX 10 -mx\n-mx A {A}\n_25._tcp.-mx TLSA {EE}\n",
		want: [2]string{malformed, noHost}},
	{domain: "mx-hyphen-first.dane", text: "@ MX 5 -mx\n-mx A {A}\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-hyphen-end.dane", text: "@ MX 5 mx-\nmx- A {A}\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-hyphen-inner.dane", text: "@ MX 5 a.-b\na.-b A {A}\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-space.dane", text: "@ MX 10 m\\032x\nm\\032x A {A}\n_25._tcp.m\\032x TLSA {EE}\n",
		want: [2]string{malformed, noHost}},
	{domain: "mx-space-first.dane", text: "@ MX 5 m\\032x\nm\\032x A {A}\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-utf8.dane", text: "@ MX 10 m\\195\\164x\nm\\195\\164x A {A}\n_25._tcp.m\\195\\164x TLSA {EE}\n",
		want: [2]string{malformed, noHost}},
	{domain: "mx-utf8-first.dane", text: "@ MX 5 m\\195\\164x\nm\\195\\164x A {A}\n@ MX 10 mx\n" + good,
		want: alike(verified)},
	{domain: "mx-dot-first.dane", text: "@ MX 5 m\\.x\nm\\.x A {A}\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-slash-first.dane", text: "@ MX 5 m/x\nm/x A {A}\n@ MX 10 mx\n" + good,
		want: [2]string{verified, untrusted}},
	{domain: "mx-star-first.dane", text: "@ MX 5 *.w\n*.w A {A}\n@ MX 10 mx\n" + good,
		want: [2]string{untrusted, verified}},
	{domain: "mx-underscore.dane", text: "@ MX 10 _mx\n_mx A {A}\n_25._tcp._mx TLSA {EE}\n", want: alike(verified)},
	{domain: "mx-underscore-end.dane", text: "@ MX 10 mx_\nmx_ A {A}\n_25._tcp.mx_ TLSA {EE}\n", want: alike(verified)},
	{domain: "mx-digits.dane", text: "@ MX 10 25.10\n25.10 A {A}\n_25._tcp.25.10 TLSA {EE}\n", want: alike(verified)},
	{domain: "mx-xn.dane", text: "@ MX 10 xn--mx-via\nxn--mx-via A {A}\n_25._tcp.xn--mx-via TLSA {EE}\n",
		want: alike(verified)},
	{domain: "mx-xn-invalid.dane", text: "@ MX 10 xn--0\nxn--0 A {A}\n_25._tcp.xn--0 TLSA {EE}\n",
		want: alike(verified)},
	{domain: "mx-label-63.dane", text: "@ MX 10 " + label63 + "\n" + label63 + " A {A}\n_25._tcp." + label63 +
		" TLSA {EE}\n", want: alike(verified)},
	{domain: "mx-long.dane", text: "@ MX 10 " + tooLong + "\n" + tooLong + " A {A}\n", want: tlsaFailed},
	{domain: "mx-longer.dane", text: "@ MX 10 " + tooLong + "\n" + tooLong + " A {A}\n",
		want: [2]string{untrusted, tlsaFailed[1]}},
	{domain: "mx-long-first.dane", text: "@ MX 5 " + tooLong + "\n" + tooLong + " A {A}\n@ MX 10 mx\n" + good,
		want: [2]string{untrusted, tlsaFailed[1]}},
	{domain: "mx-itself.dane", text: "@ MX 10 @\n@ A {A}\n_25._tcp TLSA {EE}\n", want: alike(verified)},
	{domain: "mx-twice.dane", text: "@ MX 10 mx\n@ MX 20 mx\n" + good, want: alike(verified)},
	{domain: "mx-tie.dane", text: "@ MX 10 mx.mismatch.dane.\n@ MX 10 mx.ee.dane.\n", by: "ee.dane",
		want: alike(verified)},
	{domain: "mx-nowhere.dane", text: "@ MX 10 nowhere\n", want: [2]string{"bounced Host not found", noHost}},
	{domain: "mx-nowhere-first.dane", text: "@ MX 5 nowhere\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-no-address.dane", text: "@ MX 5 mx\nmx TXT none\n@ A {A}\n",
		want: [2]string{"bounced no data record", noHost}},
	{domain: "mx-private.dane", text: "@ MX 10 mx\nmx A 10.0.0.1\n_25._tcp.mx TLSA {EE}\n",
		want: [2]string{unreachable, noHost}},
	{domain: "mx-private-first.dane", text: "@ MX 5 in\nin A 10.0.0.1\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-of-us.dane", text: "@ MX 10 mx\nmx A 127.0.0.1\n_25._tcp.mx TLSA {EE}\n",
		want: [2]string{loops, noHost}},
	{domain: "mx-of-us-last.dane", text: "@ MX 50 in\nin A 127.0.0.1\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-broken-first.dane", text: "@ MX 5 mx.expired.dane.\n@ MX 10 mx\n" + good, want: alike(verified)},
	{domain: "mx-broken-beside-ipv4.dane", text: "@ MX 5 {A}.\n@ MX 10 mx.expired.dane.\n",
		want: [2]string{untrusted, lookupFailed[1]}},
	{domain: "mx-tlsa-fails-first.dane", text: "@ MX 5 bad\nbad A {A}\n_25._tcp.bad TLSA {EE}\n@ MX 10 mx\n" + good,
		fault: unsign("_25._tcp.bad.mx-tlsa-fails-first.dane.", dns.TypeTLSA),
		want:  [2]string{verified, tlsaFailed[1]}},
	{domain: "mx-tlsa-fails-last.dane", text: "@ MX 5 mx.ee.dane.\n@ MX 10 mx.bogus-tlsa.dane.\n", by: "ee.dane",
		want: alike(verified)},
	{domain: "mx-no-starttls-first.dane", text: "@ MX 5 mx.no-starttls.dane.\n@ MX 10 mx.ee.dane.\n", by: "ee.dane",
		want: alike(verified)},
	{domain: "mx-unusable-clear-first.dane", text: "@ MX 5 mx.unusable-clear.dane.\n@ MX 10 mx.ee.dane.\n",
		by: "ee.dane", want: alike(verified)},
	{domain: "mx-third.dane", text: "@ MX 1 mx.mismatch.dane.\n@ MX 2 mx.ta-other-name.dane.\n@ MX 3 mx.ee.dane.\n",
		by: "ee.dane", want: alike(verified)},
	{domain: "mx-third-no-starttls.dane",
		text: "@ MX 1 mx.no-starttls.dane.\n@ MX 2 mx.unusable-clear.dane.\n@ MX 3 mx.ee.dane.\n", by: "ee.dane",
		want: alike(verified)},
	{domain: "mx-sixth.dane", text: "@ MX 1 one\n@ MX 2 two\n@ MX 3 three\n@ MX 4 four\n@ MX 5 five\n@ MX 10 mx\none " +
		"A 192.0.2.1\ntwo A 192.0.2.2\n" +
		"three A 192.0.2.3\nfour A 192.0.2.4\nfive A 192.0.2.5\n" + good, want: [2]string{unreachable, verified}},
	{domain: "no-mx-nothing.dane", text: "@ TXT nothing\n", want: [2]string{"bounced no data record", noSuchDomain[1]}},
	{domain: "no-mx-of-us.dane", text: "@ A 127.0.0.1\n", want: [2]string{loops, noSuchDomain[1]}},
	{domain: "-hyphen.dane", text: withEE, want: [2]string{badAddress, refused}},
	{domain: "under_score.dane", text: withEE, want: [2]string{verified, refused}},
}

// label63 is a label of the greatest length. tooLong is a name that is too long to have _25._tcp. in front of it, so
// that it can have no TLSA record.
const (
	label63 = "a23456789-b23456789-c23456789-d23456789-e23456789-f23456789-g23"
	tooLong = label63 + "." + label63 + "." + label63 + ".h23456789-i23456789-j23456789-k23456789-l"
)

// unsign is the fault of an RRset without signatures.
func unsign(name string, rrtype uint16) zones.Fault {
	return zones.Fault{Zone: func(z *zones.Zone) {
		z.Edit(name, rrtype, func(rrs, _ []dns.RR) (_, _ []dns.RR) { return rrs, nil })
	}}
}
