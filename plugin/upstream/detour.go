package upstream

import (
	"context"
	"errors"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// wantsTCP is why a question has to be asked over TCP.
type wantsTCP string

func (w wantsTCP) Error() string { return string(w) }

// oddCookie is why a reply that came was no use: its cookie is not right.
type oddCookie string

func (o oddCookie) Error() string { return string(o) }

// detour is what a question over UDP goes through, step by step, that is not answered as usual.
type detour struct {
	*asking
	ctx context.Context
}

// mend has a question go another way that has failed in one.
func (d detour) mend(reply fetch.Reply, err error) (fetch.Reply, error) {
	if why, ok := errors.AsType[oddCookie](err); ok {
		reply, err = d.instead(why)
	}
	if why, ok := errors.AsType[wantsTCP](err); ok {
		return d.fallBack(d.query, why)
	}
	if f, ok := errors.AsType[*fault](err); ok && f.reason == Busy {
		return d.withoutSocket(f)
	}
	return reply, err
}

// settle draws from what came of a datagram what comes of the question; how is how it was put.
func (d detour) settle(how habit, h heard) (fetch.Reply, error) {
	switch how {
	case withCookie:
		return d.offered(h)
	case noCookie:
		return d.conclude(h)
	}
	return h.reply, h.err
}

// otherwise asks in another way than the first try, whose reply was useless, perhaps because of the cookie (V-14).
func (d detour) otherwise() (fetch.Reply, error) {
	if !d.cookies.relied() {
		return d.bare()
	}
	reply, err := d.sparing("sent a reply of no use over UDP")
	if noTCP(err) {
		return d.offered(d.once(withCookie))
	}
	return reply, err
}

// offered takes what came of a question with a cookie (S-8).
func (d detour) offered(h heard) (fetch.Reply, error) {
	if h.how == withCookie && badCookie(h.reply, h.err) { // it has sent the cookie to use
		h = d.once(withCookie)
	}
	switch {
	case h.how == noCookie:
		return d.conclude(h)
	case h.err == errTruncated:
		return d.untruncated()
	case badCookie(h.reply, h.err):
		d.cookies.settle(noCookie)
		return fetch.Reply{}, oddCookie("refused its own cookie over UDP")
	case h.err == nil && d.cookies.blamed(d.query, h.reply.Msg):
		return d.control(h.reply)
	}
	return h.reply, h.err
}

func badCookie(reply fetch.Reply, err error) bool {
	return err == nil && reply.Msg.Rcode == dns.RcodeBadCookie
}

// untruncated asks over TCP after a truncated reply. Where there is no TCP it asks without a cookie, which may be why
// the reply was truncated.
func (d detour) untruncated() (fetch.Reply, error) {
	reply, err := d.fallBack(d.query, errTruncated)
	if err == nil && reply.Size <= alwaysFits {
		d.cookies.strike()
	}
	if !noTCP(err) {
		return reply, err
	}
	whole := d.once(anyCookie)
	if whole.err != nil {
		return reply, interrupted(d.ctx, err)
	}
	if !vain(d.query, whole.reply.Msg) {
		d.cookies.strike()
		d.cookies.answered()
	}
	return whole.reply, nil
}

// control asks without a cookie what was not answered with one.
func (d detour) control(refused fetch.Reply) (fetch.Reply, error) {
	reply, err := d.bare()
	if _, truncated := errors.AsType[wantsTCP](err); truncated || err == nil && !vain(d.query, reply.Msg) {
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
func (d detour) bare() (fetch.Reply, error) { return d.conclude(d.once(noCookie)) }

// conclude learns from what came of a question without a cookie.
func (d detour) conclude(h heard) (fetch.Reply, error) {
	reply, err := h.reply, h.err
	if badCookie(reply, err) {
		err = oddCookie("asked for a cookie over UDP")
	}
	if _, odd := errors.AsType[oddCookie](err); odd {
		d.cookies.settle(tcpAtOnce)
		return fetch.Reply{}, err
	}
	if err == nil && !vain(d.query, reply.Msg) {
		d.cookies.answered()
	}
	return reply, err
}

// withoutSocket asks over TCP, where a connection serves many questions; that this fails says nothing of the server.
func (d detour) withoutSocket(full *fault) (fetch.Reply, error) {
	if errors.Is(full, errFiles) {
		d.meter.Exhausted(d.name)
	}
	reply, err := d.overTCP()
	if _, failed := errors.AsType[*fault](err); failed {
		return reply, full
	}
	return reply, err
}

// instead asks over TCP what failed over UDP because of cookies alone. Where there is no TCP it asks over UDP without
// them.
func (d detour) instead(why oddCookie) (fetch.Reply, error) {
	reply, err := d.sparing(wantsTCP(why))
	if noTCP(err) {
		d.cookies.noTCP()
		h := d.once(anyCookie)
		reply, err = h.reply, h.err
	}
	return reply, err
}

// sparing asks over TCP, but does not insist when connections are closed: there is another way.
func (d detour) sparing(why wantsTCP) (fetch.Reply, error) {
	q := d.query
	q.spare = true
	return d.fallBack(q, why)
}

// noTCP reports whether err is that TCP failed.
func noTCP(err error) bool {
	f, failed := errors.AsType[*fault](err)
	return failed && (f.reason == Network || f.reason == Timeout)
}

// fallBack asks q over TCP; if that fails too the sentence tells both.
func (d detour) fallBack(q query, why wantsTCP) (fetch.Reply, error) {
	reply, err := d.stream.ask(d.ctx, q)
	if f, ok := errors.AsType[*fault](err); ok {
		return reply, &fault{f.reason, string(why) + " and then " + f.text, f.err}
	}
	return reply, err
}

// overTCP asks over TCP.
func (d detour) overTCP() (fetch.Reply, error) { return d.stream.ask(d.ctx, d.query) }

// once sends one datagram, and copies of it if it is told to, and waits for the reply.
func (d detour) once(how habit) heard {
	came := make(chan heard, 1)
	f, err := d.fly(how, func(h heard) { came <- h })
	if err != nil {
		return heard{how: how, err: interrupted(d.ctx, err)}
	}
	select {
	case h := <-came:
		h.err = interrupted(d.ctx, h.err)
		return h
	case <-d.ctx.Done():
		f.giveUp()
		return heard{how: how, err: d.ctx.Err()}
	}
}
