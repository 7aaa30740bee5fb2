package danelaw

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// bufferOf is the receive buffer of a socket, in octets.
func bufferOf(t *testing.T, c *net.UDPConn) (octets int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { octets, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// L-13: the sockets that listen on an address get a larger buffer, however that is written; others keep theirs.
func TestWidenBuffer(t *testing.T) {
	for _, row := range []struct {
		network, listen string
		written         func(port string) string
		widened         bool
	}{
		{"udp4", "127.0.0.1:0", func(port string) string { return "127.0.0.1:" + port }, true},
		{"udp4", "127.0.0.1:0", func(port string) string { return "[::ffff:127.0.0.1]:" + port }, true},
		{"udp6", "[::1]:0", func(port string) string { return "[::1]:" + port }, true},
		{"udp", ":0", func(port string) string { return ":" + port }, true},
		{"udp", "0.0.0.0:0", func(port string) string { return "0.0.0.0:" + port }, true},
		{"udp4", "127.0.0.1:0", func(port string) string { return "127.0.0.2:" + port }, false},
		{"udp4", "127.0.0.1:0", func(port string) string { return ":" + port }, false},
		{"udp4", "127.0.0.1:0", func(string) string { return "127.0.0.1:1" }, false},
		{"udp4", "127.0.0.1:0", func(string) string { return "nonsense" }, false},
	} {
		c, err := listenUDP(row.network, row.listen)
		if row.network == "udp6" && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			t.Logf("LEFT OUT: %s, as this host has no IPv6: %v", row.listen, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		before := bufferOf(t, c)
		_, port, _ := net.SplitHostPort(c.LocalAddr().String())
		widenBuffer(row.written(port))
		if after := bufferOf(t, c); (after > before) != row.widened {
			t.Errorf("%s, asked for %s: %d octets before and %d after", c.LocalAddr(), row.written(port), before, after)
		}
		c.Close()
	}
}

func listenUDP(network, address string) (*net.UDPConn, error) {
	at, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		return nil, err
	}
	return net.ListenUDP(network, at)
}

// L-13: the listener of a server block with danelaw has the larger buffer, and keeps it in a reload.
func TestListenerIsWidened(t *testing.T) {
	text := blockOf(fmt.Sprintf(".:%d", ports.Closed(t)), optionsFor(t, lab().Addr()), "")
	c := startCoreDNS(t, text)
	widened := func() bool {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			fd, _ := strconv.Atoi(file.Name())
			if listensOn(fd, c.udp) {
				octets, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
				return err == nil && octets > 212992 // net.core.rmem_default
			}
		}
		t.Fatalf("nothing listens on %s", c.udp)
		return false
	}
	for _, when := range []string{"after the start", "after a reload"} {
		c.ask("dane.", dns.TypeSOA) // it serves
		eventually(t, 5*time.Second, when+" a larger receive buffer", widened)
		if err := c.reload(text); err != nil {
			t.Fatal(err)
		}
	}
}
