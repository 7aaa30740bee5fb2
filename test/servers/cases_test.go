//go:build linux

package servers

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// question is one case: what is asked, and what the outcome must be.
type question struct {
	rules   string // numbers of plugin/RULES.md
	name    string
	qtype   uint16
	want    outcome
	options []string // of dig; without any, dig asks with DO, and the other validators are asked too
	// healed is the outcome, by upstream, behind upstreams that do not pass on the fault: they repair it, or fail.
	healed map[string]outcome
}

// kresd is the Knot Resolver as an upstream, which does not pass on the proof with an answer from a wildcard.
const kresd = "knot"

// id returns the question as test/DISAGREEMENTS.md has it.
func (q question) id() string {
	return strings.Join(append([]string{q.name, dns.Type(q.qtype).String()}, q.options...), " ")
}

// outcome is what a client sees: status, RCODE, and the first Extended DNS Error if there is one.
type outcome string

const (
	secure   outcome = "Secure NOERROR"
	absent   outcome = "Secure NXDOMAIN"
	insecure outcome = "Insecure NOERROR"
	missing  outcome = "Insecure NXDOMAIN"
	// Failures, by Extended DNS Error.
	failed   outcome = "Bogus SERVFAIL"
	bogus    outcome = "Bogus SERVFAIL 6"
	tooOld   outcome = "Bogus SERVFAIL 7"
	tooNew   outcome = "Bogus SERVFAIL 8"
	noKey    outcome = "Bogus SERVFAIL 9"
	noSig    outcome = "Bogus SERVFAIL 10"
	noZone   outcome = "Bogus SERVFAIL 11"
	noDenial outcome = "Bogus SERVFAIL 12"
	refused  outcome = "Indeterminate SERVFAIL 22" // by the server or the upstream, which has found the fault itself
	unlinked outcome = "Indeterminate SERVFAIL 5"
	silent   outcome = "No reply"
	// proofless is the outcome of an answer from a wildcard without its proof, as the Knot Resolver sends it that does
	// not validate.
	proofless = noDenial
)

// verdict returns an outcome without the Extended DNS Error, in which validators differ.
func (o outcome) verdict() string {
	fields := strings.Fields(string(o))
	return strings.Join(fields[:2], " ")
}

// ask makes a question without options.
func ask(rules, name, qtype string, want outcome) question {
	number, known := dns.StringToType[qtype]
	if !known {
		n, err := strconv.ParseUint(strings.TrimPrefix(qtype, "TYPE"), 10, 16)
		if err != nil {
			panic(err) // a mistake in this file
		}
		number = uint16(n)
	}
	return question{rules: rules, name: name, qtype: number, want: want}
}

// behind returns the question with another outcome behind some upstreams.
func (q question) behind(want outcome, upstreams ...string) question {
	healed := map[string]outcome{}
	for name, o := range q.healed {
		healed[name] = o
	}
	for _, u := range upstreams {
		healed[u] = want
	}
	q.healed = healed
	return q
}

// either is one outcome or the other. Which one it is depends on what the upstream happens to have.
func either(a, b outcome) outcome { return a + " or " + b }

// expected returns the outcome behind an upstream.
func (q question) expected(upstream string) outcome { return cmp.Or(q.healed[upstream], q.want) }

// anchorQuestions are asked of validators with other trust anchors (ofSome).
var anchorQuestions = []question{
	ask("V-12", "p256.bind.", "MX", secure),
	ask("V-12", "order.bind.", "MX", noKey),  // its own trust anchor is wrong; that of bind. would validate it
	ask("V-12", "mx.p256.bind.", "A", noKey), // its own trust anchor is wrong; the zone above has signed it
	ask("V-12", "mx.p256.bind.", "TXT", noKey),
	ask("V-12", "nothing.mx.p256.bind.", "A", noKey),
	ask("V-12", "expired.bind.", "MX", tooOld),
	ask("V-11 V-12", "island.u.p256.bind.", "MX", secure),
	ask("V-11 V-12", "mx.u.p256.bind.", "A", insecure),
	ask("V-11 V-12", "island.plain.", "MX", secure),
	ask("V-1a", "expired-island.plain.", "MX", insecure),
	ask("V-1a", "rsa.knot.", "MX", insecure),
	ask("V-1a", "nothing.salt.nsd.", "A", missing),
	ask("V-1a", "mx.wrong-octet.nsd.", "A", insecure),
	ask("V-1a", ".", "SOA", insecure),
}

