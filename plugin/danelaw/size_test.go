package danelaw

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// sizedWorld has RRsets of many sizes and kinds, in a zone with NSEC and one with NSEC3.
var sizedWorld = sync.OnceValue(func() *world.Tree {
	var text strings.Builder
	text.WriteString(world.Base)
	for _, n := range []int{1, 4, 9, 25, 70} {
		for i := range n {
			fmt.Fprintf(&text, "n%d A 192.0.2.%d\nn%[1]d MX %d mx%[2]d.a-provider.example.\n", n, i, i)
			fmt.Fprintf(&text, "n%d TXT \"%d \\\"quoted\\\" and \\001\\255 \\\\ %s\"\n", n, i, strings.Repeat("x", i))
		}
	}
	return world.New(time.Now, world.Zone("."), zones.Plan{Name: "nsec.", Text: text.String()},
		zones.Plan{Name: "nsec3.", Text: text.String(), Config: zones.Config{Algorithms: []uint8{8, 13},
			NSEC3: &zones.NSEC3{Salt: "abcd"}}},
	)
})

// sizedQuestions have replies from a few octets to several thousand.
func sizedQuestions() (all []dns.Question) {
	for _, zone := range []string{"nsec.", "nsec3."} {
		for _, n := range []int{1, 4, 9, 25, 70} {
			for _, rrtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeTXT, dns.TypeTLSA} {
				all = append(all, dns.Question{Name: fmt.Sprintf("n%d.%s", n, zone), Qtype: rrtype,
					Qclass: dns.ClassINET})
			}
		}
		all = append(all, dns.Question{Name: "none.n4." + zone, Qtype: dns.TypeA, Qclass: dns.ClassINET},
			dns.Question{Name: zone, Qtype: dns.TypeDNSKEY, Qclass: dns.ClassINET})
	}
	return all
}

// sizes are those that matter for a reply of so many octets.
func sizes(whole int) (all []uint16) {
	for _, size := range []int{0, 512, 1231, 1232, 1233, 1400, 1480, 4096, 65535, whole - 20, whole - 1, whole,
		whole + 1, whole + 20} {
		if size >= 0 {
			all = append(all, uint16(min(size, 65535)))
		}
	}
	return all
}

// wholeSize is how many octets a reply has that nobody needs to cut.
func wholeSize(t *testing.T, wire []byte) int {
	t.Helper()
	var m dns.Msg
	if err := dnssec.Unpack(&m, wire); err != nil || m.Truncated || m.Rcode == dns.RcodeServerFailure {
		t.Fatalf("%v: %v", &m, err)
	}
	m.Compress = true
	return len(pack(t, &m))
}

// checkSize checks a reply over UDP: no larger than there is room, TC if and only if that is too little for all.
func checkSize(t *testing.T, what string, wire []byte, whole, room int) {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	if len(wire) > room || m.Truncated != (whole > room) {
		t.Errorf("%s: %d octets, TC=%v; all are %d, the room is %d", what, len(wire), m.Truncated, whole, room)
	}
}

// S-1, S-3: through CoreDNS, no reply over UDP is larger than the client takes, and TC is set where it is needed and
// nowhere else, whatever CoreDNS does to a message that danelaw has fitted.
func TestCoreDNSRoom(t *testing.T) {
	anchors := filepath.Join(t.TempDir(), "anchors")
	if err := os.WriteFile(anchors, []byte(sizedWorld().DS(".")[0].String()), 0o600); err != nil {
		t.Fatal(err)
	}
	upstream := sizedWorld().Caching().Serve(t, world.AnyPort)
	c := startCoreDNS(t, blockOf(".:0", "upstream . "+upstream+"\ntrust_anchor "+anchors, ""))
	for _, q := range sizedQuestions() {
		for _, edns := range []change{func(*dns.Msg) {}, withEDNS, withDO} {
			query := newMsg(q.Name, q.Qtype, edns)
			whole := wholeSize(t, overTCP(t, c.tcp, query))
			for _, size := range sizes(whole) {
				room := min(max(int(size), dns.MinMsgSize), loopbackSize)
				if opt := query.IsEdns0(); opt != nil {
					opt.SetUDPSize(size)
				} else {
					room = dns.MinMsgSize
				}
				checkSize(t, fmt.Sprintf("%s, DO=%v, size %d", describe(q), query.IsEdns0() != nil &&
					query.IsEdns0().Do(), size),
					overUDP(t, c.udp, query), whole, room)
			}
		}
	}
}

// S-1: the same for clients on other hosts, which get no more than edns_size however much they would take.
func TestCoreDNSRoomOfOthers(t *testing.T) {
	c := config(t, sizedWorld().Caching().Serve(t, world.AnyPort))
	c.Anchors = sizedWorld().Anchors()
	c.AllowClients = networks("0.0.0.0/0")
	h := open(t, c)
	for _, q := range sizedQuestions() {
		tcp := fromTCP("192.0.2.1:53")
		tcp.ask(t, h, q.Name, q.Qtype, withDO)
		whole := wholeSize(t, tcp.wire)
		for _, size := range sizes(whole) {
			query := newMsg(q.Name, q.Qtype, withSize(size))
			w := from("192.0.2.1:53")
			if _, err := h.ServeDNS(t.Context(), request.NewScrubWriter(query, w), query); err != nil {
				t.Fatal(err)
			}
			checkSize(t, fmt.Sprintf("%s, size %d", describe(q), size), w.wire, whole,
				min(max(int(size), dns.MinMsgSize), 1232))
			if got := query.IsEdns0().UDPSize(); got != size {
				t.Errorf("%s: the query says %d now, not %d", describe(q), got, size)
			}
		}
	}
}

// overUDP exchanges one message and returns the reply as it came.
func overUDP(t *testing.T, server string, m *dns.Msg) []byte {
	t.Helper()
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // the reading tells
	if _, err := conn.Write(pack(t, m)); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, dns.MaxMsgSize)
	n, err := conn.Read(reply)
	if err != nil {
		t.Fatal(err)
	}
	return reply[:n]
}
