package dnssec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// denialNow is the time of the tests of proofs, whose signatures end a day later.
var denialNow = time.Date(2026, 11, 20, 4, 0, 0, 0, time.UTC)

func denialCheck() *Check {
	return &Check{Now: denialNow, Policy: DefaultPolicy(), SignatureChecks: 128}
}

// rrs reads records in zone-file form, one a string, with a TTL of 3600 unless they say otherwise.
func rrs(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil {
			t.Fatalf("%s: %v", line, err)
		}
		out = append(out, rr)
	}
	return out
}

// validated makes a set of one record as if zone had signed it and the signature had held.
func validated(zone string, rr dns.RR) *RRset {
	owner := dns.CanonicalName(rr.Header().Name)
	sig := &dns.RRSIG{
		TypeCovered: rr.Header().Rrtype, SignerName: zone, Labels: uint8(dns.CountLabel(owner)),
		Expiration: uint32(denialNow.Add(24 * time.Hour).Unix()),
	}
	if strings.HasPrefix(owner, "*.") {
		sig.Labels--
	}
	return &RRset{
		Owner: owner, Type: rr.Header().Rrtype, RRs: []dns.RR{rr}, Sigs: []*dns.RRSIG{sig}, TTL: rr.Header().Ttl,
	}
}

// admitted gathers evidence from sets whose first signature is taken to hold: gather without the cryptography.
func admitted(zone string, sets ...*RRset) *evidence {
	e := &evidence{zone: &Zone{Name: zone, Status: Secure}}
	for _, set := range e.candidates(sets) {
		e.miss(e.admit(set, set.Sigs[0]))
	}
	return e
}

func setsOf(t testing.TB, zone string, lines ...string) []*RRset {
	t.Helper()
	var sets []*RRset
	for _, rr := range rrs(t, lines...) {
		sets = append(sets, validated(zone, rr))
	}
	return sets
}

// ask puts a question in words to the evidence: "nodata NAME TYPE", "nxdomain NAME", "expansion NAME LABELS" or
// "nods NAME". The answer in words is the status, the cut of a "nods", and the EDE code of the cause if there is one.
func ask(c *Check, e *evidence, question string) (string, proof) {
	var p proof
	var words []string
	f := append(strings.Fields(question), "")
	switch name := f[1]; f[0] {
	case "nodata":
		p = c.nodata(e, name, dns.StringToType[f[2]])
	case "nxdomain":
		p = c.nameError(e, name)
	case "expansion":
		labels, _ := strconv.Atoi(f[2])
		p = c.expansion(e, name, labels)
	case "nods":
		var cut Cut
		cut, p = c.noDS(e, name)
		words = []string{[]string{"unproven", "signed", "insecure cut", "no cut", "no cut below"}[cut]}
	default:
		panic(question)
	}
	words = slices.Insert(words, 0, p.status.String())
	if p.cause != nil {
		words = append(words, fmt.Sprint("EDE ", p.cause.Code))
	}
	return strings.Join(words, ", "), p
}

// denialCase is one proof: its world, its question, and the answer, as ask puts them.
type denialCase struct {
	name     string
	zone     string // example. if empty
	records  []string
	question string
	want     string
}

func runDenials(t *testing.T, cases []denialCase) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			zone := tc.zone
			if zone == "" {
				zone = "example."
			}
			got, p := ask(denialCheck(), admitted(zone, setsOf(t, zone, tc.records...)...), tc.question)
			if got != tc.want {
				t.Errorf("%s: %s (%v), want %s", tc.question, got, p.cause, tc.want)
			}
		})
	}
}

