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
		return s.danelawInsecure() && (s.passes(onlySHA1) || strings.Contains(s.danelaw.ede, "with algorithm 5 only"))
	},
	"soa-of-denial": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.broken(func(f Fault) bool { return f.Type == dns.TypeSOA && breakers[f.Kind].aim != nil })
	},
	"rcode-of-denial": func(s situation) bool {
		return s.danelawTrue() && s.unbound.rcode != s.truth.rcode && (s.has("rcode") ||
			s.truth.status == dnssec.Secure && (s.has("other-proof") || s.has("foreign-proof") || s.has("parent-proof")))
	},
	"alias-below-dname": func(s situation) bool {
		return s.danelawTrue() && (s.q.Type == dns.TypeCNAME || s.q.Type == dns.TypeDNAME) && !s.unbound.ad && s.truth.renamed()
	},
	"revoked": func(s situation) bool {
		return s.danelawFails() && strings.HasPrefix(s.danelaw.ede, "11 ") && !s.unboundFails() && s.has("revoked")
	},
	"iterations-above-empty-name": func(s situation) bool {
		return (s.danelaw.ad || s.danelawFails()) && s.unboundInsecure() && s.passes(s.c.skipsName)
	},
	"other-signatures": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && (s.has("garbage-rrsig") || s.has("parent-signed"))
	},
	"soa-signed-above": func(s situation) bool {
		return !s.danelaw.ad && !s.unboundFails() && s.broken(func(f Fault) bool { return f.Kind == "parent-signed" && f.Type == dns.TypeSOA })
	},
	"alias-without-end": func(s situation) bool {
		return !s.danelaw.ad && s.broken(func(f Fault) bool { return f.Kind == "extra" && f.N%5 == 4 })
	},
	"duplicate-alias": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.has("duplicate") && s.truth.renamed()
	},
	"soa-bit": func(s situation) bool {
		return (!s.danelaw.ad || s.danelawTrue()) && s.toggled(dns.TypeSOA)
	},
	"ds-bit": func(s situation) bool {
		return s.danelawFails() && s.unboundInsecure() && s.toggled(dns.TypeDS)
	},
	"dname-bit": func(s situation) bool {
		return s.danelawFails() && s.toggled(dns.TypeDNAME)
	},
	"alias-beside-ds": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.broken(func(f Fault) bool { return f.Kind == "extra" && f.N%5 == 4 })
	},
	"alias-in-one-reply": func(s situation) bool {
		return s.danelawTrue() && s.truth.status == dnssec.Secure && s.unboundFails() && strings.Contains(strings.Join(s.truth.answer, "\n"), "\tcname\t")
	},
	"map-of-a-delegation": func(s situation) bool {
		return (!s.danelaw.ad || s.danelawTrue()) && s.toggled(dns.TypeNS)
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
		return !s.danelaw.ad && s.broken(func(f Fault) bool {
			return f.Kind == "extra-in-set" && (f.Type == dns.TypeCNAME || f.Type == dns.TypeDNAME)
		})
	},
	"collated": func(s situation) bool {
		insecure := s.danelawInsecure() && s.truth.status == dnssec.Insecure
		return s.unboundFails() && (s.has("collated") && s.danelawTrue() || insecure && (s.has("parent-proof") || s.has("foreign-proof")))
	},
	"unproven-in-opt-out": func(s situation) bool {
		return s.danelawInsecure() && s.unboundFails() && len(s.c.Faults) > 0 && s.passes(func(z Zone) bool { return z.loose() })
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

// passes reports whether one of the zones that the question and its aliases lead through, or one above them, is so.
func (s situation) passes(is func(Zone) bool) bool {
	names := []string{s.q.Name}
	for _, line := range slices.Concat(s.truth.answer, s.danelaw.answer) {
		if fields := strings.Fields(line); fields[3] == "cname" {
			names = append(names, relative(sameTree, fields[4]))
		}
	}
	return slices.ContainsFunc(names, func(name string) bool {
		for z := s.c.inCharge(name, s.q.Type); z != nil; z = s.c.above(z.Name) {
			if is(*z) {
				return true
			}
		}
		return false
	})
}

// toggled reports whether the keys of a zone have signed a map that has the type although it should not, or the reverse. Questions
// for DS are asked on the way to any name.
func (s situation) toggled(t uint16) bool {
	return s.broken(func(f Fault) bool {
		return f.Kind == "bitmap" && (f.toggles(s.q.Type) == t || f.toggles(dns.TypeDS) == t)
	})
}

// skipsName reports whether there are empty names between a zone and the one above, of which that has NSEC3 of too many
// iterations.
func (c *Case) skipsName(z Zone) bool {
	above := c.above(z.Name)
	return above != nil && above.overLimit() && c.skipped(above.Name)
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
