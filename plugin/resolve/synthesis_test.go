package resolve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// rangeZone has one of each: names, a wildcard beside a name, an empty non-terminal, a DNAME, a delegation without DS
// and one with.
const rangeZone = `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
a A 192.0.2.1
c A 192.0.2.3
dn DNAME mx.example.com.
e.ent A 192.0.2.5
*.w MX 10 a
*.wc CNAME a
x.w A 192.0.2.24
z A 192.0.2.26`

const kidZone = `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
m A 192.0.2.13`

// ranged returns a resolver whose world has the range zone at range.com., signed as change says.
func ranged(t *testing.T, use reuse.Use, sign func(*world.Tree), change func(*Config)) (*Resolver,
	*scripted.Upstream, *world.Clock, *proofs) {
	t.Helper()
	made := &proofs{}
	r, u, now := setup(t, func(c *Config) {
		c.Aggressive, c.Meter = use, made
		if change != nil {
			change(c)
		}
	})
	u.Tree.Add(zones.Plan{Name: "range.com.", Text: rangeZone}, zones.Plan{Name: "kid.range.com.", Text: kidZone},
		zones.Plan{Name: "sub.range.com.", Text: kidZone, Config: zones.Config{Unsigned: true}})
	if sign != nil {
		sign(u.Tree)
		u.Tree.Publish()
	}
	return r, u, now, made
}

// proofs counts answers made here.
type proofs struct {
	noMeter
	mu sync.Mutex
	by map[reuse.Proof]int
}

func (p *proofs) Synthesised(by reuse.Proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil {
		p.by = map[reuse.Proof]int{}
	}
	p.by[by]++
}

// total returns how many answers were made, by all proofs.
func (p *proofs) total() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, count := range p.by {
		n += count
	}
	return n
}

func compact(tree *world.Tree) { tree.Each(func(p *zones.Plan) { p.Config.Compact = true }) }

func withNSEC3(flags ...string) func(*world.Tree) {
	return func(w *world.Tree) {
		w.Each(func(p *zones.Plan) {
			p.Config.NSEC3 = &zones.NSEC3{Iterations: 3, Salt: "beef", OptOut: slices.Contains(flags, "opt-out")}
		})
	}
}

// asks splits "name TYPE"; names are below range.com.
func asks(t *testing.T, text string) dns.Question {
	t.Helper()
	name, qtype, ok := strings.Cut(text, " ")
	if !ok || dns.StringToType[qtype] == 0 {
		t.Fatalf("%q is no question", text)
	}
	name = strings.TrimPrefix(name+".range.com.", "@.")
	return question(name, dns.StringToType[qtype])
}

