package danelaw

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

const (
	secureMX   = "rsasha256.dane."
	insecureMX = "unsigned.dane."
	bogusMX    = "expired.dane."
	manyTLSA   = "_25._tcp.mx.large-tlsa.dane."
)

// TestUpstreamBits: every question upstream has RD, DO and CD, but the last try of V-14, which goes over TCP with CD=0
// (V-73). AD of upstream counts for nothing.
func TestUpstreamBits(t *testing.T) {
	p := between(t, func(_ string, _ int, _, r *dns.Msg) *dns.Msg {
		r.AuthenticatedData = true
		return r
	})
	server := serve(t, open(t, config(t, p.addr)))
	for _, name := range []string{secureMX, insecureMX} {
		r := ask(t, server, name, dns.TypeMX, withDO)
		if r.Rcode != dns.RcodeSuccess || r.AuthenticatedData != (name == secureMX) {
			t.Errorf("%s: %s", name, describes(r))
		}
	}
	asked, _ := p.questions()
	for _, q := range asked {
		if opt := q.IsEdns0(); !q.RecursionDesired || !q.CheckingDisabled || opt == nil || !opt.Do() ||
			opt.UDPSize() != 1232 {
			t.Errorf("asked upstream:\n%v", q)
		}
	}
	if r := ask(t, server, bogusMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("%s: %s", bogusMX, describes(r))
	}
	asked, network := p.questions()
	lasts := 0
	for i, q := range asked {
		if !q.CheckingDisabled {
			lasts++
			if network[i] != "tcp" {
				t.Errorf("CD=0 over %s: %v", network[i], q.Question)
			}
		}
	}
	if lasts == 0 {
		t.Error("no last try with CD=0")
	}
}

// TestAD: who asks for it, and may have it, gets AD on what is Secure (V-74, V-78), and DO and CD come back as they
// were sent (V-75, V-76, RFC 3225 section 3).
func TestAD(t *testing.T) {
	server := server(t)
	for _, tt := range []struct {
		name    string
		changes []change
		ad      bool
	}{
		{secureMX, nil, false},
		{secureMX, []change{withEDNS}, false},
		{secureMX, []change{withDO}, true},
		{secureMX, []change{withAD}, true},
		{secureMX, []change{withEDNS, withAD}, true},
		{secureMX, []change{withDO, withAD}, true},
		{secureMX, []change{withDO, withCD}, true}, // V-76: validated all the same
		{insecureMX, []change{withDO, withAD}, false},
		{bogusMX, []change{withDO, withAD}, false},
		{bogusMX, []change{withDO, withAD, withCD}, false},
		{"nothing." + secureMX, []change{withDO}, true},
		{"localhost.", []change{withDO, withAD}, false}, // V-77
	} {
		for _, network := range []string{"udp", "tcp"} {
			q := newMsg(tt.name, dns.TypeMX, tt.changes...)
			r := exchange(t, network, server, q)
			name := fmt.Sprintf("%s over %s, DO=%v AD=%v CD=%v", tt.name, network, q.IsEdns0() != nil &&
				q.IsEdns0().Do(),
				q.AuthenticatedData, q.CheckingDisabled)
			if r.AuthenticatedData != tt.ad {
				t.Errorf("%s: %s", name, describes(r))
			}
			if r.CheckingDisabled != q.CheckingDisabled || !r.RecursionAvailable || !r.RecursionDesired ||
				r.Authoritative || r.Id != q.Id {
				t.Errorf("%s: header %v", name, r.MsgHdr)
			}
			qopt, ropt := q.IsEdns0(), r.IsEdns0()
			if (qopt == nil) != (ropt == nil) { // S-2
				t.Errorf("%s: OPT is %v", name, ropt)
			}
			if qopt != nil && (ropt.Do() != qopt.Do() || ropt.Version() != 0) {
				t.Errorf("%s: OPT is %v", name, ropt)
			}
		}
	}
}

// TestADClients: AD goes to those in ad_clients alone, judged by the address of the transport (V-78); all others get
// the same without. Who is not in allow_clients gets nothing (S-23).
func TestADClients(t *testing.T) {
	c := config(t)
	c.AllowClients = networks("127.0.0.0/8", "::1/128", "192.0.2.0/24", "2001:db8::/32", "fe80::/10")
	c.ADClients = networks("127.0.0.1/32", "192.0.2.128/25", "2001:db8:1::/48", "fe80::1/128")
	h := open(t, c)
	for addr, want := range map[string]string{
		"127.0.0.1:5300": "AD", "127.0.0.2:5300": "answer", "192.0.2.129:53": "AD", "192.0.2.1:53": "answer",
		"192.0.3.1:53": "REFUSED",
		"[::1]:5300":   "answer", "[2001:db8:1::9]:53": "AD", "[2001:db8::9]:53": "answer",
		"[2001:db9::9]:53":        "REFUSED",
		"[::ffff:127.0.0.1]:5300": "AD", "[::ffff:192.0.2.1]:53": "answer", "[fe80::1%eth0]:53": "AD",
		"[fe80::2%eth0]:53": "answer",
	} {
		for _, w := range []*client{from(addr), fromTCP(addr)} {
			r := w.ask(t, h, secureMX, dns.TypeMX, withDO, withAD)
			got := "answer"
			switch {
			case r.Rcode == dns.RcodeRefused && len(r.Answer) == 0:
				got = "REFUSED"
			case r.AuthenticatedData:
				got = "AD"
			}
			if got != want {
				t.Errorf("%s gets %s (%s), want %s", addr, got, describes(r), want)
			}
			if want == "REFUSED" && !slices.Equal(edes(r), []uint16{dns.ExtendedErrorCodeProhibited}) {
				t.Errorf("%s: %s, want EDE 18", addr, describes(r))
			}
		}
	}
}

