package reuse_test

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
)

// setOf makes an RRset of a record in zone-file form, with signatures by the given zones with so many labels.
func setOf(t *testing.T, text string, labels uint8, signers ...string) *dnssec.RRset {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	m := &dns.Msg{Answer: []dns.RR{rr}}
	for _, signer := range signers {
		m.Answer = append(m.Answer, &dns.RRSIG{
			Hdr: dns.RR_Header{Name: rr.Header().Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET,
				Ttl: rr.Header().Ttl},
			TypeCovered: rr.Header().Rrtype, Labels: labels, OrigTtl: rr.Header().Ttl, SignerName: signer,
			Signature: "AAAA",
		})
	}
	message, err := dnssec.Group(m)
	if err != nil {
		t.Fatal(err)
	}
	return message.Answer[0]
}

var learned = time.Unix(1000, 0)

// answers is a cache of them.
type answers struct {
	*cache.Cache
	t *testing.T
}

func newAnswers(t *testing.T) answers { return answers{cache.New(1 << 20), t} }

// put keeps the answer of a verdict, for as long as it may be.
func (a answers) put(v dnssec.Verdict, key cache.Key, now time.Time) cache.Key {
	a.t.Helper()
	all := func(sets []*dnssec.RRset) (rrs []dns.RR) {
		for _, set := range sets {
			rrs = append(rrs, set.RRs...)
			for _, sig := range set.Sigs {
				rrs = append(rrs, sig)
			}
		}
		return rrs
	}
	m := dns.Msg{Compress: true, Answer: all(v.Answer), Ns: all(v.Authority)}
	wire, err := m.Pack()
	if err != nil {
		a.t.Fatal(err)
	}
	a.Put(key, &cache.Entry{Stored: now, Life: 24 * time.Hour, Wire: wire}, now)
	return key
}

var asked = cache.Key{Name: "asked.example.", Type: dns.TypeMX}

// kept returns a Store that was given one verdict, whose TTLs had run for 10 seconds, and the answers that hold it.
func kept(t *testing.T, v dnssec.Verdict) (*reuse.Store, answers) {
	a := newAnswers(t)
	s := reuse.NewStore(1<<20, a.Cache)
	s.Keep(v, a.put(v, asked, learned), 10, learned, time.Hour)
	return s, a
}

// C-9, C-10: what is kept of Secure denials, and what is not worth it or belongs to no one zone.
func TestKeep(t *testing.T) {
	const a, b = "0P9MHAVEQVM6T7VBL5LOP2U3T2RP3TOM", "2T7B4G4VSA5SMI47K61MV5BV1A22BOJR"
	for _, tt := range []struct {
		title  string
		text   string
		labels uint8
		by     []string
		kept   bool
	}{
		{"NSEC", "a.example. 60 NSEC c.example. A", 2, []string{"example."}, true},
		{"SOA", "example. 60 SOA . . 1 1 1 1 60", 1, []string{"example."}, true},
		{"NSEC3", a + ".example. 60 NSEC3 1 0 0 - " + b + " A", 2, []string{"example."}, true},
		{"C-9: NSEC3 with opt-out", a + ".example. 60 NSEC3 1 1 0 - " + b + " A", 2, []string{"example."}, false},
		{"C-10: NSEC3 made to measure", a + ".example. 60 NSEC3 1 0 0 - " + a[:31] + "O A", 2,
			[]string{"example."}, false},
		{"NSEC3 of the only name", a + ".example. 60 NSEC3 1 0 0 - " + a + " A", 2, []string{"example."}, true},
		{"C-10: RFC 9824", `a.example. 60 NSEC \000.a.example. RRSIG NSEC NXNAME`, 2, []string{"example."}, false},
		{"C-10: RFC 4470", `a!.example. 60 NSEC a-.example. RRSIG NSEC`, 2, []string{"example."}, false},
		{"C-10: RFC 4471", `a\255.example. 60 NSEC b.example. RRSIG NSEC`, 2, []string{"example."}, false},
		{"C-10: signed by two zones", "a.example. 60 NSEC c.example. A", 2, []string{"example.", "."}, false},
		{"not signed", "a.example. 60 NSEC c.example. A", 2, nil, false},
		{"V-50e: made from a wildcard", "a.example. 60 NSEC c.example. A", 1, []string{"example."}, false},
		{"V-50e: the wildcard itself", "*.example. 60 NSEC c.example. A", 1, []string{"example."}, true},
		{"C-7: its time is over", "a.example. 10 NSEC c.example. A", 2, []string{"example."}, false},
		{"SOA of another name", "a.example. 60 SOA . . 1 1 1 1 60", 2, []string{"example."}, false},
		{"the root", ". 60 NSEC com. NS", 0, []string{"."}, true},
	} {
		s, _ := kept(t, dnssec.Verdict{Status: dnssec.Secure,
			Authority: []*dnssec.RRset{setOf(t, tt.text, tt.labels, tt.by...)}})
		if _, n := s.Size(); n > 0 != tt.kept {
			t.Errorf("%s: %d kept", tt.title, n)
		}
	}
}