// Never halves of two kinds: one NSEC that denies the name and one NSEC3 that denies the wildcard are no proof (V-50g),
// nor are halves of two parameter sets (V-60).
func TestProofsAreOfOneKind(t *testing.T) {
	nsec := []string{"example. NSEC m.example. NS SOA RRSIG NSEC", "m.example. NSEC z.example. A RRSIG NSEC"}
	zone := map[string]string{"example.": "NS SOA RRSIG"}
	for _, host := range []string{"a", "b", "c", "d", "e", "ee"} {
		zone[host+".example."] = "A RRSIG"
	}
	plain, salted := nsec3Lines("example.", 0, "-", 0, zone), nsec3Lines("example.", 0, "ab", 0, zone)
	const encloser = 6 // where nsec3Lines puts example., the closest encloser of x.example.
	unproven := "Bogus, EDE 12"
	runDenials(t, []denialCase{
		{"whole NSEC", "", nsec, "nxdomain x.example.", "Secure"},
		{"whole NSEC3", "", plain, "nxdomain x.example.", "Secure"},
		{"both whole", "", slices.Concat(nsec, plain), "nxdomain x.example.", "Secure"},
		{"half NSEC", "", nsec[1:], "nxdomain x.example.", unproven},
		{"half NSEC3", "", plain[:encloser], "nxdomain x.example.", unproven},
		{"the other half NSEC3", "", plain[encloser:], "nxdomain x.example.", unproven},
		{"half NSEC, half NSEC3", "", slices.Concat(nsec[1:], plain[:encloser]), "nxdomain x.example.", unproven},
		{"half NSEC, whole NSEC3", "", slices.Concat(nsec[1:], plain), "nxdomain x.example.", "Secure"},
		{"halves of two NSEC3 sets", "", slices.Concat(plain[:encloser], salted[encloser:]),
			"nxdomain x.example.", unproven},
		{"half of one set, another whole", "", slices.Concat(plain[:encloser], salted),
			"nxdomain x.example.", "Secure"},
	})
}

// The sentence of a failure names zone, owner and type (issue: every failure carries an EDE code and a sentence).
func TestDenialSentences(t *testing.T) {
	over := nsec3Lines("example.", 2500, "-", 0, map[string]string{"example.": "NS SOA RRSIG"})
	for _, tc := range []struct {
		records  []string
		question string
		want     Failure
	}{
		{nil, "nodata _25._tcp.mx.example. TLSA", Failure{Code: 12, Zone: "example.", Owner: "_25._tcp.mx.example.",
			Text: "example.: no NSEC or NSEC3 in the reply proves that _25._tcp.mx.example. TLSA does not exist"}},
		{nil, "nxdomain a.example.", Failure{Code: 12, Zone: "example.", Owner: "a.example.",
			Text: "example.: no NSEC or NSEC3 in the reply proves that a.example. does not exist"}},
		{nil, "expansion a.b.example. 1", Failure{Code: 12, Zone: "example.", Owner: "a.b.example.",
			Text: "example.: no NSEC or NSEC3 in the reply proves that a.b.example. does not exist, " +
				"so that *.example. may answer for it"}},
		{nil, "nods b.example.", Failure{Code: 12, Zone: "example.", Owner: "b.example.",
			Text: "example.: no NSEC or NSEC3 in the reply proves that b.example. DS does not exist"}},
		{over, "nods b.example.", Failure{Code: 27, Zone: "example.", Type: dns.TypeNSEC3,
			Text: "the NSEC3 of example. uses 2500 iterations, more than the 50 allowed"}},
		{[]string{"a.example. NSEC b.test. A RRSIG NSEC"}, "nodata a.example. MX",
			Failure{Code: 6, Zone: "example.", Owner: "a.example.", Type: dns.TypeNSEC,
				Text: "example.: the NSEC at a.example. names b.test. as the next name, which is outside of the zone"}},
	} {
		_, p := ask(denialCheck(), admitted("example.", setsOf(t, "example.", tc.records...)...), tc.question)
		if p.cause == nil || *p.cause != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.question, p.cause, tc.want)
		}
	}
}

