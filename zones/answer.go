package zones

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxAliases bounds how many aliases of one zone an answer follows.
const maxAliases = 16

// Answer is the authoritative reply to q, with RRSIGs and denial records if do is set; nil where a fault makes it a
// SERVFAIL. A name at or below a delegation is answered with a referral, but for DS at the delegation itself. The reply
// is the caller's.
func (z *Zone) Answer(q dns.Question, do bool) *dns.Msg {
	m := z.respond(q, do)
	if z.Reply != nil {
		return z.Reply(q, m)
	}
	return m
}

// respond is Answer without faults of replies.
func (z *Zone) respond(q dns.Question, do bool) *dns.Msg {
	r := &response{zone: z, do: do, msg: new(dns.Msg)}
	r.msg.Response, r.msg.Authoritative = true, true
	r.msg.Question = []dns.Question{q}
	r.answer(dns.CanonicalName(q.Name), q.Qtype)
	return r.msg
}

// response is the reply being made.
type response struct {
	zone   *Zone
	do     bool
	msg    *dns.Msg
	linked []*rrset // denial records that msg has already
}

// answer adds what the zone has for name, following aliases as far as they stay within it.
func (r *response) answer(name string, t uint16) {
	seen := []string{}
	for name != "" && !slices.Contains(seen, name) && len(seen) < maxAliases && dns.IsSubDomain(r.zone.Name, name) {
		if cut := r.zone.cut(name); cut != "" && !(cut == name && t == dns.TypeDS) {
			if len(seen) == 0 {
				r.refer(cut)
			}
			return
		}
		seen = append(seen, name)
		name = r.step(name, t)
	}
}

// step adds what the zone has for one name; it returns the target of an alias to be followed.
func (r *response) step(name string, t uint16) (target string) {
	switch dname := r.zone.dname(name); {
	case dname != "":
		return r.dname(name, dname, t)
	case r.zone.exists(name):
		return r.node(name, name, t)
	default:
		return r.wildcard(name, t)
	}
}

// put appends an RRset with its signatures to a section, under the given owner.
func (r *response) put(section *[]dns.RR, set *rrset, owner string) {
	rrs := set.rrs
	if r.do {
		set.sign()
		rrs = slices.Concat(rrs, set.sigs)
	}
	for _, rr := range rrs {
		*section = append(*section, renamed(rr, owner))
	}
}

func renamed(rr dns.RR, owner string) dns.RR {
	rr = dns.Copy(rr)
	rr.Header().Name = owner
	return rr
}

// node answers from what owner has, under the name asked; it returns the target of an alias to be followed.
func (r *response) node(owner, name string, t uint16) (target string) {
	sets, alias := r.zone.nodes[owner].asked(t)
	for _, set := range sets {
		r.put(&r.msg.Answer, r.expanded(set, owner, name), name)
	}
	switch {
	case alias:
		return dns.CanonicalName(sets[0].rrs[0].(*dns.CNAME).Target)
	case len(sets) == 0:
		r.soa()
		r.nodata(name, owner)
	}
	return ""
}

// asked returns the sets that answer type t: those of the type, or a CNAME to be followed.
func (n node) asked(t uint16) (sets []*rrset, alias bool) {
	for has, set := range n {
		if t == dns.TypeRRSIG {
			set.sign()
		}
		switch {
		case t == dns.TypeANY || t == has:
			sets = append(sets, set)
		case t == dns.TypeRRSIG && len(set.sigs) > 0:
			sets = append(sets, &rrset{rrs: set.sigs})
		}
	}
	if cname := n[dns.TypeCNAME]; len(sets) == 0 && cname != nil {
		return []*rrset{cname}, true
	}
	return sets, false
}

// expanded is set as it stands in the answer for name: one made from a wildcard is signed as such, but with compact
// denial for name itself, so that it needs no proof that nothing closer exists.
func (r *response) expanded(set *rrset, owner, name string) *rrset {
	if owner == name || !r.zone.config.Compact {
		return set
	}
	own := &rrset{}
	for _, rr := range set.rrs {
		own.rrs = append(own.rrs, renamed(rr, name))
	}
	r.sign(own)
	return own
}

