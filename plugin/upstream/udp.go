package upstream

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

const (
	// mismatches on one question before TCP is asked: someone may be guessing (S-7).
	maxMismatches = 10
	// datagramSize is the largest reply that is read; no larger EDNS size can be configured (S-1).
	datagramSize = 4096
)

// datagram asks one server over UDP, and over TCP where UDP does not do. Each question has a socket of its own.
type datagram struct {
	server   netip.AddrPort
	stream   *stream
	cookies  cookies
	meter    Meter
	name     string // for the meter
	measured func(took time.Duration)
}

func newDatagram(a Address, name string, config Config) *datagram {
	return &datagram{
		server: a.Server, stream: newTCP(a), cookies: cookies{clock: config.Clock}, meter: config.Meter, name: name,
	}
}

// mismatched notes n replies that match no question.
func (d *datagram) mismatched(n int) {
	for range n {
		d.meter.Mismatched(d.name)
	}
}

// wantsTCP is why a question has to be asked over TCP.
type wantsTCP string

func (w wantsTCP) Error() string { return string(w) }

// oddCookie is why a reply that came was no use: its cookie is not right.
type oddCookie string

func (o oddCookie) Error() string { return string(o) }

func (d *datagram) ask(ctx context.Context, q query) (fetch.Reply, error) {
	if q.tcp {
		return d.stream.ask(ctx, q)
	}
	how, retry := d.cookies.choose(q.again)
	if retry {
		go d.retry(q)
	}
	reply, err := d.askAs(ctx, q, how)
	if why, ok := errors.AsType[oddCookie](err); ok {
		reply, err = d.instead(ctx, q, why)
	}
	if why, ok := errors.AsType[wantsTCP](err); ok {
		return d.fallBack(ctx, q, why)
	}
	if f, ok := errors.AsType[*fault](err); ok && f.reason == Busy {
		return d.withoutSocket(ctx, q, f)
	}
	return reply, err
}

func (d *datagram) askAs(ctx context.Context, q query, how habit) (fetch.Reply, error) {
	switch {
	case how == withCookie && q.further && !q.again && d.cookies.tried():
		return d.otherwise(ctx, q)
	case how == withCookie:
		return d.offer(ctx, q)
	case how == noCookie:
		return d.bare(ctx, q)
	case how == tcpAtOnce:
		return fetch.Reply{}, errNotUDP
	}
	reply, _, err := d.once(ctx, q, how)
	return reply, err
}

// otherwise asks in another way than offer did, whose reply was useless, perhaps because of the cookie (V-14).
func (d *datagram) otherwise(ctx context.Context, q query) (fetch.Reply, error) {
	if !d.cookies.relied() {
		return d.bare(ctx, q)
	}
	reply, err := d.sparing(ctx, q, "sent a reply of no use over UDP")
	if noTCP(err) {
		return d.offer(ctx, q)
	}
	return reply, err
}

// offer asks with a cookie (S-8).
func (d *datagram) offer(ctx context.Context, q query) (fetch.Reply, error) {
	reply, how, err := d.once(ctx, q, withCookie)
	if how == withCookie && badCookie(reply, err) { // it has sent the cookie to use
		reply, how, err = d.once(ctx, q, withCookie)
	}
	switch {
	case how == noCookie:
		return d.conclude(q, reply, err)
	case err == errTruncated:
		return d.untruncated(ctx, q)
	case badCookie(reply, err):
		d.cookies.settle(noCookie)
		return fetch.Reply{}, oddCookie("refused its own cookie over UDP")
	case err == nil && d.cookies.blamed(q, reply.Msg):
		return d.control(ctx, q, reply)
	}
	return reply, err
}

func badCookie(reply fetch.Reply, err error) bool {
	return err == nil && reply.Msg.Rcode == dns.RcodeBadCookie
}

// untruncated asks over TCP after a truncated reply. Where there is no TCP it asks without a cookie, which may be why
// the reply was truncated.
func (d *datagram) untruncated(ctx context.Context, q query) (fetch.Reply, error) {
	reply, err := d.fallBack(ctx, q, errTruncated)
	if err == nil && reply.Size <= alwaysFits {
		d.cookies.strike()
	}
	if !noTCP(err) {
		return reply, err
	}
	whole, _, failed := d.once(ctx, q, anyCookie)
	if failed != nil {
		return reply, interrupted(ctx, err)
	}
	if !vain(q, whole.Msg) {
		d.cookies.strike()
		d.cookies.answered()
	}
	return whole, nil
}

