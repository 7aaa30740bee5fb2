package policy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// TestFetch: D-27, each policy host with its one fault.
func TestFetch(t *testing.T) {
	const d = "d.example."
	sound := file("enforce", week, "a.example")
	padded := func(size int) string {
		return sound + strings.Repeat("x: y\n", (size-len(sound))/5) + "x:yyyyyyyyyyyyy"
	}
	exactly := func(size int) string { return padded(size)[:size] }
	typed := func(kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			fmt.Fprint(w, sound)
		}
	}
	for name, c := range map[string]struct {
		world func(n *internet)
		want  mail.Result // "": fetched
		why   string
	}{
		"sound":  {func(n *internet) {}, "", ""},
		"64 KiB": {func(n *internet) { n.serves(d, text(exactly(fetchOctets))) }, "", ""},
		"64 KiB and an octet": {func(n *internet) { n.serves(d, text(exactly(fetchOctets+1))) }, mail.STSPolicyInvalid,
			"65536"},
		"10 MB": {func(n *internet) { n.serves(d, text(padded(10_000_000))) }, mail.STSPolicyInvalid, "65536"},
		"redirect": {func(n *internet) {
			n.serves(d, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://other.example/", http.StatusFound)
			})
		}, mail.STSPolicyFetchError, "302"},
		"redirect to itself": {func(n *internet) {
			again := false
			n.serves(d, func(w http.ResponseWriter, r *http.Request) {
				if again {
					text(sound)(w, r)
					return
				}
				again = true
				http.Redirect(w, r, "/.well-known/mta-sts.txt", http.StatusMovedPermanently)
			})
		}, mail.STSPolicyFetchError, "301"},
		"404":        {func(n *internet) { n.serves(d, http.NotFound) }, mail.STSPolicyFetchError, "404"},
		"HTML":       {func(n *internet) { n.serves(d, typed("text/html")) }, mail.STSPolicyInvalid, "text/html"},
		"no type":    {func(n *internet) { n.serves(d, typed("")) }, mail.STSPolicyInvalid, "text/plain"},
		"upper case": {func(n *internet) { n.serves(d, typed("Text/Plain; charset=us-ascii")) }, "", ""},
		"no policy":  {func(n *internet) { n.serves(d, text("nothing")) }, mail.STSPolicyInvalid, "does not parse"},
		"expired": {func(n *internet) {
			n.certs["mta-sts.d.example"] = n.ca.Server(t, "mta-sts.d.example", time.Now().Add(-time.Hour))
		}, mail.STSWebPKIInvalid, "expired"},
		"another's certificate": {func(n *internet) {
			n.certs["mta-sts.d.example"] = n.ca.Server(t, "d.example", time.Now().Add(time.Hour))
		}, mail.STSWebPKIInvalid, "not for mta-sts.d.example"},
		"another authority": {func(n *internet) {
			n.certs["mta-sts.d.example"] = newInternet(t).ca.Server(t, "mta-sts.d.example", time.Now().Add(time.Hour))
		}, mail.STSWebPKIInvalid, "authority"},
		"no address": {func(n *internet) { n.lacks("mta-sts."+d+" A", dnssec.Secure) }, mail.STSPolicyFetchError,
			"no address"},
		"addresses Bogus": {func(n *internet) {
			n.lacks("mta-sts."+d+" A", dnssec.Bogus)
			n.lacks("mta-sts."+d+" AAAA", dnssec.Bogus)
		}, mail.STSPolicyFetchError, "lookup of mta-sts.d.example. AAAA fails"},
		"loopback": {func(n *internet) {
			n.lacks("mta-sts."+d+" A", dnssec.Secure)
			n.has(dnssec.Secure, "mta-sts."+d+" A 127.0.0.1")
		}, mail.STSPolicyFetchError, "not public"},
		"loopback beside a public one": {func(n *internet) {
			n.has(dnssec.Secure, "mta-sts."+d+" A 127.0.0.1")
		}, "", ""},
		"loopback, private": {func(n *internet) {
			n.lacks("mta-sts."+d+" A", dnssec.Secure)
			n.has(dnssec.Secure, "mta-sts."+d+" A 127.0.0.1")
			n.private = true
		}, "", ""},
		"endless": {func(n *internet) {
			n.serves(d, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
		}, mail.STSPolicyFetchError, "within"},
	} {
		n := newInternet(t)
		n.sts(d, "1", sound)
		c.world(n)
		s := n.service(NewStore())
		if name == "endless" {
			s.fetch.life = 300 * time.Millisecond
		}
		fetched := s.fetch.get(t.Context(), d)
		p, failed := fetched.Policy, fetched.Failure
		switch {
		case c.want == "" && (failed != nil || p.Mode != mail.Enforce):
			t.Errorf("%s: %v, %v", name, p, failed)
		case c.want != "" && (failed == nil || failed.Result != c.want || !strings.Contains(failed.Text, c.why)):
			t.Errorf("%s: %v, %+v, want %s: %s", name, p, failed, c.want, c.why)
		}
		for _, address := range n.dialled {
			if strings.HasPrefix(address, "127.") && !n.private || !strings.HasSuffix(address, ":443") {
				t.Errorf("%s: connected to %s", name, address)
			}
		}
	}
}

