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

	"github.com/danelaw-dns/danelaw/zones"
)

const (
	upstream = "127.0.0.53" // of the resolvers: the way to the recursor
	recursor = "127.0.0.54"
	base     = "$INCLUDE base.zone\n"
)

// address is that of the receiver of a delivery.
func address(i int) string {
	const perNet = 200
	return fmt.Sprintf("%s.%d", [...]string{"192.0.2", "203.0.113"}[i/perNet], 10+i%perNet)
}

// addresses are those of all receivers.
func addresses() []string {
	all := []string{mallory}
	for i := range deliveries {
		all = append(all, address(i))
	}
	return all
}

// world is the internet with its receivers, while a test runs.
type world struct {
	identities map[string]identity                     // by domain
	papers     map[string]map[string]*x509.Certificate // likewise
	mallory    identity
	receivers  receivers
	network    network
	anchor     string // file with the trust anchor
}

// open builds the world and serves it.
func open(t *testing.T) *world {
	t.Helper()
	w := &world{identities: map[string]identity{}, papers: map[string]map[string]*x509.Certificate{}}
	w.receivers.forget()
	w.identify(t)
	built, err := zones.Build(time.Now(), w.plans()...)
	if err != nil {
		t.Fatal(err)
	}
	_, end, err := zones.Listen(recursor+":53", built.Recursor(time.Now).Answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end() }) //nolint:errcheck // the test has ended
	w.network = network{upstream: recursor + ":53", faults: map[string]tamper{}, attacks: map[string]tamper{}}
	for i, d := range deliveries {
		w.occupy(t, i, d)
	}
	w.receivers.listen(t, mallory, "", nil)
	w.network.serve(t, upstream)
	w.anchor = suite.Dir("root.ds")
	if err := os.WriteFile(w.anchor, []byte(built.Anchors()["."][0].String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return w
}

// identify makes the certificates.
func (w *world) identify(t *testing.T) {
	t.Helper()
	end := time.Now().Add(time.Hour)
	w.mallory = newIdentity(t, "mx.mallory.plain", end)
	for _, d := range deliveries {
		if d.papers != nil {
			made, shown := issue(t, d.domain, d.papers, d.sends)
			w.papers[d.domain] = made
			w.identities[d.domain] = identity{shown, made["leaf"], made["ca"]}
			continue
		}
		switch d.shows {
		case "expired":
			w.identities[d.domain] = newIdentity(t, "mx."+d.domain, time.Now().Add(-time.Hour))
		case "other name":
			w.identities[d.domain] = newIdentity(t, "mx.of.somebody.else", end)
		default:
			w.identities[d.domain] = newIdentity(t, "mx."+d.domain, end)
		}
	}
}

// occupy opens the receiver of a delivery, and puts its nameserver's faults and its attacker into the network.
func (w *world) occupy(t *testing.T, i int, d delivery) {
	t.Helper()
	shown := map[string]*tls.Config{"clear": nil, withOwnCertKey: w.mallory.tls()}
	c, other := shown[d.shows]
	if !other {
		c = w.identities[d.domain].tls()
	}
	w.receivers.listen(t, address(i), d.shows, c)
	if d.drops != 0 {
		w.network.faults[dns.Fqdn(d.domain)] = dropped(d.drops)
	}
	if d.attack != nil {
		w.network.attacks[dns.Fqdn(d.domain)] = d.attack(w)
	}
}

// plans are all zones.
func (w *world) plans() []zones.Plan {
	plans := []zones.Plan{
		{Name: ".", Text: base, Config: zones.Config{Split: true}},
		{Name: "dane.", Text: base},
		{Name: "nsec3.", Text: base, Config: nsec3},
		{Name: "opt-out.", Text: base, Config: zones.Config{NSEC3: &zones.NSEC3{OptOut: true}}},
		{Name: "plain.", Text: base, Config: unsigned},
		{Name: "mallory.plain.", Text: base + "mx A " + mallory + "\n", Config: unsigned},
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
			Name: dns.Fqdn(name), Text: base + w.fill(d.text, d.domain, address(i)), Config: d.config, Fault: d.fault,
		})
	}
	return plans
}

// fill puts the address and the certificates of a domain's receiver into a text of the table.
func (w *world) fill(text, domain, address string) string {
	own := w.identities[domain]
	pairs := []string{
		"{A}", address, "{EE}", tlsa(3, own.leaf), "{TA}", tlsa(2, own.authority), "{PKIX}", tlsa(1, own.leaf),
		"{OTHER PKIX}", tlsa(1, w.mallory.leaf), "{MALLORY}", tlsa(3, w.mallory.leaf),
	}
	for other, i := range w.identities {
		pairs = append(pairs, "{EE:"+other+"}", tlsa(3, i.leaf))
	}
	return fillIn(strings.NewReplacer(pairs...).Replace(text), w.papers[domain])
}
