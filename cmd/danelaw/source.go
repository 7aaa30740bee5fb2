package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/coredns/caddy"
)

// source is where the Corefile comes from. It is the caddy.Loader of the daemon, so that a reload reads the same.
type source struct {
	file string // "" if it cannot be read again
	name string // in errors
	body []byte
	dial func(ctx context.Context, network, address string) (net.Conn, error) // to mail hosts; nil: as the system does
}

// fixedSource is a Corefile that is only in memory.
func fixedSource(name, body string) *source { return &source{name: name, body: []byte(body)} }

// openSource reads the Corefile that -conf names: a file, or stdin (also -).
func openSource(conf string) (*source, error) {
	if conf == "stdin" || conf == "-" {
		body, err := io.ReadAll(os.Stdin)
		return &source{name: "stdin", body: body}, err
	}
	s := &source{file: conf, name: conf}
	_, err := s.Load(serverType)
	return s, err
}

// Load implements caddy.Loader: it reads the file anew.
func (s *source) Load(kind string) (caddy.Input, error) {
	if s.file != "" {
		body, err := os.ReadFile(s.file)
		if err != nil {
			return nil, fmt.Errorf("the Corefile cannot be read: %w", err)
		}
		s.body = body
	}
	return caddy.CaddyfileInput{Filepath: s.name, Contents: s.body, ServerTypeName: kind}, nil
}
