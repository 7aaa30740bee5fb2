package upstream

import (
	"errors"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// flight is a question that is out over UDP. All that it sends goes out from one socket.
type flight struct {
	*datagram
	query  query
	how    habit
	socket *socket
	done   func(heard) // is called once, unless the flight is given up

	mu      sync.Mutex
	sent    []*sent // the latest last
	foreign int     // replies with the cookie of another
	over    bool
}

// heard is what became of a flight.
type heard struct {
	reply fetch.Reply
	how   habit // in which what was replied to went out
	err   error
}

// sent is one datagram that went out. Each copy has an ID of its own, which tells the copy that a reply is to, and so
// how soon it came; without that a path that loses much would pass for a slow one (RFC 6298 section 3). Who forges
// replies has no more IDs to hit than if copies had ports of their own.
type sent struct {
	flight *flight // nil once it is over; under socket.mu
	at     time.Time
	how    habit
	cookie *dns.EDNS0_COOKIE // nil: none
	wire   []byte
	// foreign counts the replies with the cookie of another: somebody else's if the right one comes too.
	foreign int
}

// send sends the question, or one more copy.
func (f *flight) send(how habit) error {
	s := &sent{flight: f, how: how, at: f.cookies.clock()}
	var err error
	if how == withCookie {
		s.cookie = f.cookies.option(f.socket.local)
		s.wire, err = f.query.pack(0, s.cookie)
	} else {
		s.wire, err = f.query.pack(0)
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.sent = append(f.sent, s)
	f.mu.Unlock()
	if err := f.socket.send(s); err != nil {
		return unreachable("could not be asked over UDP", err)
	}
	return nil
}

// again sends one more copy, in the way that now seems best, and reports whether it did. A question that went out
// without a cookie gets none now. If the server is to be asked over TCP at once, the wait for datagrams ends, unless
// the question has come from TCP already.
func (f *flight) again() bool {
	how, over := f.latest()
	if over {
		return false
	}
	now, _ := f.cookies.choose(true)
	if now == tcpAtOnce && how != anyCookie {
		f.end(heard{how: withCookie, err: errNotUDP})
		return false
	}
	if how == withCookie {
		how = now
	}
	return f.send(how) == nil
}

// latest tells how the latest copy went out.
func (f *flight) latest() (how habit, over bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[len(f.sent)-1].how, f.over
}

// land ends the flight, and reports whether it had not ended before.
func (f *flight) land() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	landed := !f.over
	f.over = true
	return landed
}

// end ends the flight with an outcome.
func (f *flight) end(h heard) {
	if f.land() {
		f.socket.leave(f, false)
		f.done(h)
	}
}

// giveUp ends the flight without one.
func (f *flight) giveUp() {
	if f.land() {
		f.socket.leave(f, true)
		f.cookies.unheard(f.how)
	}
}

// failed ends a flight whose socket has failed.
func (f *flight) failed(err error) {
	f.end(heard{how: withCookie, err: unreachable("failed over UDP", err)})
}

// errNotUDP: over TCP the cookies of a server do not matter.
const errNotUDP = oddCookie("sends the cookies of others over UDP")

// arrive takes a reply to s. One with the cookie of another is no sign of an attack unless the right one comes too:
// some servers have no better.
func (f *flight) arrive(wire []byte, s *sent) {
	if _, over := f.latest(); over { // it is late, or one more
		return
	}
	var reply fetch.Reply
	var err error
	if panicked := guarded(func() { reply, err = f.read(wire, s) }); panicked != nil {
		err = panicked
	}
	if err != errWrongCookie {
		if f.land() {
			f.heard(s)
			f.socket.leave(f, false)
			f.done(heard{reply, s.how, err})
		}
		return
	}
	f.mu.Lock()
	s.foreign++
	f.foreign++
	first := f.foreign == 1
	f.mu.Unlock()
	if first {
		f.cookies.strike()
	}
	f.distrust(f.socket.wrong())
}

// distrust ends the wait for datagrams after too many that are no reply: wrong is how many have come to its socket that
// match no question (S-7).
func (f *flight) distrust(wrong int) {
	f.mu.Lock()
	foreign := f.foreign
	f.mu.Unlock()
	if wrong+foreign >= maxMismatches && f.land() {
		f.mismatched(foreign)
		f.socket.leave(f, false)
		f.done(heard{how: withCookie, err: wantsTCP("sent too many replies over UDP that matched no question")})
	}
}

// heard notes that the reply to s has come.
func (f *flight) heard(s *sent) {
	f.measured(f.cookies.clock().Sub(s.at))
	if s.how == withCookie {
		f.mu.Lock()
		foreign := s.foreign
		f.mu.Unlock()
		f.mismatched(foreign)
		f.cookies.heard(foreign > 0)
	}
}

const errTruncated = wantsTCP("truncated its reply over UDP")

var errWrongCookie = errors.New("wrong cookie")

// read unpacks a reply to s. What was truncated is not looked at (S-5).
func (f *flight) read(wire []byte, s *sent) (fetch.Reply, error) {
	if truncated(wire) {
		return fetch.Reply{}, errTruncated
	}
	reply, err := fetch.Reply{Size: len(wire)}, error(nil)
	if bareError(wire, s.wire) {
		reply.Msg = &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Rcode: int(wire[3] & 0xF)}}
	} else if reply, err = received(wire); err != nil {
		return reply, err
	}
	switch match := f.cookies.learn(s.cookie, reply.Msg); {
	case match == wrong && s.how == withCookie:
		return fetch.Reply{}, errWrongCookie
	case match == wrong && s.how == noCookie:
		return fetch.Reply{}, oddCookie("sent a cookie that nobody asked for over UDP")
	case match == missing:
		return fetch.Reply{}, oddCookie("left out its cookie over UDP")
	}
	return reply, nil
}
