package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/caddy"
	psnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// heldBy says who has a socket at an address, " by NAME (process 123)", as far as this process may know it.
func heldBy(network, address string) string {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	names := holders(network, addr, overlap)
	if len(names) == 0 {
		return fmt.Sprintf(" by a process of another user; as root, `ss -lpn sport = %d` names it", addr.Port())
	}
	return " by " + strings.Join(names, ", ")
}

// overlap reports whether a socket at a keeps another from being bound at b.
func overlap(a, b netip.Addr) bool { return a == b || a.IsUnspecified() || b.IsUnspecified() }

func same(a, b netip.Addr) bool { return a == b }

// holders names the processes, this one left out, that have a socket at an address. Of other users' only root is told.
func holders(network string, at netip.AddrPort, match func(a, b netip.Addr) bool) (names []string) {
	sockets, err := psnet.Connections(network)
	if err != nil {
		return nil
	}
	self := ownPID()
	for _, s := range sockets {
		addr, _ := netip.ParseAddr(s.Laddr.IP)
		if s.Laddr.Port != uint32(at.Port()) || !match(addr.Unmap(), at.Addr().Unmap()) || s.Raddr.Port != 0 ||
			s.Pid == 0 || s.Pid == self {
			continue
		}
		name := fmt.Sprintf("process %d", s.Pid)
		if p, err := process.NewProcess(s.Pid); err == nil {
			if comm, err := p.Name(); err == nil {
				name = fmt.Sprintf("%s (process %d)", printable.Text(comm), s.Pid) // a process calls itself as it likes
			}
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// ownPID is the number of this process in /proc, which may be that of another PID namespace.
func ownPID() int32 {
	if link, err := os.Readlink("/proc/self"); err == nil {
		if pid, err := strconv.ParseInt(link, 10, 32); err == nil {
			return int32(pid)
		}
	}
	return int32(os.Getpid())
}

// bindError is how net's errors about an address end up in the texts of caddy and of plugins, which do not wrap them.
var bindError = regexp.MustCompile(`listen (tcp|udp)[46]? (\S+): bind: (address already in use|permission denied|` +
	`cannot assign requested address)`)

// caddysWords stand before what is wrong with a Corefile in a reload, and say nothing.
const caddysWords = "starting with listener file descriptors: "

// explainStart adds to an error of a start who holds the address, or what to do, and takes secrets out.
func explainStart(err error) error {
	if text, found := strings.CutPrefix(err.Error(), caddysWords); found {
		err = errors.New(text)
	}
	err = redacted(err)
	m := bindError.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	switch network, address := m[1], m[2]; m[3] {
	case "permission denied":
		return fmt.Errorf("%w: a port below 1024 needs root or CAP_NET_BIND_SERVICE; for a trial take "+
			"another, with --port 5300", err)
	case "cannot assign requested address":
		return fmt.Errorf("%w: this host has no such address; correct `bind` in the Corefile", err)
	default:
		return taken(network, address, heldBy(network, address))
	}
}

// taken is the error for an address that another process has.
func taken(network, address, by string) error {
	return fmt.Errorf("%s over %s is in use%s: stop that, or listen elsewhere (`bind` in the Corefile, or --port)",
		address, strings.ToUpper(network), by)
}

// shared returns an error if another process has one of the addresses of i too: CoreDNS binds with SO_REUSEPORT, with
// which two processes of one user share a port without a word, and every other answer would be the wrong one's.
func shared(i *caddy.Instance) error {
	for _, s := range i.Servers() {
		for _, a := range []net.Addr{s.Addr(), s.LocalAddr()} {
			if a == nil {
				continue
			}
			addr, err := netip.ParseAddrPort(a.String())
			if err != nil {
				continue
			}
			if names := holders(a.Network(), addr, same); len(names) > 0 {
				return taken(a.Network(), addr.String(), " by "+strings.Join(names, ", "))
			}
		}
	}
	return nil
}
