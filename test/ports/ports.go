// Package ports gives tests ports of 127.0.0.1, and puts handlers on them.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// No system hands out ports of this range by itself (Linux begins at 32768, others at 49152).
const first, count = 10000, 20000

// aside is an address of loopback that nobody asks. Until a test ends it has a socket at each port that the test was
// given. So nobody else takes such a port while it is closed: neither a resolver, danelaw among them, for a question of
// its own, as those bind it on all addresses at once, nor another process with tests. What comes to
// the port while the test has it closed is refused all the same. Loopback has more than one address on Linux alone.
var aside = net.IPv4(127, 0, 0, 200)

// given are the ports that Closed has returned. No test of the process gets them again: the program that is to open
// them may not have done so yet, and where two programs let others share their port, as Unbound does, each would answer
// for the other.
var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// Open opens one port for both transports. Until the test ends it may be closed and opened again with [Reopen].
func Open(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	given.Lock()
	defer given.Unlock()
	return open(t)
}

func open(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		port := first + rand.IntN(count)
		if given.ports[port] {
			continue
		}
		release, err := hold(port)
		if err != nil {
			continue
		}
		packets, stream, err := listen(fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			release()
			continue
		}
		t.Cleanup(release)
		return packets, stream
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// hold keeps a port for this test.
func hold(port int) (release func(), err error) {
	held, err := net.ListenUDP("udp4", &net.UDPAddr{IP: aside, Port: port})
	if err != nil && runtime.GOOS != "linux" {
		return func() {}, nil
	}
	return func() { held.Close() }, err
}

func listen(addr string) (net.PacketConn, net.Listener, error) {
	packets, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return nil, nil, err
	}
	stream, err := net.Listen("tcp4", addr)
	if err != nil {
		return nil, nil, errors.Join(err, packets.Close())
	}
	return packets, stream, nil
}

// Reopen opens a port again that the test was given, and has closed or never opened.
func Reopen(t testing.TB, addr string) (net.PacketConn, net.Listener) {
	t.Helper()
	packets, stream, err := listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	return packets, stream
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
