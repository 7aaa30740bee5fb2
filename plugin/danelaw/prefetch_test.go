package danelaw

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// mailWorld is signed once, and as of when a bubble's time begins.
var mailWorld = sync.OnceValue(func() *world.Tree {
	var many strings.Builder
	for i := range 12 {
		fmt.Fprintf(&many, "@ MX %d mx%d\nmx%d A 192.0.2.25\n", 10*(12-i), i, i)
	}
	return world.New(bubbleTime, world.Zone("."), world.Zone("com."), world.Zone("net."),
		world.Domain("known.com.", v6),
		world.Zone("known.net.", world.Host, v6), world.Domain("example.com.", v6),
		world.Zone("hosted.com.", "@ MX 10 mx.example.net."),
		world.Zone("example.net.", world.Host, v6), world.Zone("many.com.", many.String()),
		world.Zone("null.com.", "@ MX 0 ."),
		world.Zone("implicit.com.", "@ A 192.0.2.25"),
		world.Zone("alias.com.", "@ MX 10 mx", "mx CNAME mx.example.net."),
		world.Zone("loop.com.", "@ MX 10 mx", "mx CNAME my", "my CNAME mx"),
		world.Zone("local.com.", "@ MX 10 localhost.", "@ MX 20 mx.corp.com."),
		zones.Plan{Name: "nsec3.com.", Text: world.Base + "mx A 192.0.2.25\n@ MX 10 mx\n",
			Config: zones.Config{NSEC3: &zones.NSEC3{}}},
		zones.Plan{Name: "unsigned.com.", Text: world.Mail + v6, Config: zones.Config{Unsigned: true}},
	)
})

// v6 gives a mail host an IPv6 address, too.
const v6 = "mx AAAA 2001:db8::25\n"

// bubbleTime is when the time of a synctest bubble begins.
func bubbleTime() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

// distant is an upstream, as the next plugin, that is so far away, in the time of the bubble it is in.
type distant struct {
	away time.Duration
	*world.Upstream
}

func (*distant) Name() string { return "distant" }

func (d *distant) ServeDNS(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
	select {
	case <-time.After(d.away):
	case <-ctx.Done():
		return dns.RcodeServerFailure, ctx.Err()
	}
	return dns.RcodeSuccess, w.WriteMsg(d.Reply(q))
}

// questions returns, sorted, what was asked since the last call.
func (d *distant) questions() []string {
	asked := d.Asked()
	d.Forget()
	slices.Sort(asked)
	return asked
}

// far runs f in a bubble with a danelaw whose upstream is 20 ms away.
func far(t *testing.T, change func(*Config), f func(t *testing.T, h *Handler, d *distant)) {
	t.Helper()
	farFrom(t, mailWorld(), change, f)
}

// farFrom is far in another world.
func farFrom(t *testing.T, tree *world.Tree, change func(*Config), f func(t *testing.T, h *Handler, d *distant)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &distant{away: 20 * time.Millisecond, Upstream: tree.Upstream()}
		c := Defaults()
		c.Block = fmt.Sprint(t.Name(), configs.Add(1))
		c.Anchors, c.Next, c.processorsShort = tree.Anchors(), d, enough
		if change != nil {
			change(&c)
		}
		h, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		f(t, h, d)
	})
}

// rounds has a mail server deliver: MX, then A, AAAA and TLSA of the host, one after the other. It returns the round
// trips it waited for.
func rounds(t *testing.T, h *Handler, domain, host string) int {
	t.Helper()
	begun := time.Now()
	mta := from("127.0.0.1:5300")
	for _, q := range []dns.Question{{Name: domain, Qtype: dns.TypeMX}, {Name: host, Qtype: dns.TypeA},
		{Name: host, Qtype: dns.TypeAAAA},
		{Name: mail.TLSAName(host, mail.Port), Qtype: dns.TypeTLSA}} {
		if r := mta.ask(t, h, q.Name, q.Qtype, withDO); r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
			t.Errorf("%s %s: %s", q.Name, dns.TypeToString[q.Qtype], describes(r))
		}
	}
	waited := time.Since(begun)
	if waited%(20*time.Millisecond) != 0 {
		t.Errorf("%v are no whole round trips", waited)
	}
	return int(waited / (20 * time.Millisecond))
}

