package upstream

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// portTries is how often another port is tried if one is taken.
const portTries = 16

// socket is what questions over UDP go out from (see pool), at a port of our choosing: the kernel's choice is not from
// a CSPRNG (S-6, RFC 5452 section 9.2). It is connected, so that the kernel drops what comes from elsewhere.
type socket struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	local   netip.Addr
	closing func() // is called once it is closed
	// mismatched notes replies that match no question.
	mismatched func(n int)

	mu      sync.Mutex
	sent    []*sent // all that went out: an ID is not used twice, so that late replies match nothing else
	uses    int     // flights so far
	flights int     // that wait for replies
	odd     int     // datagrams that matched none
	retired bool    // it takes no more questions, and is closed with the last
	closed  bool
}

// openSocket opens one to a server, at a random port that is free.
func openSocket(server netip.AddrPort) (*socket, error) {
	var conn *net.UDPConn
	var err error
	for range portTries {
		if conn, err = bind(server); !isAny(err, syscall.EADDRINUSE, syscall.EACCES) {
			break
		}
	}
	if err != nil {
		return nil, unreachable("could not be asked over UDP", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, unreachable("could not be asked over UDP", err)
	}
	return &socket{conn: conn, raw: raw, local: conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()}, nil
}

func bind(server netip.AddrPort) (*net.UDPConn, error) {
	port := local.random(time.Now())
	if port == 0 {
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	return net.DialUDP("udp", &net.UDPAddr{Port: port}, net.UDPAddrFromAddrPort(server))
}

// join takes in one more flight, if the socket still takes any.
func (s *socket) join() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return false
	}
	s.flights++
	s.uses++
	s.retired = s.uses == socketUses
	return true
}

// leave lets a flight go, of which nothing is kept but what tells its late replies from others: it holds all that came
// of its question, and the socket may live for much longer. After one that was given up the socket takes no more: its
// reply may still come.
func (s *socket) leave(f *flight, givenUp bool) {
	s.mu.Lock()
	for _, d := range s.sent {
		if d.flight == f {
			d.flight = nil
		}
	}
	s.flights--
	s.retired = s.retired || givenUp
	s.mu.Unlock()
	s.tidy()
}

// retire lets the socket take no more questions.
func (s *socket) retire() {
	s.mu.Lock()
	s.retired = true
	s.mu.Unlock()
	s.tidy()
}

// tidy closes a socket of no more use.
func (s *socket) tidy() {
	s.mu.Lock()
	useless := s.retired && s.flights == 0 && !s.closed
	if useless {
		s.closed, s.sent = true, nil
	}
	s.mu.Unlock()
	if useless {
		s.conn.Close()
		s.closing()
	}
}

// send sends a datagram under an ID that is random (S-6), and that no other has had on this socket.
func (s *socket) send(d *sent) error {
	s.mu.Lock()
	id := randomID()
	for s.find(id) != nil {
		id = randomID()
	}
	binary.BigEndian.PutUint16(d.wire, id)
	s.sent = append(s.sent, d)
	s.mu.Unlock()
	_, err := s.conn.Write(d.wire)
	return err
}

// find returns what went out under an ID; mu is held.
func (s *socket) find(id uint16) *sent {
	for _, d := range s.sent {
		if binary.BigEndian.Uint16(d.wire) == id {
			return d
		}
	}
	return nil
}

// arrived hands a datagram to the flight that it is for. Others are counted and ignored, but not without end (S-7).
func (s *socket) arrived(wire []byte) {
	if d, f := s.answered(wire); d != nil {
		if f != nil { // else it is late, or one more
			f.arrive(wire, d)
		}
		return
	}
	s.mu.Lock()
	s.odd++
	odd, waiting := s.odd, s.waiting()
	s.retired = s.retired || odd >= maxMismatches
	s.mu.Unlock()
	s.mismatched(1)
	for _, f := range waiting {
		f.distrust(odd)
	}
	s.tidy()
}

// answered returns what a reply is to, and its flight, nil if that is over; nil: nothing of ours.
func (s *socket) answered(wire []byte) (*sent, *flight) {
	if len(wire) < headerSize {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.find(binary.BigEndian.Uint16(wire)); d != nil && (matches(wire, d.wire) || bareError(wire, d.wire)) {
		return d, d.flight
	}
	return nil, nil
}

// failed ends all flights by the error of their socket: what the kernel was told of the server's port holds for all.
func (s *socket) failed(err error) {
	s.mu.Lock()
	s.retired = true
	waiting := s.waiting()
	s.mu.Unlock()
	for _, f := range waiting {
		f.failed(err)
	}
	s.tidy()
}

// waiting returns the flights that have sent something; mu is held. Some may be over a moment later, and some are
// returned for each of their copies.
func (s *socket) waiting() (all []*flight) {
	for _, d := range s.sent {
		if d.flight != nil {
			all = append(all, d.flight)
		}
	}
	return all
}

// wrong tells how many datagrams have matched nothing.
func (s *socket) wrong() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.odd
}
