package reuse_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

func question(name string, qtype uint16) dns.Question {
	return dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
}

func nothing(string) []dns.RR { return nil }

func noon() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// rangeLines are one of each: names, a wildcard beside a name, an empty non-terminal, a DNAME.
const rangeLines = `a A 192.0.2.1
c A 192.0.2.3
dn DNAME mx.example.
e.ent A 192.0.2.5
*.w MX 10 a
*.wc CNAME a
x.w A 192.0.2.24
z A 192.0.2.26`

// scene is a resolver without a network: a tree that is asked, a judge that knows all its zones, and a Store.
type scene struct {
	t       *testing.T
	tree    *world.Tree
	zones   map[string]*dnssec.Zone
	store   *reuse.Store
	answers answers
	denied  map[string][]dns.RR
	work    *dnssec.Check // the client query's that looks for candidates
}

// newScene has the zone range., with a signed delegation to kid.range. and an unsigned one to sub.range.
func newScene(t *testing.T, nsec3 *zones.NSEC3) *scene {
	t.Helper()
	plan := world.Zone("range.", rangeLines)
	plan.Config.NSEC3 = nsec3
	kid, sub := world.Zone("kid.range.", "m A 192.0.2.13"), world.Zone("sub.range.", "m A 192.0.2.13")
	kid.Config.NSEC3, sub.Config.Unsigned = nsec3, true
	s := &scene{t: t, tree: world.New(noon, world.Zone("."), plan, kid, sub), zones: map[string]*dnssec.Zone{}}
	for _, name := range []string{".", "range.", "kid.range."} {
		keys := s.ask(question(name, dns.TypeDNSKEY))
		s.zones[name] = check().Apex(dnssec.DefaultPolicy().Anchor(name, s.tree.DS(name)), keys)
		if s.zones[name].Status != dnssec.Secure {
			t.Fatalf("%s: %v", name, s.zones[name].Cause)
		}
	}
	s.zones["sub.range."] = dnssec.InsecureZone(dnssec.Delegation{Name: "sub.range."})
	s.forget()
	return s
}

func check() *dnssec.Check {
	return &dnssec.Check{Now: noon(), Policy: dnssec.DefaultPolicy(), SignatureChecks: 128}
}

func (s *scene) forget() {
	s.answers = newAnswers(s.t)
	s.store, s.denied, s.work = reuse.NewStore(1<<20, s.answers.Cache), map[string][]dns.RR{}, check()
}

// At implements dnssec.Zones.
func (s *scene) At(name string) *dnssec.Zone {
	for at := range dnssec.Ancestors(name) {
		if z := s.zones[at]; z != nil {
			return z
		}
	}
	return nil
}

// Anchor implements dnssec.Zones.
func (s *scene) Anchor(string) string { return "." }

func (s *scene) ask(q dns.Question) *dnssec.Message {
	s.t.Helper()
	message, err := dnssec.Group(s.tree.Upstream().Resolve(q))
	if err != nil {
		s.t.Fatal(err)
	}
	return message
}

// learn keeps what the answers to the questions "name TYPE,..." of range. prove.
func (s *scene) learn(questions string) {
	s.t.Helper()
	for text := range strings.SplitSeq(questions, ",") {
		q := asks(s.t, text)
		v := check().Answer(q, s.ask(q), s)
		key := s.answers.put(v, cache.Key{Name: q.Name, Type: q.Qtype}, noon())
		s.store.Keep(v, key, 0, noon(), time.Hour)
		if v.Status == dnssec.Secure && v.Rcode == dns.RcodeNameError {
			s.denied[v.Last] = s.tree.Upstream().Resolve(q).Ns
		}
	}
}

// search is for all evidence of a zone.
func (s *scene) search(zone string) reuse.Search {
	return reuse.Search{
		Zone: zone, Now: noon(), Use: reuse.All, Denied: func(name string) []dns.RR { return s.denied[name] },
		Judge: func(f func(*dnssec.Check)) *dnssec.Failure { f(s.work); return nil },
	}
}