// sign signs a set made for this reply.
func (r *response) sign(set *rrset) {
	if err := r.zone.signSet(set); err != nil {
		r.msg.Rcode = dns.RcodeServerFailure
	}
}

// dname answers by the DNAME above name.
func (r *response) dname(name, owner string, t uint16) string {
	set := r.zone.set(owner, dns.TypeDNAME)
	r.put(&r.msg.Answer, set, owner)
	to := set.rrs[0].(*dns.DNAME)
	target := strings.TrimSuffix(name, owner) + strings.TrimPrefix(to.Target, ".")
	if _, ok := dns.IsDomainName(target); !ok {
		r.msg.Rcode = dns.RcodeYXDomain
		return ""
	}
	r.msg.Answer = append(r.msg.Answer, &dns.CNAME{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: to.Hdr.Ttl}, Target: target,
	})
	if t == dns.TypeCNAME || t == dns.TypeANY {
		return ""
	}
	return dns.CanonicalName(target)
}

// wildcard answers for a name that does not exist: from the wildcard at its closest encloser, or with a name error.
func (r *response) wildcard(name string, t uint16) string {
	wild := child("*", r.zone.encloser(name))
	if !r.zone.exists(wild) {
		r.msg.Rcode = dns.RcodeNameError
		r.soa()
		r.nameError(name)
		return ""
	}
	if sets, _ := r.zone.nodes[wild].asked(t); len(sets) > 0 {
		r.nextCloser(name)
	}
	return r.node(wild, name, t)
}

// refer makes a referral: NS of the cut, and DS or the proof that there is none.
func (r *response) refer(cut string) {
	r.msg.Authoritative = false
	r.put(&r.msg.Ns, r.zone.set(cut, dns.TypeNS), cut)
	if ds := r.zone.set(cut, dns.TypeDS); ds != nil {
		r.put(&r.msg.Ns, ds, cut)
		return
	}
	r.nodata(cut, cut)
}

// soa adds the SOA of a denial, whose TTL is that of the denial (RFC 2308 section 3).
func (r *response) soa() {
	first := len(r.msg.Ns)
	r.put(&r.msg.Ns, r.zone.set(r.zone.Name, dns.TypeSOA), r.zone.Name)
	for _, rr := range r.msg.Ns[first:] {
		rr.Header().Ttl = r.zone.negativeTTL()
	}
}

// Proof returns the SOA and the records by which the zone denies that name is there or, if it is, that it has more than
// its bit map says. At or below a delegation such a proof is not the zone's to give: validators must not fall for it.
func (z *Zone) Proof(name string) []dns.RR {
	r := &response{zone: z, do: true, msg: new(dns.Msg)}
	r.soa()
	if name = dns.CanonicalName(name); z.exists(name) {
		r.nodata(name, name)
	} else {
		r.nameError(name)
	}
	return r.msg.Ns
}

// proves reports whether the client wants proofs and the zone has them.
func (r *response) proves() bool { return r.do && !r.zone.config.Unsigned }

// nodata proves that name has no more than the bit map of owner says: its own, or, where name does not exist, that of
// the wildcard that stands in for it.
func (r *response) nodata(name, owner string) {
	switch z := r.zone; {
	case !r.proves():
	case z.config.Compact:
		r.compact(name, z.types(owner, dns.TypeNSEC, dns.TypeRRSIG))
	case z.config.NSEC3 == nil:
		r.cover(name)
		r.cover(owner)
	case owner != name:
		r.closestEncloser(name)
		r.coverHash(owner)
	case z.matches(name):
		r.coverHash(name)
	default: // an unsigned delegation under opt-out, or what leads to such only
		r.closestEncloser(name)
	}
}

// nextCloser proves that name does not exist; the closest encloser is known from the Labels of a wildcard's signature.
func (r *response) nextCloser(name string) {
	switch z := r.zone; {
	case !r.proves() || z.config.Compact:
	case z.config.NSEC3 == nil:
		r.cover(name)
	default:
		r.coverHash(below(z.encloser(name), name))
	}
}

// nameError proves that neither name nor a wildcard for it exists.
func (r *response) nameError(name string) {
	switch z := r.zone; {
	case !r.proves():
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