// A proof tells the smallest TTL and the earliest Expiration of what it rests on, and nothing of other records (C-1,
// C-2); a signature may end beyond the turn of the 32-bit clock (V-19).
func TestProofLifetime(t *testing.T) {
	sets := setsOf(t, "example.", "example. 300 NSEC m.example. NS SOA RRSIG NSEC",
		"m.example. 600 NSEC z.example. A RRSIG NSEC", "z.example. 1 NSEC example. A RRSIG NSEC")
	sets[0].Sigs[0].Expiration = uint32(denialNow.Add(time.Hour).Unix())
	sets[2].Sigs[0].Expiration = uint32(denialNow.Add(time.Minute).Unix())
	_, p := ask(denialCheck(), admitted("example.", sets...), "nxdomain x.example.")
	if want := []*RRset{sets[1], sets[0]}; !slices.Equal(p.used, want) {
		t.Errorf("used %v, want %v", p.used, want)
	}
	if want := denialNow.Add(time.Hour); p.ttl != 300 || !p.expires.Equal(want) {
		t.Errorf("ttl %d until %v, want 300 until %v", p.ttl, p.expires, want)
	}

	c := denialCheck()
	c.Now = time.Date(2106, 2, 7, 0, 0, 0, 0, time.UTC) // the counter turns at 06:28:16
	end := c.Now.Add(24 * time.Hour)
	if got := c.expiration(&dns.RRSIG{Expiration: uint32(end.Unix())}); !got.Equal(end) {
		t.Errorf("expires %v, want %v", got, end)
	}
}

// A reply with more than 16 records of one kind is a limit, not a fault (L-5, L-12), unless the first 16 prove it.
func TestTooManyDenialRecords(t *testing.T) {
	records := []string{"example. NSEC a.example. NS SOA RRSIG NSEC"}
	for i := range 20 {
		records = append(records, fmt.Sprintf("k%02d.example. NSEC k%02d.example. A RRSIG NSEC", i, i+1))
	}
	e := admitted("example.", setsOf(t, "example.", records...)...)
	if len(e.nsec) != 16 {
		t.Errorf("%d records used, want 16", len(e.nsec))
	}
	got, p := ask(denialCheck(), e, "nodata k19.example. MX")
	if got != "Indeterminate, EDE 0" || !errors.Is(p.cause, LimitError("denial_records")) ||
		!errors.Is(p.cause, ErrLimit) {
		t.Errorf("%s (%v), want a limit", got, p.cause)
	}
	if got, _ := ask(denialCheck(), e, "nodata k00.example. MX"); got != "Secure" {
		t.Errorf("a proof by one of the first records: %s", got)
	}
}

// Sets that are no single validated record of this zone are no evidence.
func TestInadmissibleSets(t *testing.T) {
	two := setsOf(t, "example.", "a.example. NSEC b.example. A RRSIG NSEC")[0]
	two.RRs = append(two.RRs, rrs(t, "a.example. NSEC c.example. A RRSIG NSEC")...)
	foreign := setsOf(t, "example.", "a.example. NSEC b.example. A RRSIG NSEC")[0]
	foreign.Sigs[0].SignerName = "a.example."
	outside := setsOf(t, "example.", "a. NSEC b.example. A RRSIG NSEC")[0] // sorts before all of example.
	disorder := setsOf(t, "example.", "a.example. NSEC b.example. A RRSIG NSEC")[0]
	disorder.RRs[0].(*dns.NSEC).TypeBitMap = []uint16{dns.TypeNSEC, dns.TypeA}
	for _, tc := range []struct {
		name string
		set  *RRset
		want string
	}{
		{"two NSEC at one owner", two, "Bogus, EDE 6"},
		{"signed by another zone", foreign, "Bogus, EDE 12"},
		{"owner outside of the zone (V-50e)", outside, "Bogus, EDE 12"},
		{"bit map out of order (V-50f)", disorder, "Bogus, EDE 6"},
	} {
		for _, question := range []string{"nodata a.example. MX", "expansion a.example. 1"} {
			if got, p := ask(denialCheck(), admitted("example.", tc.set), question); got != tc.want {
				t.Errorf("%s: %s: %s (%v), want %s", tc.name, question, got, p.cause, tc.want)
			}
		}
	}
}

// A limit found while gathering comes before any fault of the data, whichever came first (L-12).
func TestLimitsComeFirst(t *testing.T) {
	fault, limit := &Failure{Text: "a fault"}, &Failure{Text: "a limit", Err: ErrLimit}
	for _, order := range [][]*Failure{{fault, limit}, {limit, fault}, {nil, fault, limit, limit}} {
		e := &evidence{zone: &Zone{Name: "example."}}
		for _, f := range order {
			e.miss(f)
		}
		if e.missing != limit {
			t.Errorf("%v: %v", order, e.missing)
		}
	}
}

