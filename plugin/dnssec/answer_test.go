package dnssec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// tree is a small internet for answers: the root and example. are signed, so is its child c.example.; u.example. is an
// unsigned child, b.example. a Bogus one, and i.example. one whose chain could not be had. Nothing covers test.
type tree struct {
	root, example, child forger
	zones                zoneMap
}

func newTree(t testing.TB) tree {
	w := tree{forgerOf(t, ".", "tree"), forgerOf(t, "example.", "tree"), forgerOf(t, "c.example.", "tree"), nil}
	w.zones = zoneMap{
		".": w.root.zone, "example.": w.example.zone, "c.example.": w.child.zone,
		"u.example.": InsecureZone(Delegation{Name: "u.example."}),
		"o.example.": InsecureZone(Delegation{Name: "o.example.", Cause: &Failure{Code: 1, Text: "old"}}),
		"b.example.": BogusZone("b.example.", &Failure{Code: 9, Text: "no key"}),
		"i.example.": BogusZone("i.example.", &Failure{Kind: OfMissingLink, Code: 22, Text: "no reply"}),
		"test.":      InsecureZone(Delegation{Name: "test."}),
	}
	return w
}

// answerCase is a reply and the verdict on it in the words of told; answer is the owners and types of the verdict's
// answer.
type answerCase struct {
	name, question    string
	rcode             int
	answer, authority []dns.RR
	want              string
	wantAnswer        string
}

func (w tree) judge(t *testing.T, cases []answerCase) {
	t.Helper()
	for _, row := range cases {
		c := denialCheck()
		v := c.Answer(asked(row.question), replyTo(t, row.question, row.rcode, row.answer, row.authority), w.zones)
		if got := told(v); got != row.want {
			t.Errorf("%s: %s (%v), want %s", row.name, got, v.Cause, row.want)
		}
		var owners []string
		for _, set := range v.Answer {
			owners = append(owners, set.Owner+" "+dns.Type(set.Type).String())
		}
		if got := strings.Join(owners, ", "); row.wantAnswer != "" && got != row.wantAnswer {
			t.Errorf("%s: answer %s, want %s", row.name, got, row.wantAnswer)
		}
		if (v.Status <= Bogus) != (v.Cause != nil) {
			t.Errorf("%s: %v with cause %v", row.name, v.Status, v.Cause)
		}
	}
}

func join(sections ...[]dns.RR) []dns.RR { return slices.Concat(sections...) }

// V-7, V-11, V-13, X-14: which zone a set belongs to.
func TestZoneOfData(t *testing.T) {
	w := newTree(t)
	a := func(owner string) []dns.RR { return rrs(t, owner+" 3600 A 192.0.2.1") }
	by := func(f forger, set []dns.RR, edits ...edit) dns.RR { return f.rrsig(t, set, edits...) }
	atC := a("c.example.")
	w.judge(t, []answerCase{
		{"V-7 by the zone it is in", "a.example. A", 0, w.example.set(t, "a.example. A 192.0.2.1"), nil,
			"Secure", "a.example. A"},
		{"V-7 by a zone above: no DS question between", "x.y.example. A", 0, w.root.set(t, "x.y.example. A 192.0.2.1"),
			nil, "Secure", ""},
		{"X-14 V-7 by two zones of one name line", "c.example. A", 0,
			join(atC, []dns.RR{by(w.example, atC), by(w.child, atC)}), nil,
			"Secure", ""},
		{"V-7 by two zones, the deeper one's wrong", "c.example. A", 0,
			join(atC, []dns.RR{by(w.example, atC), spoil(w.child.rrsig(t, atC))}), nil, "Secure", ""},
		{"V-7 by two zones, both wrong: the deepest is told", "c.example. A", 0, join(atC, []dns.RR{
			spoil(w.example.rrsig(t, atC)), by(w.child, atC, func(s *dns.RRSIG) { s.Expiration = at(-1) })}), nil,
			"Bogus, EDE 7", ""},
		{"V-13 in a signed zone, stripped", "a.example. A", 0, a("a.example."), nil, "Bogus, EDE 10", ""},
		{"V-11 below an insecure delegation", "a.u.example. A", 0, a("a.u.example."), nil, "Insecure",
			"a.u.example. A"},
		{"V-11 an island that carries signatures", "a.u.example. A", 0,
			newForger(t, "u.example.").set(t, "a.u.example. A 192.0.2.1"),
			nil, "Insecure", ""},
		{"V-40 its zone counts as unsigned", "a.o.example. A", 0, a("a.o.example."), nil, "Insecure, note 1", ""},
		{"V-7 Insecure never comes from the signer", "a.example. A", 0,
			newForger(t, "test.").set(t, "a.example. A 192.0.2.1"), nil, "Bogus, EDE 10", ""},
		{"V-7 nor from an insecure zone that is not above", "a.example. A", 0, join(a("a.example."),
			[]dns.RR{by(newForger(t, "u.example."), a("a.example."))}), nil, "Bogus, EDE 10", ""},
		{"a Bogus zone", "a.b.example. A", 0, a("a.b.example."), nil, "Bogus, EDE 9", ""},
		{"a zone whose chain could not be had", "a.i.example. A", 0, a("a.i.example."), nil,
			"Indeterminate, EDE 22", ""},
		{"V-7 DNSKEY by the zone above is not signed", "c.example. DNSKEY", 0,
			w.example.set(t, "c.example. DNSKEY 256 3 13 AAAA"),
			nil, "Bogus, EDE 10", ""},
		{"V-7 SOA by the zone above is not signed", "c.example. SOA", 0,
			w.example.set(t, "c.example. SOA a. b. 1 2 3 4 5"), nil,
			"Bogus, EDE 10", ""},
		{"V-7 SOA by its own zone", "c.example. SOA", 0, w.child.set(t, "c.example. SOA a. b. 1 2 3 4 5"),
			nil, "Secure", ""},
		{"D-12 . NS", ". NS", 0, w.root.set(t, ". NS a.root.test."), nil, "Secure", ". NS"},
		{"V-8 DS by the zone above", "c.example. DS", 0, w.example.set(t, "c.example. DS 1 13 2 ABAB"),
			nil, "Secure", ""},
		{"V-8 DS by the child itself", "c.example. DS", 0, w.child.set(t, "c.example. DS 1 13 2 ABAB"), nil,
			"Bogus, EDE 10", ""},
		{"V-13 DS of an unsigned child, stripped: its parent is asked", "u.example. DS", 0,
			rrs(t, "u.example. DS 1 13 2 ABAB"), nil,
			"Bogus, EDE 10", ""},
		{"V-13 DS of an unsigned child, an alias of its apex in the place of the denial", "u.example. DS", 0,
			rrs(t, "u.example. CNAME a.u.example."), nil, "Bogus, EDE 10", ""},
		{"V-11 DS below an insecure delegation", "x.u.example. DS", 0, rrs(t, "x.u.example. DS 1 13 2 ABAB"),
			nil, "Insecure", ""},
		{"V-9 DS of the root, which cannot be", ". DS", 0, w.root.set(t, ". DS 1 13 2 ABAB"), nil, "Bogus, EDE 10", ""},
		{"V-9 DS of the root, denied by itself", ". DS", 0, nil,
			join(w.root.set(t, ". NSEC aaa. NS SOA RRSIG NSEC DNSKEY"),
				w.root.set(t, ". SOA a. b. 1 2 3 4 5")), "Secure, denial", ""},
		{"V-13 DS of the root, stripped", ". DS", 0, nil, rrs(t, ". SOA a. b. 1 2 3 4 5"), "Bogus, EDE 12", ""},
		{"V-7 signed at *. of the root", "*. A", 0, w.root.set(t, "*. A 192.0.2.1"), nil, "Secure", ""},
		{"X-14 V-27 the name asked in mixed case", "A.eXample. A", 0,
			renamed("a.EXAMPLE.", w.example.set(t, "a.example. A 192.0.2.1")),
			nil, "Secure", "a.example. A"},
		{"X-14 V-72 NS in authority, unsigned", "a.example. A", 0, w.example.set(t, "a.example. A 192.0.2.1"),
			rrs(t, "example. NS ns.example."), "Secure", ""},
		{"V-72 NS in authority with a wrong signature", "a.example. A", 0, w.example.set(t, "a.example. A 192.0.2.1"),
			join(rrs(t, "example. NS ns.example."),
				[]dns.RR{spoil(w.example.rrsig(t, rrs(t, "example. NS ns.example.")))}), "Secure", ""},
		{"C-8 data of another name beside", "a.example. A", 0, join(w.example.set(t, "a.example. A 192.0.2.1"),
			a("z.example.")), nil,
			"Secure", "a.example. A"},
	})
}

