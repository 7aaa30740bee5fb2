package chain

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// setOf makes an RRset of records in zone-file form, each RRset with signatures by the given zones with so many labels.
func setOf(t *testing.T, text string, labels uint8, signers ...string) *dnssec.RRset {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	m := &dns.Msg{Answer: []dns.RR{rr}}
	for _, signer := range signers {
		m.Answer = append(m.Answer, &dns.RRSIG{
			Hdr:         dns.RR_Header{Name: rr.Header().Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: rr.Header().Ttl},
			TypeCovered: rr.Header().Rrtype, Labels: labels, OrigTtl: rr.Header().Ttl, SignerName: signer, Signature: "AAAA",
		})
	}
	message, err := dnssec.Group(m)
	if err != nil {
		t.Fatal(err)
	}
	return message.Answer[0]
}

// C-9, C-10: what is kept of Secure answers, and what is not worth it or belongs to no one zone.
func TestKept(t *testing.T) {
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
		{"C-10: NSEC3 made to measure", a + ".example. 60 NSEC3 1 0 0 - " + a[:31] + "O A", 2, []string{"example."}, false},
		{"NSEC3 of the only name", a + ".example. 60 NSEC3 1 0 0 - " + a + " A", 2, []string{"example."}, true},
		{"C-10: RFC 9824", `a.example. 60 NSEC \000.a.example. RRSIG NSEC NXNAME`, 2, []string{"example."}, false},
		{"C-10: RFC 4470", `a!.example. 60 NSEC a-.example. RRSIG NSEC`, 2, []string{"example."}, false},
		{"C-10: RFC 4471", `a\255.example. 60 NSEC b.example. RRSIG NSEC`, 2, []string{"example."}, false},
		{"C-10: signed by two zones", "a.example. 60 NSEC c.example. A", 2, []string{"example.", "."}, false},
		{"not signed", "a.example. 60 NSEC c.example. A", 2, nil, false},
		{"V-50e: made from a wildcard", "a.example. 60 NSEC c.example. A", 1, []string{"example."}, false},
		{"V-50e: the wildcard itself", "*.example. 60 NSEC c.example. A", 1, []string{"example."}, true},
		{"C-7: TTL 0", "a.example. 0 NSEC c.example. A", 2, []string{"example."}, false},
		{"SOA of another name", "a.example. 60 SOA . . 1 1 1 1 60", 2, []string{"example."}, false},
		{"the root", ". 60 NSEC com. NS", 0, []string{"."}, true},
	} {
		s := newRanges(1 << 20)
		s.keep(part{Verdict: dnssec.Verdict{Status: dnssec.Secure, Authority: []*dnssec.RRset{setOf(t, tt.text, tt.labels, tt.by...)}}},
			0, time.Unix(1000, 0), time.Hour)
		if _, n := s.table.Size(); n > 0 != tt.kept {
			t.Errorf("%s: %d kept", tt.title, n)
		}
	}
}

// Only what is Secure is kept, and what was made here is not kept again.
func TestKeptParts(t *testing.T) {
	set := setOf(t, "a.example. 60 NSEC c.example. A", 2, "example.")
	for _, p := range []part{
		{Verdict: dnssec.Verdict{Status: dnssec.Insecure, Authority: []*dnssec.RRset{set}}},
		{Verdict: dnssec.Verdict{Status: dnssec.Secure, Authority: []*dnssec.RRset{set}}, held: true},
		{Verdict: dnssec.Verdict{Status: dnssec.Secure, Answer: []*dnssec.RRset{set}}},
	} {
		s := newRanges(1 << 20)
		s.keep(p, 0, time.Unix(1000, 0), time.Hour)
		if _, n := s.table.Size(); n > 0 {
			t.Errorf("%d kept of %+v", n, p.Verdict)
		}
	}
}

// C-7, C-18: what is kept counts down, ends, and is not used before it was learned.
func TestKeptLife(t *testing.T) {
	s, learned := newRanges(1<<20), time.Unix(1000, 0)
	set := setOf(t, "a.example. 60 NSEC c.example. A", 2, "example.")
	s.keep(part{Verdict: dnssec.Verdict{Status: dnssec.Secure, Authority: []*dnssec.RRset{set}}}, 10, learned, time.Hour)
	for _, tt := range []struct {
		after time.Duration
		ttl   uint32 // 0 for none
	}{
		{0, 50}, {time.Second, 49}, {1500 * time.Millisecond, 48}, {49 * time.Second, 1}, {-time.Second, 0}, {50 * time.Second, 0}, {0, 0},
	} {
		_, rrs := s.nsec("example.", "b.example.", learned.Add(tt.after))
		if (len(rrs) > 0) != (tt.ttl > 0) {
			t.Fatalf("after %v: %v", tt.after, rrs)
		}
		for _, rr := range rrs {
			if rr.Header().Ttl != tt.ttl {
				t.Errorf("after %v: %v, want TTL %d", tt.after, rr, tt.ttl)
			}
		}
	}
}

// V-31, X-2: keys sort as names do in a zone, also those of random octets.
func TestOrderKey(t *testing.T) {
	names := []string{"example.", "a.example.", "yljkjljk.a.example.", "z.a.example.", "zabc.a.example.", "z.example.", `\001.z.example.`,
		"*.z.example.", `\200.z.example.`}
	if !slices.IsSortedFunc(names, func(a, b string) int { return strings.Compare(orderKey(a), orderKey(b)) }) {
		t.Errorf("%q are not in order", names)
	}
	octets := []string{`\000`, `\001`, `\002`, "a", "b", `\255`}
	random := func() (labels []string) {
		for range rand.IntN(4) {
			var label string
			for range 1 + rand.IntN(3) {
				label += octets[rand.IntN(len(octets))]
			}
			labels = append(labels, label)
		}
		return labels
	}
	plain := strings.NewReplacer(`\000`, "\x00", `\001`, "\x01", `\002`, "\x02", `\255`, "\xff")
	fromTheRight := func(labels []string) (all []string) {
		for _, label := range slices.Backward(labels) {
			all = append(all, plain.Replace(label))
		}
		return all
	}
	for range 20000 {
		a, b := random(), random()
		want := slices.Compare(fromTheRight(a), fromTheRight(b))
		if got := strings.Compare(orderKey(dns.Fqdn(strings.Join(a, "."))), orderKey(dns.Fqdn(strings.Join(b, ".")))); got != want {
			t.Fatalf("%q and %q: %d, want %d", a, b, got, want)
		}
	}
}

// C-14: what ends soon is asked for again, and not made of what ends as soon.
func TestRenewalAsks(t *testing.T) {
	r, u, now, made := ranged(t, AggressiveAll, nil, func(c *Config) { c.Prefetch = true })
	expect(t, ask(r, "b.range.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	now.advance(280 * time.Second)
	u.forget()
	ask(r, "b.range.com.", dns.TypeA)
	for begun := time.Now(); u.count("b.range.com. A") == 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("not asked again; made by %v", made.by)
		}
	}
}
