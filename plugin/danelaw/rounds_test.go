package danelaw

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/world"
)

// inRounds is an upstream that answers none of the questions of a round before all of them are there. Whoever waits for
// one of them before asking another never gets an answer.
type inRounds struct {
	*world.Upstream
	mu     sync.Mutex
	rounds []map[string]bool // what has still to come in each
	all    []chan struct{}   // closed when it is complete
}

func newRounds(u *world.Upstream, rounds ...[]string) *inRounds {
	in := &inRounds{Upstream: u}
	for _, round := range rounds {
		missing := map[string]bool{}
		for _, q := range round {
			missing[q] = true
		}
		in.rounds, in.all = append(in.rounds, missing), append(in.all, make(chan struct{}))
	}
	return in
}

// turn notes that q is there and returns what to wait for; nil if it is in no round.
func (in *inRounds) turn(q string) chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, missing := range in.rounds {
		if _, mine := missing[q]; !mine {
			continue
		}
		if missing[q] = false; !slices.Contains(values(missing), true) {
			select {
			case <-in.all[i]:
			default:
				close(in.all[i])
			}
		}
		return in.all[i]
	}
	return nil
}

func values(m map[string]bool) (all []bool) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

func (in *inRounds) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	if complete := in.turn(world.Words(q.Question[0])); complete != nil {
		<-complete
	}
	w.WriteMsg(in.Reply(q)) //nolint:errcheck // the test has ended
}

// pipelined is a DNS over TLS server that answers out of order (RFC 7766 section 7), and counts handshakes.
func pipelined(t *testing.T, h dns.Handler, handshakes *atomic.Int64) (upstream.Address, *certificates.Authority) {
	t.Helper()
	authority := certificates.New(t)
	packets, stream := ports.Open(t)
	packets.Close()
	config := &tls.Config{
		Certificates:     []tls.Certificate{authority.Server(t, "dot.example", time.Now().Add(time.Hour))},
		NextProtos:       []string{"dot"},
		VerifyConnection: func(tls.ConnectionState) error { handshakes.Add(1); return nil },
	}
	t.Cleanup(func() { stream.Close() })
	go func() {
		for {
			c, err := stream.Accept()
			if err != nil {
				return
			}
			go answerAll(&dns.Conn{Conn: tls.Server(c, config)}, h)
		}
	}()
	return upstreamAt(t, "tls://"+stream.Addr().String()+"%dot.example"), authority
}

// answerAll answers the questions of a connection, each as soon as it can be.
func answerAll(c *dns.Conn, h dns.Handler) {
	defer c.Close()
	w := &streamWriter{conn: c}
	for {
		q, err := c.ReadMsg()
		if err != nil {
			return
		}
		go h.ServeDNS(w, q)
	}
}

// streamWriter writes replies one after the other.
type streamWriter struct {
	dns.ResponseWriter
	mu   sync.Mutex
	conn *dns.Conn
}

func (w *streamWriter) WriteMsg(m *dns.Msg) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conn.WriteMsg(m)
}

func (w *streamWriter) LocalAddr() net.Addr { return w.conn.LocalAddr() }

// TestRoundTripsOverTLS: over DoT mail to a domain never seen before takes two rounds too, and one handshake with all
// that came before.
func TestRoundTripsOverTLS(t *testing.T) {
	tree := world.New(time.Now, world.Zone("."), world.Zone("com."), world.Domain("known.com."),
		world.Domain("example.com."))
	in := newRounds(tree.Caching(), []string{"example.com. MX", "example.com. DS", "example.com. DNSKEY"},
		[]string{"mx.example.com. A", "mx.example.com. AAAA", "_25._tcp.mx.example.com. TLSA"})
	var handshakes atomic.Int64
	address, authority := pipelined(t, in, &handshakes)
	c := Defaults()
	c.processorsShort = enough
	c.Block = t.Name()
	c.Anchors, c.RootCAs, c.Timeout = tree.Anchors(), authority.Pool, 20*time.Second
	c.Routes = []upstream.Route{{From: ".", To: []upstream.Address{address}}}
	h := open(t, c)
	mta := from("127.0.0.1:5300")
	for _, domain := range []string{"known.com.", "example.com."} {
		for _, q := range []dns.Question{{Name: domain, Qtype: dns.TypeMX}, {Name: "mx." + domain, Qtype: dns.TypeA},
			{Name: "mx." + domain, Qtype: dns.TypeAAAA}, {Name: "_25._tcp.mx." + domain, Qtype: dns.TypeTLSA}} {
			if r := mta.ask(t, h, q.Name, q.Qtype, withDO); r.Rcode != dns.RcodeSuccess || !r.AuthenticatedData {
				t.Fatalf("%s %s: %s", q.Name, dns.TypeToString[q.Qtype], describes(r))
			}
		}
	}
	if n := handshakes.Load(); n != 1 {
		t.Errorf("%d handshakes", n)
	}
}
