package dnssec

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func describe(m *Message) string {
	var s string
	for i, sets := range [][]*RRset{m.Answer, m.Authority} {
		for _, set := range sets {
			s += fmt.Sprintf("%d %s %s %d/%d ttl %d; ", i, set.Owner, dns.Type(set.Type), len(set.RRs),
				len(set.Sigs), set.TTL)
		}
	}
	return s
}

// Group sorts sections into sets, in order of appearance; what is not IN, or OPT, or in the additional section, is no
// part of them (V-16, V-26, C-8).
func TestGroup(t *testing.T) {
	const sig = " RRSIG A 13 2 60 20261121000000 20261119000000 1 example. AAAA"
	for _, row := range []struct {
		name, question    string
		answer, authority []string
		want              string
	}{
		{"sets in order of appearance", "a.example. A",
			[]string{"b.example. 60 A 192.0.2.1", "a.example. 60 A 192.0.2.2", "b.example. 60 AAAA ::1",
				"b.example. 60 A 192.0.2.3"}, nil,
			"0 b.example. A 2/0 ttl 60; 0 a.example. A 1/0 ttl 60; 0 b.example. AAAA 1/0 ttl 60; "},
		{"the same set in two sections", "a.example. A", []string{"a.example. 60 A 192.0.2.1"},
			[]string{"a.example. 60 A 192.0.2.1"},
			"0 a.example. A 1/0 ttl 60; 1 a.example. A 1/0 ttl 60; "},
		{"V-26 duplicates, the smallest TTL", "a.example. A",
			[]string{"a.example. 60 A 192.0.2.1", "A.EXAMPLE. 9 A 192.0.2.1"}, nil,
			"0 a.example. A 1/0 ttl 9; "},
		{"V-26, V-28 duplicates in another case", "a.example. MX",
			[]string{"a.example. 60 MX 1 mx.example.", "a.example. 60 MX 1 MX.example."}, nil,
			"0 a.example. MX 1/0 ttl 60; "},
		{"V-29 no duplicates where case counts", "a.example. TXT",
			[]string{`a.example. 60 TXT "x"`, `a.example. 60 TXT "X"`}, nil,
			"0 a.example. TXT 2/0 ttl 60; "},
		{"signatures go to their set, duplicates once", "a.example. A",
			[]string{"a.example." + sig, "a.example. 60 A 192.0.2.1", "A.example." + sig}, nil,
			"0 a.example. A 1/1 ttl 60; "},
		{"V-16 signatures of nothing present", "a.example. A",
			[]string{"a.example." + sig, "b.example. 60 A 192.0.2.1"}, nil,
			"0 b.example. A 1/0 ttl 60; "},
		{"V-71 RRSIG asked", "a.example. RRSIG", []string{"a.example. 5" + sig}, nil, "0 a.example. RRSIG 1/0 ttl 5; "},
		{"V-25 an RRSIG over RRSIGs is one of them", "a.example. RRSIG", []string{"a.example. 5" + sig,
			"a.example. 5" + strings.Replace(sig, "RRSIG A ", "RRSIG RRSIG ", 1)}, nil,
			"0 a.example. RRSIG 2/0 ttl 5; "},
		{"V-71 ANY asked", "a.example. ANY", []string{"a.example. 5" + sig}, nil, "0 a.example. RRSIG 1/0 ttl 5; "},
		{"V-71 RRSIG asked, in authority", "a.example. RRSIG", nil, []string{"a.example." + sig}, ""},
		{"V-15 class CH", "a.example. A", []string{"a.example. 60 CH A 192.0.2.1", "a.example. 60 CH" + sig}, nil, ""},
	} {
		if got := describe(replyTo(t, row.question, 0, rrs(t, row.answer...),
			rrs(t, row.authority...))); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: dns.ClassINET}}
	extra, _ := Group(&dns.Msg{Answer: []dns.RR{opt}, Extra: rrs(t, "a.example. A 192.0.2.1")})
	if got := describe(extra); got != "" {
		t.Errorf("OPT and additional records: %s", got)
	}
}

