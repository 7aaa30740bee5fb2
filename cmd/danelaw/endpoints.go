package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/coredns/coredns/plugin/ready"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
)

// The server type of the daemon is CoreDNS's, with directives of the same names and arguments in the place of those
// that answer HTTP: these refuse callers who use another's name, and listen on loopback unless told otherwise.
const serverType = "danelaw"

// endpointDirectives are those; all others are CoreDNS's own.
var endpointDirectives = map[string]caddy.SetupFunc{
	"ready": setupReady, "prometheus": setupMetrics, "pprof": setupProfiles, "health": setupHealth,
}

// registerServerType registers it.
func registerServerType() error {
	for _, name := range directives {
		action, own := endpointDirectives[name]
		if !own {
			var err error
			if action, err = caddy.DirectiveAction("dns", name); err != nil {
				return err
			}
		}
		caddy.RegisterPlugin(name, caddy.Plugin{ServerType: serverType, Action: action})
	}
	caddy.RegisterServerType(serverType, caddy.ServerType{
		Directives: func() []string { return directives },
		// CoreDNS's own, which no other function returns
		NewContext: func(*caddy.Instance) caddy.Context { return caddy.NewTestController("dns", "").Context() },
	})
	return nil
}

// properties are those that a directive may have in a block, and what takes the arguments of each.
type properties map[string]func(args []string) error

// arguments reads a directive that may have an address, and properties in a block.
func arguments(c *caddy.Controller, address string, known properties) (string, error) {
	for n := 0; c.Next(); n++ {
		if n > 0 {
			return "", plugin.ErrOnce
		}
		args := c.RemainingArgs()
		if len(args) > 1 {
			return "", c.ArgErr()
		}
		address = append(args, address)[0]
		if _, _, err := net.SplitHostPort(address); err != nil {
			return "", c.Errf("%q is no address with a port, such as 127.0.0.1:8181", address)
		}
		for c.NextBlock() {
			property := c.Val()
			set, ok := known[property]
			if !ok {
				return "", c.Errf("unknown property '%s'", property)
			}
			if err := set(c.RemainingArgs()); err != nil {
				return "", c.Errf("property '%s': %v", property, err)
			}
		}
	}
	return address, nil
}

// opened has a directive of c's load, which may have an address and properties, answer at a path when it starts.
func opened(c *caddy.Controller, directive, address, path string, h http.Handler, known properties) error {
	address, err := arguments(c, address, known)
	if err != nil {
		return plugin.Error(directive, err)
	}
	e, mux := endpointsOf(c), http.NewServeMux()
	mux.Handle(path, h)
	if err := e.add(directive, address, mux); err != nil {
		return plugin.Error(directive, c.Err(err.Error()))
	}
	c.OnStartup(e.take)
	return nil
}

// setupProfiles is CoreDNS's pprof, with a profile of mutexes too.
func setupProfiles(c *caddy.Controller) error {
	mux := http.NewServeMux()
	mux.Handle("/debug/pprof", http.RedirectHandler("/debug/pprof/", http.StatusFound))
	for path, h := range map[string]http.HandlerFunc{"": pprof.Index, "cmdline": pprof.Cmdline,
		"profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace} {
		mux.Handle("/debug/pprof/"+path, h)
	}
	var block, mutex int
	c.OnStartup(func() error {
		runtime.SetBlockProfileRate(block)
		runtime.SetMutexProfileFraction(mutex)
		return nil
	})
	return opened(c, "pprof", "127.0.0.1:6053", "/", mux, properties{"block": rate(&block), "mutex": rate(&mutex)})
}

// rate takes the argument of a profile: 1 unless another is given.
func rate(n *int) func(args []string) error {
	return func(args []string) (err error) {
		if *n = 1; len(args) > 0 {
			*n, err = strconv.Atoi(args[0])
		}
		return err
	}
}

