//go:build !linux

package upstream

import (
	"errors"
	"net"
)

// reader reads from each socket in a goroutine. The zero value is ready.
type reader struct{}

// watch reads from s until it is closed.
func (reader) watch(s *socket) error {
	go func() {
		var buf [datagramSize]byte
		for {
			n, err := s.conn.Read(buf[:])
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil:
				s.failed(err)
			default:
				s.arrived(buf[:n])
			}
		}
	}()
	return nil
}

func (reader) close() {}

// look has nothing to do: the goroutine of the socket does.
func (s *socket) look() {}
