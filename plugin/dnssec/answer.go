package dnssec

import (
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	maxAliases  = 11 // CNAME and DNAME links per client query (L-8), as Unbound and BIND
	maxANYTypes = 24 // in an ANY answer (V-70), as Unbound
	maxSigners  = 4  // zones that may have signed one RRset; two zones of one name line occur (V-7)
)

// Zones gives the judge what the walk has found.
type Zones interface {
	// At returns the zone in which name lies (its Name may be shorter than name: then name is no apex), or nil when the
	// walk has not been to name yet. A zone that is not Secure may be given for every name below it.
	At(name string) *Zone
	// Anchor returns the nearest trust anchor at or above name, be it a negative one (RFC 7646); "." if there is none.
	// It alone decides: what a zone above it has signed counts for nothing at name (V-12, T-18).
	Anchor(name string) string
}

// Verdict is the judgement of one reply to one question.
type Verdict struct {
	// Needs are names whose zones the judgement still lacks: walk to all of them at once and judge again. While it is
	// not empty nothing else in the Verdict but Shown holds. Names are canonical.
	Needs []string
	Shown []Shown // what that walk need not ask for

	Status    Status
	Rcode     int      // as proven (V-48a), else the reply's, of the last name; SERVFAIL if Bogus or Indeterminate
	Answer    []*RRset // the chain from QNAME in order and the data; nothing else (C-8)
	Authority []*RRset // the SOA of a denial if it holds (V-50i), then the proofs used
	// Next, if not empty, is the target at which the alias chain leaves this reply: what is above is judged as far as
	// it goes, and the question must be asked on at Next (V-65).
	Next    string
	Cause   *Failure   // why it is not Secure; nil for Secure and for a plain Insecure
	Notes   []*Failure // EDE to report beside an Insecure answer: 1, 2, 27
	TTL     uint32     // C-1 over the RRsets and proofs used, C-5, seconds; negative answers by C-3, C-4
	Expires time.Time  // no signature that it or its chain rests on is valid later (C-2); zero if it rests on none
	Denial  bool       // there is no data of the type asked at the end of the chain (NODATA or name error)
	Last    string     // the last name of the alias chain; QNAME if there is none
}

// Shown is what a reply to another question proves of DS at a name on the way to one that is needed: an unsigned
// delegation whose denial it carries (V-50h), or that there is none at the closest encloser of a wildcard (V-49), for
// this walk.
type Shown struct {
	Above *Zone // whose signatures prove it: Secure
	Delegation
}

// judgement is the work on one Verdict.
type judgement struct {
	*Check
	reply *Message
	zones Zones
	qtype uint16
	names []string // of the alias chain so far
	shown []Shown
	v     Verdict
}

// Answer judges the reply to q. See [Verdict] for the protocol with the walk.
func (c *Check) Answer(q dns.Question, reply *Message, zones Zones) Verdict {
	j := &judgement{Check: c, reply: reply, zones: zones, qtype: q.Qtype}
	j.v = Verdict{Status: Secure, TTL: mostPositive, Last: Canonical(q.Name)}
	for j.follow() {
	}
	if len(j.v.Needs) > 0 {
		slices.Sort(j.v.Needs)
		return Verdict{Needs: slices.Compact(j.v.Needs), Shown: j.shown}
	}
	if j.v.Status <= Bogus {
		j.v.Rcode = dns.RcodeServerFailure
	}
	return j.v
}

// follow judges what the reply holds for the last name of the chain so far, and reports whether an alias leads on.
func (j *judgement) follow() bool {
	name := j.v.Last
	anchor := j.zones.Anchor(InCharge(name, j.qtype == dns.TypeDS))
	for _, dname := range dnamesAbove(j.reply.Answer, name) {
		if !IsSubDomain(anchor, dname.Owner) {
			break // V-12: this one and those behind it lie in zones above
		}
		if outcome := j.settle(dname); outcome.status > Bogus || outcome.pending || !j.signedAt(name) {
			return j.rename(dname, outcome)
		}
	}
	data, cname := j.dataAt(name), find(j.reply.Answer, name, dns.TypeCNAME)
	switch {
	case len(data) > 0:
		j.answered(data, cname)
	case cname != nil:
		return j.alias(cname)
	default:
		j.denied(name)
	}
	return false
}