// What was learned by some questions answers another, or does not: by the zone in which the name is known to lie. An
// answer made here says the same as the zone, and that it was made here (S-15).
func TestSynthesis(t *testing.T) {
	for _, tt := range []struct {
		title string
		known string // questions asked before
		q     string
		by    reuse.Proof // of NSEC; "" if upstream has to be asked
		by3   reuse.Proof // of NSEC3
	}{
		{"C-9: a name that an NSEC covers", "b A", "bb MX", reuse.ProofNSEC, ""},
		{"C-9: DS of a name that an NSEC covers, but no NSEC3", "b A", "bb DS", reuse.ProofNSEC, ""},
		{"C-9: a type that the owner lacks", "a MX", "a TXT", reuse.ProofNSEC, reuse.ProofNSEC3},
		{"RFC 8198 5.3: a wildcard's data", "p.w MX", "q.w MX", reuse.ProofWildcard, ""},
		{"RFC 8198 5.3: an alias of a wildcard", "p.wc A", "q.wc A", "", ""},
		{"V-50b: below a DNAME", "dn A,c MX", "foo.dn A", "", ""},
		{"V-50a: below a delegation", "sub DS,b A", "host.sub A", "", ""},
		{"V-50a: at a delegation", "sub DS", "sub A", "", ""},
		{"V-50c: DS at an apex, of which the child has denied another type", "kid TXT,b A", "kid DS", "", ""},
		{"C-10: an apex, of which the zone above has denied a type", "b A,kid DS,d.ent A,l A", "kid MX", "", ""},
		{"C-10: a name in a zone below", "b A,l A", "n.kid A", "", ""},
		{"C-10: a zone of its own", "kid TXT", "n.kid A", "", ""},
		{"C-10: its own ranges", "n.kid A", "nn.kid A", reuse.ProofNSEC, ""},
		{"C-17: below a name that does not exist", "b A", "x.y.b MX", reuse.ProofCut, reuse.ProofCut},
	} {
		for _, nsec3 := range []bool{false, true} {
			sign, want := (func(*world.Tree))(nil), tt.by
			if nsec3 {
				sign, want = withNSEC3(), tt.by3
			}
			t.Run(fmt.Sprintf("%s, NSEC3 %v", tt.title, nsec3), func(t *testing.T) {
				r, u, _, made := ranged(t, reuse.All, sign, nil)
				for known := range strings.SplitSeq(tt.known, ",") {
					q := asks(t, known)
					ask(r, q.Name, q.Qtype)
				}
				before, q := made.total(), asks(t, tt.q)
				quiet(t, r)
				u.Forget()
				a := ask(r, q.Name, q.Qtype)
				same(t, a, u.Reply(q).Msg)
				asked := u.Count(q.Name + " " + typeName(q.Qtype))
				if nsec3 && want == "" && asked == 0 && made.total() > before {
					return // its hashes lie elsewhere: what matters is that the answer is right
				}
				if (want == "") != (asked > 0) || want != "" && made.by[want] != 1 {
					t.Errorf("asked %d times, made by %v, want by %q", asked, made.by, want)
				}
				noted := slices.ContainsFunc(a.Notes,
					func(f *dnssec.Failure) bool { return f.Code == dns.ExtendedErrorCodeSynthesized })
				if noted != (want != "" && want != reuse.ProofCut) {
					t.Errorf("EDE 29 %v; notes %s", noted, notes(a)) // S-15
				}
			})
		}
	}
}

// same compares an answer with what the zone says.
func same(t *testing.T, a *Answer, m *dns.Msg) {
	t.Helper()
	if a.Status < dnssec.Insecure || a.Rcode != m.Rcode || !slices.Equal(data(a.Answer), data(m.Answer)) {
		t.Errorf("%v %s %v, the zone says %s %v; notes %s", a.Status, dns.RcodeToString[a.Rcode], data(a.Answer),
			dns.RcodeToString[m.Rcode], data(m.Answer), notes(a))
	}
}

// data returns the records that are no signatures, without their TTLs, in an order of its own.
func data(rrs []dns.RR) (all []string) {
	for _, rr := range scripted.Unsigned(rrs) {
		all = append(all, dnssec.Presentation(withTTL(rr, 0)))
	}
	slices.Sort(all)
	return all
}

// A reply made here holds all that a validator behind danelaw needs: it is judged again by another judge.
func TestSynthesisedProof(t *testing.T) {
	for _, sign := range []func(*world.Tree){nil, withNSEC3()} {
		r, u, _, made := ranged(t, reuse.All, sign, nil)
		questions := []string{"b A", "a MX", "p.w MX", "p.w A", "x.b A", "a TXT"}
		for n := range 20 { // some of them have their hashes where others have
			questions = append(questions, fmt.Sprintf("b%d A", n), fmt.Sprintf("q%d.w MX", n),
				fmt.Sprintf("q%d.w TXT", n))
		}
		for _, text := range questions {
			before, q := made.total(), asks(t, text)
			a := ask(r, q.Name, q.Qtype)
			expectStatus(t, a, dnssec.Secure)
			if made.total() == before {
				continue
			}
			other, _, _ := setup(t, func(c *Config) { c.Anchors = u.Tree.Anchors(); c.Exchanger = replay{u, q, a} })
			expectStatus(t, ask(other, q.Name, q.Qtype), dnssec.Secure)
		}
		if denial := made.by[reuse.ProofNSEC] + made.by[reuse.ProofNSEC3]; denial < 10 ||
			made.by[reuse.ProofWildcard] < 10 || made.by[reuse.ProofCut] < 1 {
			t.Errorf("made by %v", made.by)
		}
	}
}

