package dnssec

import (
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/miekg/dns"
)

// Names are fully qualified and in presentation form (RFC 1035 section 5.1), as the DNS library has them: "\." is a dot
// within a label, "\DDD" an octet. Names that are compared are canonical ([dns.CanonicalName]).

// Question returns the question for name and type of class IN, the only one there is.
func Question(name string, qtype uint16) dns.Question {
	return dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
}

// Canonical returns the canonical form of a name, as [dns.CanonicalName] does: nearly all are in it.
func Canonical(name string) string {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' || c >= utf8.RuneSelf {
			return dns.CanonicalName(name)
		}
	}
	if n := len(name); n > 0 && name[n-1] == '.' && (n == 1 || name[n-2] != '\\') {
		return name
	}
	return dns.CanonicalName(name)
}

// IsSubDomain reports whether a name is another or lies below it, whatever the case of letters. It is that of the DNS
// library, which splits both.
func IsSubDomain(parent, name string) bool {
	if parent == "." {
		return true
	}
	cut := len(name) - len(parent)
	if cut < 0 || !EqualFold(parent, name[cut:]) {
		return false
	}
	return cut == 0 || name[cut-1] == '.' && !escaped(name, cut-1)
}

// EqualFold compares two names of one length, as text or uncompressed, whatever the case of letters, which only those
// of ASCII have in DNS (RFC 4343 section 3). Octets of length are below them all.
func EqualFold[T string | []byte](a, b T) bool {
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// escaped reports whether the octet at an offset of a name has an odd number of backslashes before it.
func escaped(name string, at int) bool {
	n := 0
	for n < at && name[at-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// Parent returns the name one label shorter. The root has no parent: it is returned itself.
func Parent(name string) string {
	if next, end := dns.NextLabel(name, 0); !end {
		return name[next:]
	}
	return "."
}

// Ancestors yields name and then each name above it, up to the root.
func Ancestors(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for yield(name) && name != "." {
			name = Parent(name)
		}
	}
}

// Ancestor returns the rightmost labels of name, so many: name itself if it has no more, the root for 0.
func Ancestor(name string, labels int) string {
	for n := dns.CountLabel(name); n > labels; n-- {
		name = Parent(name)
	}
	return name
}

// Toward returns the name one label longer than ancestor on the way down to name, which lies below ancestor. Of a
// closest encloser that is the next closer name (RFC 5155 section 1.3).
func Toward(ancestor, name string) string { return Ancestor(name, dns.CountLabel(ancestor)+1) }

// Wildcard returns the wildcard name at encloser (RFC 4592 section 2.1.1).
func Wildcard(encloser string) string { return "*." + strings.TrimPrefix(encloser, ".") }

// Labels returns how many labels an owner has as the Labels field of an RRSIG counts them: without the root and a
// leading asterisk (RFC 4034 section 3.1.3).
func Labels(owner string) int {
	labels := dns.CountLabel(owner)
	if strings.HasPrefix(owner, "*.") {
		labels--
	}
	return labels
}

// FirstLabel returns the octets of the first label of name, its escapes resolved; none for the root.
func FirstLabel(name string) string {
	next, _ := dns.NextLabel(name, 0)
	label := strings.TrimSuffix(name[:next], ".")
	if !strings.Contains(label, `\`) {
		return label
	}
	wire := wireName(label + ".")
	return string(wire[1:max(1, len(wire)-1)])
}

// Compare orders canonical names as zones do (V-31, RFC 4034 section 6.1): label by label from the right, an absent
// label first. It is negative if a sorts before b, 0 if they are the same.
func Compare(a, b string) int {
	var room [2][16]int
	as, bs := labels(room[0][:0], a), labels(room[1][:0], b)
	for i, j := len(as)-1, len(bs)-1; i >= 0 && j >= 0; i, j = i-1, j-1 {
		if c := strings.Compare(FirstLabel(a[as[i]:]), FirstLabel(b[bs[j]:])); c != 0 {
			return c
		}
	}
	return len(as) - len(bs)
}

// labels appends where the labels of a name begin, as [dns.Split] does.
func labels(to []int, name string) []int {
	if name == "." {
		return to
	}
	for at, end := 0, false; !end; {
		to = append(to, at)
		at, end = dns.NextLabel(name, at)
	}
	return to
}

// wireName returns a name in uncompressed wire form, in the case it has. What is no name gives the root.
func wireName(name string) []byte { return appendWireName(nil, name) }

// appendWireName appends it.
func appendWireName(b []byte, name string) []byte {
	b = slices.Grow(b, len(name)+2)
	n, err := dns.PackDomainName(name, b[:cap(b)], len(b), nil, false)
	if err != nil {
		return append(b, 0)
	}
	return b[:n]
}
