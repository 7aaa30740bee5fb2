package resolve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/zones"
)

// liar spoils replies at random: it strips, swaps, forges and loses.
type liar struct {
	u    *scripted.Upstream
	mu   sync.Mutex // rand is not safe for concurrent use
	rand *rand.Rand
	rate float64 // of replies
}

func (l *liar) rule(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	reply := l.u.Reply(q)
	reply.Upstream = fmt.Sprint(l.rand.IntN(3))
	for l.rand.Float64() < l.rate {
		spoil := spoilers[l.rand.IntN(len(spoilers))]
		if reply.Msg = spoil(l, q, reply.Msg); reply.Msg == nil {
			return fetch.Reply{}, refusedByAll, true
		}
	}
	return reply, nil, true
}

// any returns one of rrs, or nil.
func (l *liar) any(rrs []dns.RR) dns.RR {
	if len(rrs) == 0 {
		return nil
	}
	return rrs[l.rand.IntN(len(rrs))]
}

// other is the reply to another question.
func (l *liar) other(q dns.Question) *dns.Msg {
	names := []string{q.Name, dnssec.Parent(q.Name), ".", "com.", "example.com.", "mx.example.com.",
		"nothing.example.com.", "insecure.com.",
		"mx.insecure.com.", "nosuchtld.", "deep.co.uk.", "alias.example.com.", "x.wild.example.com.",
		"nothing." + strings.TrimPrefix(q.Name, ".")}
	types := []uint16{q.Qtype, dns.TypeDS, dns.TypeDNSKEY, dns.TypeA, dns.TypeMX, dns.TypeTLSA,
		dns.TypeSOA, dns.TypeNSEC}
	return l.u.Reply(question(names[l.rand.IntN(len(names))], types[l.rand.IntN(len(types))])).Msg
}

var spoilers = []func(*liar, dns.Question, *dns.Msg) *dns.Msg{
	func(*liar, dns.Question, *dns.Msg) *dns.Msg { return nil },
	func(_ *liar, _ dns.Question, m *dns.Msg) *dns.Msg { // stripped
		m.Answer, m.Ns = scripted.Unsigned(m.Answer), scripted.Unsigned(m.Ns)
		return m
	},
	func(_ *liar, _ dns.Question, m *dns.Msg) *dns.Msg { m.Answer = nil; return m },
	func(_ *liar, _ dns.Question, m *dns.Msg) *dns.Msg { m.Ns = nil; return m },
	func(_ *liar, _ dns.Question, m *dns.Msg) *dns.Msg { m.Rcode = dns.RcodeNameError; return m },
	func(_ *liar, _ dns.Question, m *dns.Msg) *dns.Msg { m.Rcode = dns.RcodeSuccess; return m },
	func(l *liar, q dns.Question, _ *dns.Msg) *dns.Msg { // the reply to another question
		m := l.other(q)
		m.Question = []dns.Question{q}
		return m
	},
	func(l *liar, q dns.Question, m *dns.Msg) *dns.Msg { m.Ns = append(m.Ns, l.other(q).Ns...); return m },
	func(l *liar, q dns.Question, m *dns.Msg) *dns.Msg {
		m.Answer = append(m.Answer, l.other(q).Answer...)
		return m
	},
	func(l *liar, q dns.Question, m *dns.Msg) *dns.Msg { // replayed under another name
		from, section := l.other(q), &m.Answer
		*section = from.Answer
		for _, rr := range *section {
			rr.Header().Name = q.Name
		}
		return m
	},
	func(l *liar, _ dns.Question, m *dns.Msg) *dns.Msg { // some record is not there
		for _, section := range []*[]dns.RR{&m.Answer, &m.Ns} {
			if len(*section) > 0 {
				i := l.rand.IntN(len(*section))
				*section = slices.Delete(*section, i, i+1)
			}
		}
		return m
	},
	func(l *liar, q dns.Question, m *dns.Msg) *dns.Msg { // some record is forged
		switch rr := l.any(m.Answer).(type) {
		case *dns.A:
			rr.A[3]++
		case *dns.MX:
			rr.Mx = "mx.evil.example."
		case *dns.CNAME:
			rr.Target = "mx.insecure.com."
		case *dns.DS:
			rr.DigestType, rr.Algorithm = uint8(l.rand.IntN(5)), uint8(l.rand.IntN(20))
		case *dns.DNSKEY:
			rr.Flags ^= 1 << l.rand.IntN(9)
		case *dns.RRSIG:
			forge(l, q, rr)
		}
		if sig, ok := l.any(m.Ns).(*dns.RRSIG); ok {
			forge(l, q, sig)
		}
		return m
	},
	func(l *liar, q dns.Question, m *dns.Msg) *dns.Msg { // a signature that leads elsewhere is added
		if sig, ok := l.any(m.Answer).(*dns.RRSIG); ok {
			sig = dns.Copy(sig).(*dns.RRSIG)
			forge(l, q, sig)
			m.Answer = append(m.Answer, sig)
		}
		return m
	},
	func(l *liar, q dns.Question, m *dns.Msg) *dns.Msg { // an alias out of the zone
		rr, _ := dns.NewRR(q.Name + " 300 IN CNAME mx.insecure.com.")
		m.Answer = append([]dns.RR{rr}, m.Answer...)
		return m
	},
	func(l *liar, q dns.Question, m *dns.Msg) *dns.Msg { // hints
		soa, _ := dns.NewRR(q.Name + " 300 IN SOA ns. h. 1 2 3 4 5")
		ns, _ := dns.NewRR("mx.example.com. 300 IN NS ns.")
		m.Ns = append(m.Ns, soa, ns)
		return m
	},
}

