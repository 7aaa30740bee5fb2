package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

const (
	// mismatches on one question before TCP is asked: someone may be guessing (S-7).
	maxMismatches = 10
	// datagramSize is the largest reply that is read; no larger EDNS size can be configured (S-1).
	datagramSize = 4096
)

// datagram asks one server over UDP, and over TCP where UDP does not do.
type datagram struct {
	sockets  pool
	stream   *stream
	cookies  cookies
	meter    Meter
	name     string // for the meter
	measured func(took time.Duration)
}

func newDatagram(a Address, name string, config Config, r *reader, s *schedule) *datagram {
	d := &datagram{
		sockets: pool{server: a.Server, reader: r, schedule: s},
		stream:  newTCP(a), cookies: cookies{clock: config.Clock},
		meter: config.Meter, name: name,
	}
	d.stream.pause = config.Pause
	d.sockets.mismatched = d.mismatched
	return d
}

// mismatched notes n replies that match no question.
func (d *datagram) mismatched(n int) {
	for range n {
		d.meter.Mismatched(d.name)
	}
}

// datagrams are buffers for replies, of which nothing is kept that was unpacked.
var datagrams = sync.Pool{New: func() any { return new([datagramSize]byte) }}

// asking is one question. Where a datagram is answered as usual nothing waits for it but its flight; all else goes on
// in a goroutine.
type asking struct {
	*datagram
	query query
	done  func(fetch.Reply, error)

	mu     sync.Mutex
	flight *flight            // the latest; nil: none yet
	end    context.CancelFunc // of the goroutine; nil: there is none
	over   bool               // it was given up
}

func (d *datagram) ask(q query, done func(fetch.Reply, error)) way {
	a := &asking{datagram: d, query: q, done: done}
	if q.tcp {
		a.goOn(detour.overTCP)
		return a
	}
	how, retry := d.cookies.choose(q.again)
	if retry {
		go d.retry(q)
	}
	switch {
	case how == tcpAtOnce:
		a.goOn(func(d detour) (fetch.Reply, error) { return d.mend(fetch.Reply{}, errNotUDP) })
	case how == withCookie && q.further && !q.again && d.cookies.tried():
		a.goOn(func(d detour) (fetch.Reply, error) { return d.mend(d.otherwise()) })
	default:
		a.put(how)
	}
	return a
}

// put sends one datagram. For an answer no step in settle asks anything.
func (a *asking) put(how habit) {
	came := func(h heard) {
		if h.err == nil && !vain(a.query, h.reply.Msg) {
			a.done(detour{a, context.Background()}.settle(how, h))
			return
		}
		a.goOn(func(d detour) (fetch.Reply, error) { return d.mend(d.settle(how, h)) })
	}
	if _, err := a.fly(how, came); err != nil {
		came(heard{how: how, err: err})
	}
}

// fly sends one datagram; the flight may send copies. came is called when it ends, unless it is given up.
func (a *asking) fly(how habit, came func(heard)) (*flight, error) {
	s, err := a.sockets.take()
	if err != nil {
		return nil, err
	}
	f := &flight{datagram: a.datagram, query: a.query, how: how, socket: s, done: came}
	if err := f.send(how); err != nil {
		if f.land() {
			s.leave(f, false)
			return nil, err
		}
		return f, nil // came knows already
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flight = f
	return f, nil
}

// goOn does what takes more than a datagram, in a goroutine.
func (a *asking) goOn(steps func(detour) (fetch.Reply, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over {
		a.end = inBackground(a.query, a.done, func(ctx context.Context) (fetch.Reply, error) {
			return steps(detour{a, ctx})
		})
	}
}

func (a *asking) again() (sent, known bool) {
	if f := a.latest(); f != nil {
		return f.again(), true
	}
	return false, false
}

func (a *asking) look() {
	if f := a.latest(); f != nil {
		f.socket.look()
	}
}

func (a *asking) latest() *flight {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.flight
}

func (a *asking) cancel() {
	a.mu.Lock()
	a.over = true
	f, end := a.flight, a.end
	a.mu.Unlock()
	if f != nil {
		f.giveUp()
	}
	if end != nil {
		end()
	}
}

// retry tries on the side whether a server has learned to do well with cookies; its reply goes to nobody.
func (d *datagram) retry(q query) {
	ctx, cancel := context.WithTimeout(d.stream.ctx, probeTimeout)
	defer cancel()
	onTheSide := detour{&asking{datagram: d, query: q}, ctx}
	if h := onTheSide.once(withCookie); h.err == nil && !vain(q, h.reply.Msg) {
		d.cookies.mended()
	}
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
	m, err := Unpack(wire)
	if err != nil {
		return fetch.Reply{}, &fault{Invalid, "sent a reply that cannot be read: " + err.Error(), err}
	}
	return fetch.Reply{Msg: m, Size: len(wire)}, nil
}

func (d *datagram) close() { d.stream.close() }
