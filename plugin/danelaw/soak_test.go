package danelaw

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/zones"
)

// soak is how long a test of endurance runs: short, or as DANELAW_SOAK says (60s for the claims of the documentation).
func soak(short time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv("DANELAW_SOAK")); err == nil {
		return d
	}
	return short
}

// crowd runs n clients, each of which does ask again and again for the time given.
func crowd(n int, d time.Duration, ask func(client, i int)) {
	var clients sync.WaitGroup
	end := time.Now().Add(d)
	for c := range n {
		clients.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				ask(c, i)
			}
		})
	}
	clients.Wait()
}

// random returns a question for a name nobody asked for before, and what must come of it.
func random() zones.Question {
	label := fmt.Sprintf("r%016x.", rand.Uint64())
	switch rand.IntN(5) {
	case 0:
		return zones.Question{Name: label + "wildcard.dane.", Type: dns.TypeMX, Status: "Secure"}
	case 1:
		return zones.Question{Name: label + "rsasha256.dane.", Type: dns.TypeTLSA, Status: "Secure",
			Rcode: dns.RcodeNameError}
	case 2:
		return zones.Question{Name: label + "good.nsec3.", Type: dns.TypeA, Status: "Secure", Rcode: dns.RcodeNameError}
	case 3:
		return zones.Question{Name: label + "unsigned.dane.", Type: dns.TypeMX, Status: "Insecure",
			Rcode: dns.RcodeNameError}
	default:
		return zones.Question{Name: label + "expired.dane.", Type: dns.TypeMX, Status: "Bogus",
			Rcode: dns.RcodeServerFailure, EDE: 7}
	}
}

// right reports whether r is what must come of q.
func right(q zones.Question, r *dns.Msg) bool {
	return r.Rcode == q.Rcode && r.AuthenticatedData == (q.Status == "Secure") &&
		(q.EDE == 0) == (len(faultCodes(r)) == 0)
}

// limited reports whether r is the SERVFAIL of a limit or of a deadline (L-10, L-12).
func limited(r *dns.Msg) bool {
	codes := edes(r)
	return r.Rcode == dns.RcodeServerFailure && !r.AuthenticatedData && len(codes) > 0 &&
		slices.Contains([]uint16{dns.ExtendedErrorCodeOther, dns.ExtendedErrorCodeNoReachableAuthority,
			dns.ExtendedErrorCodeDNSSECIndeterminate}, codes[0])
}

// TestFullCache: a cache of the least size that far more names are asked of stays within its bound, and every answer is
// right (L-15).
func TestFullCache(t *testing.T) {
	c := config(t)
	c.CacheSize = 1 << 20
	h := open(t, c)
	h.Start()
	server := serve(t, h)
	var asked atomic.Int64
	var most atomic.Int64
	crowd(8, soak(2*time.Second), func(client, i int) {
		q := random()
		for range 2 { // the second time from the cache, unless that is too full
			if r := ask(t, server, q.Name, q.Type, withDO); !right(q, r) {
				t.Errorf("%+v: %s", q, describes(r))
			}
			asked.Add(1)
		}
		if octets, _ := h.memory.Size(); octets > most.Load() {
			most.Store(octets)
		}
	})
	octets, entries := h.memory.Size()
	t.Logf("%d questions, at most %d octets, %d entries at the end", asked.Load(), most.Load(), entries)
	if most.Load() > c.CacheSize || octets < c.CacheSize/4 || entries == 0 {
		t.Errorf("%d octets, at most %d, of %d; %d entries", octets, most.Load(), c.CacheSize, entries)
	}
	if n := metric(t, "cache_size_bytes", "block", c.Block); n > float64(c.CacheSize) || n == 0 {
		t.Errorf("cache_size_bytes is %v", n)
	}
	for _, d := range lab().Domains() {
		for _, q := range d.Questions {
			check(t, "in a full cache: "+q.Name, q, ask(t, server, q.Name, q.Type, withDO), false)
		}
	}
}

// TestCrowd: 200 clients with random names: every query is answered, rightly or by a limit, with goroutines and memory
// in bounds, of which nothing is left afterwards (L-13, L-15).
func TestCrowd(t *testing.T) {
	noLeak(t)
	const clients = 200
	c := config(t)
	c.CacheSize = 4 << 20
	h := open(t, c)
	h.Start()
	server := serve(t, h)
	watch := observe.Process()
	var asked, limits atomic.Int64
	crowd(clients, soak(2*time.Second), func(int, int) {
		q := random()
		r, _, err := (&dns.Client{Timeout: 8 * time.Second, UDPSize: 4096}).Exchange(newMsg(q.Name, q.Type, withDO),
			server)
		asked.Add(1)
		switch {
		case err != nil:
			t.Errorf("%+v is lost: %v", q, err)
		case limited(r):
			limits.Add(1)
		case !right(q, r):
			t.Errorf("%+v: %s", q, describes(r))
		}
	})
	goroutines, heap := watch()
	t.Logf("%d questions, %d ended by a limit, at most %d goroutines and %d MiB of heap", asked.Load(), limits.Load(),
		goroutines, heap>>20)
	// For each client: itself, two of the server, the flight, six questions upstream with two goroutines each, and at
	// most as much again on the side of the lab, which runs in this process too.
	if most := clients * 32; goroutines > most {
		t.Errorf("%d goroutines, want at most %d", goroutines, most)
	}
	if heap > 64<<20 {
		t.Errorf("%d MiB of heap", heap>>20)
	}
	if asked.Load() < clients || limits.Load() > asked.Load()/2 {
		t.Errorf("of %d questions %d ended by a limit", asked.Load(), limits.Load())
	}
}

