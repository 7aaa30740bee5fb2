// Package servers holds danelaw's verdicts against the world as it is served: a signed tree on BIND, NSD and Knot, with
// the resolvers of other makers between them and danelaw, and the validators of other makers beside it. All of it runs
// in a network namespace of its own, with one address per server and port 53 everywhere.
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