// questions returns all cases for validators with the trust anchor of the root.
func questions() []question {
	all := rootQuestions()
	for _, s := range styles {
		all = append(all, goodQuestions(s.name, s.signing)...)
	}
	for _, zone := range []string{"order.bind.", "order.nsd.", "order.knot."} {
		all = append(all, orderQuestions(zone)...)
	}
	for _, more := range [][]question{
		signatureQuestions, keyQuestions, denialQuestions, hashQuestions, aliasQuestions(), oddQuestions,
		lieQuestions, mannerQuestions,
	} {
		all = append(all, more...)
	}
	return all
}

func rootQuestions() []question {
	return []question{
		ask("V-2 V-7 D-12", ".", "NS", secure),
		ask("V-7", ".", "SOA", secure),
		ask("V-2", ".", "DNSKEY", secure),
		ask("V-9", ".", "DS", secure),
		ask("V-46", ".", "MX", secure),
		ask("V-47", "nothing.", "A", absent),
		ask("V-47", "a.b.nothing.", "MX", absent),
		ask("V-8", "bind.", "DS", secure),
		ask("V-8", "nsd.", "DS", secure),
		ask("V-10 V-46", "plain.", "DS", secure),
		ask("V-10 V-11", "plain.", "MX", insecure),
		ask("V-2", "knot.", "DNSKEY", secure),
		ask("V-53", "nothing.nsd.", "MX", absent),
		ask("V-51", "nothing.com.", "MX", missing),
		ask("V-51 V-54", "d17.com.", "DS", insecure),
		ask("V-52 V-53", "a.b.c.nothing.knot.", "MX", absent),
	}
}

// goodQuestions are the questions for every kind of proof in a zone without a fault. With opt-out, a denial by an NSEC3
// that only covers the name is Insecure (V-51). ldns makes NSEC3 for unsigned delegations even then.
func goodQuestions(zone string, s signing) []question {
	covered, cut, noName, unproven := secure, secure, absent, proofless
	if s.optOut {
		covered, cut, noName, unproven = insecure, insecure, missing, insecure
	}
	if s.with == ldnsSigner {
		cut = secure
	}
	empty := covered
	if !s.nsec3 && operator(zone) != nsd {
		empty = noDenial // only NSD sends the NSEC which proves that the wildcard has no data
	}
	return []question{
		ask("V-2 V-7 V-22", zone, "MX", secure),
		ask("V-22 V-29 D-3", "_25._tcp.mx."+zone, "TLSA", secure),
		ask("V-46 V-54", "mx."+zone, "AAAA", secure),
		ask("V-47 V-53", "nothing."+zone, "A", noName),
		ask("V-47 V-52 V-53", "a.b.nothing."+zone, "MX", noName),
		ask("V-47 V-53", "_25._tcp.nothing."+zone, "TLSA", noName),
		ask("V-48 V-54", "_tcp.mx."+zone, "A", secure),
		ask("V-48 V-54", "b.ent."+zone, "TXT", secure),
		ask("V-32 V-49 V-57", "x.wild."+zone, "MX", covered).behind(either(unproven, covered), kresd),
		ask("V-49 V-57", "a.b.wild."+zone, "A", covered).behind(either(unproven, covered), kresd),
		ask("V-50 V-56", "x.wild."+zone, "AAAA", covered),
		ask("V-49 V-64", "x.aliases."+zone, "A", covered).behind(either(proofless, covered), kresd),
		ask("V-68", "x.aliases."+zone, "DS", covered).behind(either(proofless, covered), kresd),
		ask("V-64", "alias."+zone, "A", secure),
		ask("V-64 V-46", "alias."+zone, "AAAA", secure),
		ask("V-68", "alias."+zone, "DS", secure),
		ask("V-66", "mx.old."+zone, "A", secure),
		ask("V-66 V-47 V-53", "no.old."+zone, "A", noName),
		ask("V-27", "MIXED."+zone, "A", secure),
		ask("V-28", "caps."+zone, "MX", secure),
		ask("V-29", "odd."+zone, "TYPE65280", secure),
		ask("V-50 V-56", "x.ew."+zone, "A", empty),
		ask("V-68", "mx.old."+zone, "DS", secure),
		ask("V-71", zone, "NSEC3PARAM", secure),
		ask("V-8", zone, "DS", secure),
		ask("V-6", "mx."+zone, "DS", secure),
		ask("V-10 V-50 V-55", "u."+zone, "DS", cut),
		ask("V-10 V-11", "u."+zone, "MX", insecure),
		ask("V-11 V-50h", "mx.u."+zone, "AAAA", insecure),
		ask("V-11", "nothing.u."+zone, "A", missing),
		ask("V-70", "mx."+zone, "ANY", secure).behind(refused, kresd),
	}
}

