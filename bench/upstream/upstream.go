// Package upstream answers resolvers that are measured. It is cheap, so that they and not it set the pace: it reads
// and writes datagrams by the batch. It may answer after a fixed delay, as if it were far away.
package upstream

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
)

// Answerer knows all answers. Reply appends to dst the reply to a query, nothing for one that is to get none; over a
// stream it is whole, else no longer than the client has room for.
type Answerer interface {
	Reply(dst, query []byte, stream bool) []byte
}

// Upstream is a server on loopback, for UDP and TCP.
type Upstream struct {
	answers Answerer
	delay   time.Duration
	packets *net.UDPConn
	streams net.Listener
	asked   atomic.Int64
	silent  atomic.Bool
	work    sync.WaitGroup
}

const (
	portTries = 20      // until one is found that is free for UDP and TCP
	batch     = 64      // datagrams in one system call
	maxQuery  = 2048    // octets; no query is longer
	buffer    = 4 << 20 // octets for the socket, as far as the system allows
	idle      = 30 * time.Second
)

// Start serves on a free port of 127.0.0.1 until Close.
func Start(a Answerer, delay time.Duration) (*Upstream, error) {
	u := &Upstream{answers: a, delay: delay}
	if err := u.open(); err != nil {
		return nil, err
	}
	u.packets.SetReadBuffer(buffer)  //nolint:errcheck // the system's default will do
	u.packets.SetWriteBuffer(buffer) //nolint:errcheck // likewise
	u.work.Go(u.serveDatagrams)
	u.work.Go(u.serveStreams)
	return u, nil
}

// open opens a port for both transports: what the system hands out for one may be taken for the other.
func (u *Upstream) open() (err error) {
	for range portTries {
		if u.streams, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			return err
		}
		at := u.streams.Addr().(*net.TCPAddr)
		if u.packets, err = net.ListenUDP("udp4", &net.UDPAddr{IP: at.IP, Port: at.Port}); err == nil {
			return nil
		}
		u.streams.Close()
	}
	return err
}

// Addr is where it answers.
func (u *Upstream) Addr() netip.AddrPort { return u.packets.LocalAddr().(*net.UDPAddr).AddrPort() }

// Asked is how many questions it has been asked.
func (u *Upstream) Asked() int64 { return u.asked.Load() }

// Silence has it answer nothing, or answer again. It goes on to count what it is asked.
func (u *Upstream) Silence(silent bool) { u.silent.Store(silent) }

// Close ends it. Streams end when their clients close them, or by themselves when they are idle.
func (u *Upstream) Close() {
	u.packets.Close()
	u.streams.Close()
	u.work.Wait()
}

// serveDatagrams answers until the socket is closed.
func (u *Upstream) serveDatagrams() {
	conn := ipv4.NewPacketConn(u.packets)
	in := make([]ipv4.Message, batch)
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, maxQuery)}
	}
	out, end := u.sender(conn)
	defer end()
	for {
		n, err := conn.ReadBatch(in, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error for a client that has gone
		}
		silent := u.silent.Load() // when it is counted, that is decided
		u.asked.Add(int64(n))
		if !silent {
			out(in[:n])
		}
	}
}

// sender returns what answers a batch of queries, and what ends it.
func (u *Upstream) sender(conn *ipv4.PacketConn) (send func([]ipv4.Message), end func()) {
	if u.delay > 0 {
		return u.delayed(conn)
	}
	replies := make([]ipv4.Message, batch)
	for i := range replies {
		replies[i].Buffers = [][]byte{nil}
	}
	return func(in []ipv4.Message) { write(conn, u.answer(replies, in)) }, func() {}
}

// answer fills replies, whose buffers are used again, with those to a batch of queries.
func (u *Upstream) answer(replies, in []ipv4.Message) []ipv4.Message {
	n := 0
	for _, m := range in {
		reply := u.answers.Reply(replies[n].Buffers[0][:0], m.Buffers[0][:m.N], false)
		if len(reply) > 0 {
			replies[n].Buffers[0], replies[n].Addr = reply, m.Addr
			n++
		}
	}
	return replies[:n]
}

// delayed is sender with a delay. As it is the same for all, what was asked first is due first.
func (u *Upstream) delayed(conn *ipv4.PacketConn) (send func([]ipv4.Message), end func()) {
	type due struct {
		at      time.Time
		replies []ipv4.Message
	}
	queue, ended := make(chan due, 1<<16), make(chan struct{})
	go func() {
		defer close(ended)
		for d := range queue {
			time.Sleep(time.Until(d.at))
			write(conn, d.replies)
		}
	}()
	send = func(in []ipv4.Message) {
		replies := make([]ipv4.Message, len(in))
		for i := range replies {
			replies[i].Buffers = [][]byte{nil}
		}
		queue <- due{time.Now().Add(u.delay), u.answer(replies, in)}
	}
	return send, func() { close(queue); <-ended }
}

// write sends a batch. What cannot be sent is lost, as datagrams may be.
func write(conn *ipv4.PacketConn, replies []ipv4.Message) {
	for len(replies) > 0 {
		n, err := conn.WriteBatch(replies, 0)
		if err != nil {
			n = max(n, 1)
		}
		replies = replies[n:]
	}
}

// serveStreams accepts until the listener is closed.
func (u *Upstream) serveStreams() {
	for {
		conn, err := u.streams.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go u.serveStream(conn)
		}
	}
}

// serveStream answers one query after the other, until one that gets no answer: it closes the connection then.
func (u *Upstream) serveStream(conn net.Conn) {
	defer conn.Close()
	for {
		conn.SetDeadline(time.Now().Add(idle)) //nolint:errcheck // then it is closed
		query, err := readFramed(conn)
		if err != nil {
			return
		}
		u.asked.Add(1)
		time.Sleep(u.delay)
		reply := u.answers.Reply(make([]byte, 2), query, true)
		if len(reply) == 2 || u.silent.Load() {
			return
		}
		binary.BigEndian.PutUint16(reply, uint16(len(reply)-2))
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

// readFramed reads a message with its length before it (RFC 1035 section 4.2.2).
func readFramed(from io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(from, m)
	return m, err
}
