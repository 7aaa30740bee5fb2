package upstream

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/hosts"
	"github.com/coredns/coredns/plugin/pkg/proxy"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// nextSet asks the given plugin for everything.
func nextSet(t testing.TB, next plugin.Handler) *Set {
	return newSet(t, Config{Next: next})
}

// realForward is CoreDNS's forward to one server.
func realForward(t testing.TB, s *server) *forward.Forward {
	f := forward.New()
	f.SetProxy(proxy.NewProxy("upstream_test", s.addr.String(), transport.DNS))
	t.Cleanup(func() { f.OnShutdown() })
	return f
}

// realHosts is CoreDNS's hosts with one line, before another plugin.
func realHosts(t testing.TB, line string, next plugin.Handler) plugin.Handler {
	t.Helper()
	c := caddy.NewTestController("dns", "hosts /dev/null . {\n"+line+"\nreload 0\nfallthrough\n}")
	setup, err := caddy.DirectiveAction("dns", "hosts")
	if err != nil {
		t.Fatal(err)
	}
	if err := setup(c); err != nil {
		t.Fatal(err)
	}
	return dnsserver.GetConfig(c).Plugin[0](next)
}

// The questions reach forward's upstream as ours do: RD, DO, CD and the EDNS size; six at once do not get mixed up.
func TestNextForward(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) { answerOwn(t, a) })
	set := nextSet(t, realForward(t, s))
	if reply := wantMX(t, set); reply.Upstream != "next plugin (forward)" || reply.Size == 0 {
		t.Errorf("reply of %d octets from %q", reply.Size, reply.Upstream)
	}
	m := s.got("udp")[0].msg
	if opt := m.IsEdns0(); opt == nil || !opt.Do() || opt.UDPSize() != defaultEDNSSize ||
		!m.RecursionDesired || !m.CheckingDisabled {
		t.Errorf("sent %v", m)
	}
	for _, err := range parallel(t, set, 6) {
		if err != nil {
			t.Error(err)
		}
	}
	if len(s.got("tcp")) == 0 {
		t.Error("Try.TCP was not heeded: forward follows the transport of its client")
	}
}

// forward hands a truncated reply on; TCP is asked then (S-5).
func TestNextTruncated(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) {
		if a.network == "udp" {
			a.truncate()
		} else {
			a.answer(theMX(t))
		}
	})
	wantMX(t, nextSet(t, realForward(t, s)))
}

// An RCODE from below is told; and a packet that forward loses is asked for again without waiting for it to notice.
func TestNextForwardFails(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) { a.rcode(dns.RcodeServerFailure) })
	_, err := exchange(t, nextSet(t, realForward(t, s)))
	wantFailure(t, err, dns.ExtendedErrorCodeNoReachableAuthority, "next plugin (forward) answered SERVFAIL")
	s = serve(t, func(a *asked) {
		if a.n > 0 {
			a.answer(theMX(t))
		}
	})
	wantMX(t, nextSet(t, realForward(t, s)))
}

// hosts answers what it knows and passes the rest on.
func TestNextHosts(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) { answerOwn(t, a) })
	set := nextSet(t, realHosts(t, "192.0.2.25 mail.example.com", realForward(t, s)))
	reply, err := set.Exchange(ctxFor(t, longEnough), question("mail.example.com.", dns.TypeA), fetch.Try{})
	if err != nil || len(reply.Msg.Answer) != 1 || !reply.Msg.Answer[0].(*dns.A).A.Equal(net.IPv4(192, 0, 2, 25)) {
		t.Errorf("got %v, %v", reply.Msg, err)
	}
	if len(s.got("udp")) != 0 {
		t.Error("the question went on to forward")
	}
	if reply := wantMX(t, set); reply.Upstream != "next plugin (hosts)" {
		t.Errorf("reply from %q", reply.Upstream)
	}
}

// handler is a plugin that is what its function does.
type handler func(ctx context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error)

func (h handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error) {
	return h(ctx, w, m)
}
func (handler) Name() string { return "test" }