// Nothing is proven about names that are not in the zone.
func TestOutOfZoneNames(t *testing.T) {
	records := []string{"b.example. NSEC b.example. NS SOA RRSIG NSEC"}
	for _, question := range []string{
		"nodata a.example. MX", "nxdomain c.example.", "nods example.", "expansion x.c.example. 1",
	} {
		got, _ := ask(denialCheck(), admitted("b.example.", setsOf(t, "b.example.", records...)...), question)
		if !strings.HasPrefix(got, "Bogus") {
			t.Errorf("%s: %s", question, got)
		}
	}
}

// gather validates before anything is used: what is unsigned, signed by another zone or changed is no evidence, and the
// sentence says what it was (V-13, V-15a); each record costs one signature check, and a second use none.
func TestGather(t *testing.T) {
	example, child := newForger(t, "example."), newForger(t, "b.example.")
	records := []string{"example. NSEC b.example. NS SOA RRSIG NSEC", "b.example. NSEC m.example. A RRSIG NSEC"}
	good := example.each(t, records...)
	changed := example.each(t, records...)
	changed[2].(*dns.NSEC).NextDomain = "z.example."
	var expired []dns.RR
	for _, line := range records {
		set := rrs(t, line)
		expired = append(set, example.rrsig(t, set, validAt(denialNow.Add(-48*time.Hour))))
	}
	for _, row := range []struct {
		name    string
		records []dns.RR
		want    string
	}{
		{"good", good, "Secure"},
		{"V-13 stripped", []dns.RR{good[0], good[2]}, "Bogus, EDE 10"},
		{"one stripped", good[:3], "Bogus, EDE 10"},
		{"one absent", good[:2], "Bogus, EDE 12"},
		{"one changed", changed, "Bogus, EDE 6"},
		{"one changed beside the good", slices.Concat(changed[2:], good[:2]), "Bogus, EDE 6"},
		{"expired", expired, "Bogus, EDE 7"},
		{"signed by the child", child.each(t, "b.example. NSEC m.b.example. A RRSIG NSEC"), "Bogus, EDE 12"},
	} {
		c := denialCheck()
		m := reply(t, nxdomain, nil, row.records)
		got, p := ask(c, c.gather(example.zone, m.Authority), "nxdomain c.example.")
		if got != row.want {
			t.Errorf("%s: %s (%v), want %s", row.name, got, p.cause, row.want)
		}
	}
}

// X-13 V-58: the NSEC3 of a child whose first label equals a hash of the parent is no proof of the parent.
func TestChildNSEC3IsNoParentProof(t *testing.T) {
	parent, child := newForger(t, "example."), newForger(t, "b.example.")
	line := nsec3Lines("example.", 0, "-", 0, map[string]string{"example.": "NS SOA RRSIG", "b.example.": "NS"})[0]
	in := func(zone string) string { return strings.Replace(line, ".example.", "."+zone, 1) }
	for _, row := range []struct {
		name    string
		records []dns.RR
		want    Cut
	}{
		{"the parent's own", parent.each(t, in("example.")), InsecureCut},
		{"the child's", child.each(t, in("b.example.")), Unproven},
		{"the child's, owner in the parent", child.each(t, in("example.")), Unproven},
		{"the parent's, owner in the child", parent.each(t, in("b.example.")), Unproven},
	} {
		d := denialCheck().Delegation(parent.zone, "b.example.", reply(t, 0, nil, row.records))
		if d.Cut != row.want {
			t.Errorf("%s: %v (%v), want %v", row.name, d.Cut, d.Cause, row.want)
		}
	}
}

