package upstream

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// portTries is how often another port is tried if one is taken.
const portTries = 16

// socket is what one question over UDP has for itself, at a port of our choosing: the kernel's choice is not from a
// CSPRNG (S-6, RFC 5452 section 9.2). It is connected, so that the kernel drops what comes from elsewhere.
type socket struct{ net.Conn }

// openSocket opens one to a server, at a random port that is free.
func openSocket(server netip.AddrPort) (s socket, err error) {
	if !udpSockets.take() {
		return s, &fault{Busy, fmt.Sprintf("was not asked over UDP: %d sockets are open for that already",
			udpSockets.most()), errOutstanding}
	}
	for range portTries {
		if s.Conn, err = bind(server); !isAny(err, syscall.EADDRINUSE, syscall.EACCES) {
			break
		}
	}
	if err != nil {
		udpSockets.give()
		return s, unreachable("could not be asked over UDP", err)
	}
	return s, nil
}

func bind(server netip.AddrPort) (net.Conn, error) {
	port := local.random(time.Now())
	if port == 0 {
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	return net.DialUDP("udp", &net.UDPAddr{Port: port}, net.UDPAddrFromAddrPort(server))
}

// Close closes the socket, and makes room for another. It is called once.
func (s socket) Close() error {
	defer udpSockets.give()
	return s.Conn.Close()
}

// repeater sends another copy of a question from the socket on which it is out, if there is one that may lose it. The
// zero value, and nil, know of none.
type repeater struct {
	mu    sync.Mutex
	again func() bool
}

// by says how to send a copy. After end no copy is sent.
func (r *repeater) by(again func() bool) (end func()) {
	r.set(again)
	return func() { r.set(func() bool { return false }) }
}

func (r *repeater) set(again func() bool) {
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.again = again
	}
}

// repeat sends a copy; known is false if the upstream has to be asked anew for that.
func (r *repeater) repeat() (sent, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again == nil {
		return false, false
	}
	return r.again(), true
}
