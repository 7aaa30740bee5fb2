package fastpath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

const (
	// receiveBuffer is what is asked for each socket, in octets. The kernel takes twice that, with room for over four
	// thousand questions: so many come in while a busy host keeps danelaw from its processors for a moment, and what
	// does not fit is lost, be it about mail (L-13). By default there is room for some 270.
	receiveBuffer = 2 << 20
	// sendBuffer is the same for what goes out: the replies to a neighbour that has gone, or has never been, wait there
	// for its hardware address, and those to others are not to be dropped for it.
	sendBuffer = 4 << 20
)

// datagrams reads one UDP socket.
type datagrams struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	source  source
	batches [looks + 1]*batch // the first is run's
	outbox  *outbox
	steering
	failures int // of the socket, one after another
	slots        // one is taken by each query that is answered later (L-15), or nothing is read
	closing  atomic.Bool
	busy     sync.WaitGroup // run, and each query that is answered later
	ctx      context.Context
	cancel   context.CancelFunc
}

// newDatagrams has a source answer what comes to a socket, once run runs, with so many queries answered later at once;
// what comes meanwhile waits in the kernel, or is lost there.
func newDatagrams(conn *net.UDPConn, s source, pending int) (*datagrams, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	d := &datagrams{conn: conn, raw: raw, source: s, outbox: newOutbox(raw)}
	for i := range d.batches {
		b := newBatch(s.answerer())
		b.look = func(fd uintptr) { d.takeFew(b, fd) }
		d.batches[i] = b
	}
	d.slots.limit(pending)
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.busy.Add(1)
	return d, nil
}

// prepare sets what a socket of UDP is to have.
func prepare(_, address string, c syscall.RawConn) error {
	return control(c, func(fd int) error {
		enlarge(fd)
		if !wildcard(address) {
			return nil
		}
		if err := tellAddress(fd); err != nil {
			return fmt.Errorf("%w: %w", errUnaddressed, err)
		}
		return nil
	})
}

// wildcard reports whether a socket at an address, HOST:PORT, has all of this host.
func wildcard(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && (host == "" || net.ParseIP(host).IsUnspecified())
}

// enlarge enlarges the buffers of a socket as far as the kernel allows: without CAP_NET_ADMIN, net.core.rmem_max and
// wmem_max are the most.
func enlarge(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
}

// errUnaddressed: a reply would leave from another address than its query came to, and the client would drop it.
var errUnaddressed = errors.New("a socket for all addresses is not told to which of them a query came")

