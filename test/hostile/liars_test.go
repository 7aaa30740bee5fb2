package hostile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/trustanchors"
	"github.com/danelaw-dns/danelaw/zones"
)

// lie makes of a true reply what a liar sends over a network; nil is silence.
type lie func(network string, m *dns.Msg) *dns.Msg

// truth is no lie.
func truth(_ string, m *dns.Msg) *dns.Msg { return m }

// slowly is none either, but late.
func slowly(_ string, m *dns.Msg) *dns.Msg {
	time.Sleep(rand.N(mostDelay))
	return m
}

// spoilt is a lie over any network.
func spoilt(spoil func(m *dns.Msg)) lie {
	return func(_ string, m *dns.Msg) *dns.Msg {
		spoil(m)
		return m
	}
}

// lineUps are upstreams in their order of preference: liars (L), honest ones (H) and honest ones that take their time
// (S), so that a copy of a question goes to the next one before they have replied.
var lineUps = []string{"LH", "LHHH", "LLH", "LSL"}

// mostDelay is how long those that take their time do so at most: longer than anybody waits before a copy.
const mostDelay = 700 * time.Millisecond

// deceits are what liars do to each reply.
var deceits = map[string]lie{
	"wrong signatures": spoilt(func(m *dns.Msg) { misSigned(m.Answer); misSigned(m.Ns) }),
	"no signatures": spoilt(func(m *dns.Msg) {
		m.Answer, m.Ns = scripted.Unsigned(m.Answer), scripted.Unsigned(m.Ns)
	}),
	"no DNSSEC":     spoilt(knowsNoDNSSEC),
	"SERVFAIL":      spoilt(func(m *dns.Msg) { emptied(m, dns.RcodeServerFailure) }),
	"no data":       spoilt(func(m *dns.Msg) { emptied(m, dns.RcodeSuccess) }),
	"no name":       spoilt(func(m *dns.Msg) { emptied(m, dns.RcodeNameError) }),
	"links refused": links(func(m *dns.Msg) *dns.Msg { emptied(m, dns.RcodeRefused); return m }),
	"links dropped": links(func(*dns.Msg) *dns.Msg { return nil }),
	"TCP only": func(network string, m *dns.Msg) *dns.Msg {
		if network == "udp" {
			return nil
		}
		return m
	},
	"truncated, without TCP": func(network string, m *dns.Msg) *dns.Msg {
		if network == "tcp" {
			return nil
		}
		emptied(m, dns.RcodeSuccess)
		m.Truncated = true
		return m
	},
}

// every tells which part of the questions is asked: of what takes seconds a few.
var every = map[bool]map[bool]int{false: {false: 1, true: 8}, true: {false: 20, true: 60}}

// waitedOut are those that take seconds.
var waitedOut = map[string]bool{"links dropped": true, "TCP only": true, "truncated, without TCP": true}

func links(do func(m *dns.Msg) *dns.Msg) lie {
	return func(_ string, m *dns.Msg) *dns.Msg {
		if isLink(m.Question[0]) {
			return do(m)
		}
		return m
	}
}

func isLink(q dns.Question) bool { return q.Qtype == dns.TypeDS || q.Qtype == dns.TypeDNSKEY }

func emptied(m *dns.Msg, rcode int) { m.Rcode, m.Answer, m.Ns = rcode, nil, nil }

func misSigned(rrs []dns.RR) {
	for _, rr := range rrs {
		if sig, ok := rr.(*dns.RRSIG); ok {
			sig.Signature = "AAAA" + sig.Signature[4:]
		}
	}
}

// knowsNoDNSSEC is what an old forwarder makes of a reply.
func knowsNoDNSSEC(m *dns.Msg) {
	types := []uint16{dns.TypeNSEC, dns.TypeNSEC3, dns.TypeDS, dns.TypeDNSKEY}
	for _, rrs := range []*[]dns.RR{&m.Answer, &m.Ns} {
		*rrs = slices.DeleteFunc(scripted.Unsigned(*rrs), func(rr dns.RR) bool {
			return slices.Contains(types, rr.Header().Rrtype)
		})
	}
}

// server answers questions by a source, and with what a lie makes of it.
func server(t *testing.T, source func(q dns.Question) *dns.Msg, l lie) upstream.Address {
	t.Helper()
	addr := ports.Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		network := w.RemoteAddr().Network()
		m := source(query.Question[0])
		m.Question = query.Question
		if m = l(network, m); m == nil {
			return
		}
		m.Id, m.Response, m.Extra = query.Id, true, nil
		m.SetEdns0(dns.DefaultMsgSize, true)
		if network == "udp" && m.Len() > int(query.IsEdns0().UDPSize()) {
			emptied(m, m.Rcode)
			m.Truncated = true
		}
		w.WriteMsg(m) //nolint:errcheck // the socket is loopback's
	}))
	return upstream.Address{Server: netip.MustParseAddrPort(addr)}
}

// lineUp serves by a source what a line-up of upstreams says.
func lineUp(t *testing.T, who string, source func(q dns.Question) *dns.Msg, l lie) (to []upstream.Address) {
	t.Helper()
	for _, w := range who {
		to = append(to, server(t, source, map[rune]lie{'L': l, 'H': truth, 'S': slowly}[w]))
	}
	return to
}

