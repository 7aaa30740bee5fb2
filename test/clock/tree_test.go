package clock

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

const (
	hour = time.Hour
	day  = 24 * hour
	// ttl is the TTL of everything but denials, and how long to wait between two steps of a rollover.
	ttl = hour
	// negative is the TTL of denials.
	negative = 5 * time.Minute
)

// state is how a zone is signed at the moment.
type state struct {
	name, text            string
	keys                  []*zones.Key // that are in the DNSKEY RRset
	ksk, zsk              []*zones.Key // that sign the DNSKEY RRset, and all others; without zsk the zone is unsigned
	ds                    []*zones.Key // whose DS are in the zone above
	dsTTL                 time.Duration
	inception, expiration time.Time
	denial                *zones.NSEC3
}

// tree has the zones of a stage.
type tree struct {
	t *testing.T
	*world.Tree
	begun  time.Time
	states []*state
}

func newTree(t *testing.T, c *world.Clock) *tree {
	t.Helper()
	tr := &tree{t: t, Tree: world.New(c.Now), begun: c.Now()}
	wild := world.Mail + "*.wild MX 10 mx\n"
	for _, s := range []struct{ name, text string }{{".", world.Base}, {"com.", world.Base}, {"example.com.", wild},
		{"still.com.", wild}} {
		z := &state{name: s.name, text: s.text, dsTTL: ttl, inception: tr.begun.Add(-hour),
			expiration: tr.begun.Add(14 * day)}
		tr.states = append(tr.states, z)
		ksk, zsk := tr.newKey(z, dns.ECDSAP256SHA256, ksk), tr.newKey(z, dns.ECDSAP256SHA256, zsk)
		z.keys, z.ksk, z.zsk, z.ds = keys(ksk, zsk), keys(ksk), keys(zsk), keys(ksk)
	}
	root := tr.at(".")
	root.ds = append(root.ds, tr.newKey(root, dns.ECDSAP256SHA256, ksk)) // a trust anchor for a later key
	tr.publish()
	return tr
}

// Flags of keys.
const (
	ksk = dns.ZONE | dns.SEP
	zsk = dns.ZONE
)

func keys(all ...*zones.Key) []*zones.Key { return all }

func (tr *tree) newKey(z *state, algorithm uint8, flags uint16) *zones.Key {
	tr.t.Helper()
	k, err := zones.NewKey(z.name, algorithm, flags)
	if err != nil {
		tr.t.Fatal(err)
	}
	return k
}

// at returns the state of a zone.
func (tr *tree) at(name string) *state {
	for _, z := range tr.states {
		if z.name == name {
			return z
		}
	}
	panic(name)
}

// publish signs all zones by their states, and serves them from now on.
func (tr *tree) publish() {
	var plans []zones.Plan
	for _, z := range tr.states {
		plans = append(plans, z.plan())
	}
	tr.Add(plans...)
}

// plan returns the plan of the zone. DS and DNSKEY RRset are made by means of a [zones.Fault], though nothing is wrong
// with them: a plan has no other way to set them.
func (z *state) plan() zones.Plan {
	return zones.Plan{Name: z.name, Text: z.text, Config: zones.Config{
		Unsigned: len(z.zsk) == 0, Keys: z.zsk, NSEC3: z.denial, Inception: z.inception, Expiration: z.expiration,
	}, Fault: zones.Fault{DS: z.delegation, Zone: z.publishKeys}}
}

// delegation returns the DS RRset in the zone above.
func (z *state) delegation([]*dns.DS) (all []*dns.DS) {
	for _, k := range z.ds {
		ds := k.DS(dns.SHA256)
		ds.Hdr.Ttl = uint32(z.dsTTL / time.Second)
		all = append(all, ds)
	}
	return all
}

// publishKeys makes the DNSKEY RRset.
func (z *state) publishKeys(zone *zones.Zone) {
	zone.Edit(z.name, dns.TypeDNSKEY, func(_, _ []dns.RR) (rrs, sigs []dns.RR) {
		for _, k := range z.keys {
			rrs = append(rrs, k.DNSKEY)
		}
		return rrs, world.Sign(rrs, z.inception, z.expiration, z.ksk...)
	})
}

// anchors returns the DS of the root's keys.
func (tr *tree) anchors() (anchors []*dns.DS) {
	for _, k := range tr.at(".").ds {
		anchors = append(anchors, k.DS(dns.SHA256))
	}
	return anchors
}
