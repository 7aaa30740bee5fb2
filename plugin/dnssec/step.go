package dnssec

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Zone is the state of one zone on the chain of trust. A Zone is immutable once made and safe to share.
type Zone struct {
	Name    string // the apex, canonical
	Status  Status
	Keys    []*Key    // if Secure: every usable zone key of the trusted DNSKEY RRset, parsed once (V-3, V-4)
	Until   time.Time // when its links must be fetched anew (C-16): the end of the shortest of their lives (C-1)
	Expires time.Time // the earliest Expiration of any signature it rests on, up to the anchor (C-2)
	Cause   *Failure  // why it is not Secure; for Insecure the EDE to report (1, 2, 27), or nil when there is none
	Tie     Tie       // how it is tied to the zone above, for people
}

// Tie is the proof by which a zone hangs from its parent, or from an anchor, for people to read.
type Tie struct {
	KeyTag                uint16 // the key that matched one of them and signed the DNSKEY RRset
	Algorithm             uint8  // its algorithm
	Digest                uint8  // the digest type of the DS that matched
	Inception, Expiration uint32 // validity of that RRSIG
}

// Cut says what an answer to a DS question proves about the delegation at a name.
type Cut uint8

// What may be proven.
const (
	Unproven    Cut = iota // nothing follows from it; the cause says why
	SignedCut              // Secure DS with at least one entry of supported algorithm and digest
	InsecureCut            // proven unsigned delegation (V-10, V-51), or no supported DS (V-40)
	NoCut                  // no delegation here; go on below (V-6)
	NoCutBelow             // none here nor below: complete name-error proof, or DNAME above (V-6, V-68)
)

// Delegation is the judged answer to DS at Name.
type Delegation struct {
	Name    string
	Cut     Cut
	DS      []*dns.DS // if SignedCut: the usable entries (V-39), at most 8 (L-2)
	Until   time.Time // as in Zone
	Expires time.Time // as in Zone, the parent's included
	Cause   *Failure
}

// The ceilings on lifetimes, in seconds (C-4, C-5): those of Unbound and PowerDNS.
const (
	mostPositive = 86400
	mostNegative = 3600
)

const maxDS = 8 // per zone (L-2), PowerDNS's figure

// Anchor returns the delegation that the trust anchors configured for a zone stand for: it never ends by itself. A zone
// below the root with none that is supported counts as unsigned (T-15); of the root that proves nothing, and nowhere
// does it that all are revoked (T-9).
func (p Policy) Anchor(zone string, anchors []*dns.DS) Delegation {
	set := &RRset{Owner: zone, Type: dns.TypeDS}
	for _, ds := range anchors {
		set.RRs = append(set.RRs, ds)
	}
	d := Delegation{Name: zone}
	if len(anchors) == 0 {
		d.Cause = ofDS(zone).Says("%s: no trust anchor is left: all are revoked", zone)
		return d
	}
	if d.DS, d.Cut, d.Cause = p.usable(set); d.Cut == InsecureCut && zone == "." {
		d.Cut = Unproven
		d.Cause = ofDS(zone).Says("no trust anchor of the root has a supported algorithm and digest type")
	}
	return d
}

// Delegation judges the reply to the question DS at name with the keys of parent, the deepest Secure zone strictly
// above name that is known. Only what parent itself signed counts (V-8).
func (c *Check) Delegation(parent *Zone, name string, reply *Message) Delegation {
	d := Delegation{Name: name, Expires: parent.Expires}
	if set := find(reply.Answer, name, dns.TypeDS); set != nil {
		c.signedCut(&d, parent, set)
		return d
	}
	aliases := dnamesAbove(reply.Answer, name)
	if cname := find(reply.Answer, name, dns.TypeCNAME); cname != nil { // DNAMEs come first (V-66, V-68)
		aliases = append(aliases, cname)
	}
	if len(aliases) > 0 {
		c.aliasCut(&d, parent, aliases, reply)
		return d
	}
	return c.undelegated(c.gather(parent, reply.Authority), name, reply)
}