// TestUnknownTransport: a client whose address cannot be read is in no network.
func TestUnknownTransport(t *testing.T) {
	h := open(t, config(t))
	for _, addr := range []net.Addr{nil, &net.UnixAddr{Name: "@", Net: "unixgram"}, pipe("")} {
		if r := (&client{addr: addr}).ask(t, h, secureMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeRefused {
			t.Errorf("%v: %s", addr, describes(r))
		}
	}
	wrapped := &client{addr: pipe("127.0.0.1:5300")} // as of PROXY protocol
	if r := wrapped.ask(t, h, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("wrapped address: %s", describes(r))
	}
}

// pipe is an address of another kind.
type pipe string

func (pipe) Network() string  { return "pipe" }
func (p pipe) String() string { return string(p) }

// TestStripped: without DO there are no signatures and proofs in the reply, unless they were asked for (V-75).
func TestStripped(t *testing.T) {
	server := server(t)
	for _, tt := range []struct {
		name       string
		qtype      uint16
		answer, ns []string
		changes    []change
	}{
		{secureMX, dns.TypeMX, []string{"MX", "RRSIG"}, nil, []change{withDO}},
		{secureMX, dns.TypeMX, []string{"MX"}, nil, []change{withAD}},
		{"nothing." + secureMX, dns.TypeMX, nil, []string{"NSEC", "RRSIG", "SOA"}, []change{withDO}},
		{"nothing." + secureMX, dns.TypeMX, nil, []string{"SOA"}, []change{withEDNS}},
		{"nothing.good.nsec3.", dns.TypeMX, nil, []string{"NSEC3", "RRSIG", "SOA"}, []change{withDO}},
		{"nothing.good.nsec3.", dns.TypeMX, nil, []string{"SOA"}, nil},
		{"any.name.wildcard.dane.", dns.TypeMX, []string{"MX", "RRSIG"}, []string{"NSEC", "RRSIG"}, []change{withDO}},
		{"any.name.wildcard.dane.", dns.TypeMX, []string{"MX"}, nil, nil},
		{secureMX, dns.TypeRRSIG, []string{"RRSIG"}, nil, nil},
		{secureMX, dns.TypeNSEC, []string{"NSEC"}, nil, []change{withAD}},
		{secureMX, dns.TypeNSEC, []string{"NSEC", "RRSIG"}, nil, []change{withDO}},
		{"any.name.wildcard.dane.", dns.TypeMX, []string{"MX"}, nil, []change{withCD}},
		{bogusMX, dns.TypeMX, []string{"MX"}, nil, []change{withCD}},
		{bogusMX, dns.TypeMX, []string{"MX", "RRSIG"}, nil, []change{withCD, withDO}},
	} {
		r := ask(t, server, tt.name, tt.qtype, tt.changes...)
		if answer, ns := types(r.Answer), types(r.Ns); !slices.Equal(answer, tt.answer) || !slices.Equal(ns, tt.ns) {
			t.Errorf("%s %s: %v and %v, want %v and %v", tt.name, dns.Type(tt.qtype), answer, ns, tt.answer, tt.ns)
		}
	}
}

// TestCD: who checks for himself gets what there is, but nobody else does because of him (V-76).
func TestCD(t *testing.T) {
	server := server(t)
	for range 2 { // a failure in the cache does not keep it from him (C-11)
		r := ask(t, server, bogusMX, dns.TypeMX, withDO, withCD)
		if r.Rcode != dns.RcodeSuccess || len(r.Answer) < 2 || r.AuthenticatedData ||
			edes(r)[0] != dns.ExtendedErrorCodeSignatureExpired {
			t.Errorf("CD=1: %s with %d records", describes(r), len(r.Answer))
		}
		if r := ask(t, server, bogusMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeServerFailure || len(r.Answer) > 0 {
			t.Errorf("CD=0 after CD=1: %s with %d records", describes(r), len(r.Answer))
		}
	}
	r := ask(t, server, "nothing."+bogusMX, dns.TypeMX, withDO, withCD)
	if r.Rcode != dns.RcodeNameError || len(r.Ns) == 0 || r.AuthenticatedData {
		t.Errorf("CD=1, a denial: %s", describes(r))
	}
	r = ask(t, server, "_25._tcp.mx.tlsa-servfail.dane.", dns.TypeTLSA, withDO, withCD) // nothing came
	if r.Rcode != dns.RcodeServerFailure || edes(r)[0] != dns.ExtendedErrorCodeNoReachableAuthority {
		t.Errorf("CD=1, no reply at all: %s", describes(r))
	}
}

// TestIgnoreCD: with the option on, CD is copied and nothing else (V-76).
func TestIgnoreCD(t *testing.T) {
	c := config(t)
	c.IgnoreCD = true
	server := serve(t, open(t, c))
	if r := ask(t, server, bogusMX, dns.TypeMX, withDO, withCD); r.Rcode != dns.RcodeServerFailure ||
		len(r.Answer) > 0 || !r.CheckingDisabled {
		t.Errorf("Bogus: %s with %d records", describes(r), len(r.Answer))
	}
	if r := ask(t, server, secureMX, dns.TypeMX, withDO, withCD); !r.AuthenticatedData || !r.CheckingDisabled {
		t.Errorf("Secure: %s", describes(r))
	}
}

// TestEmptyHasNoAD: a reply that holds nothing vouches for nothing (V-77), be its verdict what it may.
func TestEmptyHasNoAD(t *testing.T) {
	for _, tt := range []struct {
		answer resolve.Answer
		ad     bool
	}{
		{resolve.Answer{Status: dnssec.Secure}, false},
		{resolve.Answer{Status: dnssec.Secure, Rcode: dns.RcodeNameError}, false},
		// before NSEC is left out
		{resolve.Answer{Status: dnssec.Secure, Ns: records(t, "example. NSEC example. SOA")}, true},
		{resolve.Answer{Status: dnssec.Insecure, Answer: records(t, "example. A 192.0.2.1")}, false},
		{resolve.Answer{Status: dnssec.Bogus, Rcode: dns.RcodeServerFailure, Notes: []*dnssec.Failure{{}}}, false},
		{resolve.Answer{Rcode: dns.RcodeServerFailure, Notes: []*dnssec.Failure{{}}}, false},
	} {
		h := openCanned(t, func(dns.Question) *resolve.Answer { a := tt.answer; return &a })
		if r := from("127.0.0.1:5300").ask(t, h, "example.", dns.TypeA, withAD); r.AuthenticatedData != tt.ad {
			t.Errorf("%+v: %s", tt.answer, describes(r))
		}
	}
}

// TestCase: the question comes back octet for octet (S-24), and names in the reply are whole.
func TestCase(t *testing.T) {
	server := server(t)
	for _, name := range []string{"RsaSHA256.DANE.", "nothing.RSAsha256.dane.", `tE\.s\000.RSASHA256.dane.`,
		"Localhost.", bogusMX, strings.ToUpper(bogusMX)} {
		q := newMsg(name, dns.TypeMX, withDO)
		for range 2 {
			r := exchange(t, "udp", server, q)
			if len(r.Question) != 1 || r.Question[0] != q.Question[0] {
				t.Errorf("asked %v, the reply is to %v", q.Question, r.Question)
			}
			for _, rr := range slices.Concat(r.Answer, r.Ns) {
				if zone := "rsasha256.dane."; strings.HasSuffix(name, "DANE.") &&
					!dns.IsSubDomain(zone, dns.CanonicalName(rr.Header().Name)) {
					t.Errorf("%s: %v", name, rr)
				}
			}
		}
	}
}

// TestSizes: no reply is larger than the client takes (S-1), what does not fit is left out by whole RRsets with TC
// (S-3), and the same question over TCP gets all.
func TestSizes(t *testing.T) {
	c := config(t)
	c.AllowClients, c.ADClients = networks("0.0.0.0/0"), networks("0.0.0.0/0")
	h := open(t, c)
	whole := map[string]int{}
	for _, name := range []string{manyTLSA, "nothing.rsasha512.dane.", "nothing.good.nsec3.",
		"_25._tcp.mx.alias-tlsa.dane.", "any.name.wildcard.nsec3."} {
		r := fromTCP("192.0.2.1:53").ask(t, h, name, dns.TypeTLSA, withDO)
		whole[name] = len(r.Answer) + len(r.Ns)
		if r.Truncated || whole[name] == 0 || !r.AuthenticatedData {
			t.Fatalf("%s over TCP: %s with %d records", name, describes(r), whole[name])
		}
	}
	for name, all := range whole {
		for _, addr := range []string{"127.0.0.1:5300", "192.0.2.1:53"} {
			limit := uint16(1232)
			if addr == "127.0.0.1:5300" {
				limit = 4096
			}
			for _, size := range []uint16{0, 1, 511, 512, 513, 600, 700, 800, 900, 1000, 1100, 1200, 1231, 1232, 1233,
				1500, 2048, 3000, 4095, 4096, 4097, 65535} {
				w := from(addr)
				r := w.ask(t, h, name, dns.TypeTLSA, withSize(size))
				if room := int(min(max(size, 512), limit)); len(w.wire) > room {
					t.Errorf("%s, %s, size %d: %d octets", name, addr, size, len(w.wire))
				}
				checkWhole(t, fmt.Sprintf("%s, %s, size %d", name, addr, size), r, all)
				if opt := r.IsEdns0(); opt == nil || opt.UDPSize() != limit {
					t.Errorf("%s, %s: OPT is %v, want %d octets", name, addr, opt, limit)
				}
			}
			w := from(addr)
			if r := w.ask(t, h, name, dns.TypeTLSA, withAD); len(w.wire) > 512 || r.IsEdns0() != nil {
				t.Errorf("%s, %s, no EDNS: %d octets, OPT %v", name, addr, len(w.wire), r.IsEdns0())
			}
		}
	}
}

// checkWhole checks that r is whole, or has TC and no cut RRset.
func checkWhole(t *testing.T, name string, r *dns.Msg, all int) {
	t.Helper()
	got := len(r.Answer) + len(r.Ns)
	if r.Truncated != (got < all) {
		t.Errorf("%s: TC=%v with %d of %d records", name, r.Truncated, got, all)
	}
	if got == 0 && r.AuthenticatedData {
		t.Errorf("%s: AD on nothing", name)
	}
	data, sigs := map[string]int{}, map[string]int{}
	for _, rr := range slices.Concat(r.Answer, r.Ns) {
		if sig, ok := rr.(*dns.RRSIG); ok {
			sigs[dns.CanonicalName(sig.Hdr.Name)+dns.Type(sig.TypeCovered).String()]++
		} else {
			data[dns.CanonicalName(rr.Header().Name)+dns.Type(rr.Header().Rrtype).String()]++
		}
	}
	for set, n := range data {
		if sigs[set] == 0 || strings.HasSuffix(set, "TLSA") && n != 1 && n != 41 && n != 40 {
			t.Errorf("%s: %d records of %s with %d signatures", name, n, set, sigs[set])
		}
	}
	if len(sigs) != len(data) {
		t.Errorf("%s: signatures over %v, records of %v", name, sigs, data)
	}
}

// TestEDNSSize: the option is what other hosts are offered and get (S-1).
func TestEDNSSize(t *testing.T) {
	c := config(t)
	c.AllowClients, c.EDNSSize = networks("0.0.0.0/0"), 700
	h := open(t, c)
	w := from("192.0.2.1:53")
	r := w.ask(t, h, "nothing.rsasha512.dane.", dns.TypeTLSA, withSize(4096))
	if len(w.wire) > 700 || !r.Truncated || r.IsEdns0().UDPSize() != 700 {
		t.Errorf("%d octets, TC=%v, OPT %v", len(w.wire), r.Truncated, r.IsEdns0())
	}
}

// raw sends octets over UDP; nil if there is no reply within wait.
func raw(t *testing.T, server string, wire []byte, wait time.Duration) *dns.Msg {
	t.Helper()
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(wire); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65535)
	conn.SetReadDeadline(time.Now().Add(wait)) //nolint:errcheck // of a socket just opened
	n, err := conn.Read(buf)
	if err != nil {
		return nil
	}
	r := new(dns.Msg)
	if err := r.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	return r
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func opt(changes ...func(*dns.OPT)) *dns.OPT {
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	o.SetUDPSize(1232)
	for _, c := range changes {
		c(o)
	}
	return o
}

func optionsOf(n int) func(*dns.OPT) {
	return func(o *dns.OPT) {
		for i := range n {
			o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART + uint16(i), Data: []byte("x")})
		}
	}
}

