package danelaw

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

// TestVerdictChanges: when the verdict on the MX of a domain or the TLSA of a host changes, one line says from what, to
// what and why, and it is counted. What stays the same, what comes from the cache and what could not be fetched is no
// change.
func TestVerdictChanges(t *testing.T) {
	book := logged(t)
	p := between(t, honest)
	clock := new(dial)
	c := config(t, p.addr)
	c.Clock, c.Prefetch = clock.now, false
	h := open(t, c)
	server := serve(t, h)
	round := func(how tamper) {
		p.become(how)
		h.Resolver().Flush(".")
		for range 2 {
			ask(t, server, secureMX, dns.TypeMX)
			ask(t, server, secureTLSA, dns.TypeTLSA)
			ask(t, server, "mx."+secureMX, dns.TypeA)
			ask(t, server, "_443._tcp.mx."+secureMX, dns.TypeTLSA)
		}
	}
	round(honest)
	if strings.Contains(book.String(), " now, it was ") {
		t.Errorf("the first verdict is no change:\n%s", book)
	}
	round(strippedBelow(secureMX))
	round(strippedBelow(secureMX))
	round(servfail)
	round(honest)
	if _, _, err := h.ntas.add(NegativeAnchor{Zone: secureMX, Life: time.Hour, Reason: "told them"}); err != nil {
		t.Fatal(err)
	}
	round(honest)
	for _, want := range []string{
		"[WARNING] plugin/danelaw: rsasha256.dane. MX is Bogus now, it was Secure: rsasha256.dane.: ",
		"[WARNING] plugin/danelaw: _25._tcp.mx.rsasha256.dane. TLSA is Bogus now, it was Secure: ",
		"[INFO] plugin/danelaw: rsasha256.dane. MX is Secure now, it was Bogus\n",
		"[INFO] plugin/danelaw: _25._tcp.mx.rsasha256.dane. TLSA is Secure now, it was Bogus\n",
		"[WARNING] plugin/danelaw: rsasha256.dane. MX is Insecure now, it was Secure: rsasha256.dane.: not " +
			"validated, by a negative trust anchor until ",
		"told them\n",
	} {
		if !strings.Contains(book.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if n := strings.Count(book.String(), " now, it was "); n != 6 || t.Failed() {
		t.Errorf("%d lines:\n%s", n, book)
	}
	for change, want := range map[string]float64{"secure bogus": 2, "bogus secure": 2, "secure insecure": 2,
		"insecure secure": 0} {
		from, to, _ := strings.Cut(change, " ")
		if n := metric(t, "verdict_changes_total", "block", c.Block, "from", from, "to", to); n != want {
			t.Errorf("%s: %v counted, want %v", change, n, want)
		}
		for _, of := range []string{"mx", "tlsa"} { // half of them each
			if n := metric(t, "verdict_changes_total", "block", c.Block, "from", from, "to", to, "type",
				of); n != want/2 {
				t.Errorf("%s of %s: %v counted, want %v", change, of, n, want/2)
			}
		}
	}
}

// TestVerdictUnsigned: a domain that goes unsigned is told with the zone that does, over a reload of its danelaw.
func TestVerdictUnsigned(t *testing.T) {
	book := logged(t)
	p := between(t, honest)
	c := config(t, p.addr)
	h := open(t, c)
	from("127.0.0.1:5300").ask(t, h, insecureMX, dns.TypeMX)
	// before it was so
	h.memory.last.swap(dns.Question{Name: insecureMX, Qtype: dns.TypeMX, Qclass: dns.ClassINET}, dnssec.Secure)
	c.IgnoreCD = true
	next := open(t, c) // as a reload does
	h.Close()
	next.Resolver().Flush(".")
	from("127.0.0.1:5300").ask(t, next, insecureMX, dns.TypeMX)
	const want = "unsigned.dane. MX is Insecure now, it was Secure: unsigned.dane.: unsigned, as the zone above " +
		"proves that there is no DS\n"
	if !strings.Contains(book.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, book)
	}
}

// TestVerdictFlood: a client whose domains change their verdict all the time fills neither the log nor the memory, and
// cannot make metrics.
func TestVerdictFlood(t *testing.T) {
	book := logged(t)
	h := open(t, config(t))
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for i := range 3 * rememberedVerdicts {
				q := dns.Question{Name: fmt.Sprintf("n%d-%d.example.", n, i/2), Qtype: dns.TypeMX,
					Qclass: dns.ClassINET}
				h.changes.judged(q, []dnssec.Status{dnssec.Secure, dnssec.Bogus}[i%2],
					"a sentence\nof [ERROR] two lines")
			}
		})
	}
	began := time.Now()
	all.Wait()
	most := linesPerSecond * (2 + int(time.Since(began)/time.Second))
	if n := strings.Count(book.String(), " now, it was "); n == 0 || n > most {
		t.Errorf("%d lines, at most %d are right", n, most)
	}
	if strings.Contains(book.String(), "\nof [ERROR]") {
		t.Error("a sentence began a line of its own")
	}
	n := 0
	for i := range h.memory.last.parts {
		n += h.memory.last.parts[i].lru.Len()
	}
	if n != rememberedVerdicts {
		t.Errorf("%d verdicts are remembered", n)
	}
	if n := metric(t, "verdict_changes_total", "block", h.config.Block, "from", "secure", "to",
		"bogus"); n < 3*rememberedVerdicts {
		// some were forgotten before they changed
		t.Errorf("%v counted", n)
	}
}

