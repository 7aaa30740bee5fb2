package main

import (
	"errors"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	// What a Corefile of the daemon may hold, beside danelaw.
	_ "github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/any"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/debug"
	_ "github.com/coredns/coredns/plugin/dnstap"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/tls"
	_ "github.com/coredns/coredns/plugin/view"

	_ "github.com/danelaw-dns/danelaw/plugin/danelaw"
)

// directives are the plugins in the order in which they see a query: CoreDNS's own, with danelaw before forward. There
// is no cache: danelaw has its own, and CoreDNS's would lose errors and AD.
var directives = []string{
	"reload", "bind", "debug", "ready", "health", "pprof", "prometheus", "errors", "log", "dnstap", "any", "rewrite",
	"acl", "tls", "hosts", "loop", "danelaw", "forward", "view",
}

func init() {
	if err := errors.Join(dnsserver.SetDirectives(directives), registerServerType()); err != nil {
		panic(err)
	}
	caddy.Quiet, dnsserver.Quiet = true, true // the commands say themselves what there is to say
}