// TestUpstreamAway: while the upstream is away questions get SERVFAIL that says so and what is cached is served; when
// it is back all is right at once, what had failed included (C-11).
func TestUpstreamAway(t *testing.T) {
	ways := []struct {
		name string
		away tamper
		ede  []uint16
	}{
		{"fails", servfail, []uint16{22, 5}},
		{"silent", silent, []uint16{22, 23, 5}},
		{"refuses connections", nil, []uint16{22, 23, 5}},
	}
	for _, tt := range ways {
		t.Run(tt.name, func(t *testing.T) {
			p := between(t, honest)
			c := config(t, p.addr)
			c.Aggressive = reuse.Off    // all names are to be asked for
			c.Timeout = 3 * time.Second // long enough for a question to an upstream that is back, on a busy machine too
			h := started(t, c)
			server := serve(t, h)
			eventually(t, "ready", h.Ready)
			if r := ask(t, server, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
				t.Fatal(describes(r))
			}
			end := time.Now().Add(soak(0) / time.Duration(len(ways)))
			for round := 0; round == 0 || time.Now().Before(end); round++ {
				away(t, server, p, tt.away, tt.ede, round)
			}
		})
	}
}

// away sends the upstream away once, and has it return.
func away(t *testing.T, server string, p *proxy, how tamper, want []uint16, round int) {
	t.Helper()
	back := p.vanish
	if how != nil {
		back = func() func() { p.become(how); return func() { p.become(honest) } }
	}
	returns := back()
	fresh := func(s string) string { return fmt.Sprintf("%s%d.wildcard.dane.", s, round) }
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			r := ask(t, server, fresh(fmt.Sprint("away", i)), dns.TypeMX, withDO)
			if codes := edes(r); r.Rcode != dns.RcodeServerFailure || len(codes) == 0 ||
				!slices.Contains(want, codes[0]) {
				t.Errorf("away: %s, want SERVFAIL and one of %v", describes(r), want)
			}
			if r := ask(t, server, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
				t.Errorf("cached: %s", describes(r))
			}
		})
	}
	all.Wait()
	returns()
	for _, name := range []string{"back", "away0", "away1", "away7"} {
		// An upstream that answered SERVFAIL was never away for danelaw: those failures have their five seconds.
		if name != "back" && how != nil && slices.Equal(want, []uint16{22, 5}) {
			continue
		}
		if r := ask(t, server, fresh(name), dns.TypeMX, withDO); !r.AuthenticatedData || r.Rcode != dns.RcodeSuccess {
			t.Errorf("%s, at once after the return: %s", name, describes(r))
		}
	}
}

// TestLossyUpstream: an upstream that loses every third packet makes nothing fail. Each client has a danelaw of its own
// and asks one question after the other, as a mail server does. The time for each is long, for busy machines: what is
// in question is that no loss is taken for an answer or for a fault.
func TestLossyUpstream(t *testing.T) {
	const clients = 8
	domains := slices.Clone(lab().Domains())
	if soak(0) == 0 {
		rand.Shuffle(len(domains), func(i, j int) { domains[i], domains[j] = domains[j], domains[i] })
		domains = domains[:2*clients]
	}
	var all sync.WaitGroup
	for client := range clients {
		p := between(t, lossy)
		c := config(t, p.addr)
		c.Timeout = 20 * time.Second
		server := serve(t, started(t, c))
		all.Go(func() {
			for i := client; i < len(domains); i += clients {
				for _, q := range domains[i].Questions {
					r := ask(t, server, q.Name, q.Type, withDO)
					if r.Rcode != q.Rcode || r.AuthenticatedData != (q.Status == "Secure") {
						t.Errorf("%s %s: %s, want %s", q.Name, dns.Type(q.Type), describes(r), q.Status)
					}
				}
			}
		})
	}
	all.Wait()
}

func lossy(network string, n int, _, r *dns.Msg) *dns.Msg {
	if network == "udp" && n%3 == 2 {
		return nil
	}
	return r
}
