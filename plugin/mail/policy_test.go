package mail

import (
	"errors"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// txt makes an answer of TXT records with one string each.
func txt(texts ...string) (answer []dns.RR) {
	for _, text := range texts {
		answer = append(answer, &dns.TXT{Hdr: dns.RR_Header{Name: "t.", Rrtype: dns.TypeTXT}, Txt: []string{text}})
	}
	return answer
}

// TestParseSTS: RFC 8461 section 3.1.
func TestParseSTS(t *testing.T) {
	for _, tt := range []struct {
		name, id, failure string
		answer            []dns.RR
	}{
		{"as the RFC has it", "20160831085700Z", "", txt("v=STSv1; id=20160831085700Z;")},
		{"without the last semicolon", "1", "", txt("v=STSv1;id=1")},
		{"white space around semicolons", "1", "", txt("v=STSv1 ;\tid=1 ; ")},
		{"an extension", "1", "", txt("v=STSv1; a.b_c-d=x:y; id=1")},
		{"beside others", "1", "", txt("v=spf1 -all", "v=STSv1; id=1", "v=STSv2; id=2", "v=STSv1x; id=3")},
		{"in two strings", "12", "", []dns.RR{&dns.TXT{Txt: []string{"v=STSv1; id=1", "2"}}}},
		{"behind an alias", "1", "", append([]dns.RR{&dns.CNAME{Target: "x."}}, txt("v=STSv1; id=1")...)},
		{"none", "", "there is none", nil},
		{"another version", "", "there is none", txt("v=STSv2; id=1")},
		{"another case", "", "there is none", txt("V=STSv1; id=1")},
		{"the version alone", "", "there is none", txt("v=STSv1")},
		{"no id", "", "no id", txt("v=STSv1;")},
		{"no id but an extension", "", "no id", txt("v=STSv1; x=1")},
		{"two", "", "2 records", txt("v=STSv1; id=1", "v=STSv1; id=2")},
		{"two ids", "", "more than one id", txt("v=STSv1; id=1; id=2")},
		{"an id too long", "", "1 to 32 letters", txt("v=STSv1; id=" + strings.Repeat("a", 33))},
		{"an id with a hyphen", "", "1 to 32 letters", txt("v=STSv1; id=2026-01-01")},
		{"an empty id", "", "no proper value", txt("v=STSv1; id=")},
		{"an empty field", "", `"" has no equals`, txt("v=STSv1;; id=1")},
		{"a field without =", "", `"id" has no equals`, txt("v=STSv1; id")},
		{"a name with a space", "", "no proper name", txt("v=STSv1; i d=1")},
		{"a value with a control character", "", "no proper value", txt(`v=STSv1; id=1\007`)},
		{"a value in UTF-8", "", "no proper value", txt(`v=STSv1; id=\195\164`)},
	} {
		got, err := ParseSTS(tt.answer)
		switch {
		case tt.failure == "" && (err != nil || got != tt.id):
			t.Errorf("%s: %v, %v", tt.name, got, err)
		case tt.failure != "" && (err == nil || !strings.Contains(err.Error(), tt.failure)):
			t.Errorf("%s: %v, %v, want %q", tt.name, got, err, tt.failure)
		case tt.failure == ErrNoPolicy.Error() && !errors.Is(err, ErrNoPolicy):
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestParseTLSRPT: RFC 8460 section 3.
func TestParseTLSRPT(t *testing.T) {
	for _, tt := range []struct{ name, text, want, failure string }{
		{"mail", "v=TLSRPTv1;rua=mailto:reports@example.com", "mailto:reports@example.com", ""},
		{"web", "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", "https://reporting.example.com/v1/tlsrpt",
			""},
		{"both", "v=TLSRPTv1; rua=mailto:r@example.com , https://example.com/r;",
			"mailto:r@example.com https://example.com/r", ""},
		{"escapes", `v=TLSRPTv1\; rua=mailto:a\064example.com\;`, "mailto:a@example.com", ""},
		{"percent", "v=TLSRPTv1; rua=mailto:a%2Bb@example.com", "mailto:a%2Bb@example.com", ""},
		{"none", "v=spf1 -all", "", "there is none"},
		{"no rua", "v=TLSRPTv1; ruf=mailto:a@example.com", "", "no rua"},
		{"two", "v=TLSRPTv1; rua=mailto:a@example.com; rua=mailto:b@example.com", "", "more than one rua"},
		{"an address without scheme", "v=TLSRPTv1; rua=a@example.com", "", "neither mailto nor https"},
		{"http", "v=TLSRPTv1; rua=http://example.com/", "", "neither mailto nor https"},
		{"mail without domain", "v=TLSRPTv1; rua=mailto:reports", "", "no mailbox"},
		{"mail with a name", "v=TLSRPTv1; rua=mailto:%3Ca@example.com%3E", "", "no mailbox"},
		{"web without host", "v=TLSRPTv1; rua=https:reports", "", "no host"},
		{"no URI", "v=TLSRPTv1; rua=https://[::1", "", "no URI"},
		{"an empty one", "v=TLSRPTv1; rua=mailto:a@example.com,", "", "neither"},
		{"empty", "v=TLSRPTv1; rua=", "", "neither"},
	} {
		got, err := ParseTLSRPT(txt(tt.text))
		switch {
		case tt.failure == "" && (err != nil || strings.Join(got, " ") != tt.want):
			t.Errorf("%s: %v, %v", tt.name, got, err)
		case tt.failure != "" && (err == nil || !strings.Contains(err.Error(), tt.failure)):
			t.Errorf("%s: %v, %v, want %q", tt.name, got, err, tt.failure)
		}
	}
	if _, err := ParseTLSRPT(txt("v=TLSRPTv1; rua=mailto:a@b.example",
		"v=TLSRPTv1; rua=mailto:a@b.example")); err == nil {
		t.Error("of two records one counts")
	}
}

// FuzzPolicies: no text makes the parsers panic, and what they accept is in the form of the RFCs.
func FuzzPolicies(f *testing.F) {
	for _, seed := range []string{"v=STSv1; id=1;", "v=TLSRPTv1;rua=mailto:a@b.example,https://b.example/",
		`v=STSv1\059\`, "v=STSv1;;="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := ParseSTS(txt(text)); err == nil && !stsID.MatchString(id) {
			t.Errorf("%q", id)
		}
		if rua, err := ParseTLSRPT(txt(text)); err == nil && len(rua) == 0 {
			t.Error("accepted without an address")
		}
	})
}
