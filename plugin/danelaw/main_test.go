package danelaw

import (
	"os"
	"syscall"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/debug"
	_ "github.com/coredns/coredns/plugin/dnstap"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/multisocket"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	_ "github.com/coredns/coredns/plugin/pprof"
	_ "github.com/coredns/coredns/plugin/proxyproto"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/root"
	_ "github.com/coredns/coredns/plugin/timeouts"
	_ "github.com/coredns/coredns/plugin/tls"
	_ "github.com/coredns/coredns/plugin/tsig"
	_ "github.com/coredns/coredns/plugin/view"
	_ "github.com/coredns/coredns/plugin/whoami"
)

// meanwhile is what happens in the place of the directive pause: while a CoreDNS starts, between the start of ready and
// that of danelaw. The plugin kubernetes can take seconds there.
var meanwhile func()

// begun is what the plugin begun does: danelaw is there, and CoreDNS does not listen yet.
var begun func()

func init() {
	plugin.Register("stranger", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler { return stranger{next} })
		return nil
	})
	plugin.Register("pause", func(c *caddy.Controller) error {
		c.OnStartup(func() error { meanwhile(); return nil })
		return nil
	})
	plugin.Register("begun", func(c *caddy.Controller) error {
		c.OnStartup(func() error { begun(); return nil })
		return nil
	})
	plugin.Register("whole", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler { return whole{next} })
		return nil
	})
}

// stranger is a plugin that danelaw has never heard of. It passes all on.
type stranger struct{ plugin.Handler }

func (stranger) Name() string { return "stranger" }

func TestMain(m *testing.M) {
	clog.Discard()
	defaultControl = "/nonexistent/control.sock"
	caddy.Quiet, dnsserver.Quiet = true, true
	if err := dnsserver.SetDirectives([]string{"root", "bind", "debug", "multisocket", "proxyproto", "ready",
		"health", "pprof", "whole", "prometheus", "errors", "log", "dnstap", "reload", "view", "pause", "timeouts",
		"tsig", "rewrite", "acl", "stranger", "cache", "tls", "hosts", "danelaw", "forward", "whoami",
		"begun"}); err != nil {
		panic(err)
	}
	syscall.Umask(0o022) // files that a group may write are refused
	os.Exit(m.Run())
}
