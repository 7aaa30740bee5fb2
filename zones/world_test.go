package zones_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const soa = "@ SOA ns hostmaster 1 7200 3600 1209600 300\n@ NS ns\nns A 192.0.2.53\n"

// everything is a zone with all that denials have to do with: empty non-terminals, wildcards with data and without,
// delegations signed and not, one of them below an empty non-terminal, aliases, glue, and names that sort oddly.
const everything = soa + `
@             MX     10 mx
mx            A      192.0.2.25
_25._tcp.mx   TLSA   3 1 1 00
a.b.c         A      192.0.2.1
*.w           MX     10 mx
x.w           A      192.0.2.2
*.e.w         CNAME  mx
deep.*.t      A      192.0.2.3
alias         CNAME  mx
dangling      CNAME  gone
moved         DNAME  w
hidden.moved  A      192.0.2.8
\000          A      192.0.2.4
\200          A      192.0.2.5
b\.c          A      192.0.2.6
unsigned.co   NS     ns.unsigned.co
ns.unsigned.co A     192.0.2.7
`

// worlds are ways to sign that zone.
var worlds = map[string]zones.Config{
	"NSEC":         {},
	"NSEC3":        {NSEC3: &zones.NSEC3{}},
	"NSEC3, salt":  {NSEC3: &zones.NSEC3{Iterations: 7, Salt: "aabbccdd"}},
	"opt-out":      {NSEC3: &zones.NSEC3{OptOut: true}},
	"compact":      {Compact: true},
	"two keys":     {Split: true, Algorithms: []uint8{dns.RSASHA256}},
	"two algs":     {Algorithms: []uint8{dns.ED25519, dns.ED448}},
	"key, no flag": {Flags: dns.ZONE},
}

