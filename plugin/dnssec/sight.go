package dnssec

import (
	"time"

	"github.com/miekg/dns"
)

// Sight is what the reply to a DNSKEY question shows those who follow the keys of a zone (RFC 5011).
type Sight struct {
	Zone *Zone         // as its trust anchors have it
	Keys []*dns.DNSKEY // all there are
	// Revoked are those of them whose REVOKE bit is set and who have signed the RRset themselves. That is all that a
	// revoked key may authenticate (V-5, T-8).
	Revoked []*dns.DNSKEY
	// Signers are the key tags that RRSIGs over the RRset name; nobody has verified all of them.
	Signers []uint16
	TTL     time.Duration // the Original TTL, as the signature has it that made the zone Secure; 0 if it is not

	reply *Message
}

// Sight judges the reply to the question DNSKEY at a zone by its trust anchors.
func (c *Check) Sight(zone string, anchors []*dns.DS, reply *Message) Sight {
	s := Sight{reply: reply.Clone()}
	s.Zone = s.Under(c, zone, anchors)
	set := find(reply.Answer, zone, dns.TypeDNSKEY)
	if set == nil {
		return s
	}
	for _, rr := range set.RRs {
		key, ok := rr.(*dns.DNSKEY)
		if !ok {
			continue
		}
		if s.Keys = append(s.Keys, key); c.revoked(set, key) {
			s.Revoked = append(s.Revoked, key)
		}
	}
	for _, sig := range set.Sigs {
		s.Signers = append(s.Signers, sig.KeyTag)
		if tie := s.Zone.Tie; s.Zone.Status == Secure && sig.KeyTag == tie.KeyTag && sig.Expiration == tie.Expiration {
			s.TTL = time.Duration(sig.OrigTtl) * time.Second
		}
	}
	return s
}

// Under judges the reply again, by other trust anchors.
func (s Sight) Under(c *Check, zone string, anchors []*dns.DS) *Zone {
	d := c.Policy.Anchor(zone, anchors)
	if d.Cut != SignedCut {
		return BogusZone(zone, d.Cause)
	}
	if s.reply == nil {
		return BogusZone(zone, noKey(d, "the DNSKEY RRset was not seen"))
	}
	return c.Apex(d, s.reply.Clone())
}

// revoked reports whether a key has revoked itself.
func (c *Check) revoked(set *RRset, key *dns.DNSKEY) bool {
	if key.Flags&flagRevoke == 0 || key.Flags&dns.ZONE == 0 || key.Protocol != 3 {
		return false
	}
	parsed, err := ParseKey(key)
	if err != nil {
		return false
	}
	only := &Zone{Name: set.Owner, Keys: []*Key{parsed}}
	sig, _ := c.verifyWith(set, bySigner(set.Sigs, set.Owner, anyLabels), only)
	return sig != nil
}
