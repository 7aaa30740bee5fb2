package danelaw

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/owned"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

func init() { plugin.Register(pluginName, setup) }

// setting is the directive of one server block as it is read.
type setting struct {
	config  Config
	root    string            // relative files are there
	at      map[string]string // file:line of each option, "" for the directive
	current string            // the option being read
	here    string            // its file:line
	times   int               // how often it was there, this time included
	anchors []string          // FILE or embedded
	ca      string
	limited []string // names of limits set
	operators
	origin    origin
	directive *directive
}

// operators is where operators reach the daemon.
type operators struct {
	control string // the path of the control socket; "" for none
	status  string // the address of the status page; "" for none
}

// directive is what CoreDNS has in the chain of plugins of a server block, before there is a Handler. It implements
// plugin.Handler and ready.Readiness.
type directive struct {
	block   string
	load    uint64                  // of a Corefile
	handler atomic.Pointer[Handler] // nil until the plugins around it are known
	closed  atomic.Bool
}

// Name implements plugin.Handler.
func (d *directive) Name() string { return pluginName }

// ServeDNS implements plugin.Handler. Nothing is served before the Handler is there. What comes once it is closed is
// from a server that a reload has replaced a moment ago, or has left behind as it had not begun to serve.
func (d *directive) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	h := d.enter()
	defer h.asked.Add(-1)
	return h.ServeDNS(ctx, w, r)
}

// enter returns the Handler that a query is for, counted there: none is closed by another reload meanwhile.
func (d *directive) enter() *Handler {
	for {
		h := d.serving()
		if h.asked.Add(1); h == d.serving() {
			return h
		}
		h.asked.Add(-1)
	}
}

// Ready implements ready.Readiness. While CoreDNS starts, ready may ask before there is a Handler.
func (d *directive) Ready() bool {
	h := d.serving()
	return h != nil && h.Ready()
}

// serving returns the Handler, or, before it is there and once it is closed, that of the server block in another load
// of the Corefile, if there is one.
func (d *directive) serving() *Handler {
	h := d.handler.Load()
	if h != nil && !d.closed.Load() {
		return h
	}
	return cmp.Or(process.of(d.block), h)
}

// close ends what has been opened, once the queries that are being answered have their replies.
func (d *directive) close() {
	d.closed.Store(true)
	h := d.handler.Load()
	if h == nil {
		return
	}
	for over := time.Now().Add(drainPatience); h.asked.Load() > 0 && time.Now().Before(over); {
		time.Sleep(time.Millisecond)
	}
	h.Close()
}

func setup(c *caddy.Controller) error {
	config := dnsserver.GetConfig(c)
	s, err := parse(c)
	if err == nil {
		err = cmp.Or(s.agree(loadOf(c)), s.asksItself(config))
	}
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	s.config.Block = blockName(c)
	s.directive = &directive{block: s.config.Block, load: s.origin.load}
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		s.config.Next = next
		return s.directive
	})
	config.UDPDecorateWriterFunc = func(listener *dnsserver.Server) dns.DecorateWriter { // for each, before it serves
		t := newTold(listener, s.directive)
		loadOf(c).servers.tell(t)
		process.readers.follow(t)
		return nil
	}
	load(c, s)
	c.OnFirstStartup(func() error {
		addresses, err := wanted(c.ServerBlockKeys, config.ListenHosts)
		return cmp.Or(err, alone(addresses))
	})
	c.OnStartup(func() error {
		addresses, err := wanted(c.ServerBlockKeys, config.ListenHosts)
		if err != nil {
			return err
		}
		s.origin.addresses = addresses[transport.DNS]
		for _, address := range s.origin.addresses {
			loadOf(c).servers.want(address)
		}
		return s.start(config.Handlers())
	})
	s.endings(c)
	return nil
}

