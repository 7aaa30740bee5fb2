package zones

import (
	"slices"

	"github.com/miekg/dns"
)

// deny runs a proof if the client wants one and the zone has one.
func (r *response) deny(proof func()) {
	if r.do && !r.zone.config.Unsigned {
		proof()
	}
}

// Proof returns the SOA and the records by which the zone denies that name is there or, if it is, that it has more than
// its bit map says. At or below a delegation such a proof is not the zone's to give: validators must not fall for it.
func (z *Zone) Proof(name string) []dns.RR {
	r := &response{zone: z, do: true, msg: new(dns.Msg)}
	r.soa()
	if name = dns.CanonicalName(name); z.exists(name) {
		r.deny(func() { r.nodata(name) })
	} else {
		r.deny(func() { r.nameError(name) })
	}
	return r.msg.Ns
}

// nodata proves that name, which exists, has no more than its bit map says.
func (r *response) nodata(name string) {
	switch z := r.zone; {
	case z.config.Compact:
		r.compact(name, z.types(name, dns.TypeNSEC, dns.TypeRRSIG))
	case z.config.NSEC3 == nil:
		r.cover(name)
	case z.matches(name):
		r.coverHash(name)
	default: // an unsigned delegation under opt-out, or what leads to such only
		r.closestEncloser(name)
	}
}

// wildcardNodata proves that name does not exist and what the wildcard that stands in for it has.
func (r *response) wildcardNodata(name, wild string) {
	switch z := r.zone; {
	case z.config.Compact:
		r.compact(name, z.types(wild, dns.TypeNSEC, dns.TypeRRSIG))
	case z.config.NSEC3 == nil:
		r.cover(name)
		r.cover(wild)
	default:
		r.closestEncloser(name)
		r.coverHash(wild)
	}
}

// nextCloser proves that name does not exist; the closest encloser is known from the Labels of a wildcard's signature.
func (r *response) nextCloser(name string) {
	switch z := r.zone; {
	case z.config.Compact:
	case z.config.NSEC3 == nil:
		r.cover(name)
	default:
		r.coverHash(below(z.encloser(name), name))
	}
}

// nameError proves that neither name nor a wildcard for it exists.
func (r *response) nameError(name string) {
	switch z := r.zone; {
	case z.config.Compact:
		r.msg.Rcode = dns.RcodeSuccess
		r.compact(name, []uint16{dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNXNAME})
	case z.config.NSEC3 == nil:
		r.cover(name)
		r.cover(child("*", z.encloser(name)))
	default:
		r.coverHash(child("*", r.closestEncloser(name)))
	}
}

// closestEncloser proves with NSEC3 that name does not exist but its closest provable encloser does, and returns that
// (RFC 5155 section 7.2.1).
func (r *response) closestEncloser(name string) string {
	encloser := parent(name)
	for !r.zone.matches(encloser) {
		encloser = parent(encloser)
	}
	r.coverHash(encloser)
	r.coverHash(below(encloser, name))
	return encloser
}

// cover adds the NSEC that matches or covers name.
func (r *response) cover(name string) { r.link(r.zone.at(canonicalOrder(name))) }

// coverHash adds the NSEC3 that matches or covers name.
func (r *response) coverHash(name string) { r.link(r.zone.at([]string{r.zone.hash(name)})) }

// matches says whether the chain has an NSEC3 for name.
func (z *Zone) matches(name string) bool {
	h := []string{z.hash(name)}
	return slices.Equal(z.at(h).place, h)
}

// at returns the link whose place is the given one, or that covers it.
func (z *Zone) at(place []string) link {
	i, exact := slices.BinarySearchFunc(z.chain, place,
		func(l link, p []string) int { return slices.Compare(l.place, p) })
	if exact {
		return z.chain[i]
	}
	return z.chain[(i-1+len(z.chain))%len(z.chain)] // before the first comes the last, which wraps around
}

// link adds a denial record to the authority section, once.
func (r *response) link(l link) {
	if !slices.Contains(r.linked, l.set) {
		r.linked = append(r.linked, l.set)
		r.put(&r.msg.Ns, l.set, l.owner)
	}
}

// compact signs an NSEC for name on the spot (RFC 9824).
func (r *response) compact(name string, types []uint16) {
	set := &rrset{rrs: []dns.RR{
		&dns.NSEC{Hdr: r.zone.header(name, dns.TypeNSEC), NextDomain: `\000.` + name, TypeBitMap: types},
	}}
	r.sign(set)
	r.put(&r.msg.Ns, set, name)
}
