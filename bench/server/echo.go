package server

import (
	"context"
	"net/netip"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// RunEcho answers each datagram with its own octets and as many more as make up a size, with the third octet's first
// bit set as responses of DNS have it, until ctx ends. It is what a server costs that does nothing.
func RunEcho(ctx context.Context, at netip.AddrPort, size int) error {
	s, err := packets.Listen(at)
	if err != nil {
		return err
	}
	defer s.Close()
	var texts [packets.Size][packets.Most]byte
	for ctx.Err() == nil {
		n, err := s.Receive(look)
		if err != nil {
			continue // an ICMP error for a client that has gone
		}
		for i := range n {
			text := append(texts[i][:0], s.Datagram(i)...)
			text = text[:min(max(len(text), size), packets.Most)]
			if len(text) > 2 {
				text[2] |= 0x80
			}
			if err := s.Reply(i, text); err != nil {
				continue // likewise
			}
		}
		s.Send() //nolint:errcheck // likewise
	}
	return nil
}

// look is how often the echo looks whether it is to end.
const look = 100 * time.Millisecond
