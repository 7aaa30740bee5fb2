package danelaw

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// stream is a connection of a client.
type stream struct {
	t testing.TB
	net.Conn
}

func connect(t testing.TB, server string) stream {
	t.Helper()
	c, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return stream{t, c}
}

// send sends messages in one write.
func (s stream) send(messages ...[]byte) {
	s.t.Helper()
	var all []byte
	for _, m := range messages {
		all = append(append(all, byte(len(m)>>8), byte(len(m))), m...)
	}
	if _, err := s.Write(all); err != nil {
		s.t.Fatal(err)
	}
}

// receive returns the next reply.
func (s stream) receive() *dns.Msg {
	s.t.Helper()
	s.SetReadDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // the connection is open
	m, err := (&dns.Conn{Conn: s.Conn}).ReadMsg()
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// oddQueries are queries by their octets; the question of most is good.dane. MX.
var oddQueries = map[string]struct {
	octets string
	rcode  int
	ad     bool
}{
	"plain":                     {"0100 0001 0000 0000 0000" + goodMX, noError, false},
	"with EDNS":                 {"0100 0001 0000 0000 0001" + goodMX + ednsDO + "0000", noError, true},
	"bare header":               {"0100 0000 0000 0000 0000", formErr, false},
	"header alone, one counted": {"0100 0001 0000 0000 0000", formErr, false},
	"two questions":             {"0100 0002 0000 0000 0000" + goodMX + goodMX, formErr, false},
	"trailing octet":            {"0120 0001 0000 0000 0000" + goodMX + "00", formErr, false},
	"trailing octets, EDNS":     {"0120 0001 0000 0000 0001" + goodMX + ednsDO + "0000 ffff", formErr, false},
	"forward pointer":           {"0120 0001 0000 0000 0000 04676f6f64 c015 000f 0001 0464616e65 00", formErr, false},
	"forward pointer into what is counted": {
		"0120 0001 0000 0000 0001 c012 000f 0001 0464616e65 00 0001 0001 00000000 0004 7f000001", formErr, false,
	},
	"pointer to itself":     {"0120 0001 0000 0000 0000 c00c 000f 0001", formErr, false},
	"pointer to the header": {"0120 0001 0000 0000 0000 c004 000f 0001", formErr, false},
	"cookie of 3 octets":    {"0120 0001 0000 0000 0001" + goodMX + ednsDO + "0007 000a 0003 010203", formErr, false},
	"record in a query": {"0120 0001 0001 0000 0000" + goodMX + "c00c 0001 0001 00000000 0004 7f000001",
		formErr, false},
	"an EDE of one octet":  {"0100 0001 0000 0000 0001" + goodMX + ednsDO + "0005 000f 0001 01", noError, true},
	"an empty ZONEVERSION": {"0100 0001 0000 0000 0001" + goodMX + ednsDO + "0004 0013 0000", noError, true},
	"an odd option, then a cookie of 3 octets": {
		"0100 0001 0000 0000 0001" + goodMX + ednsDO + "000c 000f 0001 01 000a 0003 010203", formErr, false},
	"option longer than OPT": {"0120 0001 0000 0000 0001" + goodMX + ednsDO + "0004 000a 0008", formErr, false},
	"DSO":                    {"3000 0000 0000 0000 0000 0001 0000", dns.RcodeNotImplemented, false},
	"UPDATE":                 {"2800 0001 0000 0000 0000" + goodMX, dns.RcodeNotImplemented, false},
}

const (
	noError = dns.RcodeSuccess
	formErr = dns.RcodeFormatError

	goodMX = "04676f6f64 0464616e65 00 000f 0001"
	ednsDO = "00 0029 04d0 00008000"
)

func fromHex(t testing.TB, text string) []byte {
	t.Helper()
	octets, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// TestOddQueries: what is no sound query is refused over both transports, with OPT where it has one and never with AD,
// and an option that the library cannot read is as one that is not there (L-14, S-2, S-22).
func TestOddQueries(t *testing.T) {
	for at, c := range map[string]*coreDNS{
		"a port of the system's choice": startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), "")),
		"a port of the Corefile's": startCoreDNS(t,
			blockOf(fmt.Sprintf(".:%d", ports.Closed(t)), optionsFor(t, lab().Addr()), "")),
		"fastpath off": startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr(), "fastpath off"), "")),
	} {
		for name, row := range oddQueries {
			query := fromHex(t, "abcd"+row.octets)
			overTCP := connect(t, c.tcp)
			overTCP.send(query)
			for transport, r := range map[string]*dns.Msg{
				"UDP": raw(t, c.udp, query, 30*time.Second), "TCP": overTCP.receive(),
			} {
				what := fmt.Sprintf("%s, %s, %s", at, name, transport)
				if r == nil || r.Id != 0xabcd || !r.Response || r.Rcode != row.rcode || r.AuthenticatedData != row.ad {
					t.Errorf("%s: %v, want %s, AD=%t", what, r, dns.RcodeToString[row.rcode], row.ad)
					continue
				}
				if edns := strings.Contains(row.octets, ednsDO); (r.IsEdns0() != nil) != edns {
					t.Errorf("%s: OPT %v, in the query: %t", what, r.IsEdns0(), edns)
				}
			}
		}
	}
}