// TestQueries: what is no proper query gets the RCODE that says so (S-2, S-22, V-15, V-69b, V-71, L-14).
func TestQueries(t *testing.T) {
	server := server(t)
	with := func(f func(m *dns.Msg)) *dns.Msg { return newMsg(secureMX, dns.TypeMX, f) }
	extra := func(rrs ...dns.RR) *dns.Msg { return with(func(m *dns.Msg) { m.Extra = rrs }) }
	qtype := func(t uint16) *dns.Msg { return newMsg(secureMX, t, withDO) }
	host := records(t, "example. 60 IN A 192.0.2.1")[0]
	tsig := &dns.TSIG{Hdr: dns.RR_Header{Name: "key.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
		Algorithm: dns.HmacSHA256, MAC: "00", MACSize: 1}
	for name, tt := range map[string]struct {
		query *dns.Msg
		rcode int
		ede   []uint16
	}{
		"OPT":                {extra(opt()), dns.RcodeSuccess, nil},
		"32 unknown options": {extra(opt(optionsOf(32))), dns.RcodeSuccess, nil},
		"33 options":         {extra(opt(optionsOf(33))), dns.RcodeFormatError, nil},
		"two OPTs":           {extra(opt(), opt()), dns.RcodeFormatError, nil},
		"OPT of a name": {extra(opt(func(o *dns.OPT) { o.Hdr.Name = "example." })), dns.RcodeFormatError,
			nil},
		"OPT in the answer": {with(func(m *dns.Msg) { m.Answer = []dns.RR{opt()} }), dns.RcodeFormatError, nil},
		"OPT in the authority": {with(func(m *dns.Msg) { m.Ns, m.Extra = []dns.RR{opt()}, []dns.RR{opt()} }),
			dns.RcodeFormatError, nil},
		"EDNS version 1": {extra(opt(func(o *dns.OPT) { o.SetVersion(1) })), dns.RcodeBadVers, nil},
		"no question":    {with(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError, nil},
		"two questions": {with(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
			dns.RcodeFormatError, nil},
		"status": {with(func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }), dns.RcodeNotImplemented,
			nil},
		"update": {with(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented,
			nil},
		"notify": {with(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify; withDO(m) }),
			dns.RcodeNotImplemented, nil},
		"class CH": {with(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS; withDO(m) }),
			dns.RcodeRefused, []uint16{21}},
		"class ANY": {with(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY; withDO(m) }),
			dns.RcodeRefused, []uint16{21}},
		"NXNAME":                {qtype(dns.TypeNXNAME), dns.RcodeFormatError, []uint16{30}},
		"AXFR":                  {qtype(dns.TypeAXFR), dns.RcodeRefused, []uint16{21}},
		"IXFR":                  {qtype(dns.TypeIXFR), dns.RcodeRefused, []uint16{21}},
		"TKEY":                  {qtype(dns.TypeTKEY), dns.RcodeRefused, []uint16{21}},
		"TSIG":                  {qtype(dns.TypeTSIG), dns.RcodeRefused, []uint16{21}},
		"type OPT":              {qtype(dns.TypeOPT), dns.RcodeRefused, []uint16{21}},
		"an A beside the OPT":   {extra(host, opt()), dns.RcodeFormatError, nil},
		"an A in the answer":    {with(func(m *dns.Msg) { m.Answer = []dns.RR{host} }), dns.RcodeFormatError, nil},
		"an A in the authority": {with(func(m *dns.Msg) { m.Ns = []dns.RR{host} }), dns.RcodeFormatError, nil},
		"TSIG behind the OPT":   {extra(opt(), tsig), dns.RcodeSuccess, nil},
		"TSIG before the OPT":   {extra(tsig, opt()), dns.RcodeFormatError, nil},
		"IXFR with a SOA": {
			with(func(m *dns.Msg) { m.Question[0].Qtype, m.Ns = dns.TypeIXFR, []dns.RR{soa(".")} }), dns.RcodeRefused,
			nil,
		},
		"NOTIFY with a SOA": {
			with(func(m *dns.Msg) { m.Opcode, m.Answer = dns.OpcodeNotify, []dns.RR{soa(".")} }),
			dns.RcodeNotImplemented, nil,
		},
		"an odd unknown option": {extra(opt(unknownOption(3))), dns.RcodeSuccess, nil},
		"EDNS version 1, cookie": {extra(opt(cookies(3), func(o *dns.OPT) { o.SetVersion(1) })), dns.RcodeBadVers,
			nil},
		// RFC 7873 section 5.2: the first counts
		"two cookies, one sound": {extra(opt(cookies(8, 3))), dns.RcodeSuccess, nil},
		"two cookies, one odd":   {extra(opt(cookies(3, 8))), dns.RcodeFormatError, nil},
		"an unknown type":        {qtype(65280), dns.RcodeSuccess, nil},
		"RD=0, nothing cached": {newMsg("good.dane.", dns.TypeMX, withDO, withoutRD), dns.RcodeRefused,
			[]uint16{20}},
		"RD=0, without EDNS":  {newMsg("good.dane.", dns.TypeMX, withoutRD), dns.RcodeRefused, nil},
		"NXNAME without EDNS": {newMsg(secureMX, dns.TypeNXNAME), dns.RcodeFormatError, nil},
		"the name of 255 octets": {newMsg(strings.Repeat("a23456789.", 23)+"b2345678.dane.", dns.TypeMX, withDO),
			dns.RcodeNameError, nil},
		"a label that is no text": {newMsg(`\000\255\.x.rsasha256.dane.`, dns.TypeMX, withDO), dns.RcodeNameError, nil},
	} {
		for range 2 {
			r := raw(t, server, pack(t, tt.query), 5*time.Second)
			if r == nil {
				t.Errorf("%s: no reply", name)
				continue
			}
			if r.Rcode != tt.rcode || !slices.Equal(faultCodes(r), tt.ede) || r.Id != tt.query.Id ||
				r.Opcode != tt.query.Opcode && r.Rcode != dns.RcodeFormatError {
				t.Errorf("%s: %s, want %s %v", name, describes(r), dns.RcodeToString[tt.rcode], tt.ede)
			}
			if hasOPT := r.IsEdns0() != nil; hasOPT && tt.query.IsEdns0() == nil {
				t.Errorf("%s: OPT in the reply to a query without", name)
			}
			if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError &&
				(r.AuthenticatedData || len(r.Answer)+len(r.Ns) > 0) {
				t.Errorf("%s: AD or records on an error: %v", name, r)
			}
		}
	}
	// RD=0 is answered from the cache once it is there.
	ask(t, server, "good.dane.", dns.TypeMX)
	if r := ask(t, server, "good.dane.", dns.TypeMX, withDO, withoutRD); !r.AuthenticatedData || r.RecursionDesired ||
		len(r.Answer) == 0 {
		t.Errorf("RD=0 of what is cached: %s", describes(r))
	}
}