// V-72, L-1: what is not used costs no signature check.
func TestUnusedRecordsCostNothing(t *testing.T) {
	w := newTree(t)
	m := replyTo(t, "a.example. A", 0, join(w.example.set(t, "a.example. A 192.0.2.1"),
		w.example.set(t, "b.example. A 192.0.2.1")),
		join(w.example.set(t, "example. NS ns.example."), w.example.set(t, "a.example. NSEC b.example. A RRSIG NSEC")))
	c := denialCheck()
	if v := c.Answer(asked("a.example. A"), m, w.zones); told(v) != "Secure" || len(v.Authority) != 0 {
		t.Errorf("%s with authority %v", told(v), v.Authority)
	}
	if cost := c.Work().Signatures; cost != 1 {
		t.Errorf("%d checks", cost)
	}
}

// The judge names what it needs to know, all at once, and judges nothing before it does (V-6, V-7).
func TestNeeds(t *testing.T) {
	w := newTree(t)
	set := rrs(t, "c.example. A 192.0.2.1")
	alias := w.child.set(t, "x.c.example. CNAME y.u.example.")
	denial := join(w.example.set(t, "example. NSEC b.example. NS SOA RRSIG NSEC"),
		w.example.set(t, "example. SOA a. b. 1 2 3 4 5"))
	known := func(names ...string) zoneMap {
		z := zoneMap{}
		for _, n := range names {
			z[n] = w.zones[n]
		}
		return z
	}
	exact := func(names ...string) exactZones { return exactZones(known(names...)) }
	soa := rrs(t, "x.y.example. SOA a. b. 1 2 3 4 5")
	cut := func(types string) []dns.RR { return w.example.set(t, "x.y.example. NSEC z.example. "+types) }
	wild := renamed("a.b.x.y.example.", w.example.set(t, "*.x.y.example. TXT x"))
	for _, row := range []struct {
		name, question    string
		answer, authority []dns.RR
		zones             Zones
		want              string
	}{
		{"both signers", "c.example. A", join(set, []dns.RR{w.child.rrsig(t, set), w.example.rrsig(t, set)}), nil,
			exact(),
			"needs c.example. example."},
		{"the other signer", "c.example. A", join(set, []dns.RR{w.child.rrsig(t, set), w.example.rrsig(t, set)}), nil,
			exact("example."), "needs c.example."},
		{"the owner of unsigned data", "x.y.example. A", rrs(t, "x.y.example. A 192.0.2.1"), nil, exact("example."),
			"needs x.y.example."},
		{"the parent's for DS", "x.y.example. DS", rrs(t, "x.y.example. DS 1 13 2 AB"), nil, exact("example."),
			"needs y.example."},
		{"the root for DS of a TLD", "example. DS", rrs(t, "example. DS 1 13 2 AB"), nil, exact(), "needs ."},
		{"the whole alias chain at once", "x.c.example. A", join(alias, rrs(t, "y.u.example. A 192.0.2.1")), nil,
			exact(),
			"needs c.example. y.u.example."},
		{"the end of an alias chain", "x.c.example. A", join(alias, rrs(t, "y.u.example. A 192.0.2.1")), nil,
			exact("c.example."),
			"needs y.u.example."},
		{"the signer of a DNAME", "a.x.example. A", w.example.set(t, "x.example. DNAME u.example."), nil, exact(),
			"needs example."},
		{"the signer of a denial", "a.example. A", nil, denial, exact(), "needs example."},
		{"the name of a denial without proof", "a.example. A", nil, rrs(t, "example. SOA a. b. 1 2 3 4 5"),
			exact("example."),
			"needs a.example."},
		{"V-50h the unsigned delegation in hand", "a.x.y.example. A", nil, join(soa, cut("NS RRSIG NSEC")),
			exact("example."),
			"needs a.x.y.example., shown by example.: x.y.example. insecure cut"},
		{"V-50h for DS, above its owner", "a.x.y.example. DS", nil, join(soa, cut("NS RRSIG NSEC")), exact("example."),
			"needs x.y.example., shown by example.: x.y.example. insecure cut"},
		{"V-50h a signed delegation", "a.x.y.example. A", nil, join(soa, cut("NS DS RRSIG NSEC")), exact("example."),
			"needs a.x.y.example."},
		{"V-50h no delegation", "a.x.y.example. A", nil, join(soa, cut("A RRSIG NSEC")), exact("example."),
			"Secure, NXDOMAIN, denial"},
		{"V-50h a wrong signature", "a.x.y.example. A", nil, join(soa, spoiled(cut("NS RRSIG NSEC"))),
			exact("example."),
			"needs a.x.y.example."},
		{"V-50h of DS at the cut itself", "x.y.example. DS", nil, join(soa, cut("A RRSIG NSEC")), exact("example."),
			"Secure, denial"},
		{"V-49 the closest encloser of a wildcard", "a.b.x.y.example. TXT", wild, nil, exact("example."),
			"needs a.b.x.y.example., shown by example.: x.y.example. no cut"},
		{"V-49 a wildcard at the apex", "a.example. TXT", renamed("a.example.", w.example.set(t, "*.example. TXT x")),
			nil, exact("example."),
			"needs a.example."},
		{"all known", "c.example. A", join(set, []dns.RR{w.child.rrsig(t, set)}), nil, exact("c.example."), "Secure"},
	} {
		c := denialCheck()
		v := c.Answer(asked(row.question), replyTo(t, row.question, 0, row.answer, row.authority), row.zones)
		if got := told(v); got != row.want {
			t.Errorf("%s: %s (%v), want %s", row.name, got, v.Cause, row.want)
		}
		if len(v.Needs) > 0 && (v.Status != Indeterminate || v.Answer != nil || v.Authority != nil) {
			t.Errorf("%s: a verdict before its time: %+v", row.name, v)
		}
	}
}