// undelegated judges by evidence in the reply whether there is no DS at name, which lies below the zone of the
// evidence.
func (c *Check) undelegated(e *evidence, name string, reply *Message) Delegation {
	cut, p := c.noDS(e, name)
	d := Delegation{Name: name, Cut: cut, Cause: p.cause, Expires: e.zone.Expires}
	ttl := min(p.ttl, mostNegative)
	if soa := find(reply.Authority, e.zone.Name, dns.TypeSOA); soa != nil { // not validated, but it can only shorten
		ttl = min(ttl, negativeLife(soa))
	}
	c.bound(&d, ttl, p.expires)
	return d
}

// bound shortens the life of d to that of what it rests on.
func (c *Check) bound(d *Delegation, ttl uint32, expires time.Time) {
	d.Until = c.until(ttl, expires)
	d.Expires = Earlier(d.Expires, expires)
}

// until returns when records of the TTL must be fetched anew, whose signatures end at expires (C-1, C-5).
func (c *Check) until(ttl uint32, expires time.Time) time.Time {
	return Earlier(c.Now.Add(time.Duration(min(ttl, mostPositive))*time.Second), expires)
}

// signedCut judges a DS RRset.
func (c *Check) signedCut(d *Delegation, parent *Zone, set *RRset) {
	sig, failure := c.verify(set, parent)
	if failure == nil && int(sig.Labels) < Labels(set.Owner) {
		failure = sigFailure(set, sig, dns.ExtendedErrorCodeDNSBogus, "is a wildcard's, which cannot delegate")
	}
	if failure != nil {
		d.Cause = failure
		return
	}
	c.bound(d, set.TTL, c.expiration(sig))
	d.DS, d.Cut, d.Cause = c.Policy.usable(set)
	d.DS = preferred(d.DS)
}

// usable filters DS by V-38 and the first half of V-39, and says what kind of delegation is left (V-40).
func (p Policy) usable(set *RRset) (kept []*dns.DS, cut Cut, cause *Failure) {
	var unsupported []uint8
	malformed := false
	for _, rr := range set.RRs {
		ds, ok := rr.(*dns.DS)
		if !ok { // too short to be one
			malformed = true
			continue
		}
		switch hash, known := digests[ds.DigestType]; {
		case !p.supported(ds.Algorithm):
			unsupported = append(unsupported, ds.Algorithm)
		case !known:
		case len(ds.Digest) != 2*hash.Size():
			malformed = true
		default:
			kept = append(kept, ds)
		}
	}
	switch {
	case len(kept) == 0 && malformed:
		return nil, Unproven, ofDS(set.Owner).Says("%s: no DS has a digest of the length of its digest type", set.Owner)
	case len(kept) == 0:
		return nil, InsecureCut, unusable(set, unsupported)
	}
	return kept, SignedCut, nil
}

// ofDS is what a failure of the DS of a zone has in common.
func ofDS(zone string) Failure {
	return Failure{Code: dns.ExtendedErrorCodeDNSBogus, Zone: zone, Owner: zone, Type: dns.TypeDS}
}

// preferred returns those of the usable DS that count: none of SHA-1 beside a better one (V-39, RFC 4509 section 3),
// and no more than maxDS.
func preferred(usable []*dns.DS) []*dns.DS {
	weak := func(ds *dns.DS) bool { return ds.DigestType == dns.SHA1 }
	if slices.ContainsFunc(usable, func(ds *dns.DS) bool { return !weak(ds) }) {
		usable = slices.DeleteFunc(usable, weak)
	}
	return usable[:min(len(usable), maxDS)]
}

// unusable says why no DS of a set can be used: for its algorithms, which are not supported, or else for its digest
// types.
func unusable(set *RRset, algorithms []uint8) *Failure {
	f := ofDS(set.Owner)
	if len(algorithms) == 0 {
		f.Code = dns.ExtendedErrorCodeUnsupportedDSDigestType
		return f.Says("%s: no DS has a supported digest type, so the zone counts as unsigned", set.Owner)
	}
	slices.Sort(algorithms)
	list := strings.ReplaceAll(strings.Trim(fmt.Sprint(slices.Compact(algorithms)), "[]"), " ", " and ")
	f.Code = dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm
	return f.Says("%s: signed with algorithm %s only, which danelaw does not support, so the zone counts as unsigned",
		set.Owner, list)
}

