package differential

import (
	"cmp"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// situation is a question with all that is known of it, to judge whether a disagreement is explained.
type situation struct {
	c                          *Case
	q                          Question
	sound                      *tree // the tree built without faults
	truth                      truth // what holds in that tree
	danelaw, unbound, upstream reply
	complaint                  string // what is wrong; "" if nothing is
}

// Two kinds of disagreement depend on earlier questions: they are recognised by asking the question alone, when they do
// not occur.
const (
	fromCache     = "from-cache"      // Unbound completes a reply from earlier ones
	nameErrorKept = "name-error-kept" // danelaw knows from an earlier question that the name does not exist
)

// lost is the name under which replies are counted that did not come in time on this machine.
const lost = "lost"

// known are the predicates of justified disagreements, by the names under which test/DISAGREEMENTS.md explains them.
// None of them excuses AD on what is not true, unless the zone itself has signed it.
var known = map[string]func(situation) bool{
	"sha1": func(s situation) bool {
		return s.danelawInsecure() && (s.passes(onlySHA1) || strings.Contains(s.danelaw.ede, "with algorithm 5 "))
	},
	"soa-of-denial": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() &&
			s.broken(func(f Fault) bool { return f.Type == dns.TypeSOA && breakers[f.Kind].aim != nil })
	},
	"rcode-of-denial": func(s situation) bool {
		// the alias leads to a denial with a wrong RCODE
		spoilt := s.upstream.rcode != s.truth.rcode ||
			s.truth.aliased() && (s.has("rcode") || s.has("parent-proof") || s.has("other-proof"))
		return s.danelawTrue() && s.unbound.rcode != s.truth.rcode && spoilt
	},
	"alias-below-dname": func(s situation) bool {
		insecure := s.danelawInsecure() && s.unsupported()
		ends := (s.danelawTrue() || insecure) && !s.unbound.ad || s.q.Type == dns.TypeDNAME &&
			s.danelawFails() && !s.unboundFails()
		return ends && (s.q.Type == dns.TypeCNAME || s.q.Type == dns.TypeDNAME) && s.truth.renamed()
	},
	"proof-in-two-replies": func(s situation) bool {
		return s.danelawFails() && s.unbound.rcode == s.truth.rcode && s.truth.status == dnssec.Secure &&
			s.truth.aliased() && s.has("half-denial")
	},
	"revoked": func(s situation) bool {
		unchecked := s.q.CD && !s.danelaw.ad && s.danelaw.rcode == s.upstream.rcode
		return (s.danelawFails() || unchecked) && strings.HasPrefix(s.danelaw.ede, "11 ") &&
			!s.unboundFails() && s.has("revoked")
	},
	"iterations-above-empty-name": func(s situation) bool {
		return (s.danelawTrue() || s.danelawFails() || s.signedFalsely()) && s.unboundInsecure() &&
			s.passes(s.c.skipsName)
	},
	"iterations-of-another-zone": func(s situation) bool {
		told := s.danelawInsecure() && strings.Contains(s.danelaw.ede, "27 ")
		return told && s.unboundFails() && s.passes(Zone.overLimit) && s.broken(func(f Fault) bool {
			return f.Kind == "parent-proof" || f.Kind == "foreign-proof" || f.Kind == "collated"
		})
	},
	"denial-from-above": func(s situation) bool {
		told := strings.HasPrefix(s.danelaw.ede, "12 ") && strings.Contains(s.danelaw.ede, " DS does not exist")
		return told && s.danelawFails() && s.unboundInsecure() && s.passes(Zone.overLimit) &&
			s.broken(func(f Fault) bool { return f.Kind == "parent-proof" && f.spoils(dns.TypeDS) })
	},
	"cut-beside-broken-ds": func(s situation) bool {
		return s.danelawFails() && s.unboundInsecure() && s.has("parent-proof") && s.has("child-ds")
	},
	"other-signatures": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && (s.has("garbage-rrsig") || s.broken(Fault.besideOwn) ||
			s.q.Type == dns.TypeANY && s.has("parent-signed"))
	},
	"soa-signed-above": func(s situation) bool {
		return !s.danelaw.ad && !s.unboundFails() && s.q.Type == dns.TypeSOA && s.broken(func(f Fault) bool {
			own := f.besideOwn() && s.c.status(f.Zone) == dnssec.Secure && !s.broken(func(other Fault) bool {
				return other.breaksKeys() && inside(other.Zone, f.Zone)
			})
			return f.Kind == "parent-signed" && f.Type == dns.TypeSOA && !own
		})
	},
	"alias-without-end": func(s situation) bool {
		return s.danelawInsecure() && s.broken(Fault.addsAlias) &&
			strings.Contains(strings.Join(s.danelaw.answer, "\n"), "\tcname\textra.")
	},
	"duplicate-alias": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.has("duplicate") && s.truth.renamed()
	},
	"soa-bit": func(s situation) bool {
		return (s.danelawTrue() || s.danelawFails()) && s.toggled(dns.TypeSOA)
	},
	"ds-bit": func(s situation) bool {
		return s.danelawFails() && s.unboundInsecure() && s.toggled(dns.TypeDS)
	},
	"cname-bit": func(s situation) bool {
		return s.danelawFails() && s.unboundInsecure() && s.toggled(dns.TypeCNAME)
	},
	"dname-bit": func(s situation) bool {
		return s.danelawFails() && s.toggled(dns.TypeDNAME)
	},
	"alias-beside-ds": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.broken(func(f Fault) bool {
			return f.addsAlias() && (f.spoils(dns.TypeDS) || f.spoils(dns.TypeDNSKEY))
		})
	},
	"alias-beside-data": func(s situation) bool {
		signed := s.truth.status == dnssec.Secure && s.danelawFails() && s.unboundInsecure() &&
			s.passes(Zone.provesLess)
		unsigned := s.truth.status == dnssec.Insecure && s.danelawTrue()
		return (signed || unsigned) && s.broken(Fault.addsAlias) && len(s.truth.answer) > 0
	},
	"alias-in-one-reply": func(s situation) bool {
		return s.danelawTrue() && s.truth.status == dnssec.Secure && s.unboundFails() && s.truth.aliased() &&
			s.broken(Fault.ofReplies)
	},
	"signatures-asked": func(s situation) bool {
		apart := s.danelawFails() && s.unboundInsecure() || s.danelawInsecure() && s.unboundFails()
		return apart && s.q.Type == dns.TypeRRSIG && len(s.c.Faults) > 0
	},
	"map-of-a-delegation": func(s situation) bool {
		ds := s.q.Type == dns.TypeDS && s.unbound.ad
		other := s.danelawInsecure() && (s.unboundFails() || ds) || s.danelawFails() && (s.unboundInsecure() || ds)
		return (other || s.danelawTrue()) && s.toggled(dns.TypeNS)
	},
	"alias-lost": func(s situation) bool {
		return s.danelawFails() && !s.unboundFails() && s.truth.aliased() && s.truth.expanded &&
			s.broken(func(f Fault) bool {
				return f.Kind == "no-answer" && f.spoils(s.q.Type)
			})
	},
	"any-denied": func(s situation) bool {
		lies := len(s.truth.answer) > 0 || s.broken(func(f Fault) bool {
			return f.Kind == "bitmap" && inside(cmp.Or(f.Owner, f.Zone), s.q.Name)
		})
		return s.q.Type == dns.TypeANY && s.danelawFails() && !s.unboundFails() && len(s.upstream.answer) == 0 && lies
	},
	"data-with-name-error": func(s situation) bool {
		return s.danelawInsecure() && s.danelaw.rcode == dns.RcodeSuccess && s.upstream.rcode == dns.RcodeNameError &&
			len(s.upstream.answer) > 0 && slices.Equal(s.danelaw.answer, s.upstream.answer)
	},
	"labels-below-signer": func(s situation) bool {
		told := strings.Contains(s.danelaw.ede, "fewer than its signer")
		return s.danelawFails() && told && !s.unboundFails() && s.q.Type == dns.TypeANY && s.truth.expanded &&
			s.has("labels-signed")
	},
	"asterisk": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && strings.HasPrefix(s.q.Name, "*.") && s.truth.expanded
	},
	"wildcard-alias-to-bogus": func(s situation) bool {
		return s.danelawFails() && s.unboundInsecure() && s.truth.aliased() && s.truth.expanded &&
			s.passes(Zone.provesLess) &&
			s.broken(func(f Fault) bool { return !inside(f.Zone, s.q.Name) })
	},
	"shuffled-denial": func(s situation) bool {
		of := s.q.Type == dns.TypeANY || s.q.Type == dns.TypeRRSIG
		return s.danelawTrue() && s.unboundFails() && of && len(s.truth.answer) == 0 && s.has("shuffle")
	},
	"whole-beside-broken": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.has("mixed-whole") && len(s.c.Faults) > 1
	},
	"wildcard-beside": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && len(s.truth.answer) == 0 && s.broken(func(f Fault) bool {
			z := s.c.zone(f.Zone)
			wild := slices.ContainsFunc(z.Records, func(r string) bool { return strings.HasPrefix(r, "* ") })
			return f.Kind == "other-proof" && z.Denial == "nsec" && wild
		})
	},
	"wildcard-alias-to-unsigned": func(s situation) bool {
		return s.danelawTrue() && s.unboundFails() && s.truth.expanded && s.truth.status == dnssec.Insecure
	},
	"fault-above-empty-name": func(s situation) bool {
		return (s.danelawTrue() || s.handedOn()) && s.unboundFails() && s.broken(func(f Fault) bool {
			return f.spoils(dns.TypeDS) && s.passes(func(z Zone) bool { return s.c.hangsBelowEmptyName(z, f.Zone) })
		})
	},
	"two-aliases": func(s situation) bool {
		return s.broken(func(f Fault) bool {
			secure := s.c.status(f.Zone) == dnssec.Secure
			second := f.Kind == "extra-in-set" && (f.Type == dns.TypeCNAME || f.Type == dns.TypeDNAME) ||
				f.addsAlias() && s.truth.aliased() // beside that of the zone, or of a DNAME
			fails := s.danelawFails() || s.q.CD && !s.danelaw.ad
			return second && (secure && fails || (!secure || s.mayBeUnsigned()) && s.danelawInsecure())
		})
	},
	"collated": func(s situation) bool {
		insecure := s.danelawInsecure() && (s.truth.status == dnssec.Insecure || s.unsupported())
		return s.unboundFails() && (s.has("collated") && s.danelawTrue() || insecure &&
			(s.has("parent-proof") || s.has("foreign-proof")))
	},
	"held-proof": func(s situation) bool {
		held := strings.Contains(s.danelaw.ede, "29 ") || strings.Contains(s.q.Name, "_tcp.")
		return s.heldLie() || s.danelawTrue() && s.truth.status == dnssec.Secure && !s.unbound.ad && held &&
			len(s.c.Faults) > 0
	},
	"unproven-in-opt-out": func(s situation) bool {
		overLimit := strings.Contains(s.danelaw.ede, "27 ") && s.passes(Zone.overLimit) // what any NSEC3 of it denies
		return s.danelawInsecure() && s.unboundFails() && len(s.c.Faults) > 0 && (overLimit || s.mayBeUnsigned())
	},
}