// TestRoundTrips: mail to a domain never seen before costs the MTA two round trips if root and TLD are known, and at
// most three if nothing is.
func TestRoundTrips(t *testing.T) {
	for _, tt := range []struct {
		domain, host string
		warm, cold   int
	}{
		{"example.com.", "mx.example.com.", 2, 2},
		{"hosted.com.", "mx.example.net.", 2, 3},
		{"nsec3.com.", "mx.nsec3.com.", 2, 2},
		{"unsigned.com.", "mx.unsigned.com.", 3, 3}, // TLSA, of which there is no use, is not asked ahead
		{"alias.com.", "mx.alias.com.", 3, 3},       // where the alias leads is known only when it is there
		{"implicit.com.", "implicit.com.", 2, 2},
	} {
		t.Run(tt.domain, func(t *testing.T) {
			far(t, nil, func(t *testing.T, h *Handler, _ *distant) {
				if n := rounds(t, h, tt.domain, tt.host); n > tt.cold || n > 3 {
					t.Errorf("%d round trips from an empty cache, want %d", n, tt.cold)
				}
			})
			far(t, nil, func(t *testing.T, h *Handler, _ *distant) {
				rounds(t, h, "known.com.", "mx.known.net.")
				if n := rounds(t, h, tt.domain, tt.host); n != tt.warm {
					t.Errorf("%d round trips, want %d", n, tt.warm)
				}
			})
		})
	}
	t.Run("without prefetch", func(t *testing.T) {
		far(t, func(c *Config) { c.Prefetch = false }, func(t *testing.T, h *Handler, _ *distant) {
			if n := rounds(t, h, "example.com.", "mx.example.com."); n != 4 {
				t.Errorf("%d round trips", n)
			}
		})
	})
}

// TestPrefetch: what one MX answer makes danelaw ask, and what it does not.
func TestPrefetch(t *testing.T) {
	ask := func(host string, types ...string) (all []string) {
		for _, qtype := range types {
			if all = append(all, host+" "+qtype); qtype == "TLSA" {
				all[len(all)-1] = "_25._tcp." + host + " TLSA"
			}
		}
		return all
	}
	var many []string
	for i := 11; i >= 4; i-- { // the best eight, TLSA of the best four
		many = append(many, ask(fmt.Sprintf("mx%d.many.com.", i), "A", "AAAA")...)
		if i >= 8 {
			many = append(many, ask(fmt.Sprintf("mx%d.many.com.", i), "TLSA")...)
		}
	}
	for domain, want := range map[string][]string{
		"example.com.":  ask("mx.example.com.", "A", "AAAA", "TLSA"),
		"unsigned.com.": ask("mx.unsigned.com.", "A", "AAAA"),
		"null.com.":     nil,
		"implicit.com.": ask("implicit.com.", "A"), // the NSEC that denies the MX denies the others too (C-9)
		"many.com.":     many,
		"alias.com.":    append(ask("mx.alias.com.", "A", "AAAA", "TLSA"), ask("mx.example.net.", "TLSA")...),
		"loop.com.":     ask("mx.loop.com.", "A", "AAAA", "TLSA"),
		"local.com.":    nil, // one is special, one private
		"absent.com.":   nil,
	} {
		t.Run(domain, func(t *testing.T) {
			far(t, func(c *Config) { c.Private = []string{"corp.com."} }, func(t *testing.T, h *Handler, d *distant) {
				rounds(t, h, "known.com.", "mx.known.net.")
				from("127.0.0.1:5300").ask(t, h, "example.net.", dns.TypeSOA, withDO)
				mta := from("127.0.0.1:5300")
				d.questions()
				mta.ask(t, h, domain, dns.TypeMX, withDO)
				time.Sleep(time.Second)
				got := slices.DeleteFunc(d.questions(), func(q string) bool {
					return strings.HasSuffix(q, " DS") || strings.HasSuffix(q, " DNSKEY") || q == domain+" MX"
				})
				slices.Sort(want)
				if got = slices.Compact(got); !slices.Equal(got, want) { // an alias loop is tried again (V-14)
					t.Errorf("asked %v\nwant %v", got, want)
				}
				mta.ask(t, h, domain, dns.TypeMX, withDO)
				time.Sleep(time.Second)
				if again := d.questions(); len(again) > 0 {
					t.Errorf("a cached answer made it ask %v", again)
				}
			})
		})
	}
}