// The order of records and sections changes nothing (L-3): a whole reply in every order of its authority.
func TestDenialOrder(t *testing.T) {
	s := newForger(t, "example.")
	lines := nsec3Lines("example.", 1, "ab", 1, map[string]string{
		"example.": "NS SOA RRSIG", "w.example.": "", "*.w.example.": "A RRSIG", "m.example.": "A RRSIG",
	})
	lines = append(lines, "example. NSEC m.example. NS SOA RRSIG NSEC", "m.example. NSEC *.w.example. A RRSIG NSEC")
	records := s.each(t, lines...)
	var want string
	for turn := range records {
		turned := slices.Concat(records[turn:], records[:turn])
		if turn%2 == 1 {
			slices.Reverse(turned)
		}
		c := denialCheck()
		e := c.gather(s.zone, reply(t, 0, nil, turned).Authority)
		var got []string
		for _, question := range []string{
			"nxdomain n.example.", "nodata b.w.example. MX", "nods k.example.", "nods b.w.example.",
		} {
			verdict, p := ask(c, e, question)
			got = append(got, verdict)
			for _, set := range p.used {
				got = append(got, set.Owner)
			}
		}
		if all := strings.Join(got, "; "); want == "" {
			want = all
		} else if all != want {
			t.Fatalf("turned by %d: %s, want %s", turn, all, want)
		}
	}
}

// Whole replies of a signed zone example. with the unsigned child child.example., whose denials are proven, or not, as
// plugin/RULES.md has it.
func TestDenialReplies(t *testing.T) {
	s := newForger(t, "example.")
	walked := zoneMap{".": {Name: ".", Status: Insecure}, "example.": s.zone,
		"child.example.": {Name: "child.example.", Status: Insecure}}
	const nxdomain = dns.RcodeNameError
	apex, cover := "example. NSEC a.example. NS SOA RRSIG NSEC", "a.example. NSEC m.example. A RRSIG NSEC"
	hosts := map[string]string{"example.": "NS SOA RRSIG", "a.example.": "A RRSIG"}
	for _, row := range []struct {
		name, question string
		rcode          int
		records        []string
		want           Status
		wantRcode      int
		code           uint16
	}{
		{"name error", "b.example. A", nxdomain, []string{apex, cover}, Secure, nxdomain, 0},
		{"V-48a name error under NOERROR", "b.example. A", 0, []string{apex, cover}, Secure, nxdomain, 0},
		{"X-14 V-48a NXDOMAIN over an empty non-terminal", "b.example. A", nxdomain,
			[]string{apex, "a.example. NSEC x.b.example. A RRSIG NSEC"}, Secure, 0, 0},
		{"V-48a NODATA under NXDOMAIN", "a.example. MX", nxdomain, []string{apex, cover}, Secure, 0, 0},
		{"X-14 V-69 compact denial with NXDOMAIN and another next name", "b.example. A", nxdomain,
			[]string{"b.example. NSEC b.b.example. RRSIG NSEC NXNAME"}, Secure, 0, 0},
		{"V-69 compact denial of what it has", "b.example. A", nxdomain,
			[]string{"b.example. NSEC b.b.example. A RRSIG NSEC NXNAME"}, Bogus, 0, 12},
		{"X-14 V-50h parent NSEC in the NODATA of an unsigned child", "mx.child.example. TLSA", 0,
			[]string{"child.example. NSEC d.example. NS RRSIG NSEC"}, Insecure, 0, 0},
		{"V-50h the same at the child's apex", "child.example. TLSA", 0,
			[]string{"child.example. NSEC d.example. NS RRSIG NSEC"}, Insecure, 0, 0},
		{"V-50h the same for DS is the parent's own denial", "child.example. DS", 0,
			[]string{"child.example. NSEC d.example. NS RRSIG NSEC"}, Secure, 0, 0},
		{"X-13 V-50a NSEC of a delegation for a name below it", "mx.d.example. A", nxdomain,
			[]string{apex, "d.example. NSEC m.example. NS DS RRSIG NSEC"}, Bogus, 0, 12},
		{"V-50d next name out of zone", "b.example. A", nxdomain,
			[]string{apex, "a.example. NSEC m.test. A RRSIG NSEC"}, Bogus, 0, 6},
		{"X-13 V-46 NSEC at the name for ANY", "a.example. ANY", 0, []string{cover}, Bogus, 0, 12},
		{"X-14 V-54 opt-out empty non-terminal", "b.example. A", 0, nsec3Lines("example.", 0, "-", 1, hosts), Insecure,
			0, 0},
		{"V-54 the same without opt-out is a name error", "b.example. A", 0, nsec3Lines("example.", 0, "-", 0, hosts),
			Secure, nxdomain, 0},
		{"X-13 V-60 over-limit NSEC3 beside a proof", "b.example. A", nxdomain,
			slices.Concat(nsec3Lines("example.", 2500, "-", 0, hosts), nsec3Lines("example.", 0, "-", 0, hosts)),
			Secure, nxdomain, 0},
		{"V-61 over-limit NSEC3 alone", "b.example. A", nxdomain, nsec3Lines("example.", 51, "-", 0, hosts),
			Insecure, nxdomain, 27},
		{"V-59 unknown flags only", "b.example. A", nxdomain, nsec3Lines("example.", 0, "-", 2, hosts), Bogus, 0, 6},
	} {
		f := strings.Fields(row.question)
		q := dns.Question{Name: f[0], Qtype: dns.StringToType[f[1]], Qclass: dns.ClassINET}
		v := denialCheck().Answer(q, reply(t, row.rcode, nil, s.each(t, row.records...)), walked)
		if v.Status != row.want || row.want >= Insecure && v.Rcode != row.wantRcode || len(v.Needs) > 0 {
			t.Errorf("%s: %v, rcode %d (%v), want %v, %d; needs %v", row.name, v.Status, v.Rcode, v.Cause, row.want,
				row.wantRcode, v.Needs)
		}
		told := append(slices.Clone(v.Notes), v.Cause)
		if row.code != 0 && !slices.ContainsFunc(told,
			func(f *Failure) bool { return f != nil && f.Code == row.code }) {
			t.Errorf("%s: told %v, want EDE %d", row.name, told, row.code)
		}
	}
}