// names returns the names of all justified disagreements, sorted.
func names() []string {
	return slices.Sorted(slices.Values(slices.AppendSeq([]string{fromCache, nameErrorKept}, maps.Keys(known))))
}

// renamed reports whether the answer has a DNAME.
func (t truth) renamed() bool { return strings.Contains(strings.Join(t.answer, "\n"), "\tdname\t") }

// aliased reports whether the answer has a CNAME.
func (t truth) aliased() bool { return strings.Contains(strings.Join(t.answer, "\n"), "\tcname\t") }

// besideOwn reports whether the fault keeps the zone's own signatures beside the one by the zone above.
func (f Fault) besideOwn() bool { return f.Kind == "parent-signed" && f.N%2 == 0 }

// breaksKeys reports whether a fault may leave a zone without a valid key.
func (f Fault) breaksKeys() bool {
	aboutKeys := f.Type == dns.TypeDS || f.Type == dns.TypeDNSKEY || f.Type == 0 && f.ofReplies()
	return aboutKeys || breakers[f.Kind].plan != nil
}

// addsAlias reports whether the fault adds an unsigned CNAME to replies.
func (f Fault) addsAlias() bool { return f.Kind == "extra" && f.N%5 == 4 }

// spoils reports whether the fault may change replies to questions for the type.
func (f Fault) spoils(t uint16) bool { return f.Type == 0 || f.Type == t }

