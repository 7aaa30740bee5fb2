package universe

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// Spec says what a universe is like.
type Spec struct {
	Seed        uint64
	Domains     int
	Insecure    float64   // share of the domains that have no DS and are not signed; [AsReal]: as in each registry
	Shared      float64   // share of the domains whose mail host is a provider's
	Providers   int       // so many of the domains, the first ones, have mail hosts for others
	Algorithms  []int     // of keys, one drawn for each domain: 8, 10, 13, 14, 15; all others have the first
	Unsupported float64   // share of the signed domains whose algorithm no validator knows, so that they are Insecure
	Denial      Denial    // of the domains
	TopLevel    Denial    // of the top-level domains; Mixed: each as it is on the Internet
	Now         time.Time // signatures are valid from an hour before, for 14 days
	// Policies is the address of the hosts that have the domains' policies of MTA-STS; the zero value: there are none.
	Policies netip.Addr
}

// AsReal is the share of insecure domains that each top-level domain really has.
const AsReal = -1

// Denial is how zones deny names and types.
type Denial string

// The ways to deny.
const (
	NSEC   Denial = "nsec"
	NSEC3  Denial = "nsec3"
	OptOut Denial = "opt-out" // NSEC3 in which insecure delegations are left out
	Mixed  Denial = "mixed"   // a domain has NSEC or NSEC3
)

// denials are all ways.
var denials = []Denial{NSEC, NSEC3, OptOut, Mixed}

// of is how a zone denies; nil: by NSEC.
func (d Denial) of(mixed *zones.NSEC3) *zones.NSEC3 {
	switch d {
	case NSEC:
		return nil
	case NSEC3:
		return &zones.NSEC3{}
	case OptOut:
		return &zones.NSEC3{OptOut: true}
	}
	return mixed
}

// registry is a top-level domain.
type registry struct {
	name     string
	denial   *zones.NSEC3 // nil: NSEC
	insecure float64      // share of its domains, as registries publish it
}

// registries are as large ones of the Internet.
var registries = []registry{
	{"com.", &zones.NSEC3{OptOut: true}, 0.95},
	{"cz.", &zones.NSEC3{}, 0.40},
	{"nl.", &zones.NSEC3{OptOut: true}, 0.40},
	{"se.", nil, 0.35},
}

// Check says, in words, why there is no such universe.
func (s Spec) Check() error {
	switch {
	case s.Domains < 1:
		return fmt.Errorf("a universe has at least one domain, not %d", s.Domains)
	case s.Insecure != AsReal && (s.Insecure < 0 || s.Insecure > 1):
		return fmt.Errorf("the share of insecure domains is from 0 to 1, not %v", s.Insecure)
	case s.Shared < 0 || s.Shared > 1:
		return fmt.Errorf("the share of domains with a shared mail host is from 0 to 1, not %v", s.Shared)
	case s.Providers < 1 || s.Providers > s.Domains:
		return fmt.Errorf("from 1 to %d domains may be providers, not %d", s.Domains, s.Providers)
	case !slices.Contains(denials, s.Denial):
		return notDenied(s.Denial)
	case !slices.Contains(denials, s.TopLevel):
		return notDenied(s.TopLevel)
	case len(s.Algorithms) == 0:
		return errors.New("a universe is signed with one algorithm at least")
	}
	for _, a := range s.Algorithms {
		if _, err := s.key(".", a); err != nil {
			return err
		}
	}
	return nil
}

func notDenied(d Denial) error {
	return fmt.Errorf("names are denied by nsec, nsec3, opt-out or mixed, not by %q", d)
}

// domain is what a mail domain is like.
type domain struct {
	name     string
	signed   bool
	secure   bool // signed with an algorithm that is known
	nsec3    bool
	algo     int
	provider int    // the index of the domain that has its mail host, its own or another
	host     string // of its mail
	aaaa     bool   // its own host has an address of IPv6
	tlsa     string // the digest that its own host's TLSA record has, in hex; "" without a record
	sts      string // the mode of its policy of MTA-STS; "" without one
}

// domain draws the domain of an index.
func (s Spec) domain(i int) domain {
	chance := rand.New(rand.NewPCG(s.Seed, uint64(i)))
	above, insecure := registries[chance.IntN(len(registries))], s.Insecure
	if insecure == AsReal {
		insecure = above.insecure
	}
	d := domain{
		name:     word(chance) + strconv.Itoa(i) + "." + above.name,
		signed:   chance.Float64() >= insecure,
		nsec3:    chance.IntN(2) == 0,
		aaaa:     chance.IntN(2) == 0,
		algo:     s.Algorithms[chance.IntN(len(s.Algorithms))],
		provider: i,
	}
	if d.secure = d.signed; d.signed && chance.Float64() < s.Unsupported {
		d.secure, d.algo = false, unknown
	}
	digest := make([]byte, 32)
	for j := range digest {
		digest[j] = byte(chance.Uint32())
	}
	if chance.IntN(2) == 0 {
		d.tlsa = hex.EncodeToString(digest)
	}
	shared, provider := chance.Float64() < s.Shared, chance.IntN(s.Providers)
	d.host = "mx." + d.name
	if shared && i >= s.Providers {
		d.provider, d.host = provider, s.domain(provider).host
	}
	if s.Policies.IsValid() {
		d.sts = modes[chance.IntN(len(modes))]
	}
	return d
}

