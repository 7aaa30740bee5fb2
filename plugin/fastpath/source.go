// Package fastpath reads DNS queries from UDP and TCP sockets of its own and sends the replies. It knows nothing of
// what is asked or answered: a source does.
package fastpath

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// headerSize is that of a DNS message: what is shorter is none.
const headerSize = 12

// source answers queries. Its methods may be called by many goroutines at once.
type source interface {
	// answerer returns what answers queries at once.
	answerer() answerer
	// wait is asked what now has not answered, and does not wait. If it is false, the query is for later; else over is
	// called once the reply has been sent, or there is none. query is its own.
	wait(ctx context.Context, query []byte, from client, w replier, over func()) bool
	// later answers a query in its own time: it runs on a goroutine of its own and returns when the reply has been sent
	// or there is none. query is its own. ctx ends when the client has gone or the listener's patience at its close is
	// over.
	later(ctx context.Context, query []byte, w replier)
}

// answerer answers queries at once, for one goroutine at a time.
type answerer interface {
	// now answers a query at once, if it can: it appends the reply, without framing, to dst. done and nothing appended:
	// it gets no reply. Not done: the query is for later. It does not keep query.
	now(query []byte, from client, dst []byte) (reply []byte, done bool)
	// flush is called once now has answered all that has come together, before it is sent.
	flush()
}

// client is who has sent a query, and when that was read.
type client struct {
	addr netip.AddrPort // as the socket has it: an IPv4 client of a socket of IPv6 is unmapped; with a zone, if any
	udp  bool
	read time.Time
}

// replier sends replies to one client. Write takes one whole DNS message; it may be called by any goroutine, and more
// than once (a stream of replies).
type replier interface {
	Write(reply []byte) (int, error)
	// post is Write for who does not wait for it: sent is called once the reply is on its way, or cannot be. The reply
	// must not change until then.
	post(reply []byte, sent func())
	LocalAddr() net.Addr // *net.UDPAddr, *net.TCPAddr
	RemoteAddr() net.Addr
}

// slots bound how many queries of a transport are answered later at once.
type slots struct{ free atomic.Value } // chan struct{}: who puts something in has a slot until it takes it out

// limit changes how many there are, those apart that are taken.
func (s *slots) limit(most int) {
	if now, ok := s.free.Load().(chan struct{}); !ok || cap(now) != most {
		s.free.Store(make(chan struct{}, most))
	}
}

// now returns where a slot may be taken, and is given back.
func (s *slots) now() chan struct{} { return s.free.Load().(chan struct{}) }
