package universe

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// Spec says what a universe is like.
type Spec struct {
	Seed      uint64
	Domains   int
	Insecure  float64   // share of the domains that have no DS and are not signed
	Shared    float64   // share of the domains whose mail host is a provider's
	Providers int       // so many of the domains, the first ones, have mail hosts for others
	Algorithm int       // of all keys: 8, 10, 13, 14 or 15
	Denial    Denial    // of the domains; the top-level domains have theirs
	Now       time.Time // signatures are valid from an hour before, for 14 days
}

// Denial is how domains deny names and types.
type Denial string

// The ways to deny.
const (
	NSEC  Denial = "nsec"
	NSEC3 Denial = "nsec3"
	Mixed Denial = "mixed" // a domain has the one or the other
)

// registry is a top-level domain.
type registry struct {
	name   string
	denial *zones.NSEC3 // nil: NSEC
}

// registries deny as large ones of the Internet do.
var registries = []registry{
	{"com.", &zones.NSEC3{OptOut: true}},
	{"cz.", &zones.NSEC3{}},
	{"nl.", &zones.NSEC3{OptOut: true}},
	{"se.", nil},
}

// Check says, in words, why there is no such universe.
func (s Spec) Check() error {
	switch {
	case s.Domains < 1:
		return fmt.Errorf("a universe has at least one domain, not %d", s.Domains)
	case s.Insecure < 0 || s.Insecure > 1:
		return fmt.Errorf("the share of insecure domains is from 0 to 1, not %v", s.Insecure)
	case s.Shared < 0 || s.Shared > 1:
		return fmt.Errorf("the share of domains with a shared mail host is from 0 to 1, not %v", s.Shared)
	case s.Providers < 1 || s.Providers > s.Domains:
		return fmt.Errorf("from 1 to %d domains may be providers, not %d", s.Domains, s.Providers)
	case !slices.Contains([]Denial{NSEC, NSEC3, Mixed}, s.Denial):
		return fmt.Errorf("names are denied by nsec, nsec3 or mixed, not by %q", s.Denial)
	}
	_, err := s.key(".")
	return err
}

// domain is what a mail domain is like.
type domain struct {
	name     string
	secure   bool
	nsec3    bool
	provider int    // the index of the domain that has its mail host, its own or another
	host     string // of its mail
	aaaa     bool   // its own host has an address of IPv6
	tlsa     string // the digest that its own host's TLSA record has, in hex; "" without a record
}

// domain draws the domain of an index.
func (s Spec) domain(i int) domain {
	chance := rand.New(rand.NewPCG(s.Seed, uint64(i)))
	d := domain{
		name:     word(chance) + strconv.Itoa(i) + "." + registries[chance.IntN(len(registries))].name,
		secure:   chance.Float64() >= s.Insecure,
		nsec3:    chance.IntN(2) == 0 && s.Denial == Mixed || s.Denial == NSEC3,
		aaaa:     chance.IntN(2) == 0,
		provider: i,
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
	return d
}

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
	z, err := zones.Parse(d.name, text)
	if err != nil {
		return nil, err
	}
	var denial *zones.NSEC3
	if d.nsec3 {
		denial = &zones.NSEC3{}
	}
	return z, s.sign(z, d.secure, denial)
}

// sign signs a zone with its own key. Each RRset gets its signature when it is first needed.
func (s Spec) sign(z *zones.Zone, secure bool, denial *zones.NSEC3) error {
	config := zones.Config{Unsigned: !secure, NSEC3: denial, Lazy: true}
	config.Inception = s.Now.Add(-time.Hour)
	config.Expiration = config.Inception.Add(14 * 24 * time.Hour)
	if secure {
		key, err := s.key(z.Name)
		if err != nil {
			return err
		}
		config.Keys = []*zones.Key{key}
	}
	return z.Sign(config)
}

// makeRegistries makes the top-level domains, given the delegations of the domains, and the root.
func (s Spec) makeRegistries(delegations [][]dns.RR) (map[string]*zones.Zone, error) {
	all := map[string]*zones.Zone{}
	root, err := zones.Parse(".", apex)
	if err != nil {
		return nil, err
	}
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
		if err := s.sign(z, true, r.denial); err != nil {
			return nil, err
		}
		root.Add(delegation(z)...)
		all[r.name] = z
	}
	all["."] = root
	return all, s.sign(root, true, nil)
}
