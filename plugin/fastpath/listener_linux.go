package fastpath

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Listener reads and answers what comes to one address over UDP and TCP, in the place of the sockets that CoreDNS has
// there.
type Listener struct {
	datagrams *datagrams
	streams   *streams
	accepted  *steered // by streams
}

// Listen takes over from the sockets that are bound, with SO_REUSEPORT, to an address of UDP and one of TCP, and gives
// each query to s. With an error all is as it was.
func Listen(udp, tcp string, s Server, o Options) (*Listener, error) {
	packets, err := listenDatagrams(udp)
	if err != nil {
		return nil, err
	}
	l, by := new(Listener), reader{s, o}
	if l.accepted, err = listenConnections(tcp); err != nil {
		return nil, errors.Join(err, packets.Close())
	}
	if l.datagrams, err = newDatagrams(packets, by, o.Limits.Pending); err != nil {
		return nil, errors.Join(err, packets.Close(), l.accepted.Close())
	}
	l.streams = newStreams(l.accepted, by, o.Limits)
	go l.datagrams.run()
	go l.streams.run()
	if err := l.Steer(); err != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		l.end(ctx)
		return nil, err
	}
	return l, nil
}

// Steer has the kernel give all that comes to this Listener. When a socket has joined or left its addresses, that
// has to be done again.
func (l *Listener) Steer() error {
	if err := l.datagrams.steer(); err != nil {
		return fmt.Errorf("UDP: %w", err)
	}
	if err := l.accepted.steer(); err != nil {
		return fmt.Errorf("TCP: %w", err)
	}
	return nil
}

// Limit changes the limits, from now on.
func (l *Listener) Limit(limits Limits) {
	l.streams.limit(limits)
	l.datagrams.slots.limit(limits.Pending)
}

// settling is how long what is on its way to a socket is waited for after its group has been told to go elsewhere.
const settling = 20 * time.Millisecond

// Close reads no more: what comes from then on is for the other sockets of the addresses, if they are still open. What
// is in flight is answered until ctx ends; then the Listener's own are closed.
func (l *Listener) Close(ctx context.Context) {
	if l.datagrams.group.away() == nil && l.accepted.group.away() == nil {
		time.Sleep(settling)
	}
	l.end(ctx)
}

func (l *Listener) end(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.streams.close(ctx)
	}()
	l.datagrams.close(ctx)
	<-done
}
