package dnssec

import (
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// nsec3Lines returns the NSEC3 chain of the names with their types, in the order of the names.
func nsec3Lines(apex string, iterations uint16, salt string, flags uint8, types map[string]string) []string {
	hash := func(name string) string {
		return strings.ToLower(dns.HashName(name, dns.SHA1, iterations, strings.TrimPrefix(salt, "-")))
	}
	var hashes, lines []string
	for name := range types {
		hashes = append(hashes, hash(name))
	}
	slices.Sort(hashes)
	names := make([]string, 0, len(types))
	for name := range types {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		i, _ := slices.BinarySearch(hashes, hash(name))
		owner := hashes[i] + "." + strings.TrimPrefix(apex, ".")
		lines = append(lines, fmt.Sprintf("%s NSEC3 1 %d %d %s %s %s", owner, flags, iterations, salt,
			hashes[(i+1)%len(hashes)], types[name]))
	}
	return lines
}

// askOf asks about records of example.
func askOf(t *testing.T, c *Check, question string, records ...string) string {
	t.Helper()
	got, _ := ask(c, admitted("example.", setsOf(t, "example.", records...)...), question)
	return got
}

// X-6, RFC 5155 appendix A: hashes with the salt aabbccdd and 12 iterations.
func TestNSEC3HashVectors(t *testing.T) {
	for name, want := range map[string]string{
		"example.":       "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom",
		"a.example.":     "35mthgpgcu1qg68fab165klnsnk3dpvl",
		"ai.example.":    "gjeqe526plbf1g8mklp59enfd789njgi",
		"ns1.example.":   "2t7b4g4vsa5smi47k61mv5bv1a22bojr",
		"ns2.example.":   "q04jkcevqvmu85r014c7dkba38o0ji5r",
		"w.example.":     "k8udemvp1j2f7eg6jebps17vp3n8i58h",
		"*.w.example.":   "r53bq7cc2uvmubfu5ocmm6pers9tk9en",
		"x.w.example.":   "b4um86eghhds6nea196smvmlo4ors995",
		"y.w.example.":   "ji6neoaepv8b5o6k4ev33abha8ht9fgc",
		"x.y.w.example.": "2vptu5timamqttgl4luu9kg21e0aor3s",
		"xx.example.":    "t644ebqk9bibcna874givr6joj62mlhv",
		"2t7b4g4vsa5smi47k61mv5bv1a22bojr.example.": "kohar7mbb8dc2ce8a9qvl8hon4k53uhi",
		"c.x.w.example.": "0va5bpr2ou0vk0lbqeeljri88laipsfh",
		"*.x.w.example.": "92pqneegtaue7pjatc3l3qnk738c6v5m",
		"c.example.":     "4g6p9u5gvfshp30pqecj98b3maqbn1ck",
		"z.w.example.":   "qlu7gtfaeh0ek0c05ksfhdpbcgglbe03",
	} {
		sum, ok := hashed{iterations: 12, salt: "\xaa\xbb\xcc\xdd", name: name}.sum()
		if got := strings.ToLower(base32.HexEncoding.EncodeToString([]byte(sum))); !ok || got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		for _, text := range []string{want, strings.ToUpper(want)} {
			if raw, ok := DecodeHash(text); !ok || raw != sum {
				t.Errorf("%s: base32hex does not read back", text)
			}
		}
		for what, text := range map[string]string{
			"short": want[1:], "long": want + "0", "padded": want[:31] + "=", "of another alphabet": want[:31] + "w",
			"broken": want[:16] + "\n" + want[17:], "broken, and long": want[:16] + "\r\n" + want[16:],
		} {
			if raw, ok := DecodeHash(text); ok {
				t.Errorf("%s, %s, reads as %x", text, what, raw)
			}
		}
	}
}

// The longest salt, and what is no name: never a panic, and never a hash that some record might cover.
func TestNSEC3HashBounds(t *testing.T) {
	long := strings.Repeat("a.", 127)
	salt := strings.Repeat("s", 255)
	if _, ok := (hashed{iterations: 3, salt: salt, name: long}).sum(); !ok {
		t.Error("a name of 255 octets with a salt of 255 has no hash")
	}
	c := denialCheck()
	for _, name := range []string{"a." + long, "relative", strings.Repeat("a", 64) + "."} {
		if hash, ok := c.hashes.of(hashed{name: name}); ok || c.hashes.refused {
			t.Errorf("%q hashed to %q", name, hash)
		}
	}
}

func TestNSEC3Proofs(t *testing.T) {
	zone := map[string]string{
		"example.": "NS SOA MX RRSIG DNSKEY NSEC3PARAM", "a.example.": "A RRSIG", "alias.example.": "CNAME RRSIG",
		"signed.example.": "NS DS RRSIG", "unsigned.example.": "NS", "d.example.": "DNAME RRSIG", "ent.example.": "",
		"x.ent.example.": "A RRSIG", "w.example.": "", "*.w.example.": "MX RRSIG", "lies.example.": "RRSIG NXNAME",
		"c.example.": "", "*.c.example.": "CNAME RRSIG", "e.example.": "", "*.e.example.": "",
		"x.*.e.example.": "A RRSIG",
	}
	full := nsec3Lines("example.", 5, "beef", 0, zone)
	unproven := "Bogus, EDE 12"
	var cases []denialCase
	for _, row := range [][3]string{
		{"V-54 type and CNAME clear", "nodata a.example. MX", "Secure"},
		{"V-54 type set", "nodata a.example. A", unproven},
		{"V-54 CNAME set", "nodata alias.example. A", unproven},
		{"V-54 empty non-terminal", "nodata ent.example. A", "Secure"},
		{"V-46 ANY at an empty non-terminal", "nodata ent.example. ANY", "Secure"},
		{"V-46 ANY where there is data", "nodata a.example. ANY", unproven},
		{"V-54 apex", "nodata example. TLSA", "Secure"},
		{"V-55 apex for its own DS", "nodata example. DS", unproven},
		{"V-50a delegation for its own type", "nodata unsigned.example. MX", unproven},
		{"V-50a delegation for DS", "nodata unsigned.example. DS", "Secure"},
		{"V-55 delegation with DS", "nodata signed.example. DS", unproven},
		{"V-69 compact denial", "nodata lies.example. TLSA", "Secure"},
		{"V-69 compact denial, ANY", "nodata lies.example. ANY", "Secure"},
		{"V-56 wildcard", "nodata b.w.example. A", "Secure"},
		{"V-56 wildcard deeper", "nodata a.b.w.example. A", "Secure"},
		{"V-56 wildcard has the type", "nodata b.w.example. MX", unproven},
		{"V-56 wildcard is an alias", "nodata b.c.example. MX", unproven},
		{"V-56 wildcard is empty", "nodata b.e.example. MX", "Secure"},
		{"V-56 empty wildcard is no name error", "nxdomain b.e.example.", unproven},
		{"V-53 name error", "nxdomain b.example.", "Secure"},
		{"V-53 deep name error", "nxdomain x.y.z.b.example.", "Secure"},
		{"V-53 below an empty non-terminal", "nxdomain b.ent.example.", "Secure"},
		{"V-53 the wildcard exists", "nxdomain b.w.example.", unproven},
		{"V-53 the name exists", "nxdomain a.example.", unproven},
		{"V-53 the apex", "nxdomain example.", unproven},
		{"V-52 encloser is a delegation", "nxdomain b.unsigned.example.", unproven},
		{"V-52 encloser is a DNAME", "nxdomain b.d.example.", unproven},
		{"V-52 encloser is a delegation, NODATA", "nodata b.signed.example. A", unproven},
		{"V-57 expansion", "expansion a.b.w.example. 2", "Secure"},
		{"V-57 Labels too few", "expansion a.b.w.example. 1", unproven},
		{"V-57 the name exists", "expansion a.example. 1", unproven},
		{"V-57 next closer exists", "expansion y.x.ent.example. 2", unproven},
	} {
		cases = append(cases, denialCase{row[0], "", full, row[1], row[2]})
	}
	for _, row := range [][3]string{
		{"V-10 NS without DS", "nods unsigned.example.", "Secure, insecure cut"},
		{"V-10 NS with DS", "nods signed.example.", "Bogus, unproven, EDE 12"},
		{"V-6 no NS", "nods a.example.", "Secure, no cut"},
		{"V-6 empty non-terminal", "nods ent.example.", "Secure, no cut"},
		{"V-6 NXNAME", "nods lies.example.", "Secure, no cut"},
		{"V-6 name error", "nods b.example.", "Secure, no cut below"},
		{"V-55 wildcard", "nods b.w.example.", "Secure, no cut"},
		{"V-52 below a delegation", "nods b.unsigned.example.", "Bogus, unproven, EDE 12"},
		{"V-46 alias", "nods alias.example.", "Bogus, unproven, EDE 12"},
	} {
		cases = append(cases, denialCase{row[0], "", full, row[1], row[2]})
	}
	runDenials(t, cases)
}

// Each record of a proof is needed: without the encloser, the next closer cover or the wildcard there is none.
func TestNSEC3PartsMissing(t *testing.T) {
	full := nsec3Lines("example.", 0, "-", 0, map[string]string{
		"example.": "NS SOA RRSIG", "w.example.": "", "*.w.example.": "MX RRSIG", "m.example.": "A RRSIG",
		"n.example.": "A RRSIG", "o.example.": "A RRSIG",
	})
	for _, question := range []string{
		"nxdomain a.b.example.", "nodata b.w.example. A", "expansion b.w.example. 2", "nodata m.example. MX",
	} {
		sets := setsOf(t, "example.", full...)
		got, p := ask(denialCheck(), admitted("example.", sets...), question)
		if got != "Secure" {
			t.Fatalf("%s: %s", question, got)
		}
		for _, part := range p.used {
			rest := slices.DeleteFunc(slices.Clone(sets), func(s *RRset) bool { return s == part })
			if got, _ := ask(denialCheck(), admitted("example.", rest...), question); got != "Bogus, EDE 12" {
				t.Errorf("%s without %s: %s", question, part.Owner, got)
			}
		}
	}
}

func TestNSEC3OptOut(t *testing.T) {
	zone := map[string]string{
		"example.": "NS SOA RRSIG", "w.example.": "", "*.w.example.": "MX RRSIG", "a.example.": "A RRSIG",
	}
	flagged, plain := nsec3Lines("example.", 0, "-", 1, zone), nsec3Lines("example.", 0, "-", 0, zone)
	runDenials(t, []denialCase{
		{"V-51 name error", "", flagged, "nxdomain b.example.", "Insecure"},
		{"V-51 DS", "", flagged, "nods b.example.", "Insecure, insecure cut"},
		{"V-51 the same without the flag", "", plain, "nods b.example.", "Secure, no cut below"},
		{"X-14 V-54 opt-out empty non-terminal", "", flagged, "nodata b.example. A", "Insecure"},
		{"V-54 the same without the flag", "", plain, "nodata b.example. A", "Bogus, EDE 12"},
		{"V-51 wildcard answer", "", flagged, "expansion b.w.example. 2", "Insecure"},
		{"V-51 wildcard NODATA", "", flagged, "nodata b.w.example. A", "Insecure"},
		{"V-51 wildcard at a DS question", "", flagged, "nods b.w.example.", "Insecure, insecure cut"},
		{"V-51 a match is no cover", "", flagged, "nodata a.example. MX", "Secure"},
		{"V-51 a matched name has no unsigned delegation", "", flagged, "nods a.example.", "Secure, no cut"},
	})
	// V-51, V-52: a cover alone, without the closest encloser, proves nothing.
	for i, line := range flagged {
		if got := askOf(t, denialCheck(), "nods b.w.example.", line); strings.HasPrefix(got, "Insecure") {
			t.Errorf("record %d alone: %s", i, got)
		}
	}
}

// RFC 5155 section 9.2: the flag over the next closer name counts, that over the wildcard does not.
func TestOptOutOfTheWildcardCover(t *testing.T) {
	c := denialCheck()
	h := func(name string) string {
		hash, _ := c.hashes.of(hashed{name: name})
		return strings.ToLower(base32.HexEncoding.EncodeToString([]byte(hash)))
	}
	around := func(name string, flags int) string {
		hash, _ := c.hashes.of(hashed{name: name})
		low, high := []byte(hash), []byte(hash)
		low[19]--
		high[19]++
		enc := base32.HexEncoding
		return fmt.Sprintf("%s.example. NSEC3 1 %d 0 - %s", enc.EncodeToString(low), flags, enc.EncodeToString(high))
	}
	apex := h("example.") + ".example. NSEC3 1 0 0 - " + h("example.") + " NS SOA RRSIG"
	apex = strings.Replace(apex, "- "+h("example."), "- "+h("example.")[:31]+"v", 1) // covers next to nothing
	runDenials(t, []denialCase{
		{"neither", "", []string{apex, around("b.example.", 0), around("*.example.", 0)},
			"nxdomain b.example.", "Secure"},
		{"the wildcard's", "", []string{apex, around("b.example.", 0), around("*.example.", 1)}, "nxdomain b.example.",
			"Secure"},
		{"the next closer's", "", []string{apex, around("b.example.", 1), around("*.example.", 0)},
			"nxdomain b.example.",
			"Insecure"},
	})
}

// V-58, V-59: records that are not in form are ignored, and if nothing else is left the denial is Bogus.
func TestNSEC3Form(t *testing.T) {
	good := nsec3Lines("example.", 0, "-", 0, map[string]string{"example.": "NS SOA RRSIG"})[0]
	with := func(old, new string) []string { return []string{strings.Replace(good, old, new, 1)} }
	owner := strings.Fields(good)[0]
	hash := strings.TrimSuffix(owner, ".example.")
	runDenials(t, []denialCase{
		{"good", "", []string{good}, "nxdomain b.example.", "Secure"},
		{"V-58 any case", "", with(owner, strings.ToUpper(owner)), "nxdomain b.example.", "Secure"},
		{"V-58 not directly below the apex", "", with(owner, hash+".b.example."),
			"nxdomain b.example.", "Bogus, EDE 6"},
		{"V-58 short hash", "", with(owner, hash[:24]+".example."), "nxdomain b.example.", "Bogus, EDE 6"},
		{"V-58 not base32hex", "", with(owner, "x"+hash[1:]+".example."), "nxdomain b.example.", "Bogus, EDE 6"},
		{"V-58 at the apex", "", with(owner, "example."), "nxdomain b.example.", "Bogus, EDE 6"},
		{"V-58 short next hash", "", with("- "+hash, "- "+hash[:24]), "nxdomain b.example.", "Bogus, EDE 6"},
		{"V-59 hash algorithm 2", "", with("NSEC3 1", "NSEC3 2"), "nxdomain b.example.", "Bogus, EDE 6"},
		{"V-59 flags 1", "", with("NSEC3 1 0", "NSEC3 1 1"), "nxdomain b.example.", "Insecure"},
		{"V-59 flags 2", "", with("NSEC3 1 0", "NSEC3 1 2"), "nxdomain b.example.", "Bogus, EDE 6"},
		{"V-59 flags 3", "", with("NSEC3 1 0", "NSEC3 1 3"), "nxdomain b.example.", "Bogus, EDE 6"},
		{"V-59 ignored beside a good one", "", append(with("NSEC3 1 0", "NSEC3 1 2"), good),
			"nxdomain b.example.", "Secure"},
		{"V-58 in the root zone", ".", nsec3Lines(".", 0, "-", 0, map[string]string{".": "NS SOA RRSIG"}),
			"nxdomain b.",
			"Secure"},
	})

	for name, spoil := range map[string]func(*RRset, *dns.NSEC3){
		"V-58 made from a wildcard":     func(s *RRset, _ *dns.NSEC3) { s.Sigs[0].Labels = 1 },
		"V-50f bit map out of order":    func(_ *RRset, rr *dns.NSEC3) { rr.TypeBitMap = []uint16{46, 2} },
		"V-50f bit map with doubles":    func(_ *RRset, rr *dns.NSEC3) { rr.TypeBitMap = []uint16{2, 2} },
		"a salt that cannot be read":    func(_ *RRset, rr *dns.NSEC3) { rr.Salt = "0g" },
		"X-13 V-58 signed by the child": func(s *RRset, _ *dns.NSEC3) { s.Sigs[0].SignerName = "b.example." },
	} {
		set := setsOf(t, "example.", good)[0]
		spoil(set, set.RRs[0].(*dns.NSEC3))
		if got, p := ask(denialCheck(), admitted("example.", set), "nxdomain b.example."); !strings.HasPrefix(got,
			"Bogus") {
			t.Errorf("%s: %s (%v)", name, got, p.cause)
		}
	}
}

// V-63: raw octets, the last record wraps, one record covers all but itself.
func TestNSEC3Cover(t *testing.T) {
	for _, tc := range []struct {
		owner, next, h string
		want           bool
	}{
		{"b", "d", "c", true}, {"b", "d", "b", false}, {"b", "d", "d", false}, {"b", "d", "a", false},
		{"b", "d", "e", false},
		{"x", "b", "z", true}, {"x", "b", "a", true}, {"x", "b", "x", false}, {"x", "b", "b", false},
		{"x", "b", "m", false},
		{"m", "m", "m", false}, {"m", "m", "a", true}, {"m", "m", "z", true}, {"\x7f", "\x81", "\x80", true},
	} {
		if got := (&nsec3{owner: tc.owner, next: tc.next}).covers(tc.h); got != tc.want {
			t.Errorf("%q to %q covers %q: %v", tc.owner, tc.next, tc.h, got)
		}
	}
}

// V-60, V-61: too many iterations make a denial Insecure with EDE 27, on every path, but never one that is proven
// without them; and they are never hashed with.
func TestNSEC3Iterations(t *testing.T) {
	zone := map[string]string{"example.": "NS SOA RRSIG", "a.example.": "A RRSIG", "u.example.": "NS"}
	at := func(n uint16) []string { return nsec3Lines("example.", n, "ab", 0, zone) }
	tail := ", EDE 27"
	runDenials(t, []denialCase{
		{"50", "", at(50), "nxdomain b.example.", "Secure"},
		{"51", "", at(51), "nxdomain b.example.", "Insecure" + tail},
		{"51 NODATA", "", at(51), "nodata a.example. MX", "Insecure" + tail},
		{"51 expansion", "", at(51), "expansion b.example. 1", "Insecure" + tail},
		{"X-13 65535 on the DS path", "", []string{
			"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. NSEC3 1 0 65535 ab 2t7b4g4vsa5smi47k61mv5bv1a22bojr NS"},
			"nods u.example.", "Insecure, insecure cut" + tail},
		{"X-13 V-60 added to a complete proof", "", slices.Concat(at(500), at(5)), "nxdomain b.example.", "Secure"},
		{"V-60 added to a complete NSEC proof", "", append(at(500), "example. NSEC example. NS SOA RRSIG NSEC"),
			"nxdomain b.example.", "Secure"},
		{"V-60 added to half a proof", "", slices.Concat(at(500), at(5)[:1]), "nxdomain b.example.", "Insecure" + tail},
		{"V-60 added to an opt-out proof", "", slices.Concat(at(500), nsec3Lines("example.", 1, "-", 1, zone)),
			"nxdomain b.example.", "Insecure"},
	})

	c := denialCheck()
	got, p := ask(c, admitted("example.", setsOf(t, "example.", at(51)...)...), "nods u.example.")
	if len(c.hashes.known) != 0 {
		t.Error("hashed with over-limit iterations")
	}
	if len(p.used) != 3 || p.ttl != 3600 || p.expires.IsZero() {
		t.Errorf("%s rests on %d records, TTL %d, until %v", got, len(p.used), p.ttl, p.expires)
	}
	c = denialCheck()
	c.Policy.NSEC3Iterations = 0
	if got := askOf(t, c, "nods u.example.", at(1)...); got != "Insecure, insecure cut"+tail {
		t.Errorf("limit 0, iterations 1: %s", got)
	}
}

// L-4, L-5, L-12: 100 hashes for one client query, each name once; then Indeterminate, never Insecure, not even beside
// an over-limit record or an opt-out cover.
func TestNSEC3HashBudget(t *testing.T) {
	zone := map[string]string{"example.": "NS SOA RRSIG"}
	deep := strings.Repeat("a.", 120) + "example."
	records := nsec3Lines("example.", 0, "-", 0, zone)
	c := denialCheck()
	got, p := ask(c, admitted("example.", setsOf(t, "example.", records...)...), "nxdomain "+deep)
	if got != "Indeterminate, EDE 0" || !errors.Is(p.cause, LimitError("nsec3_hashes")) {
		t.Fatalf("%s (%v), want a limit", got, p.cause)
	}
	if !strings.Contains(p.cause.Text, "100") || p.cause.Zone != "example." {
		t.Errorf("%+v names no zone or number", p.cause)
	}
	if got := askOf(t, c, "nxdomain b.example.", records...); got != "Indeterminate, EDE 0" {
		t.Errorf("with nothing left: %s", got)
	}
	if got := askOf(t, c, "nxdomain b.example."); got != "Bogus, EDE 12" {
		t.Errorf("a proof that asks for no hash when none is left: %s", got)
	}
	c = denialCheck()
	for range 200 {
		if got := askOf(t, c, "nxdomain a.b.example.", records...); got != "Secure" {
			t.Fatalf("the same question again: %s", got)
		}
	}
	if n := len(c.hashes.known); n != 3 { // b.example., example. and *.example.
		t.Errorf("%d names hashed, want 3", n)
	}
	over := nsec3Lines("example.", 500, "-", 0, zone)
	for name, more := range map[string][]string{"over-limit": over,
		"opt-out": nsec3Lines("example.", 1, "-", 1, zone)} {
		got := askOf(t, denialCheck(), "nods "+deep, slices.Concat(records, more)...)
		if !strings.HasPrefix(got, "Indeterminate") {
			t.Errorf("spent beside an %s record: %s", name, got)
		}
	}
	// A cover by opt-out is found, and the budget ends while a better proof is looked for.
	half := strings.Repeat("a.", 60) + "example."
	optOut, better := nsec3Lines("example.", 0, "-", 1, zone), nsec3Lines("example.", 1, "-", 0, zone)
	if got := askOf(t, denialCheck(), "nods "+half, optOut...); got != "Insecure, insecure cut" {
		t.Errorf("an opt-out cover alone: %s", got)
	}
	if got := askOf(t, denialCheck(), "nods "+half, slices.Concat(optOut, better)...); !strings.HasPrefix(got,
		"Indeterminate") {
		t.Errorf("spent after an opt-out cover: %s", got)
	}
	// The candidates end at the apex: labels of the apex are not hashed.
	c = denialCheck()
	lower := nsec3Lines("a.b.c.d.", 0, "-", 0, map[string]string{"x.a.b.c.d.": "A"})
	ask(c, admitted("a.b.c.d.", setsOf(t, "a.b.c.d.", lower...)...), "nxdomain y.a.b.c.d.")
	for h := range c.hashes.known {
		if !dns.IsSubDomain("a.b.c.d.", h.name) {
			t.Errorf("hashed %s, above the apex", h.name)
		}
	}
}

// L-4, V-61, C-9: aggressive use hashes as the judge does, and on the same account; it leaves half of the hashes to the
// judge, and hashes nothing beyond the iterations allowed.
func TestHashForAggressiveUse(t *testing.T) {
	c := denialCheck()
	hash, ok := c.Hash("a.example.", 12, "\xaa\xbb\xcc\xdd")
	if raw, _ := DecodeHash("35mthgpgcu1qg68fab165klnsnk3dpvl"); !ok || hash != raw {
		t.Errorf("a.example. has the hash %x", hash)
	}
	if hash, ok := c.Hash("a.example.", 51, ""); ok {
		t.Errorf("51 iterations: %x", hash)
	}
	if hashes := c.Work().Hashes; hashes != 1 {
		t.Errorf("%d hashes counted, want 1", hashes)
	}
	for i := range 200 {
		c.Hash(fmt.Sprintf("n%d.example.", i), 0, "")
	}
	if hashes := c.Work().Hashes; hashes != maxHashes/2 {
		t.Errorf("%d hashes, want half of %d", hashes, maxHashes)
	}
	records := nsec3Lines("example.", 0, "-", 0, map[string]string{"example.": "NS SOA RRSIG"})
	if got := askOf(t, c, "nxdomain b.example.", records...); got != "Secure" {
		t.Errorf("the judge has no hashes left: %s", got)
	}
}

// X-13, L-6: 500 NSEC3 in one denial are a limit; 16 of them are looked at.
func TestFiveHundredNSEC3(t *testing.T) {
	zone := map[string]string{"example.": "NS SOA RRSIG"}
	for i := range 499 {
		zone[fmt.Sprintf("n%d.example.", i)] = "A RRSIG"
	}
	e := admitted("example.", setsOf(t, "example.", nsec3Lines("example.", 50, "-", 0, zone)...)...)
	if n := len(e.nsec3[0].list); n != maxDenialRecords {
		t.Errorf("%d used", n)
	}
	got, p := ask(denialCheck(), e, "nxdomain b.example.")
	if got != "Indeterminate, EDE 0" || !errors.Is(p.cause, ErrLimit) {
		t.Errorf("%s (%v)", got, p.cause)
	}
}
