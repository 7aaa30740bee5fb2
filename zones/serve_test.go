package zones_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// What a client sees of the recursor and of an authoritative server, over both transports (S-1..S-3, RFC 6891).
func TestServe(t *testing.T) {
	l := start(t)
	authority := l.Authorities()["large-tlsa.dane."]
	large := "_25._tcp.mx.large-tlsa.dane."
	for _, tt := range []struct {
		title   string
		query   *dns.Msg
		network string
		rcode   int
		tc      bool
		answer  int // records
	}{
		{"no EDNS", query("mx1.good.dane.", dns.TypeA, nil), "udp", dns.RcodeSuccess, false, 1},
		{"no DO", query("mx1.good.dane.", dns.TypeA, edns(1232, false)), "udp", dns.RcodeSuccess, false, 1},
		{"DO", query("mx1.good.dane.", dns.TypeA, edns(1232, true)), "udp", dns.RcodeSuccess, false, 2},
		{"RRSIG without DO", query("mx1.good.dane.", dns.TypeRRSIG, nil), "udp", dns.RcodeSuccess, false, 3},
		{"too large for UDP", query(large, dns.TypeTLSA, edns(4096, true)), "udp", dns.RcodeSuccess, true, 0},
		{"too large without EDNS", query(large, dns.TypeTLSA, nil), "udp", dns.RcodeSuccess, true, 0},
		{"a size under 512 is 512", query("mx1.good.dane.", dns.TypeA, edns(0, true)), "udp",
			dns.RcodeSuccess, false, 2},
		{"large by TCP", query(large, dns.TypeTLSA, edns(1232, true)), "tcp", dns.RcodeSuccess, false, 41},
		{"EDNS version 1", query("good.dane.", dns.TypeA, version(1)), "udp", dns.RcodeBadVers, false, 0},
		{"class CH", class(query("good.dane.", dns.TypeA, nil), dns.ClassCHAOS), "udp", dns.RcodeRefused, false, 0},
		{"AXFR", query("good.dane.", dns.TypeAXFR, nil), "udp", dns.RcodeRefused, false, 0},
		{"broken", query("_25._tcp.mx.tlsa-servfail.dane.", dns.TypeTLSA, edns(1232, true)), "udp",
			dns.RcodeServerFailure, false, 0},
	} {
		for title, addr := range map[string]string{"recursor": l.Addr(), "authority": authority} {
			m := put(t, tt.network, addr, tt.query)
			if m.Rcode != tt.rcode || m.Truncated != tt.tc || len(m.Answer) != tt.answer {
				t.Errorf("%s, %s: %v", tt.title, title, m)
			}
			asked, answered := tt.query.IsEdns0(), m.IsEdns0()
			if (asked == nil) != (answered == nil) || asked != nil && asked.Do() != answered.Do() {
				t.Errorf("%s, %s: OPT %v for %v", tt.title, title, answered, asked)
			}
		}
	}
}

func query(name string, qtype uint16, opt *dns.OPT) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	if opt != nil {
		m.Extra = append(m.Extra, opt)
	}
	return m
}

func edns(size uint16, do bool) *dns.OPT {
	return new(dns.Msg).SetEdns0(size, do).IsEdns0()
}

func version(v uint8) *dns.OPT {
	opt := edns(1232, true)
	opt.SetVersion(v)
	return opt
}

func class(m *dns.Msg, c uint16) *dns.Msg {
	m.Question[0].Qclass = c
	return m
}

// The question, CD and RD come back as sent; AD never does.
func TestHeader(t *testing.T) {
	l := start(t)
	m := query("mX1.gOOd.dAnE.", dns.TypeA, edns(1232, true))
	m.CheckingDisabled, m.AuthenticatedData = true, true
	r := put(t, "udp", l.Addr(), m)
	if r.Question[0].Name != "mX1.gOOd.dAnE." || !r.CheckingDisabled || !r.RecursionDesired || !r.RecursionAvailable ||
		r.AuthenticatedData || r.Authoritative {
		t.Errorf("%v", r)
	}
	if r.Answer[0].Header().Name != "mX1.gOOd.dAnE." {
		t.Errorf("owner %s", r.Answer[0].Header().Name)
	}
}

// Faulty data goes through the recursor as it is, with CD and without.
func TestFaultsPassRecursor(t *testing.T) {
	l := start(t)
	for _, d := range l.Domains() {
		for _, q := range d.Questions {
			if q.Status != "Bogus" {
				continue
			}
			m := query(q.Name, q.Type, edns(1232, true))
			with := put(t, "udp", l.Addr(), m)
			m.CheckingDisabled = true
			without := put(t, "udp", l.Addr(), m)
			if with.Rcode == dns.RcodeServerFailure || with.Rcode != without.Rcode ||
				len(with.Answer) != len(without.Answer) {
				t.Errorf("%s %s: %v", q.Name, dns.Type(q.Type), with)
			}
		}
	}
}

// Close does not wait for clients that keep their connections.
func TestCloseWithOpenConnection(t *testing.T) {
	l, err := zones.Start(zones.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &dns.Conn{Conn: conn}
	client := &dns.Client{Timeout: time.Minute}
	if _, _, err := client.ExchangeWithConn(query("good.dane.", dns.TypeMX, nil), c); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l.Close() // twice is once
	if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is still open: %v", err)
	}
}
