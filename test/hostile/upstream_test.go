package hostile

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/zones"
)

// hostile is an upstream that is honest about all names but those of its victims.
type hostile struct {
	addr   string
	honest *zones.Recursor
	misled func(name string) func(*asked) // what is done to questions about a name; nil: they are answered
	ended  chan struct{}

	mu    sync.Mutex
	asked map[string]int // by name
	open  map[io.Closer]bool
	work  sync.WaitGroup
}

// asked is one question that came, with the ways to answer it.
type asked struct {
	network string // udp or tcp
	q       *dns.Msg
	reply   *dns.Msg               // the honest one
	raw     func(wire []byte) bool // sends octets: a datagram, or a part of the stream; false: danelaw is gone
	whole   *sync.Mutex            // held by one whose message is more than one call of raw on a connection
	shut    func()                 // closes the connection, if there is one
	from    net.Addr               // danelaw
	ended   <-chan struct{}        // the test is over
}

// listen serves on a port of 127.0.0.1 that is free for both transports; without TCP connections are refused.
func listen(t *testing.T, h *hostile, tcp bool) {
	t.Helper()
	h.asked, h.open, h.ended = map[string]int{}, map[io.Closer]bool{}, make(chan struct{})
	packets, stream := ports.Open(t)
	h.addr = packets.LocalAddr().String()
	h.opened(packets)
	h.work.Go(func() { h.serveUDP(packets.(*net.UDPConn)) })
	if tcp {
		h.opened(stream)
		h.work.Go(func() { h.serveTCP(stream) })
	} else {
		stream.Close()
	}
	t.Cleanup(func() {
		close(h.ended)
		h.mu.Lock()
		for c := range h.open {
			c.Close()
		}
		h.mu.Unlock()
		h.work.Wait()
	})
}

func (h *hostile) opened(c io.Closer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[c] = true
}

func (h *hostile) closed(c io.Closer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, c)
	c.Close()
}

func (h *hostile) serveUDP(c *net.UDPConn) {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := c.ReadFromUDP(buf)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if q.Unpack(buf[:n]) != nil {
			continue
		}
		h.work.Go(func() {
			h.answer(&asked{
				network: "udp", q: q, from: from, shut: func() {},
				raw: func(wire []byte) bool { _, err := c.WriteToUDP(wire, from); return err == nil },
			})
		})
	}
}

func (h *hostile) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		h.opened(c)
		h.work.Go(func() {
			defer h.closed(c)
			h.serveStream(c)
		})
	}
}

func (h *hostile) serveStream(c net.Conn) {
	var writing, whole sync.Mutex
	for {
		var size uint16
		if binary.Read(c, binary.BigEndian, &size) != nil {
			return
		}
		wire := make([]byte, size)
		if _, err := io.ReadFull(c, wire); err != nil {
			return
		}
		q := new(dns.Msg)
		if q.Unpack(wire) != nil {
			return
		}
		h.work.Go(func() {
			h.answer(&asked{
				network: "tcp", q: q, from: c.RemoteAddr(), whole: &whole, shut: func() { c.Close() },
				raw: func(wire []byte) bool {
					writing.Lock()
					defer writing.Unlock()
					_, err := c.Write(wire)
					return err == nil
				},
			})
		})
	}
}

func (h *hostile) answer(a *asked) {
	name := dns.CanonicalName(a.q.Question[0].Name)
	h.mu.Lock()
	h.asked[name]++
	h.mu.Unlock()
	a.ended = h.ended
	a.reply = a.dress(h.honest.Resolve(a.q.Question[0]))
	if act := h.misled(name); act != nil {
		act(a)
		return
	}
	a.write(a.reply)
}

// questions returns how often a name was asked about.
func (h *hostile) questions(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[name]
}

// dress makes m the reply to this question.
func (a *asked) dress(m *dns.Msg) *dns.Msg {
	m.Id, m.Response, m.Compress = a.q.Id, true, true
	m.Question, m.CheckingDisabled = a.q.Question, a.q.CheckingDisabled
	m.SetEdns0(1232, true)
	return m
}

// empty is a reply without records.
func (a *asked) empty(rcode int) *dns.Msg {
	m := a.dress(new(dns.Msg))
	m.RecursionDesired, m.RecursionAvailable, m.Rcode = true, true, rcode
	return m
}

// write sends a message, cut as UDP wants it.
func (a *asked) write(m *dns.Msg) {
	if a.network == "udp" && m.Len() > 1232 {
		m = m.Copy()
		m.Truncated, m.Answer, m.Ns = true, nil, nil
	}
	a.send(pack(m))
}

// send sends the octets of a message whole, whatever they are.
func (a *asked) send(wire []byte) {
	if a.network == "tcp" {
		wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	}
	a.raw(wire)
}

// wait waits, unless the test ends before.
func (a *asked) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-a.ended:
	}
}

func pack(m *dns.Msg) []byte {
	wire, err := m.Pack()
	if err != nil {
		panic(err) // we made it
	}
	return wire
}
