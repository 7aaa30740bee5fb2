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

// zone is one of the tree: its contents, who signs it how, who serves it, and what is wrong with it.
type zone struct {
	name    string
	server  server
	signing signing
	text    string                    // beside SOA, NS and the address of the server
	fault   fault                     // the zone zero is without
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
	shift      time.Duration // when it was signed, from now
}

// fault changes a zone that is signed, before it is served.
type fault func(z *contents)

// base is what every zone has. The negative TTL is short, the other is not: nothing may expire while the suite runs.
const base = `$ORIGIN %s
$TTL 3600
@ SOA ns hostmaster 1 3600 900 1209600 300
@ NS %s
ns A %s
`

// source is the zone file before it is signed.
func (z *zone) source() string {
	text := fmt.Sprintf(base, z.name, z.host(), z.server.address()) + z.text + "\n"
	return text + strings.Join(z.below, "\n") + "\n"
}

// file is the zone file that is served.
func (z *zone) file() string { return filepath.Join(z.dir, "zone.served") }

// tree is all zones by name.
type tree map[string]*zone

// plant makes a tree of zones, which it signs and writes into files.
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

// inParallel calls f for all of them, a few at once.
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

// grow signs one zone, breaks it and hangs it below the zone above.
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

// above is the zone from which name hangs.
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

// host is the name of the server of z. Most zones take the one of their operator, as most do: the Knot Resolver finds
// none with a name below a cut that it has passed without a referral, which is so if one server has both sides.
func (z *zone) host() string {
	if host := z.server.host(); host != "" && dns.CountLabel(z.name) > 1 {
		return host
	}
	return "ns." + strings.TrimPrefix(z.name, ".")
}

// delegation is what the zone above has of z.
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
