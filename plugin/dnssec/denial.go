package dnssec

import (
	"cmp"
	"slices"

	"github.com/miekg/dns"
)

// denied judges that the reply has nothing for the last name of the chain: by the proofs of the zones that signed its
// denial records, else by the walk to the name (V-50h). After an alias a reply that does not speak of the target at all
// is not a denial: the question is asked on (V-64, V-65).
func (j *judgement) denied(name string) {
	if j.aliased() && !j.speaksOf(name) {
		j.v.Next = name
		return
	}
	d, pending := j.disproof(name)
	if pending {
		return
	}
	if d.status > Bogus {
		j.deny(name, d)
		return
	}
	if d.cause.Limit() {
		j.fail(Indeterminate, d.cause)
		return
	}
	walked := j.byWalk(InCharge(name, j.qtype == dns.TypeDS), d.cause, func(z *Zone) *Failure {
		return cmp.Or(j.nodata(j.gather(z, j.reply.Authority), name, j.qtype).cause, tooManySigners(z.Name, name))
	})
	switch {
	case walked.pending:
	case walked.status == Insecure:
		j.deny(name, denial{proof: proof{status: Insecure}, rcode: j.reply.Rcode})
		j.v.Expires = Earlier(j.v.Expires, walked.expires)
		j.note(walked.notes)
	case j.aliased() && walked.reply:
		j.v.Next = name
	default:
		j.fail(walked.status, walked.cause)
	}
}

// tooManySigners is the complaint about a reply whose proof was not looked at, as more zones said they had signed it.
func tooManySigners(zone, name string) *Failure {
	return Failure{Code: dns.ExtendedErrorCodeDNSBogus, Zone: zone, Owner: name, Type: dns.TypeNSEC}.Says(
		"%s: its denial comes with signatures of more than %d zones below %s", name, maxSigners-1, zone)
}

// speaksOf says whether the authority section has a SOA or denial records of a zone that has a say about name.
func (j *judgement) speaksOf(name string) bool {
	return slices.ContainsFunc(j.reply.Authority, func(s *RRset) bool {
		return s.Type == dns.TypeSOA && j.hasSay(s.Owner, name)
	}) || len(j.denialSigners(name)) > 0
}

// hasSay says whether a zone may deny what is asked for at name: of DS only zones strictly above have a say, but for
// the root's (V-8, V-9).
func (j *judgement) hasSay(zone, name string) bool {
	return IsSubDomain(zone, name) && (j.qtype != dns.TypeDS || zone != name || name == ".")
}

// denialSigners returns the signers of the denial records whose zones have a say about name, deepest first.
func (j *judgement) denialSigners(name string) []string {
	anchor := j.zones.Anchor(InCharge(name, j.qtype == dns.TypeDS))
	var signers []string
	for _, set := range j.reply.Authority {
		if set.Type != dns.TypeNSEC && set.Type != dns.TypeNSEC3 {
			continue
		}
		for _, signer := range signersOf(set, set.Sigs, anchor) {
			if j.hasSay(signer, name) {
				signers = append(signers, signer)
			}
		}
	}
	return deepestFirst(signers)
}

// denial is a proof with the RCODE that it proves.
type denial struct {
	proof
	rcode int
	zone  *Zone
}

// disproof tries the proofs of every zone that signed denial records. What is proven decides about the RCODE, not the
// reply's (V-48a). Where both may be, as below an opt-out cover, which proves neither, the reply's is kept.
func (j *judgement) disproof(name string) (denial, bool) {
	signers := j.denialSigners(name)
	zones, pending := j.zonesAt(signers)
	if pending {
		return denial{}, true
	}
	best := denial{proof: proof{status: Bogus}}
	claims := [...]int{dns.RcodeSuccess, dns.RcodeNameError} // the reply's goes first
	if j.reply.Rcode == dns.RcodeNameError {
		slices.Reverse(claims[:])
	}
	for i, z := range zones {
		if z.Status != Secure || z.Name != signers[i] {
			continue
		}
		e := j.gather(z, j.reply.Authority)
		j.showDelegation(e, name)
		for _, rcode := range claims {
			if best.status == Secure {
				break // nothing is better
			}
			if d := j.absence(e, name, rcode); d.betterThan(best) {
				best = d
			}
		}
	}
	if best.status == Insecure {
		best.rcode = j.reply.Rcode
	}
	return best, false
}