// control asks without a cookie what was not answered with one.
func (d *datagram) control(ctx context.Context, q query, refused fetch.Reply) (fetch.Reply, error) {
	reply, err := d.bare(ctx, q)
	if _, truncated := errors.AsType[wantsTCP](err); truncated || err == nil && !vain(q, reply.Msg) {
		d.cookies.settle(noCookie)
		return reply, err
	}
	if _, odd := errors.AsType[oddCookie](err); odd {
		return reply, err
	}
	d.cookies.acquit()
	return refused, nil
}

// bare asks without a cookie.
func (d *datagram) bare(ctx context.Context, q query) (fetch.Reply, error) {
	reply, _, err := d.once(ctx, q, noCookie)
	return d.conclude(q, reply, err)
}

// conclude learns from what came of a question without a cookie.
func (d *datagram) conclude(q query, reply fetch.Reply, err error) (fetch.Reply, error) {
	if badCookie(reply, err) {
		err = oddCookie("asked for a cookie over UDP")
	}
	if _, odd := errors.AsType[oddCookie](err); odd {
		d.cookies.settle(tcpAtOnce)
		return fetch.Reply{}, err
	}
	if err == nil && !vain(q, reply.Msg) {
		d.cookies.answered()
	}
	return reply, err
}

// withoutSocket asks over TCP, where a connection serves many questions; that this fails says nothing of the server.
func (d *datagram) withoutSocket(ctx context.Context, q query, full *fault) (fetch.Reply, error) {
	if errors.Is(full, errFiles) {
		d.meter.Exhausted(d.name)
	}
	reply, err := d.stream.ask(ctx, q)
	if _, failed := errors.AsType[*fault](err); failed {
		return reply, full
	}
	return reply, err
}

// instead asks over TCP what failed over UDP because of cookies alone. Where there is no TCP it asks over UDP without
// them.
func (d *datagram) instead(ctx context.Context, q query, why oddCookie) (fetch.Reply, error) {
	reply, err := d.sparing(ctx, q, wantsTCP(why))
	if noTCP(err) {
		d.cookies.noTCP()
		reply, _, err = d.once(ctx, q, anyCookie)
	}
	return reply, err
}

// sparing asks over TCP, but does not insist when connections are closed: there is another way.
func (d *datagram) sparing(ctx context.Context, q query, why wantsTCP) (fetch.Reply, error) {
	q.spare = true
	return d.fallBack(ctx, q, why)
}

// noTCP reports whether err is that TCP failed.
func noTCP(err error) bool {
	f, failed := errors.AsType[*fault](err)
	return failed && (f.reason == Network || f.reason == Timeout)
}

// retry tries on the side whether a server has learned to do well with cookies; its reply goes to nobody.
func (d *datagram) retry(q query) {
	ctx, cancel := context.WithTimeout(d.stream.ctx, probeTimeout)
	defer cancel()
	// S-27: what panics here does so on the way of a client's question too, and is told there
	defer func() { recover() }()
	q.repeater = nil
	if reply, _, err := d.once(ctx, q, withCookie); err == nil && !vain(q, reply.Msg) {
		d.cookies.mended()
	}
}

// fallBack asks over TCP; if that fails too the sentence tells both.
func (d *datagram) fallBack(ctx context.Context, q query, why wantsTCP) (fetch.Reply, error) {
	reply, err := d.stream.ask(ctx, q)
	if f, ok := errors.AsType[*fault](err); ok {
		return reply, &fault{f.reason, string(why) + " and then " + f.text, f.err}
	}
	return reply, err
}

// once sends one datagram, and copies of it if it is told to, and waits for the reply; how tells to which it is.
func (d *datagram) once(ctx context.Context, q query, how habit) (fetch.Reply, habit, error) {
	conn, err := openSocket(d.server)
	if err != nil {
		return fetch.Reply{}, how, interrupted(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	f := &flight{datagram: d, query: q, conn: conn}
	if err := f.send(how); err != nil {
		return fetch.Reply{}, how, err
	}
	defer q.repeater.by(f.again)()
	reply, got, err := f.await()
	if err = interrupted(ctx, err); err != nil && err == ctx.Err() {
		d.cookies.unheard(how)
	}
	return reply, got, err
}

// interrupted returns the end of ctx rather than the error that it caused.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// received unpacks a reply.
func received(wire []byte) (fetch.Reply, error) {
	m, err := unpack(wire)
	if err != nil {
		return fetch.Reply{}, &fault{Invalid, "sent a reply that cannot be read: " + err.Error(), err}
	}
	return fetch.Reply{Msg: m, Size: len(wire)}, nil
}

func (d *datagram) close() { d.stream.close() }
