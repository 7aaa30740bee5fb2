package dnssec

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// rfcZone is the example zone of an RFC with the signatures printed there.
type rfcZone struct {
	file   string
	anchor string // DS of its key signing key, as print it
	now    time.Time
}

var (
	rfc4035 = rfcZone{"testdata/rfc4035.zone",
		"example. DS 9465 5 2 40d68db5c39f036f09d72d945e9541f3396cc822baf6b1a058865feb5864ce6b",
		time.Date(2004, 5, 1, 0, 0, 0, 0, time.UTC)}
	rfc5155 = rfcZone{"testdata/rfc5155.zone",
		"example. DS 12708 7 2 e91b0008a43024435de9c7f2c0dd88d29270368d8bd8eb1ee7d41b67139a988d",
		time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)}
)

func (z rfcZone) records(t *testing.T) []dns.RR {
	t.Helper()
	f, err := os.Open(z.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []dns.RR
	parser := dns.NewZoneParser(f, ".", z.file)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		out = append(out, rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// section picks RRsets with their signatures by "OWNER TYPE" or, made from a wildcard, "OWNER TYPE from WILDCARD".
func (z rfcZone) section(t *testing.T, picks ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, pick := range picks {
		f := strings.Fields(pick)
		owner, want, found := f[len(f)-1], dns.StringToType[f[1]], false
		if len(f) == 2 {
			owner = f[0]
		}
		for _, rr := range z.records(t) {
			sig, _ := rr.(*dns.RRSIG)
			if h := rr.Header(); h.Name != owner || h.Rrtype != want && (sig == nil || sig.TypeCovered != want) {
				continue
			}
			rr.Header().Name = f[0]
			out, found = append(out, rr), true
		}
		if !found {
			t.Fatalf("%s has no %s", z.file, pick)
		}
	}
	return out
}

// zoneMap is a walk that is done: At finds the deepest zone.
type zoneMap map[string]*Zone

func (m zoneMap) At(name string) *Zone {
	for _, i := range append(dns.Split(name), len(name)-1) {
		if z := m[name[i:]]; z != nil {
			return z
		}
	}
	return nil
}

func (m zoneMap) Anchor(string) string { return "." }

func (z rfcZone) check() *Check {
	return &Check{Now: z.now, Policy: Policy{SHA1: true, NSEC3Iterations: 50}, SignatureChecks: 128}
}

// walked returns what the walk from the zone's own anchor finds: nothing covers the root (V-1a), and below the cut at
// insecure nothing is signed.
func (z rfcZone) walked(t *testing.T) zoneMap {
	t.Helper()
	ds := rrs(t, z.anchor)[0].(*dns.DS)
	apex := z.check().Apex(z.check().Policy.Anchor("example.", []*dns.DS{ds}),
		reply(t, 0, z.section(t, "example. DNSKEY"), nil))
	if apex.Status != Secure {
		t.Fatalf("%s: the zone is %v: %v", z.file, apex.Status, apex.Cause)
	}
	return zoneMap{".": {Name: ".", Status: Insecure}, "example.": apex}
}

func reply(t testing.TB, rcode int, answer, authority []dns.RR) *Message {
	t.Helper()
	m, err := Group(&dns.Msg{MsgHdr: dns.MsgHdr{Rcode: rcode}, Answer: answer, Ns: authority})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// rfcRow is one row of that is an answer.
type rfcRow struct {
	name, question    string
	rcode             int
	answer, authority []string
	want              Status
	wantRcode         int
	code              uint16 // EDE of a Bogus row
}

func (row rfcRow) ask() dns.Question {
	f := strings.Fields(row.question)
	return dns.Question{Name: f[0], Qtype: dns.StringToType[f[1]], Qclass: dns.ClassINET}
}

const nxdomain = dns.RcodeNameError

var rows4035 = []rfcRow{
	{"B.1 answer", "x.w.example. MX", 0, []string{"x.w.example. MX"}, nil, Secure, 0, 0},
	{"B.2 name error", "ml.example. A", nxdomain, nil, []string{"example. SOA", "b.example. NSEC", "example. NSEC"},
		Secure, nxdomain, 0},
	{"B.2 without the NSEC that covers the name", "ml.example. A", nxdomain, nil,
		[]string{"example. SOA", "example. NSEC"},
		Bogus, 0, 12},
	{"B.2 without the NSEC that covers the wildcard", "ml.example. A", nxdomain, nil,
		[]string{"example. SOA", "b.example. NSEC"}, Bogus, 0, 12},
	{"B.3 no data", "ns1.example. MX", 0, nil, []string{"example. SOA", "ns1.example. NSEC"}, Secure, 0, 0},
	{"B.3 for a type that there is", "ns1.example. A", 0, nil, []string{"example. SOA", "ns1.example. NSEC"}, Bogus, 0,
		12},
	{"B.6 wildcard", "a.z.w.example. MX", 0, []string{"a.z.w.example. MX from *.w.example."},
		[]string{"x.y.w.example. NSEC"}, Secure, 0, 0},
	{"B.6 without its NSEC", "a.z.w.example. MX", 0, []string{"a.z.w.example. MX from *.w.example."}, nil, Bogus, 0,
		12},
	{"B.6 with another NSEC", "a.z.w.example. MX", 0, []string{"a.z.w.example. MX from *.w.example."},
		[]string{"x.w.example. NSEC"}, Bogus, 0, 12},
	{"B.7 wildcard no data", "a.z.w.example. AAAA", 0, nil,
		[]string{"example. SOA", "x.y.w.example. NSEC", "*.w.example. NSEC"}, Secure, 0, 0},
	{"B.7 without the NSEC of the wildcard", "a.z.w.example. AAAA", 0, nil,
		[]string{"example. SOA", "x.y.w.example. NSEC"}, Bogus, 0, 12},
	{"B.8 the DS of an anchor is not covered by it", "example. DS", 0, nil, []string{"example. SOA", "example. NSEC"},
		Insecure, 0, 0},
}

const (
	n0p9m = "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. NSEC3"
	n2t7b = "2t7b4g4vsa5smi47k61mv5bv1a22bojr.example. NSEC3"
	n35mt = "35mthgpgcu1qg68fab165klnsnk3dpvl.example. NSEC3"
	nb4um = "b4um86eghhds6nea196smvmlo4ors995.example. NSEC3"
	nji6n = "ji6neoaepv8b5o6k4ev33abha8ht9fgc.example. NSEC3"
	nk8ud = "k8udemvp1j2f7eg6jebps17vp3n8i58h.example. NSEC3"
	nq04j = "q04jkcevqvmu85r014c7dkba38o0ji5r.example. NSEC3"
	nr53b = "r53bq7cc2uvmubfu5ocmm6pers9tk9en.example. NSEC3"
)

var rows5155 = []rfcRow{
	{"B.1 name error by opt-out", "a.c.x.w.example. A", nxdomain, nil, []string{"example. SOA", n0p9m, nb4um, n35mt},
		Insecure, nxdomain, 0},
	{"B.1 without the closest encloser", "a.c.x.w.example. A", nxdomain, nil, []string{"example. SOA", n0p9m, n35mt},
		Bogus, 0, 12},
	{"B.2 no data", "ns1.example. MX", 0, nil, []string{"example. SOA", n2t7b}, Secure, 0, 0},
	{"B.2.1 empty non-terminal", "y.w.example. A", 0, nil, []string{"example. SOA", nji6n}, Secure, 0, 0},
	{"B.4 wildcard by opt-out", "a.z.w.example. MX", 0, []string{"a.z.w.example. MX from *.w.example."},
		[]string{nq04j},
		Insecure, 0, 0},
	{"B.4 without its NSEC3", "a.z.w.example. MX", 0, []string{"a.z.w.example. MX from *.w.example."}, nil, Bogus, 0,
		12},
	{"B.5 wildcard no data by opt-out", "a.z.w.example. AAAA", 0, nil, []string{"example. SOA", nk8ud, nq04j, nr53b},
		Insecure, 0, 0},
	{"B.5 without the closest encloser", "a.z.w.example. AAAA", 0, nil, []string{"example. SOA", nq04j, nr53b},
		Bogus, 0, 12},
	{"B.6 the DS of an anchor is not covered by it", "example. DS", 0, nil, []string{"example. SOA", n0p9m}, Insecure,
		0, 0},
}

// the examples of RFC 4035 appendix B and RFC 5155 appendix B as whole judged replies.
func TestRFCAnswers(t *testing.T) {
	for _, world := range []struct {
		zone rfcZone
		rows []rfcRow
	}{{rfc4035, rows4035}, {rfc5155, rows5155}} {
		walked := world.zone.walked(t)
		for _, row := range world.rows {
			t.Run(world.zone.file+" "+row.name, func(t *testing.T) {
				m := reply(t, row.rcode, world.zone.section(t, row.answer...), world.zone.section(t, row.authority...))
				v := world.zone.check().Answer(row.ask(), m, walked)
				if len(v.Needs) > 0 {
					t.Fatalf("needs %v", v.Needs)
				}
				if v.Status != row.want || row.want >= Insecure && v.Rcode != row.wantRcode {
					t.Errorf("%v, rcode %d (%v), want %v, %d", v.Status, v.Rcode, v.Cause, row.want, row.wantRcode)
				}
				if row.want == Bogus && (v.Cause == nil || v.Cause.Code != row.code) {
					t.Errorf("cause %v, want EDE %d", v.Cause, row.code)
				}
			})
		}
	}
}

// X-4 B.4, B.5 and X-7 B.3: the referrals, fed as the answers to DS at the cut.
func TestRFCReferrals(t *testing.T) {
	for _, row := range []struct {
		zone              rfcZone
		name, cut         string
		answer, authority []string
		want              Cut
	}{
		{rfc4035, "B.4 signed", "a.example.", []string{"a.example. DS"}, nil, SignedCut},
		{rfc4035, "B.5 unsigned", "b.example.", nil, []string{"b.example. NSEC"}, InsecureCut},
		{rfc4035, "B.5 unsigned, with SOA", "b.example.", nil, []string{"example. SOA", "b.example. NSEC"},
			InsecureCut},
		{rfc4035, "B.5 without its NSEC", "b.example.", nil, []string{"example. SOA"}, Unproven},
		{rfc4035, "B.5 below the cut", "mc.b.example.", nil, []string{"example. SOA", "b.example. NSEC"}, Unproven},
		{rfc4035, "B.4 DS stripped", "a.example.", nil, []string{"example. SOA", "a.example. NSEC"}, Unproven},
		{rfc4035, "B.3 no cut", "ns1.example.", nil, []string{"example. SOA", "ns1.example. NSEC"}, NoCut},
		{rfc4035, "B.2 no cut here or below", "ml.example.", nil,
			[]string{"example. SOA", "b.example. NSEC", "example. NSEC"},
			NoCutBelow},
		{rfc4035, "B.7 no cut at a wildcard", "a.z.w.example.", nil,
			[]string{"x.y.w.example. NSEC", "*.w.example. NSEC"}, NoCut},
		{rfc5155, "B.3 opt-out", "c.example.", nil, []string{n35mt, n0p9m}, InsecureCut},
		{rfc5155, "B.3 without the closest encloser", "c.example.", nil, []string{n35mt}, Unproven},
		{rfc5155, "signed", "a.example.", []string{"a.example. DS"}, nil, SignedCut},
		{rfc5155, "signed, DS stripped", "a.example.", nil, []string{n35mt}, Unproven},
		{rfc5155, "B.2 no cut", "ns1.example.", nil, []string{n2t7b}, NoCut},
		{rfc5155, "B.1 opt-out name error", "a.c.x.w.example.", nil, []string{n0p9m, nb4um, n35mt}, InsecureCut},
	} {
		m := reply(t, 0, row.zone.section(t, row.answer...), row.zone.section(t, row.authority...))
		d := row.zone.check().Delegation(row.zone.walked(t)["example."], row.cut, m)
		if d.Cut != row.want {
			t.Errorf("%s %s: %v (%v), want %v", row.zone.file, row.name, d.Cut, d.Cause, row.want)
		}
		if (d.Cut == Unproven) != (d.Cause != nil) {
			t.Errorf("%s %s: cut %v with cause %v", row.zone.file, row.name, d.Cut, d.Cause)
		}
	}
}

// X-4 B.8 and X-7 B.6: the apex NSEC and NSEC3 are good data of the child, and no proof of the parent's (V-8, V-50c).
func TestChildApexIsNoDSProof(t *testing.T) {
	for _, row := range []struct {
		zone  rfcZone
		proof string
	}{{rfc4035, "example. NSEC"}, {rfc5155, n0p9m}} {
		apex := row.zone.walked(t)["example."]
		m := reply(t, 0, nil, row.zone.section(t, row.proof))
		c := row.zone.check()
		e := c.gather(apex, m.Authority)
		if e.missing != nil {
			t.Errorf("%s does not validate: %v", row.proof, e.missing)
		}
		if p := c.nodata(e, "example.", dns.TypeTLSA); p.status != Secure {
			t.Errorf("%s does not deny TLSA: %v", row.proof, p.cause)
		}
		if p := c.nodata(e, "example.", dns.TypeDS); p.status != Bogus {
			t.Errorf("%s denies DS: %v", row.proof, p.status)
		}
		root := newForger(t, ".")
		if d := c.Delegation(root.zone, "example.", m); d.Cut != Unproven {
			t.Errorf("%s is taken for the parent's: %v", row.proof, d.Cut)
		}
	}
}

// with SHA-1 unsupported, both zones under a signed parent with their DS are Insecure in every row (V-36, V-40).
func TestRFCZonesWithoutSHA1(t *testing.T) {
	for _, world := range []struct {
		zone rfcZone
		rows []rfcRow
	}{{rfc4035, rows4035}, {rfc5155, rows5155}} {
		root := newForger(t, ".")
		check := func() *Check {
			c := world.zone.check()
			c.Policy = DefaultPolicy()
			return c
		}
		ds := rrs(t, world.zone.anchor)
		ds = append(ds, root.rrsig(t, ds, validAt(world.zone.now)))
		d := check().Delegation(root.zone, "example.", reply(t, 0, ds, nil))
		if d.Cut != InsecureCut || d.Cause == nil || d.Cause.Code != dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm {
			t.Fatalf("%s: cut %v (%v)", world.zone.file, d.Cut, d.Cause)
		}
		walked := zoneMap{".": root.zone, "example.": InsecureZone(d)}
		for _, row := range world.rows {
			if row.ask().Qtype == dns.TypeDS {
				continue // that is the parent's to answer
			}
			m := reply(t, row.rcode, world.zone.section(t, row.answer...), world.zone.section(t, row.authority...))
			if v := check().Answer(row.ask(), m, walked); v.Status != Insecure || len(v.Needs) > 0 {
				t.Errorf("%s %s: %v (%v), needs %v", world.zone.file, row.name, v.Status, v.Cause, v.Needs)
			}
		}
	}
}
