package zones

import (
	"strings"

	"github.com/miekg/dns"
)

// Answer is the authoritative reply to q, with RRSIGs and denial records if do is set. A name at or below a delegation is
// answered with a referral, but for DS at the delegation itself.
func (z *Zone) Answer(q dns.Question, do bool) *dns.Msg {
	r := &response{zone: z, do: do, msg: new(dns.Msg)}
	r.msg.SetQuestion(q.Name, q.Qtype)
	r.msg.Response, r.msg.Authoritative = true, true
	r.msg.Question[0] = q
	r.answer(dns.CanonicalName(q.Name), q.Qtype)
	if z.Reply != nil {
		return z.Reply(q, r.msg)
	}
	return r.msg
}

// response is the reply being made.
type response struct {
	zone *Zone
	do   bool
	msg  *dns.Msg
}

// answer adds what the zone has for name, following aliases as far as they stay within it.
func (r *response) answer(name string, t uint16) {
	z := r.zone
	for range 16 {
		if !dns.IsSubDomain(z.Name, name) {
			return
		}
		if cut := z.cut(name); cut != "" && !(cut == name && t == dns.TypeDS) {
			r.refer(cut)
			return
		}
		target := ""
		switch dname := z.dname(name); {
		case dname != "":
			target = r.dname(name, dname, t)
		case z.exists(name):
			target = r.node(name, name, t)
		default:
			target = r.wildcard(name, t)
		}
		if target == "" {
			return
		}
		name = dns.CanonicalName(target)
	}
}

// put appends an RRset with its signatures to a section, under the given owner.
func (r *response) put(section *[]dns.RR, set *rrset, owner string) {
	for _, rr := range set.rrs {
		*section = append(*section, renamed(rr, owner))
	}
	if r.do {
		for _, sig := range set.sigs {
			*section = append(*section, renamed(sig, owner))
		}
	}
}

func renamed(rr dns.RR, owner string) dns.RR {
	rr = dns.Copy(rr)
	rr.Header().Name = owner
	return rr
}

// node answers from what owner has, under the name asked; it returns the target of an alias to be followed.
func (r *response) node(owner, name string, t uint16) (target string) {
	n := r.zone.nodes[owner]
	if t == dns.TypeANY && len(n) > 0 {
		for _, set := range n {
			r.put(&r.msg.Answer, set, name)
		}
		return ""
	}
	if set := n[t]; set != nil {
		r.put(&r.msg.Answer, set, name)
		return ""
	}
	if alias := n[dns.TypeCNAME]; alias != nil {
		r.put(&r.msg.Answer, alias, name)
		return alias.rrs[0].(*dns.CNAME).Target
	}
	r.soa()
	if owner == name {
		r.deny(func() { r.nodata(name) })
	} else {
		r.deny(func() { r.wildcardNodata(name, owner) })
	}
	return ""
}

// dname answers by the DNAME above name.
func (r *response) dname(name, owner string, t uint16) string {
	set := r.zone.set(owner, dns.TypeDNAME)
	r.put(&r.msg.Answer, set, owner)
	to := set.rrs[0].(*dns.DNAME)
	target := strings.TrimSuffix(name, owner) + to.Target
	if _, ok := dns.IsDomainName(target); !ok {
		r.msg.Rcode = dns.RcodeYXDomain
		return ""
	}
	r.msg.Answer = append(r.msg.Answer, &dns.CNAME{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: to.Hdr.Ttl}, Target: target,
	})
	if t == dns.TypeCNAME {
		return ""
	}
	return target
}