// TestPublic: nobody makes danelaw connect to its own network.
func TestPublic(t *testing.T) {
	for address, want := range map[string]bool{
		"9.9.9.9": true, "192.0.3.1": true, "172.32.0.1": true, "223.255.255.255": true, "2620:fe::fe": true,
		"2001:4860::1": true, "64:ff9b::909:909": true, "::ffff:9.9.9.9": true,
		"0.0.0.0": false, "10.0.0.1": false, "100.64.0.1": false, "100.127.255.255": false, "127.0.0.1": false,
		"169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false, "192.0.0.8": false, "192.0.2.1": false,
		"192.168.1.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false,
		"240.0.0.1": false, "255.255.255.255": false, "::": false, "::1": false, "fe80::1": false,
		"fe80::1%eth0": false,
		"fc00::1":      false, "fd00::1": false, "fec0::1": false, "ff02::1": false, "2001:db8::1": false,
		"2002:7f00:1::": false,
		"2001::1":       false, "3fff::1": false, "64:ff9b::7f00:1": false, "64:ff9b::a00:1": false,
		"64:ff9b:1::1":     false,
		"::ffff:127.0.0.1": false, "::7f00:1": false, "100::1": false,
	} {
		if public(netip.MustParseAddr(address)) != want {
			t.Errorf("%s: %v", address, !want)
		}
	}
}

// TestRoundTrips: D-27, the first question about a domain waits for upstreams twice, not for MX, mail hosts, TXT record
// and policy host one after the other.
func TestRoundTrips(t *testing.T) {
	const trip = 20 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		n := newInternet(t)
		n.insecure("d.example.", "a.example.")
		n.sts("d.example.", "1", file("enforce", week, "a.example"))
		var mu sync.Mutex
		asked := map[string]chan struct{}{} // closed when the answer is in memory
		ask := func(ctx context.Context, name string, qtype uint16) mail.Reply {
			key := name + " " + dns.Type(qtype).String()
			mu.Lock()
			there, joined := asked[key]
			if !joined {
				there = make(chan struct{})
				asked[key] = there
				time.AfterFunc(trip, func() { close(there) })
			}
			mu.Unlock()
			<-there
			return n.ask(ctx, name, qtype)
		}
		var dialled time.Duration
		began := time.Now()
		s := New(Config{Ask: ask, Private: func(string) bool { return false }, Clock: n.clock.Now, Meter: n,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				dialled = time.Since(began)
				return nil, net.ErrClosed
			}}, NewStore())
		s.Decide(t.Context(), "d.example")
		if dialled != 2*trip {
			t.Errorf("the policy host was called after %v, want %v", dialled, 2*trip)
		}
	})
}
