package mail

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestPrograms: what RFC 7672, Postfix and Exim make of the same certificates; test/mta has these as domains, and more.
func TestPrograms(t *testing.T) {
	w := newWorld(t)
	edited := func(by *issuer, edits ...func(*x509.Certificate)) *issuer {
		return issue(t, by, "edited", func(c *x509.Certificate) {
			for _, edit := range edits {
				edit(c)
			}
		})
	}
	mx := named("mx.example")
	unmarked := func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false }
	signs := func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }
	crls := func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }
	constrained := func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"org"}, true
	}
	noCA, bare, selfBare, signing := edited(w.root), edited(w.root, unmarked), edited(nil, unmarked),
		edited(w.root, unmarked, signs)
	crlOnly, narrow := edited(w.root, isCA, crls), edited(w.root, isCA, constrained)
	oldRoot := edited(nil, isCA, expired)
	leafOf := func(by *issuer) *issuer { return issue(t, by, "leaf", mx) }
	tlsa := func(usage, selector, matching uint8, c *issuer) *dns.TLSA {
		return record(t, usage, selector, matching, c)
	}
	type records = []*dns.TLSA
	type chain = []*issuer
	for _, tt := range []struct {
		name    string
		records records
		chain   chain
		want    string // of RFC 7672, Postfix and Exim: + or -
	}{
		{"2 1 1 of the root", records{tlsa(2, 1, 1, w.root)}, chain{w.leaf, w.ca, w.root}, "+++"},
		{"not sent", records{tlsa(2, 1, 1, w.root)}, chain{w.leaf, w.ca}, "---"},
		{"a link missing", records{tlsa(2, 1, 1, w.root)}, chain{w.leaf, w.root}, "---"},
		{"2 0 0, not sent", records{tlsa(2, 0, 0, w.root)}, chain{w.leaf, w.ca}, "++-"},
		{"2 1 0, not sent", records{tlsa(2, 1, 0, w.root)}, chain{w.leaf, w.ca}, "++-"},
		{"2 1 0 of the issuer, leaf alone", records{tlsa(2, 1, 0, w.ca)}, chain{w.leaf}, "++-"},
		{"of another chain, sent too", records{tlsa(2, 1, 1, w.self)}, chain{w.leaf, w.ca, w.self}, "--+"},
		{"of another chain, the issuer not sent", records{tlsa(2, 1, 1, w.self)}, chain{w.leaf, w.self}, "---"},
		{"expired, of another's issuing", records{tlsa(2, 1, 1, w.oldCA)}, chain{w.ofOldCA, w.oldCA}, "-+-"},
		{"expired, self-signed", records{tlsa(2, 1, 1, oldRoot)}, chain{leafOf(oldRoot), oldRoot}, "---"},
		{"expired in the middle", records{tlsa(2, 1, 1, w.root)}, chain{w.ofOldCA, w.oldCA, w.root}, "---"},
		{"no CA", records{tlsa(2, 1, 1, noCA)}, chain{leafOf(noCA), noCA}, "---"},
		{"no CA, 2 1 0 and not sent", records{tlsa(2, 1, 0, noCA)}, chain{leafOf(noCA)}, "++-"},
		{"no basic constraints", records{tlsa(2, 1, 1, bare)}, chain{leafOf(bare), bare}, "---"},
		{"no basic constraints, self-signed", records{tlsa(2, 1, 1, selfBare)}, chain{leafOf(selfBare), selfBare},
			"--+"},
		{"no basic constraints, but the key usage", records{tlsa(2, 1, 1, signing)}, chain{leafOf(signing), signing},
			"-+-"},
		{"the key usage forbids it", records{tlsa(2, 1, 1, crlOnly)}, chain{leafOf(crlOnly), crlOnly}, "---"},
		{"name constraints", records{tlsa(2, 1, 1, narrow)}, chain{leafOf(narrow), narrow}, "---"},
		{"for clients", records{tlsa(2, 1, 1, w.ca)}, chain{w.client, w.ca}, "--+"},
		{"leaf expired", records{tlsa(2, 1, 1, w.ca)}, chain{w.old, w.ca}, "---"},
		{"of the leaf, twice", records{tlsa(2, 1, 1, w.self)}, chain{w.self, w.self}, "--+"},
		{"the weaker digest is right", records{tlsa(3, 1, 1, w.leaf), tlsa(3, 1, 2, w.old)}, chain{w.leaf}, "--+"},
		{"the stronger digest is right", records{tlsa(3, 1, 1, w.old), tlsa(3, 1, 2, w.leaf)}, chain{w.leaf}, "+++"},
		{"usage 3 beside a wrong usage 2", records{tlsa(2, 1, 1, w.self), tlsa(3, 1, 1, w.leaf)}, chain{w.leaf}, "+++"},
		{"another name", records{tlsa(2, 1, 1, w.ca)}, chain{edited(w.ca, named("other.example")), w.ca}, "---"},
		{"the next hop's name", records{tlsa(2, 1, 1, w.ca)}, chain{edited(w.ca, named("hop.example")), w.ca}, "++-"},
		{"the name that the next hop is an alias of", records{tlsa(2, 1, 1, w.ca)},
			chain{edited(w.ca, named("to.example")), w.ca}, "++-"},
		{"a wildcard", records{tlsa(2, 1, 1, w.ca)}, chain{edited(w.ca, named("*.example")), w.ca}, "---"},
	} {
		h := host(data(secure), TLSA{Lookup: data(secure), Base: "mx.example.", Records: tt.records})
		h.Name, h.Expanded = "mx.example.", "mx.example."
		d := to(data(secure), h)
		d.Name, d.Expanded = "hop.example.", "to.example."
		var certs []*x509.Certificate
		for _, c := range tt.chain {
			certs = append(certs, c.Certificate)
		}
		got := ""
		for _, s := range Senders {
			sign := "+"
			if _, err := s.Authenticate(d, &d.Hosts[0], certs, now); err != nil {
				sign = "-"
			}
			got += sign
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestReferenceNames: RFC 7672 section 3.2.2, and what programs make of it.
func TestReferenceNames(t *testing.T) {
	good := host(data(secure), tlsa("h.", data(secure), usableTLSA))
	aliased := alias(secure, secure, tlsa("e.", data(secure), usableTLSA))
	for _, tt := range []struct {
		name   string
		domain *Domain
		want   string
	}{
		{"all Secure", to(data(secure), good), "[h. d. x.] [h. d. x.] [h.]"},
		{"MX Insecure", to(data(insecure), good), "[h.] [h. d. x.] [h.]"},
		{"no MX", to(denied(secure), good), "[h.] [h.] [h.]"},
		{"the host is an alias", to(data(secure), aliased), "[e. d. x.] [e. d. x.] [e.]"},
	} {
		tt.domain.Expanded = "x."
		var got []string
		for _, s := range Senders {
			got = append(got, fmt.Sprint(s.Names(tt.domain, &tt.domain.Hosts[0])))
		}
		if all := strings.Join(got, " "); all != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, all, tt.want)
		}
	}
}