// unknownOption is an option of so many octets that nobody knows.
func unknownOption(octets int) func(*dns.OPT) {
	return func(o *dns.OPT) {
		o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART, Data: make([]byte, octets)})
	}
}

// cookies are COOKIE options of so many octets each.
func cookies(octets ...int) func(*dns.OPT) {
	return func(o *dns.OPT) {
		for _, n := range octets {
			o.Option = append(o.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: strings.Repeat("ab", n)})
		}
	}
}

// TestCookieLengths: a COOKIE that has no length of one is refused, and each other is passed over (RFC 7873 section
// 5.2.2).
func TestCookieLengths(t *testing.T) {
	server := server(t)
	for octets := range 50 {
		want := dns.RcodeFormatError
		if octets == 8 || octets >= 16 && octets <= 40 {
			want = dns.RcodeSuccess
		}
		query := newMsg(secureMX, dns.TypeMX, func(m *dns.Msg) { m.Extra = []dns.RR{opt(cookies(octets))} })
		if r := raw(t, server, pack(t, query), 5*time.Second); r == nil || r.Rcode != want {
			t.Errorf("%d octets: %v, want %s", octets, r, dns.RcodeToString[want])
		}
	}
}

// TestMalformedOPT: an option that runs over the end of its OPT makes a FORMERR (S-2), and a reply gets no reply
// (S-22).
func TestMalformedOPT(t *testing.T) {
	server := server(t)
	wire := pack(t, newMsg(secureMX, dns.TypeMX, func(m *dns.Msg) { m.Extra = []dns.RR{opt(optionsOf(1))} }))
	binary.BigEndian.PutUint16(wire[len(wire)-3:], 9) // the length of one octet of data
	if r := raw(t, server, wire, 5*time.Second); r == nil || r.Rcode != dns.RcodeFormatError {
		t.Errorf("malformed option: %v", r)
	}
	response := newMsg(secureMX, dns.TypeMX)
	response.Response = true
	if r := raw(t, server, pack(t, response), 200*time.Millisecond); r != nil {
		t.Errorf("a reply is answered: %v", r)
	}
	w := from("127.0.0.1:5300") // and not by the handler either, if a server lets it through
	if w.send(t, open(t, config(t)), response); w.writes > 0 {
		t.Errorf("a reply is answered: %v", w.reply)
	}
}

