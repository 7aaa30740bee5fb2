package fastpath

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// answers has a server say who it is.
func answers(who string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.TXT{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{who},
		}}
		w.WriteMsg(m)
	}
}

// TestUnaddressed: where a socket for all addresses is not told to which of them a query came, a Listener leaves UDP to
// the others of the address and reads TCP, and says why; a socket of one address needs no telling.
func TestUnaddressed(t *testing.T) {
	before := tellAddress
	tellAddress = func(int) error { return unix.ENOPROTOOPT }
	t.Cleanup(func() { tellAddress = before })
	for host, reads := range map[string]string{"": "tcp", "127.0.0.1": "udp tcp"} {
		t.Run("reads "+reads, func(t *testing.T) {
			others, err := sharing.Listen(t.Context(), "tcp", host+":0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { others.Close() })
			address := rebound(host+":0", others.Addr())
			packets, err := sharing.ListenPacket(t.Context(), "udp", address)
			if err != nil {
				t.Fatal(err)
			}
			other := &dns.Server{PacketConn: packets, Handler: answers("another")}
			go other.ActivateAndServe()
			t.Cleanup(func() { other.Shutdown() })
			l, err := Listen(address, address, func(_ context.Context, w dns.ResponseWriter, q *dns.Msg) {
				answers("ours").ServeDNS(w, q)
			}, Options{Limits: usualLimits, Size: func() uint16 { return 1232 }, Refused: func() {}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close(t.Context()) })
			var ours []string
			for _, network := range []string{"udp", "tcp"} {
				client := dns.Client{Net: network, Timeout: patient}
				q := new(dns.Msg).SetQuestion("example.com.", dns.TypeTXT)
				m, _, err := client.Exchange(q, rebound("127.0.0.1:0", others.Addr()))
				if err != nil {
					t.Fatal(err)
				}
				if m.Answer[0].(*dns.TXT).Txt[0] == "ours" {
					ours = append(ours, network)
				}
			}
			if got := strings.Join(ours, " "); got != reads {
				t.Errorf("reads %s, want %s", got, reads)
			}
			if err := l.WithoutUDP(); errors.Is(err, unix.ENOPROTOOPT) != (host == "") {
				t.Errorf("says %v", err)
			}
			l.Limit(usualLimits)
			if err := l.Steer(); err != nil {
				t.Error(err)
			}
		})
	}
}
