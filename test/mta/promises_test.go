//go:build linux

package mta

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// promise is a domain that may have a policy of MTA-STS. Its outcomes are those of mail with danelaw's policy service:
// want at peace, surprised once danelaw has been started again and the attackers have come.
type promise struct {
	delivery
	policy string // the file; "": none is announced. {PAD:N} fills it up to N octets
	serves string // the manner of the policy host, see policyHost; "": it serves the file
	turns  string // its manner once the attackers have come; "": the same
}

// enforced is a policy in force. Its hosts are separated by spaces.
func enforced(hosts string) string {
	return "version: STSv1\nmode: enforce\nmx: " + strings.ReplaceAll(hosts, " ", "\nmx: ") + "\nmax_age: 604800\n"
}

// withMode is a policy with another mode.
func withMode(mode, host string) string {
	return strings.Replace(enforced(host), "enforce", mode, 1)
}

// Outcomes beside those of deliveries. Exim's word for a certificate that authorities vouch for is CV=yes.
var (
	bySTS       = [2]string{verified, trusted}
	withheld    = [2]string{"deferred Server certificate not", "deferred"}
	unencrypted = [2]string{"deferred TLS is required, but was not offered", "deferred"}
	cannotSay   = [2]string{"deferred client TLS configuration problem", "deferred danelaw cannot say"}
)

// The attacks. Whatever else an attacker does, the announced id is another one, so that a policy is looked for again.
var (
	toMallory = forged(dns.TypeMX, "MX 1 mx.mallory.plain.")
	announced = always(another)
	luring    = both(announced, toMallory)
)

func both(one, other func(*stage) tamper) func(*stage) tamper {
	return func(s *stage) tamper {
		first, second := one(s), other(s)
		return func(q dns.Question, r *dns.Msg) *dns.Msg {
			if r = first(q, r); r == nil {
				return nil
			}
			return second(q, r)
		}
	}
}

// another announces another policy.
func another(q dns.Question, r *dns.Msg) *dns.Msg { return withID(q, r, "another") }

var asked atomic.Int64

// restless announces another policy at every question.
func restless(q dns.Question, r *dns.Msg) *dns.Msg { return withID(q, r, fmt.Sprint(asked.Add(1))) }

func withID(q dns.Question, r *dns.Msg, id string) *dns.Msg {
	if q.Qtype == dns.TypeTXT && strings.HasPrefix(q.Name, "_mta-sts.") {
		rr, err := dns.NewRR(q.Name + ` 1 TXT "v=STSv1; id=` + id + `"`)
		if err != nil {
			panic(err) // a mistake above
		}
		r.Rcode, r.Ns, r.Answer = dns.RcodeSuccess, nil, []dns.RR{rr}
	}
	return r
}

// moved has the policy host at an address where nobody answers.
func moved(s *stage) tamper {
	there := forged(dns.TypeA, "A "+silent)(s)
	return func(q dns.Question, r *dns.Msg) *dns.Msg {
		if strings.HasPrefix(q.Name, "mta-sts.") {
			return there(q, r)
		}
		return r
	}
}

