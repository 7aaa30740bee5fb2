package upstream

import (
	"fmt"
	"net/netip"
)

// pool opens the sockets to one server.
type pool struct {
	server netip.AddrPort
	reader *reader
}

// take returns a socket that a flight has joined.
func (p *pool) take() (*socket, error) {
	if !udpSockets.take() {
		return nil, &fault{Busy, fmt.Sprintf("was not asked over UDP: %d sockets are open for that already",
			udpSockets.most()), errOutstanding}
	}
	s, err := openSocket(p.server)
	if err != nil {
		udpSockets.give()
		return nil, err
	}
	s.closing = udpSockets.give
	s.flights, s.retired = 1, true
	if err := p.reader.watch(s); err != nil {
		s.leave(true)
		return nil, err
	}
	return s, nil
}
