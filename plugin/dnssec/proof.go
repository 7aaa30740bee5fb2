package dnssec

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// maxDenialRecords is how many NSEC, and how many NSEC3, of one zone are used of one reply (L-5). The longest alias
// chain (L-8) of wildcard answers within one zone needs 14.
const maxDenialRecords = 16

// evidence is what one reply holds of one signer's denial records, validated. Records that are inadmissible or do not
// validate are not in it (V-15a); missing says why, for the sentence of a proof that then fails.
type evidence struct {
	zone    *Zone
	nsec    []*nsec
	nsec3   []*nsec3Set // one per parameter set (V-60), in a fixed order
	missing *Failure
}

// proof is what evidence proves about one question.
type proof struct {
	// Secure; Insecure by opt-out (V-51) or iterations (V-61); Bogus: unproven; Indeterminate: a limit
	status  Status
	used    []*RRset  // the records that the proof rests on
	cause   *Failure  // unless Secure: why; for a plain opt-out nil
	ttl     uint32    // the smallest TTL of used
	expires time.Time // the earliest Expiration of the signatures of used
}

// record is what NSEC and NSEC3 have in common: the set and the signature by which it holds, and the types of its
// owner.
type record struct {
	set   *RRset
	sig   *dns.RRSIG
	types []uint16
}

func (r *record) has(t uint16) bool { return slices.Contains(r.types, t) }

// occludes says that names below owner are not this zone's to deny: they lie beyond a delegation (V-50a, RFC 6840
// section 4.1) or a DNAME (V-50b).
func (r *record) occludes(owner, apex string) bool {
	return r.has(dns.TypeDNAME) || r.delegates(owner, apex)
}

// delegates says that r is the parent's record at a zone cut.
func (r *record) delegates(owner, apex string) bool {
	return r.has(dns.TypeNS) && !r.has(dns.TypeSOA) && owner != apex
}

// denies says that owner, to which r belongs, has no data of qtype and no alias in its place (V-46, V-50a, V-50c,
// V-55).
func (r *record) denies(qtype uint16, owner, apex string) bool {
	switch {
	case qtype == dns.TypeANY:
		return !slices.ContainsFunc(r.types, isData)
	case r.has(qtype), r.has(dns.TypeCNAME):
		return false
	case qtype == dns.TypeDS:
		return !r.has(dns.TypeSOA) || owner == "." // at any other apex the parent is to be asked
	default:
		return !r.delegates(owner, apex)
	}
}

// isData says that t in a type bit map stands for data, and not for the means of denying it.
func isData(t uint16) bool {
	switch t {
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNXNAME:
		return false
	}
	return true
}

// denier is what the denial records of one kind and parameter set say about the names of one zone. Proofs are written
// once, over one denier each: halves of two are never combined (V-50g, V-60).
type denier interface {
	// nodes returns what shows that name exists, though it may have no types: then it is an empty non-terminal.
	nodes(name string) []finding
	// closestEnclosers returns the closest encloser proofs of name (RFC 5155 section 7.2.1): what shows that it does
	// not exist, and what its closest encloser is.
	closestEnclosers(name string) []finding
	// coversNextCloser returns what shows that no name exists from the next closer name, just below encloser, down to
	// name, given that encloser exists.
	coversNextCloser(name, encloser string) []finding
}

// finding is something that records prove about a name.
type finding struct {
	name   string  // of a node itself, of a closest encloser proof the closest encloser
	record *record // the types of a node; of an empty non-terminal that NSEC imply, no types
	optOut bool    // there may be unsigned delegations after all (V-51)
	used   []*record
}

// and joins what two findings prove together; the node found last tells the types.
func (f finding) and(g finding) finding {
	g.optOut = f.optOut || g.optOut
	used := slices.Clone(f.used)
	for _, r := range g.used {
		if !slices.Contains(used, r) {
			used = append(used, r)
		}
	}
	g.used = used
	return g
}

// gather validates those NSEC and NSEC3 RRsets among sets that zone itself signed (V-50d, V-50e, V-50f, V-58, V-59,
// L-5).
func (c *Check) gather(zone *Zone, sets []*RRset) *evidence {
	e := &evidence{zone: zone}
	for _, set := range e.candidates(sets) {
		sig, failure := c.verify(set, zone)
		if failure == nil {
			failure = e.admit(set, sig)
		}
		e.miss(failure)
	}
	return e
}

