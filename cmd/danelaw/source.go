package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"text/template"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/owned"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// source is where the Corefile comes from. It is the caddy.Loader of the daemon, so that a reload reads the same.
type source struct {
	file string // "" if it cannot be read again
	name string // in errors
	body []byte
	// makes it of what the system's configuration says now; nil if it does not depend on that
	made func() ([]byte, error)
	// it depends on that, as of the last Load
	system atomic.Bool
	// to mail hosts; nil: as the system does
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// fixedSource is a Corefile that is only in memory.
func fixedSource(name, body string) *source { return &source{name: name, body: []byte(body)} }

// openSource reads the Corefile that --conf names: a file, which can be read again, stdin (also -), or a pipe, which
// are read once, to their end, for which it may have to wait.
func openSource(ctx context.Context, conf string) (*source, error) {
	if conf == "stdin" || conf == "-" {
		return piped(ctx, "stdin", func() (*os.File, error) { return os.Stdin, nil })
	}
	if info, err := os.Stat(conf); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return piped(ctx, conf, func() (*os.File, error) { return os.Open(conf) })
	}
	s := &source{file: conf, name: conf}
	_, err := s.Load(serverType)
	return s, err
}

// maxCorefile bounds what is read, in octets.
const maxCorefile = 16 << 20

// piped reads a Corefile that can be read only once, unless ctx ends before.
func piped(ctx context.Context, name string, open func() (*os.File, error)) (*source, error) {
	body, ended, err := readPipe(ctx, open, maxCorefile)
	switch {
	case ended:
		return nil, fmt.Errorf("%s: ended before a Corefile came from there", name)
	case err != nil:
		return nil, unreadable(err)
	}
	return &source{name: name, body: body}, empty(name, body)
}

// readPipe reads what may be a pipe to its end, or up to a bound, unless ctx ends before.
func readPipe(ctx context.Context, open func() (*os.File, error), most int64) (content []byte, ended bool, err error) {
	var read []byte
	ended, err = unlessEnded(ctx, func() error {
		f, err := open()
		if err == nil {
			defer f.Close()
			read, err = io.ReadAll(io.LimitReader(f, most))
		}
		return err
	})
	if ended {
		return nil, true, nil
	}
	return read, false, err
}

// unlessEnded waits for a read that a pipe may keep waiting for ever, unless ctx ends before.
func unlessEnded(ctx context.Context, read func() error) (ended bool, err error) {
	done := make(chan error, 1)
	go func() { done <- read() }()
	select {
	case err = <-done:
		return false, err
	case <-ctx.Done():
		return true, nil
	}
}

func unreadable(err error) error { return fmt.Errorf("the Corefile cannot be read: %w", err) }

// empty returns an error if there is nothing in a Corefile, which CoreDNS would take for an order to do nothing.
func empty(name string, body []byte) error {
	for line := range strings.Lines(string(body)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return nil
		}
	}
	what := "empty"
	if len(body) > 0 {
		what = "empty but for comments and white space"
	}
	return fmt.Errorf("%s is %s: write a Corefile into it, such as danelaw --print-default-config prints", name, what)
}

// again reports whether a reload can bring anything new.
func (s *source) again() bool { return s.file != "" || s.made != nil }

// Load implements caddy.Loader: it reads the file anew. Reloads of several causes may do so at once.
func (s *source) Load(kind string) (caddy.Input, error) {
	body, err := s.body, error(nil)
	switch {
	case s.made != nil:
		body, err = s.made()
	case s.file != "":
		if body, err = owned.AnyGroup().Read(s.file, maxCorefile); err != nil {
			return nil, unreadable(err)
		}
		err = empty(s.name, body)
	}
	if err != nil {
		return nil, err
	}
	corefile := caddyfile.NewDispenser("", bytes.NewReader(body))
	s.system.Store(s.made != nil || mentions(corefile, resolvConf))
	return caddy.CaddyfileInput{Filepath: s.name, Contents: body, ServerTypeName: kind}, nil
}

// followEvery is how often the configuration of the system is looked at. Reading beats being told (inotify): it sees
// what is edited, put in the place of another, behind a symbolic link, or mounted, all in one way.
var followEvery = time.Second // less in tests

// followSystem tells, until ctx ends, when the nameservers of the system are others, as long as the Corefile depends on
// them.
func followSystem(ctx context.Context, src *source, changes chan<- string) {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for f := (*follower)(nil); ; {
		var changed bool
		if f, changed = f.look(src); changed {
			log.Printf("[INFO] %s names other nameservers now", resolvConf)
			select {
			case changes <- resolvConf + " has changed":
			case <-ctx.Done():
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look takes what the system says now; it begins with what is in force.
func (f *follower) look(src *source) (*follower, bool) {
	if !src.system.Load() {
		return nil, false
	}
	now, err := src.nameservers()
	if f == nil {
		return &follower{inForce: now, found: now}, false
	}
	return f, f.changed(now, err)
}

// nameservers tells the nameservers of the system that the Corefile depends on.
func (s *source) nameservers() (string, error) {
	if s.made != nil {
		corefile, err := s.made()
		return string(corefile), err
	}
	servers, err := nameservers(resolvConf)
	var all []string
	for _, server := range servers {
		all = append(all, server.String())
	}
	if err == nil && len(all) == 0 {
		err = errors.New(resolvConf + " names no nameserver")
	}
	return strings.Join(all, " "), err
}

// mentions reports whether a word stands in a Corefile, as in `forward . /etc/resolv.conf`, or in a part of one.
func mentions(d caddyfile.Dispenser, word string) bool {
	for d.Next() {
		if d.Val() == word {
			return true
		}
	}
	return false
}

// follower knows which nameservers are in force, and what was found last.
type follower struct {
	inForce string
	found   string // and settled
	fresh   string // found once: somebody may still be writing
}

// changed takes what was found, and reports whether it is to be in force now. What names no nameserver is told once,
// and changes nothing.
func (f *follower) changed(now string, err error) bool {
	found := now
	if err != nil {
		found = err.Error()
	}
	if found == f.found {
		f.fresh = ""
		return false
	}
	if found != f.fresh {
		f.fresh = found
		return false
	}
	f.found, f.fresh = found, ""
	switch {
	case err != nil:
		log.Printf("[WARNING] the upstreams are kept as they are: %s", printable.Text(err.Error()))
		return false
	case now == f.inForce:
		log.Printf("[INFO] %s is again as it was", resolvConf)
		return false
	}
	f.inForce = now
	return true
}

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
	// There are hosts without IPv6, and CoreDNS fails the whole start for one address.
	if danelaw.Free("[::1]:0", "udp", "tcp") == nil {
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

// leaveOutTaken leaves out extras whose address another program has: they are not worth failing the start.
func (d *defaults) leaveOutTaken() {
	for _, plugin := range slices.Sorted(maps.Keys(d.Extras)) {
		address := d.Extras[plugin]
		if danelaw.Free(address, "tcp") == nil {
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
