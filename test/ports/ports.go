// Package ports gives tests ports of 127.0.0.1, and has handlers answer there.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// The ports are in a range from which no system chooses ports by itself (Linux begins at 32768, others at 49152).
const first, count, everywhere = 10000, 20000, 2768

// aside is a loopback address that nobody asks. At each port that a test was given there is a socket on this address
// until the test ends. So nobody else can take the port while the test has it closed: neither a resolver that binds it
// on all addresses for a question of its own, as danelaw does, nor the tests of another process. On 127.0.0.1 a closed
// port still refuses what comes. Only Linux has more than one loopback address.
var aside = net.IPv4(127, 0, 0, 200)

// given are the ports that Closed has returned. The process gives none of them to a test again: the program that is to
// open the port may not have done so yet. Two programs that let others share their port, as Unbound does, would then
// answer each other's questions.
var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// Open opens a port for UDP and TCP. Until the test ends, it may be closed, and opened again with [Reopen].
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

// hold keeps a port for a test until release is called.
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

// Reopen opens a port that the test was given and that is closed.
func Reopen(t testing.TB, addr string) (net.PacketConn, net.Listener) {
	t.Helper()
	packets, stream, err := listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	return packets, stream
}

// unforked keeps the process from starting a program until allow is called. The program would have a copy of each
// socket that is open, until it runs, and a port is only free when the last copy is closed. Where Go itself takes this
// lock to open a socket, which is not on Linux, it cannot be taken around that.
func unforked() (allow func()) {
	if runtime.GOOS != "linux" {
		return func() {}
	}
	forksAtFirst()
	syscall.ForkLock.RLock()
	return syscall.ForkLock.RUnlock
}

// forksAtFirst has package os look, without that lock, whether processes have file descriptors: for that it starts one,
// once.
var forksAtFirst = sync.OnceFunc(func() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		p.Release() //nolint:errcheck // it is ours
	}
})

// Closed returns a port that a program may open for UDP and TCP.
func Closed(t testing.TB) int {
	t.Helper()
	defer unforked()()
	given.Lock()
	defer given.Unlock()
	packets, stream := open(t)
	defer packets.Close()
	defer stream.Close()
	port := packets.LocalAddr().(*net.UDPAddr).Port
	given.ports[port] = true
	return port
}

// Everywhere returns a port that a program may open for UDP and TCP on all addresses: of a range of its own, as nothing
// can keep such a port for the test.
func Everywhere(t testing.TB) int {
	t.Helper()
	defer unforked()()
	for range 100 {
		port := first + count + rand.IntN(everywhere)
		packets, stream, err := listen(fmt.Sprintf("0.0.0.0:%d", port))
		if err == nil {
			packets.Close()
			stream.Close()
			return port
		}
	}
	t.Fatal("no port is free on all addresses")
	return 0
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
