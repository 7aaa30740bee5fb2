//go:build linux

package mta

import (
	"bytes"
	"crypto/tls"
	"net"
)

// The manners of mail hosts: values of delivery.shows.
const (
	bareGreeting   = "220 alone"
	refusesAll     = "554"
	tooBusy        = "421"
	heloAlone      = "no EHLO"
	oldTLS         = "TLS 1.1"
	smallHello     = "resets a large ClientHello"
	negativeSerial = "a negative serial number"
)

// hostManners are domains with a usable TLSA record whose hosts behave unusually.
var hostManners = []delivery{
	{domain: "bare-greeting.dane", text: withEE, shows: bareGreeting, want: [2]string{noSTARTTLS[0], verified}},
	{domain: "refuses-all.dane", text: withEE, shows: refusesAll, want: [2]string{"deferred 554", "bounced 554"}},
	{domain: "refuses-last.dane", text: "@ MX 5 mx.ee.dane.\n@ MX 10 mx.refuses-all.dane.\n", by: "ee.dane",
		want: alike(verified)},
	{domain: "too-busy.dane", text: withEE, shows: tooBusy, want: alike("deferred 421")},
	{domain: "helo-alone.dane", text: withEE, shows: heloAlone, want: noSTARTTLS},
	{domain: "old-tls.dane", text: withEE, shows: oldTLS,
		want: [2]string{"deferred Cannot start TLS: handshake failure", verified}},
	{domain: "small-hello.dane", text: withEE, shows: smallHello, want: alike(verified)},
	{domain: "negative-serial.dane", text: withEE, shows: negativeSerial, want: alike(verified)},
}

// mannered changes the TLS configuration of a receiver, and returns a function that changes its connections.
func mannered(shows string, c *tls.Config) (*tls.Config, func(net.Conn) net.Conn) {
	plain := func(conn net.Conn) net.Conn { return conn }
	switch shows {
	case bareGreeting:
		return c, greets("220\r\n")
	case refusesAll:
		return c, greets("554 go away\r\n")
	case tooBusy:
		return c, greets("421 try later\r\n")
	case heloAlone:
		return c, func(conn net.Conn) net.Conn { return &rewritten{Conn: conn, said: true} }
	case oldTLS:
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	case smallHello:
		return c, func(conn net.Conn) net.Conn { return shortOfSight{conn.(*net.TCPConn)} }
	case negativeSerial:
		leaf := bytes.Clone(c.Certificates[0].Certificate[0])
		at := bytes.Index(leaf, []byte{2, 8}) // the serial number, of 8 octets
		leaf[at+2] |= 0x80
		c.Certificates[0].Certificate = [][]byte{leaf}
		c.Certificates[0].Leaf = nil
	}
	return c, plain
}

func greets(greeting string) func(net.Conn) net.Conn {
	return func(conn net.Conn) net.Conn { return &rewritten{Conn: conn, greeting: greeting} }
}

// rewritten is a connection with another greeting, or, if that is "", one on which EHLO is not understood.
type rewritten struct {
	net.Conn
	greeting string
	said     bool
}

func (r *rewritten) Write(b []byte) (int, error) {
	if r.said {
		return r.Conn.Write(b)
	}
	r.said = true
	_, err := r.Conn.Write([]byte(r.greeting))
	return len(b), err
}

func (r *rewritten) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	if r.greeting == "" {
		copy(b, bytes.ReplaceAll(b[:n], []byte("EHLO "), []byte("WHAT ")))
	}
	return n, err
}

// shortOfSight is a connection that is reset when a ClientHello of more than one segment comes.
type shortOfSight struct{ *net.TCPConn }

func (s shortOfSight) Read(b []byte) (int, error) {
	n, err := s.TCPConn.Read(b)
	if n > 5 && b[0] == 22 && int(b[3])<<8|int(b[4]) > 1400 {
		s.SetLinger(0) //nolint:errcheck // it is closed all the same
		s.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// mannerly is a listener that changes its connections.
type mannerly struct {
	net.Listener
	front func(net.Conn) net.Conn
}

func (m mannerly) Accept() (net.Conn, error) {
	conn, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return m.front(conn), nil
}