func forge(l *liar, q dns.Question, sig *dns.RRSIG) {
	switch l.rand.IntN(5) {
	case 0:
		sig.SignerName = []string{".", "com.", "insecure.com.", "mx.example.com.", q.Name, dnssec.Parent(q.Name),
			"evil."}[l.rand.IntN(7)]
	case 1:
		sig.Labels = uint8(l.rand.IntN(5))
	case 2:
		sig.KeyTag++
	case 3:
		sig.Expiration -= 30 * 86400
	case 4:
		sig.Signature = "AAAA" + sig.Signature[4:]
	}
}

// told is an answer as a line: the records, without TTLs and signatures.
func told(a *Answer) string {
	var records []string
	for _, rr := range a.Answer {
		if rr.Header().Rrtype != dns.TypeRRSIG {
			rr := dns.Copy(rr)
			rr.Header().Ttl = 0
			records = append(records, rr.String())
		}
	}
	slices.Sort(records)
	return dns.RcodeToString[a.Rcode] + " " + strings.Join(records, "; ")
}

// V-1, V-8, V-13, V-64, D-16: whatever an upstream strips, swaps, forges or loses, a Secure answer says the truth, a
// signed name is never Insecure and an unsigned one never Secure; and as soon as the upstream is honest again, so is
// every answer.
func TestLiar(t *testing.T) {
	for name, denial := range map[string]*zones.NSEC3{"NSEC": nil, "NSEC3": {Salt: "aa"}, "opt-out": {OptOut: true}} {
		t.Run(name, func(t *testing.T) {
			honest, u, _ := setup(t, nil)
			u.Tree.Each(func(p *zones.Plan) { p.Config.NSEC3 = denial })
			u.Tree.Plan("example.com.").Text += "\n*.wild A 192.0.2.9\nold DNAME deep.co.uk."
			u.Tree.Publish()
			truth := truths(t, honest)
			for round := range liarRounds {
				r := New(usually(Config{
					Exchanger: u, Anchors: honest.Anchors, Store: NewStore(4 << 20), Clock: honest.Clock,
					Policy: honest.Policy, Retries: 2,
				}))
				l := &liar{u: u, rand: rand.New(rand.NewPCG(uint64(round), 0)), rate: []float64{0.1, 0.3, 0.6}[round%3]}
				u.Follow(l.rule)
				for q, honest := range truth {
					if a := r.Resolve(context.Background(), q); a.Status > dnssec.Bogus ||
						a.Rcode != dns.RcodeServerFailure {
						honest.check(t, round, q, a)
					}
				}
				u.Follow(nil)
				r.Store.ForgetFailures()
				for q, honest := range truth {
					honest.check(t, round, q, r.Resolve(context.Background(), q))
				}
				r.Close()
				if t.Failed() {
					return
				}
			}
		})
	}
}

// truth is what an honest upstream makes of a question.
type truth struct {
	status dnssec.Status
	told   string
}

func truths(t *testing.T, r *Resolver) map[dns.Question]truth {
	all := map[dns.Question]truth{}
	for _, name := range []string{
		"example.com.", "mx.example.com.", "nothing.example.com.", "alias.example.com.", "outward.example.com.",
		"dangling.example.com.",
		"x.wild.example.com.", "mx.old.example.com.", "insecure.com.", "mx.insecure.com.", "deep.co.uk.", "nosuchtld.",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeDS, dns.TypeTLSA} {
			a := ask(r, name, qtype)
			if a.Status < dnssec.Insecure {
				t.Fatalf("%s %s: %s", name, typeName(qtype), notes(a))
			}
			all[question(name, qtype)] = truth{a.Status, told(a)}
		}
	}
	return all
}

// check holds an answer against the truth. What an unsigned zone says may be anything.
func (honest truth) check(t *testing.T, seed int, q dns.Question, a *Answer) {
	t.Helper()
	if a.Status != honest.status || a.Status == dnssec.Secure && told(a) != honest.told {
		t.Errorf("seed %d: %s: %v %s, want %v %s; %s", seed, fetch.Describe(q), a.Status, told(a), honest.status,
			honest.told, notes(a))
	}
}

// liarRounds is how many liars are tried.
const liarRounds = 8
