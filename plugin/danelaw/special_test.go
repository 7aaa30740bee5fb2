package danelaw

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// TestSpecialNames: names that must not leave the host are answered at once, without AD (S-18, S-19, S-20).
func TestSpecialNames(t *testing.T) {
	p := between(t, honest)
	server := serve(t, open(t, config(t, p.addr)))
	const loopback6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa."
	for _, tt := range []struct {
		name   string
		qtype  uint16
		rcode  int
		answer string // type and data of the only record
	}{
		{"localhost.", dns.TypeA, dns.RcodeSuccess, "A\t127.0.0.1"},
		{"localhost.", dns.TypeAAAA, dns.RcodeSuccess, "AAAA\t::1"},
		{"localhost.", dns.TypeMX, dns.RcodeSuccess, ""},
		{"localhost.", dns.TypeTLSA, dns.RcodeSuccess, ""},
		{"localhost.", dns.TypeNS, dns.RcodeSuccess, ""},
		{"LocalHost.", dns.TypeA, dns.RcodeSuccess, "A\t127.0.0.1"},
		{"mx.localhost.", dns.TypeA, dns.RcodeSuccess, "A\t127.0.0.1"},
		{"_25._tcp.localhost.", dns.TypeTLSA, dns.RcodeSuccess, ""},
		{"1.0.0.127.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, "PTR\tlocalhost."},
		{"1.0.0.127.in-addr.arpa.", dns.TypeMX, dns.RcodeSuccess, ""},
		{"0.0.127.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, ""}, // an empty non-terminal
		{"2.0.0.127.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{loopback6, dns.TypePTR, dns.RcodeSuccess, "PTR\tlocalhost."},
		{"x." + loopback6, dns.TypePTR, dns.RcodeNameError, ""},

		{"invalid.", dns.TypeA, dns.RcodeNameError, ""},
		{"mail.invalid.", dns.TypeMX, dns.RcodeNameError, ""},
		{"test.", dns.TypeSOA, dns.RcodeNameError, ""},
		{"_25._tcp.mx.test.", dns.TypeTLSA, dns.RcodeNameError, ""},
		{"expyuzz4wqqyqhjn.onion.", dns.TypeA, dns.RcodeNameError, ""},
		{"printer.local.", dns.TypeAAAA, dns.RcodeNameError, ""},
		{"x.alt.", dns.TypeA, dns.RcodeNameError, ""},

		{"home.arpa.", dns.TypeSOA, dns.RcodeSuccess, "SOA\thome.arpa. nobody.invalid. 1 3600 1200 604800 10800"},
		{"home.arpa.", dns.TypeNS, dns.RcodeSuccess, "NS\thome.arpa."},
		{"home.arpa.", dns.TypeMX, dns.RcodeSuccess, ""},
		{"nas.home.arpa.", dns.TypeA, dns.RcodeNameError, ""},
		{"nas.home.arpa.", dns.TypeDS, dns.RcodeNameError, ""},
		{"x.service.arpa.", dns.TypeSRV, dns.RcodeNameError, ""},
		{"resolver.arpa.", dns.TypeNS, dns.RcodeSuccess, ""},
		{"_dns.resolver.arpa.", dns.TypeSVCB, dns.RcodeSuccess, ""},
		{"4.3.2.10.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"10.in-addr.arpa.", dns.TypeSOA, dns.RcodeSuccess,
			"SOA\t10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 10800"},
		{"1.1.16.172.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1.1.31.172.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1.1.168.192.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"254.169.254.169.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1.1.64.100.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"1.0.8.e.f.ip6.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
	} {
		r := ask(t, server, tt.name, tt.qtype, withDO, withAD)
		name := tt.name + " " + dns.Type(tt.qtype).String()
		if r.Rcode != tt.rcode || r.AuthenticatedData || !r.RecursionAvailable || len(edes(r)) > 0 {
			t.Errorf("%s: %s, want %s", name, describes(r), dns.RcodeToString[tt.rcode])
		}
		if tt.answer != "" && (len(r.Answer) != 1 || !strings.HasSuffix(r.Answer[0].String(), "\tIN\t"+tt.answer)) {
			t.Errorf("%s: %v, want %s", name, r.Answer, tt.answer)
		}
		if tt.answer == "" && (len(r.Answer) > 0 || len(r.Ns) != 1 || r.Ns[0].Header().Rrtype != dns.TypeSOA) {
			t.Errorf("%s: %v and %v, want a SOA", name, r.Answer, r.Ns)
		}
		for _, rr := range slices.Concat(r.Answer, r.Ns) {
			if rr.Header().Ttl > 10800 {
				t.Errorf("%s: TTL of %v", name, rr)
			}
		}
		if rd0 := ask(t, server, tt.name, tt.qtype, withoutRD); rd0.Rcode != tt.rcode {
			t.Errorf("%s: RD=0: %s", name, describes(rd0))
		}
	}
	if asked, _ := p.questions(); len(asked) > 0 {
		t.Errorf("asked upstream: %v", asked[0].Question)
	}
}

// TestNotSpecial: names beside the special ones are ordinary, and so is DS of home.arpa and of reverse zones, whose
// insecurity the parent proves (S-19).
func TestNotSpecial(t *testing.T) {
	server := server(t)
	for name, qtype := range map[string]uint16{
		"home.arpa.": dns.TypeDS, "10.in-addr.arpa.": dns.TypeDS, "xlocalhost.": dns.TypeA,
		"localhost.dane.":      dns.TypeA,
		"32.172.in-addr.arpa.": dns.TypePTR, "15.172.in-addr.arpa.": dns.TypePTR, "63.100.in-addr.arpa.": dns.TypePTR,
		"128.100.in-addr.arpa.": dns.TypePTR, "arpa.": dns.TypeDS, ".": dns.TypeSOA,
	} {
		r := ask(t, server, name, qtype, withDO)
		if !r.AuthenticatedData || r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
			t.Errorf("%s %s: %s, want an answer of the lab", name, dns.Type(qtype), describes(r))
		}
	}
}

// site answers for internal names as plugins below danelaw do: with AD, which is worth nothing.
type site struct {
	mu    sync.Mutex
	asked []string
}

// questions returns what was asked, and forgets it.
func (s *site) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *site) Name() string { return "site" }

func (s *site) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	s.mu.Lock()
	s.asked = append(s.asked, describe(r.Question[0]))
	s.mu.Unlock()
	m := new(dns.Msg).SetReply(r)
	m.AuthenticatedData = true
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
		A: []byte{192, 0, 2, 7}}}
	if strings.HasPrefix(r.Question[0].Name, "raw.") {
		wire, err := m.Pack()
		if err != nil {
			return dns.RcodeServerFailure, err
		}
		_, err = w.Write(wire)
		return dns.RcodeSuccess, err
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// TestPrivate: private zones go to the plugins below as they are, special or not, and come back without AD (S-21,
// S-18).
func TestPrivate(t *testing.T) {
	below := &site{}
	c := config(t)
	c.Next = below
	c.Private = []string{"corp.example.", "cluster.local.", "10.in-addr.arpa.", "sub.rsasha256.dane."}
	h := open(t, c)
	server := serve(t, h)
	for _, name := range []string{
		"corp.example.", "a.b.corp.example.", "raw.corp.example.", "x.cluster.local.", "1.0.0.10.in-addr.arpa.",
		"x.SUB.rsasha256.dane.",
	} {
		for _, changes := range [][]change{nil, {withDO, withAD}, {withCD}, {withoutRD}} {
			r := ask(t, server, name, dns.TypeA, changes...)
			if asked := below.questions(); len(r.Answer) != 1 || r.AuthenticatedData || r.Rcode != dns.RcodeSuccess ||
				len(asked) != 1 {
				t.Errorf("%s: %s, %d records, asked %v", name, describes(r), len(r.Answer), asked)
			}
		}
	}
	for name, rcode := range map[string]int{
		"xcorp.example.": dns.RcodeNameError, "local.": dns.RcodeNameError, "example.": dns.RcodeNameError,
		"11.in-addr.arpa.": dns.RcodeNameError,
	} {
		r := ask(t, server, name, dns.TypeA, withDO)
		if asked := below.questions(); r.Rcode != rcode || len(asked) > 0 {
			t.Errorf("%s: %s, asked below: %v", name, describes(r), asked)
		}
	}
	if r := ask(t, server, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("the parent of a private zone: %s", describes(r))
	}
	if n := metric(t, "responses_total", "block", c.Block, "verdict", "private"); n != 24 {
		t.Errorf("%v private replies counted, want 24", n)
	}
}

// TestAliasToPrivate: where an alias leads into a private zone, the plugins below are asked for its target, and the
// answer gets no AD (V-65, S-21).
func TestAliasToPrivate(t *testing.T) {
	below := &site{}
	c := config(t)
	c.Next, c.Private = below, []string{"mx1.good.dane."}
	r := ask(t, serve(t, open(t, c)), "mx.alias-signed.dane.", dns.TypeA, withDO)
	if r.Rcode != dns.RcodeSuccess || r.AuthenticatedData || !slices.Contains(below.questions(), "mx1.good.dane. A") {
		t.Errorf("%s", describes(r))
	}
	for _, rr := range r.Answer {
		if a, ok := rr.(*dns.A); ok && a.A.String() != "192.0.2.7" {
			t.Errorf("%v is public", a)
		}
	}
}

// TestPrivateFails: the server writes the reply if the plugins below only return an RCODE, and a panic of theirs is
// caught.
func TestPrivateFails(t *testing.T) {
	c := config(t)
	c.Private = []string{"corp.example."}
	c.Next = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
		return dns.RcodeServerFailure, nil
	})
	w := from("127.0.0.1:5300")
	if rcode, _ := open(t, c).ServeDNS(context.Background(), w,
		newMsg("corp.example.", dns.TypeA)); rcode != dns.RcodeServerFailure || w.writes > 0 {
		t.Errorf("RCODE %d, %d writes", rcode, w.writes)
	}
	c.Next = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { panic("below") })
	if r := from("127.0.0.1:5300").ask(t, open(t, c), "corp.example.", dns.TypeA,
		withDO); r.Rcode != dns.RcodeServerFailure || !slices.Equal(edes(r), []uint16{0}) {
		t.Errorf("panic below: %s", describes(r))
	}
}

