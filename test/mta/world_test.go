//go:build linux

package mta

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/certificates"
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
	all := []string{mallory, renewed, silent}
	for _, p := range primaries {
		all = append(all, p.address)
	}
	for i := range deliveries {
		all = append(all, address(i))
	}
	for i := range promises {
		all = append(all, policyAddress(i))
	}
	return all
}

// stage has all that the MTAs find on their internet: zones, a network with attackers, and receivers.
type stage struct {
	to          []delivery                              // all domains that get mail
	public      *certificates.Authority                 // one that everybody trusts
	authorities string                                  // file with its certificate
	identities  map[string]identity                     // by domain
	certs       map[string]map[string]*x509.Certificate // likewise
	mallory     identity
	receivers   receivers
	network     network
	anchor      string // file with the trust anchor
}

// open builds the stage for mail to some domains, and serves it until the test ends.
func open(t *testing.T, to []delivery) *stage {
	t.Helper()
	s := &stage{to: to, public: certificates.New(t), authorities: suite.Dir("authorities.pem"),
		identities: map[string]identity{}, certs: map[string]map[string]*x509.Certificate{}}
	s.receivers.forget()
	s.identify(t)
	tree := world.New(time.Now, s.plans()...)
	tree.Caching().Serve(t, recursor+":53")
	s.network = network{upstream: recursor + ":53", faults: map[string]tamper{}, attacks: map[string]tamper{}}
	for i, d := range s.to {
		s.occupy(t, i, d)
	}
	s.receivers.listen(t, mallory, withOwnCertKey, s.mallory.tls())
	s.network.serve(t, upstream)
	s.anchor = suite.Dir("root.ds")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.public.Certificate.Raw})
	if err := os.WriteFile(s.authorities, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.anchor, []byte(tree.DS(".")[0].String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// identify makes the certificates.
func (s *stage) identify(t *testing.T) {
	t.Helper()
	end := time.Now().Add(time.Hour)
	s.mallory = newIdentity(t, s.public, "mx.mallory.plain", end)
	for _, d := range s.to {
		if d.certs != nil {
			made, shown := issue(t, d.domain, d.certs, d.sends)
			s.certs[d.domain] = made
			s.identities[d.domain] = identity{shown, made["leaf"], made["ca"]}
			continue
		}
		switch d.shows {
		case "expired":
			s.identities[d.domain] = newIdentity(t, certificates.New(t), "mx."+d.domain, time.Now().Add(-time.Hour))
		case "other name":
			s.identities[d.domain] = newIdentity(t, certificates.New(t), "mx.of.somebody.else", end)
		case vouched:
			s.identities[d.domain] = newIdentity(t, s.public, "mx."+d.domain, end)
		default:
			s.identities[d.domain] = newIdentity(t, certificates.New(t), "mx."+d.domain, end)
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
	if d.answers != nil {
		s.network.faults[dns.Fqdn(d.domain)] = d.answers(s)
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
	for i, d := range s.to {
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
