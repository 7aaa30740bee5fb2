// Package ports gives tests ports of 127.0.0.1, and puts handlers on them.
package ports

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// No system hands out ports of this range by itself (Linux begins at 32768, others at 49152). So one that was closed
// can be opened again: no client has it meanwhile.
const first, count = 10000, 20000

// given are the ports that Closed has returned. No test of the process gets them again: the program that is to open
// them may not have done so yet, and where two programs let others share their port, as Unbound does, each would answer
// for the other.
var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// Open opens one port for both transports.
func Open(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	given.Lock()
	defer given.Unlock()
	return open(t)
}

func open(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		addr := net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: first + rand.IntN(count)}
		if given.ports[addr.Port] {
			continue
		}
		packets, err := net.ListenUDP("udp4", &addr)
		if err != nil {
			continue
		}
		if stream, err := net.Listen("tcp4", addr.String()); err == nil {
			return packets, stream
		}
		packets.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// Closed returns a port that a program may open, for both transports.
func Closed(t testing.TB) int {
	t.Helper()
	given.Lock()
	defer given.Unlock()
	packets, stream := open(t)
	defer packets.Close()
	defer stream.Close()
	port := packets.LocalAddr().(*net.UDPAddr).Port
	given.ports[port] = true
	return port
}

// Serve has a handler answer on a port until the test ends.
func Serve(t testing.TB, h dns.Handler) (addr string) {
	t.Helper()
	packets, stream := Open(t)
	ServeOn(t, h, packets, stream)
	return packets.LocalAddr().String()
}

// ServeOn has a handler answer on open sockets until the test ends, or until what it returns is called.
func ServeOn(t testing.TB, h dns.Handler, packets net.PacketConn, stream net.Listener) (stop func()) {
	t.Helper()
	servers := []*dns.Server{{PacketConn: packets}, {Listener: stream, MaxTCPQueries: -1}}
	for _, s := range servers {
		started, ended := make(chan struct{}), make(chan struct{})
		s.Handler, s.NotifyStartedFunc = h, func() { close(started) }
		go func() {
			defer close(ended)
			s.ActivateAndServe() //nolint:errcheck // it ends with Shutdown
		}()
		<-started
		t.Cleanup(func() {
			s.Shutdown() //nolint:errcheck // the sockets are loopback's
			<-ended
		})
	}
	return func() {
		for _, s := range servers {
			s.Shutdown() //nolint:errcheck // likewise
		}
	}
}