// recorded asks a lab each question once.
func recorded(lab *zones.Lab) func(q dns.Question) *dns.Msg {
	var mu sync.Mutex
	told := map[dns.Question]*dns.Msg{}
	return func(q dns.Question) *dns.Msg {
		mu.Lock()
		defer mu.Unlock()
		q.Name = strings.ToLower(q.Name)
		if told[q] == nil {
			query := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(dns.DefaultMsgSize, true)
			m, _, err := (&dns.Client{Net: "tcp", Timeout: time.Minute}).Exchange(query, lab.Addr())
			if err != nil {
				return new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
			}
			told[q] = m
		}
		return told[q].Copy()
	}
}

// TestLiars: whatever some of the upstreams make of each reply, nothing sound fails and nothing broken passes, as long
// as another is honest (V-14, L-9). Of each domain of the lab the question that shows it best and the last one are
// asked; each is the first there is.
func TestLiars(t *testing.T) {
	lab, err := zones.Start(zones.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	var questions []zones.Question
	for _, d := range lab.Domains() {
		questions = append(questions, d.Questions[0], d.Questions[len(d.Questions)-1])
	}
	anchors, source := trustanchors.Set{".": lab.DS()}, recorded(lab)
	atOnce := map[bool]chan bool{false: make(chan bool, 16), true: make(chan bool, 64)}
	for what, deceit := range deceits {
		for _, who := range lineUps {
			t.Run(what+"/"+who, func(t *testing.T) {
				t.Parallel()
				to, slow := lineUp(t, who, source, deceit), strings.Contains(who, "S")
				turns := atOnce[slow]
				var all sync.WaitGroup
				for n, q := range questions {
					if n%every[waitedOut[what]][slow] > 0 {
						continue
					}
					turns <- true
					all.Go(func() {
						defer func() { <-turns }()
						patience := busyPatience
						if q.Rcode == dns.RcodeServerFailure { // each try that is left waits for those that drop
							patience = brokenPatience
						}
						m := askNew(t, anchors, to, patience, q.Name, q.Type)
						if m == nil || !asWanted(m, q) {
							t.Errorf("%s %s: %v, want %s", q.Name, dns.Type(q.Type), m, q.Status)
						}
					})
				}
				all.Wait()
			})
		}
	}
}

// asWanted reports whether m has the verdict on q. What is Insecure is not protected: it only must not fail. That is so
// of a zone with too many iterations, too (V-62).
func asWanted(m *dns.Msg, q zones.Question) bool {
	insecure := q.Status == "Insecure" || strings.Contains(q.Name, "iterations")
	if insecure && m.Rcode != dns.RcodeServerFailure && !m.AuthenticatedData {
		return true
	}
	return m.Rcode == q.Rcode && m.AuthenticatedData == (q.Status == "Secure")
}

// TestStale: upstreams may have any part of a zone from before its keys were rolled, with signatures that are not over
// yet (V-14).
func TestStale(t *testing.T) {
	names := []string{".", "com.", "example.com.", "sub.example.com."}
	old := world.New(time.Now, world.Zone("."), world.Zone("com."), world.Domain("example.com.", "out CNAME mx.sub"),
		world.Domain("sub.example.com."))
	for _, rolled := range names[1:] {
		tree := world.New(time.Now)
		for _, name := range names {
			tree.Add(*old.Plan(name))
		}
		tree.Roll(rolled)
		before, now := old.Recursor().Resolve, tree.Recursor().Resolve
		for what, stale := range map[string]func(q dns.Question) bool{
			"DNSKEY":  func(q dns.Question) bool { return q.Qtype == dns.TypeDNSKEY },
			"DS":      func(q dns.Question) bool { return q.Qtype == dns.TypeDS },
			"links":   isLink,
			"answers": func(q dns.Question) bool { return !isLink(q) },
			"all":     func(dns.Question) bool { return true },
		} {
			replay := func(_ string, m *dns.Msg) *dns.Msg {
				if q := m.Question[0]; stale(q) {
					return before(q)
				}
				return m
			}
			for _, who := range []string{"LH", "LLH"} {
				to := lineUp(t, who, now, replay)
				for _, name := range []string{"example.com.", "out.example.com.", "nothing.sub.example.com."} {
					m := askNew(t, tree.Anchors(), to, busyPatience, name, dns.TypeMX)
					if m == nil || !m.AuthenticatedData {
						t.Errorf("%s rolled, %s stale, %s: %s: %v", rolled, what, who, name, m)
					}
				}
			}
		}
	}
}

// mouth takes one reply.
type mouth struct {
	dns.ResponseWriter
	reply *dns.Msg
}

func (m *mouth) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:53"))
}
func (m *mouth) RemoteAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:5300"))
}
func (m *mouth) WriteMsg(reply *dns.Msg) error {
	m.reply = reply
	return nil
}

// fresh counts the danelaws of askNew.
var fresh atomic.Int64

// busyPatience is how long a danelaw tries to answer: the machine may be busy. brokenPatience is that for what is
// broken whoever says it, and fails after the last try at the latest.
const busyPatience, brokenPatience = time.Minute, 10 * time.Second

// askNew asks a danelaw that knows nothing.
func askNew(t *testing.T, anchors trustanchors.Set, to []upstream.Address, patience time.Duration, name string,
	qtype uint16) *dns.Msg {
	c := danelaw.Defaults()
	c.Block = fmt.Sprint(t.Name(), " ", fresh.Add(1)) // whoever has the same one has the same memory
	c.Anchors, c.Routes = anchors, []upstream.Route{{From: ".", To: to}}
	c.CacheSize, c.Prefetch = 1<<20, false
	c.Timeout = patience
	h, err := danelaw.New(c)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer h.Close()
	w := &mouth{}
	query := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(dns.DefaultMsgSize, true)
	h.ServeDNS(context.Background(), w, query) //nolint:errcheck // it has written its reply
	return w.reply
}