// wildcard answers for a name that does not exist: from the wildcard at its closest encloser, or with a name error.
func (r *response) wildcard(name string, t uint16) string {
	wild := "*." + r.zone.encloser(name)
	if r.zone.nodes[wild] == nil {
		r.msg.Rcode = dns.RcodeNameError
		r.soa()
		r.deny(func() { r.nameError(name) })
		return ""
	}
	n := r.zone.nodes[wild]
	if n[t] != nil || n[dns.TypeCNAME] != nil {
		r.deny(func() { r.nextCloser(name) })
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
	r.deny(func() { r.nodata(cut) })
}

func (r *response) soa() { r.put(&r.msg.Ns, r.zone.set(r.zone.Name, dns.TypeSOA), r.zone.Name) }

// deny runs a proof if the client wants one and the zone has one.
func (r *response) deny(proof func()) {
	if r.do && !r.zone.config.Unsigned {
		proof()
	}
}

// nodata proves that name, which exists, has no more than its bit map says.
func (r *response) nodata(name string) {
	switch z := r.zone; {
	case z.config.Compact:
		r.compact(name, z.types(name, dns.TypeNSEC, dns.TypeRRSIG))
	case z.config.NSEC3 == nil:
		r.link(z.at(canonicalOrder(name)))
	case z.matches(name):
		r.link(z.at(z.hash(name)))
	default: // an unsigned delegation under opt-out, or what leads to such only
		r.closestEncloser(name)
	}
}

// wildcardNodata proves that name does not exist and what the wildcard that stands in for it has.
func (r *response) wildcardNodata(name, wild string) {
	if r.zone.config.Compact {
		r.compact(name, r.zone.types(wild, dns.TypeNSEC, dns.TypeRRSIG))
		return
	}
	r.nextCloser(name)
	if r.zone.config.NSEC3 == nil {
		r.link(r.zone.at(canonicalOrder(wild)))
		return
	}
	r.closestEncloser(name)
	r.link(r.zone.at(r.zone.hash(wild)))
}

// nextCloser proves that name does not exist; the closest encloser is known from elsewhere.
func (r *response) nextCloser(name string) {
	z := r.zone
	switch {
	case z.config.Compact: // a made-up answer needs no proof: it is signed for the name itself
	case z.config.NSEC3 == nil:
		r.link(z.at(canonicalOrder(name)))
	default:
		r.link(z.at(z.hash(below(z.encloser(name), name))))
	}
}

// nameError proves that neither name nor a wildcard for it exists.
func (r *response) nameError(name string) {
	z := r.zone
	if z.config.Compact {
		r.msg.Rcode = dns.RcodeSuccess
		r.compact(name, []uint16{dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNXNAME})
		return
	}
	encloser := z.encloser(name)
	if z.config.NSEC3 == nil {
		r.link(z.at(canonicalOrder(name)))
		r.link(z.at(canonicalOrder("*." + encloser)))
		return
	}
	r.closestEncloser(name)
	r.link(z.at(z.hash("*." + encloser)))
}

// closestEncloser proves with NSEC3 that name does not exist but its closest provable encloser does (RFC 5155 section 7.2.1).
func (r *response) closestEncloser(name string) {
	z := r.zone
	encloser := name
	for encloser == name || !z.matches(encloser) {
		encloser = parent(encloser)
	}
	r.link(z.at(z.hash(encloser)))
	r.link(z.at(z.hash(below(encloser, name))))
}

// matches says whether the chain has an NSEC3 for name.
func (z *Zone) matches(name string) bool {
	h := z.hash(name)
	return z.at(h).place == h
}

// at returns the link whose place is the given one, or that covers it.
func (z *Zone) at(place string) link {
	found := z.chain[len(z.chain)-1] // the last wraps around
	for _, l := range z.chain {
		if l.place > place {
			break
		}
		found = l
	}
	return found
}

// link adds a denial record to the authority section, once.
func (r *response) link(l link) {
	t := dns.TypeNSEC
	if r.zone.config.NSEC3 != nil {
		t = dns.TypeNSEC3
	}
	for _, rr := range r.msg.Ns {
		if rr.Header().Rrtype == t && rr.Header().Name == l.owner {
			return
		}
	}
	if set := r.zone.set(l.owner, t); set != nil {
		r.put(&r.msg.Ns, set, l.owner)
	}
}

// compact signs an NSEC for name on the spot (RFC 9824).
func (r *response) compact(name string, types []uint16) {
	rrs := []dns.RR{&dns.NSEC{Hdr: r.zone.header(name, dns.TypeNSEC), NextDomain: `\000.` + name, TypeBitMap: types}}
	sigs, err := r.zone.signatures(rrs)
	if err != nil {
		r.msg.Rcode = dns.RcodeServerFailure
		return
	}
	r.put(&r.msg.Ns, &rrset{rrs, sigs}, name)
}

// below returns the name one label longer than ancestor on the way to name.
func below(ancestor, name string) string {
	for parent(name) != ancestor {
		name = parent(name)
	}
	return name
}
