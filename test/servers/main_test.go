//go:build linux

// Package servers compares danelaw's verdicts with those of other validators, on zones that BIND, NSD and Knot serve.
// Between these servers and danelaw there are resolvers of other makers. All of it runs in a network namespace of its
// own, each program on port 53 of an address of its own.
package servers

import (
	"testing"

	"github.com/danelaw-dns/danelaw/test/namespace"
)

var suite = namespace.Suite{
	Variable: "DANELAW_TEST_SERVERS",
	Programs: []string{
		"named", "nsd", "knotd", "dnssec-keygen", "dnssec-signzone", "ldns-keygen", "ldns-signzone", "kzonesign",
		"unbound", "kresd",
		"pdns_recursor", "dnsmasq", "dig", "delv", "drill",
	},
	Addresses: addresses,
}

func TestMain(m *testing.M) { suite.Main(m) }