// A record that cannot be packed is dropped, and its set with it if nothing is left; the others stay (V-15a).
func TestGroupDropsWhatCannotBePacked(t *testing.T) {
	broken := &dns.A{Hdr: dns.RR_Header{Name: "a.example.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
		A: net.IP{1, 2}}
	good := rrs(t, "b.example. 60 A 192.0.2.1", "a.example. 60 A 192.0.2.1")
	for _, row := range []struct {
		records []dns.RR
		want    string
	}{
		{[]dns.RR{broken, good[0]}, "0 b.example. A 1/0 ttl 60; "},
		{[]dns.RR{broken, good[1]}, "0 a.example. A 1/0 ttl 60; "},
		{[]dns.RR{broken}, ""},
	} {
		if got := describe(reply(t, 0, row.records, nil)); got != row.want {
			t.Errorf("%v: %q, want %q", row.records, got, row.want)
		}
	}
}

// L-11: 1024 records in one RRset, in either section, and no more; X-14: a TXT RRset of 260 records is judged.
func TestLargeSets(t *testing.T) {
	many := func(n int) []dns.RR {
		var out []dns.RR
		for i := range n {
			out = append(out, rrs(t, fmt.Sprintf("example. 60 TXT %d", i))...)
		}
		return out
	}
	for n, over := range map[int]bool{1024: false, 1025: true} {
		for _, m := range []*dns.Msg{{Answer: many(n)}, {Ns: many(n)}} {
			_, err := Group(m)
			var f *Failure
			if over != errors.Is(err, LimitError("rrset_records")) || over &&
				(!errors.As(err, &f) || f.Code != 0 || f.Error() == "") {
				t.Errorf("%d records: %v", n, err)
			}
		}
	}
	if m, err := Group(&dns.Msg{Answer: slices.Concat(many(800), many(800))}); err != nil ||
		len(m.Answer[0].RRs) != 800 {
		t.Errorf("duplicates are counted: %v", err)
	}
	z := newForger(t, "example.")
	txt := many(260)
	m := replyTo(t, "example. TXT", 0, append(txt, z.rrsig(t, txt)), nil)
	if got := told(denialCheck().Answer(asked("example. TXT"), m, zoneMap{"example.": z.zone})); got != "Secure" {
		t.Errorf("X-14, L-11: %s", got)
	}
}

// A clone is judged without a trace in the original, whose sets other queries judge.
func TestClone(t *testing.T) {
	z := newForger(t, "example.")
	answer := z.set(t, "a.example. 3600 A 192.0.2.1")
	answer[1].Header().Ttl = 7
	m := replyTo(t, "a.example. A", 0, answer, z.set(t, "example. 3600 NS a.example."))
	clone := m.Clone()
	v := denialCheck().Answer(asked("a.example. A"), clone, zoneMap{"example.": z.zone})
	if told(v) != "Secure" || v.TTL != 7 || clone.Answer[0].TTL != 7 || m.Answer[0].TTL != 3600 {
		t.Errorf("%s, TTL %d, of the clone %d, of the original %d", told(v), v.TTL,
			clone.Answer[0].TTL, m.Answer[0].TTL)
	}
	if describe(m.Clone()) != describe(m) {
		t.Errorf("%s is not %s", describe(m.Clone()), describe(m))
	}
}

// L-3: of duplicate signatures with two TTLs the smaller one counts, whichever came first.
func TestDuplicateSignatureTTL(t *testing.T) {
	z := newForger(t, "example.")
	set := rrs(t, "a.example. 3600 A 192.0.2.1")
	long, short := z.rrsig(t, set), z.rrsig(t, set)
	*short = *long
	short.Hdr.Ttl = 60
	for _, sigs := range [][]dns.RR{{long, short}, {short, long}} {
		m := replyTo(t, "a.example. A", 0, slices.Concat(set, sigs), nil)
		if v := denialCheck().Answer(asked("a.example. A"), m, zoneMap{"example.": z.zone}); v.TTL != 60 {
			t.Errorf("TTL %d, want 60", v.TTL)
		}
	}
}
