//go:build !linux

package fastpath

import (
	"context"
	"errors"
)

// Listener is for Linux only: elsewhere the kernel does not let one socket of an address have all that comes to it.
type Listener struct{}

// Listen fails.
func Listen(string, string, Server, Options) (*Listener, error) {
	return nil, errors.New("that is for Linux only")
}

// Look does nothing.
func Look() {}

// WithoutUDP is never called.
func (*Listener) WithoutUDP() error { return nil }

// Steer is never called.
func (*Listener) Steer() error { return nil }

// Limit is never called.
func (*Listener) Limit(Limits) {}

// Close is never called.
func (*Listener) Close(context.Context) {}
