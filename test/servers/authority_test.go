//go:build linux

package servers

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/namespace"
)

// server is an authoritative server.
type server int

const (
	bind server = iota
	nsd
	knot
	scripted // in this process, for faults that no zone file can have
	dead     // an address at which nothing answers
)

// address returns the address of a server. It is from the range for benchmarks (RFC 2544), since resolvers ask no
// loopback or private addresses.
func (s server) address() string { return fmt.Sprintf("198.18.0.%d", 1+s) }

// host returns the name of a server, if it has a top-level domain of its own.
func (s server) host() string {
	return map[server]string{bind: "ns.bind.", nsd: "ns.nsd.", knot: "ns.knot."}[s]
}

// addresses returns the addresses that the namespace has beside 127.0.0.1. They have to be there before BIND listens on
// them.
func addresses() (all []string) {
	for s := bind; s <= dead; s++ {
		all = append(all, s.address())
	}
	for _, u := range upstreams {
		all = append(all, u.address)
	}
	for i := range oracles {
		all = append(all, oracle(i))
	}
	return append(all, product)
}

// of returns the zones of one server, sorted.
func (tr tree) of(s server) (zones []*zone) {
	for _, name := range slices.Sorted(maps.Keys(tr)) {
		if z := tr[name]; z.server == s {
			zones = append(zones, z)
		}
	}
	return zones
}

// serve starts the authoritative servers, one process each.
func (tr tree) serve(t *testing.T) {
	for name, run := range map[string]func(*testing.T,
		string) []string{"named": tr.named, "nsd": tr.nsd, "knotd": tr.knotd} {
		directory := suite.Dir("authority", name)
		namespace.Start(t, name, directory, run(t, directory)...)
	}
	for s := bind; s <= knot; s++ {
		for _, z := range tr.of(s) {
			await(t, s.address(), z.name, dns.TypeSOA)
		}
	}
}

func (tr tree) named(t *testing.T, directory string) []string {
	var zones strings.Builder
	for _, z := range tr.of(bind) {
		fmt.Fprintf(&zones, "zone %q { type primary; file %q; check-integrity no; };\n", z.name, z.file())
	}
	return []string{"named", "-g", "-n", "1", "-c", write(t, directory, "named.conf", fmt.Sprintf(`options {
	directory %q; pid-file none; session-keyfile none;
	listen-on port 53 { %s; }; listen-on-v6 { none; };
	recursion no; notify no; dnssec-validation no; check-names primary ignore; max-records-per-type 0;
};
controls { };
%s`, directory, bind.address(), &zones))}
}

func (tr tree) nsd(t *testing.T, directory string) []string {
	var zones strings.Builder
	for _, z := range tr.of(nsd) {
		fmt.Fprintf(&zones, "zone:\n name: %q\n zonefile: %q\n", z.name, z.file())
	}
	return []string{"nsd", "-d", "-c", write(t, directory, "nsd.conf", fmt.Sprintf(`server:
 ip-address: %s
 username: ""
 server-count: 1
 database: ""
 pidfile: ""
 xfrdfile: ""
 zonelistfile: %q
 zonesdir: ""
remote-control:
 control-enable: no
%s`, nsd.address(), filepath.Join(directory, "zones"), &zones))}
}

func (tr tree) knotd(t *testing.T, directory string) []string {
	var zones strings.Builder
	for _, z := range tr.of(knot) {
		fmt.Fprintf(&zones, "  - domain: %q\n    file: %q\n", z.name, z.file())
	}
	return []string{"knotd", "-c", write(t, directory, "knot.conf", fmt.Sprintf(`server:
  listen: %s@53
  rundir: %q
  user: root
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
  - target: stderr
    any: warning
database:
  storage: %q
template:
  - id: default
    storage: %q
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
zone:
%s`, knot.address(), directory, directory, directory, &zones))}
}
