package dnssec

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// The work that one RRset may cost (L-1, L-2, L-3; KeyTrap).
const (
	maxChecks     = 8 // signature checks per RRset; Unbound's figure
	maxFailures   = 4 // failed ones
	maxColliding  = 4 // keys with one tag and algorithm
	yieldInterval = 8 // checks between two yields (L-7)
)

// verified is the outcome of one verification. The same set may be judged with the keys of several zones, or of one
// before and after they were fetched anew.
type verified struct {
	zone    *Zone
	labels  int
	sig     *dns.RRSIG
	failure *Failure
}

// judged is what a Check has spent on one RRset, whoever signed it (L-1, L-3), and what it need not do again.
type judged struct {
	by             *Check
	checks, failed int
	outcomes       []verified
}

// work is what a client query has spent.
type work struct {
	signatures int             // L-1
	known      int             // of these, known to hold
	aliases    map[string]bool // followed (L-8)
}

// Work is what judging has taken.
type Work struct {
	Signatures int // verified
	Known      int // and those that needed no verification, as they were known to hold; L-1 counts both
	Hashes     int // of names, for NSEC3
}

// Work returns what was done so far.
func (c *Check) Work() Work {
	return Work{c.work.signatures - c.work.known, c.work.known, len(c.hashes.known)}
}

// anyLabels lets verifyBelow use every RRSIG: the field has eight bits.
const anyLabels = 256

// verify judges one RRset with the keys of a Secure zone as Signer's Name. One signature by one of them is enough,
// whatever stands beside it and whichever algorithms have signed (V-15a, V-22, V-23). It returns the RRSIG that
// verified, the first in the fixed order of L-3, and cuts set.TTL to it (V-21). The outcome is memoised in c, so asking
// again costs nothing.
func (c *Check) verify(set *RRset, zone *Zone) (*dns.RRSIG, *Failure) {
	return c.verifyBelow(set, zone, anyLabels)
}

// verifyBelow is verify with the RRSIGs of fewer than the given number of Labels only.
func (c *Check) verifyBelow(set *RRset, zone *Zone, labels int) (*dns.RRSIG, *Failure) {
	s := c.spentOn(set)
	for _, v := range s.outcomes {
		if v.zone == zone && v.labels == labels {
			return v.sig, v.failure
		}
	}
	sig, worst := c.verifyWith(set, bySigner(set.Sigs, zone.Name, labels), zone)
	s.outcomes = append(s.outcomes, verified{zone, labels, sig, worst.failure})
	return sig, worst.failure
}

// verifyWith tries the RRSIGs in turn with the keys of the zone.
func (c *Check) verifyWith(set *RRset, sigs []*dns.RRSIG, zone *Zone) (_ *dns.RRSIG, worst complaint) {
	for _, sig := range sigs {
		if f := c.admissible(set, sig); f != nil {
			worst.hear(admissibility, f)
			continue
		}
		grade, f := c.tryKeys(set, sig, zone.Keys)
		if f == nil {
			set.TTL = min(set.TTL, sig.OrigTtl, sig.Hdr.Ttl)
			return sig, complaint{}
		}
		if f.Limit() {
			return nil, complaint{grade, f}
		}
		worst.hear(grade, f)
	}
	if worst.failure == nil {
		worst = complaint{missing, unsigned(set, zone.Name)}
	}
	return nil, worst
}

// bySigner returns the RRSIGs with the Signer's Name and fewer than the given number of Labels, those with more Labels
// first: a signature of the owner itself comes before one of a wildcard, which needs a proof besides. Beyond that they
// are in canonical order (L-3).
func bySigner(sigs []*dns.RRSIG, signer string, labels int) []*dns.RRSIG {
	other := func(s *dns.RRSIG) bool { return int(s.Labels) >= labels || Canonical(s.SignerName) != signer }
	if len(sigs) == 1 && !other(sigs[0]) {
		return sigs
	}
	own := slices.DeleteFunc(slices.Clone(sigs), other)
	slices.SortStableFunc(own, func(a, b *dns.RRSIG) int { return int(b.Labels) - int(a.Labels) })
	return own
}

