package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/unbound"
	"github.com/danelaw-dns/danelaw/zones"
)

const registry = `@ SOA ns hostmaster 1 7200 3600 86400 300
@ NS ns
ns A 192.0.2.53
`

const mailZone = registry + `@ MX 10 mx
mx A 192.0.2.25
_25._tcp.mx TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000
`

// counting is an upstream that remembers what it was asked.
type counting struct {
	*zones.Recursor
	mu    sync.Mutex
	asked []string
}

func (c *counting) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	c.mu.Lock()
	c.asked = append(c.asked, q.Question[0].Name+" "+dns.TypeToString[q.Question[0].Qtype])
	c.mu.Unlock()
	m := c.Resolve(q.Question[0])
	m.Id = q.Id
	w.WriteMsg(m.SetEdns0(4096, true)) //nolint:errcheck // the test has ended
}

// about returns the questions about a domain.
func (c *counting) about(domain string) (asked []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.asked {
		if name, _, _ := strings.Cut(q, " "); dns.IsSubDomain(domain, name) {
			asked = append(asked, q)
		}
	}
	return asked
}

// TestCosts: for the mail of a secure domain with one host, danelaw asks its upstream at most one question more than Unbound, although
// it asks ahead of the MTA.
func TestCosts(t *testing.T) {
	needs.Tools(t, "unbound")
	world, err := zones.Build(time.Now(), zones.Plan{Name: ".", Text: registry}, zones.Plan{Name: "com.", Text: registry},
		zones.Plan{Name: "known.com.", Text: mailZone}, zones.Plan{Name: "example.com.", Text: mailZone})
	if err != nil {
		t.Fatal(err)
	}
	anchor := world.Anchors()["."][0]
	asked := map[string][]string{}
	for name, startResolver := range map[string]func(upstream string) string{
		"danelaw": func(upstream string) string {
			return startDanelaw(t, upstream, write(t, "root.ds", anchor.String()+"\n"))
		},
		"unbound": func(upstream string) string { return unbound.Start(t, upstream, anchor) },
	} {
		upstream := &counting{Recursor: world.Recursor(time.Now)}
		resolver := startResolver(ports.Serve(t, upstream))
		deliver(t, resolver, "known.com.")
		deliver(t, resolver, "example.com.")
		time.Sleep(200 * time.Millisecond) // what else is asked in the background
		asked[name] = upstream.about("example.com.")
	}
	t.Logf("danelaw asked %v; Unbound %v", asked["danelaw"], asked["unbound"])
	if len(asked["unbound"]) < 6 || len(asked["danelaw"]) > len(asked["unbound"])+1 {
		t.Errorf("danelaw asked %d questions, Unbound %d", len(asked["danelaw"]), len(asked["unbound"]))
	}
}

// deliver asks what an MTA asks, and wants all of it secure.
func deliver(t *testing.T, resolver, domain string) {
	t.Helper()
	for _, q := range []dns.Question{{Name: domain, Qtype: dns.TypeMX}, {Name: "mx." + domain, Qtype: dns.TypeA},
		{Name: "mx." + domain, Qtype: dns.TypeAAAA}, {Name: "_25._tcp.mx." + domain, Qtype: dns.TypeTLSA}} {
		m := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(1232, true)
		r, _, err := (&dns.Client{Timeout: patience}).Exchange(m, resolver)
		if err != nil || r.Rcode != dns.RcodeSuccess || !r.AuthenticatedData {
			t.Fatalf("%s %s from %s: %v %v", q.Name, dns.TypeToString[q.Qtype], resolver, err, r)
		}
	}
}

func startDanelaw(t *testing.T, upstream, anchor string) string {
	t.Helper()
	port := ports.Closed(t)
	start(t, build(t), "-quiet", "-conf", write(t, "Corefile", fmt.Sprintf(`.:%d {
    bind 127.0.0.1
    danelaw {
        upstream . %s
        trust_anchor %s
        control off
    }
}
`, port, upstream, anchor)))
	return answering(t, port)
}

// answering waits until there is somebody.
func answering(t *testing.T, port int) (addr string) {
	t.Helper()
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, addr, func() bool {
		r, _, err := (&dns.Client{Timeout: time.Second}).Exchange(new(dns.Msg).SetQuestion("known.com.", dns.TypeSOA), addr)
		return err == nil && r.Rcode == dns.RcodeSuccess
	})
	return addr
}