// signedAt says whether the reply has signed records of name itself, beside which a DNAME above that does not validate
// need not count (V-15a).
func (j *judgement) signedAt(name string) bool {
	return slices.ContainsFunc(j.reply.Answer, func(s *RRset) bool { return s.Owner == name && len(s.Sigs) > 0 })
}

// dataAt returns the sets of name that answer the question, by type (L-3).
func (j *judgement) dataAt(name string) []*RRset {
	var data []*RRset
	for _, set := range j.reply.Answer {
		if set.Owner == name && (set.Type == j.qtype || j.qtype == dns.TypeANY && set.Type != dns.TypeRRSIG) {
			data = append(data, set)
		}
	}
	slices.SortFunc(data, func(a, b *RRset) int { return int(a.Type) - int(b.Type) })
	return data
}

// answered judges the data at the end of the chain.
func (j *judgement) answered(data []*RRset, cname *RRset) {
	if len(data) > maxANYTypes {
		j.fail(Indeterminate, limited("any_types", j.v.Last, j.qtype).Says(
			"%s ANY: %d types in the answer, more than the %d allowed", j.v.Last, len(data), maxANYTypes))
		return
	}
	for _, set := range data {
		outcome := j.settle(set)
		if outcome.status == Secure && j.contradicts(set, cname) {
			outcome = settled{status: Bogus, cause: contradiction(set)}
		}
		if !j.take(set, outcome) {
			return
		}
	}
}

// contradicts says whether one owner has an alias beside the data asked for, or two aliases (V-67); a reply to ANY may
// look as it likes.
func (j *judgement) contradicts(set, cname *RRset) bool {
	if j.qtype == dns.TypeANY {
		return false
	}
	return cname != nil && set.Type != dns.TypeCNAME || set.Type == dns.TypeCNAME && len(set.RRs) > 1
}

func contradiction(set *RRset) *Failure {
	return Failure{Code: dns.ExtendedErrorCodeDNSBogus, Owner: set.Owner, Type: dns.TypeCNAME}.Says(
		"%s: a CNAME stands beside other data or another CNAME", set.Owner)
}

// alias judges a CNAME and goes to its target.
func (j *judgement) alias(cname *RRset) bool {
	outcome := j.settle(cname)
	if outcome.status == Secure && len(cname.RRs) > 1 {
		outcome = settled{status: Bogus, cause: contradiction(cname)}
	}
	return j.take(cname, outcome) && j.goTo(cname.RRs[0].(*dns.CNAME).Target)
}

// rename judges a DNAME above the last name and goes where it leads. The CNAME beside it is unsigned, and must be what
// the DNAME makes of the name (V-66).
func (j *judgement) rename(dname *RRset, outcome settled) bool {
	name, bogus := j.v.Last, Failure{Code: dns.ExtendedErrorCodeDNSBogus, Zone: outcome.zone}
	if outcome.expanded {
		bogus.Owner, bogus.Type = dname.Owner, dns.TypeDNAME
		outcome = settled{status: Bogus, cause: bogus.Says("%s: the DNAME was made from a wildcard", dname.Owner)}
	}
	if !j.take(dname, outcome) {
		return false
	}
	target, ok := substitute(name, dname.Owner, dname.RRs[0].(*dns.DNAME).Target)
	if !ok {
		j.v.Rcode = dns.RcodeYXDomain
		return false
	}
	cname := find(j.reply.Answer, name, dns.TypeCNAME)
	if outcome.status == Secure && cname != nil && !leadsTo(cname, target) {
		bogus.Owner, bogus.Type = name, dns.TypeCNAME
		j.fail(Bogus, bogus.Says("%s: the CNAME is not what the DNAME at %s makes of the name", name, dname.Owner))
		return false
	}
	made := synthesised(name, target, dname, cname)
	j.v.Answer = append(j.v.Answer, made)
	j.v.TTL = min(j.v.TTL, made.TTL)
	if j.qtype == dns.TypeCNAME || j.qtype == dns.TypeANY {
		return false
	}
	return j.goTo(target)
}

