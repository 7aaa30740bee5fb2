package upstream

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// flight is a question on a socket of its own.
type flight struct {
	*datagram
	query query
	conn  net.Conn

	mu        sync.Mutex
	sent      []*sent // the latest last
	abandoned bool    // it is to go another way
}

// sent is one datagram that went out. Each copy has an ID of its own, which tells the copy that a reply is to, and so
// how soon it came; without that a path that loses much would pass for a slow one (RFC 6298 section 3). Who forges
// replies has no more IDs to hit than if copies had ports of their own.
type sent struct {
	at     time.Time
	how    habit
	cookie *dns.EDNS0_COOKIE // nil: none
	wire   []byte
	// foreign counts the replies with the cookie of another: somebody else's if the right one comes too.
	foreign int
}

// send sends the question, or one more copy, with an ID of its own.
func (f *flight) send(how habit) error {
	s := &sent{how: how, at: f.cookies.clock()}
	var err error
	if how == withCookie {
		s.cookie = f.cookies.option(f.conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr())
		s.wire, err = f.query.pack(randomID(), s.cookie)
	} else {
		s.wire, err = f.query.pack(randomID())
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.sent = append(f.sent, s)
	f.mu.Unlock()
	if _, err := f.conn.Write(s.wire); err != nil {
		return unreachable("could not be asked over UDP", err)
	}
	return nil
}

// again sends one more copy, in the way that now seems best, and reports whether it did. A question that went out
// without a cookie gets none now. If the server is to be asked over TCP at once, the wait for datagrams ends, unless
// the question has come from TCP already.
func (f *flight) again() bool {
	how := f.lastHow()
	now, _ := f.cookies.choose(true)
	if now == tcpAtOnce && how != anyCookie {
		f.abandon()
		return false
	}
	if how == withCookie {
		how = now
	}
	return f.send(how) == nil
}

func (f *flight) lastHow() habit {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[len(f.sent)-1].how
}

// abandon ends the wait.
func (f *flight) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.abandoned = true
	f.conn.SetReadDeadline(time.Unix(1, 0))
}

// gone returns why the wait has ended with err.
func (f *flight) gone(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.abandoned {
		return errNotUDP
	}
	return unreachable("failed over UDP", err)
}

// errNotUDP: over TCP the cookies of a server do not matter.
const errNotUDP = oddCookie("sends the cookies of others over UDP")

// datagrams are buffers for replies, of which nothing is kept that was unpacked.
var datagrams = sync.Pool{New: func() any { return new([datagramSize]byte) }}

// await reads until the reply comes; others are counted and ignored (S-7). One with the cookie of another is no sign of
// an attack unless the right one comes too: some servers have no better.
func (f *flight) await() (fetch.Reply, habit, error) {
	datagram := datagrams.Get().(*[datagramSize]byte)
	defer datagrams.Put(datagram)
	buf, foreign := datagram[:], 0
	for range maxMismatches {
		n, err := f.conn.Read(buf)
		if err != nil {
			return fetch.Reply{}, withCookie, f.gone(err)
		}
		s := f.answered(buf[:n])
		if s == nil {
			f.mismatched(1)
			continue
		}
		reply, err := f.read(buf[:n], s)
		if err != errWrongCookie {
			f.heard(s)
			return reply, s.how, err
		}
		s.foreign++
		if foreign++; foreign == 1 {
			f.cookies.strike()
		}
	}
	f.mismatched(foreign)
	return fetch.Reply{}, withCookie, wantsTCP("sent too many replies over UDP that matched no question")
}

// answered returns what a reply is to; nil: nothing of ours.
func (f *flight) answered(wire []byte) *sent {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sent {
		if matches(wire, s.wire) || bareError(wire, s.wire) {
			return s
		}
	}
	return nil
}

// heard notes that the reply to s has come.
func (f *flight) heard(s *sent) {
	f.measured(f.cookies.clock().Sub(s.at))
	if s.how == withCookie {
		f.mismatched(s.foreign)
		f.cookies.heard(s.foreign > 0)
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
