package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// patience is how long a kept connection is waited for.
type patience struct {
	dial  time.Duration // until it is open, the TLS handshake included
	write time.Duration // until one question is on its way
	// with questions outstanding and nothing heard: the peer, or a NAT box on the way, has forgotten it
	silence time.Duration
	idle    time.Duration // with none outstanding: RFC 7766 section 6.2.3 asks for some seconds
	pause   time.Duration // before a question is put again that has lost two; twice as long each time
}

var usualPatience = patience{
	dial: 3 * time.Second, write: 2 * time.Second, silence: 3 * time.Second, idle: 10 * time.Second,
	pause: 50 * time.Millisecond,
}

const (
	maxOutstanding = 1024    // questions on one connection; on all together as many as client questions at once (L-13)
	maxConns       = 16      // connections to one upstream
	maxApart       = 32      // more of them, for questions that have lost one, or have waited for long
	maxUnasked     = 1024    // replies in a row to no question outstanding: as many may have been given up
	idsPerConn     = 1 << 16 // a connection that has used all is left
	// maxLost is on how many connections in a row a question is tried that close without an answer. The pauses between
	// them are 50 to 400 ms, so that the outcome is known within the time that a client waits, the further tries of
	// V-14 included (L-10).
	maxLost = 6
)

const (
	// errOutstanding is our own bound on questions outstanding, or this host's on ports and memory for sockets (L-16).
	errOutstanding = dnssec.LimitError("outstanding")
	// errFiles is that on open files.
	errFiles = dnssec.LimitError("files")
)

// errBusy ends a question for want of room; L-12 makes SERVFAIL of it.
var errBusy = &fault{Busy, fmt.Sprintf("has %d questions outstanding already", maxConns*maxOutstanding), errOutstanding}

var errClosed = faultf(Network, "is no longer asked: shutting down")

// stream asks one server over kept connections, TCP or TLS, with many questions outstanding on each (RFC 7766 section
// 6.2).
type stream struct {
	over     string // "TCP" or "TLS", for sentences
	connect  func(context.Context) (net.Conn, error)
	pack     func(q query) ([]byte, error)
	patience patience
	pause    func() // as Config.Pause, about what happens to a connection

	ctx    context.Context
	cancel context.CancelCauseFunc
	mu     sync.Mutex
	conns  []*conn // open or being opened, oldest first
	apart  []*conn // likewise, those for questions that do not share conns; the one that got the latest is last
}

func newStream(over string, pack func(query) ([]byte, error), connect func(context.Context) (net.Conn, error)) *stream {
	s := &stream{over: over, connect: connect, pack: pack, patience: usualPatience, pause: func() {}}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// newTCP returns the stream for plain questions.
func newTCP(a Address) *stream {
	return newStream("TCP", query.unpadded, func(ctx context.Context) (net.Conn, error) {
		return dialTCP(ctx, a.Server)
	})
}

// newTLS returns the stream for questions under the strict profile (S-9, RFC 8310 section 5): there is no way from here
// to cleartext.
func newTLS(a Address, config *tls.Config) *stream {
	config.ServerName = a.Name
	config.NextProtos = []string{"dot"}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(maxConns)
	return newStream("TLS", query.padded, func(ctx context.Context) (net.Conn, error) {
		raw, err := dialTCP(ctx, a.Server)
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, config)
		if err := c.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		return c, nil
	})
}

// ask puts q on a connection. If that is lost before the reply has come, q is put on a new one (S-5), and not on one
// that it shares with other lost questions: one of them may be what the server, or something on the way, cannot bear.
// The first time this is done at once, as the server may only have closed an idle connection, later after pauses, as it
// may be short of something or restarting (RFC 7766 section 6.2.4).
func (s *stream) ask(ctx context.Context, q query) (fetch.Reply, error) {
	wire, err := s.pack(q)
	if err != nil {
		return fetch.Reply{}, err
	}
	raw, err := s.once(ctx, wire, q.apart)
	for n := 1; n < maxLost && mayCome(q, n, err) && wait(ctx, s.patience.pause, n); n++ {
		raw, err = s.once(ctx, wire, true)
	}
	if gone, ok := errors.AsType[*lost](err); ok {
		err = unreachable(gone.text+s.over, gone.err)
	}
	if err != nil {
		return fetch.Reply{}, interrupted(ctx, err)
	}
	return received(raw)
}

