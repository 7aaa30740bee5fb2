//go:build linux

package servers

import (
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Ways to sign.
var (
	p256    = signing{with: bindSigner, algorithm: "ECDSAP256SHA256"}
	p384    = signing{with: ldnsSigner, algorithm: "ECDSAP384SHA384"}
	ed25519 = signing{with: knotSigner, algorithm: "ED25519"}
	ed448   = signing{with: bindSigner, algorithm: "ED448"}
	hashed  = signing{with: ldnsSigner, algorithm: "ECDSAP256SHA256", nsec3: true}
	optOut  = signing{with: bindSigner, algorithm: "ECDSAP256SHA256", nsec3: true, optOut: true}
	unsafe5 = signing{with: bindSigner, algorithm: "RSASHA1"}
	unsafe7 = signing{with: bindSigner, algorithm: "NSEC3RSASHA1", nsec3: true}
	none    = signing{}
)

// iterated is hashed with n iterations and a salt.
func iterated(n int) signing {
	s := hashed
	s.iterations, s.salt = n, "aabbccdd"
	return s
}

// ofExponent is RSA with a given exponent, which no tool chooses.
func ofExponent(e int) signing {
	return signing{with: bindSigner, algorithm: "RSASHA256", exponent: e}
}

// Unbound allows signatures that expired a day ago.
func expired(s signing) signing { s.shift = -validity - 48*time.Hour; return s }

func early(s signing) signing { s.shift = 48 * time.Hour; return s }

// mail is the text of a domain with DANE.
const mail = `
@ MX 10 mx
mx A 192.0.2.1
_25._tcp.mx TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
`

// full is a text with something for every kind of proof.
const full = mail + `
*.wild MX 10 mx
*.wild A 192.0.2.2
*.aliases CNAME mx
alias CNAME mx
old DNAME new
mx.new A 192.0.2.3
a.b.ent A 192.0.2.4
MiXeD A 192.0.2.5
caps MX 10 MX
deep.*.ew TXT empty
odd TYPE65280 \# 4 0a000001
`

// order is a text with the names of RFC 4034 section 6.1, which have to be compared in canonical order (V-31).
const order = mail + `
yljkjljk.a A 192.0.2.6
Z.a A 192.0.2.6
zABC.a A 192.0.2.6
m A 192.0.2.6
z A 192.0.2.6
\001.z A 192.0.2.6
*.z A 192.0.2.6
\200.z A 192.0.2.6
`

// styles are the ways of signing and serving for which every kind of proof is tested, in zones without a fault.
var styles = []struct {
	name    string
	signing signing
}{
	{"p256.bind.", p256},
	{"p384.bind.", p384},
	{"ed25519.bind.", ed25519},
	{"rsa-nsec3.bind.", signing{with: bindSigner, algorithm: "RSASHA256", nsec3: true, bits: 2048}},
	{"salt.nsd.", signing{with: ldnsSigner, algorithm: "ECDSAP256SHA256", nsec3: true, iterations: 5, salt: "beef"}},
	{"ed448.nsd.", ed448},
	{"optout.nsd.", signing{with: knotSigner, algorithm: "ECDSAP256SHA256", nsec3: true, optOut: true}},
	{"p384-nsec3.knot.", signing{with: knotSigner, algorithm: "ECDSAP384SHA384", nsec3: true,
		iterations: 1, salt: "00000000"}},
	{"ed448-nsec3.knot.", signing{with: ldnsSigner, algorithm: "ED448", nsec3: true}},
	{"rsa.knot.", signing{with: knotSigner, algorithm: "RSASHA256"}},
	{"optout.knot.", optOut},
	{"optout.com.", signing{with: ldnsSigner, algorithm: "ED25519", nsec3: true, optOut: true}},
}

// operators are the servers of the zones below each top-level domain. NSD serves com. itself.
var operators = map[string]server{"bind": bind, "nsd": nsd, "knot": knot, "plain": bind, "com": bind}

func operator(name string) server {
	labels := dns.SplitDomainName(name)
	return operators[labels[len(labels)-1]]
}

// planted returns all zones that real servers serve. The root delegates to the scripted server too, with the given DS.
func planted(anchors []*dns.DS) []*zone {
	zones := []*zone{
		{name: ".", server: bind, signing: signing{with: bindSigner, algorithm: "RSASHA256", bits: 2048},
			text: delegations(anchors)},
		{name: "bind.", server: bind, signing: p256},
		{name: "nsd.", server: nsd, signing: signing{with: ldnsSigner, algorithm: "RSASHA256",
			bits: 2048, nsec3: true}},
		{name: "knot.", server: knot, signing: signing{with: knotSigner, algorithm: "ECDSAP256SHA256", nsec3: true,
			iterations: 2, salt: "0000"}},
		{name: "com.", server: nsd, signing: optOut, text: registry(2000)},
		{name: "plain.", server: bind, signing: none},
	}
	for _, s := range styles {
		zones = append(zones,
			&zone{name: s.name, server: operator(s.name), signing: s.signing, text: full},
			&zone{name: "u." + s.name, server: operator(s.name), signing: none, text: full})
	}
	return append(zones, broken()...)
}

// delegations returns the delegations to the scripted server.
func delegations(all []*dns.DS) string {
	var text strings.Builder
	for _, ds := range all {
		fmt.Fprintf(&text, "%s NS ns.%[1]s\nns.%[1]s A %s\n%s\n", ds.Hdr.Name, scripted.address(), ds)
	}
	return text.String()
}

// registry returns the text of a top-level domain with n unsigned delegations.
func registry(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "d%d NS ns.d%d\nns.d%d A %s\n", i, i, i, dead.address())
	}
	return text.String()
}

// at returns a zone below one of the top-level domains.
func at(name string, s signing, text string, f fault) *zone {
	return &zone{name: name, server: operator(name), signing: s, text: text, fault: f}
}

// with changes the DS that the zone above gets.
func (z *zone) with(ds func([]*dns.DS) []*dns.DS) *zone {
	z.ds = ds
	return z
}
