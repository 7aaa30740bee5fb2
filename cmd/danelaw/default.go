package main

import (
	_ "embed"
	"fmt"
	"log"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/template"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

//go:embed default.corefile
var defaultText string

var defaultTemplate = template.Must(template.New("default").Parse(defaultText))

// defaults are what the default Corefile depends on.
type defaults struct {
	Port      int
	Bind      []netip.Addr
	Extras    map[string]string // plugins with an address of their own
	Upstreams []string
}

// The resolver configuration of the system, and the one behind systemd-resolved's stub.
var ( // others in tests
	resolvConf         = "/etc/resolv.conf"
	resolvedResolvConf = "/run/systemd/resolve/resolv.conf"
)

// newDefaults returns the defaults of this host; without upstreams given they are the system's.
func newDefaults(port int, upstreams []string) (*defaults, error) {
	for _, u := range upstreams {
		if _, err := upstream.Parse(u); err != nil {
			return nil, wrong("--%w", err)
		}
	}
	d := &defaults{
		Port: port, Bind: []netip.Addr{loopback},
		Extras: map[string]string{"ready": "127.0.0.1:8181", "prometheus": "127.0.0.1:9153"},
	}
	if free("[::1]:0") == nil { // there are hosts without IPv6, and CoreDNS fails the whole start for one address
		d.Bind = append(d.Bind, netip.IPv6Loopback())
	}
	var err error
	if d.Upstreams = upstreams; len(upstreams) == 0 {
		d.Upstreams, err = d.systemUpstreams(resolvConf, resolvedResolvConf)
	}
	return d, err
}

// again returns the Corefile with the upstreams that the system names now.
func (d *defaults) again() ([]byte, error) {
	upstreams, err := d.systemUpstreams(resolvConf, resolvedResolvConf)
	if err != nil {
		return nil, err
	}
	now := *d
	now.Upstreams = upstreams
	return []byte(now.corefile()), nil
}

// free tries to bind an address over UDP and TCP, and returns the error if it cannot.
func free(address string) error {
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", address)
	if err == nil {
		err = tcp.Close()
	}
	return err
}

// leaveOutTaken leaves out extras whose address another program has: they are not worth failing the start.
func (d *defaults) leaveOutTaken() {
	for _, plugin := range slices.Sorted(maps.Keys(d.Extras)) {
		address := d.Extras[plugin]
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			continue
		}
		delete(d.Extras, plugin)
		log.Printf("[WARNING] the default configuration goes without %s: %s is in use%s", plugin, address,
			heldBy("tcp", address))
	}
}

// corefile returns the text.
func (d *defaults) corefile() string {
	var b strings.Builder
	if err := defaultTemplate.Execute(&b, d); err != nil {
		panic(err) // it is ours
	}
	return b.String()
}

// systemUpstreams returns the nameservers that the files name, in the form of the option upstream.
func (d *defaults) systemUpstreams(file, resolved string) ([]string, error) {
	servers, err := nameservers(file)
	if err != nil {
		return nil, fmt.Errorf("the upstreams cannot be found out: %w; %s", err, remedy)
	}
	if others, err := nameservers(resolved); err == nil && slices.Equal(servers, []netip.Addr{resolvedStub}) {
		file, servers = resolved, others // the stub would stand between
	}
	var upstreams []string
	for _, server := range servers {
		if d.Port != 53 || !slices.Contains(d.Bind, server) {
			upstreams = append(upstreams, address(server))
		}
	}
	switch {
	case len(servers) == 0:
		return nil, fmt.Errorf("%s names no nameserver; %s", file, remedy)
	case len(upstreams) == 0:
		return nil, fmt.Errorf("%s names only %s, which is danelaw itself: it would ask itself; %s", file, servers[0],
			remedy)
	}
	return upstreams, nil
}

const remedy = "say whom to ask, as in `danelaw --upstream tls://9.9.9.9%dns.quad9.net` or with an upstream in " +
	"a Corefile (--conf)"

var (
	loopback     = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	resolvedStub = netip.AddrFrom4([4]byte{127, 0, 0, 53})
)

// nameservers reads the addresses from a file in the form of resolv.conf.
func nameservers(file string) ([]netip.Addr, error) {
	if info, err := os.Stat(file); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", file)
	}
	config, err := dns.ClientConfigFromFile(file)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, server := range config.Servers {
		addr, err := netip.ParseAddr(server)
		if err != nil {
			return nil, fmt.Errorf("%s: nameserver %q is not an IP address", file, server)
		}
		addrs = append(addrs, addr.Unmap())
	}
	return addrs, nil
}

// address writes an address as the option upstream wants it.
func address(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}
