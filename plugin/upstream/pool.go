package upstream

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

const (
	// poolSize is how many sockets to one server take questions at most. As long as there are fewer each question has
	// one of its own, unless sockets are scarce (share).
	poolSize = 64
	// socketUses is how many questions go out from one socket, and socketLife for how long they do.
	socketUses = 64
	socketLife = time.Second
)

// pool has the sockets to one server (S-6). A question goes out from a new one, or, while poolSize are open that were
// new within socketLife, from one of those, drawn at random. Where sockets are scarce those of a server are fewer (see
// sockets.share): 16 while 64 may be opened yet, and one only when fewer than eight are left. Nor is a question refused
// while one is open: that would be a failure for certain, and a port that is shared is as hard to guess.
//
// Is that as hard to guess as a socket for each question? By RFC 5452 section 7 a forged reply is taken with a
// chance of D/(N*P*I): I = 65,536 IDs, P = some 64,000 ports (the 64,512 from 1024 on, without the some 400 that
// daemons bind and what is in use here), N = 1 address to forge, and D datagrams under way that ask the same: one
// question has three at most (mostCopies, one of them over TCP), eight where TCP is refused (copiesForTCP), and one
// more for those who come late. So that more of the same add none (section 8.1), they are joined (L-13); not joined
// are the further tries of V-14, two at most, what avoids an upstream that was wrong, and what another server block
// asks: each of these has its own D. Sharing changes none of this. The ID is drawn for each datagram; the port was
// drawn from all P when its socket was opened, and who does not know which are open knows no more of it than that.
// Several are open at once (section 9.2), and which of them a question has is drawn. So the chance remains one in
// 4*10^9 for each datagram that is out. With one out all the time, a flood of 100,000 forged replies a second takes
// eight hours to have an even chance; with eight, an hour. What a forger has then is a reply that is judged as any
// other: data of a signed zone it cannot sign (section 10).
//
// What sharing changes is how long a port can be worth finding: under load it takes questions for a second (and is
// open for longer only while one waits there, as before), and 64 of them, where a socket of one question lives for
// one round trip. But little is won by it. Who has found an open port, by whatever leak, still has to hit an ID,
// and the tenth miss ends it (section 9.3, S-7): misses count for the socket and not for each question on it, all
// that wait there go to TCP, and no more come. So a port that is found is worth ten guesses of 65,536 for each
// datagram of one question, once, whether one question went out from it or 64: one port in 6,554 for one datagram.
// Who finds one each second, with that question always there, has an even chance after 4,500 of them, an hour and a
// quarter. An error without a question (bareError) may hit the ID of any that waits there, of 64 as of one, but has
// no effect but that of an error: no data is believed. No ID is used twice on a socket, so that a late reply cannot
// be taken for another, and a question that was given up ends the use of its socket.
type pool struct {
	server     netip.AddrPort
	reader     *reader
	schedule   *schedule
	mismatched func(n int) // notes replies that match no question

	mu      sync.Mutex
	open    []*socket // that take questions, or did when they were last drawn
	opening int       // sockets
}

// take returns a socket that a flight has joined.
func (p *pool) take() (*socket, error) {
	if s := p.draw(); s != nil {
		return s, nil
	}
	s, err := p.another()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening--
	if err == nil {
		p.open = append(p.open, s)
	}
	return s, err
}

// draw returns one of the sockets that are open; nil if there are not enough, and one more is to be opened.
func (p *pool) draw() *socket {
	enough := udpSockets.share()
	number := randomNumber() // before the lock that all questions share
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.open) > 0 && len(p.open)+p.opening >= enough {
		i := number % uint64(len(p.open))
		if s := p.open[i]; s.join() {
			return s
		}
		last := len(p.open) - 1
		p.open[i], p.open[last] = p.open[last], nil
		p.open = p.open[:last]
	}
	p.opening++
	return nil
}

// random returns a number below n, from a CSPRNG.
func random(n int) int { return int(randomNumber() % uint64(n)) }

func randomNumber() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// another opens a socket.
func (p *pool) another() (*socket, error) {
	if !udpSockets.take() {
		return nil, &fault{Busy, fmt.Sprintf("was not asked over UDP: %d sockets are open for that already",
			udpSockets.most()), errOutstanding}
	}
	s, err := openSocket(p.server)
	if err != nil {
		udpSockets.give()
		return nil, err
	}
	s.mismatched = p.mismatched
	s.join()
	end := &due{ring: s.retire}
	s.closing = func() {
		p.schedule.drop(end)
		udpSockets.give()
	}
	if err := p.reader.watch(s); err != nil {
		s.leave(nil, true)
		return nil, err
	}
	p.schedule.set(end, time.Now().Add(socketLife))
	return s, nil
}