// TestMalformedToHandler: what the server would not let through is no danger to the handler.
func TestMalformedToHandler(t *testing.T) {
	h := open(t, config(t))
	for name, m := range map[string]*dns.Msg{
		"empty": {},
		"two questions": {Question: []dns.Question{{Name: "a.", Qtype: 1, Qclass: 1},
			{Name: "b.", Qtype: 1, Qclass: 1}}},
	} {
		if r := from("127.0.0.1:5300").send(t, h, m); r.Rcode != dns.RcodeFormatError {
			t.Errorf("%s: %s", name, describes(r))
		}
		if r := from("192.0.2.1:53").send(t, h, m); r.Rcode != dns.RcodeRefused {
			t.Errorf("%s from outside: %s", name, describes(r))
		}
		if text := newQuery(from("192.0.2.1:53"), m).String(); text != "query without a question" {
			t.Errorf("%s is called %q", name, text)
		}
	}
}

// TestANY: every RRset is validated and the answer is Secure if all are; over UDP only this host gets it (V-70).
func TestANY(t *testing.T) {
	c := config(t)
	c.AllowClients, c.ADClients = networks("0.0.0.0/0"), networks("0.0.0.0/0")
	h := open(t, c)
	server := serve(t, h)
	if r := ask(t, server, secureMX, dns.TypeANY, withDO); !r.AuthenticatedData ||
		!slices.Contains(types(r.Answer), "MX") || !slices.Contains(types(r.Answer), "DNSKEY") {
		t.Errorf("%s: %v", describes(r), types(r.Answer))
	}
	if r := ask(t, server, "missing-signature.dane.", dns.TypeANY, withDO); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("one RRset without signature: %s", describes(r))
	}
	if r := ask(t, server, insecureMX, dns.TypeANY, withDO); r.AuthenticatedData || len(r.Answer) == 0 {
		t.Errorf("unsigned: %s", describes(r))
	}
	if r := exchange(t, "udp", server, newMsg(secureMX, dns.TypeANY, withDO)); r.Truncated || !r.AuthenticatedData {
		t.Errorf("over UDP, from this host: %s, TC=%v", describes(r), r.Truncated)
	}
	r := from("192.0.2.1:53").ask(t, h, secureMX, dns.TypeANY, withDO)
	if !r.Truncated || r.Rcode != dns.RcodeSuccess || len(r.Answer) > 0 || r.AuthenticatedData {
		t.Errorf("over UDP, from outside: %s, TC=%v, %d records", describes(r), r.Truncated, len(r.Answer))
	}
	if r := fromTCP("192.0.2.1:53").ask(t, h, secureMX, dns.TypeANY, withDO); r.Truncated || !r.AuthenticatedData {
		t.Errorf("over TCP, from outside: %s", describes(r))
	}
}

