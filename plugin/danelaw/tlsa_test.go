package danelaw

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/reuse"
)

// ofTLSA does what how says to questions for TLSA only.
func ofTLSA(how tamper) tamper {
	return func(network string, n int, q, r *dns.Msg) *dns.Msg {
		if q.Question[0].Qtype == dns.TypeTLSA {
			return how(network, n, q, r)
		}
		return r
	}
}

// rcoded answers with an RCODE and nothing else.
func rcoded(rcode int) tamper {
	return func(_ string, _ int, q, _ *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, rcode) }
}

// proofless answers that there is nothing, without any proof.
func proofless(_ string, _ int, q, _ *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(q) }

// TestTLSAFails: where a nameserver fails on TLSA, mail goes out if there is provably none, and is deferred else; MX, A
// and AAAA are in order all the while (D-17, D-16).
func TestTLSAFails(t *testing.T) {
	for way, how := range map[string]tamper{
		"drops": silent, "REFUSED": rcoded(dns.RcodeRefused), "NOTIMP": rcoded(dns.RcodeNotImplemented),
		"SERVFAIL": servfail, "FORMERR": rcoded(dns.RcodeFormatError), "NODATA without proof": proofless,
		"NXDOMAIN without proof": rcoded(dns.RcodeNameError), "without signatures": stripped,
	} {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, warm %v", way, warm), func(t *testing.T) {
				t.Parallel()
				testTLSAFails(t, how, warm, way == "drops")
			})
		}
	}
}

func testTLSAFails(t *testing.T, how tamper, warm, slow bool) {
	c := config(t, between(t, ofTLSA(how)).addr)
	c.Timeout = 20 * time.Second
	server := serve(t, open(t, c))
	for _, tt := range []struct {
		domain string
		absent bool
	}{{"no-tlsa.dane.", true}, {"no-tlsa.nsec3.", true}, {"good.opt-out.", false}, {"rsasha256.dane.", false}} {
		others := func() {
			for _, q := range []dns.Question{{Name: tt.domain, Qtype: dns.TypeMX},
				{Name: "mx." + tt.domain, Qtype: dns.TypeA},
				{Name: "mx." + tt.domain, Qtype: dns.TypeAAAA}, {Name: "mx." + tt.domain, Qtype: dns.TypeTXT}} {
				if r := ask(t, server, q.Name, q.Qtype, withDO); !r.AuthenticatedData || r.Rcode != dns.RcodeSuccess {
					t.Errorf("%s %s: %s", q.Name, dns.Type(q.Qtype), describes(r))
				}
			}
		}
		if warm {
			others()
		}
		if slow && !tt.absent {
			continue // it would take all the time there is; TestTLSASilent has it
		}
		r := ask(t, server, "_25._tcp.mx."+tt.domain, dns.TypeTLSA, withDO)
		switch {
		case tt.absent && (r.Rcode != dns.RcodeNameError || !r.AuthenticatedData || len(r.Ns) < 4):
			// SOA and proof, signed
			t.Errorf("%s: %s with %v, want a Secure denial", tt.domain, describes(r), r.Ns)
		case !tt.absent && (r.Rcode != dns.RcodeServerFailure || r.AuthenticatedData || len(r.Answer)+len(r.Ns) > 0):
			t.Errorf("%s: %s, want SERVFAIL", tt.domain, describes(r))
		}
		others()
	}
}

// TestTLSASilent: a TLSA record that is there and never comes is a failure, within the time allowed (L-10).
func TestTLSASilent(t *testing.T) {
	c := config(t, between(t, ofTLSA(silent)).addr)
	c.Timeout = 2 * time.Second
	server := serve(t, open(t, c))
	for range 2 {
		if r := ask(t, server, "_25._tcp.mx.rsasha256.dane.", dns.TypeTLSA,
			withDO); r.Rcode != dns.RcodeServerFailure || r.AuthenticatedData {
			t.Errorf("%s, want SERVFAIL", describes(r))
		}
	}
}

// TestTLSAInsecure: below an insecure delegation a failure is one, and no other question is asked (D-16).
func TestTLSAInsecure(t *testing.T) {
	p := between(t, ofTLSA(rcoded(dns.RcodeNotImplemented)))
	server := serve(t, open(t, config(t, p.addr)))
	if r := ask(t, server, insecureMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeSuccess || r.AuthenticatedData {
		t.Fatalf("MX: %s", describes(r))
	}
	p.questions()
	if r := ask(t, server, "_25._tcp.mx."+insecureMX, dns.TypeTLSA, withDO); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("%s, want SERVFAIL", describes(r))
	}
	asked, _ := p.questions()
	for _, m := range asked {
		if m.Question[0].Name == "_tcp.mx."+insecureMX && m.Question[0].Qtype == dns.TypeA {
			t.Errorf("asked for %v", m.Question[0])
		}
	}
}

// TestAggressive: by default an NSEC held answers without asking, with EDE 29, and is counted; what is asked elsewhere
// is asked (C-9, C-17, S-15).
func TestAggressive(t *testing.T) {
	for _, apart := range []bool{false, true} {
		p := between(t, honest)
		c := config(t, p.addr)
		if apart {
			route := c.Routes[0]
			route.From = "bb.rsasha256.dane."
			c.Routes = append(c.Routes, route)
		}
		server := serve(t, open(t, c))
		ask(t, server, "b.rsasha256.dane.", dns.TypeA, withDO)
		p.questions()
		r := ask(t, server, "bb.rsasha256.dane.", dns.TypeA, withDO)
		if r.Rcode != dns.RcodeNameError || !r.AuthenticatedData || len(r.Ns) < 4 {
			t.Errorf("%s with %d records", describes(r), len(r.Ns))
		}
		asked, _ := p.questions()
		made := metric(t, "synthesised_total", "block", c.Block, "proof", string(reuse.ProofNSEC))
		told := len(edes(r)) == 1 && edes(r)[0] == dns.ExtendedErrorCodeSynthesized
		if (len(asked) == 0) == apart || (made == 1) == apart || told == apart {
			t.Errorf("route of its own %v: asked %d questions, made %v, %s", apart, len(asked), made, describes(r))
		}
		if plain := ask(t, server, "bb.rsasha256.dane.", dns.TypeA); plain.AuthenticatedData ||
			plain.Rcode != dns.RcodeNameError {
			t.Errorf("without DO: %s", describes(plain))
		}
	}
}