// spoiled are the records of a set whose signature is wrong.
func spoiled(set []dns.RR) []dns.RR {
	last := len(set) - 1
	return append(set[:last:last], spoil(set[last].(*dns.RRSIG)))
}

// exactZones is a walk that has been to these names only.
type exactZones zoneMap

func (z exactZones) At(name string) *Zone { return z[name] }

func (z exactZones) Anchor(string) string { return "." }

// anchored is a walk in a tree that has an anchor below the root.
type anchored struct {
	zoneMap
	anchor string
}

func (z anchored) Anchor(name string) string {
	if dns.IsSubDomain(z.anchor, name) {
		return z.anchor
	}
	return "."
}

// V-12: what a zone above the nearest anchor has signed counts for nothing; of DS at the anchor the zone above is in
// charge.
func TestSignedAboveAnchor(t *testing.T) {
	w := newTree(t)
	zones := anchored{w.zones, "c.example."}
	nsec := w.example.set(t, "a.example. 3600 NSEC z.example. A RRSIG NSEC")
	covers := w.example.set(t, "*.example. 3600 NSEC a.example. TXT RRSIG NSEC")
	for _, row := range []struct {
		name, question    string
		answer, authority []dns.RR
		want              string
	}{
		{"data", "a.c.example. TXT", w.example.set(t, "a.c.example. TXT x"), nil, "Bogus, EDE 10"},
		{"data, by both zones", "a.c.example. TXT",
			join(w.example.set(t, "a.c.example. TXT x"), w.child.set(t, "a.c.example. TXT x")), nil,
			"Secure"},
		{"data of a zone without an anchor", "a.example. TXT", w.example.set(t, "a.example. TXT x"), nil, "Secure"},
		{"wildcard", "b.c.example. TXT", renamed("b.c.example.", w.example.set(t, "*.example. TXT x")),
			nsec, "Bogus, EDE 10"},
		{"CNAME", "a.c.example. TXT", w.example.set(t, "a.c.example. CNAME b.example."), nil, "Bogus, EDE 10"},
		{"DNAME", "a.c.example. TXT", join(w.example.set(t, "example. DNAME test."),
			rrs(t, "a.c.example. CNAME a.c.test.")), nil,
			"Bogus, EDE 10"},
		{"DNAME, DS at the anchor", "c.example. DS", w.example.set(t, "example. DNAME test."), nil,
			"Secure, next c.test."},
		{"DNAME, DS below the anchor", "a.c.example. DS", w.example.set(t, "example. DNAME test."),
			nil, "Bogus, EDE 12"},
		{"name error", "b.c.example. TXT", nil, join(nsec, covers), "Bogus, EDE 12"},
		{"no data", "c.example. TXT", nil, w.example.set(t, "c.example. 3600 NSEC z.example. MX RRSIG NSEC"),
			"Bogus, EDE 12"},
		{"no DS at the anchor", "c.example. DS", nil, w.example.set(t, "c.example. 3600 NSEC z.example. NS RRSIG NSEC"),
			"Secure, denial"},
		{"no DS below the anchor", "a.c.example. DS", nil,
			w.example.set(t, "a.c.example. 3600 NSEC z.example. NS RRSIG NSEC"), "Bogus, EDE 12"},
		{"DS at the anchor", "c.example. DS", w.example.set(t, "c.example. DS 1 13 2 "+strings.Repeat("00", 32)), nil,
			"Secure"},
		{"DS below the anchor", "a.c.example. DS", w.example.set(t, "a.c.example. DS 1 13 2 "+strings.Repeat("00", 32)),
			nil, "Bogus, EDE 10"},
	} {
		v := denialCheck().Answer(asked(row.question), replyTo(t, row.question, 0, row.answer, row.authority), zones)
		if got := told(v); got != row.want {
			t.Errorf("%s: %s (%v), want %s", row.name, got, v.Cause, row.want)
		}
	}
}