// endings has the Handler closed when it serves no more. After a restart that is with OnShutdown. At the end of all,
// CoreDNS calls that too, but goes on serving until the last OnFinalShutdown: health may wait in its own for clients to
// go elsewhere.
func (s *setting) endings(c *caddy.Controller) {
	restarting, first := false, loadOf(c).blocks == 1 // of the blocks: one of them counts for all
	c.OnRestart(func() error { restarting = true; return nil })
	c.OnRestartFailed(func() error {
		restarting = false
		process.closeOthers(s.origin.load)
		if first {
			ReloadFailed()
		}
		return nil
	})
	c.OnShutdown(func() error {
		if restarting {
			if first {
				reloaded()
			}
			process.readers.drain(s.origin.load, process.readAfter(s.origin.load)) // CoreDNS reads there already
			s.directive.close()
		}
		return nil
	})
	c.OnFinalShutdown(func() error {
		process.readers.drain(s.origin.load, nil)
		s.directive.close()
		return nil
	})
}

// start has the server block served.
func (s *setting) start(around []plugin.Handler) error {
	h, err := s.open(around)
	if err != nil {
		return err
	}
	if err := cmp.Or(s.listen(h), s.show(h), s.answerPolicies(h)); err != nil {
		h.Close()
		return plugin.Error(pluginName, err)
	}
	h.Start()
	return nil
}

// open makes the Handler, now that the plugins around it are known.
func (s *setting) open(around []plugin.Handler) (*Handler, error) {
	for _, h := range around {
		if h.Name() == "cache" { // S-26
			return nil, plugin.Error(pluginName,
				s.errorAt("", "the plugin cache is in the same server block: remove it, as danelaw has a "+
					"cache of its own; above danelaw it loses errors and AD, below it repeats bad replies"))
		}
	}
	h, err := newHandler(s.config, s.origin)
	if err != nil {
		return nil, plugin.Error(pluginName, s.errorAt("", "%v", err))
	}
	s.directive.handler.Store(h)
	return h, nil
}

// listen opens the control socket. The start fails only if the Corefile asked for it.
func (s *setting) listen(h *Handler) (err error) {
	if _, asked := s.at["control"]; asked {
		if s.control == "" {
			return nil
		}
		if h.control, err = holdControl(s.control); err != nil {
			err = s.errorAt("control", "control %s: %v", s.control, err)
		}
		return err
	}
	if dir, err := os.Stat(filepath.Dir(defaultControl)); err != nil || !dir.IsDir() {
		return nil
	}
	if h.control, err = holdControl(defaultControl); err != nil {
		log.Warningf("danelaw goes without a control socket: %v", err)
	}
	return nil
}

// show opens the status page.
func (s *setting) show(h *Handler) (err error) {
	if s.status == "" {
		return nil
	}
	if h.page, err = holdPage(s.status); err != nil {
		err = s.errorAt("status", "status %s: %v: end who listens there, or write another address", s.status, err)
	}
	return err
}

// corefileLoad is what the server blocks share that one load of a Corefile has set up.
type corefileLoad struct {
	number     uint64 // from 1; a reload is another load
	blocks     int
	named      map[string]int    // how many of them have the same keys
	state      string            // of the first block that says so
	notify     string            // as state
	operators                    // as state
	cacheFiles map[string]string // where each is named
	policy     string            // where it is; "": nowhere
	servers    servers
}

// loadKey is where an instance of CoreDNS keeps its corefileLoad.
type loadKey struct{}

// agree returns an error if two server blocks differ in what the whole daemon has only once.
func (s *setting) agree(i *corefileLoad) error {
	for _, o := range []struct {
		name  string
		own   string
		first *string
	}{{"trust_anchor_state", s.config.State, &i.state}, {"control", s.control, &i.control},
		{"status", s.status, &i.status}, {"notify", strings.Join(s.config.Notify, " "), &i.notify}} {
		if *o.first != "" && o.own != "" && *o.first != o.own {
			return s.errorAt(o.name, "%s %s: another server block has %s: write the same in all, or in one only",
				o.name, o.own, *o.first)
		}
		*o.first = cmp.Or(*o.first, o.own)
	}
	if file := s.config.CacheFile; file != "" {
		if first, taken := i.cacheFiles[file]; taken {
			return s.errorAt("cache_file", "cache_file %s: another server block has it, at %s: name another file", file,
				first)
		}
		i.cacheFiles[file] = s.at["cache_file"]
	}
	if s.config.PolicyService != "" {
		if i.policy != "" {
			return s.errorAt("policy", "policy %s: another server block has the policy service, at %s: keep one "+
				"of the two", s.config.PolicyService, i.policy)
		}
		i.policy = s.at["policy"]
	}
	return nil
}

