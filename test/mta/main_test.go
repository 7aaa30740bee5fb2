// Package mta sends mail with Debian's Postfix and Exim, DANE on and danelaw as their only resolver, to receivers of
// every kind over a signed internet, honest and attacked. What became of it is judged from the MTA's own log and queue,
// and from what the receivers got. All of it runs in namespaces of its own, the MTAs in roots of their own: nothing is
// installed.
package mta

import (
	"syscall"
	"testing"

	"github.com/danelaw-dns/danelaw/test/namespace"
)

var suite = namespace.Suite{
	Variable:  "DANELAW_TEST_MTA",
	Programs:  []string{"apt-get", "dpkg-deb", "tar", "chroot", "dnsmasq"},
	Prepare:   unpackAll,
	Addresses: addresses,
}

func TestMain(m *testing.M) { suite.Main(m) }

// mount shows a directory of the host's in another place, for as long as the namespace lives.
func mount(t *testing.T, from, to string) {
	t.Helper()
	if err := syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		t.Fatalf("mount %s on %s: %v", from, to, err)
	}
}
