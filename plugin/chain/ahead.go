package chain

import (
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// cutsAhead is how many unknown cuts below the deepest known zone are asked for on speculation: it must not become an
// amplifier (L-9).
const cutsAhead = 2

// Ahead asks for the links of the chain to the answer of q that are not known, at the same moment as for the answer. It
// only fills the account: what it asks can never change a verdict.
func (w *Walk) Ahead(q dns.Question) Guess {
	links, below := w.linksTo(q)
	w.speculate(links)
	return Guess{w, inCharge(q), below}
}

// Guess is that a zone begins on the way to a name, below the one that is known.
type Guess struct {
	walk        *Walk
	name, below string // below "": nothing was guessed
}

// Note notes, once the name's records are Secure or Insecure, whether that was so. In a flood of names that are made up
// it never is, and each would cost two questions more (L-9). What is noted already is not noted again.
func (g *Guess) Note() {
	if g.below == "" {
		return
	}
	became := paid
	if zone := g.walk.Known(g.name); zone != nil && zone.Name == g.below {
		became = inVain
	}
	g.walk.chain.Store.noteAhead(g.below, became)
	g.below = ""
}

// inCharge is the deepest name on the way to q's at which a zone may begin that answers it.
func inCharge(q dns.Question) string {
	return withoutUnderscore(dnssec.InCharge(q.Name, q.Qtype == dns.TypeDS))
}

// Likely returns the deepest name on the way to q's at which a zone is likely to begin, if nothing is known; "" where
// that cannot be told.
func Likely(q dns.Question) string {
	name := inCharge(q)
	if isReverse(name) {
		return ""
	}
	return name
}

// AheadTo does so for the zones that a reply rests on, all at once: the walk, which knows what the links say, asks for
// one after the other.
func (w *Walk) AheadTo(zones []string) {
	for _, zone := range zones {
		w.speculate(w.linksToZone(zone))
	}
}

// speculate asks for links as far as speculation may.
func (w *Walk) speculate(links []dns.Question) {
	for _, link := range links {
		if w.chain.Busy() || !w.account.Speculate(link) {
			return
		}
	}
}

// linksToZone lists the links on the way to a zone. Where a reply hints at its cut, that is asked for, with the first
// one on the way; what lies between, the signer of its DS will tell (V-6a).
func (v *view) linksToZone(zone string) (links []dns.Question) {
	_, at, ends := v.deepest(zone)
	switch {
	case ends || at == zone:
		return nil
	case v.likelyCut(at, zone) != zone:
		links, _ = v.linksTo(dnssec.Question(zone, dns.TypeA))
		return links
	}
	for _, cut := range slices.Compact([]string{zone, dnssec.Toward(at, zone)}) {
		links = append(links, dnssec.Question(cut, dns.TypeDS), dnssec.Question(cut, dns.TypeDNSKEY))
	}
	return links
}

// linksTo lists the links to the answer of q that are worth asking for, and names the zone above them, if one is known.
func (v *view) linksTo(q dns.Question) (links []dns.Question, below string) {
	name := inCharge(q)
	zone, at, ends := v.deepest(name)
	switch {
	case ends || isReverse(name):
		return nil, ""
	case zone == nil:
		links = append(links, dnssec.Question(at, dns.TypeDNSKEY)) // an anchor whose keys are not known yet
	case v.chain.Store.pays(zone.Name):
		below = zone.Name
	default:
		return nil, zone.Name
	}
	for range cutsAhead {
		if at == name {
			break
		}
		at = dnssec.Toward(at, name)
		links = append(links, dnssec.Question(at, dns.TypeDS), dnssec.Question(at, dns.TypeDNSKEY))
	}
	return links, below
}

// NoteSigners notes which zones sign names below their apex themselves: cuts are rare there. In registries' zones,
// where every name is a cut, they have at most one label.
func (c *Chain) NoteSigners(sets []*dnssec.RRset) {
	for _, set := range sets {
		for _, sig := range set.Sigs {
			signer := dnssec.Canonical(sig.SignerName)
			if set.Type != dns.TypeDS && signer != set.Owner && dnssec.IsSubDomain(signer, set.Owner) &&
				dns.CountLabel(signer) > 1 {
				c.Store.noteAhead(signer, hopeless)
			}
		}
	}
}

// withoutUnderscore returns the longest ancestor-or-self of name that has no label beginning with an underscore: nobody
// delegates at or below such labels.
func withoutUnderscore(name string) string {
	rest := name
	for at := range dnssec.Ancestors(name) {
		if strings.HasPrefix(at, "_") {
			rest = dnssec.Parent(at)
		}
	}
	return rest
}

// isReverse reports whether name is in the reverse trees, where cuts are not at every label.
func isReverse(name string) bool {
	return strings.HasSuffix(name, ".in-addr.arpa.") || strings.HasSuffix(name, ".ip6.arpa.")
}
