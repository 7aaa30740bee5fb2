//go:build !linux

package server

import "net/netip"

// ErrNetwork is that of a system on which no network of one's own can be made.
var ErrNetwork = errLinux

// Network is a network of this machine's own.
type Network struct{}

// NewNetwork fails: there is none here.
func NewNetwork(netip.Addr, string) (*Network, error) { return nil, errLinux }

// Do is not reached.
func (*Network) Do(func()) {}

// Close is not reached.
func (*Network) Close() {}
