package differential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"embed"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

//go:embed testdata
var testdata embed.FS

// rsaKeys are few, as RSA keys take long to make.
var rsaKeys = func() (keys []*rsa.PrivateKey) {
	for i := 1; i <= 3; i++ {
		text, err := testdata.ReadFile(fmt.Sprintf("testdata/rsa-%d.pem", i))
		if err != nil {
			panic(err)
		}
		block, _ := pem.Decode(text)
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			panic(err)
		}
		keys = append(keys, key.(*rsa.PrivateKey))
	}
	return keys
}()

// makeKey makes the n-th key of a zone from the seed.
func makeKey(seed uint64, zone, fresh string, algorithm uint8, flags uint16, n int) *zones.Key {
	for try := 0; ; try++ { // a few octets are no key, or one that nothing signs with
		octets := sha512.Sum512(fmt.Appendf(nil, "%d %s %d %d %d %d", seed, zone, algorithm, flags, n, try))
		private, err := privateKey(algorithm, octets[:])
		if err != nil {
			continue
		}
		if key, err := zones.KeyFrom(fresh, algorithm, flags, private); err == nil {
			return key
		}
	}
}

func privateKey(algorithm uint8, octets []byte) (crypto.Signer, error) {
	switch algorithm {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512:
		return rsaKeys[binary.BigEndian.Uint16(octets)%uint16(len(rsaKeys))], nil
	case dns.ECDSAP256SHA256:
		return ecdsa.ParseRawPrivateKey(elliptic.P256(), octets[:32])
	case dns.ECDSAP384SHA384:
		return ecdsa.ParseRawPrivateKey(elliptic.P384(), octets[:48])
	case dns.ED448:
		return ed448.NewKeyFromSeed(octets[:ed448.SeedSize]), nil
	default:
		return ed25519.NewKeyFromSeed(octets[:ed25519.SeedSize]), nil
	}
}

// rootKey signs the roots of all trees, so that one trust anchor does for them.
var rootKey = makeKey(0, ".", ".", dns.ECDSAP256SHA256, dns.ZONE|dns.SEP, 0)

// rootText is the root of every tree. The roots of two trees deny each other's top, so what one denies must not be kept
// (C-9).
const rootText = "@ SOA a.root. hostmaster.root. 1 7200 3600 1209600 0\n@ NS a.root.\na.root. A 192.0.2.1\n"

// world is a tree that has been built under a fresh name.
type world struct {
	tree  string // absolute
	zones map[string]*zones.Zone
	twins map[string]*zones.Zone // the same zones with the other kind of denial, where a fault needs them
	root  *zones.Zone
	all   *zones.World
}

// Signatures are valid for that long on both sides of now. Validators forgive hours, in different ways.
const validity = 10 * 24 * time.Hour

var worlds atomic.Uint64

// build makes a tree; faults are left out if sound is set.
func (c *Case) build(sound bool) (*world, error) {
	w := &world{
		tree: fmt.Sprintf("t%d.", worlds.Add(1)), zones: map[string]*zones.Zone{}, twins: map[string]*zones.Zone{},
	}
	plans := []zones.Plan{{Name: ".", Text: rootText, Config: zones.Config{Keys: []*zones.Key{rootKey}}}}
	for i := range c.Zones {
		plans = append(plans, c.plan(w, &c.Zones[i], sound))
	}
	for i := range plans {
		plans[i].Config.Lazy = true // most of a tree is never asked for
		plans[i].Config.Inception, plans[i].Config.Expiration = time.Now().Add(-validity), time.Now().Add(validity)
	}
	var err error
	if w.all, err = zones.Build(time.Now(), plans...); err != nil {
		return nil, err
	}
	w.root = w.all.Zone(".")
	for _, z := range c.Zones {
		w.zones[z.Name] = w.all.Zone(under(w.tree, z.Name))
	}
	if !sound {
		return w, c.spoil(w)
	}
	return w, nil
}

// plan is what the lab needs to know of a zone.
func (c *Case) plan(w *world, z *Zone, sound bool) zones.Plan {
	p := zones.Plan{Name: under(w.tree, z.Name), Text: z.text(w.tree), Config: c.config(w, z)}
	if z.Island {
		p.Fault.DS = func([]*dns.DS) []*dns.DS { return nil }
	}
	for _, f := range c.Faults {
		if b := breakers[f.Kind]; b != nil && b.plan != nil && f.Zone == z.Name && !sound {
			b.plan(&p, f)
		}
	}
	return p
}

