//go:build linux

package image

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// lan is a bridge in the namespace of the tests, with the first address of its network, as container engines make it.
type lan struct {
	t       *testing.T
	bridge  string
	network netip.Prefix
}

func newLAN(t *testing.T, bridge, network string) *lan {
	t.Helper()
	if err := private(); err != nil {
		t.Fatal(err)
	}
	l := &lan{t: t, bridge: bridge, network: netip.MustParsePrefix(network)}
	l.ip("link", "add", bridge, "type", "bridge")
	t.Cleanup(func() { l.ip("link", "delete", bridge) })
	l.ip("address", "add", l.with(l.gateway()), "dev", bridge)
	l.ip("link", "set", bridge, "up")
	return l
}

// private makes what is shared with the host private: the names of network namespaces, and control groups, of which
// crun knows no mixture of both versions. The mounts end with the namespace of the tests.
var private = sync.OnceValue(func() error {
	const names, groups = "/run/netns", "/sys/fs/cgroup"
	if err := errors.Join(os.MkdirAll(names, 0o755), syscall.Mount("names", names, "tmpfs", 0, "")); err != nil {
		return err
	}
	const version2 = 0x63677270
	var s syscall.Statfs_t
	if err := syscall.Statfs(groups, &s); err == nil && s.Type == version2 {
		return nil
	}
	return syscall.Mount("cgroup2", groups, "cgroup2", 0, "")
})

func (l *lan) gateway() netip.Addr { return l.network.Addr().Next() }

// with is an address with the length of the network.
func (l *lan) with(a netip.Addr) string { return netip.PrefixFrom(a, l.network.Bits()).String() }

func (l *lan) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// host makes a network namespace with an address on the bridge, and returns it.
func (l *lan) host(name, address string) host {
	l.t.Helper()
	inside, outside := name+"0", name+"1"
	l.ip("netns", "add", name)
	l.t.Cleanup(func() { l.ip("netns", "delete", name) })
	l.ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
	l.t.Cleanup(func() { l.ip("link", "delete", outside) }) // the namespace takes its time to do so
	l.ip("link", "set", outside, "master", l.bridge, "up")
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"link", "set", inside, "up"},
		{"address", "add", l.with(netip.MustParseAddr(address)), "dev", inside},
		{"route", "add", "default", "via", l.gateway().String()}} {
		l.ip(append([]string{"-netns", name}, args...)...)
	}
	return host{l.t, "/run/netns/" + name}
}

// route has the namespace of the tests pass on what comes from one network for another.
func route(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// host is a network namespace.
type host struct {
	t       *testing.T
	network string // its path
}

// dig asks a question with AD and DO, and returns the whole reply.
func (h host) dig(server, port string, question ...string) string {
	h.t.Helper()
	return sh(h.t, append([]string{"nsenter", "--net=" + h.network, "dig", "@" + server, "-p", port, "+dnssec",
		"+adflag", "+tries=3", "+timeout=10"}, question...)...)
}

// expect asks a question, and compares status and AD of the reply.
func (h host) expect(server, port, name, status string, ad bool) {
	h.t.Helper()
	reply := h.dig(server, port, name, "MX")
	_, flags, _ := strings.Cut(reply, ";; flags: ")
	flags, _, _ = strings.Cut(flags, ";")
	if !strings.Contains(reply, "status: "+status+",") || strings.Contains(flags, " ad") != ad {
		h.t.Errorf("%s: want %s and AD %v, there is\n%s", name, status, ad, reply)
	}
}
