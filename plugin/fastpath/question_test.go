package fastpath

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestQuestion: what is a query of the usual kind, and what it says.
func TestQuestion(t *testing.T) {
	from := client{addr: netip.MustParseAddrPort("[fe80::1%eth0]:53"), udp: true}
	usual := func(*dns.Msg) {}
	null := &dns.NULL{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNULL}}
	for name, row := range map[string]struct {
		change func(*dns.Msg)
		want   string // "": it is none
	}{
		"plain":      {usual, "example.org. MX"},
		"upper case": {named("_25._TCP.eXample-1.ORG."), "_25._tcp.example-1.org. MX"},
		"root":       {named("."), ". MX"},
		"AD, CD": {func(m *dns.Msg) { m.AuthenticatedData, m.CheckingDisabled = true, true },
			"example.org. MX AD CD"},
		"EDNS":          {func(m *dns.Msg) { m.SetEdns0(1400, false) }, "example.org. MX EDNS"},
		"DO":            {func(m *dns.Msg) { m.SetEdns0(1400, true) }, "example.org. MX EDNS DO"},
		"a cookie":      {withCookie("0011223344556677"), "example.org. MX EDNS"},
		"half of one":   {withCookie("00112233"), ""},
		"RD=0":          {func(m *dns.Msg) { m.RecursionDesired = false }, ""},
		"NOTIFY":        {func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, ""},
		"another class": {func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, ""},
		"a dot in it":   {named(`a\.b.example.org.`), ""},
		"a space":       {named(`a\032b.example.org.`), ""},
		"EDNS version":  {func(m *dns.Msg) { m.SetEdns0(1400, false); m.IsEdns0().SetVersion(1) }, ""},
		"a record":      {func(m *dns.Msg) { m.Answer = []dns.RR{null} }, ""},
		"another one":   {func(m *dns.Msg) { m.Extra = []dns.RR{null} }, ""},
		"long": {func(m *dns.Msg) {
			m.SetEdns0(1400, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, slimQuery)}}
		}, ""},
	} {
		m := new(dns.Msg).SetQuestion("example.org.", dns.TypeMX)
		row.change(m)
		message, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		q := new(Question)
		got := ""
		if q.read(message, scan(message), from) {
			got = strings.Join(said(q), " ")
		}
		if got != row.want || got != "" && (q.Client.Zone() != "" || !q.UDP || q.Octets() != len(message)) {
			t.Errorf("%s: %q of %v, want %q", name, got, q.Client, row.want)
		}
	}
}

func named(name string) func(*dns.Msg) {
	return func(m *dns.Msg) { m.Question[0].Name = name }
}

func withCookie(text string) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(1400, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: text}}
	}
}

func said(q *Question) []string {
	all := []string{q.Name, dns.Type(q.Type).String()}
	for _, flag := range []struct {
		set  bool
		name string
	}{{q.AuthenticData, "AD"}, {q.CheckingDisabled, "CD"}, {q.EDNS && q.Size == 1400, "EDNS"}, {q.DNSSECOK, "DO"}} {
		if flag.set {
			all = append(all, flag.name)
		}
	}
	return all
}
