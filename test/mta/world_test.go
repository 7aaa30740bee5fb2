package mta

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

const (
	upstream = "127.0.0.53" // of the resolvers: the network to the recursor
	recursor = "127.0.0.54"
)

// address returns the address of the receiver of the i-th delivery.
func address(i int) string {
	const perNet = 200
	return fmt.Sprintf("%s.%d", [...]string{"192.0.2", "203.0.113"}[i/perNet], 10+i%perNet)
}

// addresses returns the addresses of all receivers.
func addresses() []string {
	all := []string{mallory, renewed}
	for _, p := range primaries {
		all = append(all, p.address)
	}
	for i := range deliveries {
		all = append(all, address(i))
	}
	return all
}

// stage has all that the MTAs find on their internet: zones, a network with attackers, and receivers.
type stage struct {
	identities map[string]identity                     // by domain
	certs      map[string]map[string]*x509.Certificate // likewise
	mallory    identity
	receivers  receivers
	network    network
	anchor     string // file with the trust anchor
}

// open builds the stage and serves it until the test ends.
func open(t *testing.T) *stage {
	t.Helper()
	s := &stage{identities: map[string]identity{}, certs: map[string]map[string]*x509.Certificate{}}
	s.receivers.forget()
	s.identify(t)
	tree := world.New(time.Now, s.plans()...)
	tree.Caching().Serve(t, recursor+":53")
	s.network = network{upstream: recursor + ":53", faults: map[string]tamper{}, attacks: map[string]tamper{}}
	for i, d := range deliveries {
		s.occupy(t, i, d)
	}
	s.receivers.listen(t, mallory, "", nil)
	s.network.serve(t, upstream)
	s.anchor = suite.Dir("root.ds")
	if err := os.WriteFile(s.anchor, []byte(tree.DS(".")[0].String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// identify makes the certificates.
func (s *stage) identify(t *testing.T) {
	t.Helper()
	end := time.Now().Add(time.Hour)
	s.mallory = newIdentity(t, "mx.mallory.plain", end)
	for _, d := range deliveries {
		if d.certs != nil {
			made, shown := issue(t, d.domain, d.certs, d.sends)
			s.certs[d.domain] = made
			s.identities[d.domain] = identity{shown, made["leaf"], made["ca"]}
			continue
		}
		switch d.shows {
		case "expired":
			s.identities[d.domain] = newIdentity(t, "mx."+d.domain, time.Now().Add(-time.Hour))
		case "other name":
			s.identities[d.domain] = newIdentity(t, "mx.of.somebody.else", end)
		default:
			s.identities[d.domain] = newIdentity(t, "mx."+d.domain, end)
		}
	}
}

// occupy opens the receiver of a delivery, and adds the faults of its nameserver and its attack to the network.
func (s *stage) occupy(t *testing.T, i int, d delivery) {
	t.Helper()
	shown := map[string]*tls.Config{"clear": nil, withOwnCertKey: s.mallory.tls()}
	c, other := shown[d.shows]
	if !other {
		c = s.identities[d.domain].tls()
	}
	s.receivers.listen(t, address(i), d.shows, c)
	if d.drops != 0 {
		s.network.faults[dns.Fqdn(d.domain)] = dropped(d.drops)
	}
	if d.attack != nil {
		s.network.attacks[dns.Fqdn(d.domain)] = d.attack(s)
	}
}

// plans returns the plans of all zones.
func (s *stage) plans() []zones.Plan {
	plans := []zones.Plan{
		{Name: ".", Text: world.Base, Config: zones.Config{Split: true}},
		world.Zone("dane."),
		{Name: "nsec3.", Text: world.Base, Config: nsec3},
		{Name: "opt-out.", Text: world.Base, Config: zones.Config{NSEC3: &zones.NSEC3{OptOut: true}}},
		{Name: "plain.", Text: world.Base, Config: unsigned},
		{Name: "mallory.plain.", Text: world.Base + "mx A " + mallory + "\n", Config: unsigned},
	}
	for i, d := range deliveries {
		if d.zone == "-" {
			continue
		}
		name := d.zone
		if name == "" {
			name = d.domain
		}
		plans = append(plans, zones.Plan{
			Name: dns.Fqdn(name), Text: world.Base + s.fill(d.text, d.domain, address(i)),
			Config: d.config, Fault: d.fault,
		})
	}
	return plans
}

// fill fills the address and the certificates of a domain's receiver into a text of the table.
func (s *stage) fill(text, domain, address string) string {
	own := s.identities[domain]
	pairs := []string{
		"{A}", address, "{EE}", tlsa(3, own.leaf), "{TA}", tlsa(2, own.authority), "{PKIX}", tlsa(1, own.leaf),
		"{OTHER PKIX}", tlsa(1, s.mallory.leaf), "{MALLORY}", tlsa(3, s.mallory.leaf),
	}
	for other, i := range s.identities {
		pairs = append(pairs, "{EE:"+other+"}", tlsa(3, i.leaf))
	}
	return fillIn(strings.NewReplacer(pairs...).Replace(text), s.certs[domain])
}
