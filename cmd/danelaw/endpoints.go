package main

import (
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/coredns/coredns/plugin/ready"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
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

// arguments reads a directive that may have an address, and properties in a block.
func arguments(c *caddy.Controller, address string, properties map[string]func(args []string) error) (string, error) {
	for n := 0; c.Next(); n++ {
		if n > 0 {
			return "", plugin.ErrOnce
		}
		args := c.RemainingArgs()
		if len(args) > 1 {
			return "", c.ArgErr()
		}
		if len(args) == 1 {
			address = args[0]
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return "", c.Errf("%q is no address with a port, such as 127.0.0.1:8181", address)
		}
		for c.NextBlock() {
			name := c.Val()
			set, known := properties[name]
			if !known {
				return "", c.Errf("unknown property '%s'", name)
			}
			if err := set(c.RemainingArgs()); err != nil {
				return "", c.Errf("property '%s': %v", name, err)
			}
		}
	}
	return address, nil
}

// opened has the endpoints of c's load listen when it starts.
func opened(c *caddy.Controller, directive, address string, h http.Handler) error {
	e := endpointsOf(c)
	if err := e.add(directive, address, h); err != nil {
		return plugin.Error(directive, c.Err(err.Error()))
	}
	c.OnStartup(func() error { return e.take() })
	return nil
}

// setupProfiles is CoreDNS's pprof.
func setupProfiles(c *caddy.Controller) error {
	rate := 0
	address, err := arguments(c, "127.0.0.1:6053",
		map[string]func([]string) error{"block": func(args []string) (err error) {
			if rate = 1; len(args) > 0 {
				rate, err = strconv.Atoi(args[0])
			}
			return err
		}})
	if err != nil {
		return plugin.Error("pprof", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/pprof", http.RedirectHandler("/debug/pprof/", http.StatusFound))
	for path, h := range map[string]http.HandlerFunc{"": pprof.Index, "cmdline": pprof.Cmdline,
		"profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace} {
		mux.Handle("/debug/pprof/"+path, h)
	}
	c.OnStartup(func() error { runtime.SetBlockProfileRate(rate); return nil })
	return opened(c, "pprof", address, mux)
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
	address, err := arguments(c, "127.0.0.1:8181",
		map[string]func([]string) error{"monitor": func(args []string) error {
			list.continuously = slices.Equal(args, []string{"continuously"})
			if !list.continuously && !slices.Equal(args, []string{"until-ready"}) {
				return c.ArgErr()
			}
			return nil
		}})
	if err != nil {
		return plugin.Error("ready", err)
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
	mux := http.NewServeMux()
	mux.Handle("/ready", list)
	return opened(c, "ready", address, mux)
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
	if hasProperty(c.Dispenser, "tls") {
		action, err := caddy.DirectiveAction("dns", "prometheus")
		if err != nil {
			return err
		}
		return action(c)
	}
	address, err := arguments(c, "127.0.0.1:9153",
		map[string]func([]string) error{"runtime_metrics": func(args []string) error {
			if len(args) > 0 {
				return c.ArgErr()
			}
			runtimeMetrics()
			return nil
		}})
	if err != nil {
		return plugin.Error("prometheus", err)
	}
	m := metrics.New(address)
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
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.Reg, promhttp.HandlerOpts{}))
	return opened(c, "prometheus", address, mux)
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

// hasProperty reports whether a directive has a property in its block.
func hasProperty(d caddyfile.Dispenser, name string) bool {
	for d.Next() {
		d.RemainingArgs()
		for d.NextBlock() {
			if d.Val() == name {
				return true
			}
			d.RemainingArgs()
		}
	}
	return false
}

// setupHealth is CoreDNS's health, without a look at itself: it tells that danelaw runs.
func setupHealth(c *caddy.Controller) error {
	var lameduck time.Duration
	address, err := arguments(c, "127.0.0.1:8080",
		map[string]func([]string) error{"lameduck": func(args []string) (err error) {
			if len(args) != 1 {
				return c.ArgErr()
			}
			lameduck, err = time.ParseDuration(args[0])
			return err
		}})
	if err != nil {
		return plugin.Error("health", err)
	}
	e := endpointsOf(c)
	e.lameduck = max(e.lameduck, lameduck)
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, http.StatusText(http.StatusOK)) //nolint:errcheck // the client has gone
	})
	return opened(c, "health", address, mux)
}
