package upstream

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
)

const (
	mostFiles    = 1 << 20 // no more are reckoned with, however many are allowed
	unknownFiles = 1024    // are reckoned with where the system does not tell: the usual soft bound
)

// socketShare is the part of the files that sockets for questions over UDP may take: clients over TCP need some too.
const socketShare = 2

// keptShare is the part of the files that clients cannot take: connections to upstreams are opened from it when the
// others are gone.
const keptShare = 8

// sockets counts those for questions over UDP, of all Sets: the table of files is the process's.
type sockets struct {
	most func() int
	open atomic.Int64
}

// The hard bound on files is asked for once: each question needs it.
var udpSockets = sockets{most: sync.OnceValue(func() int { return cmp.Or(OpenFiles(), unknownFiles) / socketShare })}

// take reports whether one more may be opened; it has to be given back then.
func (s *sockets) take() bool {
	if s.open.Add(1) <= int64(s.most()) {
		return true
	}
	s.give()
	return false
}

func (s *sockets) give() { s.open.Add(-1) }

// share is how many sockets one server may have: poolSize, or a quarter of those that may be opened yet, so that the
// silence of one leaves room for others. The least is the one that it cannot do without.
func (s *sockets) share() int { return max(1, min(poolSize, (s.most()-int(s.open.Load()))/4)) }

// half reports whether half of those that may be open are.
func (s *sockets) half() bool { return s.open.Load() >= int64(s.most()/2) }

// dialTCP opens a connection, from the files that are kept back if need be.
func dialTCP(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", server.String())
	if !errors.Is(err, syscall.EMFILE) {
		return c, err
	}
	lower := raise()
	defer lower()
	// the file is ours now
	d := net.Dialer{Control: func(string, string, syscall.RawConn) error { lower(); return nil }}
	return d.DialContext(ctx, "tcp", server.String())
}
