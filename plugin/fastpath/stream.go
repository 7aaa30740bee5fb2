package fastpath

import (
	"container/ring"
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what clients can take.
type Limits struct {
	Pending int // queries over UDP, and as many over TCP, that are answered later at once; no more is read then

	// Of TCP:
	Idle        time.Duration // a connection is kept so long without a query, counted from its last reply
	Read        time.Duration // a query that has begun must be there in that time
	Write       time.Duration // a client that does not take a reply for so long is cut off
	Connections int           // open at once
	Pipelined   int           // queries of one connection that are left for later at once: it is not read further then

	Hit func(limit string) // is told of each connection that a limit has ended; nil: nobody is
}

// Limits that end a connection: as there are too many, or as its client does not take its replies (L-16).
const (
	LimitConnections = "connections"
	LimitUnread      = "unread"
)

func (l *Limits) hit(limit string) {
	if l.Hit != nil {
		l.Hit(limit)
	}
}

// addressShare is the part of the table that is kept for addresses that have less than it: any other gets a connection
// there in the place of one of its own only.
const addressShare = 4

// mostLong is how many connections may have sent more than 16 KiB of a message at once: each takes 128 KiB (L-15).
// None of those that ask danelaw has to.
const mostLong = 32

// Accepting that fails (no files, no memory) is tried again after a pause, twice as long each time.
const (
	shortestPause = 5 * time.Millisecond
	longestPause  = time.Second
)

// streams answers what clients ask over TCP (S-4; RFC 7766, RFC 9210). It holds the table of connections: when it is
// full, who has waited longest for a query makes room, and who has one in work does not.
type streams struct {
	listener net.Listener
	source   source
	limited  atomic.Pointer[Limits]
	ctx      context.Context // ends when no more is to be read
	stop     context.CancelFunc
	running  sync.WaitGroup // connections
	room                    // of all connections together (L-15)

	answerers sync.Pool // no connection holds one while it waits

	mu      sync.Mutex
	open    map[*connection]struct{}
	holders map[netip.Prefix]*holder
	idle    ring.Ring // the head of those that wait for a query, the longest waiting first
}

// room is what is bounded because it takes memory.
type room struct {
	long  atomic.Int64 // connections with a long message
	slots              // one is taken by each query that is left for later
}

// holder is an address that holds connections: for IPv6 a /64, of which one client may have any address.
type holder struct {
	network netip.Prefix
	open    int
	idle    ring.Ring // as that of streams
}

// place is that of a connection in the table, whose lock guards it.
type place struct {
	holder         *holder // nil: it has left
	queries        int     // in work
	since          time.Time
	idle, ofHolder ring.Ring // its links, while it waits for a query
}

func newStreams(l net.Listener, s source, limits Limits) *streams {
	t := &streams{
		listener: l, source: s, open: map[*connection]struct{}{}, holders: map[netip.Prefix]*holder{},
	}
	t.answerers.New = func() any { return s.answerer() }
	t.limited.Store(&limits)
	t.slots.limit(limits.Pending)
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

func (t *streams) limits() *Limits { return t.limited.Load() }

// limit changes the limits. A connection is held to those of time from the next that it sends on.
func (t *streams) limit(limits Limits) {
	t.limited.Store(&limits)
	t.slots.limit(limits.Pending)
	for c := t.surplus(); c != nil; c = t.surplus() {
		c.end()
		limits.hit(LimitConnections)
	}
}

// surplus returns who has waited longest for a query, if there are too many connections.
func (t *streams) surplus() *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) <= t.limits().Connections {
		return nil
	}
	c, _ := t.idle.Next().Value.(*connection)
	return c
}

// run accepts connections until close.
func (t *streams) run() {
	for pause := shortestPause; t.ctx.Err() == nil; {
		conn, err := t.listener.Accept()
		switch {
		case err == nil:
			pause = shortestPause
			if outgoing := t.enter(newConnection(conn, t)); outgoing != nil {
				outgoing.end()
				t.limits().hit(LimitConnections)
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			select {
			case <-time.After(pause):
			case <-t.ctx.Done():
			}
			pause = min(2*pause, longestPause)
		}
	}
}

// close reads no more. It returns when what is in flight has been answered, or when ctx ends: then all connections are
// closed.
func (t *streams) close(ctx context.Context) {
	t.mu.Lock()
	t.stop()
	for c := range t.open {
		c.SetReadDeadline(time.Unix(1, 0))
	}
	t.mu.Unlock()
	t.listener.Close()
	drained, cancel := context.WithCancel(ctx)
	go func() {
		t.running.Wait()
		cancel()
	}()
	<-drained.Done()
	t.mu.Lock()
	left := slices.Collect(maps.Keys(t.open))
	t.mu.Unlock()
	for _, c := range left {
		c.end()
	}
}

// enter serves a new connection if there is a place for it, perhaps that of another. It returns who has to go then.
func (t *streams) enter(c *connection) (outgoing *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return c
	}
	h := t.holderOf(c.client.addr.Addr())
	most := t.limits().Connections
	share := max(1, most/addressShare)
	var idle *ring.Ring // of whom the first makes room
	if len(t.open) >= most {
		idle = &t.idle
	}
	if h.open >= share && len(t.open) >= most-share {
		idle = &h.idle
	}
	if idle != nil {
		var waits bool
		if outgoing, waits = idle.Next().Value.(*connection); !waits {
			return c
		}
	}
	t.open[c], t.holders[h.network] = struct{}{}, h
	h.open++
	c.place.holder = h
	t.rest(c)
	t.running.Go(c.serve)
	return outgoing
}

func (t *streams) holderOf(addr netip.Addr) *holder {
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	network, _ := addr.Prefix(bits)
	if h := t.holders[network]; h != nil {
		return h
	}
	return &holder{network: network}
}

// leave takes a connection out of the table, if it is there.
func (t *streams) leave(c *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := c.place.holder
	if h == nil {
		return
	}
	c.place.holder = nil
	c.place.unlink()
	delete(t.open, c)
	if h.open--; h.open == 0 {
		delete(t.holders, h.network)
	}
}

// work says that a connection has n more queries in work.
func (t *streams) work(c *connection, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.place.queries += n
	if c.place.queries > 0 {
		c.place.unlink()
	} else if c.place.holder != nil {
		t.rest(c)
	}
}

// rest puts a connection behind those that have waited longer for a query.
func (t *streams) rest(c *connection) {
	c.place.since = time.Now()
	c.place.idle.Value, c.place.ofHolder.Value = c, c
	t.idle.Prev().Link(&c.place.idle)
	c.place.holder.idle.Prev().Link(&c.place.ofHolder)
}

func (p *place) unlink() {
	p.idle.Prev().Unlink(1)
	p.ofHolder.Prev().Unlink(1)
}

// idleUntil is when a connection has waited long enough for a query, if none is in work.
func (t *streams) idleUntil(c *connection) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := c.place.since
	if c.place.queries > 0 {
		since = time.Now()
	}
	return since.Add(t.limits().Idle)
}
