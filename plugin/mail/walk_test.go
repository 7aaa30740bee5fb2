package mail

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// TestWalk: what is asked for, and what is taken from it (D-2..D-4). A line of a world is what is asked for, its
// status, RCODE and records.
func TestWalk(t *testing.T) {
	const mx = "d. MX|Secure|NOERROR|d. MX 10 h.\n"
	for world, tt := range map[string]struct {
		world string
		asked string
		check func(d *Domain) bool
	}{
		"MX fails": {"d. MX|Bogus|SERVFAIL|", "d. MX",
			func(d *Domain) bool { return len(d.Hosts) == 0 && d.MX.Status == dnssec.Bogus }},
		"no such domain": {"d. MX|Secure|NXDOMAIN|", "d. MX",
			func(d *Domain) bool { return d.NameError && len(d.Hosts) == 0 }},
		"null MX": {"d. MX|Secure|NOERROR|d. MX 0 .", "d. MX",
			func(d *Domain) bool { return d.Null && len(d.Hosts) == 0 }},
		"no MX": {"d. MX|Secure|NOERROR|\nd. A|Secure|NOERROR|d. A 192.0.2.1\nd. AAAA|Secure|NOERROR|\n_25._tcp.d. " +
			"TLSA|Secure|NXDOMAIN|", "_25._tcp.d. TLSA, d. A, d. AAAA, d. MX", func(d *Domain) bool {
			return d.Hosts[0].Name == "d."
		}},
		"secure": {mx + "h. A|Secure|NOERROR|h. A 192.0.2.1\nh. AAAA|Secure|NOERROR|\n_25._tcp.h. " +
			"TLSA|Secure|NOERROR|_25._tcp.h. TLSA 3 1 1 00", "_25._tcp.h. TLSA, d. MX, h. A, h. AAAA",
			func(d *Domain) bool {
				return len(d.Hosts[0].TLSA[0].Records) == 1 && d.Hosts[0].Found() != nil
			}},
		"insecure host": {mx + "h. A|Insecure|NOERROR|h. A 192.0.2.1\nh. AAAA|Insecure|NOERROR|",
			"d. MX, h. A, h. AAAA", func(d *Domain) bool { return len(d.Hosts[0].TLSA) == 0 }},
		"address fails": {mx + "h. A|Bogus|SERVFAIL|\nh. AAAA|Secure|NOERROR|\nh. CNAME|Secure|NOERROR|",
			"d. MX, h. A, h. AAAA, h. CNAME",
			func(d *Domain) bool { return d.Hosts[0].Expanded == "h." && len(d.Hosts[0].TLSA) == 0 }},
		"alias": {mx + "h. A|Secure|NOERROR|h. CNAME e.;e. A 192.0.2.1\nh. AAAA|Secure|NOERROR|h. CNAME " +
			"e.\n_25._tcp.e. TLSA|Secure|NXDOMAIN|\n_25._tcp.h. TLSA|Secure|NOERROR|_25._tcp.h. TLSA 3 1 1 00",
			"_25._tcp.e. TLSA, _25._tcp.h. TLSA, d. MX, h. A, h. AAAA", func(d *Domain) bool {
				return d.Hosts[0].Expanded == "e." && d.Hosts[0].Found().Base == "h."
			}},
		"alias to unsigned": {mx + "h. A|Insecure|NOERROR|h. CNAME e.;e. A 192.0.2.1\nh. AAAA|Insecure|NOERROR|h. " +
			"CNAME e.\nh. CNAME|Secure|NOERROR|h. CNAME e.\n_25._tcp.h. TLSA|Secure|NXDOMAIN|",
			"_25._tcp.h. TLSA, d. MX, h. A, h. AAAA, h. CNAME", func(d *Domain) bool {
				return d.Hosts[0].First == dnssec.Secure && d.Hosts[0].Expanded == "e."
			}},
		"alias whose end fails": {mx + "h. A|Bogus|SERVFAIL|\nh. AAAA|Bogus|SERVFAIL|\nh. CNAME|Secure|NOERROR|h. " +
			"CNAME e.", "d. MX, h. A, h. AAAA, h. CNAME", func(d *Domain) bool {
			return d.Hosts[0].Expanded == "e." && len(d.Hosts[0].TLSA) == 0
		}},
	} {
		var mu sync.Mutex
		var asked []string
		d := Walk("d.", Port, func(name string, qtype uint16) Reply {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, name+" "+dns.TypeToString[qtype])
			for line := range strings.Lines(tt.world) {
				if f := strings.Split(strings.TrimSpace(line), "|"); f[0] == asked[len(asked)-1] {
					answer := rrs(t, strings.ReplaceAll(f[3], ";", "\n"))
					data := slices.ContainsFunc(answer, func(rr dns.RR) bool { return rr.Header().Rrtype == qtype })
					return Reply{Lookup{name, qtype, statuses[f[1]], data}, dns.StringToRcode[f[2]], answer}
				}
			}
			t.Errorf("%s: asked for %s %s", world, name, dns.TypeToString[qtype])
			return Reply{}
		})
		slices.Sort(asked)
		if got := strings.Join(slices.Compact(asked), ", "); got != tt.asked || !tt.check(d) {
			t.Errorf("%s: asked for %s, want %s; %+v", world, got, tt.asked, d)
		}
	}
}

var statuses = map[string]dnssec.Status{
	"Secure": dnssec.Secure, "Insecure": dnssec.Insecure, "Bogus": dnssec.Bogus,
}

// TestShortTLSA: a TLSA record that is too short to be one, which comes as octets, is not passed over but told as
// dangerous.
func TestShortTLSA(t *testing.T) {
	for octets, want := range map[string]string{"": "it has 0 of the 4", "03": "it has 1 of the 4",
		"0301": "it has 2 of the 4", "030101": "its data has 0 octets"} {
		h := dns.RR_Header{Name: "_25._tcp.h.", Rrtype: dns.TypeTLSA, Class: dns.ClassINET,
			Rdlength: uint16(len(octets) / 2)}
		got := askTLSA("h.", Port, func(name string, qtype uint16) Reply {
			return Reply{Lookup{name, qtype, dnssec.Secure, true}, dns.RcodeSuccess,
				[]dns.RR{&dns.RFC3597{Hdr: h, Rdata: octets}}}
		})
		usable, unusable := Usable(got.Records)
		if len(usable) != 0 || len(unusable) != 1 || !strings.Contains(unusable[0].Why, want) ||
			!strings.Contains(unusable[0].Why, "take it away") || Crashes(got.Records[0]) != (octets == "030101") {
			t.Errorf("%q: %v, %v", octets, usable, unusable)
		}
	}
}