// failed checks that a reply is SERVFAIL, without data and AD, and says why (D-16, S-15).
func failed(t *testing.T, what string, r *dns.Msg) {
	t.Helper()
	all := extended(r)
	if r.Rcode != dns.RcodeServerFailure || r.AuthenticatedData || len(r.Answer)+len(r.Ns) > 0 || len(all) == 0 {
		t.Errorf("%s: %s, with %d records", what, describes(r), len(r.Answer)+len(r.Ns))
		return
	}
	if all[0].ExtraText == "" {
		t.Errorf("%s: EDE %d says nothing", what, all[0].InfoCode)
	}
}

// TestEveryCodeFails: with each code of an Extended DNS Error a failure is SERVFAIL and tells it, cached or not,
// whatever was found beside it: nothing of it looks like an answer or a denial (D-16).
func TestEveryCodeFails(t *testing.T) {
	h := open(t, config(t))
	for code := range uint16(35) {
		for _, status := range []dnssec.Status{dnssec.Bogus, dnssec.Indeterminate} {
			for _, rcode := range []int{dns.RcodeServerFailure, dns.RcodeSuccess, dns.RcodeNameError} {
				for _, cached := range []bool{false, true} {
					h.resolver = canned(func(q dns.Question) *resolve.Answer {
						return &resolve.Answer{
							Status: status, Rcode: rcode, Cached: cached,
							Notes:  []*dnssec.Failure{{Code: code, Text: "a sentence"}},
							Answer: records(t, "example. 300 MX 10 mx.example."),
							Ns:     records(t, "example. 300 SOA . . 1 1 1 1 300"),
						}
					})
					what := fmt.Sprintf("EDE %d, %v, %s, cached %v", code, status, dns.RcodeToString[rcode], cached)
					r := from("127.0.0.1:5300").ask(t, h, "example.", dns.TypeMX, withDO)
					if failed(t, what, r); len(edes(r)) == 0 || edes(r)[0] != code {
						t.Errorf("%s: %s", what, describes(r))
					}
				}
			}
		}
	}
}

// TestEveryFailureSaysWhy: however a question fails, the client hears it with a reason (D-16).
func TestEveryFailureSaysWhy(t *testing.T) {
	for _, d := range lab().Domains() { // each fault of the lab
		for _, q := range d.Questions {
			if q.Rcode == dns.RcodeServerFailure {
				h := handlerFor(t, nil)
				for _, changes := range [][]change{{withDO}, {withEDNS}, {withSize(512)}} {
					failed(t, q.Name+" ("+d.Shows+")", from("127.0.0.1:5300").ask(t, h, q.Name, q.Type, changes...))
				}
			}
		}
	}
	garbage := func(_ string, _ int, q, _ *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Question[0].Name = "other.example."
		return m
	}
	refusing := func(_ string, _ int, q, _ *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) }
	truncated := func(_ string, _ int, q, _ *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Truncated = true
		return m
	}
	empty := func(_ string, _ int, q, _ *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(q) }
	through := func(how tamper) func(*Config) {
		return func(c *Config) {
			c.Timeout = 200 * time.Millisecond
			c.Routes[0].To[0] = upstreamAt(t, between(t, how).addr)
		}
	}
	for what, set := range map[string]func(*Config){
		"upstream fails": through(servfail), "upstream refuses": through(refusing),
		"upstream is silent":              through(silent),
		"upstream answers something else": through(garbage), "upstream truncates, over TCP too": through(truncated),
		"upstream says nothing": through(empty), "upstream strips": through(stripped),
		"nobody listens": func(c *Config) {
			p := between(t, honest)
			p.vanish()
			c.Routes[0].To[0] = upstreamAt(t, p.addr)
		},
		"limit signature_checks":   func(c *Config) { c.SignatureChecks = 1 },
		"limit upstream_questions": func(c *Config) { c.UpstreamQuestions = 1 },
		"another trust anchor": func(c *Config) {
			ds := dns.Copy(lab().DS()[0]).(*dns.DS)
			ds.Digest = strings.Repeat("0", len(ds.Digest))
			c.Anchors = trustanchors.Set{".": {ds}}
		},
		"the clock is wrong": func(c *Config) {
			c.Clock = func() time.Time { return time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC) }
		},
	} {
		h := handlerFor(t, set)
		for _, changes := range [][]change{{withDO}, {withEDNS}, {withDO}} { // the last ones from the cache
			failed(t, what, from("127.0.0.1:5300").ask(t, h, "_25._tcp.mx.dname.dane.", dns.TypeTLSA, changes...))
		}
	}
	h := handlerFor(t, through(silent))
	failed(t, "CD, and nothing came", from("127.0.0.1:5300").ask(t, h, secureMX, dns.TypeMX, withDO, withCD))
	h = handlerFor(t, nil)
	h.Close()
	failed(t, "closed", from("127.0.0.1:5300").ask(t, h, secureMX, dns.TypeMX, withDO))
	h = handlerFor(t, nil)
	h.resolver = panicking{h.resolver}
	failed(t, "a fault of danelaw", from("127.0.0.1:5300").ask(t, h, "boom.example.", dns.TypeMX, withDO))
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	w := from("127.0.0.1:5300")
	if _, err := handlerFor(t, through(silent)).ServeDNS(ended, w, newMsg(secureMX, dns.TypeMX, withDO)); err != nil {
		t.Error(err)
	}
	failed(t, "its server ends", w.reply)
}

// handlerFor returns a Handler of a changed configuration.
func handlerFor(t *testing.T, change func(*Config)) *Handler {
	t.Helper()
	c := config(t)
	if change != nil {
		change(&c)
	}
	return open(t, c)
}