// orderQuestions are for names that lie between others only in the canonical order of DNSSEC.
func orderQuestions(zone string) []question {
	return []question{
		ask("V-31", "yz.a."+zone, "A", absent),
		ask("V-31", "N."+zone, "A", absent),
		ask("V-31", "m0.m."+zone, "A", absent),
		ask("V-31 V-49", `\002.z.`+zone, "A", secure).behind(either(proofless, secure), kresd),
		ask("V-31 V-50", `\201.z.`+zone, "AAAA", secure),
	}
}

var signatureQuestions = []question{
	ask("V-22", "mx.wrong-octet.bind.", "A", bogus),
	ask("V-22", "mx.wrong-octet.nsd.", "A", bogus),
	ask("V-22", "wrong-octet.knot.", "MX", bogus),
	ask("V-34", "wrong-octet-p384.nsd.", "MX", bogus),
	ask("V-34 V-42", "wrong-octet-rsa.nsd.", "MX", bogus),
	ask("V-34", "wrong-octet-ed25519.knot.", "MX", bogus),
	ask("V-34 V-45", "wrong-octet-ed448.bind.", "MX", bogus),
	ask("V-45", "ed448.nsd.", "TXT", secure),
	ask("V-46", "mx.wrong-octet.bind.", "AAAA", secure), // only the records of the answer are judged
	ask("V-19", "expired.bind.", "MX", tooOld),
	ask("V-19", "mx.expired.nsd.", "AAAA", tooOld),
	ask("V-19", "early.bind.", "MX", tooNew),
	ask("V-19", "_25._tcp.mx.early.knot.", "TLSA", tooNew),
	ask("V-19", "mx.backwards.nsd.", "A", "Bogus SERVFAIL 25"),
	ask("V-13", "mx.bare.bind.", "A", noSig),
	ask("V-13", "mx.bare.nsd.", "A", noSig),
	ask("V-13", "mx.bare.knot.", "A", noSig),
	ask("V-22", "mx.one-good.bind.", "A", secure),
	ask("V-22 V-24", "mx.one-good.knot.", "A", secure),
	ask("V-15a V-22", "mx.short-beside.bind.", "A", secure),
	ask("V-32", "x.wild.wild-labels.nsd.", "A", bogus),
	ask("V-17", "mx.labels-more.nsd.", "A", bogus).behind(noSig, "knot"),
	ask("V-18", "mx.labels-less.nsd.", "A", bogus).behind(noSig, "bind", "bind-validating"),
	ask("V-7 V-16", "mx.signer-other.bind.", "A", noSig),
	ask("V-16", "mx.signer-suffix.bind.", "A", noSig),
	ask("V-7 V-16", "mx.signer-below.bind.", "A", noSig),
	ask("V-44", "mx.short-signature.bind.", "A", bogus),
	ask("V-44", "mx.short-signature-rsa.nsd.", "A", bogus),
	ask("V-21", "mx.ttl-more.nsd.", "A", secure),
	ask("V-22", "mx.changed.knot.", "A", bogus),
}

