package fastpath

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	lengthSize = 2       // of the length before each message (RFC 1035 section 4.2.2)
	together   = 1 << 14 // octets are read, or written, at once if there are so many
	// writeBuffer is half of what the system holds for a client that does not read. By itself Linux would hold 4 MiB.
	writeBuffer = 1 << 16
)

// replyBuffers are for replies that are sent together. No connection holds one while it waits.
var replyBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, together)) }}

// connection is that of one client. Its goroutine reads; those of queries that are left for later write, too.
type connection struct {
	net.Conn
	streams *streams
	place   place
	client  client
	ctx     context.Context // ends when the client gets no more replies
	cancel  context.CancelFunc
	frames  frames
	long    bool          // a message of over so many octets as are read together is being read
	begun   time.Time     // the first query that is not wholly there
	turn                  // of the queries that have been read together
	slots   chan struct{} // one is taken by each query that is left for later
	writing sync.Mutex
}

// turn is what queries that have been read together are answered with.
type turn struct {
	answerer answerer
	replies  []byte
}

func newConnection(conn net.Conn, t *streams) *connection {
	c := &connection{Conn: conn, streams: t, slots: make(chan struct{}, t.limits().Pipelined)}
	c.frames.buffer, c.frames.data = c.frames.small[:0], c.frames.small[:0]
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(writeBuffer)
	}
	if remote, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		from := remote.AddrPort()
		c.client.addr = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	}
	return c
}

// serve answers the client until it has no more questions, as it may say by closing its half (RFC 7766 section 6.2.4),
// or no more patience is due to it.
func (c *connection) serve() {
	for c.admit() && c.read() && c.answer() {
	}
	c.shrink()
	for range cap(c.slots) {
		c.slots <- struct{}{} // what is in flight is answered
	}
	c.end()
}

// end closes the connection. Nothing more is worked on for it.
func (c *connection) end() {
	c.cancel()
	c.Close()
	c.streams.leave(c)
}

// read waits for more of what the client sends. It is false if there is nothing more to read.
func (c *connection) read() bool {
	for {
		until := c.patience()
		if !until.After(time.Now()) {
			return false
		}
		c.SetReadDeadline(until)
		if c.streams.ctx.Err() != nil {
			return false // perhaps the deadline that close has set is gone
		}
		begins := len(c.frames.data) == 0
		switch n, err := c.frames.read(c.Conn); {
		case n > 0:
			if begins {
				c.begun = time.Now()
			}
			return true
		case err == io.EOF:
			return false
		case !errors.Is(err, os.ErrDeadlineExceeded):
			c.end()
			return false
		}
	}
}

// admit ends the connection if what has come of a message is so long that there is no room for the rest of it.
func (c *connection) admit() bool {
	if c.long || len(c.frames.data) < together {
		return true
	}
	if c.streams.long.Add(1) > mostLong {
		c.streams.long.Add(-1)
		c.end()
		c.streams.limits().hit(LimitConnections)
		return false
	}
	c.long = true
	return true
}

// shrink says that no long message is being read any more.
func (c *connection) shrink() {
	if c.long {
		c.streams.long.Add(-1)
	}
	c.long = false
}

// patience is until when the client may leave us waiting.
func (c *connection) patience() time.Time {
	if len(c.frames.data) == 0 {
		return c.streams.idleUntil(c)
	}
	return c.begun.Add(c.streams.limits().Read)
}

// answer answers the queries that are wholly there. It is false if nothing more is to be read: so after a message that
// is too short or gets no reply, as that of a client that speaks no DNS or has lost its framing. BIND and Unbound close
// then, too, whatever else they have been asked; here that is answered.
func (c *connection) answer() (more bool) {
	query, ok := c.frames.next()
	if !ok {
		return true
	}
	c.streams.work(c, 1)
	defer c.streams.work(c, -1)
	buffer := replyBuffers.Get().(*[]byte)
	defer replyBuffers.Put(buffer)
	c.turn = turn{c.streams.answerers.Get().(answerer), (*buffer)[:0]}
	defer c.streams.answerers.Put(c.answerer)
	c.client.read = time.Now()
	for more = true; ok && more; query, ok = c.frames.next() {
		more = c.answerOne(query) && (len(c.replies) < together || c.flush())
	}
	more = c.flush() && more
	c.turn = turn{}
	c.begun = time.Now()
	if c.frames.tidy(); len(c.frames.data) < together {
		c.shrink()
	}
	return more
}