// The grades of complaints about signatures: of several the highest is told.
const (
	missing       = iota // no RRSIG at all
	keyless              // one by a key that the zone does not have, or that cannot be used
	admissibility        // one that cannot be for this RRset, or not now
	wrong                // one that does not verify
)

// complaint keeps the most telling reason why a set did not verify.
type complaint struct {
	grade   int
	failure *Failure
}

func (w *complaint) hear(grade int, f *Failure) {
	if grade > w.grade {
		w.grade, w.failure = grade, f
	}
}

// admissible holds an RRSIG against all that needs no cryptography (RFC 4035 section 5.3.1).
func (c *Check) admissible(set *RRset, sig *dns.RRSIG) *Failure {
	signer := Canonical(sig.SignerName)
	switch labels := int(sig.Labels); {
	case set.Type == dns.TypeRRSIG: // V-25
		return sigFailure(set, sig, dns.ExtendedErrorCodeDNSBogus, "covers RRSIGs, which nothing can")
	case !maySign(signer, set): // V-7, V-16
		return sigFailure(set, sig, dns.ExtendedErrorCodeDNSBogus, "is not by a zone that may sign it")
	case labels > Labels(set.Owner): // V-17
		return sigFailure(set, sig, dns.ExtendedErrorCodeDNSBogus, "has %d labels, more than its owner", labels)
	case labels < dns.CountLabel(signer): // V-18
		return sigFailure(set, sig, dns.ExtendedErrorCodeDNSBogus, "has %d labels, fewer than its signer", labels)
	}
	return c.timely(set, sig)
}

// maySign says whether a zone may sign a set at all: one at or above its owner; for DNSKEY and SOA the one of which the
// owner is the apex, for DS one strictly above (V-7, V-8).
func maySign(signer string, set *RRset) bool {
	switch set.Type {
	case dns.TypeDNSKEY, dns.TypeSOA:
		return signer == set.Owner
	case dns.TypeDS:
		return signer != set.Owner && IsSubDomain(signer, set.Owner)
	}
	return IsSubDomain(signer, set.Owner)
}

// timely holds the validity period against the time, in serial arithmetic on 32 bits (V-19, V-20, RFC 1982).
func (c *Check) timely(set *RRset, sig *dns.RRSIG) *Failure {
	now := uint32(c.Now.Unix())
	skew := uint32(c.Policy.ClockSkew / time.Second)
	switch {
	case int32(sig.Expiration-sig.Inception) < 0:
		return sigFailure(set, sig, dns.ExtendedErrorCodeSignatureExpiredBeforeValid,
			"expires %s before it becomes valid %s", date(c.expiration(sig)), date(Near(c.Now, sig.Inception)))
	case int32(sig.Expiration-now) < 0:
		return sigFailure(set, sig, dns.ExtendedErrorCodeSignatureExpired, "expired %s", date(c.expiration(sig)))
	case int32(now+skew-sig.Inception) < 0:
		return sigFailure(set, sig, dns.ExtendedErrorCodeSignatureNotYetValid,
			"becomes valid only %s; it is %s here, check this host's clock", date(Near(c.Now, sig.Inception)),
			date(c.Now.UTC()))
	}
	return nil
}

// date is how a sentence tells a time.
func date(t time.Time) string { return t.Format("2006-01-02 15:04 MST") }

