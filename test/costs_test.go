package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/unbound"
	"github.com/danelaw-dns/danelaw/test/world"
)

// TestCosts: for a delivery to a secure domain with one host, danelaw asks its upstream at most one question more than
// Unbound does, although it asks some before the MTA does.
func TestCosts(t *testing.T) {
	needs.Tools(t, "unbound")
	tree := world.New(time.Now, world.Zone("."), world.Zone("com."), world.Domain("known.com."),
		world.Domain("example.com."))
	anchor := tree.DS(".")[0]
	asked := map[string][]string{}
	for name, startResolver := range map[string]func(upstream string) string{
		"danelaw": func(upstream string) string {
			return startDanelaw(t, upstream, write(t, "root.ds", anchor.String()+"\n"))
		},
		"unbound": func(upstream string) string { return unbound.Start(t, upstream, anchor) },
	} {
		upstream := tree.Caching()
		resolver := startResolver(upstream.Serve(t, world.AnyPort))
		deliver(t, resolver, "known.com.")
		deliver(t, resolver, "example.com.")
		time.Sleep(200 * time.Millisecond) // for questions in the background
		asked[name] = slices.DeleteFunc(upstream.Asked(),
			func(q string) bool { return !strings.Contains(q, "example.com. ") })
	}
	t.Logf("danelaw asked %v; Unbound %v", asked["danelaw"], asked["unbound"])
	if len(asked["unbound"]) < 6 || len(asked["danelaw"]) > len(asked["unbound"])+1 {
		t.Errorf("danelaw asked %d questions, Unbound %d", len(asked["danelaw"]), len(asked["unbound"]))
	}
}

// deliver asks what an MTA asks. All of it must be Secure.
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

// answering waits until danelaw answers.
func answering(t *testing.T, port int) (addr string) {
	t.Helper()
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, addr, func() bool {
		r, _, err := (&dns.Client{Timeout: time.Second}).Exchange(new(dns.Msg).SetQuestion("known.com.", dns.TypeSOA),
			addr)
		return err == nil && r.Rcode == dns.RcodeSuccess
	})
	return addr
}