// answerOne adds the reply to the others, or leaves the query for later.
func (c *connection) answerOne(query []byte) bool {
	if len(query) < headerSize {
		return false
	}
	start := len(c.replies) + lengthSize
	replies, done := c.answerer.now(query, c.client, append(c.replies, 0, 0))
	if !done {
		return c.later(query)
	}
	length := len(replies) - start
	if length == 0 || length > math.MaxUint16 {
		return false
	}
	binary.BigEndian.PutUint16(replies[start-lengthSize:], uint16(length))
	c.replies = replies
	return true
}

// later has a query answered as soon as there is a slot for it, of the connection and of all. That is soon for a client
// that has gone: the others are given up.
func (c *connection) later(query []byte) bool {
	all := c.streams.slots.now()
	if len(c.slots) == cap(c.slots) || len(all) == cap(all) {
		c.flush() // the replies that are ready do not wait
	}
	c.slots <- struct{}{}
	if !c.take(all) {
		<-c.slots
		return false
	}
	c.streams.work(c, 1)
	query = bytes.Clone(query)
	over := func() { c.streams.work(c, -1); <-all; <-c.slots }
	if !c.streams.source.wait(c.ctx, query, c.client, c, over) {
		go func() {
			defer over()
			c.streams.source.later(c.ctx, query, c)
		}()
	}
	return true
}

// take takes a slot of all connections as soon as there is one, unless the client gets no more replies.
func (c *connection) take(all chan struct{}) bool {
	select {
	case all <- struct{}{}:
	case <-c.ctx.Done():
		return false
	}
	if c.ctx.Err() == nil {
		return true
	}
	<-all
	return false
}

// flush sends the replies that have been collected.
func (c *connection) flush() bool {
	c.answerer.flush()
	if len(c.replies) == 0 {
		return true
	}
	err := c.send(c.replies)
	c.replies = c.replies[:0]
	return err == nil
}

// Write sends one reply, with its length in the same segment (RFC 7766 section 8).
func (c *connection) Write(reply []byte) (int, error) {
	if len(reply) > math.MaxUint16 {
		return 0, fmt.Errorf("TCP has no reply of %d octets", len(reply))
	}
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, lengthSize+len(reply)), uint16(len(reply)))
	if err := c.send(append(framed, reply...)); err != nil {
		return 0, err
	}
	return len(reply), nil
}

// post implements replier. The client may be slow to take it.
func (c *connection) post(reply []byte, sent func()) {
	go func() {
		defer sent()
		c.Write(reply) //nolint:errcheck // the client has gone
	}()
}

// send ends the connection if the client does not take what it gets.
func (c *connection) send(framed []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.SetWriteDeadline(time.Now().Add(c.streams.limits().Write))
	_, err := c.Conn.Write(framed)
	if err != nil {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			tcp.SetLinger(0) // the system does not go on to offer it what is left
		}
		c.end()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.streams.limits().hit(LimitUnread)
	}
	return err
}

// frames takes the messages out of what has been read.
type frames struct {
	small  [512]byte // is enough for nearly all queries, and all that an idle connection holds
	buffer []byte    // small, or a larger one while much comes at once
	data   []byte    // has been read and not been taken
}

// read reads what there is. The room grows with what has come, not with the length that a client announces.
func (f *frames) read(from io.Reader) (int, error) {
	if len(f.data) == cap(f.data) {
		f.data = slices.Grow(f.data, len(f.data))
	}
	n, err := from.Read(f.data[len(f.data):cap(f.data)])
	f.data = f.data[:len(f.data)+n]
	return n, err
}

// next takes a message that is wholly there. It stands until tidy.
func (f *frames) next() (message []byte, ok bool) {
	if len(f.data) < lengthSize {
		return nil, false
	}
	end := lengthSize + int(binary.BigEndian.Uint16(f.data))
	if len(f.data) < end {
		return nil, false
	}
	message, f.data = f.data[lengthSize:end], f.data[end:]
	return message, true
}

// tidy gives back the room of messages that have been taken. Where all room was full there is more to come.
func (f *frames) tidy() {
	if len(f.data) < cap(f.data) {
		f.buffer = f.small[:0]
	} else if cap(f.buffer) < together {
		f.buffer = make([]byte, 0, 2*cap(f.buffer))
	}
	f.data = append(f.buffer[:0], f.data...)
}
