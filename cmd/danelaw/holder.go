package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/prometheus/procfs"
)

// heldBy says who has a socket at an address, " by NAME (process 123)", as far as this process may know it.
func heldBy(network, address string) string {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	names := names(others(sockets(network, addr, overlap)))
	if len(names) == 0 {
		return fmt.Sprintf(" by a process of another user; as root, `ss -lpn sport = %d` names it", addr.Port())
	}
	return " by " + strings.Join(names, ", ")
}

// overlap reports whether a socket at a keeps another from being bound at b.
func overlap(a, b netip.Addr) bool { return a == b || a.IsUnspecified() || b.IsUnspecified() }

func same(a, b netip.Addr) bool { return a == b }

// tcpListen is the state of a listening socket in /proc/net/tcp.
const tcpListen = 0x0A

// sockets returns the inodes of the sockets at an address: on Linux, and none elsewhere.
func sockets(network string, at netip.AddrPort, match func(a, b netip.Addr) bool) (inodes []uint64) {
	for _, line := range socketTable(network) {
		addr, _ := netip.AddrFromSlice(line.LocalAddr)
		if line.LocalPort == uint64(at.Port()) && match(addr.Unmap(), at.Addr().Unmap()) &&
			(network == "udp" || line.St == tcpListen) {
			inodes = append(inodes, line.Inode)
		}
	}
	return inodes
}

// socketTable returns the kernel's table of sockets; the lines for TCP and UDP are of one type.
func socketTable(network string) procfs.NetUDP {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	if network == "udp" {
		v4, _ := fs.NetUDP()
		v6, _ := fs.NetUDP6()
		return slices.Concat(v4, v6)
	}
	v4, _ := fs.NetTCP()
	v6, _ := fs.NetTCP6()
	return procfs.NetUDP(slices.Concat(v4, v6))
}

// others returns the processes, this one left out, that hold one of the sockets.
func others(inodes []uint64) (holders []procfs.Proc) {
	targets := map[string]bool{}
	for _, inode := range inodes {
		targets[fmt.Sprintf("socket:[%d]", inode)] = true
	}
	all, _ := procfs.AllProcs()
	for _, p := range all {
		fds, _ := p.FileDescriptorTargets() // of other users' processes only root is told
		if p.PID != os.Getpid() && slices.ContainsFunc(fds, func(fd string) bool { return targets[fd] }) {
			holders = append(holders, p)
		}
	}
	return holders
}

func names(processes []procfs.Proc) (names []string) {
	for _, p := range processes {
		name, _ := p.Comm()
		names = append(names, fmt.Sprintf("%s (process %d)", name, p.PID))
	}
	return names
}

// bindError is how net's errors about an address end up in the texts of caddy and of plugins, which do not wrap them.
var bindError = regexp.MustCompile(`listen (tcp|udp)[46]? (\S+): bind: (address already in use|permission denied|cannot assign requested address)`)

// explainStart adds to an error of a start who holds the address, or what to do.
func explainStart(err error) error {
	m := bindError.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	switch network, address := m[1], m[2]; m[3] {
	case "permission denied":
		return fmt.Errorf("%w: a port below 1024 needs root or CAP_NET_BIND_SERVICE; for a trial take another, with -port 5300", err)
	case "cannot assign requested address":
		return fmt.Errorf("%w: this host has no such address; correct `bind` in the Corefile", err)
	default:
		return taken(network, address, heldBy(network, address))
	}
}

// taken is the error for an address that another process has.
func taken(network, address, by string) error {
	return fmt.Errorf("%s over %s is in use%s: stop that, or listen elsewhere (`bind` in the Corefile, or -port)", address,
		strings.ToUpper(network), by)
}

// shared returns an error if another process has one of the addresses of i too: CoreDNS binds with SO_REUSEPORT, with which
// two processes of one user share a port without a word, and every other answer would be the wrong one's.
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
			if names := names(others(sockets(a.Network(), addr, same))); len(names) > 0 {
				return taken(a.Network(), addr.String(), " by "+strings.Join(names, ", "))
			}
		}
	}
	return nil
}