// loads counts the loads of a Corefile in this process.
var loads atomic.Uint64

// loadOf returns what is known of the load of a Corefile that c belongs to.
func loadOf(c *caddy.Controller) *corefileLoad {
	i, ok := c.Get(loadKey{}).(*corefileLoad)
	if !ok {
		i = &corefileLoad{number: loads.Add(1), named: map[string]int{}, cacheFiles: map[string]string{},
			servers: newServers()}
		c.Set(loadKey{}, i)
	}
	return i
}

// blockName names a server block by its keys, the second one with the same keys (views) by its number too.
func blockName(c *caddy.Controller) string {
	i := loadOf(c)
	name := strings.Join(c.ServerBlockKeys, " ")
	i.blocks++
	if i.named[name]++; i.named[name] > 1 {
		return fmt.Sprintf("%s #%d", name, i.named[name])
	}
	return name
}

// parse reads the directive.
func parse(c *caddy.Controller) (*setting, error) {
	s := &setting{
		config: Defaults(), root: dnsserver.GetConfig(c).Root, at: map[string]string{},
		origin: origin{load: loadOf(c).number, looking: loading.looking},
	}
	seen := map[string]int{}
	for c.Next() {
		if s.at[""] != "" {
			return nil, c.Errf("danelaw is there twice, the first time at %s: put all options into one", s.at[""])
		}
		s.at[""] = position(c)
		if args := c.RemainingArgs(); len(args) > 0 {
			return nil, c.Errf("danelaw %q: put options into a block, danelaw { ... }",
				upstream.Redact(strings.Join(args, " ")))
		}
		for c.NextBlock() {
			s.current = c.Val()
			seen[s.current]++
			s.times = seen[s.current]
			if err := s.option(c); err != nil {
				return nil, err
			}
		}
	}
	return s, s.finish()
}

func position(c *caddy.Controller) string { return fmt.Sprintf("%s:%d", c.File(), c.Line()) }

// first reports whether the option being read is there for the first time.
func (s *setting) first() bool { return s.times == 1 }

// option reads one option.
func (s *setting) option(c *caddy.Controller) error {
	o, known := optionNamed(s.current)
	if !known {
		return c.Errf("danelaw has no option %q: it has %s", s.current, optionNames())
	}
	if !s.first() && !o.repeats {
		return c.Errf("%s is there twice, the first time at %s: keep one of the two", o.name, s.at[o.name])
	}
	if s.here = position(c); s.first() {
		s.at[o.name] = s.here
	}
	args := c.RemainingArgs()
	err := errors.New("it takes no block")
	if !c.NextArg() { // else that was a {
		err = o.set(s, args)
	}
	if err != nil {
		line := upstream.Redact(strings.Join(append([]string{o.name}, args...), " "))
		return c.Errf("%s: %v: write %s %s, with %s", line, err, o.name, o.args, o.allowed)
	}
	return nil
}

// errorAt is an error in the form of c.Errf, at an option that was read before.
func (s *setting) errorAt(option, format string, args ...any) error {
	return fmt.Errorf("%s - Error during parsing: %s", s.at[option], fmt.Sprintf(format, args...))
}

