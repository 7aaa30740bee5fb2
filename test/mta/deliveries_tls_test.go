//go:build linux

package mta

import (
	"crypto/x509"
	"time"
)

// The usual certificates of the domains below: a chain of three, and an unrelated one.
var (
	rootCA   = cert{name: "root", by: "root"}
	ca       = cert{name: "ca", by: "root"}
	leaf     = cert{name: "leaf", by: "ca"}
	stranger = cert{name: "stranger", by: "stranger"}
	chain    = []cert{rootCA, ca, leaf, stranger}
)

// with returns the chain with some certificates replaced.
func with(changed ...cert) []cert {
	all := append([]cert{}, chain...)
	for _, c := range changed {
		for i := range all {
			if all[i].name == c.name {
				all[i] = c
			}
		}
	}
	return all
}

// but returns the certificate with a change.
func (p cert) but(edit func(*x509.Certificate)) cert {
	p.edit = edit
	return p
}

// from returns the certificate with another issuer.
func (p cert) from(by string) cert {
	p.by = by
	return p
}

func hasEnded(c *x509.Certificate)      { c.NotAfter = time.Now().Add(-time.Hour) }
func toCome(c *x509.Certificate)        { c.NotBefore = time.Now().Add(time.Hour) }
func noCA(c *x509.Certificate)          { c.IsCA = false }
func noConstraints(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }
func signs(c *x509.Certificate) {
	noConstraints(c)
	c.KeyUsage = x509.KeyUsageCertSign
}
func forClients(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
func forServers(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
func forCRLs(c *x509.Certificate)    { c.KeyUsage = x509.KeyUsageCRLSign }
func noPath(c *x509.Certificate)     { c.MaxPathLen, c.MaxPathLenZero = 0, true }
func forOthers(c *x509.Certificate) {
	c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example"}, true
}
func called(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

// commonName gives a certificate a common name and no other.
func commonName(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, name }
}

// tlsCase returns a domain with certificates, of which its host sends some, and with TLSA records.
func tlsCase(domain string, certs []cert, sends, tlsa string, want [2]string) delivery {
	d := delivery{domain: domain, text: mx, certs: certs, sends: sends, want: want}
	d.text += records("_25._tcp.mx", tlsa)
	return d
}

// certificateCases are domains that differ in their certificates and TLSA records.
var certificateCases = []delivery{
	tlsCase("ta-root.dane", chain, "leaf ca root", "{2 1 1 root}", alike(verified)),
	tlsCase("ta-cert.dane", chain, "leaf ca root", "{2 0 1 root}", alike(verified)),
	tlsCase("ta-mixed-order.dane", chain, "leaf root ca", "{2 0 1 root}", alike(verified)),
	tlsCase("ta-not-sent.dane", chain, "leaf ca", "{2 1 1 root}", notVerified),
	tlsCase("ta-alone.dane", chain, "leaf", "{2 1 1 ca}", notVerified),
	tlsCase("ta-middle-omitted.dane", chain, "leaf root", "{2 1 1 root}", notVerified),
	tlsCase("ta-2-0-0.dane", chain, "leaf ca root", "{2 0 0 root}", alike(verified)),
	tlsCase("ta-2-1-0.dane", chain, "leaf ca root", "{2 1 0 root}", alike(verified)),
	tlsCase("ta-2-0-0-not-sent.dane", chain, "leaf ca", "{2 0 0 root}", [2]string{verified, notVerified[1]}),
	tlsCase("ta-2-1-0-not-sent.dane", chain, "leaf ca", "{2 1 0 root}", [2]string{verified, notVerified[1]}),
	tlsCase("ta-signs.dane", with(ca.but(signs)), "leaf ca", "{2 1 1 ca}", [2]string{verified, notVerified[1]}),
	tlsCase("ta-self-signs.dane", with(leaf.from("root"), rootCA.but(signs)), "leaf root",
		"{2 1 1 root}", alike(verified)),
	tlsCase("ta-2-1-0-no-ca.dane", with(ca.but(noCA)), "leaf", "{2 1 0 ca}", [2]string{verified, notVerified[1]}),
	tlsCase("ta-2-1-0-no-ca-sent.dane", with(ca.but(noCA)), "leaf ca", "{2 1 0 ca}", notVerified),
	tlsCase("ta-2-0-0-leaf-only.dane", chain, "leaf", "{2 0 0 ca}", [2]string{verified, notVerified[1]}),
	tlsCase("ta-2-1-0-leaf-only.dane", chain, "leaf", "{2 1 0 ca}", [2]string{verified, notVerified[1]}),
	tlsCase("ta-unrelated.dane", chain, "leaf ca stranger", "{2 1 1 stranger}", [2]string{notVerified[0], verified}),
	tlsCase("ta-unrelated-no-issuer.dane", chain, "leaf stranger", "{2 1 1 stranger}", notVerified),
	tlsCase("ta-self-expired.dane", with(leaf.from("root"), rootCA.but(hasEnded)), "leaf root",
		"{2 1 1 root}", notVerified),
	tlsCase("ta-ca-expired.dane", with(ca.but(hasEnded)), "leaf ca", "{2 1 1 ca}", [2]string{verified, notVerified[1]}),
	tlsCase("ta-ca-expired-below-root.dane", with(ca.but(hasEnded)), "leaf ca root", "{2 1 1 root}", notVerified),
	tlsCase("ta-root-expired-above-ca.dane", with(rootCA.but(hasEnded)), "leaf ca root", "{2 1 1 ca}", alike(verified)),
	tlsCase("ta-root-expired.dane", with(rootCA.but(hasEnded)), "leaf ca root", "{2 1 1 root}",
		[2]string{notVerified[0], verified}),
	tlsCase("ta-ca-to-come.dane", with(ca.but(toCome)), "leaf ca", "{2 1 1 ca}", [2]string{verified, notVerified[1]}),
	tlsCase("ta-leaf-expired.dane", with(leaf.but(hasEnded)), "leaf ca", "{2 1 1 ca}", notVerified),
	tlsCase("ta-leaf-to-come.dane", with(leaf.but(toCome)), "leaf ca", "{2 1 1 ca}", notVerified),
	tlsCase("ta-2-0-0-expired.dane", with(ca.but(hasEnded)), "leaf", "{2 0 0 ca}", [2]string{verified, notVerified[1]}),
	tlsCase("ta-2-1-0-expired.dane", with(ca.but(hasEnded)), "leaf ca", "{2 1 0 ca}",
		[2]string{verified, notVerified[1]}),
	tlsCase("ta-no-ca.dane", with(ca.but(noCA)), "leaf ca", "{2 1 1 ca}", notVerified),
	tlsCase("ta-unmarked.dane", with(ca.but(noConstraints)), "leaf ca", "{2 1 1 ca}", notVerified),
	tlsCase("ta-self-no-ca.dane", with(leaf.from("root"), rootCA.but(noCA)), "leaf root", "{2 1 1 root}", notVerified),
	tlsCase("ta-self-unmarked.dane", with(leaf.from("root"), rootCA.but(noConstraints)), "leaf root",
		"{2 1 1 root}",
		[2]string{notVerified[0], verified}),
	tlsCase("ta-middle-no-ca.dane", with(ca.but(noCA)), "leaf ca root", "{2 1 1 root}", notVerified),
	tlsCase("ta-crl-only.dane", with(ca.but(forCRLs)), "leaf ca", "{2 1 1 ca}", notVerified),
	tlsCase("ta-path-length.dane", with(rootCA.but(noPath)), "leaf ca root", "{2 1 1 root}",
		[2]string{notVerified[0], verified}),
	tlsCase("ta-leaf-for-clients.dane", with(leaf.but(forClients)), "leaf ca", "{2 1 1 ca}",
		[2]string{notVerified[0], verified}),
	tlsCase("ta-leaf-for-servers.dane", with(leaf.but(forServers)), "leaf ca", "{2 1 1 ca}", alike(verified)),
	tlsCase("ta-ca-for-clients.dane", with(ca.but(forClients)), "leaf ca", "{2 1 1 ca}",
		[2]string{notVerified[0], verified}),
	tlsCase("ta-constrained.dane", with(ca.but(forOthers)), "leaf ca", "{2 1 1 ca}", notVerified),
	tlsCase("ta-root-constrained.dane", with(rootCA.but(forOthers)), "leaf ca root", "{2 1 1 root}",
		[2]string{notVerified[0], verified}),
	tlsCase("ta-of-leaf.dane", with(leaf.from("leaf")), "leaf", "{2 1 1 leaf}", notVerified),
	tlsCase("ta-of-leaf-twice.dane", with(leaf.from("leaf")), "leaf leaf", "{2 1 1 leaf}",
		[2]string{notVerified[0], verified}),
	tlsCase("ta-of-leaf-with-ca.dane", chain, "leaf ca", "{2 1 1 leaf}", notVerified),
	tlsCase("ta-leaf-twice-with-ca.dane", chain, "leaf leaf ca", "{2 1 1 leaf}", [2]string{notVerified[0], verified}),

	tlsCase("ee-of-ca.dane", chain, "leaf ca", "{3 1 1 ca}", notVerified),
	tlsCase("ee-3-0-0.dane", chain, "leaf ca", "{3 0 0 leaf}", alike(verified)),
	tlsCase("ee-3-1-0.dane", chain, "leaf ca", "{3 1 0 leaf}", alike(verified)),
	tlsCase("ee-3-1-2.dane", chain, "leaf ca", "{3 1 2 leaf}", alike(verified)),
	tlsCase("ee-3-0-0-garbage.dane", chain, "leaf ca", "3 0 0 3003020101", [2]string{untrusted, notVerified[1]}),
	tlsCase("ee-3-1-0-garbage.dane", chain, "leaf ca", "3 1 0 3003020101", [2]string{untrusted, notVerified[1]}),
	tlsCase("ee-garbage-beside.dane", chain, "leaf ca", "3 0 0 3003020101 {3 1 1 leaf}", alike(verified)),
	tlsCase("ee-type-255.dane", chain, "leaf ca", "3 1 255 abcd", alike(untrusted)),
	tlsCase("ee-selector-2.dane", chain, "leaf ca", "{3 2 1 leaf}", alike(untrusted)),
	tlsCase("ee-usage-4.dane", chain, "leaf ca", "{4 1 1 leaf}", alike(untrusted)),
	tlsCase("ee-long-digest.dane", chain, "leaf ca", "3 1 1 {512 leaf}", alike(untrusted)),
	tlsCase("agility-weak-wrong.dane", chain, "leaf ca", "{3 1 1 stranger} {3 1 2 leaf}", alike(verified)),
	tlsCase("agility-strong-wrong.dane", chain, "leaf ca", "{3 1 1 leaf} {3 1 2 stranger}",
		[2]string{notVerified[0], verified}),
	tlsCase("agility-strong-unusable.dane", chain, "leaf ca", "{3 1 1 leaf} 3 1 2 abcd", alike(verified)),
	tlsCase("agility-full-wrong.dane", chain, "leaf ca", "{3 1 1 leaf} {3 1 0 stranger}", alike(verified)),
	tlsCase("agility-full-right.dane", chain, "leaf ca", "{3 1 0 leaf} {3 1 2 stranger}", alike(verified)),
	tlsCase("agility-other-selector.dane", chain, "leaf ca", "{3 0 1 leaf} {3 1 2 stranger}", alike(verified)),
	tlsCase("agility-other-usage.dane", chain, "leaf ca", "{3 1 1 leaf} {2 1 2 stranger}", alike(verified)),
	tlsCase("agility-ta.dane", chain, "leaf ca", "{2 1 1 ca} {2 1 2 stranger}", [2]string{notVerified[0], verified}),
	tlsCase("mixed-ee-wrong.dane", chain, "leaf ca", "{3 1 1 stranger} {2 1 1 ca}", alike(verified)),
	tlsCase("mixed-ta-wrong.dane", chain, "leaf ca", "{3 1 1 leaf} {2 1 1 stranger}", alike(verified)),
	tlsCase("mixed-wrong.dane", chain, "leaf ca", "{3 1 1 ca} {2 1 1 leaf}", notVerified),
	tlsCase("mixed-pkix.dane", chain, "leaf ca", "{1 1 1 leaf} {3 1 1 stranger}", notVerified),

	tlsCase("name-wildcard.dane", with(leaf.but(called("*.name-wildcard.dane"))), "leaf ca",
		"{2 1 1 ca}", alike(verified)),
	tlsCase("name-wildcard-two.dane", with(leaf.but(called("*.dane"))), "leaf ca", "{2 1 1 ca}", notVerified),
	tlsCase("name-wildcard-part.dane", with(leaf.but(called("m*.name-wildcard-part.dane"))), "leaf ca",
		"{2 1 1 ca}", notVerified),
	tlsCase("name-capitals.dane", with(leaf.but(called("MX.NAME-capitals.dane"))), "leaf ca",
		"{2 1 1 ca}", alike(verified)),
	tlsCase("name-next-hop.dane", with(leaf.but(called("name-next-hop.dane"))), "leaf ca", "{2 1 1 ca}",
		[2]string{verified, notVerified[1]}),
	tlsCase("name-next-hop-wildcard.dane", with(leaf.but(called("*.dane"))), "leaf ca", "{2 1 1 ca}", notVerified),
	tlsCase("name-common.dane", with(leaf.but(commonName("mx.name-common.dane"))), "leaf ca",
		"{2 1 1 ca}", alike(verified)),
	tlsCase("name-common-wildcard.dane", with(leaf.but(commonName("*.name-common-wildcard.dane"))), "leaf ca",
		"{2 1 1 ca}", alike(verified)),
	tlsCase("name-common-beside.dane", with(leaf.but(func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames = "mx.name-common-beside.dane", []string{"other.dane"}
	})),
		"leaf ca", "{2 1 1 ca}", notVerified),
	tlsCase("name-common-and-mail.dane", with(leaf.but(func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames, c.EmailAddresses = "mx.name-common-and-mail.dane", nil, []string{"a@b.dane"}
	})), "leaf ca", "{2 1 1 ca}", alike(verified)),
	{domain: "name-star-tld.dane", text: "@ A {A}\n" + records("_25._tcp", "{2 1 1 ca}"),
		certs: with(leaf.but(called("*.dane"))), sends: "leaf ca",
		want: notVerified},
	{domain: "name-own-host.dane", text: "@ A {A}\n" + records("_25._tcp", "{2 1 1 ca}"),
		certs: with(leaf.but(called("name-own-host.dane"))),
		sends: "leaf ca", want: alike(verified)},
	{domain: "name-insecure-mx.plain", config: unsigned, text: "@ MX 10 lent.name-lent.dane.\n", by: "name-lent.dane",
		want: [2]string{trusted, untrusted}},
	// for a while Exim avoids a host name at which a message was deferred, so each of these domains has its own name
	// for the host
	{domain: "name-lent.dane", text: mx + "lent A {A}\n" +
		records("_25._tcp.mx", "{2 1 1 ca}") + records("_25._tcp.lent", "{2 1 1 ca}"),
		certs: with(leaf.but(called("name-insecure-mx.plain"))), sends: "leaf ca", want: notVerified},
	{domain: "hop.name-alias.dane", zone: "name-alias.dane", text: "hop CNAME to\nto MX 10 mx\nmx A {A}\n" +
		records("_25._tcp.mx", "{2 1 1 ca}"),
		certs: with(leaf.but(called("to.name-alias.dane"))), sends: "leaf ca",
		want: [2]string{verified, notVerified[1]}},
	{domain: "hop.name-alias-first.dane", zone: "name-alias-first.dane", text: "hop CNAME to\nto MX 10 mx\nmx A {A}\n" +
		records("_25._tcp.mx", "{2 1 1 ca}"),
		certs: with(leaf.but(called("hop.name-alias-first.dane"))), sends: "leaf ca",
		want: [2]string{verified, notVerified[1]}},
	{domain: "hop.name-alias-middle.dane", zone: "name-alias-middle.dane",
		text:  "hop CNAME via\nvia CNAME to\nto MX 10 mx\nmx A {A}\n" + records("_25._tcp.mx", "{2 1 1 ca}"),
		certs: with(leaf.but(called("via.name-alias-middle.dane"))), sends: "leaf ca", want: notVerified},
	{domain: "name-host-alias.dane", text: "@ MX 10 mx\nmx CNAME host\nhost A {A}\n" +
		records("_25._tcp.host", "{2 1 1 ca}"),
		certs: with(leaf.but(called("mx.name-host-alias.dane"))), sends: "leaf ca", want: notVerified},
	{domain: "name-host-alias-target.dane", text: "@ MX 10 mx\nmx CNAME host\nhost A {A}\n" +
		records("_25._tcp.host", "{2 1 1 ca}"),
		certs: with(leaf.but(called("host.name-host-alias-target.dane"))), sends: "leaf ca", want: alike(verified)},
}
