//go:build linux

package servers

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone is a zone of the tree: its text, how it is signed, who serves it, and what is wrong with it.
type zone struct {
	name    string
	server  server
	signing signing
	text    string                    // without SOA, NS and the address of the server
	fault   fault                     // nil: none
	digest  uint8                     // of the DS; SHA-256 by default
	ds      func([]*dns.DS) []*dns.DS // changes the DS that the zone above gets
	mu      sync.Mutex                // guards the delegations
	below   []string                  // records of delegations
	signed  *contents                 // what is served
	dir     string                    // where its files are
}

// signing says how a zone is signed.
type signing struct {
	with       signer
	algorithm  string // as BIND and ldns call it
	nsec3      bool   // else NSEC
	iterations int
	salt       string // hexadecimal
	optOut     bool
	bits       int           // of RSA keys
	exponent   int           // of RSA keys, if it is not the usual one
	shift      time.Duration // added to the inception and expiration
}

// fault changes a signed zone before it is served.
type fault func(z *contents)

// base is the beginning of every zone. The negative TTL is short, and the other TTL is long enough that nothing expires
// while the suite runs.
const base = `$ORIGIN %s
$TTL 3600
@ SOA ns hostmaster 1 3600 900 1209600 300
@ NS %s
ns A %s
`

// source returns the zone file before it is signed.
func (z *zone) source() string {
	text := fmt.Sprintf(base, z.name, z.host(), z.server.address()) + z.text + "\n"
	return text + strings.Join(z.below, "\n") + "\n"
}

// file returns the path of the zone file that is served.
func (z *zone) file() string { return filepath.Join(z.dir, "zone.served") }

// tree has all zones by name.
type tree map[string]*zone

// plant signs zones and writes them into files.
func plant(t *testing.T, zones []*zone) tree {
	t.Helper()
	tr := tree{}
	for _, z := range zones {
		if tr[z.name] != nil {
			t.Fatalf("zone %s is there twice", z.name)
		}
		tr[z.name] = z
	}
	depths := map[int][]*zone{}
	for _, z := range zones {
		depth := dns.CountLabel(z.name)
		depths[depth] = append(depths[depth], z)
	}
	for depth := slices.Max(slices.Collect(maps.Keys(depths))); depth >= 0; depth-- {
		inParallel(depths[depth], func(z *zone) { tr.grow(t, z) })
	}
	return tr
}

// inParallel calls f for each element, a few at a time.
func inParallel[T any](all []T, f func(T)) {
	const workers = 4
	queue, wait := make(chan T), sync.WaitGroup{}
	for range workers {
		wait.Go(func() {
			for one := range queue {
				f(one)
			}
		})
	}
	for _, one := range all {
		queue <- one
	}
	close(queue)
	wait.Wait()
}

// grow signs one zone, applies its fault, and adds its delegation to the zone above.
func (tr tree) grow(t *testing.T, z *zone) {
	z.dir = suite.Dir(t.Name(), cmp.Or(strings.TrimSuffix(z.name, "."), "root"))
	if err := os.MkdirAll(z.dir, 0o755); err != nil {
		t.Error(err)
		return
	}
	var err error
	if z.signed, err = z.signing.sign(z); err != nil {
		t.Errorf("%s: %v", z.name, err)
		return
	}
	delegation := z.delegation()
	if z.fault != nil {
		z.fault(z.signed)
	}
	if z.signed.err != nil {
		t.Errorf("%s: %v", z.name, z.signed.err)
	}
	if err := os.WriteFile(z.file(), []byte(z.signed.String()), 0o644); err != nil {
		t.Error(err)
	}
	if above := tr.above(z.name); above != nil {
		above.mu.Lock()
		defer above.mu.Unlock()
		above.below = append(above.below, delegation)
	}
}

// above returns the zone above a name.
func (tr tree) above(name string) *zone {
	for off, end := dns.NextLabel(name, 0); ; off, end = dns.NextLabel(name, off) {
		up := "."
		if !end {
			up = name[off:]
		}
		if z := tr[up]; z != nil || end {
			if name == "." {
				return nil
			}
			return z
		}
	}
}

// host returns the name of the server of z. Most zones name the server of their operator, as is usual. A name in the
// zone itself would not do: if one server has both sides of a zone cut, it sends no referral, and the Knot Resolver
// does not find a name server below such a cut.
func (z *zone) host() string {
	if host := z.server.host(); host != "" && dns.CountLabel(z.name) > 1 {
		return host
	}
	return "ns." + strings.TrimPrefix(z.name, ".")
}

// delegation returns the records of the zone above for z.
func (z *zone) delegation() string {
	lines := []string{fmt.Sprintf("%s NS %s", z.name, z.host())}
	if dns.IsSubDomain(z.name, z.host()) {
		lines = append(lines, fmt.Sprintf("%s A %s", z.host(), z.server.address()))
	}
	all := z.signed.delegationSigners(cmp.Or(z.digest, dns.SHA256))
	if z.ds != nil {
		all = z.ds(all)
	}
	for _, ds := range all {
		lines = append(lines, ds.String())
	}
	return strings.Join(lines, "\n")
}
