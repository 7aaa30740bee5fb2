package danelaw

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/coredns/core/dnsserver"
)

// asksItself returns an error if an upstream is an address on which the server block listens.
func (s *setting) asksItself(config *dnsserver.Config) error {
	for _, r := range s.config.Routes {
		for _, to := range r.To {
			if fmt.Sprint(to.Server.Port()) == config.Port &&
				slices.ContainsFunc(config.ListenHosts, func(host string) bool {
					return reaches(to.Server.Addr(), host)
				}) {
				return s.errorAt("upstream "+r.From, "upstream %s: that is danelaw itself, which listens there: it "+
					"would ask itself; name a resolver", to)
			}
		}
	}
	return nil
}

// reaches reports whether a packet to an address arrives at a listener on host. An empty or unspecified host listens on
// all addresses of this machine.
func reaches(to netip.Addr, host string) bool {
	listens, err := netip.ParseAddr(host)
	if err != nil || listens.IsUnspecified() {
		return (host == "" || err == nil && (listens.Is6() || to.Is4())) && own(to)
	}
	return listens.Unmap().WithZone("") == to.WithZone("")
}

// own reports whether an address is one of this host.
func own(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	addrs, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(addrs, func(o net.Addr) bool {
		p, err := netip.ParsePrefix(o.String())
		return err == nil && p.Addr().Unmap() == a.WithZone("")
	})
}

// returned reports whether a name that a client asks for is one that a server block has asked an upstream for (S-13).
// In a reload the Handler before and the one after share the socket.
func (r *registry) returned(block, name string) bool {
	return slices.ContainsFunc(r.all(), func(h *Handler) bool {
		return h.config.Block == block && h.upstreams.Returned(name)
	})
}

// Loops returns an error if an upstream of a Handler that serves is danelaw itself, however the way leads back. It asks
// each upstream one question, and waits for no reply longer than ctx.
func Loops(ctx context.Context) error {
	for _, h := range process.newest() {
		if loops := h.upstreams.Loops(ctx); len(loops) > 0 {
			return fmt.Errorf("upstream %s leads back to danelaw itself: a question to it came back; name a "+
				"resolver that is another", strings.Join(loops, " and "))
		}
	}
	return nil
}