var keyQuestions = []question{
	ask("V-41", "ds-without-key.bind.", "MX", noKey),
	ask("V-41", "ds-without-key.nsd.", "MX", noKey),
	ask("V-41", "unused-ds.bind.", "MX", secure),
	ask("V-2", "wrong-key-set.knot.", "MX", bogus),
	ask("V-2", "zsk-signs-keys.nsd.", "MX", bogus),
	ask("V-1", "good.chain.bind.", "MX", secure),
	ask("V-1", "broken.chain.bind.", "MX", bogus),
	ask("V-1", "below.wrong-key-set.knot.", "MX", bogus),
	ask("V-41", "no-keys.nsd.", "MX", noKey),
	ask("V-35 V-40", "rsamd5.nsd.", "MX", "Insecure NOERROR 1"),
	ask("V-35 V-40", "dsa.knot.", "MX", "Insecure NOERROR 1"),
	ask("V-35 V-40", "dsa-nsec3.bind.", "MX", "Insecure NOERROR 1"),
	ask("V-35 V-40", "gost.nsd.", "MX", "Insecure NOERROR 1"),
	ask("V-35 V-40", "gost-digest.bind.", "MX", "Insecure NOERROR 2"),
	ask("V-37 V-40", "unknown-algorithm.bind.", "MX", "Insecure NOERROR 1"),
	ask("V-38 V-40", "unknown-digest.knot.", "MX", "Insecure NOERROR 2"),
	ask("V-39", "short-digest.nsd.", "MX", bogus).behind(unlinked, "bind", "bind-validating"),
	ask("V-36", "sha1.bind.", "MX", "Insecure NOERROR 1"),
	ask("V-36", "sha1-nsec3.knot.", "MX", "Insecure NOERROR 1"),
	ask("V-38", "sha1-ds.bind.", "MX", secure),
	ask("V-38", "sha384-ds.nsd.", "MX", secure),
	ask("V-39", "downgrade.bind.", "MX", noKey),
	ask("V-39", "unusable-sha256.knot.", "MX", secure),
	ask("V-42 V-43", "rsa-512.nsd.", "MX", secure),
	ask("V-42", "rsa-4096.bind.", "MX", secure),
	ask("V-42 V-43", "exponent.bind.", "MX", secure),
	ask("V-42 V-43", "exponent.nsd.", "MX", secure),
	ask("V-42", "exponent-above.knot.", "MX", bogus),
	ask("V-15a V-24 V-44", "off-curve-beside.bind.", "MX", secure),
	ask("V-44", "off-curve.nsd.", "MX", noKey),
	ask("V-34", "rsasha512.knot.", "MX", secure),
	ask("V-23", "half-signed.bind.", "MX", secure),
}

var denialQuestions = []question{
	ask("V-46", "mx.no-nsec.bind.", "AAAA", refused),
	ask("V-46", "mx.no-nsec.nsd.", "AAAA", noDenial),
	ask("V-46", "mx.no-nsec.knot.", "AAAA", noDenial),
	ask("V-46", "mx.wrong-nsec.bind.", "AAAA", bogus),
	ask("V-13 V-46", "mx.bare-nsec.nsd.", "AAAA", noSig),
	ask("V-46 V-50f", "mx.claims.bind.", "AAAA", noDenial),
	ask("V-46 V-50f", "mx.claims.knot.", "AAAA", noDenial),
	ask("V-46", "mx.claims-cname.nsd.", "AAAA", noDenial),
	ask("V-50a V-50h", "mx.delegates.nsd.", "AAAA", insecure),
	ask("V-47", "nz.short.bind.", "A", noDenial),
	ask("V-47", "nz.missing-nsec.bind.", "A", noDenial),
	ask("V-47", "nz.missing-nsec.knot.", "A", noDenial),
	ask("V-47", "nothing.no-wildcard-proof.nsd.", "A", noDenial),
	ask("V-50d", "mx.outside.bind.", "AAAA", bogus).behind(noDenial, "unbound", "coredns", "dnsmasq").
		behind(either(bogus, noDenial), "unbound-validating"),
	ask("V-49", "x.wild.expanded-unproven.bind.", "A", noDenial),
	ask("V-49", "x.wild.expanded-unproven.nsd.", "A", noDenial),
	ask("V-49", "x.wild.expanded-unproven.knot.", "A", noDenial),
	ask("V-10", "u.cut-unproven.bind.", "DS", refused),
	ask("V-10", "u.cut-unproven.knot.", "DS", noDenial),
	ask("V-50c", "u.cut-with-soa.bind.", "DS", noDenial),
	ask("V-10 V-46", "u.cut-with-ds.nsd.", "DS", noDenial),
	ask("V-10", "u.cut-proven.nsd.", "DS", secure),
}