// V-49, V-57, X-13: answers from wildcards.
func TestWildcardAnswers(t *testing.T) {
	w := newTree(t)
	wild := func(owner string) []dns.RR { return renamed(owner, w.example.set(t, "*.w.example. 3600 TXT x")) }
	cover := w.example.set(t, "a.w.example. 3600 NSEC z.w.example. A RRSIG NSEC")
	garbage := func(owner string, labels uint8) dns.RR {
		return spoil(w.example.rrsig(t, rrs(t, owner+" 3600 TXT x"), func(s *dns.RRSIG) { s.Labels = labels }))
	}
	high := renamed("b.w.example.", w.example.set(t, "*.example. 3600 TXT x"))
	highCover := w.example.set(t, "a.example. 3600 NSEC z.example. A RRSIG NSEC")
	w.judge(t, []answerCase{
		{"V-49 with proof", "b.w.example. TXT", 0, wild("b.w.example."), cover, "Secure", "b.w.example. TXT"},
		{"V-49 deeper", "a.b.w.example. TXT", 0, wild("a.b.w.example."), cover, "Secure", ""},
		{"V-49 without proof", "b.w.example. TXT", 0, wild("b.w.example."), nil, "Bogus, EDE 12", ""},
		{"V-49 proof without RRSIG", "b.w.example. TXT", 0, wild("b.w.example."), cover[:1], "Bogus, EDE 10", ""},
		{"V-49 proof of another zone", "b.w.example. TXT", 0, wild("b.w.example."),
			w.root.set(t, "a.w.example. 3600 NSEC z.w.example. A RRSIG NSEC"), "Bogus, EDE 12", ""},
		{"V-49 proof in the answer section is none", "b.w.example. TXT", 0, join(wild("b.w.example."), cover), nil,
			"Bogus, EDE 12", ""},
		{"V-49 a name that exists", "a.w.example. TXT", 0, wild("a.w.example."), cover, "Bogus, EDE 12", ""},
		{"V-49 the wildcard asked by its name", "*.w.example. TXT", 0, w.example.set(t, "*.w.example. 3600 TXT x"),
			nil, "Secure", ""},
		{"X-13 V-49 garbage with full Labels beside", "b.w.example. TXT", 0, join(wild("b.w.example."),
			[]dns.RR{garbage("b.w.example.", 3)}), nil, "Bogus, EDE 12", ""},
		{"X-13 V-49 garbage with full Labels beside, with proof", "b.w.example. TXT", 0, join(wild("b.w.example."),
			[]dns.RR{garbage("b.w.example.", 3)}), cover, "Secure", ""},
		{"V-49 too high a wildcard", "b.w.example. TXT", 0, high, cover, "Bogus, EDE 12", ""},
		{"V-49 the right one of two signatures that hold", "b.w.example. TXT", 0, join(wild("b.w.example."), high[1:]),
			highCover,
			"Secure", ""},
		{"V-49 neither of two signatures that hold", "b.w.example. TXT", 0, join(wild("b.w.example."), high[1:]), nil,
			"Bogus, EDE 12", ""},
		{"V-51 by an opt-out cover", "b.w.example. TXT", 0, wild("b.w.example."),
			w.example.each(t, nsec3Lines("example.", 0, "-", 1,
				map[string]string{"example.": "NS SOA RRSIG", "w.example.": "", "*.w.example.": "TXT RRSIG"})...),
			"Insecure", ""},
		{"V-57 by NSEC3", "b.w.example. TXT", 0, wild("b.w.example."),
			w.example.each(t, nsec3Lines("example.", 0, "-", 0,
				map[string]string{"example.": "NS SOA RRSIG", "w.example.": "", "*.w.example.": "TXT RRSIG"})...),
			"Secure", ""},
		{"V-61 by NSEC3 with too many iterations", "b.w.example. TXT", 0, wild("b.w.example."), w.example.each(t,
			nsec3Lines("example.", 51, "-", 0, map[string]string{"example.": "NS SOA RRSIG"})...),
			"Insecure, note 27", ""},
		{"V-62 by NSEC3 with too many iterations of the zone above", "b.c.example. TXT", 0, renamed("b.c.example.",
			w.example.set(t, "*.example. 3600 TXT x")), w.example.each(t,
			nsec3Lines("example.", 51, "-", 0, map[string]string{"example.": "NS SOA RRSIG"})...),
			"Insecure, note 27", ""},
		{"V-62 over-limit NSEC3 beside data that needs none", "a.example. TXT", 0, w.example.set(t, "a.example. TXT x"),
			w.example.each(t,
				nsec3Lines("example.", 51, "-", 0, map[string]string{"example.": "NS SOA RRSIG"})...), "Secure", ""},
	})
	// The proof is part of the answer and shortens its life (C-2).
	m := replyTo(t, "b.w.example. TXT", 0, wild("b.w.example."),
		join(cover, w.example.set(t, "example. NS a.example.")))
	m.Authority[0].TTL = 9
	v := denialCheck().Answer(asked("b.w.example. TXT"), m, w.zones)
	if len(v.Authority) != 1 || v.Authority[0].Type != dns.TypeNSEC || v.TTL != 9 {
		t.Errorf("authority %v, TTL %d", v.Authority, v.TTL)
	}
	// A limit in the proof is a limit of the answer (L-12).
	c := denialCheck()
	c.SignatureChecks = 1
	if v := c.Answer(asked("b.w.example. TXT"), replyTo(t, "b.w.example. TXT", 0, wild("b.w.example."), cover),
		w.zones); !v.Cause.Limit() {
		t.Errorf("%s (%v)", told(v), v.Cause)
	}
}

