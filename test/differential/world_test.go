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
	"testing"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

//go:embed testdata
var testdata embed.FS

// rsaKeys are three keys for all zones, since RSA keys take long to make.
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

// makeKey makes the n-th key of a zone from the seed; fresh is the zone's absolute name.
func makeKey(seed uint64, zone, fresh string, algorithm uint8, flags uint16, n int) *zones.Key {
	for try := 0; ; try++ { // a few seeds give no key, or one that cannot sign
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

// rootKey signs the roots of all trees, so that validators need only one trust anchor.
var rootKey = makeKey(0, ".", ".", dns.ECDSAP256SHA256, dns.ZONE|dns.SEP, 0)

// root is the root zone of every tree. Its negative TTL is 0: the root of one tree denies the top of another, so no
// resolver may keep such a denial (C-9).
var root = zones.Plan{Name: ".", Config: zones.Config{Keys: []*zones.Key{rootKey}},
	Text: "@ SOA a.root. hostmaster.root. 1 7200 3600 1209600 0\n@ NS a.root.\na.root. A 192.0.2.1\n"}

// tree is a case built under a new name.
type tree struct {
	*world.Tree
	name  string                 // the absolute name of its top
	twins map[string]*zones.Zone // zones built again with the other kind of denial, by relative name
}

// zone returns a zone by its relative name.
func (tr *tree) zone(name string) *zones.Zone { return tr.Zone(under(tr.name, name)) }

var trees atomic.Uint64

// build builds the tree of a case, without its faults if sound is set. It panics if the tree cannot be built.
func (c *Case) build(sound bool) *tree {
	defer func() {
		if why := recover(); why != nil {
			panic(fmt.Sprintf("%v\n%s", why, c))
		}
	}()
	tr := &tree{name: fmt.Sprintf("t%d.", trees.Add(1)), twins: map[string]*zones.Zone{}}
	plans := []zones.Plan{root}
	for i := range c.Zones {
		plans = append(plans, c.plan(tr.name, &c.Zones[i], sound))
	}
	tr.Tree = world.New(time.Now, plans...)
	if !sound {
		c.spoil(tr)
	}
	return tr
}

// plan returns the plan of a zone in the tree of that name.
func (c *Case) plan(tree string, z *Zone, sound bool) zones.Plan {
	p := zones.Plan{Name: under(tree, z.Name), Text: z.text(tree), Config: c.config(tree, z)}
	if z.Island {
		p.Fault.DS = func([]*dns.DS) []*dns.DS { return nil }
	}
	for _, f := range c.Faults {
		if b := breakers[f.Kind]; b.plan != nil && f.Zone == z.Name && !sound {
			b.plan(&p, f)
		}
	}
	return p
}

func (c *Case) config(tree string, z *Zone) zones.Config {
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
			config.Keys = append(config.Keys, makeKey(c.Seed, z.Name, under(tree, z.Name), a, f, n))
		}
	}
	return config
}

// spoil applies the faults to the signed zones.
func (c *Case) spoil(tr *tree) {
	for _, f := range c.Faults {
		b := breakers[f.Kind]
		if b.needsTwin {
			tr.twins[f.Zone] = c.twin(tr, f.Zone)
		}
		if b.apply != nil {
			b.apply(c, tr, f)
		}
	}
}

// twin builds a zone again with the same keys and the other kind of denial.
func (c *Case) twin(tr *tree, name string) *zones.Zone {
	original, plan := tr.zone(name), c.plan(tr.name, c.zone(name), true)
	plan.Config.Keys, plan.Config.Compact = original.Keys, false
	if plan.Config.NSEC3 == nil {
		plan.Config.NSEC3 = &zones.NSEC3{}
	} else {
		plan.Config.NSEC3 = nil
	}
	plan.Edit = func(twin *zones.Zone) {
		for _, t := range []uint16{dns.TypeNS, dns.TypeDS} { // for its delegations
			for _, owner := range original.Owners(t) {
				if owner != original.Name {
					twin.Add(original.Records(owner, t)...)
				}
			}
		}
	}
	return world.New(time.Now, plan).Zone(plan.Name)
}

// recursor returns a recursor for the tree.
func (tr *tree) recursor(c *Case) *zones.Recursor {
	r := tr.Recursor()
	if c.OneServer {
		one := tr.Authority()
		for name := range r.Servers {
			if name != "." {
				r.Servers[name] = func(q dns.Question) *dns.Msg { return one.Answer(q, true) }
			}
		}
	}
	return r
}

// front is the recursor that all validators ask. It answers for all trees that are being asked about.
type front struct {
	addr string
	base *zones.Recursor // for the root, and for names of no such tree

	mu sync.RWMutex
	up map[string]*zones.Recursor // by name of the tree
}

func newFront(t testing.TB) *front {
	t.Helper()
	f := &front{base: world.New(time.Now, root).Recursor(), up: map[string]*zones.Recursor{}}
	f.addr = world.Serve(t, world.AnyPort, f.answer)
	return f
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

// raise builds a case under a new name and serves it until down is called.
func (f *front) raise(c *Case) (tr *tree, down func()) {
	tr = c.build(false)
	r := tr.recursor(c)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up[tr.name] = r
	return tr, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.up, tr.name)
	}
}
