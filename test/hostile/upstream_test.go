package hostile

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/zones"
)

// The transports of upstreams.
const (
	plain = "plain" // UDP and TCP
	dot   = "DoT"
	doh   = "DoH"
)

var transports = []string{plain, dot, doh}

// serverName is the usual name in the certificate of an encrypted upstream.
const serverName = "dns.example"

// hostile is an upstream that answers honestly for all names but those of its victims.
type hostile struct {
	over   string
	server netip.AddrPort
	honest *zones.Recursor
	misled func(name string) func(*asked) // returns what is done to questions about a name; nil: honest answers
	ended  chan struct{}

	deaf        bool             // connections are refused
	certificate tls.Certificate  // of encrypted transports
	protocols   *http.Protocols  // nil: HTTP/2 and HTTP/1.1
	meet        func(c net.Conn) // what is done to each connection instead of serving it; nil: it is served

	mu       sync.Mutex
	asked    map[string]int // by name
	accepted int            // connections
	open     map[io.Closer]bool
	work     sync.WaitGroup
}

// asked is a question that came, with the ways to answer it.
type asked struct {
	network string // udp, tcp, tls or https
	q       *dns.Msg
	reply   *dns.Msg // the honest one
	// raw sends octets: a datagram, or a part of the stream or of the response's body; false: danelaw is gone
	raw   func(wire []byte) bool
	whole *sync.Mutex         // locked while a message is sent on a connection
	shut  func()              // closes the connection, or resets the HTTP/2 stream
	conn  net.Conn            // over TCP and TLS
	web   http.ResponseWriter // over HTTPS: before the first octet header and status may be set
	from  net.Addr            // danelaw
	ended <-chan struct{}     // the test is over
}

// address returns its address for danelaw's configuration.
func (h *hostile) address() string {
	switch h.over {
	case dot:
		return fmt.Sprintf("tls://%s%%%s", h.server, serverName)
	case doh:
		return fmt.Sprintf("https://%s/dns-query%%%s", h.server, serverName)
	default:
		return h.server.String()
	}
}

// listen serves on a port of 127.0.0.1.
func listen(t *testing.T, h *hostile) {
	t.Helper()
	h.asked, h.open, h.ended = map[string]int{}, map[io.Closer]bool{}, make(chan struct{})
	packets, stream := ports.Open(t)
	h.server = stream.Addr().(*net.TCPAddr).AddrPort()
	if h.deaf {
		stream.Close()
	} else {
		h.serve(&door{stream, h})
	}
	if h.over == plain {
		h.opened(packets)
		h.work.Go(func() { h.serveUDP(packets.(*net.UDPConn)) })
	} else {
		packets.Close()
	}
	t.Cleanup(func() {
		close(h.ended)
		h.mu.Lock()
		open := slices.Collect(maps.Keys(h.open)) // one of them may wait for h.mu before it closes
		h.mu.Unlock()
		for _, c := range open {
			c.Close()
		}
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
				network: "udp", q: q, from: from, whole: new(sync.Mutex), shut: func() {},
				raw: func(wire []byte) bool { _, err := c.WriteToUDP(wire, from); return err == nil },
			})
		})
	}
}

// door is a listener that counts connections. If the upstream has a meet function, it gets them instead of the server.
type door struct {
	net.Listener
	h *hostile
}

func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		d.h.mu.Lock()
		d.h.accepted++
		d.h.mu.Unlock()
		if d.h.meet == nil {
			return c, nil
		}
		d.h.opened(c)
		d.h.work.Go(func() {
			defer d.h.closed(c)
			d.h.meet(c)
		})
	}
}

// serve serves connections by the rules of the transport.
func (h *hostile) serve(l net.Listener) {
	config := &tls.Config{Certificates: []tls.Certificate{h.certificate}, NextProtos: []string{"dot"},
		DynamicRecordSizingDisabled: true}
	switch h.over {
	case dot:
		h.opened(l)
		h.work.Go(func() {
			h.serveStreams("tls", l, func(c net.Conn) net.Conn { return tls.Server(&treacherous{c}, config) })
		})
	case doh:
		config.NextProtos = nil // net/http's
		server := &http.Server{Handler: h, TLSConfig: config, Protocols: h.protocols,
			ErrorLog: log.New(io.Discard, "", 0)}
		h.opened(server)
		h.work.Go(func() { server.ServeTLS(l, "", "") }) //nolint:errcheck // it ends when it is closed
	default:
		h.opened(l)
		h.work.Go(func() { h.serveStreams("tcp", l, func(c net.Conn) net.Conn { return c }) })
	}
}

// treacherous is a connection that, once its read deadline has passed, returns octets that the peer did not send, so
// that TLS sends an alert.
type treacherous struct{ net.Conn }

func (c *treacherous) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return copy(b, undecipherable), nil
	}
	return n, err
}

// zeros is what is sent without end. All send the same, as TestTogether watches the memory of this process.
var zeros = make([]byte, dns.MaxMsgSize)

// undecipherable is a TLS record that no key decrypts.
var undecipherable = append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...)

func (h *hostile) serveStreams(network string, l net.Listener, secured func(net.Conn) net.Conn) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		h.opened(c)
		h.work.Go(func() {
			defer h.closed(c)
			h.serveStream(network, secured(c))
		})
	}
}

func (h *hostile) serveStream(network string, c net.Conn) {
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
				network: network, q: q, conn: c, whole: &whole, shut: func() { c.Close() },
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

// ServeHTTP answers one question. If nothing is sent, there is no response until danelaw gives up.
func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	q := new(dns.Msg)
	if err != nil || q.Unpack(body) != nil {
		return
	}
	sent := false
	w.Header().Set("Content-Type", "application/dns-message")
	h.answer(&asked{
		network: "https", q: q, web: w, whole: new(sync.Mutex), shut: func() { panic(http.ErrAbortHandler) },
		raw: func(wire []byte) bool {
			sent = true
			_, err := w.Write(wire)
			return err == nil && http.NewResponseController(w).Flush() == nil
		},
	})
	if sent {
		return
	}
	select {
	case <-r.Context().Done():
	case <-h.ended:
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

// connections returns how many were opened.
func (h *hostile) connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.accepted
}

// questions returns how often a name was asked about.
func (h *hostile) questions(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[name]
}

// dress makes m a reply to this question.
func (a *asked) dress(m *dns.Msg) *dns.Msg {
	m.Id, m.Response, m.Compress = a.q.Id, true, true
	m.Question, m.CheckingDisabled = a.q.Question, a.q.CheckingDisabled
	m.SetEdns0(1232, true)
	return m
}

// empty returns a reply without records.
func (a *asked) empty(rcode int) *dns.Msg {
	m := a.dress(new(dns.Msg))
	m.RecursionDesired, m.RecursionAvailable, m.Rcode = true, true, rcode
	return m
}

// write sends a message, truncated if it is too long for UDP.
func (a *asked) write(m *dns.Msg) {
	if a.network == "udp" && m.Len() > 1232 {
		m = m.Copy()
		m.Truncated, m.Answer, m.Ns = true, nil, nil
	}
	a.send(pack(m))
}

// send sends any octets as one message.
func (a *asked) send(wire []byte) {
	a.whole.Lock()
	defer a.whole.Unlock()
	a.raw(a.framed(wire))
}

// framed returns a message as it is sent: on a stream its length comes first.
func (a *asked) framed(wire []byte) []byte {
	if a.network == "tcp" || a.network == "tls" {
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	}
	return wire
}

// wait waits, but not longer than the test lasts.
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
