package main

import (
	"net"
	"syscall"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// receiveBuffer is what the kernel holds of queries over UDP that are not yet read, in octets: at 3,000 a second for half a second of a busy
// process. The usual 208 KiB are full in a tenth of that, and then cached answers are lost with the rest.
const receiveBuffer = 1 << 20

// dnsContext makes CoreDNS's servers, with larger buffers.
type dnsContext struct{ caddy.Context }

// MakeServers implements caddy.Context.
func (c dnsContext) MakeServers() ([]caddy.Server, error) {
	servers, err := c.Context.MakeServers()
	for i, s := range servers {
		if plain, ok := s.(*dnsserver.Server); ok { // those over TLS, HTTPS and the like have none
			servers[i] = &udpServer{plain}
		}
	}
	return servers, err
}

// udpServer is one that listens on UDP.
type udpServer struct{ *dnsserver.Server }

// ListenPacket implements caddy.Server.
func (s *udpServer) ListenPacket() (net.PacketConn, error) {
	p, err := s.Server.ListenPacket()
	if c, ok := p.(syscall.Conn); ok && err == nil {
		enlarge(c)
	}
	return p, err
}
