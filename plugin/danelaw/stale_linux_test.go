package danelaw

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/world"
)

// mute is an upstream that asks the lab, as long as it is not down: then it answers SERVFAIL.
func mute(t *testing.T, down *atomic.Bool) string {
	return ports.Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetRcode(m, dns.RcodeServerFailure)
		if !down.Load() {
			r = exchange(t, w.LocalAddr().Network(), lab().Addr(), m)
		}
		w.WriteMsg(r) //nolint:errcheck // the client asks again
	}))
}

// C-13: clients get a stale answer over sockets with EDE 3, a TTL of 30 s, AD and, if they ask for them, signatures; it
// is counted, told by the control socket, and gone after a reload that turns it off. The fast path has none of its own.
func TestStaleReplies(t *testing.T) {
	var down atomic.Bool
	c, clock := config(t, mute(t, &down)), world.NewClock(time.Now())
	c.Clock, c.ServeStale, c.Prefetch = clock.Now, 24*time.Hour, false
	h := open(t, c)
	at := serve(t, h)
	hits, _ := passes(t, h, false)
	all, _ := passes(t, h, true)
	if r := ask(t, at, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Fatal(r)
	}
	down.Store(true)
	clock.Advance(2 * time.Hour)
	asked := 0
	for _, server := range []string{all, hits, at} {
		for what, m := range map[string]*dns.Msg{
			"DO": newMsg(secureMX, dns.TypeMX, withDO), "no DO": newMsg(secureMX, dns.TypeMX, withEDNS),
			"AD": newMsg(secureMX, dns.TypeMX, withEDNS, withAD),
		} {
			r := exchange(t, "udp", server, m)
			asked++
			if r.Rcode != dns.RcodeSuccess || r.AuthenticatedData != (what != "no DO") || len(r.Answer) == 0 ||
				!slices.Equal(edes(r), []uint16{dns.ExtendedErrorCodeStaleAnswer}) {
				t.Errorf("%s: %v", what, r)
			}
			for _, rr := range r.Answer {
				if rr.Header().Ttl != 30 || what != "DO" && rr.Header().Rrtype == dns.TypeRRSIG {
					t.Errorf("%s: %v", what, rr)
				}
			}
		}
	}
	if n := metric(t, "stale_answers_total", "block", c.Block); n != float64(asked) || cacheTold(h).Stale != n {
		t.Errorf("counted %v, told %v, of %d", n, cacheTold(h).Stale, asked)
	}
	if r := ask(t, all, secureMX, dns.TypeMX, withoutRD); r.Rcode != dns.RcodeRefused {
		t.Errorf("RD=0: %v", r)
	}
	c.ServeStale = 0
	if r := ask(t, serve(t, open(t, c)), secureMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("turned off: %v", r)
	}
	c.ServeStale = 24 * time.Hour
	if r := ask(t, serve(t, open(t, c)), secureMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeSuccess {
		t.Errorf("turned on again: %v", r)
	}
}
