package fastpath

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Listener reads and answers what comes to one address over UDP and TCP, in the place of the sockets that CoreDNS has
// there.
type Listener struct {
	parts      []part
	withoutUDP error
}

// part is what a Listener does with one transport.
type part interface {
	run()
	steer() error
	away() error // the kernel gives what comes to the others of the address
	limit(Limits)
	close(ctx context.Context)
}

// connections is the part of TCP.
type connections struct {
	*streams
	*steered
}

func (c connections) close(ctx context.Context) { c.streams.close(ctx) }

// Listen takes over from the sockets that are bound, with SO_REUSEPORT, to an address of UDP and one of TCP, and gives
// each query to s. Where a socket for all addresses is not told to which of them a query came, UDP is left as it was;
// WithoutUDP says so. With an error all is as it was.
func Listen(udp, tcp string, s Server, o Options) (*Listener, error) {
	l, by := new(Listener), reader{s, o}
	err := l.add(datagramsAt(udp, by, o.Limits))
	if errors.Is(err, errUnaddressed) {
		l.withoutUDP, err = err, nil
	}
	if err == nil {
		err = l.add(connectionsAt(tcp, by, o.Limits))
	}
	if err == nil {
		err = l.Steer()
	}
	if err != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		l.end(ctx)
		return nil, err
	}
	return l, nil
}

func datagramsAt(address string, s source, limits Limits) (part, error) {
	conn, err := listenDatagrams(address)
	if err != nil {
		return nil, err
	}
	d, err := newDatagrams(conn, s, limits.Pending)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return d, nil
}

func connectionsAt(address string, s source, limits Limits) (part, error) {
	l, err := listenConnections(address)
	if err != nil {
		return nil, err
	}
	return connections{newStreams(l, s, limits), l}, nil
}

// add begins with a part, if it could be opened.
func (l *Listener) add(p part, err error) error {
	if err == nil {
		l.parts = append(l.parts, p)
		go p.run()
	}
	return err
}

// WithoutUDP says why the Listener does not read UDP; nil if it does.
func (l *Listener) WithoutUDP() error { return l.withoutUDP }

// Steer has the kernel give all that comes to this Listener. When a socket has joined or left its addresses, that
// has to be done again.
func (l *Listener) Steer() error {
	for _, p := range l.parts {
		if err := p.steer(); err != nil {
			return err
		}
	}
	return nil
}

// Limit changes the limits, from now on.
func (l *Listener) Limit(limits Limits) {
	for _, p := range l.parts {
		p.limit(limits)
	}
}

// settling is how long what is on its way to a socket is waited for after its group has been told to go elsewhere.
const settling = 20 * time.Millisecond

// Close reads no more: what comes from then on is for the other sockets of the addresses, if they are still open. What
// is in flight is answered until ctx ends; then the Listener's own are closed.
func (l *Listener) Close(ctx context.Context) {
	var failed error
	for _, p := range l.parts {
		failed = errors.Join(failed, p.away())
	}
	if failed == nil {
		time.Sleep(settling)
	}
	l.end(ctx)
}

func (l *Listener) end(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range l.parts {
		all.Go(func() { p.close(ctx) })
	}
	all.Wait()
}
