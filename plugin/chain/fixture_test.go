package chain

import (
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/zones"
)

// texts are the zones of the world that these tests ask about. Delegations get their DS from the children.
var texts = map[string]string{
	".": `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
ns A 127.0.0.1
com NS ns.
uk NS ns.
arpa NS ns.`,
	"com.": `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
example NS ns.
insecure NS ns.
stripped NS ns.
nokey NS ns.`,
	"uk.": `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
deep.co NS ns.`,
	"deep.co.uk.": mailZone,
	"arpa.": `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
ip6 NS ns.`,
	"ip6.arpa.": `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
8.b.d.0.1.0.0.2 NS ns.`,
	"8.b.d.0.1.0.0.2.ip6.arpa.": `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 PTR mx.insecure.com.`,
	"example.com.": mailZone + `
alias CNAME mx
outward CNAME mx.insecure.com.
dangling CNAME gone`,
	"insecure.com.": mailZone,
	"stripped.com.": mailZone,
	"nokey.com.":    mailZone,
}

const mailZone = `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
@ MX 10 mx
mx A 192.0.2.1
_25._tcp.mx TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000`

var unsigned = map[string]bool{"insecure.com.": true, "8.b.d.0.1.0.0.2.ip6.arpa.": true}

// world is a signed tree behind a recursor that does not cache, so that what changes is seen at once.
type world struct {
	texts      map[string]string
	unsigned   map[string]bool
	mu         sync.Mutex
	zones      map[string]*zones.Zone
	expiration time.Time
	config     zones.Config
	expire     map[string]time.Time // for zones whose signatures do not live as long as the others'
	keys       map[string][]*zones.Key
}

func newWorld(t *testing.T, now *clock) *world {
	t.Helper()
	w := &world{
		texts: maps.Clone(texts), unsigned: maps.Clone(unsigned), zones: map[string]*zones.Zone{},
		expiration: now.Now().Add(7 * 24 * time.Hour), expire: map[string]time.Time{}, keys: map[string][]*zones.Key{},
	}
	w.config = zones.Config{Inception: now.Now().Add(-time.Hour), Expiration: w.expiration}
	for name := range w.texts {
		w.newKey(t, name)
	}
	w.build(t)
	return w
}

func (w *world) newKey(t *testing.T, name string) {
	t.Helper()
	for {
		key, err := zones.NewKey(name, dns.ECDSAP256SHA256, 257)
		if err != nil {
			t.Fatal(err)
		}
		w.keys[name] = []*zones.Key{key}
		if key.DNSKEY.KeyTag() != 0 { // the DNS library signs with no such key
			return
		}
	}
}

// build makes all zones anew with the keys there are.
func (w *world) build(t *testing.T) {
	t.Helper()
	built := map[string]*zones.Zone{}
	for name, text := range w.texts {
		z, err := zones.Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		for child := range w.texts {
			if child != name && w.parentZone(child) == name && len(w.keys[child]) > 0 && !w.unsigned[child] {
				ds := w.keys[child][0].DS(dns.SHA256)
				if child == "nokey.com." {
					ds = w.keys["."][0].DS(dns.SHA256)
					ds.Hdr.Name = child
				}
				ds.Hdr.Ttl = 3600
				z.Add(ds)
			}
		}
		c := w.config
		c.Keys, c.Unsigned = w.keys[name], w.unsigned[name] || len(w.keys[name]) == 0
		if expire, ok := w.expire[name]; ok {
			c.Expiration = expire
		}
		if err := z.Sign(c); err != nil {
			t.Fatal(err)
		}
		built[name] = z
	}
	strip(built["stripped.com."])
	w.mu.Lock()
	defer w.mu.Unlock()
	w.zones = built
}

// strip removes the signatures from all replies but those to DNSKEY questions.
func strip(z *zones.Zone) {
	z.Reply = func(q dns.Question, m *dns.Msg) *dns.Msg {
		if q.Qtype != dns.TypeDNSKEY {
			m.Answer, m.Ns = withoutSigs(m.Answer), withoutSigs(m.Ns)
		}
		return m
	}
}

func withoutSigs(rrs []dns.RR) (kept []dns.RR) {
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeRRSIG {
			kept = append(kept, rr)
		}
	}
	return kept
}

func (w *world) parentZone(name string) string {
	for name = dnssec.Parent(name); w.texts[name] == ""; name = dnssec.Parent(name) {
	}
	return name
}

// add puts zones into the world, each signed by a key of its own; their delegations must stand in the zones above.
func (w *world) add(t *testing.T, zones map[string]string) {
	t.Helper()
	for name, text := range zones {
		w.texts[name] = text
		if w.keys[name] == nil {
			w.newKey(t, name)
		}
	}
	w.build(t)
}

// roll replaces the key of a zone at once, DS and signatures included.
func (w *world) roll(t *testing.T, name string) {
	t.Helper()
	w.newKey(t, name)
	w.build(t)
}

// unsign makes a zone unsigned, and its delegation too.
func (w *world) unsign(t *testing.T, name string) {
	t.Helper()
	delete(w.keys, name)
	w.build(t)
}

func (w *world) ds(name string) []*dns.DS { return []*dns.DS{w.keys[name][0].DS(dns.SHA256)} }

func (w *world) anchors() map[string][]*dns.DS { return map[string][]*dns.DS{".": w.ds(".")} }

func (w *world) answer(q dns.Question) *dns.Msg {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := zones.Recursor{Servers: map[string]zones.Server{}, Clock: time.Now}
	for name, z := range w.zones {
		r.Servers[name] = func(q dns.Question) *dns.Msg { return z.Answer(q, true) }
	}
	return r.Resolve(q)
}