// ofReplies reports whether the fault is one of replies and not of the records in the zone: it may change one reply and
// spare another with the same records.
func (f Fault) ofReplies() bool {
	b := breakers[f.Kind]
	return b.apply != nil && (b.aim == nil || f.Kind == "child-proof" || f.Kind == "child-ds")
}

// onlySHA1 reports whether the zone is signed with SHA-1, and by no algorithm that danelaw verifies by default.
func onlySHA1(z Zone) bool {
	sha1 := func(a uint8) bool { return a == dns.RSASHA1 || a == dns.RSASHA1NSEC3SHA1 }
	return slices.ContainsFunc(z.Algorithms, sha1) && !slices.ContainsFunc(z.Algorithms, supported)
}

func (s situation) danelawFails() bool { return s.danelaw.rcode == dns.RcodeServerFailure }
func (s situation) unboundFails() bool { return s.unbound.rcode == dns.RcodeServerFailure }

func (s situation) danelawInsecure() bool { return !s.danelaw.ad && !s.danelawFails() }
func (s situation) unboundInsecure() bool { return !s.unbound.ad && !s.unboundFails() }

// danelawTrue reports whether danelaw's reply is the one that would be right without the faults.
func (s situation) danelawTrue() bool {
	ad := s.truth.status == dnssec.Secure && (s.q.DO || s.q.AD)
	return s.danelaw.rcode == s.truth.rcode && (s.danelaw.ad == ad || s.q.CD && !s.danelaw.ad) &&
		slices.Equal(s.danelaw.answer, s.truth.answer)
}

