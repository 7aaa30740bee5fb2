package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"
)

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
		e.of[address], e.handlers[address] = directive, guard(address, h)
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

// guard lets in who calls the endpoint by an IP address, localhost, the name of this host or the name in its address. A
// page on the web that has its own name lead here (DNS rebinding) calls it by that name, or its browser does.
func guard(address string, next http.Handler) http.Handler {
	listens, _, _ := net.SplitHostPort(address)
	own, _ := os.Hostname()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
		_, err := netip.ParseAddr(host)
		for _, name := range []string{"", "localhost", listens, own} {
			if err == nil || strings.EqualFold(host, name) {
				next.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, "this is no name of mine: call me by an IP address, localhost, or the name that the Corefile has",
			http.StatusMisdirectedRequest)
	})
}