// modes are those of policies of MTA-STS, each as often as it stands here; "" of domains without one.
var modes = []string{enforce, enforce, enforce, "testing", "", ""}

const enforce = "enforce"

// unknown is the number of no algorithm that validators know.
const unknown = 200

// word makes names as long as those of the Internet often are.
func word(chance *rand.Rand) string {
	const consonants, vowels = "bdfgklmnprst", "aeiou"
	var b strings.Builder
	for range 2 + chance.IntN(3) {
		b.WriteByte(consonants[chance.IntN(len(consonants))])
		b.WriteByte(vowels[chance.IntN(len(vowels))])
	}
	return b.String()
}

// questions are those of an MTA.
func (d domain) questions() []dns.Question {
	return []dns.Question{
		{Name: d.name, Qtype: dns.TypeMX},
		{Name: d.host, Qtype: dns.TypeA},
		{Name: d.host, Qtype: dns.TypeAAAA},
		{Name: "_25._tcp." + d.host, Qtype: dns.TypeTLSA},
	}
}

// asksForPolicy are the questions of those who fetch a domain's policy.
func (d domain) asksForPolicy() []dns.Question {
	return []dns.Question{
		{Name: "_mta-sts." + d.name, Qtype: dns.TypeTXT},
		{Name: "mta-sts." + d.name, Qtype: dns.TypeA},
		{Name: "mta-sts." + d.name, Qtype: dns.TypeAAAA},
	}
}

// apex is what every zone has.
const apex = `@ SOA ns hostmaster 1 7200 3600 1209600 3600
@ NS ns
ns A 192.0.2.53
`

// zone makes the zone of a domain.
func (s Spec) zone(d domain) (*zones.Zone, error) {
	text := apex + "@ MX 10 " + d.host + "\n"
	if own := d.host == "mx."+d.name; own {
		text += "mx A 192.0.2.25\n"
		if d.aaaa {
			text += "mx AAAA 2001:db8::25\n"
		}
		if d.tlsa != "" {
			text += "_25._tcp.mx TLSA 3 1 1 " + d.tlsa + "\n"
		}
	}
	if d.sts != "" {
		text += fmt.Sprintf("_mta-sts TXT \"v=STSv1; id=1\"\nmta-sts A %s\n", s.Policies)
	}
	z, err := zones.Parse(d.name, text)
	if err != nil {
		return nil, err
	}
	var mixed *zones.NSEC3
	if d.nsec3 {
		mixed = &zones.NSEC3{}
	}
	if !d.signed {
		return z, z.Sign(zones.Config{Unsigned: true})
	}
	return z, s.sign(z, d.algo, s.Denial.of(mixed))
}

// sign signs a zone with its own key. Each RRset gets its signature when it is first needed.
func (s Spec) sign(z *zones.Zone, algorithm int, denial *zones.NSEC3) error {
	key, err := s.key(z.Name, algorithm)
	if err != nil {
		return err
	}
	from := s.Now.Add(-time.Hour)
	return z.Sign(zones.Config{
		NSEC3: denial, Lazy: true, Keys: []*zones.Key{key}, Inception: from, Expiration: from.Add(14 * 24 * time.Hour),
	})
}

// makeRegistries makes the top-level domains, given the delegations of the domains, and the root.
func (s Spec) makeRegistries(delegations [][]dns.RR) (map[string]*zones.Zone, error) {
	all := map[string]*zones.Zone{}
	for _, r := range registries {
		z, err := zones.Parse(r.name, apex)
		if err != nil {
			return nil, err
		}
		for _, rrs := range delegations {
			if dns.IsSubDomain(r.name, rrs[0].Header().Name) {
				z.Add(rrs...)
			}
		}
		if err := s.sign(z, s.Algorithms[0], s.TopLevel.of(r.denial)); err != nil {
			return nil, err
		}
		all[r.name] = z
	}
	for _, t := range traps {
		z, err := t.zone(s)
		if err != nil {
			return nil, err
		}
		all[t.name] = z
	}
	root, err := zones.Parse(".", apex)
	if err != nil {
		return nil, err
	}
	for _, z := range all {
		root.Add(delegation(z)...)
	}
	all["."] = root
	return all, s.sign(root, s.Algorithms[0], nil)
}