// readyList is what has to be ready, in all server blocks of a load.
type readyList struct {
	sync.Mutex
	plugins      []readyPlugin
	continuously bool // what was ready once is asked again
}

type readyPlugin struct {
	ready.Readiness
	name string
	was  bool
}

// setupReady is CoreDNS's ready.
func setupReady(c *caddy.Controller) error {
	type key struct{}
	list, ok := c.Get(key{}).(*readyList)
	if !ok {
		list = &readyList{}
		c.Set(key{}, list)
	}
	c.OnStartup(func() error {
		list.Lock()
		defer list.Unlock()
		for _, h := range dnsserver.GetConfig(c).Handlers() {
			if r, ok := h.(ready.Readiness); ok {
				list.plugins = append(list.plugins, readyPlugin{r, h.Name(), false})
			}
		}
		return nil
	})
	return opened(c, "ready", "127.0.0.1:8181", "/ready", list, properties{"monitor": func(args []string) error {
		list.continuously = slices.Equal(args, []string{"continuously"})
		if !list.continuously && !slices.Equal(args, []string{"until-ready"}) {
			return c.ArgErr()
		}
		return nil
	}})
}

// ServeHTTP implements http.Handler: it names what is not ready.
func (l *readyList) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	l.Lock()
	defer l.Unlock()
	var waiting []string
	for i := range l.plugins {
		p := &l.plugins[i]
		if p.was = p.was && !l.continuously || p.Ready(); !p.was {
			waiting = append(waiting, p.name)
		}
	}
	text := http.StatusText(http.StatusOK)
	if len(waiting) > 0 {
		slices.Sort(waiting)
		text = strings.Join(slices.Compact(waiting), ",")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	io.WriteString(w, text) //nolint:errcheck // the client has gone
}

// runtimeMetrics replaces the few metrics of Go's runtime by all, for good.
var runtimeMetrics = sync.OnceFunc(func() {
	prometheus.Unregister(collectors.NewGoCollector())
	prometheus.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)))
})

// setupMetrics is CoreDNS's prometheus. With a certificate that plugin itself does: no browser takes that for another's
// name.
func setupMetrics(c *caddy.Controller) error {
	if mentions(c.Dispenser, "tls") {
		action, err := caddy.DirectiveAction("dns", "prometheus")
		if err != nil {
			return err
		}
		return action(c)
	}
	m := metrics.New("") // which is told to nobody: the endpoint listens
	for _, zone := range plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys) {
		m.AddZone(zone)
	}
	config := dnsserver.GetConfig(c)
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		m.Next = next
		return m
	})
	enabled := func() error { pluginsEnabled(config); return nil }
	c.OnStartup(enabled)
	c.OnRestartFailed(enabled)
	c.OnRestart(func() error { vars.PluginEnabled.Reset(); return nil })
	shown := promhttp.HandlerFor(m.Reg, promhttp.HandlerOpts{})
	return opened(c, "prometheus", "127.0.0.1:9153", "/metrics", shown, properties{
		"runtime_metrics": func(args []string) error {
			if len(args) > 0 {
				return c.ArgErr()
			}
			runtimeMetrics()
			return nil
		},
	})
}

// pluginsEnabled shows the plugins of a server block as a metric.
func pluginsEnabled(config *dnsserver.Config) {
	for _, host := range config.ListenHosts {
		at := config.Transport + "://" + net.JoinHostPort(host, config.Port)
		for _, h := range config.Handlers() {
			vars.PluginEnabled.WithLabelValues(at, config.Zone, config.ViewName, h.Name()).Set(1)
		}
	}
}

// setupHealth is CoreDNS's health, without a look at itself: it tells that danelaw runs.
func setupHealth(c *caddy.Controller) error {
	healthy := func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, http.StatusText(http.StatusOK)) //nolint:errcheck // the client has gone
	}
	set := func(args []string) error {
		if len(args) != 1 {
			return c.ArgErr()
		}
		lameduck, err := time.ParseDuration(args[0])
		e := endpointsOf(c)
		e.lameduck = max(e.lameduck, lameduck)
		return err
	}
	return opened(c, "health", "127.0.0.1:8080", "/health", http.HandlerFunc(healthy), properties{"lameduck": set})
}