// Data is kept if a wildcard gave it, but for a DNAME, which answers for other names; denials only if they are Secure.
func TestKeepParts(t *testing.T) {
	one := func(text string, labels uint8) []*dnssec.RRset {
		return []*dnssec.RRset{setOf(t, text, labels, "example.")}
	}
	const nsec, a = "a.example. 60 NSEC c.example. A", "a.example. 60 A 192.0.2.1"
	for title, tt := range map[string]struct {
		v    dnssec.Verdict
		kept bool
	}{
		"a denial":             {dnssec.Verdict{Status: dnssec.Secure, Authority: one(nsec, 2)}, true},
		"an Insecure denial":   {dnssec.Verdict{Status: dnssec.Insecure, Authority: one(nsec, 2)}, false},
		"NSEC as data":         {dnssec.Verdict{Status: dnssec.Secure, Answer: one(nsec, 1)}, false},
		"data of a wildcard":   {dnssec.Verdict{Status: dnssec.Secure, Answer: one(a, 1)}, true},
		"the wildcard's own":   {dnssec.Verdict{Status: dnssec.Secure, Answer: one("*"+a[1:], 1)}, true},
		"Insecure data of one": {dnssec.Verdict{Status: dnssec.Insecure, Answer: one(a, 1)}, false},
		"data of a name":       {dnssec.Verdict{Status: dnssec.Secure, Answer: one(a, 2)}, false},
		"a DNAME of one": {dnssec.Verdict{Status: dnssec.Secure,
			Answer: one("a.example. 60 DNAME b.example.", 1)}, false},
	} {
		s, _ := kept(t, tt.v)
		if _, n := s.Size(); n > 0 != tt.kept {
			t.Errorf("%s: %d kept", title, n)
		}
	}
}

// C-7, C-18: what is kept counts down, ends, and proves nothing before it was learned.
func TestLife(t *testing.T) {
	s, _ := kept(t, dnssec.Verdict{Status: dnssec.Secure, Authority: []*dnssec.RRset{
		setOf(t, "a.example. 60 NSEC c.example. A", 2, "example."),
		setOf(t, "example. 60 SOA . . 1 1 1 1 60", 1, "example."),
	}})
	for _, tt := range []struct {
		after time.Duration
		ttl   uint32 // 0 for none
	}{
		{0, 50}, {time.Second, 49}, {1500 * time.Millisecond, 48}, {49 * time.Second, 1}, {-time.Second, 0},
		{50 * time.Second, 0}, {0, 0},
	} {
		in := reuse.Search{Zone: "example.", Now: learned.Add(tt.after), Use: reuse.NSEC, Denied: nothing}
		n := 0
		for c := range s.Candidates(question("a.example.", dns.TypeTXT), in) {
			for n += len(c.Reply.Ns); len(c.Reply.Ns) > 0; c.Reply.Ns = c.Reply.Ns[1:] {
				if got := c.Reply.Ns[0].Header().Ttl; got != tt.ttl {
					t.Errorf("after %v: TTL %d, want %d", tt.after, got, tt.ttl)
				}
			}
		}
		if want := 4 * min(1, int(tt.ttl)); n != want { // two records, two signatures
			t.Errorf("after %v: %d records, want %d", tt.after, n, want)
		}
	}
}