// finish does what needs all options.
func (s *setting) finish() error {
	if err := cmp.Or(s.loadAnchors(), s.loadCA()); err != nil {
		return err
	}
	if s.at["control"] != "" && s.control != "" {
		if err := s.files().Keep(filepath.Dir(s.control)); err != nil {
			return s.errorAt("control", "control %s: %v", s.control, err)
		}
	}
	if err := s.keepPolicyService(); err != nil {
		return err
	}
	for _, a := range s.config.NTAs {
		if err := s.config.distrustable(a.Zone); err != nil {
			return s.errorAt("negative_trust_anchor "+a.Zone, "negative_trust_anchor %s: %v", a.Zone, err)
		}
	}
	if limit := ours().limit; limit > 0 && s.config.CacheSize+promised > limit && s.at["cache"] != "" {
		log.Warningf("%s: cache %d MiB, and the %d MiB that danelaw takes besides, are more than the %d MiB that "+
			"this process may take: "+
			"it may be killed; lower the one or raise the other", s.at["cache"], s.config.CacheSize>>20, promised>>20,
			limit>>20)
	}
	if local := netip.MustParseAddr("127.0.0.1"); !contains(s.config.AllowClients, local) {
		log.Warningf("%s: allow_clients leaves out %s: programs of this host are refused", s.at["allow_clients"], local)
	}
	return nil
}

func addAnchors(s *setting, args []string) error {
	if len(args) == 0 {
		return errArgs
	}
	for _, arg := range args {
		if slices.Contains(s.anchors, arg) {
			return fmt.Errorf("%q is there twice", arg)
		}
		s.anchors = append(s.anchors, arg)
	}
	return nil
}

// loadAnchors reads the trust anchors. They must be read with a clock before the build date too, or danelaw would not
// even start where it only has to wait (T-14).
func (s *setting) loadAnchors() error {
	if len(s.anchors) == 0 {
		return nil
	}
	now := s.config.ValidationTime
	if now.IsZero() {
		if now = s.config.Clock(); now.Before(BuildDate()) {
			now = BuildDate()
		}
	}
	s.config.Anchors = trustanchors.Set{}
	for _, anchor := range s.anchors {
		if anchor == "embedded" {
			s.config.Anchors.Merge(trustanchors.Embedded())
			continue
		}
		var set trustanchors.Set
		var warnings []string
		content, err := s.files().Read(s.path(anchor), maxFile)
		if err == nil {
			set, warnings, err = trustanchors.Load(s.path(anchor), content, now, s.config.Policy.SHA1)
		}
		if err != nil {
			return s.errorAt("trust_anchor", "trust_anchor %s: %v: mend the file, or write `trust_anchor embedded`",
				anchor, err)
		}
		for _, w := range warnings {
			log.Warningf("trust_anchor %s: %s", anchor, w)
		}
		s.config.Anchors.Merge(set)
	}
	for _, zone := range slices.Sorted(maps.Keys(s.config.Anchors)) {
		if d := s.config.Policy.Anchor(zone, s.config.Anchors[zone]); d.Cut == dnssec.InsecureCut {
			log.Warningf("trust_anchor: none of its trust anchors is supported: %s", d.Cause.Text)
		}
	}
	return nil
}

// maxFile is how many octets a file may have: more than all authorities of the world take.
const maxFile = 16 << 20

func setUpstreamCA(s *setting, args []string) (err error) {
	s.ca, err = one(args)
	return err
}

func (s *setting) loadCA() error {
	if s.ca == "" {
		return nil
	}
	pem, err := s.files().Read(s.path(s.ca), maxFile)
	s.config.RootCAs = x509.NewCertPool()
	if err == nil && !s.config.RootCAs.AppendCertsFromPEM(pem) {
		err = errors.New("there is no certificate in it")
	}
	if err != nil {
		return s.errorAt("upstream_ca", "upstream_ca %s: %v: name a file of PEM certificates", s.ca, err)
	}
	return nil
}

// files says whose files are taken.
func (s *setting) files() owned.Trust { return trusted(s.origin.looking) }

func trusted(looking bool) owned.Trust {
	if looking {
		return owned.AnyOwner()
	}
	return owned.Daemon()
}

// path returns where a file is, as other plugins find theirs.
func (s *setting) path(file string) string {
	if filepath.IsAbs(file) || s.root == "" {
		return file
	}
	return filepath.Join(s.root, file)
}
