package danelaw

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// TestFailureLogged: the first client told of a failure is its log line, however it was born, and no other client is.
func TestFailureLogged(t *testing.T) {
	const tlsa = "_25._tcp.mx.tlsa-servfail.dane."
	slowly := func(_ string, _ int, q, r *dns.Msg) *dns.Msg {
		time.Sleep(50 * time.Millisecond)
		return r
	}
	askAll := func(t *testing.T, server string, changes ...change) {
		var clients sync.WaitGroup
		for range 5 {
			clients.Go(func() { failed(t, "TLSA", ask(t, server, tlsa, dns.TypeTLSA, append(changes, withDO)...)) })
		}
		clients.Wait()
	}
	joined := func(t *testing.T, _ *Handler, server string) { askAll(t, server) }
	for _, tt := range []struct {
		name    string
		tamper  tamper
		timeout time.Duration
		ask     func(t *testing.T, h *Handler, server string)
		lines   int
	}{
		{"a client", honest, patience, func(t *testing.T, _ *Handler, server string) {
			ask(t, server, tlsa, dns.TypeTLSA)
		}, 1},
		{"clients one after the other", honest, patience, func(t *testing.T, _ *Handler, server string) {
			for range 4 { // as Postfix does
				ask(t, server, tlsa, dns.TypeTLSA)
			}
		}, 1},
		{"a prefetch", honest, patience, func(t *testing.T, h *Handler, server string) {
			ask(t, server, "tlsa-servfail.dane.", dns.TypeMX)
			eventually(t, "the failure is remembered",
				func() bool { return h.memory.Sizes().Failures.Entries > 0 })
			if r := ask(t, server, tlsa, dns.TypeTLSA, withDO); !slices.Contains(edes(r),
				dns.ExtendedErrorCodeCachedError) {
				t.Errorf("the first client is told %s", describes(r))
			}
			ask(t, server, tlsa, dns.TypeTLSA)
		}, 1},
		{"clients who joined", slowly, patience, joined, 1},
		{"clients whose time was up", silent, 2 * time.Second, joined, 1},
		{"CD, and one without", slowly, patience, func(t *testing.T, _ *Handler, server string) {
			ask(t, server, bogusMX, dns.TypeMX, withDO, withCD) // gets an answer
			ask(t, server, bogusMX, dns.TypeMX, withDO)
			ask(t, server, bogusMX, dns.TypeMX, withDO)
		}, 1},
		{"two failures", honest, patience, func(t *testing.T, h *Handler, server string) {
			ask(t, server, tlsa, dns.TypeTLSA)
			h.memory.ForgetFailures()
			ask(t, server, tlsa, dns.TypeTLSA)
		}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			book := logged(t)
			c := config(t, between(t, tt.tamper).addr)
			c.Timeout = tt.timeout
			begun := time.Now()
			c.Clock = func() time.Time { return begun } // no failure is forgotten meanwhile
			h := open(t, c)
			tt.ask(t, h, serve(t, h))
			if n := strings.Count(book.String(), " from 127.0.0.1: SERVFAIL: "); n != tt.lines {
				t.Errorf("%d lines, want %d:\n%s", n, tt.lines, book)
			}
		})
	}
}

// TestFailedRenewalLogged: nobody is told that an answer could not be renewed, so that is no line; that it is gone in
// the end is one.
func TestFailedRenewalLogged(t *testing.T) {
	book := logged(t)
	p := between(t, honest)
	clock := new(dial)
	c := config(t, p.addr)
	c.Clock = clock.now
	h := open(t, c)
	server := serve(t, h)
	ttl := time.Duration(ask(t, server, secureTLSA, dns.TypeTLSA, withDO).Answer[0].Header().Ttl) * time.Second
	p.become(servfail)
	clock.set(clock.now().Add(ttl - ttl/20))
	if r := ask(t, server, secureTLSA, dns.TypeTLSA, withDO); !r.AuthenticatedData {
		t.Fatalf("it is not cached any more: %s", describes(r))
	}
	eventually(t, "a failed renewal", func() bool {
		return metric(t, "fetches_total", "block", c.Block, "role", "renew", "result", "failure") > 0
	})
	if strings.Contains(book.String(), "SERVFAIL: ") {
		t.Errorf("nobody was told of a failure:\n%s", book)
	}
	clock.set(clock.now().Add(ttl / 10))
	for range 3 {
		failed(t, "after its end", ask(t, server, secureTLSA, dns.TypeTLSA, withDO))
	}
	if n := strings.Count(book.String(), secureTLSA+" TLSA from 127.0.0.1: SERVFAIL: "); n != 1 {
		t.Errorf("%d lines:\n%s", n, book)
	}
}

// TestSecretPath: the path of an upstream over HTTPS is a credential: it is in nothing that a client is told, that is
// logged or that is counted.
func TestSecretPath(t *testing.T) {
	book := logged(t)
	at := netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", ports.Closed(t)))
	c := config(t)
	c.Routes = []upstream.Route{{From: ".", To: []upstream.Address{
		{Transport: upstream.HTTPS, Server: at, Name: "doh.example", Path: "/s3cr3t"},
		{Transport: upstream.HTTPS, Server: at, Name: "doh.example", Path: "/s3cr3t-2"},
	}}}
	h := started(t, c)
	r := ask(t, serve(t, h), secureMX, dns.TypeMX, withDO)
	failed(t, "nobody listens", r)
	if text, want := textOf(r), fmt.Sprintf("https://%s%%doh.example failed over HTTPS: connection refused; ",
		at); !strings.Contains(text, want) || strings.Contains(text, "s3cr3t") {
		t.Errorf("the client is told %s, want %s", text, want)
	}
	label := fmt.Sprintf("https://%s/...%%doh.example", at)
	eventually(t, "the log names both", func() bool {
		return strings.Contains(book.String(), label+" is not fit") &&
			strings.Contains(book.String(), label+" #2 is not fit")
	})
	if strings.Contains(book.String(), "s3cr3t") {
		t.Errorf("the log has the path:\n%s", book)
	}
	for _, to := range []string{label, label + " #2"} {
		if metric(t, "upstream_questions_total", "block", c.Block, "to", to) == 0 {
			t.Errorf("no questions to %s are counted", to)
		}
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if all := fmt.Sprint(families); err != nil || strings.Contains(all, "s3cr3t") {
		t.Errorf("metrics have the path, or %v", err)
	}
}
