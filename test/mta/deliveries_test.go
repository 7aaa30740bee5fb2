//go:build linux

package mta

import (
	"slices"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// delivery is a domain to which mail is sent, with the outcome that the mail must have.
type delivery struct {
	domain string // of the recipient
	zone   string // its zone; "": the domain itself; "-": there is none
	// text is the text of the zone without SOA and NS. {A} is the address of its receiver. {EE} and {TA} are TLSA RDATA
	// for the receiver's certificate and for its authority's; {PKIX} and {OTHER PKIX} are RDATA with a usage that SMTP
	// does not have; {EE:OTHER} is for the receiver of the domain OTHER, {MALLORY} for the attacker's.
	text    string
	config  zones.Config
	fault   zones.Fault
	shows   string              // what answers at {A}, see mannered; "": STARTTLS, and a certificate for mx.DOMAIN
	certs   []cert              // instead of an identity; {2 1 1 NAME} in text is TLSA RDATA for one
	sends   string              // the names of those that are sent at {A}
	drops   uint16              // the type for which its nameserver sends no reply
	answers func(*stage) tamper // what its nameserver does to replies, beside
	attack  func(*stage) tamper // what an attacker on the way to the upstream does to replies about it
	prey    string              // where the attacker waits for the mail: {A} or mallory; "": there is none
	by      string              // the domain whose receiver gets the mail, if it is another's
	want    [2]string           // the outcome by Postfix and by Exim
	// surprised is want where the attack begins after all has been cached, if that makes a difference.
	surprised [2]string
}

// Outcomes as the table has them. After "sent" comes the level of TLS, in Postfix's words, which are used for Exim too.
// After "deferred" comes a part of the reason in the log.
const (
	verified  = "sent Verified"  // by DANE
	trusted   = "sent Trusted"   // Postfix's word for DANE behind an unsigned MX
	untrusted = "sent Untrusted" // encrypted
	clear     = "sent clear"
)

// alike is the outcome of both MTAs.
func alike(outcome string) [2]string { return [2]string{outcome, outcome} }

// The reasons in the logs of the MTAs.
var (
	lookupFailed = [2]string{"deferred Host not found, try again", "deferred host lookup did not complete"}
	tlsaFailed   = [2]string{"deferred TLSA lookup error", "deferred DANE error: tlsa lookup DEFER"}
	notVerified  = [2]string{"deferred Server certificate not", "deferred certificate verification failed"}
	noSTARTTLS   = [2]string{"deferred TLS is required, but was not offered",
		"deferred the server did not offer TLS support"}
	noSuchDomain   = [2]string{"bounced Host not found", "bounced Unrouteable address"}
	takesNoMail    = [2]string{"bounced nullMX", "bounced : an MX or SRV record indicated no SMTP service"}
	mx             = "@ MX 10 mx\nmx A {A}\n"
	withEE         = mx + "_25._tcp.mx TLSA {EE}\n"
	nsec3          = zones.Config{NSEC3: &zones.NSEC3{}}
	unsigned       = zones.Config{Unsigned: true}
	mallory        = "198.51.100.66"
	withOwnCertKey = "mallory's certificate"
	vouched        = "a certificate of an authority that everybody trusts"
)

// deliveries are all domains that get mail.
var deliveries = slices.Concat(attempts, mxSets, hostManners, certificateCases)

// attempts are domains that differ in their signatures, in their TLSA records, and in what an attacker does.
var attempts = []delivery{
	// DANE as it should be
	{domain: "ee.dane", text: withEE, want: alike(verified)},
	{domain: "ee.nsec3", text: withEE, config: nsec3, want: alike(verified)},
	{domain: "ee.opt-out", text: withEE, config: nsec3, want: alike(verified)},
	{domain: "ta.dane", text: mx + "_25._tcp.mx TLSA {TA}\n", want: alike(verified)},
	{domain: "rollover.dane", text: withEE + "_25._tcp.mx TLSA {MALLORY}\n", want: alike(verified)},
	{domain: "ee-expired.dane", text: withEE, shows: "expired", want: alike(verified)},
	{domain: "ee-other-name.dane", text: withEE, shows: "other name", want: alike(verified)},
	{domain: "large-tlsa.dane", text: withEE + "$GENERATE 1-40 _25._tcp.mx TLSA 3 1 1 ${0,64,x}\n",
		want: alike(verified)},
	{domain: "alias-tlsa.dane", text: mx + "_25._tcp.mx CNAME _dane\n_dane TLSA {EE}\n", want: alike(verified)},
	{domain: "no-mx.dane", text: "@ A {A}\n_25._tcp TLSA {EE}\n", want: alike(verified)},
	{domain: "any.wildcard.dane", zone: "wildcard.dane", text: "* MX 10 mx\nmx A {A}\n*._tcp.mx TLSA {EE}\n",
		want: alike(verified)},
	{domain: "any.wildcard.nsec3", zone: "wildcard.nsec3", text: "* MX 10 mx\nmx A {A}\n*._tcp.mx TLSA {EE}\n",
		config: nsec3,
		want:   alike(verified)},
	{domain: "alias-signed.dane", text: "@ MX 10 mx\nmx CNAME mx.ee.dane.\n", by: "ee.dane", want: alike(verified)},
	{domain: "alias-own-tlsa.dane", text: "@ MX 10 mx\nmx CNAME mx.no-tlsa.dane.\n_25._tcp.mx TLSA {EE:no-tlsa.dane}\n",
		by:   "no-tlsa.dane",
		want: [2]string{verified, untrusted}},
	{domain: "hosted.dane", text: "@ MX 10 mx.ee.dane.\n", by: "ee.dane", want: alike(verified)},
	{domain: "two-hosts.dane", text: "@ MX 5 mx.mismatch.dane.\n@ MX 10 mx.ee.dane.\n", by: "ee.dane",
		want: alike(verified)},

	// DANE where not all is signed
	{domain: "hosted.plain", text: "@ MX 10 mx.ee.dane.\n", config: unsigned, by: "ee.dane",
		want: [2]string{trusted, untrusted}},
	{domain: "alias-unsigned.dane", text: "@ MX 10 mx\nmx CNAME mx.unsigned.dane.\n_25._tcp.mx TLSA " +
		"{EE:unsigned.dane}\n",
		by: "unsigned.dane", want: [2]string{verified, untrusted}},

	// no DANE, and proven so
	{domain: "unsigned.dane", text: mx, config: unsigned, want: alike(untrusted)},
	{domain: "unsigned.opt-out", text: mx, config: unsigned, want: alike(untrusted)},
	{domain: "unsigned-clear.dane", text: mx, config: unsigned, shows: "clear", want: alike(clear)},
	{domain: "no-tlsa.dane", text: mx, want: alike(untrusted)},
	{domain: "no-tlsa.nsec3", text: mx, config: nsec3, want: alike(untrusted)},
	{domain: "no-tlsa-clear.dane", text: mx, shows: "clear", want: alike(clear)},
	{domain: "island.dane", text: withEE, fault: zones.Faults["no-ds"], want: alike(untrusted)},

	// no mail
	{domain: "null-mx.dane", text: "@ MX 0 .\n@ A {A}\n", want: takesNoMail},
	{domain: "nothing.dane", zone: "-", want: noSuchDomain},

	// mail that must not be delivered
	{domain: "mismatch.dane", text: mx + "_25._tcp.mx TLSA {MALLORY}\n", want: notVerified},
	{domain: "ta-other-name.dane", text: mx + "_25._tcp.mx TLSA {TA}\n", shows: "other name", want: notVerified},
	{domain: "no-starttls.dane", text: withEE, shows: "clear", want: noSTARTTLS},
	// TLSA records that SMTP cannot use: TLS is mandatory, authentication is not (RFC 7672 section 2.2)
	{domain: "unusable.dane", text: mx + "_25._tcp.mx TLSA {PKIX}\n", want: alike(untrusted)},
	{domain: "unusable-other.dane", text: mx + "_25._tcp.mx TLSA {OTHER PKIX}\n", want: alike(untrusted)},
	{domain: "unusable-clear.dane", text: mx + "_25._tcp.mx TLSA {PKIX}\n", shows: "clear", want: noSTARTTLS},
	{domain: "unusable-type.dane", text: mx + "_25._tcp.mx TLSA 3 1 9 abcdef\n", want: alike(untrusted)},
	{domain: "unusable-length.dane", text: mx + "_25._tcp.mx TLSA 3 1 1 abcdef\n", want: alike(untrusted)},
	{domain: "expired.dane", text: withEE, fault: zones.Faults["expired"], want: lookupFailed},
	{domain: "bogus-mx.dane", text: withEE, fault: zones.Faults["wrong-signature"], want: lookupFailed},
	{domain: "bogus-tlsa.dane", text: withEE, fault: unsign("_25._tcp.mx.bogus-tlsa.dane.", dns.TypeTLSA),
		want: tlsaFailed},
	{domain: "alias-broken.dane", text: "@ MX 10 mx\nmx CNAME mx.expired.dane.\n", want: lookupFailed},
	{domain: "tlsa-servfail.dane", text: withEE, fault: zones.Faults["tlsa-servfail"], want: tlsaFailed},
	{domain: "tlsa-dropped.dane", text: withEE, drops: dns.TypeTLSA, want: tlsaFailed},
	{domain: "tlsa-dropped.nsec3", text: withEE, config: nsec3, drops: dns.TypeTLSA, want: tlsaFailed},
	// the same without a TLSA record, which another denial proves: that of AAAA, or that of _tcp.HOST
	{domain: "no-tlsa-dropped.dane", text: mx, drops: dns.TypeTLSA, want: alike(untrusted)},
	{domain: "no-tlsa-dropped.nsec3", text: mx, config: nsec3, drops: dns.TypeTLSA, want: alike(untrusted)},
	{domain: "no-tlsa-dropped-clear.dane", text: mx, shows: "clear", drops: dns.TypeTLSA, want: alike(clear)},
	// the same where no other denial proves it: that of AAAA covers a shorter range, and _tcp.HOST exists
	{domain: "tlsa-dropped-far.dane", text: mx + "_10._tcp.mx TLSA {EE}\n", drops: dns.TypeTLSA, want: tlsaFailed},

	// a question that fails, but is not needed
	{domain: "aaaa-dropped.dane", text: withEE, drops: dns.TypeAAAA, want: alike(verified)},

	// an attacker
	{domain: "stripped-starttls.dane", text: withEE, shows: "clear", prey: "{A}", want: noSTARTTLS},
	{domain: "other-certificate.dane", text: withEE, shows: withOwnCertKey, prey: "{A}", want: notVerified},
	{domain: "forged-mx.dane", text: withEE, attack: forged(dns.TypeMX, "MX 1 mx.mallory.plain."), prey: mallory,
		want: lookupFailed, surprised: alike(verified)},
	{domain: "forged-mx-no-tlsa.dane", text: mx, attack: forged(dns.TypeMX, "MX 1 mx.mallory.plain."), prey: mallory,
		want: lookupFailed, surprised: alike(untrusted)},
	{domain: "forged-a.dane", text: withEE, attack: forged(dns.TypeA, "A "+mallory), prey: mallory, want: lookupFailed,
		surprised: alike(verified)},
	{domain: "forged-tlsa.dane", text: withEE, attack: forged(dns.TypeTLSA, "TLSA {MALLORY}"),
		shows: withOwnCertKey, prey: "{A}",
		want: tlsaFailed, surprised: notVerified},
	{domain: "denied-tlsa.dane", text: withEE, attack: always(denied(dns.TypeTLSA)), shows: "clear",
		prey: "{A}", want: tlsaFailed,
		surprised: noSTARTTLS},
	{domain: "dropped-tlsa.dane", text: withEE, attack: always(dropped(dns.TypeTLSA)), shows: "clear",
		prey: "{A}", want: tlsaFailed,
		surprised: noSTARTTLS},
	{domain: "stripped-rrsigs.dane", text: withEE, attack: always(stripped), shows: "clear",
		prey: "{A}", want: lookupFailed,
		surprised: noSTARTTLS},
	{domain: "stripped-rrsigs.nsec3", text: withEE, config: nsec3, attack: always(stripped),
		shows: "clear", prey: "{A}",
		want: lookupFailed, surprised: noSTARTTLS},
}
