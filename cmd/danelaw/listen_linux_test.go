package main

import (
	"net"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"golang.org/x/sys/unix"
)

// oneServer is a context with one server of CoreDNS's.
type oneServer struct{ *dnsserver.Server }

func (oneServer) InspectServerBlocks(_ string, b []caddyfile.ServerBlock) ([]caddyfile.ServerBlock, error) {
	return b, nil
}

func (s oneServer) MakeServers() ([]caddy.Server, error) { return []caddy.Server{s.Server}, nil }

// TestReceiveBuffer: sockets for queries over UDP have a larger buffer than others.
func TestReceiveBuffer(t *testing.T) {
	size := func(p net.PacketConn, err error) (n int) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		raw, err := p.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	plain, err := dnsserver.NewServer("dns://127.0.0.1:0", []*dnsserver.Config{{Zone: ".", ListenHosts: []string{"127.0.0.1"}, Port: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	servers, err := dnsContext{oneServer{plain}}.MakeServers()
	if err != nil || len(servers) != 1 {
		t.Fatal(servers, err)
	}
	usual, ours := size(plain.ListenPacket()), size(servers[0].ListenPacket())
	if ours <= usual {
		t.Errorf("%d octets, a usual socket has %d", ours, usual)
	}
}
