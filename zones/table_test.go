package zones

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// A line of the table that says something else than its author meant is an error.
func TestTableErrors(t *testing.T) {
	const good = "a.dane. | mail | 13 opt-out:5:aabb split flags:256 digest:1 digest:4 | expired | Bogus 7 | why"
	if _, err := parseEntry(good); err != nil {
		t.Fatal(err)
	}
	for title, change := range map[string][2]string{
		"column missing":  {"| why", ""},
		"no such file":    {"mail", "male"},
		"no such word":    {"split", "splitt"},
		"no number":       {"opt-out:5", "opt-out:five"},
		"number missing":  {"flags:256", "flags"},
		"digest missing":  {"digest:1", "digest"},
		"word alone":      {"opt-out:5:aabb", "opt-out"},
		"number too many": {"split", "split:1"},
		"no such fault":   {"expired", "expird"},
		"no such verdict": {"Bogus 7", "Bogos 7"},
		"no verdict":      {"Bogus 7", ""},
		"no code":         {"Bogus 7", "Bogus seven"},
	} {
		if _, err := parseEntry(strings.Replace(good, change[0], change[1], 1)); err == nil {
			t.Errorf("%s: no error", title)
		}
	}
	for title, line := range map[string]string{
		"no RCODE":    "mx A Secure",
		"no type":     "mx Address Secure NOERROR",
		"wrong RCODE": "mx A Secure NOERR",
		"wrong code":  "mx A Bogus SERVFAIL x",
	} {
		if err := new(entry).addQuestion(line); err == nil {
			t.Errorf("%s: no error", title)
		}
	}
}

// A line says how the zone is signed and what must come of it.
func TestTableEntry(t *testing.T) {
	e, err := parseEntry("a.dane. | host | 8 13 opt-out:5:aabb split flags:256 digest:1 digest:4 | expired | Bogus 7 " +
		"| why")
	if err != nil {
		t.Fatal(err)
	}
	c := e.config
	if !slices.Equal(c.Algorithms, []uint8{8, 13}) || *c.NSEC3 != (NSEC3{5, "aabb", true}) ||
		!c.Split || c.Flags != 256 ||
		!slices.Equal(c.Digests, []uint8{1, 4}) || c.Unsigned || c.Compact {
		t.Errorf("%+v", c)
	}
	if err := e.addQuestion("_25._tcp.mx TLSA Insecure NXDOMAIN 27"); err != nil {
		t.Fatal(err)
	}
	z, err := Parse(e.name, e.text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Question{
		{"_25._tcp.mx.a.dane.", dns.TypeTLSA, "Insecure", dns.RcodeNameError, 27},
		{"a.dane.", dns.TypeMX, "Bogus", dns.RcodeServerFailure, 7},
		{"mx.a.dane.", dns.TypeA, "Bogus", dns.RcodeServerFailure, 7},
		{"mx.a.dane.", dns.TypeAAAA, "Bogus", dns.RcodeServerFailure, 7},
	}
	if d := e.domain(z); d.Name != "a.dane." || d.Shows != "why" || d.Fault != "expired" ||
		!slices.Equal(d.Questions, want) {
		t.Errorf("%+v", d)
	}
}

// Fresh keys differ; those of one ring share RSA numbers, but never a name.
func TestKeys(t *testing.T) {
	for _, algorithm := range []uint8{5, 7, 8, 10, 13, 14, 15, 16, unknownAlgorithm} {
		a, err := NewKey("a.", algorithm, 257)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewKey("a.", algorithm, 257)
		if err != nil {
			t.Fatal(err)
		}
		if a.DNSKEY.PublicKey == b.DNSKEY.PublicKey || a.DNSKEY.Algorithm != algorithm || a.DS(dns.SHA256) == nil {
			t.Errorf("algorithm %d: %v, %v", algorithm, a.DNSKEY, b.DNSKEY)
		}
	}
	r := new(ring)
	a, errA := r.key("a.", dns.RSASHA256, 257)
	b, errB := r.key("b.", dns.RSASHA512, 256)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if a.DNSKEY.Hdr.Name != "a." || b.DNSKEY.Hdr.Name != "b." || b.DNSKEY.Algorithm != dns.RSASHA512 ||
		b.DNSKEY.Flags != 256 {
		t.Errorf("%v, %v", a.DNSKEY, b.DNSKEY)
	}
}