// What plugins may do instead of answering; each is a failure that says so.
func TestNextMisbehaves(t *testing.T) {
	leakless(t)
	const refusal, network, invalid = dns.ExtendedErrorCodeNoReachableAuthority, dns.ExtendedErrorCodeNetworkError,
		dns.ExtendedErrorCodeInvalidData
	write := func(change func(m *dns.Msg)) handler {
		return func(_ context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error) {
			reply := new(dns.Msg)
			reply.SetReply(m)
			change(reply)
			return dns.RcodeSuccess, w.WriteMsg(reply)
		}
	}
	for name, tt := range map[string]struct {
		next handler
		code uint16
		text string
	}{
		"an RCODE and nothing written": {func(context.Context, dns.ResponseWriter, *dns.Msg) (int,
			error) {
			return dns.RcodeRefused, nil
		}, refusal, "answered REFUSED"},
		"an error": {func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
			return dns.RcodeServerFailure, errors.New("no luck")
		}, network, "failed: no luck"},
		"nothing at all": {func(context.Context, dns.ResponseWriter, *dns.Msg) (int,
			error) {
			return dns.RcodeSuccess, nil
		}, invalid, "wrote no reply"},
		"a panic": {func(context.Context, dns.ResponseWriter, *dns.Msg) (int,
			error) {
			panic("a plugin")
		}, network, "panicked: a plugin"},
		"another question": {write(func(m *dns.Msg) { m.Question[0].Name = "example.net." }), invalid,
			"replied to another question"},
		"another type": {write(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT }), invalid,
			"replied to another question"},
		"another class": {write(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), invalid,
			"replied to another question"},
		"no question": {write(func(m *dns.Msg) { m.Question = nil }), invalid,
			"replied to another question"},
		"a query": {write(func(m *dns.Msg) { m.Response = false }), invalid,
			"replied to another question"},
		"REFUSED": {write(func(m *dns.Msg) { m.Rcode = dns.RcodeRefused }), refusal, "answered REFUSED"},
		"truncated over TCP too": {write(func(m *dns.Msg) { m.Truncated = true }), invalid,
			"truncated its reply over TCP"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := exchange(t, nextSet(t, tt.next))
			wantFailure(t, err, tt.code, "next plugin (test) "+tt.text)
		})
	}
}

// A plugin may write octets, may write in another case, and may keep what it wrote; the reply is ours.
func TestNextWritesInItsWays(t *testing.T) {
	leakless(t)
	kept := new(dns.Msg)
	set := nextSet(t, handler(func(_ context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error) {
		kept.SetReply(m)
		kept.Question[0].Name = "EXAMPLE.com."
		kept.Answer = []dns.RR{theMX(t)}
		return dns.RcodeSuccess, w.WriteMsg(kept)
	}))
	reply := wantMX(t, set)
	if reply.Msg.Answer[0].Header().Ttl = 1; kept.Answer[0].Header().Ttl == 1 {
		t.Error("the reply is shared with the plugin")
	}
	wantMX(t, nextSet(t, handler(func(_ context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error) {
		reply := new(dns.Msg)
		reply.SetReply(m)
		reply.Answer = []dns.RR{theMX(t)}
		_, err := w.Write(packed(t, reply))
		return dns.RcodeSuccess, err
	})))
}

// The plugin sees a client on loopback, over UDP or over TCP as the try says.
func TestNextSeesLoopback(t *testing.T) {
	leakless(t)
	seen := make(chan net.Addr, 2)
	set := nextSet(t, handler(func(_ context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error) {
		seen <- w.RemoteAddr()
		reply := new(dns.Msg)
		return dns.RcodeSuccess, w.WriteMsg(reply.SetReply(m))
	}))
	for _, tcp := range []bool{false, true} {
		if _, err := set.Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{TCP: tcp}); err != nil {
			t.Fatal(err)
		}
		at := <-seen
		if got := strings.HasPrefix(at.Network(), "tcp"); got != tcp || !strings.HasPrefix(at.String(), "127.0.0.1:") {
			t.Errorf("TCP %v: the client is %s %s", tcp, at.Network(), at)
		}
	}
}

// A plugin that hangs and ignores its context delays nobody beyond theirs.
func TestNextHangs(t *testing.T) {
	leakless(t)
	release, arrived := make(chan struct{}), make(chan struct{}, 100)
	defer close(release)
	set := nextSet(t, handler(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
		arrived <- struct{}{}
		<-release
		return dns.RcodeServerFailure, nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := set.Exchange(ctx, mxQuestion, fetch.Try{})
	wantFailure(t, err, dns.ExtendedErrorCodeNoReachableAuthority, "next plugin (test) sent no reply in time")
}

// A route for the root leaves nothing to the next plugin; any other leaves the rest.
func TestNextTakesTheRest(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) { answerOwn(t, a) })
	refuse := handler(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { return dns.RcodeRefused, nil })
	wantMX(t, newSet(t, Config{Next: refuse, Routes: []Route{{".", []Address{s.plain()}}}}))
	wantMX(t, newSet(t, Config{Next: refuse, Routes: []Route{{"example.com", []Address{s.plain()}}}}))
	_, err := exchange(t, newSet(t, Config{Next: refuse, Routes: []Route{{"example.net", []Address{s.plain()}}}}))
	wantFailure(t, err, dns.ExtendedErrorCodeNoReachableAuthority, "next plugin (test) answered REFUSED")
}