func expectStatus(t *testing.T, a *Answer, want dnssec.Status) {
	t.Helper()
	if a.Status != want {
		t.Errorf("%v, want %v; notes %s", a.Status, want, notes(a))
	}
}

// replay answers one question with an answer, all others as upstream does.
type replay struct {
	*scripted.Upstream
	q dns.Question
	a *Answer
}

func (r replay) Ask(q dns.Question, t fetch.Try, done func(fetch.Reply, error)) (cancel func()) {
	if q != r.q {
		return r.Upstream.Ask(q, t, done)
	}
	m := &dns.Msg{Question: []dns.Question{q}, Answer: copyRRs(r.a.Answer), Ns: copyRRs(r.a.Ns)}
	m.Response, m.Rcode = true, r.a.Rcode
	return scripted.InBackground(t, done, func(context.Context) (fetch.Reply, error) {
		return fetch.Reply{Msg: m, Upstream: "replay", Size: m.Len()}, nil
	})
}

// What is set decides what is used before asking; a name that does not exist is always the end (C-17).
func TestAggressiveOption(t *testing.T) {
	for _, tt := range []struct {
		use         reuse.Use
		sign        func(*world.Tree)
		ranges, cut bool
	}{
		{reuse.Off, nil, false, true}, {reuse.Off, withNSEC3(), false, true},
		{reuse.NSEC, nil, true, true}, {reuse.NSEC, withNSEC3(), false, true},
		{reuse.All, nil, true, true}, {reuse.All, withNSEC3(), true, true},
	} {
		r, u, _, _ := ranged(t, tt.use, tt.sign, nil)
		expect(t, ask(r, "b.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
		quiet(t, r)
		u.Forget()
		const names = 20
		for n := range names {
			expect(t, ask(r, fmt.Sprintf("b%d.range.com.", n), dns.TypeA), dnssec.Secure, dns.RcodeNameError)
		}
		expect(t, ask(r, "x.b.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
		if got := u.Count("*.range.com. A") < names; got != tt.ranges {
			t.Errorf("use %d, NSEC3 %v: by a range %v", tt.use, tt.sign != nil, got)
		}
		if got := u.Count("x.b.range.com. A") == 0; got != tt.cut {
			t.Errorf("use %d, NSEC3 %v: by a cut %v", tt.use, tt.sign != nil, got)
		}
	}
}

// Records that prove nothing, or not any more, are no answer: upstream is asked.
func TestNotHeld(t *testing.T) {
	short := func(w *world.Tree) { w.Plan("range.com.").Config.Expiration = scripted.Noon.Add(2 * time.Minute) }
	for title, tt := range map[string]struct {
		sign   func(*world.Tree)
		change func(*Config)
		rule   func(*scripted.Upstream)      // before the first question
		then   func(*Resolver, *world.Clock) // before the second one
	}{
		"C-9: opt-out":            {sign: withNSEC3("opt-out")},
		"C-10, RFC 9824: compact": {sign: compact},
		"C-10: no SOA":            {rule: func(u *scripted.Upstream) { u.Follow(losing(u, dns.TypeSOA)) }},
		"C-7: the TTL is over":    {then: func(_ *Resolver, c *world.Clock) { c.Advance(300 * time.Second) }},
		"C-1: an expired signature": {sign: short,
			then: func(_ *Resolver, c *world.Clock) { c.Advance(121 * time.Second) }},
		"C-18: from the future": {then: func(_ *Resolver, c *world.Clock) { c.Advance(-time.Hour) }},
		"C-17: asked elsewhere": {change: func(c *Config) { c.Apart = map[string]bool{"bb.range.com.": true} }},
		"C-10: the keys are not known": {then: func(r *Resolver, _ *world.Clock) {
			r.Store.places.Flush("range.com.")
		}},
	} {
		t.Run(title, func(t *testing.T) {
			r, u, now, made := ranged(t, reuse.All, tt.sign, tt.change)
			if tt.rule != nil {
				tt.rule(u)
			}
			ask(r, "b.range.com.", dns.TypeA)
			if tt.then != nil {
				tt.then(r, now)
			}
			u.Tree.Each(func(p *zones.Plan) { p.Config.Expiration = now.Now().Add(time.Hour) })
			quiet(t, r)
			u.Forget()
			ask(r, "bb.range.com.", dns.TypeA)
			if u.Count("bb.range.com. A") == 0 {
				t.Errorf("nobody was asked; made by %v", made.by)
			}
		})
	}
}

// losing makes upstream lose records of a type in the authority section of denials of range.com.
func losing(u *scripted.Upstream, lost uint16) func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error,
	bool) {
	return func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		r := u.Reply(q)
		if dns.IsSubDomain("range.com.", q.Name) && q.Qtype != dns.TypeDS {
			r.Msg.Ns = slices.DeleteFunc(r.Msg.Ns, func(rr dns.RR) bool {
				sig, ok := rr.(*dns.RRSIG)
				return rr.Header().Rrtype == lost || ok && sig.TypeCovered == lost
			})
		}
		return r, nil, true
	}
}

// C-17, V-12: what the zone above says of a name below a nearer anchor counts for nothing, nor what another route's
// does.
func TestSynthesisBelowAnchor(t *testing.T) {
	r, u, _, _ := ranged(t, reuse.All, nil, func(c *Config) {
		anchors := map[string][]*dns.DS{"b.range.com.": {{Hdr: dns.RR_Header{Name: "b.range.com.", Rrtype: dns.TypeDS,
			Class: dns.ClassINET},
			KeyTag: 1, Algorithm: dns.ECDSAP256SHA256, DigestType: dns.SHA256, Digest: strings.Repeat("00", 32)}}}
		for zone, ds := range c.Anchors {
			anchors[zone] = ds
		}
		c.Anchors = anchors
	})
	expect(t, ask(r, "ab.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError) // covers b
	quiet(t, r)
	u.Forget()
	ask(r, "x.b.range.com.", dns.TypeA)
	if u.Count("x.b.range.com. A") == 0 {
		t.Error("nobody was asked below an anchor of which nothing is known")
	}
}

// C-9, C-7: an answer made here lives no longer than what it is made of, however often more is made of it.
func TestSynthesisedLife(t *testing.T) {
	r, u, now, made := ranged(t, reuse.NSEC, nil, nil)
	expect(t, ask(r, "b.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	for i, life := range []uint32{200, 100, 1} {
		now.Advance(time.Duration(300-life)*time.Second - now.Now().Sub(scripted.Noon))
		a := ask(r, fmt.Sprintf("b%d.range.com.", i), dns.TypeA)
		expect(t, a, dnssec.Secure, dns.RcodeNameError)
		for _, rr := range a.Ns {
			if ttl := rr.Header().Ttl; ttl > life {
				t.Errorf("TTL %d with %d s left: %v", ttl, life, rr)
			}
		}
		if made.total() != i+1 {
			t.Errorf("made by %v", made.by)
		}
	}
	now.Advance(time.Second)
	quiet(t, r)
	u.Forget()
	for i := range 3 {
		ask(r, fmt.Sprintf("b%d.range.com.", i), dns.TypeA)
	}
	if u.Count("b0.range.com. A") != 1 {
		t.Errorf("not asked again at the end: %v", u.Asked())
	}
}

// D-17: what came since a failure was remembered answers instead of it, whatever is set.
func TestInsteadOfFailure(t *testing.T) {
	for _, sign := range []func(*world.Tree){nil, withNSEC3()} {
		r, u, _, made := ranged(t, reuse.Off, sign, nil)
		u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			return fetch.Reply{}, fmt.Errorf("no answer"), q.Qtype == dns.TypeTXT
		})
		expect(t, ask(r, "a.range.com.", dns.TypeTXT), dnssec.Indeterminate, dns.RcodeServerFailure)
		expect(t, ask(r, "a.range.com.", dns.TypeTXT), dnssec.Indeterminate, dns.RcodeServerFailure)
		expect(t, ask(r, "a.range.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		expect(t, ask(r, "a.range.com.", dns.TypeTXT), dnssec.Secure, dns.RcodeSuccess)
		if made.total() != 1 {
			t.Errorf("made by %v", made.by)
		}
		if a := ask(r, "a.range.com.", dns.TypeTXT); !a.Cached {
			t.Error("not kept")
		}
	}
}

// What is asked to be new is asked upstream, whatever is held (C-14), and so is what is explained.
func TestExplainAsks(t *testing.T) {
	r, u, _, _ := ranged(t, reuse.All, nil, nil)
	expect(t, ask(r, "b.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	e := r.Explain(context.Background(), question("bb.range.com.", dns.TypeA))
	expect(t, e.Answer, dnssec.Secure, dns.RcodeNameError)
	if u.Count("bb.range.com. A") != 1 {
		t.Errorf("asked %v", u.Asked())
	}
}

// Over zones of chance every answer, made here or not, has the RCODE and the data that the zone gives.
func TestSynthesisProperty(t *testing.T) {
	rounds, questions := 12, 150
	if testing.Short() {
		rounds = 4
	}
	total := 0
	for round := range rounds {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, uint64(round)))
		var sign func(*world.Tree)
		if round%2 == 1 {
			sign = withNSEC3()
		}
		r, u, now, made := ranged(t, reuse.All, sign, nil)
		u.Tree.Plan("range.com.").Text = randomZone(rnd)
		u.Tree.Publish()
		for range questions {
			q := question(randomName(rnd)+"range.com.", []uint16{dns.TypeA, dns.TypeMX, dns.TypeTXT, dns.TypeCNAME,
				dns.TypeDS, dns.TypeTLSA}[rnd.IntN(6)])
			a := ask(r, q.Name, q.Qtype)
			if same(t, a, u.Reply(q).Msg); t.Failed() {
				t.Fatalf("seed %d, round %d, %s, made by %v; the zone is\n%s", seed, round, fetch.Describe(q), made.by,
					u.Tree.Plan("range.com.").Text)
			}
			now.Advance(time.Duration(rnd.IntN(5)) * time.Second)
		}
		total += made.total()
	}
	t.Logf("%d of %d answers were made of what was held", total, rounds*questions)
	if total < rounds*questions/20 {
		t.Errorf("only %d of %d answers were made of what was held", total, rounds*questions)
	}
}

// propertyLabels are those of the zones of chance: few, so that names meet.
var propertyLabels = []string{"a", "b", "c", "_tcp", "_25", "m", `\000`, "*"}

// randomName returns up to three labels, each with its dot.
func randomName(rnd *rand.Rand) (name string) {
	for range rnd.IntN(4) {
		name += propertyLabels[rnd.IntN(len(propertyLabels)-1)] + "."
	}
	return name
}

// randomZone returns a zone file with names, wildcards, aliases, a DNAME and the delegations of the range zone.
func randomZone(rnd *rand.Rand) string {
	text := "@ SOA ns. h. 1 7200 3600 86400 300\n@ NS ns.\n"
	used := map[string]bool{"": true}
	for range 6 + rnd.IntN(8) {
		name := strings.TrimSuffix(randomName(rnd), ".")
		if rnd.IntN(4) == 0 {
			name = strings.TrimSuffix("*."+name, ".")
		}
		if used[name] {
			continue
		}
		used[name] = true
		switch rnd.IntN(8) {
		case 0:
			text += name + " CNAME a.kid.range.com.\n"
		case 1:
			text += name + " MX 10 a\n" + name + " TXT \"x\"\n"
		case 2:
			text += name + " TLSA 3 1 1 00\n"
		default:
			text += name + " A 192.0.2.1\n"
		}
	}
	return text + "dn.m DNAME kid.range.com.\n"
}

// C-12: what is flushed is asked for again, whatever else that is held would answer it.
func TestFlushRanges(t *testing.T) {
	for _, sign := range []func(*world.Tree){nil, withNSEC3()} {
		for _, flushed := range []string{"bb.range.com.", "range.com.", "com.", "x.bb.range.com."} {
			r, u, _, _ := ranged(t, reuse.All, sign, nil)
			expect(t, ask(r, "b.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
			expect(t, ask(r, "bb.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
			r.Flush(flushed)
			quiet(t, r)
			u.Forget()
			expect(t, ask(r, "x.bb.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
			if u.Count("x.bb.range.com. A") != 1 {
				t.Errorf("%s was flushed, but nobody was asked", flushed)
			}
		}
	}
	r, u, _, made := ranged(t, reuse.All, nil, nil)
	expect(t, ask(r, "b.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	r.Flush("example.com.")
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "bb.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	if made.total() != 1 {
		t.Errorf("another name was flushed, and upstream asked %v", u.Asked())
	}
}

// T-18: nothing is made below a negative trust anchor, and a test of the zone under one asks.
func TestSynthesisBelowNegative(t *testing.T) {
	r, u, now, _ := ranged(t, reuse.All, nil, nil)
	expect(t, ask(r, "b.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	quiet(t, r)
	u.Forget()
	a := r.Retest(t.Context(), question("bb.range.com.", dns.TypeA))
	if expect(t, a, dnssec.Secure, dns.RcodeNameError); u.Count("bb.range.com. A") != 1 {
		t.Errorf("asked %v", u.Asked())
	}
	r.Distrust([]chain.NegativeAnchor{{Zone: "range.com.", Until: now.Now().Add(time.Hour)}})
	quiet(t, r)
	u.Forget()
	a = ask(r, "bb.range.com.", dns.TypeA)
	if expect(t, a, dnssec.Insecure, dns.RcodeNameError); u.Count("bb.range.com. A") != 1 {
		t.Errorf("asked %v", u.Asked())
	}
}

// C-14: what ends soon is asked for again, and not made of what ends as soon.
func TestRenewalAsks(t *testing.T) {
	r, u, now, made := ranged(t, reuse.All, nil, func(c *Config) { c.Prefetch = true })
	expect(t, ask(r, "b.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	now.Advance(280 * time.Second)
	quiet(t, r)
	u.Forget()
	ask(r, "b.range.com.", dns.TypeA)
	for begun := time.Now(); u.Count("b.range.com. A") == 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("not asked again; made by %v", made.by)
		}
	}
}

// What was made of proofs is not kept as proofs again.
func TestHeldIsNotKeptAgain(t *testing.T) {
	q := question("b.range.com.", dns.TypeA)
	_, u, now, _ := ranged(t, reuse.All, nil, nil)
	message, err := dnssec.Group(u.Reply(q).Msg)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range message.Authority {
		set.TTL = 300
	}
	v := dnssec.Verdict{
		Status: dnssec.Secure, Rcode: dns.RcodeNameError, Authority: message.Authority, Last: q.Name, Denial: true,
		TTL: 300,
	}
	for _, held := range []bool{false, true} {
		s, o := NewStore(1<<20), &outcome{parts: []part{{Verdict: v, held: held}}}
		s.remember(q, o, o.answer(now.Now(), time.Hour), now.Now(), 0, time.Hour)
		if n := s.Sizes().Proofs.Entries; n > 0 == held {
			t.Errorf("held %v: %d kept", held, n)
		}
	}
}
