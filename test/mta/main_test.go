//go:build linux

// Package mta sends mail with Debian's Postfix and Exim, to domains and receivers of many kinds, with and without
// attackers. DANE is on, and danelaw is their only resolver. The outcome is read from the MTA's log and queue, and from
// what the receivers got. All programs run in namespaces of their own, and the MTAs in root directories of their own,
// so that nothing is installed.
package mta

import (
	"syscall"
	"testing"

	"github.com/danelaw-dns/danelaw/test/namespace"
)

var suite = namespace.Suite{
	Variable: "DANELAW_TEST_MTA",
	Programs: []string{"apt-get", "dpkg-deb", "tar", "chroot", "dnsmasq", "named", "tsig-keygen", "knotd",
		"keymgr"},
	Prepare:   unpackAll,
	Addresses: addresses,
}

func TestMain(m *testing.M) { suite.Main(m) }

// mount mounts a directory of the host in a second place, until the namespace ends.
func mount(t *testing.T, from, to string) {
	t.Helper()
	if err := syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		t.Fatalf("mount %s on %s: %v", from, to, err)
	}
}