// leadsTo says whether the set is one CNAME with this target.
func leadsTo(cname *RRset, target string) bool {
	return len(cname.RRs) == 1 && Canonical(cname.RRs[0].(*dns.CNAME).Target) == Canonical(target)
}

// substitute puts target in the place of owner at the end of name; not ok if the result is too long for a name (RFC
// 6672 section 2.2).
func substitute(name, owner, target string) (string, bool) {
	prefix := strings.TrimSuffix(name, owner)
	if owner == "." {
		prefix = name
	}
	if target == "." {
		return prefix, true
	}
	var longest [255]byte
	_, err := dns.PackDomainName(prefix+target, longest[:], 0, nil, false)
	return prefix + target, err == nil
}

// synthesised is the CNAME that a DNAME makes: with the smaller TTL of both, and without signatures.
func synthesised(name, target string, dname, cname *RRset) *RRset {
	owner, ttl := name, dname.TTL
	if cname != nil {
		owner = cname.RRs[0].Header().Name // in the case that was asked
		ttl = min(ttl, cname.TTL)
	}
	return &RRset{Owner: name, Type: dns.TypeCNAME, TTL: ttl, RRs: []dns.RR{&dns.CNAME{
		Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl}, Target: target,
	}}}
}

// goTo makes the target of an alias the last name of the chain, within the limit on links and without loops.
func (j *judgement) goTo(target string) bool {
	from := j.v.Last
	target = Canonical(target)
	if j.work.aliases == nil {
		j.work.aliases = map[string]bool{}
	}
	j.work.aliases[from] = true
	if len(j.work.aliases) > maxAliases {
		j.fail(Indeterminate, limited("aliases", from, dns.TypeCNAME).Says(
			"%s: the alias chain is longer than %d links", from, maxAliases))
		return false
	}
	j.v.Last = target
	if j.names = append(j.names, from); slices.Contains(j.names, target) {
		j.fail(Bogus, Failure{Code: dns.ExtendedErrorCodeOther, Owner: from, Type: dns.TypeCNAME}.Says(
			"%s: the aliases go in a circle", from))
		return false
	}
	if j.v.Status > Bogus && j.Border != nil && j.Border(from, target) {
		j.v.Next = target
	}
	return j.v.Status > Bogus && j.v.Next == ""
}

// settled is the status of one RRset.
type settled struct {
	pending  bool // the walk has to go on first
	status   Status
	zone     string // that signed it or that it lies in
	reply    bool   // Bogus, and the zone is in order: another reply may be as well
	expanded bool   // from a wildcard
	proof    proof  // of that expansion
	expires  time.Time
	cause    *Failure
	notes    []*Failure
}

// settle finds the status of one RRset (V-7): Secure by the keys of a Secure zone that signed it; else what the walk to
// its owner says.
func (j *judgement) settle(set *RRset) settled {
	if set.Type == dns.TypeRRSIG {
		return j.signatures(set)
	}
	parentSide := set.Type == dns.TypeDS || set.Type == dns.TypeCNAME && j.qtype == dns.TypeDS
	owner := InCharge(set.Owner, parentSide)
	signers := signersOf(set, set.Sigs, j.zones.Anchor(owner))
	zones, pending := j.zonesAt(signers)
	if pending {
		return settled{pending: true}
	}
	var cause *Failure
	for i, z := range zones {
		if z.Status != Secure || z.Name != signers[i] {
			continue
		}
		outcome := j.signedBy(set, z)
		switch {
		case outcome.status > Bogus || outcome.cause.Limit():
			return outcome
		case cause == nil:
			cause = outcome.cause
		}
	}
	return j.byWalk(owner, cause, func(z *Zone) *Failure { return unsigned(set, z.Name) })
}