func (c *Case) config(w *world, z *Zone) zones.Config {
	config := zones.Config{Unsigned: z.Unsigned, Digests: z.Digests, Compact: z.Denial == "compact"}
	if z.hashed() {
		config.NSEC3 = &zones.NSEC3{Iterations: z.Iterations, Salt: z.Salt, OptOut: z.Denial == "optout"}
	}
	flags := []uint16{dns.ZONE | dns.SEP}
	if z.Split {
		flags = append(flags, dns.ZONE)
	}
	for _, a := range z.Algorithms {
		for n, f := range flags {
			config.Keys = append(config.Keys, makeKey(c.Seed, z.Name, under(w.tree, z.Name), a, f, n))
		}
	}
	return config
}

// spoil brings in the faults of what is signed.
func (c *Case) spoil(w *world) error {
	for _, f := range c.Faults {
		b := breakers[f.Kind]
		if b == nil || w.zones[f.Zone] == nil {
			return fmt.Errorf("nothing is broken by %s", f)
		}
		if b.needsTwin {
			if err := c.twin(w, f.Zone); err != nil {
				return err
			}
		}
		if b.apply != nil {
			b.apply(c, w, f)
		}
	}
	return nil
}

// twin makes the zone once more with the other kind of denial.
func (c *Case) twin(w *world, name string) error {
	z, original := c.zone(name), w.zones[name]
	config := c.config(w, z)
	config.Keys, config.Lazy = original.Keys, true
	config.Inception, config.Expiration = time.Now().Add(-validity), time.Now().Add(validity)
	config.Compact = false
	if config.NSEC3 == nil {
		config.NSEC3 = &zones.NSEC3{}
	} else {
		config.NSEC3 = nil
	}
	twin, err := zones.Parse(original.Name, z.text(w.tree))
	if err != nil {
		return err
	}
	for _, t := range []uint16{dns.TypeNS, dns.TypeDS} { // of the delegations
		for _, owner := range original.Owners(t) {
			if owner != original.Name {
				twin.Add(original.Records(owner, t)...)
			}
		}
	}
	w.twins[name] = twin
	return twin.Sign(config)
}

// recursor is a plain recursor for the world.
func (w *world) recursor(c *Case) *zones.Recursor {
	r := w.all.Recursor(time.Now)
	if c.OneServer {
		one := &zones.Authority{}
		for _, z := range w.zones {
			one.Zones = append(one.Zones, z)
		}
		for name := range r.Servers {
			if name != "." {
				r.Servers[name] = func(q dns.Question) *dns.Msg { return one.Answer(q, true) }
			}
		}
	}
	return r
}

// front is the recursor that all validators ask: it knows the worlds that are up.
type front struct {
	addr string
	base *zones.Recursor

	mu sync.RWMutex
	up map[string]*zones.Recursor // by tree
}

func newFront() (*front, func() error, error) {
	all, err := zones.Build(time.Now(), zones.Plan{Name: ".", Text: rootText,
		Config: zones.Config{Keys: []*zones.Key{rootKey}}})
	if err != nil {
		return nil, nil, err
	}
	f := &front{base: all.Recursor(time.Now), up: map[string]*zones.Recursor{}}
	var end func() error
	f.addr, end, err = zones.Listen("127.0.0.1:0", f.answer)
	return f, end, err
}

func (f *front) answer(q dns.Question, do bool) *dns.Msg {
	name := dns.CanonicalName(q.Name)
	labels := dns.Split(name)
	if len(labels) == 0 {
		return f.base.Answer(q, do)
	}
	f.mu.RLock()
	r := f.up[name[labels[len(labels)-1]:]]
	f.mu.RUnlock()
	if r == nil {
		r = f.base
	}
	return r.Answer(q, do)
}

// raise puts a case up under a fresh name, which is returned with the function that takes it down again.
func (f *front) raise(c *Case) (w *world, down func(), err error) {
	if w, err = c.build(false); err != nil {
		return nil, nil, err
	}
	r := w.recursor(c)
	f.mu.Lock()
	f.up[w.tree] = r
	f.mu.Unlock()
	return w, func() {
		f.mu.Lock()
		delete(f.up, w.tree)
		f.mu.Unlock()
	}, nil
}