// TestConfiguredIsNotSpecial: an upstream or a trust anchor for a zone wins over S-18; an upstream for the root does
// not.
func TestConfiguredIsNotSpecial(t *testing.T) {
	c := config(t)
	c.Routes = append(c.Routes, upstream.Route{From: "Home.Arpa.", To: c.Routes[0].To},
		upstream.Route{From: "test.", To: c.Routes[0].To})
	c.Anchors["corp.local."] = lab().DS()
	h := open(t, c)
	for name, want := range map[string]bool{
		"nas.home.arpa.": false, "home.arpa.": false, "x.test.": false, "corp.local.": false, "x.corp.local.": false,
		"local.": true, "x.local.": true, "x.service.arpa.": true, "localhost.": true,
	} {
		if _, special := h.names.special(dns.Question{Name: name, Qtype: dns.TypeA,
			Qclass: dns.ClassINET}); special != want {
			t.Errorf("%s is special: %v, want %v", name, special, want)
		}
	}
	if r := ask(t, serve(t, h), "x.test.", dns.TypeA, withDO); !r.AuthenticatedData || r.Rcode != dns.RcodeNameError {
		t.Errorf("x.test.: %s, want what the root says", describes(r))
	}
}

// TestZoneSet: the deepest zone wins, by whole labels.
func TestZoneSet(t *testing.T) {
	z := zoneSet{}
	if z.cover("example.") {
		t.Error("an empty set covers a name")
	}
	z.add("example.", "a.example.")
	for name, want := range map[string]string{
		"example.": "example.", "x.example.": "example.", "a.example.": "a.example.", "b.a.example.": "a.example.",
		"aexample.": "", ".": "",
	} {
		if got, ok := z.closest(name); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q %v, want %q", name, got, ok, want)
		}
	}
	z.add(".")
	if got, ok := z.closest("org."); !ok || got != "." {
		t.Errorf("the root does not cover org.: %q %v", got, ok)
	}
}

// TestReverseZones: those of RFC 6303 and RFC 7793 are all there.
func TestReverseZones(t *testing.T) {
	zones := reverseZones()
	want := []string{"10.in-addr.arpa.", "168.192.in-addr.arpa.", "127.in-addr.arpa.", "254.169.in-addr.arpa.",
		"d.f.ip6.arpa.", "8.e.f.ip6.arpa."}
	for i := range 16 {
		want = append(want, fmt.Sprintf("%d.172.in-addr.arpa.", 16+i))
	}
	for i := range 64 {
		want = append(want, fmt.Sprintf("%d.100.in-addr.arpa.", 64+i))
	}
	for _, zone := range want {
		if !slices.Contains(zones, zone) {
			t.Errorf("%s is missing", zone)
		}
	}
	for _, zone := range zones {
		if _, ok := dns.IsDomainName(zone); !ok || dns.CanonicalName(zone) != zone {
			t.Errorf("%q is no canonical name", zone)
		}
	}
}
