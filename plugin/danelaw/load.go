package danelaw

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Blocks are the server blocks of a Corefile that hold danelaw, set up but not served.
type Blocks []*block

// block is one of them.
type block struct {
	zones    []string
	config   *dnsserver.Config
	setup    *setting
	handlers []plugin.Handler // from the last to the first
	started  []plugin.Handler
}

// loading collects the blocks that are set up while Load runs.
var loading struct {
	sync.Mutex
	active  bool
	looking bool
	blocks  Blocks
}

// Validate runs every setup of a Corefile, and all checks that starting it by this user would make, without listening
// and without asking anything. Errors are those of a start. Never call it in a process that serves: some plugins keep
// what their setup leaves behind (ready its list). The blocks must be closed.
func Validate(corefile caddy.Input) (Blocks, error) { return setUp(corefile, false) }

// Load is Validate for a command that uses a daemon's Corefile: the files it names may belong to the daemon's user.
func Load(corefile caddy.Input) (Blocks, error) { return setUp(corefile, true) }

func setUp(corefile caddy.Input, looking bool) (Blocks, error) {
	loading.Lock()
	defer loading.Unlock()
	loading.active, loading.looking, loading.blocks = true, looking, nil
	defer func() { loading.active, loading.looking, loading.blocks = false, false, nil }()
	if err := caddy.ValidateAndExecuteDirectives(corefile, nil, true); err != nil {
		return nil, err
	}
	blocks := loading.blocks
	for i, b := range blocks {
		if err := b.open(); err != nil {
			blocks[:i].Close()
			return nil, err
		}
	}
	return blocks, nil
}

// load notes a block that is being set up, if Load asked for it.
func load(c *caddy.Controller, s *setting) {
	if !loading.active {
		return
	}
	b := &block{config: dnsserver.GetConfig(c), setup: s}
	for _, key := range c.ServerBlockKeys { // transport://zone:port by now
		_, zone, _ := strings.Cut(key, "://")
		if hosts, _, err := plugin.SplitHostPort(zone); err == nil {
			b.zones = append(b.zones, dns.CanonicalName(hosts[0]))
		}
	}
	loading.blocks = append(loading.blocks, b)
}

// open makes the chain of handlers of the block as the server would.
func (b *block) open() error {
	var next plugin.Handler
	for _, p := range slices.Backward(b.config.Plugin) {
		next = p(next)
		b.handlers = append(b.handlers, next)
	}
	_, err := b.setup.open(b.handlers)
	return err
}

// Close ends all blocks.
func (b Blocks) Close() {
	for _, block := range b {
		block.setup.directive.close()
		for _, h := range block.started {
			if stopper, ok := h.(interface{ OnShutdown() error }); ok {
				stopper.OnShutdown()
			}
		}
	}
}

// Handler returns the Handler of the block that owns a name, ready to be asked.
func (b Blocks) Handler(name string) (*Handler, error) {
	owner, err := b.owner(name)
	if err != nil {
		return nil, err
	}
	return owner.setup.directive.handler.Load(), owner.start()
}

// owner returns the block that owns a name.
func (b Blocks) owner(name string) (*block, error) {
	name = dns.CanonicalName(name)
	for at := range dnssec.Ancestors(name) {
		for _, block := range b {
			if slices.Contains(block.zones, at) {
				return block, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: no server block with danelaw serves this name", name)
}

// Listens returns the addresses that the block which owns a name binds, unspecified if it is all, and its port.
func (b Blocks) Listens(name string) (hosts []string, port string, err error) {
	owner, err := b.owner(name)
	if err != nil {
		return nil, "", err
	}
	return owner.config.ListenHosts, owner.config.Port, nil
}

// start starts the plugins below danelaw that cannot be asked otherwise (forward).
func (b *block) start() error {
	for _, h := range b.handlers[len(b.started):] {
		if h == plugin.Handler(b.setup.directive) {
			break
		}
		if starter, ok := h.(interface{ OnStartup() error }); ok {
			if err := starter.OnStartup(); err != nil {
				return plugin.Error(h.Name(), err)
			}
		}
		b.started = append(b.started, h)
	}
	return nil
}
