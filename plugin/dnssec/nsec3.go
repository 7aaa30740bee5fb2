package dnssec

import (
	"crypto/sha1"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxHashes is how many names may be hashed for one client query (L-4). At the default iteration limit that is 5,100
// rounds of SHA-1, about what PowerDNS and Unbound allow (CVE-2023-50868).
const maxHashes = 100

// optOut is the only flag of an NSEC3 (RFC 5155 section 3.1.2.1).
const optOut = 1

// nsec3 is one validated NSEC3. Owner and next are raw hashes: base32hex keeps their order, but raw octets need no
// thought about case (V-58, V-63).
type nsec3 struct {
	record
	owner, next string
	optOut      bool
}

// nsec3Set is the validated NSEC3 of one parameter set (V-60). The hash algorithm is always SHA-1, as there is no other
// (V-59).
type nsec3Set struct {
	iterations uint16
	salt       string // raw octets
	list       []*nsec3
}

// admitNSEC3 adds an NSEC3 to its parameter set in the evidence, or says what is wrong with it.
func (e *evidence) admitNSEC3(rr *dns.NSEC3, r record) string {
	owner, okOwner := DecodeHash(FirstLabel(r.set.Owner))
	next, okNext := DecodeHash(rr.NextDomain)
	salt, err := hex.DecodeString(strings.TrimPrefix(rr.Salt, "-"))
	switch {
	case rr.Hash != dns.SHA1:
		return fmt.Sprintf("has the unknown hash algorithm %d", rr.Hash)
	case rr.Flags&^optOut != 0:
		return fmt.Sprintf("has the unknown flags %d", rr.Flags)
	case !okOwner || Parent(r.set.Owner) != e.zone.Name:
		return "does not have a hash directly below the apex as its owner"
	case int(r.sig.Labels) != dns.CountLabel(r.set.Owner):
		return "was made from a wildcard"
	case !okNext || err != nil:
		return "has a next hash or salt that cannot be read"
	case !ascending(r.types):
		return "has a type bit map out of order"
	}
	set := e.nsec3Set(rr.Iterations, string(salt))
	set.list = append(set.list, &nsec3{r, owner, next, rr.Flags == optOut})
	return ""
}

// nsec3Set returns the set of these parameters, made if it is new, and keeps the sets in their order.
func (e *evidence) nsec3Set(iterations uint16, salt string) *nsec3Set {
	want := &nsec3Set{iterations: iterations, salt: salt}
	i, found := slices.BinarySearchFunc(e.nsec3, want, compareSets)
	if !found {
		e.nsec3 = slices.Insert(e.nsec3, i, want)
	}
	return e.nsec3[i]
}

// DecodeHash reads a SHA-1 hash in base32hex without padding, in any case (RFC 4648 section 7).
func DecodeHash(text string) (hash string, ok bool) {
	var upper [sha1.Size * 8 / 5]byte
	if len(text) != len(upper) {
		return "", false
	}
	for i := range upper {
		if upper[i] = text[i]; 'a' <= text[i] && text[i] <= 'z' {
			upper[i] -= 'a' - 'A'
		}
	}
	var octets [sha1.Size]byte
	n, err := base32.HexEncoding.Decode(octets[:], upper[:])
	return string(octets[:]), err == nil && n == len(octets)
}

// covers says that n shows that no name with the hash h exists. The last of a chain wraps, and a chain of one covers
// all but itself (V-63).
func (n *nsec3) covers(h string) bool {
	if n.owner < n.next {
		return n.owner < h && h < n.next
	}
	return n.owner < h || h < n.next
}

// nsec3Chain is the denier of one parameter set of the zone named apex.
type nsec3Chain struct {
	check *Check
	apex  string
	set   *nsec3Set
}

func (ch nsec3Chain) nodes(name string) []finding {
	h, ok := ch.hash(name)
	var found []finding
	for _, n := range ch.set.list {
		if ok && n.owner == h {
			found = append(found, finding{name: name, record: &n.record, used: []*record{&n.record}})
		}
	}
	return found
}

// closestEnclosers looks for the deepest ancestor of name that has an NSEC3 (V-52). If that is a delegation or DNAME,
// the name is not this zone's to deny.
func (ch nsec3Chain) closestEnclosers(name string) []finding {
	for ancestor := name; ancestor != ch.apex; {
		ancestor = Parent(ancestor)
		node, ok := first(ch.nodes(ancestor))
		if !ok {
			continue
		}
		if node.record.occludes(ancestor, ch.apex) {
			return nil
		}
		found := ch.coversNextCloser(name, ancestor)
		for i, cover := range found {
			found[i] = node.and(cover)
		}
		return found
	}
	return nil
}

func (ch nsec3Chain) coversNextCloser(name, encloser string) []finding {
	h, ok := ch.hash(Toward(encloser, name))
	var found []finding
	for _, n := range ch.set.list {
		if ok && n.covers(h) {
			found = append(found, finding{name: encloser, optOut: n.optOut, used: []*record{&n.record}})
		}
	}
	return found
}

func (ch nsec3Chain) hash(name string) (string, bool) {
	ch.check.pause()
	return ch.check.hashes.of(hashed{ch.set.iterations, ch.set.salt, name})
}

// Hash returns the raw NSEC3 hash of a canonical name (RFC 5155 section 5), with a salt in raw octets, for aggressive
// use (C-9). It counts among the hashes of the client query (L-4). Not ok beyond the iterations allowed (V-61), for
// what is no name, and when half of the hashes are spent: the rest is for what has to be judged.
func (c *Check) Hash(name string, iterations uint16, salt string) (hash string, ok bool) {
	if int(iterations) > c.Policy.NSEC3Iterations || len(c.hashes.known) >= maxHashes/2 {
		return "", false
	}
	c.pause()
	return c.hashes.of(hashed{iterations, salt, name})
}

// hashes remembers and counts the hashes of one client query (L-4, L-5).
type hashes struct {
	known   map[hashed]string
	refused bool // since it was last cleared, a hash was refused for want of budget
}

// hashed is a name with the parameters under which it is hashed.
type hashed struct {
	iterations uint16
	salt       string
	name       string
}

// of returns the hash of h, or not ok if that is one too many.
func (hs *hashes) of(h hashed) (hash string, ok bool) {
	if hash, ok = hs.known[h]; ok {
		return hash, true
	}
	if len(hs.known) == maxHashes {
		hs.refused = true
		return "", false
	}
	hash, ok = h.sum()
	if ok {
		if hs.known == nil {
			hs.known = make(map[hashed]string)
		}
		hs.known[h] = hash
	}
	return hash, ok
}

// sum is IH(salt, name, iterations) of RFC 5155 section 5. It is not ok for what is no name.
func (h hashed) sum() (hash string, ok bool) {
	var buf [255 + 255]byte // the longest name and salt
	n, err := dns.PackDomainName(h.name, buf[:255], 0, nil, false)
	if err != nil {
		return "", false
	}
	x := sha1.Sum(append(buf[:n], h.salt...))
	for range h.iterations {
		x = sha1.Sum(append(append(buf[:0], x[:]...), h.salt...))
	}
	return string(x[:]), true
}

// over says that the iterations of set are beyond the policy: it is never hashed with (V-61).
func (c *Check) over(set *nsec3Set) bool { return int(set.iterations) > c.Policy.NSEC3Iterations }

// overLimit returns the first set beyond the policy, or nil.
func (c *Check) overLimit(e *evidence) *nsec3Set {
	for _, set := range e.nsec3 {
		if c.over(set) {
			return set
		}
	}
	return nil
}

func (set *nsec3Set) records() []*record {
	var rs []*record
	for _, n := range set.list {
		rs = append(rs, &n.record)
	}
	return rs
}

func (c *Check) tooManyIterations(zone string, set *nsec3Set) *Failure {
	return Failure{Code: dns.ExtendedErrorCodeUnsupportedNSEC3IterValue, Zone: zone, Type: dns.TypeNSEC3}.Says(
		"the NSEC3 of %s uses %d iterations, more than the %d allowed", zone, set.iterations, c.Policy.NSEC3Iterations)
}

func tooManyHashes(zone, name string) *Failure {
	f := limited("nsec3_hashes", name, dns.TypeNSEC3)
	f.Zone = zone
	return f.Says("%s: a proof about %s needs more than the %d NSEC3 hashes allowed to one query", zone, name,
		maxHashes)
}
