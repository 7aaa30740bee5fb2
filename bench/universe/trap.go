package universe

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// trap is a top-level domain that costs a resolver work, or time, for each name asked in it.
type trap struct {
	name   string
	text   string // of the zone, behind what all have
	denial *zones.NSEC3
	spoil  func(s Spec, z *zones.Zone) error
	labels int // of names that are asked; 0: one
	rcode  int // right for them
	secure bool
	silent bool // it is never answered for
}

// Traps are the names of all of them, which Flood takes.
func Traps() (names []string) {
	for _, t := range traps {
		names = append(names, strings.TrimSuffix(t.name, "."))
	}
	return names
}

var traps = []*trap{
	{name: "bogus.", text: "* A 192.0.2.25\n", spoil: corrupt, rcode: dns.RcodeServerFailure},
	{name: "keytrap.", spoil: collide, rcode: dns.RcodeServerFailure},
	{
		name: "nsec3.", denial: &zones.NSEC3{Iterations: 50, Salt: strings.Repeat("ab", 100)}, text: hosts(30),
		labels: 60, rcode: dns.RcodeNameError, secure: true,
	},
	{name: "many.", text: wide(50), secure: true},
	{name: "signed.", denial: &zones.NSEC3{}, text: hosts(200), rcode: dns.RcodeNameError, secure: true},
	{name: "optout.", denial: &zones.NSEC3{OptOut: true}, text: delegations(200), rcode: dns.RcodeNameError},
	{name: "silent.", silent: true, rcode: dns.RcodeServerFailure},
}

func hosts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "h%d A 192.0.2.25\n", i)
	}
	return b.String()
}

// delegations are to unsigned zones, but for a few records.
func delegations(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "d%d NS ns.d%d\nns.d%d A 192.0.2.53\n", i, i, i)
	}
	return b.String() + hosts(n/10)
}

// wide is a wildcard with many records.
func wide(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "* A 192.0.2.%d\n", i+1)
	}
	return b.String()
}

// zone makes the zone.
func (t *trap) zone(s Spec) (*zones.Zone, error) {
	z, err := zones.Parse(t.name, apex+t.text)
	if err != nil {
		return nil, err
	}
	if err := s.sign(z, s.Algorithms[0], t.denial); err != nil || t.spoil == nil {
		return z, err
	}
	return z, t.spoil(s, z)
}

// trapOf is the trap in which a name lies and is not its top; nil if it lies in none.
func trapOf(name string) *trap {
	name = dns.CanonicalName(name)
	for _, t := range traps {
		if len(name) > len(t.name) && dns.IsSubDomain(t.name, name) {
			return t
		}
	}
	return nil
}

// spring is a reply to a question about a trap.
func (u *Universe) spring(t *trap, q dns.Question) []byte {
	if t.silent {
		return nil
	}
	packed, err := packedReply(q, u.registries[t.name].Answer(q, true))
	if err != nil {
		return nil
	}
	return packed
}

// Flood returns what draws a question about a name in a trap that hardly anybody has asked for before; nil if there
// is no such trap.
func Flood(name string, chance *rand.Rand) func() *Question {
	for _, t := range traps {
		if t.name == name+"." {
			return func() *Question { return t.draw(chance) }
		}
	}
	return nil
}

func (t *trap) draw(chance *rand.Rand) *Question {
	name := fmt.Sprintf("%s%x.%s", word(chance), chance.Uint64(), strings.Repeat("x.", max(t.labels-1, 0))+t.name)
	q := Attack(dns.Question{Name: name, Qtype: dns.TypeA}, t.rcode, t.secure)
	return &q
}

// corrupt breaks the signature over what the wildcard has.
func corrupt(_ Spec, z *zones.Zone) error {
	z.Edit("*."+z.Name, dns.TypeA, func(rrs, sigs []dns.RR) (_, _ []dns.RR) {
		for _, rr := range sigs {
			sig := rr.(*dns.RRSIG)
			raw, _ := base64.StdEncoding.DecodeString(sig.Signature) // we made it
			raw[len(raw)/2] ^= 0x10
			sig.Signature = base64.StdEncoding.EncodeToString(raw)
		}
		return rrs, sigs
	})
	return nil
}

const (
	colliding   = 60    // keys of one tag (CVE-2023-50387)
	fakes       = 3     // signatures in the place of each that a denial has: as many as a datagram has room for
	trapTag     = 12345 // of the keys
	fakeModulus = 128   // octets
)

// collide adds keys of one tag, and has as many signatures by them in each denial as a datagram has room for: of none
// of them it is known which key it is by.
func collide(s Spec, z *zones.Zone) error {
	chance := rand.New(rand.NewPCG(s.Seed, trapTag))
	var failed error
	z.Edit(z.Name, dns.TypeDNSKEY, func(rrs, _ []dns.RR) (_, sigs []dns.RR) {
		for len(rrs) <= colliding {
			if k := fakeKey(z.Name, chance); k != nil {
				rrs = append(rrs, k)
			}
		}
		sig, err := z.Keys[0].Sign(rrs, s.Now.Add(-time.Hour), s.Now.Add(24*time.Hour))
		failed = err
		return rrs, []dns.RR{sig}
	})
	for _, t := range []uint16{dns.TypeSOA, dns.TypeNSEC} {
		z.Edit(z.Name, t, func(rrs, sigs []dns.RR) (_, _ []dns.RR) { return rrs, fakeSignatures(sigs, chance) })
	}
	return failed
}

// fakeKey is an RSA key of the tag: nobody has the private one, and nobody needs it, as it may be tried. Nil: this
// draw gives none.
func fakeKey(zone string, chance *rand.Rand) *dns.DNSKEY {
	exponent := []byte{3, 1, 0, 1}
	raw := append(slices.Clone(exponent), octets(fakeModulus, chance)...)
	raw[len(exponent)] |= 0x80
	raw[len(raw)-1] |= 1
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: dns.ZONE, Protocol: 3, Algorithm: dns.RSASHA256,
	}
	const at = 12 // an even place in the modulus
	for range 3 { // a carry more or less
		key.PublicKey = base64.StdEncoding.EncodeToString(raw)
		off := trapTag - key.KeyTag()
		if off == 0 {
			return key
		}
		binary.BigEndian.PutUint16(raw[at:], binary.BigEndian.Uint16(raw[at:])+off)
	}
	return nil
}

// fakeSignatures are many in the place of one.
func fakeSignatures(sigs []dns.RR, chance *rand.Rand) (all []dns.RR) {
	for range fakes {
		sig := *sigs[0].(*dns.RRSIG)
		raw := octets(fakeModulus, chance)
		raw[0] = 0 // below the modulus
		sig.Algorithm, sig.KeyTag, sig.Signature = dns.RSASHA256, trapTag, base64.StdEncoding.EncodeToString(raw)
		all = append(all, &sig)
	}
	return all
}

func octets(n int, chance *rand.Rand) []byte {
	all := make([]byte, n)
	for i := range all {
		all[i] = byte(chance.Uint32())
	}
	return all
}
