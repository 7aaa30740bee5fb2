package resolve

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/zones"
)

// besideLiar is an exchanger with two upstreams, of which the one that is asked first lies about a lab.
type besideLiar struct {
	lab *zones.Lab
	lie func(m *dns.Msg)
}

func (b besideLiar) Exchange(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error) {
	m := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(4096, true)
	m, _, err := (&dns.Client{Net: "tcp", Timeout: time.Minute}).ExchangeContext(ctx, m, b.lab.Addr())
	if err != nil {
		return fetch.Reply{}, err
	}
	if m.Rcode == dns.RcodeServerFailure {
		return fetch.Reply{}, &dnssec.Failure{Kind: dnssec.OfNoReply, Code: dns.ExtendedErrorCodeNoReachableAuthority,
			Text: "SERVFAIL"}
	}
	name := "honest"
	if !slices.Contains(t.Avoid, "liar") {
		name = "liar"
		b.lie(m)
	}
	return fetch.Reply{Msg: m, Upstream: name, Size: m.Len()}, nil
}

// TestBesideLiar: of all that the lab has nothing sound fails and nothing broken passes, though the upstream that is
// asked first lies, as another does not (V-14). Each question is the first there is.
func TestBesideLiar(t *testing.T) {
	lab, err := zones.Start(zones.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	for what, lie := range map[string]func(m *dns.Msg){
		"wrong signatures": func(m *dns.Msg) { misSigned(m.Answer); misSigned(m.Ns) },
		"no signatures":    func(m *dns.Msg) { m.Answer, m.Ns = scripted.Unsigned(m.Answer), scripted.Unsigned(m.Ns) },
		"nothing":          func(m *dns.Msg) { m.Rcode, m.Answer, m.Ns = dns.RcodeSuccess, nil, nil },
		"no name":          func(m *dns.Msg) { m.Rcode, m.Answer, m.Ns = dns.RcodeNameError, nil, nil },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var all sync.WaitGroup
			for _, d := range lab.Domains() {
				all.Go(func() {
					for _, q := range d.Questions {
						if got := first(t, besideLiar{lab, lie}, q); got != "" {
							t.Errorf("%s %s: %s, want %s", q.Name, dns.Type(q.Type), got, q.Status)
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// first asks a resolver that knows nothing, and returns what is wrong with its answer.
func first(t *testing.T, e besideLiar, q zones.Question) string {
	r := New(usually(Config{
		Exchanger: e, Anchors: map[string][]*dns.DS{".": e.lab.DS()}, Store: NewStore(1 << 20), Clock: time.Now,
		Policy: dnssec.DefaultPolicy(), Retries: 2, Timeout: time.Minute,
	}))
	defer r.Close()
	a := r.Resolve(t.Context(), question(q.Name, q.Type))
	switch {
	case q.Status == "Insecure" && a.Status == dnssec.Insecure: // what was said there is not protected
	case strings.Contains(q.Name, "iterations") && a.Status == dnssec.Insecure: // nor is it there (V-62)
	case a.Rcode != q.Rcode || (a.Status == dnssec.Secure) != (q.Status == "Secure"):
		return fmt.Sprint(a.Status, " ", dns.RcodeToString[a.Rcode], " ", notes(a))
	}
	return ""
}