// tryKeys verifies sig with every key that it may be by (V-24).
func (c *Check) tryKeys(set *RRset, sig *dns.RRSIG, keys []*Key) (grade int, f *Failure) {
	tried := 0
	for _, key := range keys {
		if key.Tag != sig.KeyTag || key.RR.Algorithm != sig.Algorithm || tried == maxColliding {
			continue
		}
		tried++
		if limit := c.spend(set); limit != nil {
			return wrong, limit
		}
		if data, signature := signedData(set, sig); c.holds(key, data, signature) {
			return grade, nil
		}
		c.spentOn(set).failed++
	}
	if tried == 0 {
		return keyless, sigFailure(set, sig, dns.ExtendedErrorCodeDNSKEYMissing,
			"is by a key that the zone does not have, or that cannot be used")
	}
	return wrong, sigFailure(set, sig, dns.ExtendedErrorCodeDNSBogus, "does not verify: the signature is wrong")
}

// holds verifies one signature (V-24), unless it is known to hold for the very same data and key: in denials and
// wildcards the same few come again and again. Whoever calls it has looked at its validity period, and has paid (L-1).
func (c *Check) holds(key *Key, data, signature []byte) bool {
	if c.Verified == nil {
		return key.public.verify(data, signature)
	}
	d := verification(key, data, signature)
	if c.Verified.Has(d) {
		c.work.known++
		return true
	}
	if !key.public.verify(data, signature) {
		return false
	}
	c.Verified.Add(d)
	return true
}

// verification is the SHA-256 of all that the outcome of a verification depends on, each part with its length before
// it.
func verification(key *Key, data, signature []byte) [sha256.Size]byte {
	all := make([]byte, 0, 1024)
	all = append(all, key.RR.Algorithm)
	all = binary.BigEndian.AppendUint32(all, uint32(len(key.RR.PublicKey)))
	all = append(all, key.RR.PublicKey...)
	all = binary.BigEndian.AppendUint32(all, uint32(len(signature)))
	all = append(append(all, signature...), data...)
	return sha256.Sum256(all)
}

// spentOn returns what this Check has done with a set.
func (c *Check) spentOn(set *RRset) *judged {
	if set.judged.by != c {
		set.judged = judged{by: c}
	}
	return &set.judged
}

// spend takes one signature check from the budgets (L-1, L-3, L-7).
func (c *Check) spend(set *RRset) *Failure {
	s := c.spentOn(set)
	switch {
	case c.work.signatures >= c.SignatureChecks:
		return limited("signature_checks", set.Owner, set.Type).Says(
			"%s: needs more than %d signature checks (limit signature_checks)", set, c.SignatureChecks)
	case s.checks >= maxChecks || s.failed >= maxFailures:
		// Not a limit of the query: a reply that spends this is a bad reply, and another upstream may have a good one.
		return Failure{Code: dns.ExtendedErrorCodeOther, Owner: set.Owner, Type: set.Type}.Says(
			"%s: gave up after %d signature checks, %d of them failed", set, s.checks, s.failed)
	}
	if c.Yield != nil && c.work.signatures%yieldInterval == 0 && c.work.signatures > 0 {
		if err := c.Yield(); err != nil {
			f := limited("", set.Owner, set.Type)
			f.Err = errors.Join(ErrLimit, err)
			return f.Says("%s: waited too long for a processor to verify signatures", set)
		}
	}
	c.pause()
	c.work.signatures++
	s.checks++
	return nil
}

// unsigned is the complaint about a set that has no RRSIG by the zone at all (V-13).
func unsigned(set *RRset, signer string) *Failure {
	return Failure{Code: dns.ExtendedErrorCodeRRSIGsMissing, Zone: signer, Owner: set.Owner, Type: set.Type}.Says(
		"%s: %s came without an RRSIG of the zone", signer, set)
}

// sigFailure is the complaint about one RRSIG; format tells what it does or is.
func sigFailure(set *RRset, sig *dns.RRSIG, code uint16, format string, args ...any) *Failure {
	f := Failure{Kind: OfSignature, Code: code, Owner: set.Owner, Type: set.Type, KeyTag: sig.KeyTag}
	f.Zone = Canonical(sig.SignerName)
	return f.Says("%s: the RRSIG over %s (key %d) %s", f.Zone, set, sig.KeyTag, fmt.Sprintf(format, args...))
}