// aliasCut judges a DS question that an alias answers: no zone begins there (V-68). Targets do not matter.
func (c *Check) aliasCut(d *Delegation, parent *Zone, aliases []*RRset, reply *Message) {
	for _, set := range aliases {
		cut, cause := c.aliasProves(d, parent, set, reply)
		if cut != Unproven {
			d.Cut, d.Cause = cut, cause
			return
		}
		if d.Cause == nil || set.Type == dns.TypeCNAME && len(set.Sigs) > 0 { // an unsigned one may be the DNAME's
			d.Cause = cause
		}
	}
}

// aliasProves says what one alias shows about a cut at d.Name, and bounds the life of d if it shows anything.
func (c *Check) aliasProves(d *Delegation, parent *Zone, set *RRset, reply *Message) (Cut, *Failure) {
	sig, failure := c.verify(set, parent)
	expanded := failure == nil && int(sig.Labels) < Labels(set.Owner)
	switch {
	case failure != nil:
		return Unproven, failure
	case set.Type == dns.TypeDNAME && expanded:
		return Unproven, sigFailure(set, sig, dns.ExtendedErrorCodeDNSBogus, "is a wildcard's, which no DNAME may be")
	}
	c.bound(d, set.TTL, c.expiration(sig))
	switch {
	case set.Type == dns.TypeDNAME:
		return NoCutBelow, nil
	case !expanded:
		return NoCut, nil
	}
	p := c.expansion(c.gather(parent, reply.Authority), set.Owner, int(sig.Labels))
	c.bound(d, min(set.TTL, p.ttl), p.expires)
	switch p.status {
	case Secure:
		return NoCut, nil
	case Insecure: // an opt-out cover: there may be an unsigned delegation after all (V-51)
		return InsecureCut, p.cause
	}
	return Unproven, p.cause
}

// Apex judges the reply to the question DNSKEY at d.Name, whose DS are d.DS (V-2, V-3, V-5, V-41). d.Cut must be
// SignedCut. The result is Secure, or Bogus or Indeterminate with a Cause. (An Insecure zone is made by
// [InsecureZone].)
func (c *Check) Apex(d Delegation, reply *Message) *Zone {
	set := find(reply.Answer, d.Name, dns.TypeDNSKEY)
	if set == nil {
		return BogusZone(d.Name, noKey(d, "the reply has no DNSKEY, but there is a DS"))
	}
	var cause complaint
	for _, ds := range d.DS {
		sig, failure := c.entryPoint(set, ds, &cause)
		if failure.Limit() {
			return BogusZone(d.Name, failure)
		}
		if sig != nil {
			return c.secureZone(d, set, sig, ds)
		}
	}
	if cause.failure == nil {
		cause.failure = noKey(d, "no DNSKEY matches the DS")
	}
	return BogusZone(d.Name, cause.failure)
}

// The grades of complaints about keys that a DS names.
const (
	notZoneKey = iota + 1
	unparsable
	unverified
)

// entryPoint looks for a key that ds names and that signed the DNSKEY RRset itself; it returns that signature.
func (c *Check) entryPoint(set *RRset, ds *dns.DS, cause *complaint) (*dns.RRSIG, *Failure) {
	tried := 0
	for i, rr := range set.RRs {
		key, ok := rr.(*dns.DNSKEY)
		if !ok || tried == maxColliding || !matches(ds, key, set.rdata[i]) {
			continue
		}
		tried++
		sig, grade, failure := c.selfSigned(set, key)
		if failure == nil || failure.Limit() {
			return sig, failure
		}
		cause.hear(grade, failure)
	}
	return nil, nil
}

// selfSigned returns the signature of key over the DNSKEY RRset that it is in, else the complaint and its grade.
func (c *Check) selfSigned(set *RRset, key *dns.DNSKEY) (*dns.RRSIG, int, *Failure) {
	if !zoneKey(key) {
		return nil, notZoneKey, keyFailure(set, key, dns.ExtendedErrorCodeNoZoneKeyBitSet,
			"the DNSKEY with key tag %d that the DS names is no usable zone key (flags %d, protocol %d)",
			key.KeyTag(), key.Flags, key.Protocol)
	}
	parsed, err := ParseKey(key)
	if err != nil {
		c.spentOn(set).failed++ // L-3
		return nil, unparsable, keyFailure(set, key, dns.ExtendedErrorCodeDNSBogus,
			"the DNSKEY with key tag %d cannot be used: %v", key.KeyTag(), err)
	}
	only := &Zone{Name: set.Owner, Keys: []*Key{parsed}}
	sig, worst := c.verifyWith(set, bySigner(set.Sigs, set.Owner, anyLabels), only)
	if worst.grade == keyless { // it is there, but made none of the RRSIGs
		worst.failure = keyFailure(set, key, dns.ExtendedErrorCodeDNSBogus,
			"the DNSKEY RRset is not signed by the key that the DS names (key tag %d)", key.KeyTag())
	}
	return sig, unverified, worst.failure
}