// proven returns the first candidate that is Secure, with its verdict.
func (s *scene) proven(q dns.Question, in reuse.Search) (c reuse.Candidate, v dnssec.Verdict) {
	s.t.Helper()
	for c = range s.store.Candidates(q, in) {
		message, err := dnssec.Group(c.Reply)
		if err != nil {
			s.t.Fatal(err)
		}
		v = check().Answer(q, message, s)
		if len(v.Needs) == 0 && v.Status == dnssec.Secure && v.TTL > 0 {
			return c, v
		}
	}
	return reuse.Candidate{}, dnssec.Verdict{}
}

// asks reads "name TYPE" with a name below range.
func asks(t *testing.T, text string) dns.Question {
	t.Helper()
	name, qtype, ok := strings.Cut(text, " ")
	if !ok || dns.StringToType[qtype] == 0 {
		t.Fatalf("%q is no question", text)
	}
	return question(strings.TrimPrefix(name+".range.", "@."), dns.StringToType[qtype])
}

// What was learned by some questions proves the answer to another, or does not: by NSEC and by NSEC3. Whatever is
// proven is what the zone says.
func TestCandidates(t *testing.T) {
	rows := []struct {
		title string
		known string // questions asked before
		q     string
		by    reuse.Proof // by NSEC; "" if nothing proves an answer
		by3   reuse.Proof // by NSEC3
	}{
		{"C-9: a name that an NSEC covers", "b A", "bb MX", reuse.ProofNSEC, ""},
		{"C-9: a name that another NSEC covers", "b A", "y A", "", ""},
		{"C-9: a type that the owner lacks", "a MX", "a TXT", reuse.ProofNSEC, reuse.ProofNSEC3},
		{"C-9: a type that the owner has", "a MX", "a A", "", ""},
		{"C-9: the next name of an NSEC", "b A", "c A", "", ""},
		{"C-9: NSEC itself, which every owner has", "a MX", "a NSEC", "", reuse.ProofNSEC3},
		{"C-9: below a name without data", "a MX", "x.a MX", reuse.ProofNSEC, ""},
		{"C-9: the apex, of another type", "@ TXT", "@ MX", reuse.ProofNSEC, reuse.ProofNSEC3},
		{"V-48: an empty non-terminal", "ent A", "ent MX", reuse.ProofNSEC, reuse.ProofNSEC3},
		{"V-48: below an empty non-terminal, behind the next name", "ent A", "f.ent MX", "", ""},
		{"RFC 8198 5.3: a wildcard's data", "p.w MX", "q.w MX", reuse.ProofWildcard, ""},
		{"RFC 8198 5.3: an alias of a wildcard", "p.wc A", "q.wc A", "", ""},
		{"RFC 8198 5.3: an alias itself", "p.wc CNAME", "q.wc CNAME", reuse.ProofWildcard, ""},
		{"V-47: a wildcard of which nothing is known", "p.w MX", "q.w A", "", ""},
		{"V-50: a wildcard that lacks the type", "p.w A", "q.w TXT", reuse.ProofNSEC, ""},
		{"V-50: a wildcard that has it, which is not kept", "p.w A", "q.w MX", "", ""},
		{"C-9: a name beside a wildcard", "p.w MX,p.w A", "x.w A", "", ""},
		{"V-50b: below a DNAME", "dn A,c MX", "foo.dn A", "", ""},
		{"V-50a: below a delegation", "sub DS,b A", "host.sub A", "", ""},
		{"V-50a: at a delegation", "sub DS", "sub A", "", ""},
		{"V-50c: DS at an apex, of which the child has denied another type", "kid TXT,b A", "kid DS", "", ""},
		{"C-10: an apex, of which the zone above has denied a type", "b A,kid DS,d.ent A,l A", "kid MX", "", ""},
		{"C-10: a name in a zone below", "b A,l A", "n.kid A", "", ""},
		{"C-10: a zone of its own", "kid TXT", "n.kid A", "", ""},
		{"C-17: below a name that does not exist", "b A", "x.y.b MX", reuse.ProofCut, reuse.ProofCut},
		{"C-17: beside it", "b A", "xb A", "", ""},
		{"C-10, C-17: a name that the zone below denies", "b.kid A", "x.b.kid A", "", ""},
	}
	for _, nsec3 := range []*zones.NSEC3{nil, {Iterations: 3, Salt: "beef"}} {
		s := newScene(t, nsec3)
		for _, tt := range rows {
			want := tt.by
			if nsec3 != nil {
				want = tt.by3
			}
			t.Run(fmt.Sprintf("%s, NSEC3 %v", tt.title, nsec3 != nil), func(t *testing.T) {
				s.t = t
				s.forget()
				s.learn(tt.known)
				q := asks(t, tt.q)
				c, v := s.proven(q, s.search("range."))
				if c.Reply != nil {
					s.same(q, c.Reply, v)
				}
				if c.Proof != want && (nsec3 == nil || want != "") { // where hashes lie is chance: they may prove more
					t.Errorf("proven by %q, want %q", c.Proof, want)
				}
			})
		}
	}
}

