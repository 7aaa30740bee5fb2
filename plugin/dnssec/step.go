package dnssec

import (
	"time"

	"github.com/miekg/dns"
)

// Zone is the state of one zone on the chain of trust. A Zone is immutable once made and safe to share.
type Zone struct {
	Name    string // the apex, canonical
	Status  Status
	Keys    []*Key    // if Secure: every usable zone key of the trusted DNSKEY RRset, parsed once (V-3, V-4)
	Until   time.Time // when the links it was made from must be fetched anew (C-16): Check.Now plus their smallest TTL
	Expires time.Time // the earliest Expiration of any signature it rests on, up to the anchor (C-2)
	Cause   *Failure  // why it is not Secure; for Insecure the EDE to report (1, 2, 27), or nil when there is none
	Ties    Tie       // how it is tied to the zone above, for people
}

// Tie is the proof by which a zone hangs from its parent, or from an anchor, for people to read.
type Tie struct {
	DS                    []*dns.DS // the DS RRs in use after V-39
	KeyTag                uint16    // the key that matched one of them and signed the DNSKEY RRset
	Algorithm             uint8     // its algorithm
	Digest                uint8     // the digest type of the DS that matched
	Inception, Expiration uint32    // validity of that RRSIG
}

// Cut says what an answer to a DS question proves about the delegation at a name.
type Cut uint8

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

// Anchor returns the delegation that a configured trust anchor stands for: it never ends by itself.
func Anchor(zone string, ds []*dns.DS) Delegation { panic("unbuilt") }

// Delegation judges the reply to the question DS at name with the keys of parent, the deepest Secure zone strictly above
// name that is known. Only what parent itself signed counts (V-8).
func (c *Check) Delegation(parent *Zone, name string, reply *Message) Delegation { panic("unbuilt") }

// Apex judges the reply to the question DNSKEY at d.Name, whose DS are d.DS (V-2..V-5, V-41). d.Cut must be SignedCut.
// The result is Secure, or Bogus or Indeterminate with a Cause. (An Insecure zone is made by [InsecureZone].)
func (c *Check) Apex(d Delegation, reply *Message) *Zone { panic("unbuilt") }

// InsecureZone returns the zone below an InsecureCut.
func InsecureZone(d Delegation) *Zone { panic("unbuilt") }
