package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
)

const (
	// mismatches on one question before TCP is asked: someone may be guessing (S-7).
	maxMismatches = 10
	// datagramSize is the largest reply that is read; no larger EDNS size can be configured (S-1).
	datagramSize = 4096
)

// datagram asks one server over UDP, and over TCP where UDP does not do. Each question has a socket of its own.
type datagram struct {
	server     netip.AddrPort
	stream     *stream
	cookies    cookies
	mismatched func() // is told of each reply that matches no question
	exhausted  func() // is told of each question that found the table of files full
}

// wantsTCP is why a question has to be asked over TCP.
type wantsTCP string

func (w wantsTCP) Error() string { return string(w) }

func (d *datagram) ask(ctx context.Context, q query) (chain.Reply, error) {
	if q.tcp {
		return d.stream.ask(ctx, q)
	}
	reply, err := d.once(ctx, q)
	if err == nil && reply.Msg.Rcode == dns.RcodeBadCookie { // S-8: it has sent the cookie to use
		reply, err = d.once(ctx, q)
	}
	if err == nil && reply.Msg.Rcode == dns.RcodeBadCookie {
		err = wantsTCP("refused its own cookie over UDP")
	}
	if why, ok := errors.AsType[wantsTCP](err); ok {
		return d.fallBack(ctx, q, why)
	}
	if f, ok := errors.AsType[*fault](err); ok && f.reason == Busy {
		return d.withoutSocket(ctx, q, f)
	}
	return reply, err
}

// withoutSocket asks over TCP, where a connection serves many questions; that this fails says nothing of the server.
func (d *datagram) withoutSocket(ctx context.Context, q query, full *fault) (chain.Reply, error) {
	if errors.Is(full, errFiles) {
		d.exhausted()
	}
	reply, err := d.stream.ask(ctx, q)
	if _, failed := errors.AsType[*fault](err); failed {
		return reply, full
	}
	return reply, err
}

// fallBack asks over TCP; if that fails too the sentence tells both.
func (d *datagram) fallBack(ctx context.Context, q query, why wantsTCP) (chain.Reply, error) {
	reply, err := d.stream.ask(ctx, q)
	if f, ok := errors.AsType[*fault](err); ok {
		return reply, &fault{f.reason, string(why) + " and then " + f.text, f.err}
	}
	return reply, err
}

// once sends one datagram and waits for its reply.
func (d *datagram) once(ctx context.Context, q query) (chain.Reply, error) {
	conn, err := openSocket(ctx, d.server)
	if err != nil {
		return chain.Reply{}, interrupted(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	cookie := d.cookies.option(conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr())
	wire, err := q.pack(randomID(), cookie)
	if err != nil {
		return chain.Reply{}, err
	}
	if _, err := conn.Write(wire); err != nil {
		return chain.Reply{}, unreachable("could not be asked over UDP", err)
	}
	defer q.repeater.by(func() bool { _, err := conn.Write(wire); return err == nil })()
	reply, err := d.await(conn, wire, cookie)
	return reply, interrupted(ctx, err)
}

// interrupted returns the end of ctx rather than the error that it caused.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// await reads until the reply comes; others are counted and ignored (S-7).
func (d *datagram) await(conn net.Conn, wire []byte, cookie *dns.EDNS0_COOKIE) (chain.Reply, error) {
	buf := make([]byte, datagramSize)
	for range maxMismatches {
		n, err := conn.Read(buf)
		if err != nil {
			return chain.Reply{}, unreachable("failed over UDP", err)
		}
		if matches(buf[:n], wire) {
			reply, err := d.read(buf[:n], cookie)
			if err != errWrongCookie {
				return reply, err
			}
		}
		d.mismatched()
	}
	return chain.Reply{}, wantsTCP("sent too many replies over UDP that matched no question")
}

var errWrongCookie = errors.New("wrong cookie")

// read unpacks a reply that matches. What was truncated is not looked at (S-5).
func (d *datagram) read(wire []byte, cookie *dns.EDNS0_COOKIE) (chain.Reply, error) {
	if truncated(wire) {
		return chain.Reply{}, wantsTCP("truncated its reply over UDP")
	}
	reply, err := received(wire)
	if err != nil {
		return reply, err
	}
	switch d.cookies.learn(cookie, reply.Msg) {
	case wrong:
		return chain.Reply{}, errWrongCookie
	case missing:
		return chain.Reply{}, wantsTCP("left out its cookie over UDP")
	}
	return reply, nil
}

// received unpacks a reply.
func received(wire []byte) (chain.Reply, error) {
	m, err := unpack(wire)
	if err != nil {
		return chain.Reply{}, &fault{Invalid, "sent a reply that cannot be read: " + err.Error(), err}
	}
	return chain.Reply{Msg: m, Size: len(wire)}, nil
}

func (d *datagram) close() { d.stream.close() }
