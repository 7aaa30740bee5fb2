package server

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/danelaw-dns/danelaw/test/needs"
)

// TestNetwork: what is opened there is not seen here, its address and file of resolvers are its own, and this process
// goes on in the network where it was.
func TestNetwork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	here, err := os.ReadFile("/etc/resolv.conf")
	needs.Host(t, err)
	address := netip.MustParseAddr("192.31.196.1")
	n, err := NewNetwork(address, file)
	needs.Host(t, err)
	defer n.Close()
	n.Do(func() {
		for _, at := range []netip.Addr{address, netip.MustParseAddr("127.0.0.1")} {
			l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 53)))
			if err != nil {
				t.Error(err)
				continue
			}
			defer l.Close()
			c, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
			if err != nil {
				t.Error(err)
				continue
			}
			c.Close()
		}
		if _, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(9, 9, 9, 9), Port: 53}); err == nil {
			t.Error("it leads elsewhere")
		}
		if text, err := os.ReadFile("/etc/resolv.conf"); err != nil || string(text) != "nameserver 127.0.0.1\n" {
			t.Errorf("%v, /etc/resolv.conf is %q", err, text)
		}
	})
	if l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: address.AsSlice()}); err == nil {
		l.Close()
		t.Error("the address is this network's, too")
	}
	if text, err := os.ReadFile("/etc/resolv.conf"); err != nil || string(text) != string(here) {
		t.Errorf("%v, /etc/resolv.conf is %q here", err, text)
	}
	if _, err := NewNetwork(address, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no file, no error")
	}
}