// absence tries to prove that name does not exist, or that it does without the type asked for.
func (j *judgement) absence(e *evidence, name string, rcode int) denial {
	if rcode == dns.RcodeNameError {
		return denial{j.nameError(e, name), rcode, e.zone}
	}
	return denial{j.nodata(e, name, j.qtype), rcode, e.zone}
}

// showDelegation shows the unsigned delegation on the way to name that evidence proves: the denial of an unsigned zone
// may come with the records of the zone above by which it was referred to (V-50h).
func (j *judgement) showDelegation(e *evidence, name string) {
	for _, soa := range setsOver(j.reply.Authority, dns.TypeSOA, InCharge(name, j.qtype == dns.TypeDS)) {
		if soa.Owner == e.zone.Name || !IsSubDomain(e.zone.Name, soa.Owner) {
			continue
		}
		if d := j.undelegated(e, soa.Owner, j.reply); d.Cut == InsecureCut {
			j.shown = append(j.shown, Shown{e.zone, d})
		}
	}
}

// betterThan says whether d counts rather than best: what is proven best, else a limit, else the first complaint.
func (d denial) betterThan(best denial) bool {
	if d.status > Bogus || best.status > Bogus {
		return d.status > best.status
	}
	return best.zone == nil || d.cause.Limit() && !best.cause.Limit()
}

// deny adds a denial to the verdict, with the SOA that gives it its lifetime (C-3).
func (j *judgement) deny(name string, d denial) {
	j.v.Denial, j.v.Rcode = true, d.rcode
	j.v.Status = j.v.Status.Join(d.status)
	ttl := j.negativeTTL(name, d)
	for _, set := range d.used {
		set.TTL = min(set.TTL, ttl) // RFC 9077 section 3
	}
	if len(d.used) > 0 {
		ttl = min(ttl, d.ttl)
	}
	j.addProof(d.proof, ttl)
	if d.zone != nil {
		j.v.Expires = Earlier(j.v.Expires, d.zone.Expires)
	}
	if d.cause != nil {
		j.note([]*Failure{d.cause})
	}
}

// negativeLife is how long a SOA lets denials of its zone live: min(SOA TTL, SOA MINIMUM), at most an hour (C-3, C-4).
func negativeLife(soa *RRset) uint32 { return min(soa.TTL, soa.RRs[0].(*dns.SOA).Minttl, mostNegative) }

// negativeTTL returns the life of a denial by the SOA in the reply, and puts that into the verdict; 0 without one that
// may be used.
func (j *judgement) negativeTTL(name string, d denial) uint32 {
	for _, soa := range setsOver(j.reply.Authority, dns.TypeSOA, name) {
		if !j.vouched(soa, d) {
			continue
		}
		soa.TTL = negativeLife(soa)
		j.v.Authority = append(j.v.Authority, soa)
		return soa.TTL
	}
	return 0
}

// vouched says whether a SOA may give d its life (V-50i): that of the zone which denies if it validates, and any beside
// a denial that is Insecure, as the zone of the name may be an unsigned one.
func (j *judgement) vouched(soa *RRset, d denial) bool {
	if d.zone == nil || soa.Owner != d.zone.Name {
		return d.status == Insecure
	}
	sig, failure := j.verify(soa, d.zone)
	if failure == nil {
		j.v.Expires = Earlier(j.v.Expires, j.expiration(sig))
	}
	return failure == nil
}