// TestPrefetchCosts: mail to a secure domain with one host of its own takes six questions, links included.
func TestPrefetchCosts(t *testing.T) {
	far(t, nil, func(t *testing.T, h *Handler, d *distant) {
		rounds(t, h, "known.com.", "mx.known.net.")
		d.questions()
		rounds(t, h, "example.com.", "mx.example.com.")
		time.Sleep(time.Second)
		want := []string{
			"_25._tcp.mx.example.com. TLSA", "example.com. DNSKEY", "example.com. DS", "example.com. MX",
			"mx.example.com. A", "mx.example.com. AAAA",
		}
		if got := d.questions(); !slices.Equal(got, want) {
			t.Errorf("asked %v\nwant %v", got, want)
		}
	})
}

// TestPrefetchCeiling: what one MX answer has danelaw ask and verify stays within the budget of one client query,
// though it has as many hosts as are looked at, each an alias chain in zones of their own, far below one another (L-6).
func TestPrefetchCeiling(t *testing.T) {
	tree := deepWorld(prefetchHosts, 4, 6)
	cost := func(prefetch bool) (questions, signatures int) {
		set := func(c *Config) { c.Prefetch = prefetch }
		farFrom(t, tree, set, func(t *testing.T, h *Handler, d *distant) {
			from("127.0.0.1:5300").ask(t, h, "known.com.", dns.TypeMX, withDO)
			time.Sleep(time.Minute)
			d.Forget()
			before := metric(t, "signature_checks_total", "block", h.config.Block)
			if r := from("127.0.0.1:5300").ask(t, h, "deep.com.", dns.TypeMX, withDO); !r.AuthenticatedData {
				t.Error(describes(r))
			}
			time.Sleep(time.Minute)
			questions = len(d.questions())
			signatures = int(metric(t, "signature_checks_total", "block", h.config.Block) - before)
		})
		return questions, signatures
	}
	questions, signatures := cost(false)
	all, verified := cost(true)
	limits := Defaults()
	t.Logf("%d questions and %d signatures, without prefetch %d and %d", all, verified, questions, signatures)
	if most := questions + limits.UpstreamQuestions + 6; all > most || all < most/2 { // 6 on speculation
		t.Errorf("%d questions, want at most %d, and no fewer than half of them", all, most)
	}
	if most := signatures + limits.SignatureChecks; verified > most {
		t.Errorf("%d signatures verified, want at most %d", verified, most)
	}
}

// deepWorld has a domain deep.com. with so many hosts, each an alias chain of so many links, each link so many zones
// below com.
func deepWorld(hosts, links, depth int) *world.Tree {
	plans := []zones.Plan{world.Zone("."), world.Zone("com."), world.Domain("known.com.")}
	var all []string
	for h := range hosts {
		line := "a A 192.0.2.25"
		for l := range links {
			zone := fmt.Sprintf("h%dl%d.com.", h, l)
			for d := range depth {
				plans = append(plans, world.Zone(zone))
				zone = fmt.Sprintf("d%d.%s", d, zone)
			}
			plans = append(plans, world.Zone(zone, line))
			line = "a CNAME a." + zone
		}
		all = append(all, fmt.Sprintf("@ MX %d mx%d", h, h), fmt.Sprintf("mx%d%s", h, line[1:]))
	}
	return world.New(bubbleTime, append(plans, world.Zone("deep.com.", all...))...)
}