// candidates returns the sets that may be denial records of the zone, in a fixed order, so that neither the order of
// the reply nor what a budget cuts off changes a verdict (L-3).
func (e *evidence) candidates(sets []*RRset) []*RRset {
	var kept []*RRset
	for _, t := range []uint16{dns.TypeNSEC, dns.TypeNSEC3} {
		of := slices.DeleteFunc(slices.Clone(sets), func(s *RRset) bool { return s.Type != t || !e.concerns(s) })
		slices.SortStableFunc(of, func(a, b *RRset) int {
			return cmp.Or(Compare(a.Owner, b.Owner), slices.CompareFunc(a.rdata, b.rdata, bytes.Compare))
		})
		if len(of) > maxDenialRecords {
			e.miss(tooManyRecords(e.zone.Name, t, len(of)))
			of = of[:maxDenialRecords]
		}
		kept = append(kept, of...)
	}
	return kept
}

// concerns says that set lies in the zone and that no other zone alone signed it.
func (e *evidence) concerns(set *RRset) bool {
	signer := func(s *dns.RRSIG) bool { return Canonical(s.SignerName) == e.zone.Name }
	return IsSubDomain(e.zone.Name, set.Owner) && (len(set.Sigs) == 0 || slices.ContainsFunc(set.Sigs, signer))
}

// admit adds the record of a set that sig has validated to the evidence, or says why it is no evidence.
func (e *evidence) admit(set *RRset, sig *dns.RRSIG) *Failure {
	if len(set.RRs) != 1 {
		return inadmissible(e.zone.Name, set, "stands beside another at its owner")
	}
	var reason string
	switch rr := Typed(set.RRs[0]).(type) {
	case *dns.NSEC:
		reason = e.admitNSEC(rr, record{set, sig, rr.TypeBitMap})
	case *dns.NSEC3:
		reason = e.admitNSEC3(rr, record{set, sig, rr.TypeBitMap})
	}
	if reason != "" {
		return inadmissible(e.zone.Name, set, reason)
	}
	return nil
}

// ascending guards the bit map (V-50f): miekg's unpacker lets nothing else through, and neither may another source.
func ascending(types []uint16) bool {
	for i := 1; i < len(types); i++ {
		if types[i-1] >= types[i] {
			return false
		}
	}
	return true
}

// miss keeps the first reason why a record is no evidence, unless a limit is hit: that comes before any fault of the
// data.
func (e *evidence) miss(f *Failure) {
	if f != nil && (e.missing == nil || f.Limit() && !e.missing.Limit()) {
		e.missing = f
	}
}

// nodata proves that qname exists, possibly as an empty non-terminal or by a wildcard, without qtype (V-46, V-48, V-50,
// V-54, V-55, V-56, V-69).
func (c *Check) nodata(e *evidence, qname string, qtype uint16) proof {
	_, p := c.prove(e, qname, typeGoal(qname, qtype), func(d denier) (finding, bool) {
		return findNodata(d, e.zone.Name, qname, qtype)
	})
	return p
}

// nameError proves that qname does not exist (V-47, V-53).
func (c *Check) nameError(e *evidence, qname string) proof {
	_, p := c.prove(e, qname, qname+" does not exist", func(d denier) (finding, bool) {
		return findNameError(d, qname)
	})
	return p
}

// expansion proves that qname does not exist and that its closest encloser has the given number of labels, as the
// Labels field of the RRSIG of a wildcard answer claims (V-49, V-57).
func (c *Check) expansion(e *evidence, qname string, labels int) proof {
	encloser := Ancestor(qname, labels)
	goal := fmt.Sprintf("%s does not exist, so that %s may answer for it", qname, Wildcard(encloser))
	_, p := c.prove(e, qname, goal, func(d denier) (finding, bool) {
		return first(d.coversNextCloser(qname, encloser))
	})
	return p
}

// noDS proves that there is no DS at name, which lies below the apex of e.zone, and what that means for the delegation
// (V-6, V-10, V-50a, V-50c, V-55). The Cut is Unproven unless the proof is Secure or Insecure.
func (c *Check) noDS(e *evidence, name string) (Cut, proof) {
	var cut Cut
	f, p := c.prove(e, name, typeGoal(name, dns.TypeDS), func(d denier) (finding, bool) {
		if f, ok := findNodata(d, e.zone.Name, name, dns.TypeDS); ok {
			return f, true
		}
		return findNameError(d, name)
	})
	switch {
	case p.status < Insecure:
		cut = Unproven
	case p.status == Insecure, f.record != nil && f.record.has(dns.TypeNS):
		cut = InsecureCut
	case f.record != nil:
		cut = NoCut
	default:
		cut = NoCutBelow
	}
	return cut, p
}

// findNodata looks for a record of qname itself, then for one of the wildcard that answers for it, and is content with
// an opt-out cover, below which there may be an unsigned delegation or nothing (V-54).
func findNodata(d denier, apex, qname string, qtype uint16) (finding, bool) {
	without := func(name string) (finding, bool) {
		return first(slices.DeleteFunc(d.nodes(name), func(f finding) bool {
			return !f.record.denies(qtype, name, apex)
		}))
	}
	if f, ok := without(qname); ok {
		return f, true
	}
	enclosers := d.closestEnclosers(qname)
	for _, encloser := range enclosers {
		if f, ok := without(Wildcard(encloser.name)); ok {
			return encloser.and(f), true
		}
	}
	return first(slices.DeleteFunc(enclosers, func(f finding) bool { return !f.optOut }))
}

