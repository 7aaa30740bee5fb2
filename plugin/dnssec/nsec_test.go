package dnssec

import (
	"encoding/hex"
	"testing"

	"github.com/miekg/dns"
)

// X-3, RFC 4034 section 4.3: the RDATA of an NSEC with a type in a high window, read and written.
func TestNSECVector(t *testing.T) {
	want := "04686f7374076578616d706c6503636f6d00" + "0006400100000003" + "041b" +
		"0000000000000000000000000000000000000000000000000000" + "20"
	rr := rrs(t, "alfa.example.com. 86400 IN NSEC host.example.com. A MX RRSIG NSEC TYPE1234")[0]
	var buf [512]byte
	off, err := dns.PackRR(rr, buf[:], 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	const fixed = 18 + 10 // owner, type, class, TTL, RDLENGTH
	if got := hex.EncodeToString(buf[fixed:off]); got != want {
		t.Errorf("RDATA %s, want %s", got, want)
	}
	back, _, err := dns.UnpackRR(buf[:off], 0)
	if err != nil {
		t.Fatal(err)
	}
	e := admitted("example.com.", validated("example.com.", back))
	for qtype, want := range map[string]string{
		"MX": "Bogus, EDE 12", "TYPE1234": "Bogus, EDE 12", "TYPE1235": "Secure", "AAAA": "Secure", "TLSA": "Secure",
	} {
		n, _ := map[string]uint16{"TYPE1234": 1234, "TYPE1235": 1235}[qtype]
		if n == 0 {
			n = dns.StringToType[qtype]
		}
		if p := denialCheck().nodata(e, "alfa.example.com.", n); (p.status == Secure) != (want == "Secure") {
			t.Errorf("%s: %v, want %s", qtype, p.status, want)
		}
	}
}

func TestNSECNodata(t *testing.T) {
	at := func(types string) []string { return []string{"a.example. NSEC c.example. " + types} }
	compact := []string{"a.example. NSEC \\000.a.example. RRSIG NSEC NXNAME"}
	ent := []string{"a.example. NSEC x.b.example. A RRSIG NSEC"}
	unproven := "Bogus, EDE 12"
	runDenials(t, []denialCase{
		{"V-46 type and CNAME clear", "", at("A RRSIG NSEC"), "nodata a.example. MX", "Secure"},
		{"V-46 CNAME set", "", at("CNAME RRSIG NSEC"), "nodata a.example. MX", unproven},
		{"V-46 CNAME asked, clear", "", at("A RRSIG NSEC"), "nodata a.example. CNAME", "Secure"},
		{"V-46 CNAME asked, set", "", at("CNAME RRSIG NSEC"), "nodata a.example. CNAME", unproven},
		{"V-50f the map claims the type", "", at("A MX RRSIG NSEC"), "nodata a.example. MX", unproven},
		{"V-50f no RRSIG and NSEC bits", "", at("A"), "nodata a.example. MX", "Secure"},
		{"V-46 another name", "", at("A RRSIG NSEC"), "nodata c.example. MX", unproven},
		{"V-46 ANY, only denial types", "", at("RRSIG NSEC"), "nodata a.example. ANY", "Secure"},
		{"X-13 ANY where there is data", "", at("A RRSIG NSEC"), "nodata a.example. ANY", unproven},
		{"V-46 ANY at an alias", "", at("CNAME RRSIG NSEC"), "nodata a.example. ANY", unproven},
		{"V-69 compact", "", compact, "nodata a.example. MX", "Secure"},
		{"V-69 compact, ANY", "", compact, "nodata a.example. ANY", "Secure"},
		{"X-14 V-69 compact, another next name", "", []string{"a.example. NSEC b.a.example. RRSIG NSEC NXNAME"},
			"nodata a.example. MX", "Secure"},
		{"V-69 compact, next name out of zone", "", []string{"a.example. NSEC a.test. RRSIG NSEC NXNAME"},
			"nodata a.example. MX", "Bogus, EDE 6"},
		{"V-69 NXNAME beside the type", "", at("MX RRSIG NSEC NXNAME"), "nodata a.example. MX", unproven},
		{"V-69 NXNAME is no name error", "", compact,
			"nxdomain a.example.", unproven},
		{"V-69b black lies without NXNAME", "", []string{"a.example. NSEC \\000.a.example. RRSIG NSEC"},
			"nodata a.example. MX", "Secure"},
		{"V-50a delegation for its own type", "", at("NS RRSIG NSEC"), "nodata a.example. MX", unproven},
		{"V-50a delegation for DS", "", at("NS RRSIG NSEC"), "nodata a.example. DS", "Secure"},
		{"V-50a delegation with DS for DS", "", at("NS DS RRSIG NSEC"), "nodata a.example. DS", unproven},
		{"V-50a NS beside SOA is no delegation", "", at("NS SOA RRSIG NSEC"), "nodata a.example. MX", "Secure"},
		{"V-50a the apex is no delegation", "", []string{"example. NSEC c.example. NS SOA RRSIG NSEC"},
			"nodata example. TLSA", "Secure"},
		{"V-50c apex for its own DS", "", []string{"example. NSEC c.example. NS SOA RRSIG NSEC"},
			"nodata example. DS", unproven},
		{"V-55 the root for its own DS", ".", []string{". NSEC c. NS SOA RRSIG NSEC"}, "nodata . DS", "Secure"},
		{"V-48 empty non-terminal", "", ent, "nodata b.example. MX", "Secure"},
		{"V-48 not so if the next name is beside it", "", at("A RRSIG NSEC"), "nodata b.example. MX", unproven},
		{"V-48 empty non-terminal, ANY", "", ent,
			"nodata b.example. ANY", "Secure"},
		{"V-48, V-50a empty non-terminal below a delegation", "",
			[]string{"a.example. NSEC x.b.a.example. NS RRSIG NSEC"},
			"nodata b.a.example. MX", unproven},
	})
}

func TestNSECWildcardNodata(t *testing.T) {
	// w.example. exists below which only *.w and x.w stand.
	cover, wild := "a.w.example. NSEC x.w.example. A RRSIG NSEC", "*.w.example. NSEC a.w.example. MX RRSIG NSEC"
	unproven := "Bogus, EDE 12"
	runDenials(t, []denialCase{
		{"V-50 both", "", []string{cover, wild}, "nodata b.w.example. A", "Secure"},
		{"V-50 ANY", "", []string{cover, "*.w.example. NSEC a.w.example. RRSIG NSEC"}, "nodata b.w.example. ANY",
			"Secure"},
		{"V-50 ANY, data", "", []string{cover, wild}, "nodata b.w.example. ANY", unproven},
		{"V-50 the wildcard has the type", "", []string{cover, wild}, "nodata b.w.example. MX", unproven},
		{"V-50 the wildcard is an alias", "", []string{cover, "*.w.example. NSEC a.w.example. CNAME RRSIG NSEC"},
			"nodata b.w.example. A", unproven},
		{"V-50 no cover", "", []string{wild}, "nodata b.w.example. A", unproven},
		{"V-50 no wildcard", "", []string{cover}, "nodata b.w.example. A", unproven},
		{"V-50 wildcard too high", "", []string{cover, "*.example. NSEC a.example. MX RRSIG NSEC"},
			"nodata b.w.example. A", unproven},
		{"V-50 wildcard too low", "", []string{cover, "*.b.w.example. NSEC a.b.w.example. MX RRSIG NSEC"},
			"nodata b.w.example. A", unproven},
		{"V-50 below the name that has the wildcard's sibling", "",
			[]string{"a.w.example. NSEC x.b.w.example. A RRSIG NSEC", wild}, "nodata a.b.w.example. A", unproven},
		{"V-50 empty wildcard", "", []string{cover, "w.example. NSEC x.*.w.example. A RRSIG NSEC"},
			"nodata b.w.example. A", "Secure"},
		{"V-50 empty wildcard is no name error", "", []string{cover, "w.example. NSEC x.*.w.example. A RRSIG NSEC"},
			"nxdomain b.w.example.", unproven},
		{"V-50 at the root", ".", []string{"a. NSEC x. A RRSIG NSEC", "*. NSEC a. MX RRSIG NSEC"},
			"nodata b. A", "Secure"},
	})
}

func TestNSECNameError(t *testing.T) {
	apex, cover := "example. NSEC a.example. NS SOA RRSIG NSEC", "a.example. NSEC m.example. A RRSIG NSEC"
	last := "m.example. NSEC example. A RRSIG NSEC"
	unproven := "Bogus, EDE 12"
	runDenials(t, []denialCase{
		{"V-47 name and wildcard", "", []string{apex, cover}, "nxdomain b.example.", "Secure"},
		{"V-47 deep name", "", []string{apex, cover}, "nxdomain x.y.b.example.", "Secure"},
		{"V-47 one record for both", "", []string{"example. NSEC m.example. NS SOA RRSIG NSEC"}, "nxdomain b.example.",
			"Secure"},
		{"V-47 name not covered", "", []string{apex}, "nxdomain b.example.", unproven},
		{"V-47 wildcard not covered", "", []string{cover}, "nxdomain b.example.", unproven},
		{"V-47 wildcard exists", "", []string{"*.example. NSEC a.example. A RRSIG NSEC", cover}, "nxdomain b.example.",
			unproven},
		{"V-47 the name is the owner", "", []string{apex, cover}, "nxdomain a.example.", unproven},
		{"V-47 the name is the next", "", []string{apex, cover}, "nxdomain m.example.", unproven},
		{"V-47 wildcard of a deeper encloser not covered", "",
			[]string{apex, "a.b.example. NSEC m.b.example. A RRSIG NSEC"},
			"nxdomain c.b.example.", unproven},
		{"V-48 an empty non-terminal exists", "", []string{"example. NSEC x.b.example. NS SOA RRSIG NSEC"},
			"nxdomain b.example.", unproven},
		{"V-50d the last record wraps to the apex", "", []string{apex, last}, "nxdomain z.example.", "Secure"},
		{"V-50d the last record wraps elsewhere", "", []string{apex, "m.example. NSEC b.example. A RRSIG NSEC"},
			"nxdomain z.example.", unproven},
		{"X-13 V-50d next name out of zone", "", []string{apex, "m.example. NSEC z.test. A RRSIG NSEC"},
			"nxdomain z.example.", "Bogus, EDE 6"},
		{"V-50d next name by suffix only", "", []string{apex, "m.example. NSEC zexample. A RRSIG NSEC"},
			"nxdomain n.example.", "Bogus, EDE 6"},
		{"V-63 a chain of one", "", []string{"example. NSEC example. NS SOA RRSIG NSEC"},
			"nxdomain b.example.", "Secure"},
		{"V-63 a chain of one does not deny itself", "", []string{"example. NSEC example. NS SOA RRSIG NSEC"},
			"nxdomain example.", unproven},
		{"X-13 V-50a delegation above the name", "", []string{apex, "a.example. NSEC m.example. NS RRSIG NSEC"},
			"nxdomain b.a.example.", unproven},
		{"V-50a delegation beside the name", "", []string{apex, "a.example. NSEC m.example. NS RRSIG NSEC"},
			"nxdomain b.example.", "Secure"},
		{"V-50a SOA beside NS is the apex of the signer", "", []string{"example. NSEC example. NS SOA RRSIG NSEC"},
			"nxdomain b.a.example.", "Secure"},
		{"V-50b DNAME above the name", "", []string{apex, "a.example. NSEC m.example. DNAME RRSIG NSEC"},
			"nxdomain b.a.example.", unproven},
		{"V-50b DNAME beside the name", "", []string{apex, "a.example. NSEC m.example. DNAME RRSIG NSEC"},
			"nxdomain b.example.", "Secure"},
		{"V-50b the label only ends alike", "", []string{apex, "a.example. NSEC m.example. DNAME RRSIG NSEC"},
			"nxdomain ba.example.", "Secure"},
		{"V-27 mixed case", "",
			[]string{"EXAMPLE. NSEC A.example. NS SOA RRSIG NSEC", "A.Example. NSEC M.EXAMPLE. A RRSIG NSEC"},
			"nxdomain b.example.", "Secure"},
		{"V-31 escapes sort as octets", "", []string{apex, "a.example. NSEC \\200.example. A RRSIG NSEC"},
			"nxdomain z.example.", "Secure"},
	})
}

// V-50e: an NSEC that came by wildcard expansion speaks of the wildcard, not of the name that it came under.
func TestExpandedNSEC(t *testing.T) {
	expanded := setsOf(t, "example.", "b.w.example. NSEC x.w.example. MX RRSIG NSEC")[0]
	expanded.Sigs[0].Labels = 2
	for question, want := range map[string]string{
		"nodata b.w.example. A":    "Secure", // covered, and the wildcard lacks it
		"nodata b.w.example. MX":   "Bogus, EDE 12",
		"nodata *.w.example. A":    "Secure",
		"nodata a.w.example. A":    "Secure",
		"expansion b.w.example. 2": "Secure",
		"nods b.w.example.":        "Secure, no cut",
		"nxdomain b.w.example.":    "Bogus, EDE 12",
	} {
		if got, p := ask(denialCheck(), admitted("example.", expanded), question); got != want {
			t.Errorf("%s: %s (%v), want %s", question, got, p.cause, want)
		}
	}
	expanded.Sigs[0].Labels = 3
	if got, _ := ask(denialCheck(), admitted("example.", expanded),
		"expansion b.w.example. 2"); got != "Bogus, EDE 12" {
		t.Errorf("the same record with its own owner: %s", got)
	}
}

func TestNSECExpansion(t *testing.T) {
	cover := []string{"x.y.w.example. NSEC xx.example. MX RRSIG NSEC"}
	unproven := "Bogus, EDE 12"
	runDenials(t, []denialCase{
		{"V-49 the encloser is what Labels says", "", cover, "expansion a.z.w.example. 2", "Secure"},
		{"V-49 Labels too few", "", cover, "expansion a.z.w.example. 1", unproven},
		{"V-49 Labels too many", "", cover, "expansion a.z.w.example. 3", unproven},
		{"V-49 Labels of the name itself", "", cover, "expansion z.w.example. 3", unproven},
		{"V-49 the name exists", "", cover, "expansion x.y.w.example. 3", unproven},
		{"V-49 the name is an empty non-terminal", "", []string{"*.w.example. NSEC x.y.w.example. MX RRSIG NSEC"},
			"expansion y.w.example. 2", unproven},
		{"V-50a covered by a delegation above", "", []string{"y.w.example. NSEC z.w.example. NS RRSIG NSEC"},
			"expansion a.y.w.example. 2", unproven},
		{"V-49 from the root", ".", []string{"a. NSEC x. A RRSIG NSEC"}, "expansion b. 0", "Secure"},
	})
}

func TestNSECNoDS(t *testing.T) {
	at := func(types string) []string { return []string{"b.example. NSEC c.example. " + types} }
	apex := "example. NSEC a.example. NS SOA RRSIG NSEC"
	unproven := "Bogus, unproven, EDE 12"
	runDenials(t, []denialCase{
		{"V-10 NS, no DS, no SOA", "", at("NS RRSIG NSEC"), "nods b.example.", "Secure, insecure cut"},
		{"V-10 DS set", "", at("NS DS RRSIG NSEC"), "nods b.example.", unproven},
		{"V-50c SOA set: from the child", "", at("NS SOA RRSIG NSEC"), "nods b.example.", unproven},
		{"V-6 no NS", "", at("A RRSIG NSEC"), "nods b.example.", "Secure, no cut"},
		{"V-46 an alias answers with the alias", "", at("CNAME RRSIG NSEC"), "nods b.example.", unproven},
		{"V-10 no proof", "", []string{apex}, "nods b.example.", unproven},
		{"V-50a the record of a delegation above", "", at("NS RRSIG NSEC"), "nods a.b.example.", unproven},
		{"V-6 name error", "", []string{apex, "a.example. NSEC m.example. A RRSIG NSEC"}, "nods b.example.",
			"Secure, no cut below"},
		{"V-6 empty non-terminal", "", []string{"a.example. NSEC x.b.example. A RRSIG NSEC"}, "nods b.example.",
			"Secure, no cut"},
		{"V-6 compact denial", "", []string{"b.example. NSEC \\000.b.example. RRSIG NSEC NXNAME"}, "nods b.example.",
			"Secure, no cut"},
		{"V-55 wildcard without NS", "",
			[]string{"a.example. NSEC m.example. A RRSIG NSEC", "*.example. NSEC a.example. A RRSIG NSEC"},
			"nods b.example.", "Secure, no cut"},
		{"V-55 wildcard with NS", "",
			[]string{"a.example. NSEC m.example. A RRSIG NSEC", "*.example. NSEC a.example. NS RRSIG NSEC"},
			"nods b.example.", "Secure, insecure cut"},
		{"V-50a a wildcard with NS denies no other type", "",
			[]string{"a.example. NSEC m.example. A RRSIG NSEC", "*.example. NSEC a.example. NS RRSIG NSEC"},
			"nodata b.example. MX", "Bogus, EDE 12"},
	})
}