// keyFailure is the complaint about a key that the DS names (V-41).
func keyFailure(set *RRset, key *dns.DNSKEY, code uint16, format string, args ...any) *Failure {
	f := Failure{Code: code, Zone: set.Owner, Owner: set.Owner, Type: set.Type, KeyTag: key.KeyTag()}
	return f.Says("%s: %s", set.Owner, fmt.Sprintf(format, args...))
}

func noKey(d Delegation, what string) *Failure {
	ds, code := d.DS[0], dns.ExtendedErrorCodeDNSKEYMissing
	f := Failure{Code: code, Zone: d.Name, Owner: d.Name, Type: dns.TypeDNSKEY, KeyTag: ds.KeyTag}
	return f.Says("%s: %s (key tag %d, algorithm %d, digest type %d)", d.Name, what, ds.KeyTag, ds.Algorithm,
		ds.DigestType)
}

// secureZone makes the zone whose DNSKEY RRset sig has authenticated. Keys that cannot be used are left out.
func (c *Check) secureZone(d Delegation, set *RRset, sig *dns.RRSIG, ds *dns.DS) *Zone {
	z := &Zone{
		Name: d.Name, Status: Secure,
		Until:   Earlier(d.Until, c.until(set.TTL, c.expiration(sig))),
		Expires: Earlier(d.Expires, c.expiration(sig)),
		Tie: Tie{
			KeyTag: ds.KeyTag, Algorithm: ds.Algorithm, Digest: ds.DigestType,
			Inception: sig.Inception, Expiration: sig.Expiration,
		},
	}
	for _, rr := range set.RRs {
		key, ok := rr.(*dns.DNSKEY)
		if !ok || !zoneKey(key) || !c.Policy.supported(key.Algorithm) {
			continue
		}
		if parsed, err := ParseKey(key); err == nil {
			z.Keys = append(z.Keys, parsed)
		}
	}
	return z
}

// InsecureZone returns the zone below an InsecureCut.
func InsecureZone(d Delegation) *Zone {
	return &Zone{Name: d.Name, Status: Insecure, Until: d.Until, Expires: d.Expires, Cause: d.Cause}
}

// BogusZone returns the zone below a link that could not be had or proven: Indeterminate if it could not be had, else
// Bogus.
func BogusZone(name string, cause *Failure) *Zone {
	if cause.Missing() {
		return &Zone{Name: name, Status: Indeterminate, Cause: cause}
	}
	ofLink := *cause
	ofLink.Kind = OfLink
	return &Zone{Name: name, Status: Bogus, Cause: &ofLink}
}

// Earlier returns the earlier of two times, of which the zero one means never.
func Earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// find returns the set of owner and type, or nil.
func find(sets []*RRset, owner string, t uint16) *RRset {
	for _, set := range sets {
		if set.Type == t && set.Owner == owner {
			return set
		}
	}
	return nil
}

// dnamesAbove returns the DNAMEs whose owner is a strict ancestor of name, deepest first (V-66).
func dnamesAbove(sets []*RRset, name string) []*RRset {
	return slices.DeleteFunc(setsOver(sets, dns.TypeDNAME, name), func(s *RRset) bool { return s.Owner == name })
}

// setsOver returns the sets of a type whose owner is name or an ancestor of it, deepest first.
func setsOver(sets []*RRset, t uint16, name string) []*RRset {
	var over []*RRset
	for _, set := range sets {
		if set.Type == t && IsSubDomain(set.Owner, name) {
			over = append(over, set)
		}
	}
	slices.SortFunc(over, func(a, b *RRset) int { return len(b.Owner) - len(a.Owner) })
	return over
}
