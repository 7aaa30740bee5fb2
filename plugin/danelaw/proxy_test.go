package danelaw

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// proxy stands between danelaw and the lab's recursor, and does to messages what its tamper says.
type proxy struct {
	t    testing.TB
	addr string

	mu      sync.Mutex
	tamper  tamper
	asked   []*dns.Msg // what danelaw sent, in the order of arrival
	network []string   // over which transport
	stop    func()     // closes the sockets
}

// tamper returns the reply to be sent instead of r, nil for none. n counts the messages that arrived before q.
type tamper func(network string, n int, q, r *dns.Msg) *dns.Msg

func honest(_ string, _ int, _, r *dns.Msg) *dns.Msg { return r }

func silent(string, int, *dns.Msg, *dns.Msg) *dns.Msg { return nil }

// servfail answers SERVFAIL to everything.
func servfail(_ string, _ int, q, _ *dns.Msg) *dns.Msg {
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

// stripped loses all signatures on the way.
func stripped(_ string, _ int, _, r *dns.Msg) *dns.Msg {
	r.Answer, r.Ns = withoutType(r.Answer, dns.TypeRRSIG), withoutType(r.Ns, dns.TypeRRSIG)
	return r
}

// withoutType returns the records of other types.
func withoutType(rrs []dns.RR, t uint16) (kept []dns.RR) {
	for _, rr := range rrs {
		if rr.Header().Rrtype != t {
			kept = append(kept, rr)
		}
	}
	return kept
}

// between starts a proxy before the lab's recursor.
func between(t testing.TB, how tamper) *proxy {
	t.Helper()
	p := &proxy{t: t, tamper: how}
	pc, l := ports.Open(t)
	p.addr = pc.LocalAddr().String()
	p.serveOn(pc, l)
	return p
}

// become changes what the proxy does.
func (p *proxy) become(how tamper) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tamper = how
}

// questions returns what was asked so far, and forgets it.
func (p *proxy) questions() (asked []*dns.Msg, network []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked, network = p.asked, p.network
	p.asked, p.network = nil, nil
	return asked, network
}

// ServeDNS implements dns.Handler.
func (p *proxy) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	network := w.LocalAddr().Network()
	p.mu.Lock()
	n := len(p.asked)
	p.asked, p.network = append(p.asked, q.Copy()), append(p.network, network)
	how := p.tamper
	p.mu.Unlock()
	r, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(q, lab().Addr())
	if err != nil {
		return // the test has ended
	}
	if r = how(network, n, q, r); r != nil {
		w.WriteMsg(r) //nolint:errcheck // the test has ended
	}
}

// vanish closes the sockets; what it returns opens them again at the same port.
func (p *proxy) vanish() (returns func()) {
	p.mu.Lock()
	stop := p.stop
	p.mu.Unlock()
	stop()
	return func() { p.serveOn(ports.Reopen(p.t, p.addr)) }
}

func (p *proxy) serveOn(pc net.PacketConn, l net.Listener) {
	stop := ports.ServeOn(p.t, p, pc, l)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop = stop
}