// handedOn reports whether danelaw passes on the upstream's reply as Insecure, where the tree without faults is
// Insecure too.
func (s situation) handedOn() bool {
	return s.danelawInsecure() && s.truth.status == dnssec.Insecure && s.danelaw.rcode == s.upstream.rcode &&
		slices.Equal(s.danelaw.answer, s.upstream.answer)
}

func (s situation) broken(how func(Fault) bool) bool { return slices.ContainsFunc(s.c.Faults, how) }

func (s situation) has(kind string) bool {
	return s.broken(func(f Fault) bool { return f.Kind == kind })
}

// names returns the name asked and the targets of its aliases.
func (s situation) names() []string {
	names := []string{s.q.Name}
	for _, line := range slices.Concat(s.truth.answer, s.danelaw.answer) {
		if fields := strings.Fields(line); fields[3] == "cname" {
			names = append(names, relative(sameTree, fields[4]))
		}
	}
	return names
}

// passes reports whether the predicate holds for a zone of the name asked or of a target of its aliases, or for a zone
// above one of those.
func (s situation) passes(is func(Zone) bool) bool {
	return slices.ContainsFunc(s.names(), func(name string) bool {
		for z := s.c.inCharge(name, s.q.Type); z != nil; z = s.c.above(z.Name) {
			if is(*z) {
				return true
			}
		}
		return false
	})
}

// mayBeUnsigned reports whether there may be an unsigned delegation at or above the name asked or a target of its
// aliases, by what a Secure zone answers for DS.
func (s situation) mayBeUnsigned() bool {
	return slices.ContainsFunc(s.names(), func(name string) bool {
		for ; name != top; name = above(name) {
			z := s.c.inCharge(name, dns.TypeDS)
			if s.c.status(z.Name) == dnssec.Secure &&
				s.c.truth(s.sound, Question{Name: name, Type: dns.TypeDS}).status == dnssec.Insecure {
				return true
			}
		}
		return false
	})
}

// above returns the relative name without its first label.
func above(name string) string {
	_, rest, found := strings.Cut(name, ".")
	if !found {
		return top
	}
	return rest
}

// toggled reports whether a zone that the question passes has signed a bit map in which the bit of the type is wrong.
// The map may be in a reply to the question or in one to a question for DS, which is asked on the way to any name.
func (s situation) toggled(t uint16) bool {
	return s.broken(func(f Fault) bool {
		asked := func(q uint16) bool { return f.spoils(q) && f.toggles(q) == t }
		return f.Kind == "bitmap" && (asked(s.q.Type) || asked(dns.TypeDS)) &&
			s.passes(func(z Zone) bool { return z.Name == f.Zone })
	})
}

// unsupported reports whether a fault gave the DS of a zone that the question passes an unsupported algorithm, which
// makes the zone count as unsigned (V-36).
func (s situation) unsupported() bool {
	return strings.HasPrefix(s.danelaw.ede, "1 ") && s.broken(func(f Fault) bool {
		return f.Kind == "ds-algorithm" && s.passes(func(z Zone) bool { return z.Name == f.Zone })
	})
}

// heldLie reports whether danelaw answers from records in its cache, of a zone that has signed a false bit map.
func (s situation) heldLie() bool {
	return strings.Contains(s.danelaw.ede, "29 ") && s.broken(func(f Fault) bool {
		return f.Kind == "bitmap" && s.passes(func(z Zone) bool { return z.Name == f.Zone })
	})
}

// signedFalsely reports whether danelaw's reply is Secure and has the true data, signed by the zone above (V-7).
func (s situation) signedFalsely() bool {
	return s.danelaw.ad && s.has("parent-signed") && s.danelaw.rcode == s.truth.rcode &&
		slices.Equal(s.danelaw.answer, s.truth.answer)
}

// skipsName reports whether a zone lies more than one label below the zone above it, which has NSEC3 of too many
// iterations.
func (c *Case) skipsName(z Zone) bool {
	parent := c.above(z.Name)
	return parent != nil && parent.overLimit() && c.hangsBelowEmptyName(z, parent.Name)
}

// hangsBelowEmptyName reports whether a zone lies more than one label below the zone of that name, which is the one
// above it: there are empty non-terminals between the two.
func (c *Case) hangsBelowEmptyName(z Zone, from string) bool {
	parent := c.above(z.Name)
	return parent != nil && parent.Name == from &&
		strings.Count(under("", z.Name), ".") > strings.Count(under("", from), ".")+1
}

// explained returns the name of the known disagreement that explains s, or "" if none does.
func explained(s situation) string {
	if s.danelaw.ad && !s.danelawTrue() && !s.heldLie() && !s.signedFalsely() {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if known[name](s) {
			return name
		}
	}
	return ""
}

// TestDisagreements: test/DISAGREEMENTS.md has a line for each known disagreement, and no other lines.
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