// tellAddress has a socket tell which address each datagram has come to. It is replaced by tests.
var tellAddress = func(fd int) error {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	switch {
	case err != nil:
		return err
	case family == unix.AF_INET6: // tells it of IPv4 clients, too
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	default:
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
}

// limit changes how many queries are answered later at once.
func (d *datagrams) limit(limits Limits) { d.slots.limit(limits.Pending) }

// run reads until close. An error of the socket does not end it: after a pause it goes on.
func (d *datagrams) run() {
	defer d.busy.Done()
	d.enlist()
	defer d.delist()
	for {
		err := d.raw.Read(d.serve)
		if d.closing.Load() || errors.Is(err, net.ErrClosed) {
			d.raw.Control(d.rest) //nolint:errcheck // it is closed
			return
		}
		time.Sleep(time.Millisecond << d.failures)
		d.failures = min(d.failures+1, 7)
	}
}

// restPatience is how long what is left is read, should more go on to come.
const restPatience = time.Second

// rest answers what has come before the close and is not read yet: a busy host keeps the reader from a processor for
// longer than anything is on its way.
func (d *datagrams) rest(fd uintptr) {
	for begun := time.Now(); time.Since(begun) < restPatience; {
		if full, err := d.take(d.batches[0], fd, packets.Size); !full || err != 0 {
			return
		}
	}
}

// close reads no more than has come, lets the queries in flight be answered until ctx ends, and closes the socket.
func (d *datagrams) close(ctx context.Context) {
	d.endReading()
	answered := make(chan struct{})
	go func() { d.busy.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-ctx.Done():
	}
	d.cancel()
	d.conn.Close()
}

// endReading has run end when it has read what has come.
func (d *datagrams) endReading() {
	d.closing.Store(true)
	d.conn.SetReadDeadline(time.Unix(1, 0)) // wakes it
}

const (
	// few are the datagrams that are read together where it may take long until they are answered, as beginning to look
	// for what is not cached does: what comes after them waits so long, be it cached.
	few = 8
	// spell is how long the reader, or those who look, go on before they have others run. After 10 ms the scheduler of
	// Go would have one wait behind all that can run, with what he has just read in his hands; what has not been read,
	// Look finds meanwhile.
	spell = 2 * time.Millisecond
)

// serve answers what there is to read. Its false says that there is no more: the socket is to be waited for. That is
// known where a batch is not full, too: what has come since wakes the reader.
func (d *datagrams) serve(fd uintptr) bool {
	b := d.batches[0]
	for begun := time.Now(); !d.closing.Load(); {
		most := packets.Size
		if len(b.misses) > 0 { // of the last batch
			most = few
		}
		switch full, err := d.take(b, fd, most); {
		case err == 0:
			d.failures = 0
			if !full {
				return false
			}
		case err == unix.EAGAIN:
			return false
		default:
			return true
		}
		if time.Since(begun) >= spell {
			runtime.Gosched()
			begun = time.Now()
		}
	}
	return true
}

// take answers one batch of at most so many: what can be answered at once first, as beginning with one of the others
// takes as long as many of these.
func (d *datagrams) take(b *batch, fd uintptr, most int) (full bool, err unix.Errno) {
	n, err := b.Receive(fd, most)
	if err != 0 {
		return false, err
	}
	b.replies, b.misses = b.replies[:0], b.misses[:0]
	read := time.Now()
	for i := range n {
		if !d.answer(b, i, read) {
			b.misses = append(b.misses, i)
		}
	}
	b.answerer.flush()
	b.send(fd)
	for _, i := range b.misses {
		d.begin(b, i, read)
	}
	b.answerer.flush()
	b.send(fd)
	return n == most, 0
}

// answer has the source answer a query of a batch at once; false: it is for later.
func (d *datagrams) answer(b *batch, i int, read time.Time) (done bool) {
	query := b.query(i)
	if len(query) < headerSize {
		if len(query) == probeSize {
			d.probes.took(b.From(i))
		}
		return true
	}
	reply, done := b.answerer.now(query, client{addr: b.From(i), udp: true, read: read}, b.replies)
	if before := len(b.replies); done && len(reply) > before {
		b.replies = reply
		b.Reply(i, reply[before:])
	}
	return done
}

// begin has the source answer a query of a batch later.
func (d *datagrams) begin(b *batch, i int, read time.Time) {
	from, query := client{addr: b.From(i), udp: true, read: read}, bytes.Clone(b.query(i))
	to := &datagramClient{d: d, addr: from.addr, origin: b.Origin(i)}
	slots := d.slots.now()
	select {
	case slots <- struct{}{}:
	default: // those before it may have filled a table, so that it is refused now
		if d.answer(b, i, read) {
			return
		}
		slots <- struct{}{}
	}
	d.busy.Add(1)
	over := func() { <-slots; d.busy.Done() }
	if !d.source.wait(d.ctx, query, from, to, over) {
		go func() {
			defer over()
			d.source.later(d.ctx, query, to)
		}()
	}
}

// datagramClient is the replier of a query that is answered later.
type datagramClient struct {
	d      *datagrams
	addr   netip.AddrPort
	origin packets.Origin
}

func (c *datagramClient) LocalAddr() net.Addr  { return c.d.conn.LocalAddr() }
func (c *datagramClient) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

// Write sends a reply. It waits once where the send buffer is full.
func (c *datagramClient) Write(reply []byte) (int, error) {
	var err unix.Errno
	waited := false
	failed := c.d.raw.Write(func(fd uintptr) bool {
		err = c.origin.Reply(fd, reply)
		wait := err == unix.EAGAIN && !waited
		waited = true
		return !wait
	})
	switch {
	case failed != nil:
		return 0, failed
	case err != 0:
		return 0, err
	}
	return len(reply), nil
}

// post implements replier. Where no other query is answered later nothing is worth waiting for.
func (c *datagramClient) post(reply []byte, sent func()) {
	others := len(c.d.slots.now()) > 1
	c.d.outbox.put(posted{&c.origin, reply, sent}, others)
}