// C-9, C-12: what an answer held proves something as long as the answer is there, and has it.
func TestInTheAnswer(t *testing.T) {
	denial := dnssec.Verdict{Status: dnssec.Secure, Authority: []*dnssec.RRset{
		setOf(t, "a.example. 60 NSEC c.example. A", 2, "example."),
		setOf(t, "example. 60 SOA . . 1 1 1 1 60", 1, "example."),
	}}
	other := dnssec.Verdict{Status: dnssec.Secure, Authority: []*dnssec.RRset{
		setOf(t, "a.example. 60 NSEC c.example. A", 1, "example."), // a wildcard's
		setOf(t, "a.example. 60 NSEC d.example. A", 2, "example.", "."),
		setOf(t, "b.example. 60 NSEC c.example. A", 2, "example."),
		setOf(t, "example. 60 SOA . . 1 1 1 1 60", 1, "example."),
	}}
	for title, tt := range map[string]struct {
		change func(a answers)
		found  int
	}{
		"as it was":    {func(answers) {}, 1},
		"forgotten":    {func(a answers) { a.Remove(asked) }, 0},
		"another":      {func(a answers) { a.put(other, asked, learned) }, 0},
		"another name": {func(a answers) { a.put(other, cache.Key{Name: "a.example."}, learned) }, 1},
		"no message": {func(a answers) {
			wire := make([]byte, 24) // its record, an A, has one octet
			wire[7], wire[14], wire[16], wire[22] = 1, 1, 1, 1
			a.Put(asked, &cache.Entry{Stored: learned, Life: time.Hour, Wire: wire}, learned)
		}, 0},
	} {
		s, a := kept(t, denial)
		tt.change(a)
		in := reuse.Search{Zone: "example.", Now: learned, Use: reuse.NSEC, Denied: nothing}
		n := 0
		for range s.Candidates(question("a.example.", dns.TypeTXT), in) {
			n++
		}
		if _, left := s.Size(); n != tt.found || left > 2 || n == 0 && left == 2 {
			t.Errorf("%s: %d candidates, want %d; %d kept", title, n, tt.found, left)
		}
	}
}

// C-18: what was learned later than now proves nothing, though the answer was given again since the clock was set back.
func TestFromTheFuture(t *testing.T) {
	v := dnssec.Verdict{Status: dnssec.Secure, Authority: []*dnssec.RRset{
		setOf(t, "a.example. 60 NSEC c.example. A", 2, "example."),
		setOf(t, "example. 60 SOA . . 1 1 1 1 60", 1, "example."),
	}}
	s, a := kept(t, v)
	a.put(v, asked, learned.Add(-time.Minute))
	for at, want := range map[time.Duration]int{-time.Second: 0, 0: 1} {
		in := reuse.Search{Zone: "example.", Now: learned.Add(at), Use: reuse.NSEC, Denied: nothing}
		n := 0
		for range s.Candidates(question("a.example.", dns.TypeTXT), in) {
			n++
		}
		if n != want {
			t.Errorf("after %v: %d candidates, want %d", at, n, want)
		}
	}
}

// Nothing is kept for longer than the most that any answer is (C-5), and none of more octets than there is room for.
func TestBounds(t *testing.T) {
	v := dnssec.Verdict{Status: dnssec.Secure,
		Authority: []*dnssec.RRset{setOf(t, "a.example. 600 NSEC c.example. A", 2, "example.")}}
	a := newAnswers(t)
	small := reuse.NewStore(100, a.Cache)
	if small.Keep(v, asked, 0, learned, time.Hour); small.Evicted() > 0 {
		t.Errorf("%d evicted from a Store that is too small for any", small.Evicted())
	}
	if octets, n := small.Size(); octets > 0 || n > 0 {
		t.Errorf("%d octets in a Store of 100", octets)
	}
	none := reuse.NewStore(1<<20, a.Cache)
	none.Keep(v, asked, 0, learned, 0)
	if _, n := none.Size(); n > 0 {
		t.Errorf("%d kept although nothing may be", n)
	}
}

// C-12: what is flushed is forgotten with all that may deny it.
func TestFlush(t *testing.T) {
	for flushed, want := range map[string]int{
		"b.example.": 0, "x.b.example.": 0, "example.": 0, ".": 0, "other.": 1, "badexample.": 1,
	} {
		s, _ := kept(t, dnssec.Verdict{Status: dnssec.Secure, Authority: []*dnssec.RRset{
			setOf(t, "a.example. 60 NSEC c.example. A", 2, "example."),
		}})
		s.Flush(flushed)
		if _, n := s.Size(); n != want {
			t.Errorf("%s flushed: %d left, want %d", flushed, n, want)
		}
	}
}