// V-64, V-65, V-67: CNAME chains.
func TestCNAME(t *testing.T) {
	w := newTree(t)
	ex := func(lines ...string) []dns.RR { return w.example.each(t, lines...) }
	two := w.example.set(t, "x.example. CNAME y.example.", "x.example. CNAME z.example.")
	nsec := ex("example. NSEC m.example. NS SOA RRSIG NSEC", "m.example. NSEC z.example. A RRSIG NSEC",
		"example. SOA a. b. 1 2 3 4 5")
	w.judge(t, []answerCase{
		{"V-64 both links Secure", "x.example. A", 0, ex("x.example. CNAME y.example.", "y.example. A 192.0.2.1"), nil,
			"Secure",
			"x.example. CNAME, y.example. A"},
		{"V-64 in any section order", "x.example. A", 0, ex("y.example. A 192.0.2.1", "x.example. CNAME y.example."),
			nil, "Secure",
			"x.example. CNAME, y.example. A"},
		{"V-64 target in mixed case", "x.example. A", 0, ex("x.example. CNAME Y.Example.", "y.example. A 192.0.2.1"),
			nil, "Secure", ""},
		{"V-64 target in another signed zone", "x.example. A", 0, join(ex("x.example. CNAME y.c.example."),
			w.child.set(t, "y.c.example. A 192.0.2.1")), nil, "Secure", ""},
		{"V-64 the weakest link: target unsigned", "x.example. A", 0, join(ex("x.example. CNAME y.u.example."),
			rrs(t, "y.u.example. A 192.0.2.1")), nil, "Insecure", "x.example. CNAME, y.u.example. A"},
		{"V-64 the weakest link: alias unsigned", "y.u.example. A", 0, join(rrs(t, "y.u.example. CNAME x.example."),
			ex("x.example. A 192.0.2.1")), nil, "Insecure", ""},
		{"V-65 the end does not validate: asked on", "x.example. A", 0,
			join(ex("x.example. CNAME y.example."), rrs(t, "y.example. A 192.0.2.1")), nil, "Secure, next y.example.",
			"x.example. CNAME"},
		{"V-64 Bogus at the beginning", "x.example. A", 0,
			join(rrs(t, "x.example. CNAME y.example."), ex("y.example. A 192.0.2.1")), nil,
			"Bogus, EDE 10", ""},
		{"V-65 the middle does not validate: asked on", "x.example. A", 0, join(ex("x.example. CNAME y.example."),
			rrs(t, "y.example. CNAME u.example.", "u.example. A 192.0.2.1")), nil, "Secure, next y.example.",
			"x.example. CNAME"},
		{"S-15 a note that holds for two links is told once", "a.o.example. A", 0,
			rrs(t, "a.o.example. CNAME b.o.example.", "b.o.example. A 192.0.2.1"), nil, "Insecure, note 1", ""},
		{"V-64 the zone of the target is Bogus", "x.example. A", 0, join(ex("x.example. CNAME a.b.example."),
			rrs(t, "a.b.example. A 192.0.2.1")), nil, "Bogus, EDE 9", ""},
		{"V-64 the chain of the target could not be had", "x.example. A", 0, join(ex("x.example. CNAME y.i.example."),
			rrs(t, "y.i.example. A 192.0.2.1")), nil, "Indeterminate, EDE 22", ""},
		{"V-65 target left out", "x.example. A", 0, ex("x.example. CNAME y.example."), nil, "Secure, next y.example.",
			"x.example. CNAME"},
		{"V-65 target left out, of an unsigned alias", "x.u.example. A", 0, rrs(t, "x.u.example. CNAME y.example."),
			nil,
			"Insecure, next y.example.", ""},
		{"V-64 target denied", "x.example. A", nxdomain, ex("x.example. CNAME y.example."), nsec,
			"Secure, NXDOMAIN, denial",
			"x.example. CNAME"},
		{"V-64 target denied, without RRSIGs: asked on", "x.example. A", nxdomain, ex("x.example. CNAME y.example."),
			rrs(t, "example. SOA a. b. 1 2 3 4 5"), "Secure, next y.example.", ""},
		{"V-64 target denied, with half a proof: asked on", "x.example. A", nxdomain, ex("x.example. CNAME y.example."),
			nsec[:2],
			"Secure, next y.example.", ""},
		{"V-64 target denied in an unsigned zone", "x.example. A", nxdomain, ex("x.example. CNAME y.u.example."),
			rrs(t, "u.example. SOA a. b. 1 2 3 4 5"), "Insecure, NXDOMAIN, denial", ""},
		{"V-64 target denied in a Bogus zone", "x.example. A", nxdomain, ex("x.example. CNAME y.b.example."),
			rrs(t, "b.example. SOA a. b. 1 2 3 4 5"), "Bogus, EDE 9", ""},
		{"V-65 a denial of another zone than the target's", "x.example. A", 0, ex("x.example. CNAME y.test."), nsec,
			"Secure, next y.test.", ""},
		{"D-5 V-64 wildcard alias with proof", "x.example. TLSA", 0,
			join(renamed("x.example.", w.example.set(t, "*.example. CNAME n.c.example.")),
				w.child.set(t, "n.c.example. TLSA 3 1 1 AB")), nsec, "Secure", ""},
		{"V-64 wildcard alias without proof", "x.example. TLSA", 0,
			join(renamed("x.example.", w.example.set(t, "*.example. CNAME n.c.example.")),
				w.child.set(t, "n.c.example. TLSA 3 1 1 AB")), nil, "Bogus, EDE 12", ""},
		{"CNAME asked: its own link only", "x.example. CNAME", 0, join(ex("x.example. CNAME y.u.example."),
			rrs(t, "y.u.example. A 192.0.2.1")), nil, "Secure", "x.example. CNAME"},
		{"V-67 data beside a CNAME", "x.example. A", 0, ex("x.example. CNAME y.example.", "x.example. A 192.0.2.1"),
			nil, "Bogus, EDE 6", ""},
		{"V-67 data beside a CNAME in an unsigned zone", "x.u.example. A", 0, rrs(t, "x.u.example. CNAME y.example.",
			"x.u.example. A 192.0.2.1"), nil, "Insecure", "x.u.example. A"},
		{"V-67 two CNAMEs", "x.example. A", 0, two, nil, "Bogus, EDE 6", ""},
		{"V-67 two CNAMEs asked", "x.example. CNAME", 0, two, nil, "Bogus, EDE 6", ""},
		{"V-67 two CNAMEs in an unsigned zone: the first", "x.u.example. A", 0,
			rrs(t, "x.u.example. CNAME z.u.example.",
				"x.u.example. CNAME y.u.example.", "y.u.example. A 192.0.2.1"), nil, "Insecure",
			"x.u.example. CNAME, y.u.example. A"},
		{"V-67 never for ANY", "x.example. ANY", 0, ex("x.example. CNAME y.example.", "x.example. A 192.0.2.1"),
			nil, "Secure", ""},
		{"V-67 loop of one", "x.example. A", 0, ex("x.example. CNAME x.example."), nil, "Bogus, EDE 0", ""},
		{"V-67 loop of two", "x.example. A", 0, ex("x.example. CNAME y.example.", "y.example. CNAME X.example."), nil,
			"Bogus, EDE 0", ""},
		{"V-67 loop in an unsigned zone", "x.u.example. A", 0, rrs(t, "x.u.example. CNAME x.u.example."), nil,
			"Bogus, EDE 0", ""},
		{"V-68 DS asked at a CNAME", "x.example. DS", 0, ex("x.example. CNAME y.example.", "y.example. DS 1 13 2 AB"),
			nil, "Secure", ""},
	})
}