// signatures finds the status of an answer of RRSIGs. Nothing signs those, so they are Insecure at best (V-25, V-71).
// Below a signer that is Secure no walk to the owner can tell more; without one they are judged as unsigned data is.
func (j *judgement) signatures(set *RRset) settled {
	var sigs []*dns.RRSIG
	for _, rr := range set.RRs {
		if sig, ok := rr.(*dns.RRSIG); ok {
			sigs = append(sigs, sig)
		}
	}
	zones, pending := j.zonesAt(signersOf(set, sigs, j.zones.Anchor(set.Owner)))
	if pending {
		return settled{pending: true}
	}
	if slices.ContainsFunc(zones, func(z *Zone) bool { return z.Status == Secure }) {
		return settled{status: Insecure}
	}
	return j.byWalk(set.Owner, nil, func(z *Zone) *Failure { return unsigned(set, z.Name) })
}

// signedBy is the outcome for a set by the keys of z: of the signatures that hold, the first one that needs no proof,
// or has it, counts (V-49).
func (j *judgement) signedBy(set *RRset, z *Zone) settled {
	var unproven *settled
	for labels := anyLabels; ; {
		sig, failure := j.verifyBelow(set, z, labels)
		switch {
		case failure.Limit():
			return settled{status: Indeterminate, cause: failure}
		case failure != nil && unproven != nil:
			return *unproven
		case failure != nil:
			return settled{status: Bogus, cause: failure}
		}
		outcome := j.verified(set, sig, z)
		if outcome.status > Bogus || outcome.cause.Limit() {
			return outcome
		}
		if unproven == nil {
			unproven = &outcome
		}
		labels = int(sig.Labels)
	}
}

// verified is the outcome for a set with a signature that verifies: Secure, but data from a wildcard needs the proof
// that no closer name exists (V-49).
func (j *judgement) verified(set *RRset, sig *dns.RRSIG, z *Zone) settled {
	s := settled{status: Secure, zone: z.Name, expires: Earlier(z.Expires, j.expiration(sig))}
	if int(sig.Labels) == Labels(set.Owner) {
		return s
	}
	s.expanded = true
	s.proof = j.expansion(j.gather(z, j.reply.Authority), set.Owner, int(sig.Labels))
	s.status, s.cause = s.proof.status, s.proof.cause
	s.expires = Earlier(s.expires, s.proof.expires)
	if encloser := Ancestor(set.Owner, int(sig.Labels)); s.status <= Bogus && encloser != z.Name {
		// A zone that begins there or above would have taken the wildcard with it.
		j.shown = append(j.shown, Shown{z, Delegation{Name: encloser, Cut: NoCut}})
	}
	if s.status == Insecure && s.cause != nil {
		s.notes, s.cause = []*Failure{s.cause}, nil
	}
	return s
}

// InCharge returns the name whose zone is in charge of what is at name. What is parentSide, as DS is (V-8), lies where
// a zone begins in the one above it.
func InCharge(name string, parentSide bool) string {
	if parentSide {
		return Parent(name)
	}
	return name
}

// byWalk is the outcome for an RRset or a denial at owner without a valid signature: Insecure below a proven insecure
// delegation, Bogus in a signed zone (V-13), where missing gives the reason. A fault of a Secure signer is a better
// reason than that. A wrong signature is also a better reason than a failed walk, since another reply may be right
// (V-14).
func (j *judgement) byWalk(owner string, wrong *Failure, missing func(*Zone) *Failure) settled {
	zones, pending := j.zonesAt([]string{owner})
	if pending {
		return settled{pending: true}
	}
	z := zones[0]
	s := settled{status: z.Status, zone: z.Name, cause: wrong}
	switch {
	case z.Status == Insecure:
		s.cause, s.expires = nil, z.Expires
		if z.Cause != nil {
			s.notes = []*Failure{z.Cause}
		}
	case z.Status == Secure:
		s.status, s.reply = Bogus, true
		if wrong == nil {
			s.cause = missing(z)
		}
	case wrong == nil || wrong.Kind != OfSignature || z.Cause.Limit():
		s.cause = z.Cause
	}
	return s
}

