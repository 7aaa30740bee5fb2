package differential

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// situation is a disagreement.
type situation struct {
	c                *Case
	q                Question
	truth            truth // but for the faults
	danelaw, unbound reply
	complaint        string // what is wrong; "" if nothing is
}

// Two disagreements are found by asking the question alone: then they are gone.
const (
	fromCache     = "from-cache"      // Unbound completes a reply from others that it has seen
	nameErrorKept = "name-error-kept" // danelaw knows from another question that the name does not exist
)

// known are the disagreements that are justified, by the names under which test/DISAGREEMENTS.md explains them.
var known = map[string]func(situation) bool{
	"sha1": func(s situation) bool {
		return s.danelawInsecure() && (slices.ContainsFunc(s.c.Zones, onlySHA1) || strings.Contains(s.danelaw.ede, "with algorithm 5 only"))
	},
	"soa-of-denial": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.broken(func(f Fault) bool { return f.Type == dns.TypeSOA && breakers[f.Kind].aim != nil })
	},
	"rcode-of-denial": func(s situation) bool {
		return s.danelawTrue() && s.unbound.rcode != s.truth.rcode && (s.has("rcode") || s.danelaw.ad && (s.has("other-proof") || s.has("foreign-proof")))
	},
	"alias-below-dname": func(s situation) bool {
		return s.danelawTrue() && (s.q.Type == dns.TypeCNAME || s.q.Type == dns.TypeDNAME) && !s.unbound.ad && s.truth.renamed()
	},
	"revoked": func(s situation) bool {
		return s.danelawFails() && strings.HasPrefix(s.danelaw.ede, "11 ") && !s.unboundFails() && s.has("revoked")
	},
	"iterations-above-empty-name": func(s situation) bool {
		return (s.danelaw.ad || s.danelawFails()) && s.unboundInsecure() && slices.ContainsFunc(s.c.Zones, s.c.skipsName)
	},
	"other-signatures": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && (s.has("garbage-rrsig") || s.has("parent-signed"))
	},
	"signed-above-insecure": func(s situation) bool {
		return s.danelawInsecure() && s.unbound.ad && s.has("parent-signed") && s.truth.status == dnssec.Insecure
	},
	"duplicate-alias": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.has("duplicate") && s.truth.renamed()
	},
	"apex-without-soa-bit": func(s situation) bool {
		return s.danelawTrue() && s.unboundInsecure() && s.broken(func(f Fault) bool { return f.Kind == "bitmap" && f.N>>8%6 == 3 })
	},
	"map-of-a-delegation": func(s situation) bool {
		return !s.danelaw.ad && s.broken(func(f Fault) bool { return f.Kind == "bitmap" && f.N>>8%6 == 2 })
	},
	"asterisk": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && strings.HasPrefix(s.q.Name, "*.")
	},
	"wildcard-alias-to-unsigned": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.truth.expanded && s.truth.status == dnssec.Insecure
	},
	"fault-above-empty-name": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.broken(func(f Fault) bool { return s.c.skipped(f.Zone) })
	},
	"two-aliases": func(s situation) bool {
		return !s.danelaw.ad && !s.unboundFails() &&
			s.broken(func(f Fault) bool { return f.Kind == "extra-in-set" && f.Type == dns.TypeCNAME })
	},
	"collated": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.has("collated")
	},
	"unproven-in-opt-out": func(s situation) bool {
		return s.danelawInsecure() && s.unboundFails() && len(s.c.Faults) > 0 && slices.ContainsFunc(s.c.Zones, func(z Zone) bool { return z.loose() })
	},
}

// names are those of all justified disagreements, sorted.
func names() []string {
	return slices.Sorted(slices.Values(slices.AppendSeq([]string{fromCache, nameErrorKept}, maps.Keys(known))))
}

// renamed reports whether a DNAME is in the answer.
func (t truth) renamed() bool { return strings.Contains(strings.Join(t.answer, "\n"), "\tdname\t") }

// onlySHA1 zones have signatures by SHA-1, and none that danelaw verifies by default.
func onlySHA1(z Zone) bool {
	sha1 := func(a uint8) bool { return a == dns.RSASHA1 || a == dns.RSASHA1NSEC3SHA1 }
	return slices.ContainsFunc(z.Algorithms, sha1) && !slices.ContainsFunc(z.Algorithms, supported)
}

func (s situation) danelawFails() bool { return s.danelaw.rcode == dns.RcodeServerFailure }
func (s situation) unboundFails() bool { return s.unbound.rcode == dns.RcodeServerFailure }

func (s situation) danelawInsecure() bool { return !s.danelaw.ad && !s.danelawFails() }
func (s situation) unboundInsecure() bool { return !s.unbound.ad && !s.unboundFails() }

// danelawTrue says that danelaw found what would be so without the faults.
func (s situation) danelawTrue() bool {
	ad := s.truth.status == dnssec.Secure && (s.q.DO || s.q.AD)
	return s.danelaw.rcode == s.truth.rcode && (s.danelaw.ad == ad || s.q.CD) && slices.Equal(s.danelaw.answer, s.truth.answer)
}

func (s situation) broken(how func(Fault) bool) bool { return slices.ContainsFunc(s.c.Faults, how) }

func (s situation) has(kind string) bool {
	return s.broken(func(f Fault) bool { return f.Kind == kind })
}

// skipsName reports whether there are empty names between a zone and the one above, of which that has NSEC3 of too many
// iterations.
func (c *Case) skipsName(z Zone) bool {
	above := c.above(z.Name)
	return above != nil && above.hashed() && above.Iterations > mostIterations && c.skipped(above.Name)
}

// skipped reports whether there are empty names between a zone and one that hangs from it.
func (c *Case) skipped(name string) bool {
	return slices.ContainsFunc(c.Zones, func(z Zone) bool {
		above := c.above(z.Name)
		return above != nil && above.Name == name && strings.Count(under("", z.Name), ".") > strings.Count(under("", name), ".")+1
	})
}

// explained returns the name of the known disagreement that s is; "" if it is none.
func explained(s situation) string {
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if known[name](s) {
			return name
		}
	}
	return ""
}

// TestDisagreements: each known disagreement has its line, and no line is without one.
func TestDisagreements(t *testing.T) {
	text, err := os.ReadFile("../DISAGREEMENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		lines = append(lines, m[1])
	}
	slices.Sort(lines)
	if !slices.Equal(lines, names()) {
		t.Errorf("DISAGREEMENTS.md explains %v, the test knows %v", lines, names())
	}
}
