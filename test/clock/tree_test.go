package clock

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

const (
	hour = time.Hour
	day  = 24 * hour
	// ttl of everything but denials, and all that has to be waited for between two steps of a rollover.
	ttl = hour
	// negative is the TTL of denials.
	negative = 5 * time.Minute
)

const mailZone = `@ SOA ns hostmaster 1 7200 3600 86400 300
@ NS ns
@ MX 10 mx
ns A 192.0.2.53
mx A 192.0.2.25
_25._tcp.mx TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000
*.wild MX 10 mx
`

const registryZone = `@ SOA ns hostmaster 1 7200 3600 86400 300
@ NS ns
ns A 192.0.2.53
`

// state is how one zone is signed at the moment.
type state struct {
	name, text            string
	keys                  []*zones.Key // published in the DNSKEY RRset
	ksk, zsk              []*zones.Key // that sign it, and all else; none: the zone is unsigned
	ds                    []*zones.Key // whose DS the zone above has
	dsTTL                 time.Duration
	inception, expiration time.Time
	denial                *zones.NSEC3
}

// tree is the zones of a stage.
type tree struct {
	t      *testing.T
	clock  *clock
	begun  time.Time
	states []*state // parents first

	mu     sync.Mutex
	served map[string]*zones.Zone
	asked  map[dns.Question]int
	before func(dns.Question) // if set, runs before a question is answered
}

func newTree(t *testing.T, c *clock) *tree {
	t.Helper()
	tr := &tree{t: t, clock: c, begun: c.Now(), asked: map[dns.Question]int{}}
	for _, s := range []struct{ name, text string }{
		{".", registryZone}, {"com.", registryZone}, {"example.com.", mailZone}, {"still.com.", mailZone},
	} {
		z := &state{name: s.name, text: s.text, dsTTL: ttl, inception: tr.begun.Add(-hour), expiration: tr.begun.Add(14 * day)}
		tr.states = append(tr.states, z)
		ksk, zsk := tr.newKey(z, dns.ECDSAP256SHA256, ksk), tr.newKey(z, dns.ECDSAP256SHA256, zsk)
		z.keys, z.ksk, z.zsk, z.ds = keys(ksk, zsk), keys(ksk), keys(zsk), keys(ksk)
	}
	root := tr.at(".")
	root.ds = append(root.ds, tr.newKey(root, dns.ECDSAP256SHA256, ksk)) // an anchor of the future
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

// publish signs all zones as their states say, and serves them from now on.
func (tr *tree) publish() {
	tr.t.Helper()
	served := map[string]*zones.Zone{}
	for _, z := range tr.states {
		served[z.name] = tr.sign(z)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.served = served
}

// sign makes one zone.
func (tr *tree) sign(state *state) *zones.Zone {
	tr.t.Helper()
	z, err := zones.Parse(state.name, state.text)
	if err != nil {
		tr.t.Fatal(err)
	}
	for _, child := range tr.states {
		if child.name != "." && dns.Fqdn(strings.Join(dns.SplitDomainName(child.name)[1:], ".")) == state.name {
			delegate(z, child)
		}
	}
	err = z.Sign(zones.Config{
		Unsigned: len(state.zsk) == 0, Keys: state.zsk, NSEC3: state.denial, Inception: state.inception, Expiration: state.expiration,
	})
	if err != nil {
		tr.t.Fatal(err)
	}
	z.Edit(state.name, dns.TypeDNSKEY, func(_, _ []dns.RR) (rrs, sigs []dns.RR) {
		for _, k := range state.keys {
			rrs = append(rrs, k.DNSKEY)
		}
		for _, k := range state.ksk {
			sig, err := k.Sign(rrs, state.inception, state.expiration)
			if err != nil {
				tr.t.Fatal(err)
			}
			sigs = append(sigs, sig)
		}
		return rrs, sigs
	})
	return z
}

// delegate puts a delegation into the zone above.
func delegate(z *zones.Zone, child *state) {
	z.Add(&dns.NS{Hdr: header(child.name, dns.TypeNS, ttl), Ns: "ns." + child.name})
	for _, k := range child.ds {
		ds := k.DS(dns.SHA256)
		ds.Hdr = header(child.name, dns.TypeDS, child.dsTTL)
		z.Add(ds)
	}
}

func header(name string, rrtype uint16, ttl time.Duration) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}
}

// anchors are the DS of the root's keys.
func (tr *tree) anchors() (anchors []*dns.DS) {
	for _, k := range tr.at(".").ds {
		anchors = append(anchors, k.DS(dns.SHA256))
	}
	return anchors
}

// servers are the zones as they are when asked.
func (tr *tree) servers() map[string]zones.Server {
	servers := map[string]zones.Server{}
	for _, z := range tr.states {
		name := z.name // the state may be changed meanwhile
		servers[name] = func(q dns.Question) *dns.Msg { return tr.answer(name, q) }
	}
	return servers
}

func (tr *tree) answer(zone string, q dns.Question) *dns.Msg {
	tr.mu.Lock()
	before, z := tr.before, tr.served[zone]
	tr.asked[q]++
	tr.mu.Unlock()
	if before != nil {
		before(q)
	}
	return z.Answer(q, true)
}

// questions returns how often the zones were asked a question.
func (tr *tree) questions(name string, qtype uint16) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.asked[dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}]
}

// setBefore has f run before each question is answered.
func (tr *tree) setBefore(f func(dns.Question)) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.before = f
}