// zonesAt returns the zones at all names, or notes which of them the walk has to go to.
func (j *judgement) zonesAt(names []string) (zones []*Zone, pending bool) {
	for _, name := range names {
		z := j.zones.At(name)
		if z == nil {
			j.v.Needs = append(j.v.Needs, name)
			pending = true
		}
		zones = append(zones, z)
	}
	return zones, pending
}

// signersOf returns the zones at or below anchor (V-12) that may have signed set and by sigs say they did, deepest
// first (V-7).
func signersOf(set *RRset, sigs []*dns.RRSIG, anchor string) []string {
	var signers []string
	for _, sig := range sigs {
		if signer := Canonical(sig.SignerName); maySign(signer, set) && IsSubDomain(anchor, signer) {
			signers = append(signers, signer)
		}
	}
	return deepestFirst(signers)
}

// deepestFirst sorts ancestors of one name, without duplicates, and keeps a few.
func deepestFirst(names []string) []string {
	slices.SortFunc(names, func(a, b string) int { return dns.CountLabel(b) - dns.CountLabel(a) })
	names = slices.Compact(names)
	return names[:min(len(names), maxSigners)]
}

// take adds a settled set, with the proof it needed, to the verdict, and reports whether what is behind it still
// matters. What does not validate behind an alias is asked on, as if the upstream had left it out: the reply to a
// question for the target may hold what this one lacks (V-64, V-65).
func (j *judgement) take(set *RRset, s settled) bool {
	switch {
	case s.pending:
		return true
	case s.reply && j.aliased():
		j.v.Next = j.v.Last
		return false
	case s.status <= Bogus:
		j.fail(s.status, s.cause)
		return false
	}
	j.v.Status = j.v.Status.Join(s.status)
	j.v.Answer = append(j.v.Answer, set)
	j.v.TTL = min(j.v.TTL, set.TTL)
	if s.expanded {
		j.addProof(s.proof, min(s.proof.ttl, j.v.TTL))
	}
	j.v.Expires = Earlier(j.v.Expires, s.expires)
	j.note(s.notes)
	return true
}

// aliased says that an alias has led to the last name.
func (j *judgement) aliased() bool { return len(j.names) > 0 }

// addProof adds the records of a proof, and shortens the verdict's life to theirs. What proves nothing stays out
// (V-72).
func (j *judgement) addProof(p proof, ttl uint32) {
	for _, set := range p.used {
		if !slices.Contains(j.v.Authority, set) {
			j.v.Authority = append(j.v.Authority, set)
		}
	}
	j.v.TTL = min(j.v.TTL, ttl)
	j.v.Expires = Earlier(j.v.Expires, p.expires)
}

func (j *judgement) note(notes []*Failure) {
	for _, f := range notes {
		same := func(o *Failure) bool { return o.Code == f.Code && o.Text == f.Text }
		if !slices.ContainsFunc(j.v.Notes, same) {
			j.v.Notes = append(j.v.Notes, f)
		}
	}
}

// fail makes the verdict a failure; the first cause stays, unless a limit comes.
func (j *judgement) fail(status Status, cause *Failure) {
	j.v.Status = j.v.Status.Join(status)
	if j.v.Cause == nil || cause.Limit() {
		j.v.Cause = cause
	}
}

// Hint returns the names that the reply to a DS question at name suggests as the zone above: the signers of its records
// that are strict ancestors of name, deepest first, then the owner of its SOA or NS (V-6a). Hints choose questions,
// proofs decide.
func Hint(name string, reply *Message) (signers []string, apex string) {
	for _, set := range slices.Concat(reply.Answer, reply.Authority) {
		for _, sig := range set.Sigs {
			if signer := Canonical(sig.SignerName); signer != name && IsSubDomain(signer, name) {
				signers = append(signers, signer)
			}
		}
		ofApex := set.Type == dns.TypeSOA || set.Type == dns.TypeNS
		if ofApex && IsSubDomain(set.Owner, name) && len(set.Owner) > len(apex) {
			apex = set.Owner
		}
	}
	return deepestFirst(signers), apex
}
