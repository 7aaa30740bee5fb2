package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// TestCheck: the tree names every zone with DS, key and dates, and what fails in one sentence.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"good.dane", "MX"}, 0, []string{"good.dane. MX: Secure\n\n.  ", "trust anchor", "RSASHA256",
			"\n  dane. ", "DS ", "(SHA256), key ",
			"ECDSAP256SHA256, signed 20", " UTC\n    good.dane. ", "\n      good.dane. MX ",
			"\n        10 mx1.good.dane.\n"}},
		{[]string{"GOOD.dane.", "txt"}, 0, []string{"good.dane. TXT: Secure", `"v=spf1 mx -all"`}},
		{[]string{"_25._tcp.mx.no-tlsa.dane", "TLSA"}, 0, []string{"Secure, NXDOMAIN", " NSEC "}},
		{[]string{"mx1.good.dane", "MX"}, 0, []string{"Secure, there is no such record", "mx1.good.dane. NSEC"}},
		{[]string{"mx.alias-unsigned.dane", "A"}, 0,
			[]string{": Insecure", "CNAME", "unsigned: the zone above proves that there is no DS"}},
		{[]string{"iterations.dane", "TYPE65"}, 0, []string{"iterations.dane. HTTPS: Insecure", "200 iterations",
			"(EDE 27)"}},
		{[]string{"rsasha1.dane", "mx"}, 0, []string{": Insecure", "algorithm 5", "(EDE 1)"}},
		{[]string{"expired.dane", "mx"}, 1,
			[]string{"Bogus, clients get SERVFAIL", "the RRSIG over expired.dane. DNSKEY", "expired 20", "(EDE 7)",
				"\n    expired.dane.  Bogus"}},
		{[]string{"wrong-signature.dane", "mx"}, 1, []string{"(EDE 6)", "\n      wrong-signature.dane. MX  Bogus"}},
		{[]string{"_25._tcp.mx.tlsa-servfail.dane", "TLSA"}, 1, []string{"Indeterminate", "(EDE 22)", "SERVFAIL"}},
		{[]string{".", "DNSKEY"}, 0, []string{". DNSKEY: Secure"}},
	} {
		code, out, stderr := here(append([]string{"check", "-lab"}, tt.args...)...)
		if code != tt.code || stderr != "" {
			t.Errorf("%q: exit code %d, want %d; %s", tt.args, code, tt.code, stderr)
		}
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%q lacks %q:\n%s", tt.args, want, out)
			}
		}
	}
}

// TestChainJSON: the same for programs, with the fields that the tree is made of, and as a page.
func TestChainJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.html")
	for _, tt := range []struct {
		name, kind, status, rcode string
		code                      int
		zones, sets               int
		ede                       uint16
	}{
		{"good.dane", "MX", "Secure", "NOERROR", 0, 3, 1, 0},
		{"_25._tcp.mx.alias-tlsa.dane", "TLSA", "Secure", "NOERROR", 0, 3, 2, 0},
		{"expired.dane", "MX", "Bogus", "SERVFAIL", 1, 3, 0, dns.ExtendedErrorCodeSignatureExpired},
		{"wrong-signature.dane", "MX", "Bogus", "SERVFAIL", 1, 3, 1, dns.ExtendedErrorCodeDNSBogus},
	} {
		code, out, stderr := here("check", "-lab", "-json", "-html", file, tt.name, tt.kind)
		var v drawing.Chain
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != tt.code || stderr != "" {
			t.Fatalf("%s: exit code %d, %v\n%s%s", tt.name, code, err, out, stderr)
		}
		if v.Name != tt.name+"." || v.Type != tt.kind || v.Status != tt.status || v.Rcode != tt.rcode ||
			len(v.Zones) != tt.zones || len(v.Sets) != tt.sets ||
			(len(v.Failures) > 0) != (tt.ede > 0) || tt.ede > 0 && v.Failures[0].EDE != tt.ede {
			t.Errorf("%s: %s", tt.name, out)
		}
		page, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(page), "<h2>"+tt.name+". "+tt.kind+"</h2>") ||
			!strings.Contains(string(page), "<b>the root</b>") {
			t.Errorf("%s: %v\n%s", tt.name, err, page)
		}
	}
}

// TestCheckWithCorefile: upstreams and anchors are those of the Corefile, private and special names are told for what
// they are, and flags may stand behind names.
func TestCheckWithCorefile(t *testing.T) {
	lab := newLab(t)
	file := write(t, "Corefile", corefile(ports.Closed(t), lab.Addr(), anchors(t, lab))+`
corp.example {
    danelaw {
        private corp.example
    }
    forward . `+lab.Addr()+`
}`)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"good.dane", "MX", "-conf", file}, 0, "good.dane. MX: Secure"},
		{[]string{"good.dane", "-conf", file}, 0, "mx1.good.dane.  dane"},
		{[]string{"-conf", file, "host.corp.example"}, 1, "host.corp.example. is private"},
		{[]string{"-conf", file, "localhost"}, 1, "localhost. is a special name"},
		{[]string{"-conf", file + ".old", "good.dane"}, 1, "Corefile.old: no such file"},
		{[]string{"-conf", file, "host.corp.example", "A"}, 1, "host.corp.example. is private"},
		// it has the anchors of the real root
		{[]string{"-upstream", lab.Addr(), "good.dane"}, 1, "no DNSKEY matches the DS"},
		{[]string{"-server", lab.Addr(), "good.dane", "MX"}, 1, "no DNSKEY matches the DS"},
	} {
		code, out, stderr := here(append([]string{"check"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out+stderr, tt.want) {
			t.Errorf("%q: exit code %d, want %d and %q:\n%s%s", tt.args, code, tt.code, tt.want, out, stderr)
		}
	}
}
