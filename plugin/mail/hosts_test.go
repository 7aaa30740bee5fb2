package mail

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// rrs reads records in zone-file form, one a line.
func rrs(t *testing.T, text string) (all []dns.RR) {
	t.Helper()
	for line := range strings.Lines(text) {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		if rr != nil {
			all = append(all, rr)
		}
	}
	return all
}

// TestHosts: RFC 5321 section 5.1, RFC 7505, D-18.
func TestHosts(t *testing.T) {
	for _, tt := range []struct {
		name, answer, want string
		null               bool
	}{
		{"by preference, then by name", "d. MX 20 a.\nd. MX 10 C.\nd. MX 10 b.", "[{b. 10} {c. 10} {a. 20}]", false},
		{"twice", "d. MX 20 a.\nd. MX 10 a.", "[{a. 10}]", false},
		{"behind an alias, with its signature",
			"d. CNAME e.\ne. MX 5 a.\ne. RRSIG MX 13 1 300 20270101000000 20260101000000 1 e. AAAA", "[{a. 5}]", false},
		{"none: the domain itself", "", "[{d. 0}]", false},
		{"null MX", "d. MX 0 .", "[]", true},
		{"null MX of another preference", "d. MX 10 .", "[]", true},
		{"null MX beside a host", "d. MX 0 .\nd. MX 10 a.", "[{a. 10}]", true},
	} {
		hosts, null := Hosts("D.", rrs(t, tt.answer))
		if got := fmt.Sprint(hosts); got != tt.want || null != tt.null {
			t.Errorf("%s: %s, null %v; want %s, %v", tt.name, got, null, tt.want, tt.null)
		}
	}
}

// TestBases: D-3, D-4.
func TestBases(t *testing.T) {
	const none = dnssec.Indeterminate
	for _, tt := range []struct {
		name, expanded   string
		addresses, first dnssec.Status
		want             string
	}{
		{"no alias, Secure", "h.", dnssec.Secure, none, "h."},
		{"no alias, Insecure", "h.", dnssec.Insecure, none, ""},
		{"no alias, Bogus", "h.", dnssec.Bogus, none, ""},
		{"alias, all Secure: the expanded name first", "e.", dnssec.Secure, dnssec.Secure, "e. h."},
		{"alias, its target Insecure", "e.", dnssec.Insecure, dnssec.Secure, "h."},
		{"alias, itself Insecure", "e.", dnssec.Insecure, dnssec.Insecure, ""},
		{"alias, its own status unknown", "e.", dnssec.Insecure, dnssec.Indeterminate, ""},
		{"alias, its target Bogus", "e.", dnssec.Bogus, dnssec.Secure, ""},
		{"alias, its target unknown", "e.", dnssec.Indeterminate, dnssec.Secure, ""},
	} {
		if got := strings.Join(Bases("h.", tt.expanded, tt.addresses, tt.first), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestTLSAName(t *testing.T) {
	got := []string{TLSAName("mx.example.", Port), TLSAName("mx.example.", 587), TLSAName(".", Port)}
	if want := []string{"_25._tcp.mx.example.", "_587._tcp.mx.example.", "_25._tcp."}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestExpanded(t *testing.T) {
	for answer, want := range map[string]string{
		"":                              "h. false",
		"h. A 192.0.2.1":                "h. false",
		"H. CNAME E.\nE. A 192.0.2.1":   "e. true",
		"h. CNAME e.\ne. CNAME f.":      "f. true",
		"e. CNAME f.\nf. A 192.0.2.1":   "h. false",
		"h. CNAME e.\ne. CNAME h.":      "h. false", // a loop ends
		"x. DNAME y.\nh. CNAME h.y.":    "h.y. true",
		"h. CNAME e.\nz. A 192.0.2.199": "e. true",
	} {
		name, alias := Expanded("h.", rrs(t, answer))
		if got := fmt.Sprint(name, " ", alias); got != want {
			t.Errorf("%q: %s, want %s", answer, got, want)
		}
	}
}

// TestNames: what Postfix and Exim take for a host in an MX record, as test/mta shows.
func TestNames(t *testing.T) {
	for name, want := range map[string]struct{ postfix, exim bool }{
		"mx.example.": {true, true}, "m--x.example.": {true, true}, "_mx.example.": {true, true},
		"mx_.example.":   {true, true},
		"25.10.example.": {true, true}, "xn--mx-via.example.": {true, true}, "mx.": {true, true},
		"-mx.example.": {}, "mx-.example.": {}, "a.-b.example.": {}, `m\032x.example.`: {}, `m\195\164x.example.`: {},
		`m\.x.example.`: {},
		"[192.0.2.1].":  {}, "m/x.example.": {false, true}, "*.example.": {true, false}, "a.*.example.": {},
		"192.0.2.":   {false, true},
		"192.0.2.1.": {true, false}, "0.0.0.0.": {true, false}, "192.0.2.010.": {true, true},
		"0.0.0.1.":     {false, false},
		"2001:db8::1.": {true, false}, "2001:db8::g.": {}, "fe80::1%1.": {},
	} {
		got := struct{ postfix, exim bool }{Postfix.malformed(name) == "", Exim.malformed(name) == ""}
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if Standard.malformed(name) != "" {
			t.Errorf("%s: RFC 7672 knows no such rule", name)
		}
	}
	for name, want := range map[string]string{
		"192.0.2.1.": "192.0.2.1", "192.0.2.010.": "192.0.2.8", "192.0.2.08.": "invalid IP",
		"192.0.2.256.": "invalid IP", "192.0.2.+1.": "invalid IP",
		"0.0.0.0.": "0.0.0.0", "0.0.0.1.": "invalid IP", "2001:DB8::1.": "2001:db8::1", "mx.example.": "invalid IP",
	} {
		if got := postfixLiteral(name).String(); got != want {
			t.Errorf("%s is %s to Postfix, want %s", name, got, want)
		}
	}
	for name, want := range map[string]struct{ postfix, exim bool }{
		"example.org.": {true, true}, "-a.example.": {}, "a-.example.": {false, true}, "a_b.example.": {true, false},
		"192.0.2.1.": {false, true},
	} {
		if got := (struct{ postfix, exim bool }{Postfix.refuses(name) == "", Exim.refuses(name) == ""}); got != want {
			t.Errorf("mail for %s: %+v, want %+v", name, got, want)
		}
	}
}
