package dnssec

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// Escaped dots and octets are no ends of labels.
func TestNamesAbove(t *testing.T) {
	for name, want := range map[string][]string{
		".":                  {"."},
		"a.":                 {"a.", "."},
		"a.b.c.":             {"a.b.c.", "b.c.", "c.", "."},
		`a\.b.c.`:            {`a\.b.c.`, "c.", "."},
		`a\\.b.`:             {`a\\.b.`, "b.", "."},
		`\000\046.x\..y.`:    {`\000\046.x\..y.`, `x\..y.`, "y.", "."},
		"*.example.":         {"*.example.", "example.", "."},
		"_25._tcp.mx.a.org.": {"_25._tcp.mx.a.org.", "_tcp.mx.a.org.", "mx.a.org.", "a.org.", "org.", "."},
	} {
		if got := slices.Collect(Ancestors(name)); !slices.Equal(got, want) {
			t.Errorf("Ancestors(%s) = %q, want %q", name, got, want)
		}
		if got := Parent(name); got != want[min(1, len(want)-1)] {
			t.Errorf("Parent(%s) = %s", name, got)
		}
		for i, above := range want {
			labels := len(want) - 1 - i
			if got := Ancestor(name, labels); got != above {
				t.Errorf("Ancestor(%s, %d) = %s, want %s", name, labels, got, above)
			}
			if i > 0 {
				if got := Toward(above, name); got != want[i-1] {
					t.Errorf("Toward(%s, %s) = %s, want %s", above, name, got, want[i-1])
				}
			}
		}
		if got := Ancestor(name, len(want)); got != name {
			t.Errorf("Ancestor(%s, %d) = %s, want all of it", name, len(want), got)
		}
	}
	for name := range Ancestors("a.b.c.") {
		if name == "b.c." {
			break
		}
		if name != "a.b.c." {
			t.Errorf("b.c. is not the second name from a.b.c. up, but behind %s", name)
		}
	}
}

func TestWildcard(t *testing.T) {
	for encloser, want := range map[string]string{".": "*.", "a.": "*.a.", "*.a.": "*.*.a."} {
		if got := Wildcard(encloser); got != want {
			t.Errorf("Wildcard(%s) = %s, want %s", encloser, got, want)
		}
	}
}

func TestFirstLabel(t *testing.T) {
	for name, want := range map[string]string{
		".": "", "a.": "a", "a.b.": "a", `a\.b.c.`: "a.b", `a\..c.`: "a.", `\000\255x.c.`: "\x00\xffx", `a\\.b.`: `a\`,
	} {
		if got := FirstLabel(name); got != want {
			t.Errorf("FirstLabel(%s) = %q, want %q", name, got, want)
		}
	}
}

// X-2, V-31: the order of names of RFC 4034 section 6.1.
func TestNameOrder(t *testing.T) {
	sorted := []string{"example.", "a.example.", "yljkjljk.a.example.", "Z.a.example.", "zABC.a.EXAMPLE.", "z.example.",
		"\\001.z.example.", "*.z.example.", "\\200.z.example."}
	for i, name := range sorted {
		sorted[i] = dns.CanonicalName(name)
	}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := Compare(a, b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("Compare(%s, %s) = %d", a, b, got)
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		shuffled := slices.Clone(sorted)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if slices.SortFunc(shuffled, Compare); !slices.Equal(shuffled, sorted) {
			t.Fatalf("sorted to %v", shuffled)
		}
	}
	for _, pair := range [][2]string{{".", "example."}, {".", "\\000."}, {"a\\.b.example.", "b.example."},
		{"a.", "aa."}} {
		if Compare(pair[0], pair[1]) >= 0 || Compare(pair[1], pair[0]) <= 0 {
			t.Errorf("%s does not sort before %s", pair[0], pair[1])
		}
	}
}

// V-17: the labels of an owner as the Labels field counts them, without the root and a leading asterisk.
func TestLabels(t *testing.T) {
	for owner, want := range map[string]int{
		".": 0, "example.": 1, "a.example.": 2, "*.example.": 1, "*.": 0, "a.*.example.": 3, "**.example.": 2,
		"\\*.example.": 2,
	} {
		if got := Labels(owner); got != want {
			t.Errorf("%s: %d, want %d", owner, got, want)
		}
	}
}

// What is told of names without splitting them is what the DNS library tells.
func TestNamesAsInLibrary(t *testing.T) {
	names := []string{".", "a.", "A.", "b.", "a.b.", "A.b.", "aa.b.", `a\.b.`, `a\\.b.`, `x.a\.b.`, `x.a\\.b.`,
		`\097.b.`, `x\...b.`, "x.a.b.", "X.a.B.", "xa.b.", "example.org.", "EXAMPLE.org.", "b.example.org.",
		"@.org.", "`.org.",
		"[.org.", "{.org.", "*.org.", "_25._tcp.mx.example.org.", "example.org", `a\.`, `a\\.`, "", "é.org.", "a..b."}
	for _, a := range names {
		if got, want := Canonical(a), dns.CanonicalName(a); got != want {
			t.Errorf("Canonical(%q) = %q, want %q", a, got, want)
		}
		if got, want := labels(nil, a), dns.Split(a); a != "" && !slices.Equal(got, want) {
			t.Errorf("labels(%q) = %v, want %v", a, got, want)
		}
		for _, b := range names {
			if !dns.IsFqdn(a) || !dns.IsFqdn(b) || a == "a..b." || b == "a..b." {
				continue
			}
			if got, want := IsSubDomain(a, b), dns.IsSubDomain(a, b); got != want {
				t.Errorf("IsSubDomain(%q, %q) = %v, want %v", a, b, got, want)
			}
		}
	}
}

// Only the letters of ASCII have a case (RFC 4343 section 3).
func TestEqualFold(t *testing.T) {
	for c := range 256 {
		for o := range 256 {
			a, b := byte(c), byte(o)
			letter := a|0x20 >= 'a' && a|0x20 <= 'z'
			if want := a == b || letter && a^b == 0x20; EqualFold([]byte{1, a}, []byte{1, b}) != want {
				t.Errorf("%q and %q: %v, want %v", a, b, !want, want)
			}
		}
	}
}