// V-66: DNAMEs and the CNAMEs made from them.
func TestDNAME(t *testing.T) {
	w := newTree(t)
	dname := w.example.set(t, "d.example. 3600 DNAME c.example.")
	made := rrs(t, "a.d.example. 3600 CNAME a.c.example.")
	data := w.child.set(t, "a.c.example. 3600 A 192.0.2.1")
	other := rrs(t, "a.d.example. 3600 CNAME b.c.example.")
	rootDNAME := w.root.set(t, ". DNAME c.example.")
	long := strings.Repeat(strings.Repeat("x", 63)+".", 3) // 192 octets
	label := func(n int) string { return strings.Repeat("y", n) }
	name := func(n int) string { return long + label(n-192-1-11) + ".d.example." } // of n octets, 11 of them d.example.
	toLong := w.example.set(t, "d.example. 3600 DNAME xx.example.")                // one octet more
	w.judge(t, []answerCase{
		{"with its CNAME", "a.d.example. A", 0, join(dname, made, data), nil, "Secure",
			"d.example. DNAME, a.d.example. CNAME, a.c.example. A"},
		{"in any section order", "a.d.example. A", 0, join(data, made, dname), nil, "Secure",
			"d.example. DNAME, a.d.example. CNAME, a.c.example. A"},
		{"without its CNAME", "a.d.example. A", 0, join(dname, data), nil, "Secure",
			"d.example. DNAME, a.d.example. CNAME, a.c.example. A"},
		{"another CNAME", "a.d.example. A", 0, join(dname, other, data), nil, "Bogus, EDE 6", ""},
		{"two CNAMEs", "a.d.example. A", 0, join(dname, made, other, data), nil, "Bogus, EDE 6", ""},
		{"its CNAME in mixed case", "a.d.example. A", 0, join(dname, rrs(t, "A.D.example. CNAME A.C.EXAMPLE."), data),
			nil, "Secure", ""},
		{"the CNAME without the DNAME", "a.d.example. A", 0, join(made, data), nil, "Bogus, EDE 10", ""},
		{"DNAME without RRSIG", "a.d.example. A", 0, join(dname[:1], made, data), nil, "Bogus, EDE 10", ""},
		{"DNAME with a wrong RRSIG", "a.d.example. A", 0,
			join(dname[:1], []dns.RR{spoil(dname[1].(*dns.RRSIG))}, made, data), nil,
			"Bogus, EDE 6", ""},
		{"V-15a a wrong DNAME beside signed data of the name", "a.d.example. A", 0, join(dname[:1],
			w.example.set(t, "a.d.example. A 192.0.2.1")), nil, "Secure", "a.d.example. A"},
		{"at its own owner it renames nothing", "d.example. A", 0, dname, nil, "Bogus, EDE 12", ""},
		{"asked itself", "d.example. DNAME", 0, dname, nil, "Secure", "d.example. DNAME"},
		{"asked below itself", "a.d.example. DNAME", 0, dname, nil, "Secure, next a.c.example.", ""},
		{"CNAME asked", "a.d.example. CNAME", 0, join(dname, made), nil, "Secure",
			"d.example. DNAME, a.d.example. CNAME"},
		{"ANY asked", "a.d.example. ANY", 0, join(dname, made), nil, "Secure", "d.example. DNAME, a.d.example. CNAME"},
		{"V-68 DS asked below", "a.d.example. DS", 0, join(dname, made), nil, "Secure, next a.c.example.", ""},
		{"V-65 target left out", "a.d.example. A", 0, join(dname, made), nil, "Secure, next a.c.example.", ""},
		{"in an unsigned zone", "a.d.u.example. A", 0,
			join(rrs(t, "d.u.example. DNAME c.example.", "a.d.u.example. CNAME a.c.example."),
				data), nil, "Insecure", "d.u.example. DNAME, a.d.u.example. CNAME, a.c.example. A"},
		{"into an unsigned zone", "a.e.example. A", 0, join(w.example.set(t, "e.example. DNAME u.example."),
			rrs(t, "a.u.example. A 192.0.2.1")), nil, "Insecure", ""},
		{"D-5 CNAME and DNAME in a row", "x.example. A", 0, join(w.example.set(t, "x.example. CNAME a.d.example."),
			dname, made, data), nil,
			"Secure", "x.example. CNAME, d.example. DNAME, a.d.example. CNAME, a.c.example. A"},
		{"L-8 of the root, which makes longer names for ever", "a. A", 0, rootDNAME, nil, "Indeterminate, EDE 0", ""},
		{"to the root", "test.d.example. A", 0,
			join(w.example.set(t, "d.example. DNAME ."), rrs(t, "test. A 192.0.2.1")), nil, "Insecure",
			"d.example. DNAME, test.d.example. CNAME, test. A"},
		{"the deeper of two", "a.d.c.example. A", 0, join(w.child.set(t, "d.c.example. DNAME c.example."),
			w.example.set(t, "c.example. DNAME test.")), nil, "Secure, next a.test.",
			"d.c.example. DNAME, a.d.c.example. CNAME, c.example. DNAME, a.c.example. CNAME"},
		{"made from a wildcard", "a.d.example. A", 0,
			join(renamed("d.example.", w.example.set(t, "*.example. DNAME c.example.")), data),
			w.example.set(t, "example. NSEC z.example. NS SOA RRSIG NSEC"), "Bogus, EDE 6", ""},
		{"in a circle", "a.e.example. A", 0, w.example.each(t, "e.example. DNAME f.example.",
			"f.example. DNAME e.example."), nil,
			"Bogus, EDE 0", ""},
		{"a name of 255 octets", name(254) + " A", 0, toLong, nil, "Secure, next " +
			strings.Replace(name(254), "d.example.", "xx.example.", 1),
			""},
		{"a name of 256 octets", name(255) + " A", 0, toLong, nil, "Secure, YXDOMAIN", "d.example. DNAME"},
		{"a name of 256 octets, DNAME without RRSIG", name(255) + " A", 0, toLong[:1], nil, "Bogus, EDE 10", ""},
	})
}

