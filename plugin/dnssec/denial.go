package dnssec

import "time"

// evidence is what one reply holds of one signer's denial records, validated. Records that are inadmissible or do not
// validate are not in it (V-15a); lack says why, for the sentence of a proof that then fails.
type evidence struct {
	zone  *Zone
	nsec  []nsec
	nsec3 []nsec3Set // one per parameter set (V-60), in a fixed order
	lack  *Failure
}

// proof is what evidence proves about one question.
type proof struct {
	status  Status    // Secure; Insecure: by opt-out (V-51) or iterations (V-61); Bogus: unproven; Indeterminate: a limit
	used    []*RRset  // the records that the proof rests on
	cause   *Failure  // unless Secure: why; for a plain opt-out nil
	ttl     uint32    // the smallest TTL of used
	expires time.Time // the earliest Expiration of the signatures of used
}

// gather validates those NSEC and NSEC3 RRsets among sets that zone itself signed (V-50d..V-50f, V-58, V-59, L-5).
func (c *Check) gather(zone *Zone, sets []*RRset) *evidence { panic("unbuilt") }

// nodata proves that qname exists, possibly as an empty non-terminal or by a wildcard, without qtype (V-46, V-48, V-50, V-54..V-56,
// V-69).
func (c *Check) nodata(e *evidence, qname string, qtype uint16) proof { panic("unbuilt") }

// nameError proves that qname does not exist (V-47, V-53).
func (c *Check) nameError(e *evidence, qname string) proof { panic("unbuilt") }

// expansion proves that qname does not exist and that its closest encloser has the given number of labels, as the
// Labels field of the RRSIG of a wildcard answer claims (V-49, V-57).
func (c *Check) expansion(e *evidence, qname string, labels int) proof { panic("unbuilt") }

// noDS proves that there is no DS at name, which lies below the apex of e.zone, and what that means for the delegation
// (V-6, V-10, V-50a, V-50c, V-55). The Cut is Unproven unless the proof is Secure or Insecure.
func (c *Check) noDS(e *evidence, name string) (Cut, proof) { panic("unbuilt") }

// nsec and nsec3Set are one validated NSEC, and the validated NSEC3 of one parameter set.
type nsec struct{}
type nsec3Set struct{}