// TestDNSSECTypes: RRSIGs asked for are never Secure, NSEC, DS and DNSKEY are data as any other (V-71, V-25, V-9).
func TestDNSSECTypes(t *testing.T) {
	server := server(t)
	for _, tt := range []struct {
		name  string
		qtype uint16
		ad    bool
		types []string
	}{
		{secureMX, dns.TypeRRSIG, false, []string{"RRSIG"}},
		{secureMX, dns.TypeNSEC, true, []string{"NSEC", "RRSIG"}},
		{secureMX, dns.TypeDNSKEY, true, []string{"DNSKEY", "RRSIG"}},
		{secureMX, dns.TypeDS, true, []string{"DS", "RRSIG"}},
		{insecureMX, dns.TypeDS, true, nil}, // the parent proves that there is none
		{".", dns.TypeDS, true, nil},
		{".", dns.TypeNS, true, []string{"NS", "RRSIG"}}, // Postfix's dnssec_probe (D-12)
	} {
		r := ask(t, server, tt.name, tt.qtype, withDO)
		if r.Rcode != dns.RcodeSuccess || r.AuthenticatedData != tt.ad || !slices.Equal(types(r.Answer), tt.types) {
			t.Errorf("%s %s: %s with %v", tt.name, dns.Type(tt.qtype), describes(r), types(r.Answer))
		}
	}
}

// TestCachedFailure: a failure that comes from the cache says so beside its own reason (C-12).
func TestCachedFailure(t *testing.T) {
	server := server(t)
	for i, want := range [][]uint16{{7}, {7, 13}, {7, 13}} {
		if r := ask(t, server, bogusMX, dns.TypeMX, withDO); !slices.Equal(edes(r), want) {
			t.Errorf("question %d: %s, want %v", i+1, describes(r), want)
		}
	}
}