// promises are all domains of TestPolicies.
var promises = []promise{
	// DANE, MTA-STS, or both
	{delivery: delivery{domain: "dane-alone.dane", text: withEE, want: alike(verified)}},
	{delivery: delivery{domain: "sts-alone.plain", text: mx, config: unsigned, shows: vouched, attack: luring,
		prey: mallory, want: bySTS, surprised: withheld}, policy: enforced("mx.sts-alone.plain")},
	{delivery: delivery{domain: "sts-signed.dane", text: mx, shows: vouched, want: bySTS},
		policy: enforced("mx.sts-signed.dane")},
	{delivery: delivery{domain: "both.dane", text: withEE, want: alike(verified)}, policy: enforced("mx.both.dane")},
	{delivery: delivery{domain: "both-hostile.dane", text: withEE, want: alike(verified)},
		policy: enforced("mx.mallory.plain")},
	{delivery: delivery{domain: "both-mismatch.dane", text: mx + "_25._tcp.mx TLSA {MALLORY}\n", shows: vouched,
		want: notVerified}, policy: enforced("mx.both-mismatch.dane")},
	{delivery: delivery{domain: "neither.plain", text: mx, config: unsigned, want: alike(untrusted)}},

	// some hosts with DANE: the preferred one has none
	{delivery: delivery{domain: "host.dane", text: mx, want: alike(untrusted)}},
	{delivery: delivery{domain: "some.dane", text: "@ MX 5 mx.host.dane.\n@ MX 10 mx.dane-alone.dane.\n",
		by: "dane-alone.dane", want: alike(verified)}, policy: enforced("mx.host.dane mx.dane-alone.dane")},
	// a host of its own, as Exim passes over one at which mail to another domain has just failed
	{delivery: delivery{domain: "other-host.dane", text: mx, want: alike(untrusted)}},
	{delivery: delivery{domain: "some-alone.dane", text: "@ MX 5 mx.other-host.dane.\n@ MX 10 mx.dane-alone.dane.\n",
		by: "other-host.dane", want: alike(untrusted)}},
	// the preferred one fails DANE, the other has none, and a certificate that authorities vouch for
	{delivery: delivery{domain: "some-failing.dane", by: "sts-signed.dane",
		text: "@ MX 5 mx.both-mismatch.dane.\n@ MX 10 mx.sts-signed.dane.\n", want: [2]string{"deferred", trusted}},
		policy: enforced("mx.both-mismatch.dane mx.sts-signed.dane")},
	// the same, and the policy does not cover the other
	{delivery: delivery{domain: "some-barred.dane", text: mx + "@ MX 5 mx.both-mismatch.dane.\n", shows: vouched,
		prey: "{A}", want: alike("deferred")}, policy: enforced("mx.both-mismatch.dane")},

	// what promises nothing
	{delivery: delivery{domain: "testing.plain", text: mx, config: unsigned, want: alike(untrusted)},
		policy: withMode("testing", "mx.elsewhere.plain")},
	{delivery: delivery{domain: "none.plain", text: mx, config: unsigned, want: alike(untrusted)},
		policy: withMode("none", "mx.elsewhere.plain")},

	// policy hosts whose policy cannot be had, from the beginning
	{delivery: delivery{domain: "expired-host.plain", text: mx, config: unsigned, want: alike(untrusted)},
		policy: enforced("mx.expired-host.plain"), serves: hostExpired},
	{delivery: delivery{domain: "blocked.plain", text: mx, config: unsigned, want: alike(untrusted)},
		policy: enforced("mx.blocked.plain"), serves: hostRefuses},
	{delivery: delivery{domain: "silent.plain", text: mx, config: unsigned, answers: moved, want: alike(untrusted)},
		policy: enforced("mx.silent.plain")},
	{delivery: delivery{domain: "redirected.plain", text: mx, config: unsigned, want: alike(untrusted)},
		policy: enforced("mx.redirected.plain"), serves: hostRedirects},
	{delivery: delivery{domain: "huge.plain", text: mx, config: unsigned, want: alike(untrusted)},
		policy: enforced("mx.huge.plain") + "{PAD:10000000}"},
	{delivery: delivery{domain: "too-large.plain", text: mx, config: unsigned, want: alike(untrusted)},
		policy: enforced("mx.too-large.plain") + "{PAD:65537}"},

	// policies that are held, and then attacked
	{delivery: delivery{domain: "large.plain", text: mx, config: unsigned, shows: vouched, attack: luring,
		prey: mallory, want: bySTS, surprised: withheld}, policy: enforced("mx.large.plain") + "{PAD:65536}"},
	{delivery: delivery{domain: "restless.plain", text: mx, config: unsigned, shows: vouched, answers: always(restless),
		attack: luring, prey: mallory, want: bySTS, surprised: withheld}, policy: enforced("mx.restless.plain")},
	{delivery: delivery{domain: "taken-over.plain", text: mx, config: unsigned, shows: vouched, attack: luring,
		prey: mallory, want: bySTS, surprised: withheld}, policy: enforced("mx.taken-over.plain"), turns: hostTaken},
	{delivery: delivery{domain: "expires-later.plain", text: mx, config: unsigned, shows: vouched, attack: luring,
		prey: mallory, want: bySTS, surprised: withheld},
		policy: enforced("mx.expires-later.plain"), turns: hostExpired},
	{delivery: delivery{domain: "blocked-later.plain", text: mx, config: unsigned, shows: vouched, attack: luring,
		prey: mallory, want: bySTS, surprised: withheld},
		policy: enforced("mx.blocked-later.plain"), turns: hostRefuses},
	{delivery: delivery{domain: "silent-later.plain", text: mx, config: unsigned, shows: vouched,
		attack: both(luring, moved), prey: mallory, want: bySTS, surprised: withheld},
		policy: enforced("mx.silent-later.plain")},
	{delivery: delivery{domain: "denied-later.plain", text: mx, config: unsigned, shows: vouched,
		attack: both(always(denied(dns.TypeTXT)), toMallory), prey: mallory, want: bySTS, surprised: withheld},
		policy: enforced("mx.denied-later.plain")},
	{delivery: delivery{domain: "stays.plain", text: mx, config: unsigned, shows: vouched, attack: announced,
		want: bySTS}, policy: enforced("mx.stays.plain"), turns: hostRefuses},

	// attackers at the host of the domain
	{delivery: delivery{domain: "no-starttls.plain", text: mx, config: unsigned, shows: "clear", prey: "{A}",
		want: unencrypted}, policy: enforced("mx.no-starttls.plain")},
	{delivery: delivery{domain: "own-certificate.plain", text: mx, config: unsigned, shows: withOwnCertKey, prey: "{A}",
		want: notVerified}, policy: enforced("mx.own-certificate.plain")},
	{delivery: delivery{domain: "excepted.plain", text: mx, config: unsigned, prey: "{A}", want: notVerified},
		policy: enforced("mx.excepted.plain")},

	// patterns
	{delivery: delivery{domain: "wild.plain", text: mx, config: unsigned, shows: vouched, attack: luring,
		prey: mallory, want: bySTS, surprised: withheld}, policy: enforced("*.wild.plain")},
	{delivery: delivery{domain: "b.deep.plain", text: mx, config: unsigned, shows: vouched,
		want: bySTS}, policy: enforced("*.b.deep.plain")},
	{delivery: delivery{domain: "deep.plain", text: "@ MX 10 mx.b.deep.plain.\n", config: unsigned, by: "b.deep.plain",
		want: [2]string{verified, "deferred"}}, policy: enforced("*.deep.plain")},
	{delivery: delivery{domain: "uncovered.plain", text: mx, config: unsigned, shows: vouched, prey: "{A}",
		want: withheld}, policy: enforced("mx.elsewhere.plain")},

	// doubt
	{delivery: delivery{domain: "bogus-txt.dane", text: mx, fault: unsign("_mta-sts.bogus-txt.dane.", dns.TypeTXT),
		want: cannotSay}, policy: enforced("mx.bogus-txt.dane")},
}