// X-13 V-61: 65535 iterations on the DS path make an insecure delegation with EDE 27, but only by a record that
// validates; and one of them with a wrong signature never lets an unsigned delegation in.
func TestIterationsOnTheDSPath(t *testing.T) {
	s, other := newForger(t, "example."), newForger(t, "example.")
	lines := nsec3Lines("example.", 51, "-", 0, map[string]string{"example.": "NS SOA RRSIG", "u.example.": "NS"})
	for i := range lines { // of the hashes nothing is ever read
		lines[i] = strings.Replace(lines[i], " 51 - ", " 65535 - ", 1)
	}
	d := denialCheck().Delegation(s.zone, "u.example.", reply(t, 0, nil, s.each(t, lines...)))
	if d.Cut != InsecureCut || d.Cause == nil || d.Cause.Code != dns.ExtendedErrorCodeUnsupportedNSEC3IterValue {
		t.Errorf("cut %v (%v), want an insecure one with EDE 27", d.Cut, d.Cause)
	}
	d = denialCheck().Delegation(s.zone, "u.example.", reply(t, 0, nil, other.each(t, lines...)))
	if d.Cut != Unproven || d.Cause == nil {
		t.Errorf("by the wrong key: cut %v (%v)", d.Cut, d.Cause)
	}
}

// X-13, L-5, L-6: of 500 NSEC3 in one denial 16 are validated, and the reply is SERVFAIL by a limit.
func TestFiveHundredSignedNSEC3(t *testing.T) {
	s := newForger(t, "example.")
	hosts := map[string]string{"example.": "NS SOA RRSIG"}
	for i := range 499 {
		hosts[fmt.Sprintf("n%d.example.", i)] = "A RRSIG"
	}
	m := reply(t, dns.RcodeNameError, nil, s.each(t, nsec3Lines("example.", 50, "-", 0, hosts)...))
	c := denialCheck()
	q := dns.Question{Name: "b.example.", Qtype: dns.TypeA, Qclass: dns.ClassINET}
	v := c.Answer(q, m, zoneMap{"example.": s.zone})
	w := c.Work()
	if v.Status != Indeterminate || !v.Cause.Limit() || w.Signatures > maxDenialRecords || w.Hashes > maxHashes {
		t.Errorf("%v (%v) after %+v", v.Status, v.Cause, w)
	}
}