var hashQuestions = []question{
	ask("V-63", behindLast("wraps.nsd.")+".wraps.nsd.", "A", absent),
	ask("V-63", behindLast("no-wrap.nsd.")+".no-wrap.nsd.", "A", noDenial),
	ask("V-54", "mx.no-nsec3.bind.", "AAAA", noDenial),
	ask("V-54", "mx.no-nsec3.nsd.", "AAAA", noDenial),
	ask("V-54", "mx.no-nsec3.knot.", "AAAA", noDenial),
	ask("V-54", "mx.wrong-nsec3.nsd.", "AAAA", bogus),
	ask("V-54", "mx.claims3.nsd.", "AAAA", noDenial),
	ask("V-54", "mx.claims-cname3.knot.", "AAAA", noDenial),
	ask("V-52", "nothing.no-encloser3.nsd.", "A", noDenial),
	ask("V-52", "nothing.no-next-closer3.nsd.", "A", noDenial),
	ask("V-53", "nothing.no-wildcard3.nsd.", "A", noDenial),
	ask("V-57", "x.wild.expanded-unproven3.bind.", "A", noDenial),
	ask("V-57", "x.wild.expanded-unproven3.knot.", "A", noDenial),
	ask("V-10 V-55", "u.cut-unproven3.knot.", "DS", noDenial),
	ask("V-10 V-55", "u.cut-proven3.bind.", "DS", secure),
	ask("V-51", "u.opted-out-unproven.knot.", "DS", noDenial),
	ask("V-51 V-55", "u.opted-out.bind.", "DS", insecure),
	ask("V-51 V-54", "deep.opted-out.bind.", "MX", insecure),
	ask("V-51 V-54", "deep.opted-out.nsd.", "MX", insecure),
	ask("V-51 V-55", "d.deep.opted-out.nsd.", "DS", insecure),
	ask("V-61", "mx.iterations-50.nsd.", "AAAA", secure),
	ask("V-61", "mx.iterations-51.nsd.", "AAAA", "Insecure NOERROR 27"),
	ask("V-61", "nothing.iterations-100.nsd.", "A", "Insecure NXDOMAIN 27"),
	ask("V-61", "mx.iterations-150.nsd.", "AAAA", "Insecure NOERROR 27"),
	ask("V-61", "mx.iterations-151.nsd.", "AAAA", "Insecure NOERROR 27"),
	ask("V-61", "mx.iterations-500.nsd.", "AAAA", "Insecure NOERROR 27"),
	ask("V-61", "u.iterations-500.nsd.", "DS", "Insecure NOERROR 27"),
	ask("V-62", "iterations-500.nsd.", "MX", secure),
}