// TestBareHeader: a query that ends with its header is malformed, whatever it counts (S-22).
func TestBareHeader(t *testing.T) {
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), ""))
	for _, questions := range []byte{0, 1, 2} {
		r := raw(t, c.udp, []byte{0x12, 0x34, 1, 0, 0, questions, 0, 0, 0, 0, 0, 0}, 5*time.Second)
		if r == nil || r.Id != 0x1234 || r.Rcode != dns.RcodeFormatError || !r.Response || !r.RecursionDesired {
			t.Errorf("%d questions: %v", questions, r)
		}
	}
}

// TestOddQueriesCount: what is refused before it is a query counts among the replies.
func TestOddQueriesCount(t *testing.T) {
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), ""))
	before := metric(t, "responses_total", "verdict", "invalid")
	raw(t, c.udp, fromHex(t, "abcd 0100 0000 0000 0000 0000"), 30*time.Second)
	if after := metric(t, "responses_total", "verdict", "invalid"); after != before+1 {
		t.Errorf("%v invalid, %v before", after, before)
	}
}

// TestRepliesNotAnswered: what is a reply, or shorter than a header, gets no reply (S-22), and the next query of the
// socket gets its own.
func TestRepliesNotAnswered(t *testing.T) {
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), ""))
	conn, err := net.Dial("udp", c.udp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, text := range []string{
		"1111 8100 0001 0000 0000 0000" + goodMX, "2222 01", "3333 0100 0001 0000 0000 0000" + goodMX,
	} {
		if _, err := conn.Write(fromHex(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 4096)
	conn.SetReadDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // of a socket just opened
	if n, err := conn.Read(buf); err != nil || n < 2 || buf[0] != 0x33 {
		t.Errorf("%x, %v: want the reply to the query alone", buf[:n], err)
	}
}

// hanging leaves names below wildcard.dane. without a reply.
func hanging(_ string, _ int, q, r *dns.Msg) *dns.Msg {
	if strings.HasSuffix(q.Question[0].Name, "wildcard.dane.") && len(q.Question[0].Name) > len("wildcard.dane.") {
		return nil
	}
	return r
}

// TestPipelined: a cached answer waits for no other question of its connection, whether it passes by CoreDNS or not
// (S-4, RFC 7766 section 6.2.1.1).
func TestPipelined(t *testing.T) {
	clients := map[string]stream{}
	const hang = 3
	for _, fastpath := range []string{"on", "off"} { // both wait at once
		c := startCoreDNS(t, blockOf(".:0", optionsFor(t, between(t, hanging).addr, "fastpath "+fastpath), ""))
		c.ask("good.dane.", dns.TypeMX, withDO)
		var queries [][]byte
		for i := range hang {
			m := newMsg(fmt.Sprintf("h%d.wildcard.dane.", i), dns.TypeA, withDO)
			m.Id = uint16(i)
			queries = append(queries, pack(t, m))
		}
		cached := newMsg("good.dane.", dns.TypeMX, withDO)
		cached.Id = 77
		clients[fastpath] = connect(t, c.tcp)
		clients[fastpath].send(append(queries, pack(t, cached))...)
	}
	for fastpath, s := range clients {
		if r := s.receive(); r.Id != 77 || !r.AuthenticatedData {
			t.Fatalf("fastpath %s: the first reply is %v, want that of the cached question", fastpath, r)
		}
		for range hang {
			if r := s.receive(); r.Id >= hang || r.Rcode != dns.RcodeServerFailure {
				t.Errorf("fastpath %s: %v, want SERVFAIL for what hangs", fastpath, r)
			}
		}
	}
}

// TestConnectionOutlivesReload: a connection goes on through a reload, and after it the new options answer.
func TestConnectionOutlivesReload(t *testing.T) {
	noLeak(t)
	text := func(more string) string {
		return blockOf(".:0", optionsFor(t, lab().Addr(), more), "")
	}
	c := startCoreDNS(t, text(""))
	s := connect(t, c.tcp)
	question := pack(t, newMsg("good.dane.", dns.TypeMX, withDO))
	s.send(question)
	if r := s.receive(); !r.AuthenticatedData {
		t.Fatalf("before the reload: %v", r)
	}
	if err := c.reload(text("ad_clients 192.0.2.0/24")); err != nil {
		t.Fatal(err)
	}
	s.send(question)
	if r := s.receive(); r.Rcode != dns.RcodeSuccess || r.AuthenticatedData {
		t.Errorf("after the reload: %v", r)
	}
	if err := c.reload(text("ad_clients nonsense")); err == nil {
		t.Fatal("nonsense was taken")
	}
	s.send(question)
	if r := s.receive(); r.Rcode != dns.RcodeSuccess || r.AuthenticatedData {
		t.Errorf("after a reload that failed: %v", r)
	}
}

// TestTimeoutsOfReload: the timeouts of a connection are those of the last reload.
func TestTimeoutsOfReload(t *testing.T) {
	text := func(idle string) string {
		return blockOf(".:0", optionsFor(t, lab().Addr()), "timeouts {\n idle "+idle+"\n}")
	}
	c := startCoreDNS(t, text("1h"))
	if err := c.reload(text("1s")); err != nil {
		t.Fatal(err)
	}
	s := connect(t, c.tcp)
	s.SetReadDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // the connection is open
	if n, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection: %d octets, %v", n, err)
	}
}

// TestInstancesApart: each of two CoreDNS in one process has its own address, though both leave the port to the system.
func TestInstancesApart(t *testing.T) {
	one := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), ""))
	other := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr(), "ad_clients 192.0.2.0/24"), ""))
	for range 2 {
		if r := one.ask("good.dane.", dns.TypeMX, withDO); !r.AuthenticatedData {
			t.Errorf("the first: %s", describes(r))
		}
		if r := other.ask("good.dane.", dns.TypeMX, withDO); r.Rcode != dns.RcodeSuccess || r.AuthenticatedData {
			t.Errorf("the second: %s", describes(r))
		}
		if r := raw(t, other.udp, fromHex(t, "abcd 0100 0001 0000 0000 0000"+goodMX+"00"), 30*time.Second); r == nil ||
			r.Rcode != formErr {
			t.Errorf("a trailing octet at the second: %v", r)
		}
	}
}

// TestReadsNoMore: where a reload takes danelaw away, CoreDNS reads again; at the end nobody listens.
func TestReadsNoMore(t *testing.T) {
	port := fmt.Sprintf(".:%d", ports.Closed(t))
	c := startCoreDNS(t, blockOf(port, optionsFor(t, lab().Addr()), ""))
	odd := fromHex(t, "abcd 0100 0001 0000 0000 0000"+goodMX+"00")
	if r := raw(t, c.udp, odd, 30*time.Second); r == nil || r.Rcode != dns.RcodeFormatError {
		t.Fatalf("danelaw's own reader: %v", r)
	}
	if err := c.reload(port + " {\n bind 127.0.0.1\n forward . " + lab().Addr() + "\n}\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "CoreDNS, which takes a trailing octet, reads", func() bool {
		r := raw(t, c.udp, odd, 30*time.Second)
		return r != nil && r.Rcode == dns.RcodeSuccess
	})
	c.stop()
	eventually(t, "nobody listens", func() bool {
		conn, err := net.Dial("tcp", c.tcp)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}
