//go:build linux

package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/miekg/dns"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/loop"

	"github.com/danelaw-dns/danelaw/bench/universe"
)

// The cluster's own DNS: the Corefile of kubeadm, with the zone that its plugin kubernetes would serve as a file,
// since there is no API here. %s is the address and, in the end, the lines of the chart's README.
const (
	kubeadm = `.:53 {
    bind %s
    errors
    file %s cluster.local
    %s
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loop
    loadbalance
}
`
	clusterZone = `cluster.local. 30 IN SOA ns.dns hostmaster 1 7200 1800 86400 5
postfix.mail.svc.cluster.local. 30 IN A 10.96.7.25
`
)

// linesOfReadme are those that README.md of the chart has CoreDNS's Corefile hold.
func linesOfReadme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/helm/README.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?s)\n    (forward \. ` + regexp.QuoteMeta(service) + ` \{\n.*?\n    \})`)
	m := lines.FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("the lines for CoreDNS are not there")
	}
	return m[1]
}

// startCoreDNS starts it at the address of the cluster's DNS.
func startCoreDNS(t *testing.T, forward string) {
	t.Helper()
	dnsserver.Quiet, caddy.Quiet = true, true
	zone := write(t, t.TempDir()+"/cluster.local", clusterZone)
	instance, err := caddy.Start(caddy.CaddyfileInput{
		Contents:       fmt.Appendf(nil, kubeadm, clusterDNS, zone, forward),
		Filepath:       "Corefile",
		ServerTypeName: "dns",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { instance.ShutdownCallbacks(); instance.Stop() })
}

// ask asks a server.
func ask(t *testing.T, network, server, name string, qtype uint16, change func(*dns.Msg)) *dns.Msg {
	t.Helper()
	query := new(dns.Msg).SetQuestion(name, qtype)
	if change != nil {
		change(query)
	}
	client := dns.Client{Net: network, Timeout: 10 * time.Second, UDPSize: dns.DefaultMsgSize}
	reply, _, err := client.Exchange(query, server+":53")
	if err != nil {
		t.Fatalf("%s %s over %s at %s: %v", name, dns.Type(qtype), network, server, err)
	}
	return reply
}

// Those who ask.
func plain(*dns.Msg)     {}
func withAD(q *dns.Msg)  { q.AuthenticatedData = true }
func withDO(q *dns.Msg)  { q.SetEdns0(1232, true) }
func asMailu(q *dns.Msg) { q.AuthenticatedData = true; q.SetEdns0(1232, true) }

// TestThroughCoreDNS: with the lines of README.md the cluster's CoreDNS hands on what danelaw says: AD, without and
// from its cache, to whoever wants to see it; no AD on what is Insecure; SERVFAIL for what is Bogus; and keeps what
// is the cluster's.
func TestThroughCoreDNS(t *testing.T) {
	suite.Needs(t)
	network(t)
	o := newOutside(t, domains)
	r := newPod(t, 0)
	r.start(read(t, o.values(nil)))
	balance(t, []*replica{r})
	startCoreDNS(t, linesOfReadme(t))

	secure, insecure := 0, 0
	for round, what := range []string{"at first", "from the cache"} {
		before := sum(t, r.scrape(), "coredns_danelaw_responses_total")
		for _, q := range o.questions(t, 20) {
			for _, network := range []string{"udp", "tcp"} {
				reply := ask(t, network, clusterDNS, q.Name, q.Type, asMailu)
				packed, err := reply.Pack()
				if err != nil {
					t.Fatal(err)
				}
				if reply.AuthenticatedData != q.Secure || reply.Rcode != q.Rcode || reply.Truncated {
					t.Errorf("%s %s over %s, %s: %v", q.Name, dns.Type(q.Type), network, what, reply.MsgHdr)
				} else if fault := q.Fault(packed); fault != "" {
					t.Errorf("%s %s over %s, %s: %s", q.Name, dns.Type(q.Type), network, what, fault)
				}
			}
			if q.Secure {
				secure++
			} else {
				insecure++
			}
		}
		if asked := sum(t, r.scrape(), "coredns_danelaw_responses_total") - before; (asked == 0) != (round == 1) {
			t.Errorf("%s: danelaw was asked %v times", what, asked)
		}
	}
	if secure < 20 || insecure < 20 {
		t.Errorf("%d secure answers, %d insecure: the world shows too little", secure, insecure)
	}
	for _, c := range []struct {
		what string
		who  func(*dns.Msg)
		ad   bool
	}{
		{"without EDNS", plain, false}, {"with AD", withAD, true}, {"with DO", withDO, true},
		{"as Mailu", asMailu, true},
	} {
		for _, when := range []string{"first", "again"} {
			reply := ask(t, "udp", clusterDNS, ".", dns.TypeNS, c.who)
			if reply.AuthenticatedData != c.ad || reply.Rcode != dns.RcodeSuccess {
				t.Errorf("%s, %s: %v", c.what, when, reply.MsgHdr)
			}
		}
	}
	bogus := universe.Flood("bogus", rand.New(rand.NewPCG(1, 1)))()
	reply := ask(t, "udp", clusterDNS, bogus.Name, bogus.Type, asMailu)
	if reply.Rcode != dns.RcodeServerFailure || len(reply.Answer) > 0 {
		t.Errorf("what is Bogus: %v", reply)
	}
	r.eventually("the log says why", func() bool { return strings.Contains(r.log.String(), bogus.Name) })
	own := ask(t, "udp", clusterDNS, "postfix.mail.svc.cluster.local.", dns.TypeA, asMailu)
	if own.AuthenticatedData || len(own.Answer) != 1 {
		t.Errorf("the cluster's own name: %v", own)
	}
}

// TestAsksNotInCircles: a question for an address of the cluster that CoreDNS does not know falls through to danelaw,
// which answers it at once and does not ask CoreDNS again. Where somebody has set cluster.reverse in spite of what
// README.md says, the circle ends by itself.
func TestAsksNotInCircles(t *testing.T) {
	suite.Needs(t)
	for _, c := range []struct {
		what    string
		cluster values
		rcode   int
		verdict string
		most    float64
	}{
		{"as the chart has it", nil, dns.RcodeNameError, `verdict="local"`, 1},
		{"cluster.reverse", values{"reverse": true}, dns.RcodeRefused, `verdict="private"`, 65},
	} {
		t.Run(c.what, func(t *testing.T) {
			network(t)
			o := newOutside(t, 20)
			r := newPod(t, 0)
			more := values{}
			if c.cluster != nil {
				more["cluster"] = c.cluster
			}
			r.start(read(t, o.values(more)))
			balance(t, []*replica{r})
			startCoreDNS(t, linesOfReadme(t))
			reply := ask(t, "udp", clusterDNS, "9.0.244.10.in-addr.arpa.", dns.TypePTR, withDO)
			if reply.Rcode != c.rcode {
				t.Errorf("%v", reply.MsgHdr)
			}
			time.Sleep(time.Second) // for what would go on
			asked := sum(t, r.scrape(), "coredns_danelaw_responses_total", c.verdict)
			if t.Logf("danelaw was asked %.0f times", asked); asked < 1 || asked > c.most {
				t.Errorf("danelaw was asked %.0f times, and may be asked %.0f times", asked, c.most)
			}
		})
	}
}

// TestSidecar: in the pod of a mail server danelaw has port 53 of loopback, as a user that is not root, by the sysctl
// that the patch sets; AD is there, names of the cluster come from its DNS without AD, and nobody else is served.
func TestSidecar(t *testing.T) {
	suite.Needs(t)
	network(t)
	o := newOutside(t, domains)
	startCoreDNS(t, "forward . "+o.at) // as so many clusters have it: it does not validate
	r := newPod(t, 0)
	what := read(t, o.values(values{"form": "sidecar"}))
	for _, want := range []string{
		"net.ipv4.ip_unprivileged_port_start, value: \"53\"", "dnsPolicy: None", "name: trust-ad",
		"nameservers: [127.0.0.1]",
	} {
		if !strings.Contains(what.patch, want) {
			t.Errorf("the patch has no %q", want)
		}
	}
	r.start(what)
	for _, q := range o.questions(t, 10) {
		reply := r.asks(q.Name, q.Type)
		if reply.AuthenticatedData != q.Secure || reply.Rcode != q.Rcode {
			t.Errorf("%s %s: %v", q.Name, dns.Type(q.Type), reply.MsgHdr)
		}
	}
	own := r.asks("postfix.mail.svc.cluster.local.", dns.TypeA)
	if own.AuthenticatedData || len(own.Answer) != 1 {
		t.Errorf("the cluster's own name: %v", own)
	}
	client := dns.Client{Timeout: time.Second}
	if reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(".", dns.TypeNS), r.address+":53"); err == nil {
		t.Errorf("another pod is served: %v", reply)
	}
}
