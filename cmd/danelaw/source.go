package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"

	"github.com/danelaw-dns/danelaw/plugin/owned"
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