// TestCovers: RFC 7672 section 3.2.3; wildcards as OpenSSL and GnuTLS read them.
func TestCovers(t *testing.T) {
	for name, want := range map[string]bool{
		"mx.example.org": true, "MX.Example.ORG": true, "*.example.org": true, "*.org": false, "*": false,
		"*.*.org": false, "m*.example.org": false,
		"*.mx.example.org": false, "example.org": false, "": false, "*.": false,
	} {
		if got := covers(name, "mx.example.org"); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
	if covers("*.org", "example.org") || covers("*.example.org", "a.mx.example.org") ||
		covers("*.example.org", ".example.org") {
		t.Error("a wildcard stands for one label, before two others")
	}
}

// TestMistakes: a record that matches nothing is told for what it is.
func TestMistakes(t *testing.T) {
	w := newWorld(t)
	text := func(octets []byte) *dns.TLSA {
		digest := sha256.Sum256(octets)
		return &dns.TLSA{Usage: DANEEE, Selector: SPKI, MatchingType: SHA256,
			Certificate: hex.EncodeToString(digest[:])}
	}
	swapped := record(t, 3, 0, 1, w.leaf)
	swapped.Selector = SPKI
	authority, own := record(t, 3, 1, 1, w.ca), record(t, 2, 0, 1, w.leaf)
	authority.Selector, own.Selector = Cert, SPKI
	for _, tt := range []struct {
		r    *dns.TLSA
		want string
	}{
		{authority, "has the digest of the key alone, which is selector 1, of an authority, which is usage 2"},
		{own, "has the digest of the whole certificate, which is selector 0, of the host's own certificate, which is " +
			"usage 3"},
		{record(t, 3, 1, 1, w.ca), "is of an authority in the chain; usage 3 is for the host's own certificate"},
		{record(t, 2, 1, 1, w.leaf), "is of the host's own certificate; usage 2 is for an authority"},
		{swapped, "has the digest of the whole certificate, which is selector 0"},
		{text(nil), "is the digest of nothing: an empty file was digested"},
		{text(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.leaf.Raw})),
			"is the digest of the certificate as PEM text, not of its DER octets"},
		{text([]byte(strings.TrimSpace(string(
			pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: w.leaf.RawSubjectPublicKeyInfo}))))),
			"is the digest of the key as PEM text"},
		{record(t, 2, 1, 1, w.root), "is of an authority that the host does not send"},
	} {
		_, err := Verify([]*dns.TLSA{tt.r}, []*x509.Certificate{w.leaf.Certificate, w.ca.Certificate},
			[]string{"mx.example."}, now)
		if err == nil || !strings.HasPrefix(err.Error(), "no TLSA record matches the certificates presented: "+
			Brief(tt.r)) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}