// same compares a candidate with what the zone says.
func (s *scene) same(q dns.Question, reply *dns.Msg, v dnssec.Verdict) {
	s.t.Helper()
	m := s.tree.Upstream().Resolve(q)
	if v.Rcode != m.Rcode || !slices.Equal(data(reply.Answer), data(m.Answer)) {
		s.t.Errorf("proven: %s %v, the zone says %s %v", dns.RcodeToString[v.Rcode], data(reply.Answer),
			dns.RcodeToString[m.Rcode], data(m.Answer))
	}
}

// data returns the records that are no signatures, without their TTLs, in an order of its own.
func data(rrs []dns.RR) (all []string) {
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeRRSIG {
			rr = dns.Copy(rr)
			rr.Header().Ttl = 0
			all = append(all, dnssec.Presentation(rr))
		}
	}
	slices.Sort(all)
	return all
}

// C-10: each zone's records are used for that zone only.
func TestOwnZone(t *testing.T) {
	for _, nsec3 := range []*zones.NSEC3{nil, {}} {
		s := newScene(t, nsec3)
		s.learn("kid TXT")
		q := asks(t, "kid MX")
		if c, _ := s.proven(q, s.search("kid.range.")); c.Reply == nil {
			t.Errorf("NSEC3 %v: not proven by the zone's own records", nsec3 != nil)
		}
		if c, _ := s.proven(q, s.search("range.")); c.Reply != nil {
			t.Errorf("NSEC3 %v: proven by %q for the zone above", nsec3 != nil, c.Proof)
		}
	}
}

// C-9, C-17: what may be used decides what is found. That a name above does not exist always counts.
func TestUse(t *testing.T) {
	for _, tt := range []struct {
		use              reuse.Use
		nsec, nsec3, cut bool
	}{
		{reuse.Off, false, false, true}, {reuse.NSEC, true, false, true}, {reuse.All, true, true, true},
	} {
		for _, nsec3 := range []*zones.NSEC3{nil, {}} {
			s := newScene(t, nsec3)
			s.learn("b A,a MX")
			in := s.search("range.")
			in.Use = tt.use
			want := tt.nsec
			if nsec3 != nil {
				want = tt.nsec3
			}
			if c, _ := s.proven(asks(t, "a TXT"), in); (c.Reply != nil) != want {
				t.Errorf("use %d, NSEC3 %v: a type proven by %q", tt.use, nsec3 != nil, c.Proof)
			}
			if c, _ := s.proven(asks(t, "x.b A"), in); (c.Proof == reuse.ProofCut) != tt.cut {
				t.Errorf("use %d, NSEC3 %v: a name below one that does not exist proven by %q", tt.use,
					nsec3 != nil, c.Proof)
			}
		}
	}
}