func aliasQuestions() (all []question) {
	for _, zone := range []string{"alias.bind.", "alias.nsd.", "alias.knot."} {
		all = append(all,
			ask("V-64 V-65", "to-signed."+zone, "A", secure),
			ask("V-64 V-65", "to-unsigned."+zone, "A", insecure),
			ask("V-64", "to-unsigned."+zone, "CNAME", secure),
			ask("V-64 V-65", "to-broken."+zone, "A", tooOld),
			ask("V-64", "to-broken."+zone, "CNAME", secure),
			ask("V-64 V-47", "to-nothing."+zone, "A", absent),
			ask("V-64 V-53", "to-nothing3."+zone, "A", absent),
			ask("V-64 V-48", "to-empty."+zone, "A", secure),
			ask("V-64 V-51", "to-opt-out."+zone, "A", missing),
			ask("V-67", "loop."+zone, "A", failed),
			ask("V-66", "mx.signed."+zone, "A", secure),
			ask("V-66 V-57", "x.wild.signed."+zone, "A", secure).behind(either(proofless, secure), kresd),
			ask("V-66", "mx.unsigned."+zone, "A", insecure),
			ask("V-66", "mx.broken."+zone, "A", tooOld),
			ask("L-8 V-64", "c1."+zone, "A", secure),
			ask("V-49 V-64", "x.w."+zone, "A", secure).behind(either(proofless, secure), kresd),
			ask("V-49 V-64", "x.wb."+zone, "A", bogus).behind(either(proofless, bogus), kresd),
			ask("D-5 V-64", "_25._tcp.mx2."+zone, "TLSA", secure),
		)
	}
	return append(all,
		ask("V-13 V-66", "alias.bare-alias.bind.", "A", noSig).behind(either(noSig, refused), "bind-validating"),
		ask("V-64", "alias.wrong-alias.nsd.", "A", bogus),
		ask("V-66", "mx.old.wrong-dname.bind.", "A", bogus),
		ask("V-66", "mx.old.wrong-dname.knot.", "A", bogus),
		ask("V-66", "mx.old.bare-dname.nsd.", "A", noSig),
	)
}

var oddQuestions = []question{
	ask("D-10 S-5", "_25._tcp.mx.large.bind.", "TLSA", secure),
	ask("D-10 S-5", "_25._tcp.mx.large.nsd.", "TLSA", secure),
	ask("D-10 S-5", "_25._tcp.mx.large.knot.", "TLSA", secure),
	ask("L-11", "texts.bind.", "TXT", secure).behind(refused, "bind", "bind-validating", "pdns"),
	ask("L-11", "texts.knot.", "TXT", secure).behind(refused, "bind", "bind-validating", "pdns"),
	ask("V-11", "island.plain.", "MX", insecure),
	ask("V-11", "mx.broken-island.plain.", "A", insecure),
	ask("V-11", "expired-island.plain.", "MX", insecure),
	ask("V-11", "island.u.p256.bind.", "MX", insecure),
	ask("V-10", "no-ds.nsd.", "MX", insecure),
	ask("V-10 V-50h", "mx.no-ds.knot.", "AAAA", insecure),
	ask("V-10", "unsigned.bind.", "MX", insecure),
	ask("V-10 V-50h", "mx.unsigned.bind.", "AAAA", insecure),
	ask("V-10", "unsigned.nsd.", "MX", insecure),
	ask("V-10", "unsigned.knot.", "MX", insecure),
	ask("V-51", "unsigned.com.", "MX", insecure),
	ask("V-51 V-54", "unsigned.co.com.", "MX", insecure),
	ask("V-51", "_25._tcp.mx.unsigned.co.com.", "TLSA", insecure),
	ask("V-6", "signed.com.", "MX", secure),
	ask("V-6 V-6a", "signed.co.com.", "MX", secure),
	ask("V-6 V-7", "signed.p256.bind.", "MX", secure),
	ask("V-8", "signed.p256.bind.", "DS", secure),
	ask("V-54", "mx.signed.p256.bind.", "AAAA", secure),
	ask("V-6 V-7", "signed.salt.nsd.", "MX", secure),
	ask("V-19", "expired.com.", "MX", tooOld),
	ask("V-27", "Mx.P256.bInD.", "A", secure),
	ask("S-14", "dead.bind.", "MX", "Indeterminate SERVFAIL 22"),
}