// mayCome reports whether a question that has failed n times may still be answered if it is put again. After the first
// failure it may if the connection had been open, but a spare question not if its connection fell silent, as datagrams
// are under way too. After further failures it may only if the connection was closed or refused, a spare one never.
func mayCome(q query, n int, err error) bool {
	_, gone := errors.AsType[*lost](err)
	if n == 1 {
		return gone && !(q.spare && errors.Is(err, errSilent))
	}
	return !q.spare && (gone && closed(err) || errors.Is(err, syscall.ECONNREFUSED)) // it was there before
}

// closed reports whether an error is that the other side has closed a connection.
func closed(err error) bool {
	return isAny(err, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE)
}

// wait pauses before a question is put the nth time again, for longer each time, and reports whether there is time left
// for that.
func wait(ctx context.Context, pause time.Duration, n int) bool {
	if n == 1 {
		return true
	}
	pause <<= n - 2
	if end, ok := ctx.Deadline(); ok && time.Until(end) < pause {
		return false
	}
	select {
	case <-time.After(pause):
		return true
	case <-ctx.Done():
		return false
	}
}

// once puts a question on a connection; apart: on one of its own.
func (s *stream) once(ctx context.Context, wire []byte, apart bool) ([]byte, error) {
	c, k, err := s.place(wire, apart)
	if err != nil {
		return nil, err
	}
	raw, err := c.await(ctx, k)
	if err == nil && !matches(raw, k.framed[2:]) {
		return nil, faultf(Invalid, "replied to another question over %s", s.over)
	}
	return raw, err
}

// place finds room for a question, on a new connection if need be. Questions that come while a connection is being
// opened share it.
func (s *stream) place(wire []byte, apart bool) (*conn, *call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if apart {
		return s.placeApart(wire)
	}
	s.conns = open(s.conns)
	for _, c := range s.conns {
		if k := c.take(wire); k != nil {
			return c, k, nil
		}
	}
	return s.start(wire, &s.conns, maxConns, s.patience)
}

// placeApart gives a question a connection of its own, which ends with it; where there are too many they are shared
// out.
func (s *stream) placeApart(wire []byte) (*conn, *call, error) {
	s.apart = open(s.apart)
	if len(s.apart) == maxApart {
		for i, c := range s.apart {
			if k := c.take(wire); k != nil {
				s.apart = append(slices.Delete(s.apart, i, i+1), c)
				return c, k, nil
			}
		}
	}
	p := s.patience
	p.idle = 0
	return s.start(wire, &s.apart, maxApart, p)
}

// open returns those that have not ended.
func open(conns []*conn) []*conn {
	return slices.DeleteFunc(conns, func(c *conn) bool { return c.ctx.Err() != nil })
}

// start puts a question on a new connection, unless there are the most already.
func (s *stream) start(wire []byte, conns *[]*conn, most int, p patience) (*conn, *call, error) {
	switch {
	case s.ctx.Err() != nil:
		return nil, nil, errClosed
	case len(*conns) >= most:
		return nil, nil, errBusy
	}
	c := newConn(s.ctx, p)
	k := c.take(wire)
	*conns = append(*conns, c)
	go c.run(s)
	return c, k, nil
}

func (s *stream) close() { s.cancel(errClosed) }

// conn is one connection and the questions outstanding on it. Its context ends with it; the cause says why.
type conn struct {
	patience patience
	ctx      context.Context
	end      context.CancelCauseFunc
	queued   chan struct{} // holds one if there is something in queue

	mu       sync.Mutex
	queue    [][]byte // questions to write
	waiting  map[uint16]*call
	firstID  uint16
	taken    int         // IDs used; none is used twice, so that late replies to questions given up match nothing
	unasked  int         // replies since the last one that a question waited for
	watch    *time.Timer // nil until the connection is open
	deadline time.Time   // before it the watch does nothing
}

// call is a question outstanding.
type call struct {
	id     uint16
	framed []byte // the message with its two octets of length
	reply  chan []byte
}

// lost is the end of a connection that had been open, or was closed as TLS was to begin on it: its questions may be put
// again elsewhere.
type lost struct {
	text string // what could not be done over it
	err  error
}

func lostOpen(err error) *lost { return &lost{"failed over ", err} }

func (l *lost) Error() string { return l.err.Error() }
func (l *lost) Unwrap() error { return l.err }

var (
	errIdle    = errors.New("idle")
	errSilent  = fmt.Errorf("silent: %w", os.ErrDeadlineExceeded)
	errUnasked = errors.New("it sends replies that nobody asked for")
)

func newConn(ctx context.Context, p patience) *conn {
	c := &conn{
		patience: p, queued: make(chan struct{}, 1),
		waiting: map[uint16]*call{}, firstID: randomID(),
	}
	c.ctx, c.end = context.WithCancelCause(ctx)
	return c
}