func build(t *testing.T, plans ...zones.Plan) *zones.World {
	t.Helper()
	w, err := zones.Build(now, plans...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// world is the zone of everything below a root, with a signed zone and an unsigned one below it.
func world(t *testing.T, c zones.Config) *zones.World {
	t.Helper()
	return build(t,
		zones.Plan{Name: ".", Text: soa},
		zones.Plan{Name: "example.", Text: everything, Config: c},
		zones.Plan{Name: "signed.example.", Text: soa},
		zones.Plan{Name: "plain.example.", Text: soa, Config: zones.Config{Unsigned: true}},
	)
}

func question(name string, qtype uint16) dns.Question {
	return dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
}

// names are asked of the zone of everything; what is below a cut belongs elsewhere.
var names = []string{
	"example.", "mx.example.", "_tcp.mx.example.", "_25._tcp.mx.example.", "_26._tcp.mx.example.", "a.mx.example.",
	"c.example.", "b.c.example.", "a.b.c.example.", "x.b.c.example.", "gone.example.",
	"a.gone.example.", "zzz.example.",
	"w.example.", "*.w.example.", "x.w.example.", "any.w.example.", "any.thing.w.example.",
	"y.x.w.example.", "e.w.example.",
	"any.e.w.example.", "t.example.", "any.t.example.", "deep.any.t.example.", "deep.*.t.example.", "alias.example.",
	"dangling.example.", "moved.example.", "x.moved.example.", "any.moved.example.", "any.e.moved.example.",
	`\000.example.`, `\200.example.`, `b\.c.example.`, `a.\000.example.`, "co.example.",
	"gone.co.example.", "nothing.signed.",
}

// In every world every question whatever is answered Secure, or denied with a proof of which no record could be left
// out (RFC 4035 section 3.1.3, RFC 5155 section 7.2, RFC 9824).
func TestAnswersAndDenials(t *testing.T) {
	types := []uint16{dns.TypeA, dns.TypeMX, dns.TypeTLSA, dns.TypeCNAME, dns.TypeDNAME, dns.TypeDS,
		dns.TypeNS, dns.TypeTXT}
	for title, c := range worlds {
		t.Run(title, func(t *testing.T) {
			w := world(t, c)
			r := w.Recursor(func() time.Time { return now })
			reply := func(name string, qtype uint16) *dns.Msg { return r.Resolve(question(name, qtype)) }
			v := newValidator(now, w.Anchors()["."], reply)
			for _, name := range names {
				for _, qtype := range types {
					optedOut := c.NSEC3 != nil && c.NSEC3.OptOut && dns.IsSubDomain("co.example.", name)
					if problems := v.judge(name, qtype); len(problems) > 0 && !optedOut {
						t.Errorf("%s %s: %s", name, dns.Type(qtype), strings.Join(problems, "\n"))
					}
					if m := reply(name, qtype); !minimal(m, name, qtype) {
						t.Errorf("%s %s: superfluous records\n%v", name, dns.Type(qtype), m)
					}
				}
			}
		})
	}
}

// minimal says whether a denial fails without any one of its records.
func minimal(m *dns.Msg, name string, qtype uint16) bool {
	p := proofOf(m.Ns)
	last, answered := end(m.Answer, name, qtype)
	if answered || p.size() < 2 || len(m.Answer) > 0 {
		return true
	}
	for i := range p.size() {
		rest := p.without(i)
		if m.Rcode == dns.RcodeNameError && rest.nameError(last) ||
			m.Rcode == dns.RcodeSuccess && rest.nodata(last, qtype) {
			return false
		}
	}
	return true
}

// What the zone says of names, whichever way it is signed.
func TestAnswers(t *testing.T) {
	for title, c := range worlds {
		w := world(t, c)
		for _, q := range []struct {
			name   string
			qtype  uint16
			answer []string // types in order, without RRSIG
			rcode  int
		}{
			{"example.", dns.TypeMX, []string{"MX"}, dns.RcodeSuccess},
			{"example.", dns.TypeTLSA, nil, dns.RcodeSuccess},
			{"gone.example.", dns.TypeA, nil, dns.RcodeNameError},
			{"b.c.example.", dns.TypeA, nil, dns.RcodeSuccess},
			{"any.thing.w.example.", dns.TypeMX, []string{"MX"}, dns.RcodeSuccess},
			{"any.w.example.", dns.TypeA, nil, dns.RcodeSuccess},
			{"y.x.w.example.", dns.TypeMX, nil, dns.RcodeNameError}, // x.w exists: the wildcard does not reach below it
			{"any.e.w.example.", dns.TypeA, []string{"CNAME", "A"}, dns.RcodeSuccess},
			{"any.t.example.", dns.TypeA, nil, dns.RcodeSuccess},
			{"alias.example.", dns.TypeA, []string{"CNAME", "A"}, dns.RcodeSuccess},
			{"alias.example.", dns.TypeCNAME, []string{"CNAME"}, dns.RcodeSuccess},
			{"dangling.example.", dns.TypeA, []string{"CNAME"}, dns.RcodeNameError}, // RFC 6604
			{"x.moved.example.", dns.TypeA, []string{"DNAME", "CNAME", "A"}, dns.RcodeSuccess},
			{"x.moved.example.", dns.TypeCNAME, []string{"DNAME", "CNAME"}, dns.RcodeSuccess},
			{"any.moved.example.", dns.TypeMX, []string{"DNAME", "CNAME", "MX"}, dns.RcodeSuccess},
			{"hidden.moved.example.", dns.TypeA, []string{"DNAME", "CNAME"}, dns.RcodeSuccess},
			{"moved.example.", dns.TypeDNAME, []string{"DNAME"}, dns.RcodeSuccess},
			{"signed.example.", dns.TypeDS, []string{"DS"}, dns.RcodeSuccess},
			{"plain.example.", dns.TypeDS, nil, dns.RcodeSuccess},
		} {
			m := w.Zone("example.").Answer(question(q.name, q.qtype), true)
			rcode := q.rcode
			if c.Compact && rcode == dns.RcodeNameError {
				rcode = dns.RcodeSuccess // RFC 9824 section 2: no name error is ever said
			}
			if q.answer == nil && !hasSOA(m) {
				t.Errorf("%s: %s %s: no SOA\n%v", title, q.name, dns.Type(q.qtype), m)
			}
			if got := typesOf(m.Answer); m.Rcode != rcode || !slices.Equal(got, q.answer) || !m.Authoritative {
				t.Errorf("%s: %s %s: %v %s, want %v %s", title, q.name, dns.Type(q.qtype), got,
					dns.RcodeToString[m.Rcode],
					q.answer, dns.RcodeToString[rcode])
			}
		}
	}
}

func typesOf(rrs []dns.RR) (types []string) {
	for _, rr := range rrs {
		if t := rr.Header().Rrtype; t != dns.TypeRRSIG {
			types = append(types, dns.Type(t).String())
		}
	}
	return slices.Compact(types)
}

func hasSOA(m *dns.Msg) bool { return slices.Contains(typesOf(m.Ns), "SOA") }

// A DNAME that makes a name too long is YXDOMAIN (RFC 6672 section 2.2); one to the root leaves the prefix.
func TestDNAME(t *testing.T) {
	long := strings.Repeat("a23456789.", 20)
	w := build(t, zones.Plan{Name: "example.", Text: soa + "moved DNAME " + long + "example.\nup DNAME .\n"})
	if m := w.Zone("example.").Answer(question(long+"moved.example.", dns.TypeA), true); m.Rcode != dns.RcodeYXDomain ||
		!slices.Equal(typesOf(m.Answer), []string{"DNAME"}) {
		t.Errorf("too long: %v", m)
	}
	m := w.Zone("example.").Answer(question("a.b.up.example.", dns.TypeCNAME), true)
	if cname, ok := m.Answer[len(m.Answer)-1].(*dns.CNAME); !ok || cname.Target != "a.b." || cname.Hdr.Ttl != 3600 {
		t.Errorf("to the root: %v", m)
	}
}

// Questions for all types and for signatures are answered with what there is.
func TestANYAndRRSIG(t *testing.T) {
	z := world(t, zones.Config{}).Zone("example.")
	types := typesOf(z.Answer(question("mx.example.", dns.TypeANY), true).Answer)
	slices.Sort(types)
	if !slices.Equal(types, []string{"A", "NSEC"}) {
		t.Errorf("ANY: %v", types)
	}
	m := z.Answer(question("mx.example.", dns.TypeRRSIG), false)
	if len(m.Answer) != 2 || len(typesOf(m.Answer)) != 0 {
		t.Errorf("RRSIG: %v", m)
	}
}

// Aliases that go in a circle end the answer.
func TestLoop(t *testing.T) {
	w := build(t, zones.Plan{Name: "example.", Text: soa + "a CNAME b\nb CNAME c\nc CNAME b\n"},
		zones.Plan{Name: "other.", Text: soa + "a CNAME a.third.\n"},
		zones.Plan{Name: "third.", Text: soa + "a CNAME a.other.\n"})
	r := w.Recursor(func() time.Time { return now })
	for name, n := range map[string]int{"a.example.": 3, "a.other.": 2} {
		if m := r.Resolve(question(name, dns.TypeA)); len(m.Answer) != 2*n {
			t.Errorf("%s: %d records, want %d and their signatures\n%v", name, len(m.Answer), n, m)
		}
	}
}

// Below a cut there are referrals, with the DS or the proof that there is none (RFC 4035 section 3.1.4).
func TestReferrals(t *testing.T) {
	for title, c := range worlds {
		z := world(t, c).Zone("example.")
		for name, cut := range map[string]string{
			"signed.example.": "signed.example.", "a.signed.example.": "signed.example.",
			"plain.example.":       "plain.example.",
			"unsigned.co.example.": "unsigned.co.example.", "a.b.unsigned.co.example.": "unsigned.co.example.",
		} {
			m := z.Answer(question(name, dns.TypeA), true)
			if m.Authoritative || len(m.Answer) > 0 || hasSOA(m) || m.Ns[0].Header().Name != cut ||
				typesOf(m.Ns)[0] != "NS" {
				t.Errorf("%s: %s: no referral\n%v", title, name, m)
			}
			if len(signatures(m.Ns, cut, dns.TypeNS)) > 0 {
				t.Errorf("%s: %s: the NS of a delegation are signed", title, name)
			}
			p := proofOf(m.Ns)
			types, matched := p.types(cut)
			switch {
			case cut == "signed.example.":
				if len(signatures(m.Ns, cut, dns.TypeDS)) == 0 || p.size() > 0 {
					t.Errorf("%s: %s: no signed DS, or more\n%v", title, name, m)
				}
			case c.NSEC3 != nil && c.NSEC3.OptOut:
				if matched || !p.optOut(cut) {
					t.Errorf("%s: %s: no proof by opt-out\n%v", title, name, m)
				}
			case !slices.Contains(types, dns.TypeNS) || slices.Contains(types, dns.TypeDS) ||
				slices.Contains(types, dns.TypeSOA):
				t.Errorf("%s: %s: no proof of an unsigned delegation\n%v", title, name, m)
			}
			bare := z.Answer(question(name, dns.TypeA), false)
			if len(signatures(bare.Ns, cut, dns.TypeDS)) > 0 || proofOf(bare.Ns).size() > 0 {
				t.Errorf("%s: %s: signatures or proofs without DO\n%v", title, name, bare)
			}
		}
	}
}

// Denials live as long as the SOA says, the SOA in them too (RFC 2308 section 3, RFC 9077 section 3).
func TestNegativeTTL(t *testing.T) {
	for title, c := range worlds {
		for _, rr := range world(t, c).Zone("example.").Answer(question("gone.example.", dns.TypeA), true).Ns {
			if rr.Header().Ttl != 300 {
				t.Errorf("%s: %v", title, rr)
			}
		}
	}
}

// One server with parent and child answers DS from the parent and the rest from the child (RFC 4035 section 3.1.4.1).
func TestAuthority(t *testing.T) {
	w := world(t, zones.Config{})
	both := &zones.Authority{Zones: []*zones.Zone{w.Zone("signed.example."), w.Zone("example.")}}
	only := &zones.Authority{Zones: []*zones.Zone{w.Zone("signed.example.")}}
	for _, tt := range []struct {
		title  string
		server *zones.Authority
		q      dns.Question
		rcode  int
		owner  string // of the first record
	}{
		{"DS from the parent", both, question("signed.example.", dns.TypeDS), dns.RcodeSuccess, "signed.example."},
		{"no DS from the child", only, question("signed.example.", dns.TypeDS), dns.RcodeSuccess, "signed.example."},
		{"SOA from the child", both, question("Signed.Example.", dns.TypeSOA), dns.RcodeSuccess, "signed.example."},
		{"DS below the child", both, question("ns.signed.example.", dns.TypeDS), dns.RcodeSuccess, "signed.example."},
		{"the parent's own", both, question("mx.example.", dns.TypeA), dns.RcodeSuccess, "mx.example."},
		{"nobody's", only, question("mx.example.", dns.TypeA), dns.RcodeRefused, ""},
	} {
		m := tt.server.Answer(tt.q, true)
		owner := ""
		if rrs := slices.Concat(m.Answer, m.Ns); len(rrs) > 0 {
			owner = rrs[0].Header().Name
		}
		if m.Rcode != tt.rcode || owner != tt.owner {
			t.Errorf("%s: %s from %q\n%v", tt.title, dns.RcodeToString[m.Rcode], owner, m)
		}
	}
	if m := both.Answer(question("signed.example.", dns.TypeDS), true); len(m.Answer) != 2 {
		t.Errorf("DS: %v", m)
	}
	if m := only.Answer(question("signed.example.", dns.TypeDS), true); len(m.Answer) != 0 || !hasSOA(m) {
		t.Errorf("DS at the child: %v", m)
	}
}

// What cannot be built is an error.
func TestBuildRefuses(t *testing.T) {
	for title, plans := range map[string][]zones.Plan{
		"no SOA":     {{Name: "example.", Text: "@ NS ns\n"}},
		"no syntax":  {{Name: "example.", Text: soa + "mx A 192.0.2.256\n"}},
		"no include": {{Name: "example.", Text: "$INCLUDE nothing.zone\n"}},
		"twice":      {{Name: "example.", Text: soa}, {Name: "Example.", Text: soa}},
	} {
		if _, err := zones.Build(now, plans...); err == nil {
			t.Errorf("%s: no error", title)
		}
	}
}

// A world without a root has an anchor for each of its tops; an unsigned zone takes no DS from below.
func TestTops(t *testing.T) {
	w := build(t, zones.Plan{Name: "a.", Text: soa}, zones.Plan{Name: "b.a.", Text: soa},
		zones.Plan{Name: "c.", Text: soa},
		zones.Plan{Name: "d.", Text: soa, Config: zones.Config{Unsigned: true}}, zones.Plan{Name: "e.d.", Text: soa})
	anchors := w.Anchors()
	if len(anchors) != 3 || len(anchors["a."]) != 1 || len(anchors["c."]) != 1 || len(anchors["d."]) != 0 {
		t.Errorf("%v", anchors)
	}
	if m := w.Zone("d.").Answer(question("e.d.", dns.TypeDS), true); len(m.Answer) > 0 {
		t.Errorf("%v", m)
	}
}

// Signing anew replaces keys and signatures and leaves nothing of the old.
func TestSignAnew(t *testing.T) {
	z := world(t, zones.Config{NSEC3: &zones.NSEC3{}}).Zone("example.")
	old := z.Keys[0].DNSKEY.KeyTag()
	if err := z.Sign(zones.Config{Inception: now, Expiration: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	m := z.Answer(question("gone.example.", dns.TypeA), true)
	for _, rr := range m.Ns {
		if sig, ok := rr.(*dns.RRSIG); rr.Header().Rrtype == dns.TypeNSEC3 || ok && sig.KeyTag == old {
			t.Errorf("left over: %v", rr)
		}
	}
	if keys := z.Answer(question("example.", dns.TypeDNSKEY), false).Answer; len(keys) != 1 {
		t.Errorf("%v", keys)
	}
}

// Faults of replies come one after the other; a SERVFAIL stays one.
func TestSpoil(t *testing.T) {
	z := world(t, zones.Config{}).Zone("example.")
	z.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
		if q.Qtype == dns.TypeTXT {
			return nil
		}
		m.Answer = m.Answer[:1]
		return m
	})
	z.Spoil(func(_ dns.Question, m *dns.Msg) *dns.Msg {
		m.Answer = append(m.Answer, m.Answer...)
		return m
	})
	if m := z.Answer(question("mx.example.", dns.TypeA), true); len(m.Answer) != 2 {
		t.Errorf("%v", m)
	}
	if m := z.Answer(question("mx.example.", dns.TypeTXT), true); m != nil {
		t.Errorf("%v", m)
	}
}
