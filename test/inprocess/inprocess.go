// Package inprocess runs danelaw in the process of a test.
package inprocess

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

var started atomic.Int64

// Start runs a danelaw until the test ends: with its defaults, with a cache and counters of its own, with the given
// trust anchors, and with the given addresses as upstreams for all names. If change is not nil, it changes the
// configuration first. addr is where it answers, on Linux as under CoreDNS, block the name under which its metrics are.
func Start(t testing.TB, anchors trustanchors.Set, change func(*danelaw.Config), upstreams ...string) (
	h *danelaw.Handler, addr, block string) {
	t.Helper()
	c := danelaw.Defaults()
	c.Block, c.Anchors, c.Routes = fmt.Sprint(t.Name(), " ", started.Add(1)), anchors, []upstream.Route{{From: "."}}
	for _, address := range upstreams {
		to, err := upstream.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		c.Routes[0].To = append(c.Routes[0].To, to)
	}
	if change != nil {
		change(&c)
	}
	h, err := danelaw.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if runtime.GOOS == "linux" {
		addr = fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
		end, err := danelaw.Listen(h, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(end)
		return h, addr, c.Block
	}
	return h, ports.Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		h.ServeDNS(context.Background(), w, q) //nolint:errcheck // it has written its reply
	})), c.Block
}
