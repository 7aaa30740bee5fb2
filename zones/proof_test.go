package zones_test

import (
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// proof is a second opinion on denials: it knows nothing of how the lab makes them. All names are in lower case.
type proof struct {
	nsec  []*dns.NSEC
	nsec3 []*dns.NSEC3
}

func proofOf(rrs []dns.RR) proof {
	var p proof
	for _, rr := range rrs {
		switch rr := rr.(type) {
		case *dns.NSEC:
			p.nsec = append(p.nsec, rr)
		case *dns.NSEC3:
			p.nsec3 = append(p.nsec3, rr)
		}
	}
	return p
}

func (p proof) size() int { return len(p.nsec) + len(p.nsec3) }

// without returns the proof without its i-th record.
func (p proof) without(i int) proof {
	if i < len(p.nsec) {
		return proof{nsec: slices.Delete(slices.Clone(p.nsec), i, i+1)}
	}
	return proof{nsec3: slices.Delete(slices.Clone(p.nsec3), i, i+1)}
}

// compare is the canonical order of names (RFC 4034 section 6.1).
func compare(a, b string) int {
	return slices.Compare(octets(a), octets(b))
}

// octets are the labels of a name from the right, escapes resolved.
func octets(name string) []string {
	labels := dns.SplitDomainName(name)
	for i, label := range labels {
		for at := strings.IndexByte(label, '\\'); at >= 0 && at+3 < len(label); at = strings.IndexByte(label, '\\') {
			value, err := strconv.Atoi(label[at+1 : at+4])
			if err != nil {
				panic(err) // \. and the like: none in these tests but "b\.c", which sorts alike
			}
			label = label[:at] + string([]byte{byte(value)}) + label[at+4:]
		}
		labels[i] = label
	}
	slices.Reverse(labels)
	return labels
}

// covers finds a record that says that name does not exist as an owner.
func (p proof) covers(name string) bool {
	return p.coveringNSEC(name) != nil || p.coveringNSEC3(name) != nil
}

func (p proof) coveringNSEC(name string) *dns.NSEC {
	for _, n := range p.nsec {
		after, before := compare(n.Hdr.Name, name) < 0, compare(name, n.NextDomain) < 0
		if after && (before || compare(n.NextDomain, n.Hdr.Name) <= 0) {
			return n
		}
	}
	return nil
}

func (p proof) coveringNSEC3(name string) *dns.NSEC3 {
	for _, n := range p.nsec3 {
		if n.Cover(name) {
			return n
		}
	}
	return nil
}

// types returns the bit map of name.
func (p proof) types(name string) (types []uint16, ok bool) {
	for _, n := range p.nsec {
		if n.Hdr.Name == name {
			return n.TypeBitMap, true
		}
	}
	for _, n := range p.nsec3 {
		if n.Match(name) {
			return n.TypeBitMap, true
		}
	}
	return nil, false
}

// emptyNonTerminal says that name exists only by names below it (with NSEC3 such a name has a bit map like others).
func (p proof) emptyNonTerminal(name string) bool {
	n := p.coveringNSEC(name)
	return n != nil && dns.IsSubDomain(name, n.NextDomain)
}

// encloser returns the closest existing ancestor of name, and the name one label longer, if that does not exist.
func (p proof) encloser(name string) (encloser, nextCloser string, ok bool) {
	if n := p.coveringNSEC(name); n != nil {
		common := max(dns.CompareDomainName(name, n.Hdr.Name), dns.CompareDomainName(name, n.NextDomain))
		return suffix(name, common), suffix(name, common+1), !p.emptyNonTerminal(name)
	}
	for common := dns.CountLabel(name) - 1; common >= 0; common-- {
		if _, matched := p.types(suffix(name, common)); matched {
			encloser, nextCloser = suffix(name, common), suffix(name, common+1)
			return encloser, nextCloser, p.coveringNSEC3(nextCloser) != nil
		}
	}
	return "", "", false
}

func suffix(name string, labels int) string {
	all := dns.SplitDomainName(name)
	return dns.Fqdn(strings.Join(all[len(all)-labels:], "."))
}

// nameError says whether neither name nor a wildcard for it exists.
func (p proof) nameError(name string) bool {
	encloser, _, ok := p.encloser(name)
	return ok && p.covers(wildcard(encloser)) && !p.emptyNonTerminal(wildcard(encloser))
}

func wildcard(encloser string) string { return "*." + strings.TrimPrefix(encloser, ".") }

// nodata says whether name, or the wildcard that stands in for it, exists and has no t.
func (p proof) nodata(name string, t uint16) bool {
	denied := func(name string) bool {
		types, ok := p.types(name)
		return ok && !slices.Contains(types, t) && !slices.Contains(types, dns.TypeCNAME) || p.emptyNonTerminal(name)
	}
	if denied(name) {
		return true
	}
	encloser, _, ok := p.encloser(name)
	return ok && denied(wildcard(encloser))
}

// optOut says whether name may be an unsigned delegation, or lead to one, that has no NSEC3 (RFC 5155 section 6).
func (p proof) optOut(name string) bool {
	_, nextCloser, ok := p.encloser(name)
	return ok && len(p.nsec3) > 0 && p.coveringNSEC3(nextCloser).Flags == 1
}

// expansion says whether a name of which a wildcard of so many labels stands in for does not exist itself.
func (p proof) expansion(name string, labels int) bool {
	if n := p.coveringNSEC(name); n != nil {
		common := max(dns.CompareDomainName(name, n.Hdr.Name), dns.CompareDomainName(name, n.NextDomain))
		return common == labels
	}
	return p.coveringNSEC3(suffix(name, labels+1)) != nil
}