// V-66: the CNAME takes the smaller TTL of both, the case that was asked, and no signature.
func TestSynthesisedCNAME(t *testing.T) {
	w := newTree(t)
	for cnameTTL, want := range map[int]uint32{5: 5, 30: 30, 100: 60} {
		m := replyTo(t, "a.d.example. A", 0, join(w.example.set(t, "d.example. 60 DNAME c.example."),
			rrs(t, fmt.Sprintf("A.d.Example. %d CNAME a.c.example.", cnameTTL)),
			w.child.set(t, "a.c.example. 3600 A 192.0.2.1")), nil)
		v := denialCheck().Answer(asked("a.d.example. A"), m, w.zones)
		if told(v) != "Secure" || len(v.Answer) != 3 {
			t.Fatalf("%s", told(v))
		}
		set := v.Answer[1]
		h := set.RRs[0].Header()
		if v.TTL != want || set.TTL != want || h.Ttl != want || h.Name != "A.d.Example." || len(set.Sigs) != 0 {
			t.Errorf("verdict TTL %d, CNAME %v with %d signatures, want TTL %d", v.TTL, set.RRs[0], len(set.Sigs), want)
		}
	}
}

// L-8: eleven links, in one reply or in many, and no more, however often they are judged.
func TestAliasLimit(t *testing.T) {
	w := newTree(t)
	chain := func(links int) []dns.RR {
		var out []dns.RR
		for i := range links {
			out = append(out, w.example.set(t, fmt.Sprintf("a%d.example. CNAME a%d.example.", i, i+1))...)
		}
		return append(out, w.example.set(t, fmt.Sprintf("a%d.example. A 192.0.2.1", links))...)
	}
	for links, want := range map[int]string{11: "Secure", 12: "Indeterminate, EDE 0"} {
		m := replyTo(t, "a0.example. A", 0, chain(links), nil)
		c := denialCheck()
		for range 3 {
			if v := c.Answer(asked("a0.example. A"), m, w.zones); told(v) != want || v.Cause.Limit() != (links > 11) {
				t.Errorf("%d links in one reply: %s (%v)", links, told(v), v.Cause)
			}
		}
		c = denialCheck()
		var got string
		for i := range links {
			q := fmt.Sprintf("a%d.example. A", i)
			got = told(c.Answer(asked(q), replyTo(t, q, 0, chain(links)[2*i:2*i+2], nil), w.zones))
			if i < 11 && got != fmt.Sprintf("Secure, next a%d.example.", i+1) {
				t.Errorf("%d links in as many replies, the %dth: %s", links, i, got)
			}
		}
		if links > 11 && got != want {
			t.Errorf("%d links in as many replies: %s", links, got)
		}
	}
}

// L-1: a cold chain of eleven wildcard aliases fits the budget.
func TestLongestChainFits(t *testing.T) {
	w := newTree(t)
	var answer []dns.RR
	for i := range maxAliases {
		answer = append(answer, renamed(fmt.Sprintf("x.a%d.example.", i),
			w.example.set(t, fmt.Sprintf("*.a%d.example. CNAME x.a%d.example.", i, i+1)))...)
	}
	answer = append(answer, w.example.set(t, fmt.Sprintf("x.a%d.example. A 192.0.2.1", maxAliases))...)
	var proofs []dns.RR
	for i := range maxAliases {
		proofs = append(proofs, w.example.set(t,
			fmt.Sprintf("*.a%d.example. NSEC z.a%d.example. CNAME RRSIG NSEC", i, i))...)
	}
	c := denialCheck()
	v := c.Answer(asked("x.a0.example. A"), replyTo(t, "x.a0.example. A", 0, answer, proofs), w.zones)
	if cost := c.Work().Signatures; told(v) != "Secure" || cost != 2*maxAliases+1 {
		t.Errorf("%s (%v) after %d checks", told(v), v.Cause, cost)
	}
}

// V-25, V-70, V-71: ANY and RRSIG.
func TestMetaQueries(t *testing.T) {
	w := newTree(t)
	signed := w.example.each(t, "a.example. A 192.0.2.1", "a.example. MX 1 a.example.")
	sig := w.example.rrsig(t, rrs(t, "a.example. A 192.0.2.1"))
	sigOf := func(zone string) []dns.RR {
		return []dns.RR{newForger(t, zone).rrsig(t, rrs(t, "a."+zone+" A 192.0.2.1"))}
	}
	elsewhere := dns.Copy(sig).(*dns.RRSIG)
	elsewhere.SignerName = "z.a.example."
	types := func(n int) []dns.RR {
		var out []dns.RR
		for i := range n {
			rr := &dns.RFC3597{Hdr: dns.RR_Header{Name: "a.example.", Rrtype: uint16(65280 + i), Class: dns.ClassINET,
				Ttl: 60}, Rdata: "00"}
			out = append(out, rr, w.example.rrsig(t, []dns.RR{rr}))
		}
		return out
	}
	w.judge(t, []answerCase{
		{"V-70 ANY, all signed", "a.example. ANY", 0, signed, nil, "Secure", "a.example. A, a.example. MX"},
		{"V-70 ANY, in an order of its own", "a.example. ANY", 0, join(signed[2:], signed[:2]), nil, "Secure",
			"a.example. A, a.example. MX"},
		{"V-70 ANY, one stripped", "a.example. ANY", 0, signed[:3], nil, "Bogus, EDE 10", ""},
		{"V-70 ANY with signatures of nothing present", "a.example. ANY", 0, join(signed[:2], signed[3:]), nil,
			"Secure", "a.example. A"},
		{"V-70 ANY of an unsigned zone", "a.u.example. ANY", 0,
			rrs(t, "a.u.example. A 192.0.2.1", "a.u.example. TXT x"), nil, "Insecure", ""},
		{"V-70 ANY, the CNAME is data", "a.example. ANY", 0, w.example.set(t, "a.example. CNAME b.example."), nil,
			"Secure", "a.example. CNAME"},
		{"V-70 ANY, 24 types", "a.example. ANY", 0, types(24), nil, "Secure", ""},
		{"V-70 ANY, 25 types", "a.example. ANY", 0, types(25), nil, "Indeterminate, EDE 0", ""},
		{"V-46 ANY, nothing there", "a.example. ANY", 0, nil,
			w.example.set(t, "a.example. NSEC b.a.example. RRSIG NSEC NXNAME"),
			"Secure, denial", ""},
		{"V-71 RRSIG is never Secure", "a.example. RRSIG", 0, []dns.RR{sig}, nil, "Insecure", "a.example. RRSIG"},
		{"V-71 RRSIG of an unsigned zone", "a.u.example. RRSIG", 0, sigOf("u.example."), nil, "Insecure", ""},
		{"V-71 RRSIG of a Bogus zone", "a.b.example. RRSIG", 0, sigOf("b.example."), nil, "Bogus, EDE 9", ""},
		{"V-71 RRSIG where the chain could not be had", "a.i.example. RRSIG", 0, sigOf("i.example."), nil,
			"Indeterminate, EDE 22", ""},
		{"V-71 RRSIG that no zone above may have made", "a.example. RRSIG", 0, []dns.RR{elsewhere}, nil,
			"Bogus, EDE 10", ""},
		{"V-71 RRSIG behind an alias", "x.example. RRSIG", 0, join(w.example.set(t, "x.example. CNAME a.example."),
			[]dns.RR{sig}), nil,
			"Insecure", "x.example. CNAME, a.example. RRSIG"},
		{"V-71 NSEC as data", "a.example. NSEC", 0, w.example.set(t, "a.example. NSEC b.example. A RRSIG NSEC"),
			nil, "Secure", ""},
	})
	// No walk goes further than to the signer.
	if got := told(denialCheck().Answer(asked("a.example. RRSIG"),
		replyTo(t, "a.example. RRSIG", 0, []dns.RR{sig}, nil),
		exactZones{})); got != "needs example." {
		t.Errorf("%s", got)
	}
	if got := told(denialCheck().Answer(asked("a.example. RRSIG"),
		replyTo(t, "a.example. RRSIG", 0, []dns.RR{sig}, nil),
		exactZones{"example.": w.example.zone})); got != "Insecure" {
		t.Errorf("%s", got)
	}
}

