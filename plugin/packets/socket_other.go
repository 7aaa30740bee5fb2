//go:build !linux

package packets

import (
	"errors"
	"net/netip"
	"time"
)

// Socket is none here.
type Socket struct{}

var errLinux = errors.New("datagrams are read and written by the batch on Linux only")

// Dial fails.
func Dial(netip.AddrPort) (*Socket, error) { return nil, errLinux }

// Listen fails.
func Listen(netip.AddrPort) (*Socket, error) { return nil, errLinux }

// Addr has none.
func (*Socket) Addr() (netip.AddrPort, error) { return netip.AddrPort{}, errLinux }

// Close does nothing.
func (*Socket) Close() error { return nil }

// Receive fails.
func (*Socket) Receive(time.Duration) (int, error) { return 0, errLinux }

// Datagram is none.
func (*Socket) Datagram(int) []byte { return nil }

// Came is never.
func (*Socket) Came(int) time.Time { return time.Time{} }

// Reply fails.
func (*Socket) Reply(int, []byte) error { return errLinux }

// Queue fails.
func (*Socket) Queue([]byte) error { return errLinux }

// Send fails.
func (*Socket) Send() error { return errLinux }
