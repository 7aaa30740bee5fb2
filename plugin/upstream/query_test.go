package upstream

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// A query is packed octet by octet as the DNS library packs it, whatever its name, flags and options.
func TestQueryAsPacked(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 62)+".", 4)
	for _, name := range []string{".", "example.com.", "_25._tcp.MX.example.com.", `a\.b\000\255.example.`, long} {
		for _, options := range [][]dns.EDNS0{
			nil, {&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}},
			{&dns.EDNS0_PADDING{Padding: make([]byte, 77)}},
		} {
			for _, cd := range []bool{false, true} {
				q := query{cd: cd, size: 1232}
				q.Question = dns.Question{Name: name, Qtype: dns.TypeTLSA, Qclass: dns.ClassCHAOS}
				want, err := q.message(0xABCD, options...).Pack()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := q.pack(0xABCD, options...); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %x %v, want %x", name, got, err, want)
				}
			}
		}
	}
	for _, name := range []string{"", "a", "a..b.", strings.Repeat("a", 64) + ".", `\`, "a." + long} {
		q := query{Question: dns.Question{Name: name, Qtype: dns.TypeA, Qclass: dns.ClassINET}}
		_, want := q.message(1).Pack()
		if got, err := q.pack(1); (err == nil) != (want == nil) {
			t.Errorf("%q: %x %v, want %v", name, got, err, want)
		}
	}
}