// C-1, C-2, V-21, V-26: the life of a positive answer.
func TestPositiveLifetime(t *testing.T) {
	w := newTree(t)
	w.example.zone.Expires = denialNow.Add(5 * time.Hour)
	for _, row := range []struct {
		name    string
		lines   []string
		edits   []edit
		ttl     uint32
		expires time.Duration
	}{
		{"received TTL", []string{"a.example. 300 A 192.0.2.1"}, nil, 300, 5 * time.Hour},
		{"V-26 mixed TTLs", []string{"a.example. 300 A 192.0.2.1", "a.example. 200 A 192.0.2.2"},
			[]edit{func(s *dns.RRSIG) { s.OrigTtl = 300 }}, 200, 5 * time.Hour},
		{"V-21 received above the Original TTL", []string{"a.example. 300 A 192.0.2.1"},
			[]edit{func(s *dns.RRSIG) { s.OrigTtl = 60 }}, 60,
			5 * time.Hour},
		{"C-1 TTL of the RRSIG", []string{"a.example. 300 A 192.0.2.1"}, []edit{func(s *dns.RRSIG) { s.Hdr.Ttl = 50 }},
			50, 5 * time.Hour},
		{"C-2 Expiration", []string{"a.example. 300 A 192.0.2.1"},
			[]edit{func(s *dns.RRSIG) { s.Expiration = at(time.Hour) }}, 300,
			time.Hour},
		{"C-5 a day", []string{"a.example. 604800 A 192.0.2.1"}, nil, 86400, 5 * time.Hour},
		{"C-5 the top bit", []string{"a.example. 2147483648 A 192.0.2.1"}, nil, 86400, 5 * time.Hour},
		{"C-7 zero", []string{"a.example. 0 A 192.0.2.1"}, nil, 0, 5 * time.Hour},
	} {
		set := rrs(t, row.lines...)
		m := replyTo(t, "a.example. A", 0, append(slices.Clone(set), w.example.rrsig(t, set, row.edits...)), nil)
		v := denialCheck().Answer(asked("a.example. A"), m, w.zones)
		if told(v) != "Secure" || v.TTL != row.ttl || v.Expires.Sub(denialNow) != row.expires {
			t.Errorf("%s: %s, TTL %d, expires %v, want %d, %v", row.name, told(v), v.TTL, v.Expires.Sub(denialNow),
				row.ttl, row.expires)
		}
	}
	// The whole chain counts, unsigned parts by their TTL.
	m := replyTo(t, "a.example. A", 0, join(w.example.set(t, "a.example. 300 CNAME a.u.example."),
		rrs(t, "a.u.example. 40 A 192.0.2.1")), nil)
	if v := denialCheck().Answer(asked("a.example. A"), m, w.zones); v.TTL != 40 ||
		v.Expires.Sub(denialNow) != 5*time.Hour ||
		v.Last != "a.u.example." {
		t.Errorf("TTL %d, expires %v, last %s", v.TTL, v.Expires.Sub(denialNow), v.Last)
	}
}

// V-6a: what a DS reply hints at.
func TestHint(t *testing.T) {
	w := newTree(t)
	for _, row := range []struct {
		name              string
		answer, authority []dns.RR
		signers           string
		apex              string
	}{
		{"DS signed from two labels above", w.root.set(t, "c.example. DS 1 13 2 AB"), nil, ".", ""},
		{"a denial with its SOA", nil, join(w.example.set(t, "c.example. NSEC d.example. NS RRSIG NSEC"),
			w.example.set(t, "example. SOA a. b. 1 2 3 4 5")), "example.", "example."},
		{"signers deepest first", w.root.set(t, "c.example. DS 1 13 2 AB"),
			w.example.set(t, "c.example. NSEC d.example. NS"),
			"example. .", ""},
		{"the child itself is no hint", w.child.set(t, "c.example. A 192.0.2.1"), nil, "", ""},
		{"unsigned SOA", nil, rrs(t, "example. SOA a. b. 1 2 3 4 5"), "", "example."},
		{"unsigned NS deeper than the SOA", nil, rrs(t, ". SOA a. b. 1 2 3 4 5", "example. NS a."), "", "example."},
		{"records of other names", nil, rrs(t, "test. SOA a. b. 1 2 3 4 5"), "", ""},
		{"nothing", nil, nil, "", ""},
	} {
		signers, apex := Hint("c.example.", replyTo(t, "c.example. DS", 0, row.answer, row.authority))
		if strings.Join(signers, " ") != row.signers || apex != row.apex {
			t.Errorf("%s: %v, %q", row.name, signers, apex)
		}
	}
}