// TestLifetimes: TTLs count down, and what is cached ends with them (C-7), or with its signatures (C-1), by danelaw's
// own clock.
func TestLifetimes(t *testing.T) {
	clock := new(dial)
	p := between(t, honest)
	c := config(t, p.addr)
	c.Clock = clock.now
	server := serve(t, open(t, c))
	ttl := func() uint32 {
		r := ask(t, server, secureMX, dns.TypeMX, withDO)
		if !r.AuthenticatedData || len(r.Answer) < 2 {
			t.Fatal(describes(r))
		}
		for _, rr := range r.Answer {
			if rr.Header().Ttl != r.Answer[0].Header().Ttl {
				t.Errorf("TTLs differ: %v", r.Answer)
			}
		}
		return r.Answer[0].Header().Ttl
	}
	first := ttl()
	clock.offset.Add(int64(100 * time.Second))
	if second := ttl(); second != first-100 {
		t.Errorf("TTL %d, and 100 s later %d", first, second)
	}
	p.questions()
	clock.offset.Add(int64(time.Duration(first) * time.Second))
	ttl()
	if asked, _ := p.questions(); len(asked) == 0 {
		t.Error("what has ended is still served")
	}
	clock.offset.Add(int64(15 * 24 * time.Hour)) // signatures of the lab last for 14 days
	if r := ask(t, server, secureMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeServerFailure ||
		edes(r)[0] != dns.ExtendedErrorCodeSignatureExpired {
		t.Errorf("when the signatures have expired: %s", describes(r))
	}
}

func failing(notes ...*dnssec.Failure) canned {
	return func(dns.Question) *resolve.Answer {
		return &resolve.Answer{Status: dnssec.Bogus, Rcode: dns.RcodeServerFailure, Notes: notes}
	}
}

// TestEDE: at most three, of at most 255 octets of UTF-8 cut at a character (S-15), and none in a reply without OPT.
func TestEDE(t *testing.T) {
	long := strings.Repeat("ß", 127) + "€" + strings.Repeat("x", 100) // octets 254 to 256 are one character
	h := openCanned(t, failing(
		&dnssec.Failure{Code: 6, Text: long}, &dnssec.Failure{Code: 9, Text: "bad \xff\xfe octets"},
		&dnssec.Failure{Code: 10, Text: strings.Repeat("y", 255)}, &dnssec.Failure{Code: 12, Text: "one too many"},
	))
	w := from("127.0.0.1:5300")
	all := extended(w.ask(t, h, "example.", dns.TypeA, withDO))
	if len(all) != 3 || all[0].InfoCode != 6 || all[1].InfoCode != 9 || all[2].InfoCode != 10 {
		t.Fatalf("%v", all)
	}
	if text := all[0].ExtraText; text != strings.Repeat("ß", 127) {
		t.Errorf("%d octets: %q", len(text), text)
	}
	if text := all[1].ExtraText; text != `bad \xff\xfe octets` {
		t.Errorf("%q", text)
	}
	if text := all[2].ExtraText; len(text) != 255 {
		t.Errorf("%d octets: %q", len(text), text)
	}
	if r := w.ask(t, h, "example.", dns.TypeA); len(r.Extra) > 0 || r.Rcode != dns.RcodeServerFailure {
		t.Errorf("without OPT: %v", r)
	}
	for n := range 300 {
		long := &dnssec.Failure{Text: strings.Repeat("x", n) + strings.Repeat("語", 100)}
		text := resolve.Errors([]*dnssec.Failure{long})[0].(*dns.EDNS0_EDE).ExtraText
		if len(text) > 255 || len(text) < 253 ||
			!utf8.ValidString(text) {
			t.Errorf("%d octets: %q", len(text), text)
		}
	}
}

// TestEDEBeforeTC: texts are left out, the last first, before records are (S-15).
func TestEDEBeforeTC(t *testing.T) {
	var notes []*dnssec.Failure
	for code := range uint16(3) {
		notes = append(notes, &dnssec.Failure{Code: code, Text: strings.Repeat("x", 200)})
	}
	var lines []string
	for i := range 20 {
		lines = append(lines, fmt.Sprintf("example. A 192.0.2.%d", i))
	}
	h := openCanned(t, func(dns.Question) *resolve.Answer {
		return &resolve.Answer{Status: dnssec.Insecure, Answer: records(t, lines...), Notes: notes}
	})
	before := -1
	for size := uint16(512); size <= 1232; size++ {
		w := from("127.0.0.1:5300")
		r := w.ask(t, h, "example.", dns.TypeA, withSize(size))
		codes := edes(r)
		if r.Truncated || len(r.Answer) != 20 || len(w.wire) > int(size) || len(codes) < before {
			t.Fatalf("size %d: TC=%v, %d records, %d octets, %v", size, r.Truncated, len(r.Answer), len(w.wire), codes)
		}
		if before = len(codes); !slices.IsSorted(codes) || before > 0 && codes[0] != 0 {
			t.Fatalf("size %d: %v", size, codes)
		}
	}
	if before != 3 {
		t.Errorf("%d errors fit into 1232 octets", before)
	}
}

// TestPanic: a query that runs into a fault of danelaw gets SERVFAIL with EDE 0, is counted, and harms no other (S-27).
func TestPanic(t *testing.T) {
	c := config(t)
	h := open(t, c)
	good := h.resolver
	h.resolver = panicking{good}
	server := serve(t, h)
	book := logged(t)
	before := metric(t, "panics_total", "block", c.Block)
	for range 3 {
		r := ask(t, server, "boom.example.", dns.TypeMX, withDO)
		if r.Rcode != dns.RcodeServerFailure || !slices.Equal(edes(r), []uint16{dns.ExtendedErrorCodeOther}) ||
			r.AuthenticatedData {
			t.Errorf("panic: %s", describes(r))
		}
		if r := ask(t, server, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
			t.Errorf("after a panic: %s", describes(r))
		}
	}
	if n := metric(t, "panics_total", "block", c.Block) - before; n != 3 {
		t.Errorf("%v panics counted", n)
	}
	if text := book.String(); !strings.Contains(text, "boom.example. MX: panic: boom") ||
		!strings.Contains(text, "reply_test.go") {
		t.Errorf("the log lacks query or stack: %s", text)
	}
}

// TestPanicFlood: a query that panics, sent again and again, does not fill the disk with stacks.
func TestPanicFlood(t *testing.T) {
	h := open(t, config(t))
	h.resolver = panicking{h.resolver}
	book := logged(t)
	for range 5 * linesPerSecond {
		from("127.0.0.1:5300").ask(t, h, "boom.example.", dns.TypeMX)
	}
	if n := strings.Count(book.String(), "panic: boom"); n < 1 || n > 2*linesPerSecond {
		t.Errorf("%d panics logged", n)
	}
}

// TestPanicOfTheChain: the stack of a fault on the way to an answer is in the log, and not in the reply (S-27).
func TestPanicOfTheChain(t *testing.T) {
	h := openCanned(t, func(q dns.Question) *resolve.Answer {
		return &resolve.Answer{Status: dnssec.Indeterminate, Rcode: dns.RcodeServerFailure, Notes: []*dnssec.Failure{{
			Text: "internal error", Err: fmt.Errorf("%w: boom\nthe stack", fetch.ErrPanic),
		}}}
	})
	book := logged(t)
	r := from("127.0.0.1:5300").ask(t, h, "example.", dns.TypeMX, withDO)
	if r.Rcode != dns.RcodeServerFailure || strings.Contains(r.String(), "boom") ||
		!strings.Contains(book.String(), "boom\n\tthe stack") {
		t.Errorf("reply: %v\nlog: %s", r, book)
	}
}

// panicking is a resolver with a fault.
type panicking struct{ resolver }

func (p panicking) Resolve(ctx context.Context, q dns.Question) *resolve.Answer {
	if strings.HasPrefix(q.Name, "boom.") {
		panic("boom")
	}
	return p.resolver.Resolve(ctx, q)
}

// TestUnwritable: an answer that cannot be packed becomes SERVFAIL, as no client may be left without a reply (S-27); a
// client that has gone gets none.
func TestUnwritable(t *testing.T) {
	h := openCanned(t, func(dns.Question) *resolve.Answer {
		return &resolve.Answer{Status: dnssec.Secure, Answer: []dns.RR{&dns.TXT{
			Hdr: dns.RR_Header{Name: strings.Repeat("x", 64) + ".", Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{"x"},
		}}}
	})
	r := from("127.0.0.1:5300").ask(t, h, "example.", dns.TypeTXT, withDO)
	if r == nil || r.Rcode != dns.RcodeServerFailure || !slices.Equal(edes(r), []uint16{dns.ExtendedErrorCodeOther}) ||
		r.AuthenticatedData {
		t.Errorf("reply: %v", r)
	}
	gone := from("127.0.0.1:5300")
	gone.fail = errors.New("gone")
	if gone.ask(t, openCanned(t, failing(&dnssec.Failure{})), "example.", dns.TypeA); gone.writes != 1 {
		t.Errorf("%d writes to a client that has gone", gone.writes)
	}
}

// TestLimits: a limit that was hit is SERVFAIL with a text that names it, and counted (L-12, L-16).
func TestLimits(t *testing.T) {
	hits := func(c Config, name string) float64 { return metric(t, "limits_total", "block", c.Block, "limit", name) }
	for _, tt := range []struct {
		limit string
		name  string
		qtype uint16
		set   func(c *Config)
		text  string
	}{
		{"signature_checks", "_25._tcp.mx.dname.dane.", dns.TypeTLSA, func(c *Config) { c.SignatureChecks = 1 },
			"signature_checks"},
		{"upstream_questions", secureMX, dns.TypeMX, func(c *Config) { c.UpstreamQuestions = 1 },
			"limit upstream_questions"},
		{"deadline", secureMX, dns.TypeMX, func(c *Config) {
			c.Timeout = 50 * time.Millisecond
			c.Routes[0].To[0] = upstreamAt(t, between(t, silent).addr)
		}, "after 50ms"},
	} {
		c := config(t)
		c.Block += " " + tt.limit
		tt.set(&c)
		r := ask(t, serve(t, open(t, c)), tt.name, tt.qtype, withDO)
		if r.Rcode != dns.RcodeServerFailure || r.AuthenticatedData || len(r.Answer) > 0 ||
			!strings.Contains(textOf(r), tt.text) {
			t.Errorf("%s: %s", tt.limit, describes(r))
		}
		if n := hits(c, tt.limit); n < 1 {
			t.Errorf("%s: %v hits counted", tt.limit, n)
		}
	}
}

// TestFull: when too many questions are in flight, or wait for one, the others get SERVFAIL at once (L-13, L-12).
func TestFull(t *testing.T) {
	for _, tt := range []struct {
		limit string
		set   func(c *Config)
		name  func(i int) string
	}{
		{"in_flight", func(c *Config) { c.InFlight = 2 }, func(i int) string { return fmt.Sprintf("n%d.dane.", i) }},
		{"waiting", func(c *Config) { c.Waiting = 2 }, func(int) string { return secureMX }},
	} {
		c := config(t, between(t, silent).addr)
		c.Block += tt.limit
		c.Timeout = 150 * time.Millisecond
		tt.set(&c)
		h := open(t, c)
		replies := make(chan *dns.Msg, 5)
		for i := range cap(replies) {
			go func() { replies <- from("127.0.0.1:5300").ask(t, h, tt.name(i), dns.TypeMX, withDO) }()
		}
		full := 0
		for range cap(replies) {
			r := <-replies
			if r.Rcode != dns.RcodeServerFailure {
				t.Errorf("%s: %s", tt.limit, describes(r))
			}
			if strings.Contains(textOf(r), "limit "+tt.limit) {
				full++
			}
		}
		if n := metric(t, "limits_total", "block", c.Block, "limit", tt.limit); full != 3 || n != 3 {
			t.Errorf("%s: %d replies name it, %v hits counted, want 3", tt.limit, full, n)
		}
	}
}

// TestFlood: failures are logged with their sentence, but a flood of them does not fill the disk.
func TestFlood(t *testing.T) {
	book := logged(t)
	var f flood
	q := newQuery(from("192.0.2.1:53"), newMsg("example.", dns.TypeMX))
	notes := []*dnssec.Failure{{Text: "example.: a sentence"}}
	f.log(q.asker(), nil) // nothing to say
	for range 3 * linesPerSecond {
		f.log(q.asker(), notes)
	}
	if n := strings.Count(book.String(),
		"example. MX from 192.0.2.1: SERVFAIL: example.: a sentence"); n < linesPerSecond-1 || n > 2*linesPerSecond {
		t.Errorf("%d lines:\n%s", n, book)
	}
}

// TestFloodTold: what a flood left out is told once its second is over, though no other line comes, and when danelaw
// ends.
func TestFloodTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := logged(t)
		var f flood
		burst := func(lines int) (written int) {
			for range lines {
				if f.open() {
					written++
				}
			}
			return written
		}
		if n := burst(linesPerSecond + 7); n != linesPerSecond {
			t.Errorf("%d lines are written", n)
		}
		if time.Sleep(time.Second - time.Millisecond); book.String() != "" {
			t.Errorf("told before its second is over: %s", book)
		}
		time.Sleep(time.Minute)
		const told = "[WARNING] plugin/danelaw: 7 more failures were not logged\n"
		if !strings.HasSuffix(book.String(), told) || strings.Count(book.String(), "\n") != 1 {
			t.Errorf("the log has %q, want %q", book, told)
		}
		burst(linesPerSecond + 3)
		f.flush()
		time.Sleep(time.Minute)
		if n := strings.Count(book.String(), " 3 more failures were not logged\n"); n != 1 ||
			strings.Count(book.String(), "\n") != 2 {
			t.Errorf("at the end it is told %d times:\n%s", n, book)
		}
	})
}

