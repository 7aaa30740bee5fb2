package dnssec

import (
	"slices"

	"github.com/miekg/dns"
)

// nsec is one validated NSEC of a zone (RFC 4034 section 4).
type nsec struct {
	record
	owner string // the wildcard itself if the record came by wildcard expansion (V-50e)
	next  string
}

// admitNSEC adds an NSEC to the evidence, or says what is wrong with it.
func (e *evidence) admitNSEC(rr *dns.NSEC, r record) string {
	next := Canonical(rr.NextDomain)
	switch {
	case !IsSubDomain(e.zone.Name, next): // V-50d
		return "names " + next + " as the next name, which is outside of the zone"
	case !ascending(r.types):
		return "has a type bit map out of order"
	}
	e.nsec = append(e.nsec, &nsec{r, signedOwner(r.set.Owner, r.sig), next})
	return ""
}

// signedOwner returns the owner that sig covers: the wildcard, if owner was made from one (RFC 4035 section 5.3.2).
func signedOwner(owner string, sig *dns.RRSIG) string {
	if labels := int(sig.Labels); labels < dns.CountLabel(owner) {
		return Wildcard(Ancestor(owner, labels))
	}
	return owner
}

// covers says that n shows that no record at name exists. The last NSEC points to the apex (V-50d) and covers all that
// sorts behind it.
func (n *nsec) covers(name, apex string) bool {
	return Compare(n.owner, name) < 0 && (n.next == apex || Compare(name, n.next) < 0) &&
		!(n.occludes(n.owner, apex) && IsSubDomain(n.owner, name))
}

// encloser returns the longest ancestor of name that its covering NSEC shows to exist: name itself, if the next name
// lies below it (V-47, V-48).
func (n *nsec) encloser(name string) string {
	return Ancestor(name, max(dns.CompareDomainName(name, n.owner), dns.CompareDomainName(name, n.next)))
}

// nsecChain is the denier of the NSEC of the zone named apex.
type nsecChain struct {
	apex string
	list []*nsec
}

func (ch nsecChain) nodes(name string) []finding {
	var found []finding
	for _, n := range ch.list {
		switch {
		case n.owner == name:
			found = append(found, finding{name: name, record: &n.record, used: []*record{&n.record}})
		case n.covers(name, ch.apex) && n.encloser(name) == name:
			found = append(found, finding{name: name, record: &record{}, used: []*record{&n.record}})
		}
	}
	return found
}

func (ch nsecChain) closestEnclosers(name string) []finding {
	var found []finding
	for _, n := range ch.list {
		if !n.covers(name, ch.apex) {
			continue
		}
		if encloser := n.encloser(name); encloser != name {
			found = append(found, finding{name: encloser, used: []*record{&n.record}})
		}
	}
	return found
}

func (ch nsecChain) coversNextCloser(name, encloser string) []finding {
	return slices.DeleteFunc(ch.closestEnclosers(name), func(e finding) bool { return e.name != encloser })
}