// findNameError looks for a proof that neither qname nor the wildcard at its closest encloser exists.
func findNameError(d denier, qname string) (finding, bool) {
	for _, encloser := range d.closestEnclosers(qname) {
		if none, ok := first(d.coversNextCloser(Wildcard(encloser.name), encloser.name)); ok {
			// Only the opt-out flag over the next closer name matters (RFC 5155 section 9.2), not this one.
			return encloser.and(finding{used: none.used}), true
		}
	}
	return finding{}, false
}

func first(fs []finding) (finding, bool) {
	if len(fs) == 0 {
		return finding{}, false
	}
	return fs[0], true
}

// prove tries one denier after the other: the first Secure proof wins, else the first one by opt-out. If there is none,
// the records over the iteration limit make the denial Insecure (V-60, V-61), unless a budget ended the search: work
// that is refused must never buy a downgrade (L-12).
func (c *Check) prove(e *evidence, name, goal string, find func(denier) (finding, bool)) (finding, proof) {
	c.hashes.refused = false
	var weak *finding
	for _, d := range c.deniers(e, name) {
		f, ok := find(d)
		if ok && !f.optOut {
			return f, c.restingOn(Secure, f.used, nil)
		}
		if ok && weak == nil {
			weak = &f
		}
	}
	over := c.overLimit(e)
	switch {
	case c.hashes.refused:
		return finding{}, unproven(tooManyHashes(e.zone.Name, name))
	case weak != nil:
		return *weak, c.restingOn(Insecure, weak.used, nil)
	case over != nil:
		return finding{}, c.restingOn(Insecure, over.records(), c.tooManyIterations(e.zone.Name, over))
	case e.missing != nil:
		return finding{}, unproven(e.missing)
	default:
		return finding{}, unproven(Failure{Code: dns.ExtendedErrorCodeNSECMissing, Zone: e.zone.Name, Owner: name}.Says(
			"%s: no NSEC or NSEC3 in the reply proves that %s", e.zone.Name, goal))
	}
}

// deniers returns what may be asked about name: nothing at all if name is not in the zone.
func (c *Check) deniers(e *evidence, name string) []denier {
	if !IsSubDomain(e.zone.Name, name) {
		return nil
	}
	ds := make([]denier, 0, 1+len(e.nsec3))
	if len(e.nsec) > 0 {
		ds = append(ds, nsecChain{e.zone.Name, e.nsec})
	}
	for _, set := range e.nsec3 {
		if !c.over(set) {
			ds = append(ds, nsec3Chain{c, e.zone.Name, set})
		}
	}
	return ds
}

// restingOn returns the proof that rests on the records used.
func (c *Check) restingOn(status Status, used []*record, cause *Failure) proof {
	p := proof{status: status, cause: cause}
	for i, r := range used {
		p.expires = Earlier(p.expires, c.expiration(r.sig))
		if i == 0 || r.set.TTL < p.ttl {
			p.ttl = r.set.TTL
		}
		p.used = append(p.used, r.set)
	}
	return p
}

// expiration returns the end of validity of sig.
func (c *Check) expiration(sig *dns.RRSIG) time.Time { return Near(c.Now, sig.Expiration) }

// Near returns the time nearest to now that the 32 bits of a signature's Inception or Expiration may mean (RFC 4034
// section 3.1.5).
func Near(now time.Time, bits uint32) time.Time {
	return time.Unix(now.Unix()+int64(int32(bits-uint32(now.Unix()))), 0).UTC()
}

func unproven(f *Failure) proof {
	if f.Limit() {
		return proof{status: Indeterminate, cause: f}
	}
	return proof{status: Bogus, cause: f}
}

func typeGoal(name string, t uint16) string {
	return fmt.Sprintf("%s %s does not exist", name, dns.Type(t))
}

func inadmissible(zone string, set *RRset, reason string) *Failure {
	return Failure{Code: dns.ExtendedErrorCodeDNSBogus, Zone: zone, Owner: set.Owner, Type: set.Type}.Says(
		"%s: the %s at %s %s", zone, dns.Type(set.Type), set.Owner, reason)
}

func tooManyRecords(zone string, t uint16, n int) *Failure {
	f := limited("denial_records", "", t)
	f.Zone = zone
	return f.Says("%s: the reply has %d %s, of which only %d are looked at", zone, n, dns.Type(t), maxDenialRecords)
}

// compareSets orders parameter sets, so that they are always tried in the same order.
func compareSets(a, b *nsec3Set) int {
	return cmp.Or(cmp.Compare(a.iterations, b.iterations), cmp.Compare(a.salt, b.salt))
}