// endpoint is an HTTP server for operators. It lives through reloads, of which each gives it a handler anew.
type endpoint struct {
	server  *http.Server
	handler atomic.Pointer[http.Handler]
	owner   *endpoints
}

// endpoints are those of one load of a Corefile, by address.
type endpoints struct {
	handlers map[string]http.Handler
	of       map[string]string // the directive
	lameduck time.Duration     // for how long they stay at the end
}

// open are all that listen, by address.
var open = struct {
	sync.Mutex
	by map[string]*endpoint
}{by: map[string]*endpoint{}}

// Bounds on a request. A profile takes as long as it was asked to.
const (
	endpointPatience = 5 * time.Second
	profilePatience  = 2 * time.Minute
)

// endpointsOf returns the endpoints of the load that c belongs to.
func endpointsOf(c *caddy.Controller) *endpoints {
	type key struct{}
	e, ok := c.Get(key{}).(*endpoints)
	if !ok {
		e = &endpoints{handlers: map[string]http.Handler{}, of: map[string]string{}}
		c.Set(key{}, e)
		e.live(c)
	}
	return e
}

// live has the endpoints begin, be replaced in a reload, and end, with the instance of c. At the end of all they stay
// until clients have had time to go elsewhere (lameduck of health).
func (e *endpoints) live(c *caddy.Controller) {
	restarting := false
	c.OnRestart(func() error { restarting = true; return nil })
	c.OnRestartFailed(func() error {
		restarting = false
		err := e.take()
		closeWhere(func(owner *endpoints) bool { return owner != e }) // what the load that failed has opened
		return err
	})
	c.OnShutdown(func() error {
		if restarting {
			e.end()
		}
		return nil
	})
	c.OnFinalShutdown(func() error {
		time.Sleep(e.lameduck)
		e.end()
		return nil
	})
}

// add has a directive answer at an address, once for all server blocks that have it.
func (e *endpoints) add(directive, address string, h http.Handler) error {
	if other := cmp.Or(e.of[address], directive); other != directive {
		return fmt.Errorf("%s %s: there is %s already: give it another address", directive, address, other)
	}
	if e.of[address] == "" {
		e.of[address], e.handlers[address] = directive, danelaw.Guard(address, h)
	}
	return nil
}

// take has all endpoints answer as e wants.
func (e *endpoints) take() error {
	open.Lock()
	defer open.Unlock()
	var errs []error
	for address, h := range e.handlers {
		at := open.by[address]
		if at == nil {
			var err error
			if at, err = listenAt(address); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", e.of[address], err))
				continue
			}
			open.by[address] = at
		}
		at.owner = e
		at.handler.Store(&h)
	}
	return errors.Join(errs...)
}

func listenAt(address string) (*endpoint, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	at := &endpoint{}
	at.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			(*at.handler.Load()).ServeHTTP(w, r)
		}),
		ReadTimeout: endpointPatience, IdleTimeout: endpointPatience, WriteTimeout: profilePatience,
	}
	go at.server.Serve(l) //nolint:errcheck // it ends with end
	return at, nil
}

// end closes the endpoints that no other load has taken.
func (e *endpoints) end() { closeWhere(func(owner *endpoints) bool { return owner == e }) }

// closeWhere closes endpoints by their owners.
func closeWhere(matches func(owner *endpoints) bool) {
	open.Lock()
	defer open.Unlock()
	for address, at := range open.by {
		if !matches(at.owner) {
			continue
		}
		delete(open.by, address)
		ctx, cancel := context.WithTimeout(context.Background(), endpointPatience)
		at.server.Shutdown(ctx) //nolint:errcheck // who is still there is cut off
		at.server.Close()
		cancel()
	}
}