// FuzzServeDNS: whatever arrives, the handler answers within the client's size or not at all, and does not panic.
func FuzzServeDNS(f *testing.F) {
	for _, m := range []*dns.Msg{
		newMsg("example.", dns.TypeMX, withDO), newMsg("localhost.", dns.TypeA, withSize(0)),
		newMsg("1.0.0.127.in-addr.arpa.", dns.TypePTR),
		newMsg("a.b.c.d.e.f.ip6.arpa.", dns.TypeANY, withCD), newMsg(".", dns.TypeNS, withoutRD), {},
	} {
		f.Add(pack(f, m))
	}
	answer := records(f, "example. 300 A 192.0.2.1",
		"example. 300 RRSIG A 13 1 300 20300101000000 20200101000000 1 example. AAAA",
		"example. 300 TXT "+strings.Repeat("x", 250), "example. 300 TXT "+strings.Repeat("y", 250),
		"example. 300 TXT "+strings.Repeat("z", 250))
	h := openCanned(f, func(q dns.Question) *resolve.Answer {
		a := &resolve.Answer{Status: dnssec.Status(len(q.Name) % 4),
			Notes: []*dnssec.Failure{{Code: 6, Text: strings.Repeat("ß", 200)}}}
		for _, rr := range answer {
			rr = dns.Copy(rr)
			rr.Header().Name = q.Name
			a.Answer = append(a.Answer, rr)
		}
		return a
	})
	h.config.AllowClients = networks("0.0.0.0/0")
	f.Fuzz(func(t *testing.T, wire []byte) {
		q := new(dns.Msg)
		if q.Unpack(wire) != nil {
			return
		}
		for _, addr := range []string{"127.0.0.1:5300", "192.0.2.1:53"} {
			w := from(addr)
			r := w.send(t, h, q.Copy())
			if r == nil {
				if !q.Response {
					t.Fatalf("no reply to %v", q)
				}
				continue
			}
			size, offered := dns.MinMsgSize, q.IsEdns0()
			if offered != nil {
				size = min(max(size, int(offered.UDPSize())), 4096)
			}
			if len(w.wire) > size || (offered == nil) != (r.IsEdns0() == nil) {
				t.Fatalf("%d octets to %v: %v", len(w.wire), q, r)
			}
			if r.AuthenticatedData && !contains(h.config.ADClients, netip.MustParseAddrPort(addr).Addr()) {
				t.Fatalf("AD to %s: %v", addr, r)
			}
		}
	})
}
