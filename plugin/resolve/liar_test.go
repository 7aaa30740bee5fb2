package resolve

import (
	"context"
	"fmt"
	"hash/fnv"
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

// besideLiar is an exchanger with two upstreams, of which one lies about a lab.
type besideLiar struct {
	lab *zones.Lab
	lie func(m *dns.Msg)
	// quicker reports whether the liar replies, where both are to be avoided or none is.
	quicker func(q dns.Question, t fetch.Try) bool
}

// always: the liar is asked first.
func always(dns.Question, fetch.Try) bool { return true }

// nowAndThen: the liar is asked second, and quicker in one of three cases.
func nowAndThen(q dns.Question, t fetch.Try) bool {
	h := fnv.New32a()
	fmt.Fprint(h, fetch.Describe(q), t.N)
	return h.Sum32()%3 == 0
}

func (b besideLiar) Ask(q dns.Question, t fetch.Try, done func(fetch.Reply, error)) (cancel func()) {
	return scripted.InBackground(t, done, func(ctx context.Context) (fetch.Reply, error) { return b.reply(ctx, q, t) })
}

func (b besideLiar) reply(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error) {
	query := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(4096, true)
	client := &dns.Client{Net: "tcp", Timeout: time.Minute}
	m, _, err := client.ExchangeContext(ctx, query, b.lab.Addr())
	for err != nil { // a busy machine lets the lab close a connection before it has read from it
		if ctx.Err() != nil {
			return fetch.Reply{}, err
		}
		m, _, err = client.ExchangeContext(ctx, query, b.lab.Addr())
	}
	if m.Rcode == dns.RcodeServerFailure {
		return fetch.Reply{}, &dnssec.Failure{Kind: dnssec.OfNoReply, Code: dns.ExtendedErrorCodeNoReachableAuthority,
			Text: "SERVFAIL"}
	}
	name, avoided := "honest", slices.Contains(t.Avoid, "liar")
	if other := slices.Contains(t.Avoid, name); other && !avoided || other == avoided && b.quicker(q, t) {
		name = "liar"
		b.lie(m)
	}
	return fetch.Reply{Msg: m, Upstream: name, Size: m.Len()}, nil
}

// TestBesideLiar: of all that the lab has nothing sound fails and nothing broken passes, though one of two upstreams
// lies, be it asked first or only quicker now and then (V-14). Each question is the first there is.
func TestBesideLiar(t *testing.T) {
	lab, err := zones.Start(zones.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	wrong := func(m *dns.Msg) { misSigned(m.Answer); misSigned(m.Ns) }
	none := func(m *dns.Msg) { m.Answer, m.Ns = scripted.Unsigned(m.Answer), scripted.Unsigned(m.Ns) }
	empty := func(rcode int) func(m *dns.Msg) {
		return func(m *dns.Msg) { m.Rcode, m.Answer, m.Ns = rcode, nil, nil }
	}
	for what, e := range map[string]besideLiar{
		"wrong signatures":               {lab, wrong, always},
		"wrong signatures, now and then": {lab, wrong, nowAndThen},
		"no signatures":                  {lab, none, always},
		"no signatures, now and then":    {lab, none, nowAndThen},
		"nothing":                        {lab, empty(dns.RcodeSuccess), always},
		"no name":                        {lab, empty(dns.RcodeNameError), always},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var all sync.WaitGroup
			for _, d := range lab.Domains() {
				all.Go(func() {
					for _, q := range d.Questions {
						if got := first(t, e, q); got != "" {
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