// take queues a question under an ID of this connection; nil if there is no room.
func (c *conn) take(wire []byte) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil || c.taken == idsPerConn || len(c.waiting) >= maxOutstanding ||
		len(c.queue) >= maxOutstanding { // full of questions given up and not yet written
		return nil
	}
	k := &call{id: c.firstID + uint16(c.taken), reply: make(chan []byte, 1)}
	k.framed = binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(wire)), uint16(len(wire)))
	k.framed = append(binary.BigEndian.AppendUint16(k.framed, k.id), wire[2:]...)
	c.queue = append(c.queue, k.framed)
	select {
	case c.queued <- struct{}{}:
	default:
	}
	c.taken++
	c.waiting[k.id] = k
	if len(c.waiting) == 1 {
		c.rewind()
	}
	return k
}

// await waits for the reply to k.
func (c *conn) await(ctx context.Context, k *call) (raw []byte, err error) {
	defer c.leave(k)
	select {
	case raw = <-k.reply:
		return raw, nil
	case <-c.ctx.Done():
		err = context.Cause(c.ctx)
	case <-ctx.Done():
		err = ctx.Err()
	}
	select {
	case raw = <-k.reply: // it came just before the end
		return raw, nil
	default:
		return nil, err
	}
}

// leave gives up a question, or notes that it is answered.
func (c *conn) leave(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, outstanding := c.waiting[k.id]; outstanding {
		delete(c.waiting, k.id)
		if len(c.waiting) == 0 {
			c.rewind()
		}
	}
}

// deliver hands a reply to its question; one to no question outstanding is ignored, but not without end.
func (c *conn) deliver(raw []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := binary.BigEndian.Uint16(raw)
	if k := c.waiting[id]; k != nil {
		delete(c.waiting, id)
		k.reply <- raw
		c.unasked = 0
	} else if c.unasked++; c.unasked > maxUnasked {
		c.end(lostOpen(errUnasked))
	}
	c.rewind()
}

// rewind sets the watch anew, by what the connection waits for from now on. c.mu is held.
func (c *conn) rewind() {
	if c.watch == nil {
		return
	}
	d := c.patience.idle
	if len(c.waiting) > 0 {
		d = c.patience.silence
	}
	c.deadline = time.Now().Add(d)
	c.watch.Reset(d)
}

// expire is run by the watch.
func (c *conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case time.Now().Before(c.deadline): // it was rewound as it rang
	case len(c.waiting) > 0:
		c.end(lostOpen(errSilent))
	default:
		c.end(errIdle)
	}
}

// run opens the connection and serves it until it ends.
func (c *conn) run(s *stream) {
	s.pause() // to open or to close it takes as long as a signature check
	ctx, cancel := context.WithTimeout(c.ctx, c.patience.dial)
	nc, err := s.connect(ctx)
	cancel()
	if err != nil {
		c.end(notOpened(err, s.over))
		return
	}
	context.AfterFunc(c.ctx, func() {
		s.pause()
		nc.Close()
	})
	s.pause()
	c.mu.Lock()
	c.watch = time.AfterFunc(c.patience.silence, c.expire)
	c.rewind()
	c.mu.Unlock()
	defer c.watch.Stop()
	go c.read(nc)
	c.write(nc)
}

// notOpened tells why a connection did not open.
func notOpened(err error, over string) error {
	const text = "could not be reached over "
	if closed(err) {
		return &lost{text, err}
	}
	return unreachable(text+over, err)
}

// write sends each question in one piece (RFC 7766 section 8).
func (c *conn) write(nc net.Conn) {
	for {
		select {
		case <-c.queued:
		case <-c.ctx.Done():
			return
		}
		for _, framed := range c.takeQueue() {
			nc.SetWriteDeadline(time.Now().Add(c.patience.write))
			if _, err := nc.Write(framed); err != nil {
				c.end(lostOpen(err))
				return
			}
		}
	}
}

// takeQueue empties the queue.
func (c *conn) takeQueue() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	queue := c.queue
	c.queue = nil
	return queue
}

// readers are buffers for connections, of which nothing is kept that was read.
var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// read delivers replies, in whatever order they come.
func (c *conn) read(nc net.Conn) {
	r := readers.Get().(*bufio.Reader)
	defer readers.Put(r)
	r.Reset(nc)
	defer r.Reset(nil)
	for {
		raw, err := readFramed(r)
		if err != nil {
			c.end(lostOpen(err))
			return
		}
		c.deliver(raw)
	}
}

// readFramed reads one message and the two octets of length before it.
func readFramed(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint16(size[:]))
	if len(raw) < headerSize {
		return nil, errShort
	}
	_, err := io.ReadFull(r, raw)
	return raw, err
}