// C-9: NSEC3 with opt-out prove nothing; nor does a denial without the SOA that limits its lifetime (C-10).
func TestNoEvidence(t *testing.T) {
	s := newScene(t, &zones.NSEC3{OptOut: true})
	s.learn("a MX")
	if c, _ := s.proven(asks(t, "a TXT"), s.search("range.")); c.Reply != nil {
		t.Errorf("opt-out: proven by %q", c.Proof)
	}
	s = newScene(t, nil)
	q := asks(t, "a MX")
	v := check().Answer(q, s.ask(q), s)
	v.Authority = slices.DeleteFunc(v.Authority, func(set *dnssec.RRset) bool { return set.Type == dns.TypeSOA })
	s.store.Keep(v, s.answers.put(v, asked, noon()), 0, noon(), time.Hour)
	for c := range s.store.Candidates(asks(t, "a TXT"), s.search("range.")) {
		t.Errorf("no SOA: %v", c.Reply)
	}
}

// L-4, L-7: names are hashed on the account of the client query, when it is its turn, and only if there is something to
// compare them with.
func TestHashing(t *testing.T) {
	s := newScene(t, &zones.NSEC3{Iterations: 3, Salt: "beef"})
	turns := 0
	in := s.search("range.")
	in.Judge = func(f func(*dnssec.Check)) *dnssec.Failure { turns++; f(s.work); return nil }
	if s.proven(asks(t, "a TXT"), in); turns > 0 {
		t.Errorf("%d turns for a zone without NSEC3", turns)
	}
	s.learn("a MX")
	if c, _ := s.proven(asks(t, "a TXT"), in); c.Proof != reuse.ProofNSEC3 || turns != 1 {
		t.Errorf("proven by %q in %d turns", c.Proof, turns)
	}
	if hashes := s.work.Work().Hashes; hashes != 1 {
		t.Errorf("%d hashes counted, want 1", hashes)
	}
	s.proven(asks(t, strings.Repeat("x.", 40)+"a TXT"), in)
	if hashes := s.work.Work().Hashes; hashes > 1+10 {
		t.Errorf("%d hashes for two questions, want at most 1 and 10", hashes)
	}
	in.Judge = func(func(*dnssec.Check)) *dnssec.Failure { return &dnssec.Failure{Err: errors.New("no turn")} }
	for c := range s.store.Candidates(asks(t, "a TXT"), in) {
		t.Errorf("%q without a turn", c.Proof)
	}
}

// L-4: a client query that has hashed its share gets no candidate by NSEC3, and still has hashes for the judge.
func TestHashesSpent(t *testing.T) {
	s := newScene(t, &zones.NSEC3{})
	s.learn("a MX")
	for i := range 200 {
		s.proven(asks(t, fmt.Sprintf("n%d TXT", i)), s.search("range."))
	}
	q := asks(t, "a TXT")
	for c := range s.store.Candidates(q, s.search("range.")) {
		t.Errorf("%q although the share is spent", c.Proof)
	}
	if v := s.work.Answer(q, s.ask(q), s); v.Status != dnssec.Secure {
		t.Errorf("an upstream's denial is %v: %v", v.Status, v.Cause)
	}
}

// Who has enough looks no further.
func TestCandidatesEnd(t *testing.T) {
	s := newScene(t, nil)
	s.learn("b A")
	var found []reuse.Proof
	for c := range s.store.Candidates(asks(t, "x.b MX"), s.search("range.")) {
		found = append(found, c.Proof)
	}
	if want := []reuse.Proof{reuse.ProofCut, reuse.ProofNSEC}; !slices.Equal(found, want) {
		t.Errorf("%q, want %q", found, want)
	}
	for range s.store.Candidates(asks(t, "x.b MX"), s.search("range.")) {
		break
	}
}
