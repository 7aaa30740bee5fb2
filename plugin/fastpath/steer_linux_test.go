package fastpath

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/danelaw-dns/danelaw/test/needs"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// sharing opens the sockets of others, as CoreDNS does: listeners are of MPTCP where the host has it.
var sharing = net.ListenConfig{Control: share}

// where is what a socket is bound to, and an address that reaches it.
type where struct{ bound, asked string }

// groups are where the sockets of groups are.
var groups = []where{
	{"127.0.0.1:0", "127.0.0.1"},
	{"[::1]:0", "::1"},
	{"0.0.0.0:0", "127.0.0.1"},
	{"[::]:0", "::1"},
	{"[::]:0", "127.0.0.1"},
}

// places are where in a group of so many sockets is ours.
var places = []struct{ members, ours int }{{1, 0}, {2, 0}, {2, 1}, {3, 1}, {5, 4}, {9, 8}}

// eachGroup runs a test for each group.
func eachGroup(t *testing.T, test func(t *testing.T, members, ours int, bound, asked string)) {
	for _, at := range groups {
		for _, place := range places {
			name := fmt.Sprintf("%s is asked at %s, %d of %d", at.asked, at.bound, place.ours, place.members)
			t.Run(name, func(t *testing.T) { test(t, place.members, place.ours, at.bound, at.asked) })
		}
	}
}

// datagramGroup binds the sockets of a group. Others count what comes to them, and answer nothing.
func datagramGroup(t *testing.T, s source, members, ours int, address string) (
	d *datagrams, others []net.PacketConn, strays *atomic.Int64) {
	t.Helper()
	strays = &atomic.Int64{}
	for i := range members {
		conn, err := sharing.ListenPacket(t.Context(), network("udp", address), address)
		needs.Address(t, address, err)
		t.Cleanup(func() { conn.Close() })
		address = rebound(address, conn.LocalAddr())
		if i != ours {
			others = append(others, conn)
			go countDatagrams(conn, strays)
			continue
		}
		if d, err = newDatagrams(conn.(*net.UDPConn), s, 1000); err != nil {
			t.Fatal(err)
		}
	}
	return d, others, strays
}

// rebound is the address with the port that the first socket was given.
func rebound(address string, first net.Addr) string {
	host, _, _ := net.SplitHostPort(address)
	_, port, _ := net.SplitHostPort(first.String())
	return net.JoinHostPort(host, port)
}

// countDatagrams counts queries that come to another member of the group. Probes are none.
func countDatagrams(conn net.PacketConn, strays *atomic.Int64) {
	buffer := make([]byte, packets.Most)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		if n >= headerSize {
			strays.Add(1)
		}
	}
}

// manyPorts asks a socket so many questions from each of so many ports, and waits for each reply.
func manyPorts(t *testing.T, ports, questions int, asked netip.AddrPort) {
	t.Helper()
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range ports / 8 {
				c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(asked))
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(patient))
				reply := make([]byte, packets.Most)
				for i := range questions {
					query := question("%d", i)
					c.Write(query)
					if n, err := c.Read(reply); err != nil || !bytes.Equal(reply[:n], query) {
						t.Errorf("%s asks: %q, %v", c.LocalAddr(), reply[:n], err)
						break
					}
				}
				c.Close()
			}
		})
	}
	clients.Wait()
}

// TestSteerDatagrams: whichever number ours has, all queries of all clients come to it.
func TestSteerDatagrams(t *testing.T) {
	eachGroup(t, func(t *testing.T, members, ours int, bound, asked string) {
		d, _, strays := datagramGroup(t, echo, members, ours, bound)
		go d.run()
		defer d.close(t.Context())
		if err := d.steer(); err != nil {
			t.Fatal(err)
		}
		manyPorts(t, 80, 5, netip.AddrPortFrom(netip.MustParseAddr(asked), d.port()))
		if n := strays.Load(); n > 0 {
			t.Errorf("%d queries came to others", n)
		}
	})
}

// TestSteerManyDatagrams: 20,000 queries from 4,000 ports, in a large group.
func TestSteerManyDatagrams(t *testing.T) {
	d, _, strays := datagramGroup(t, echo, 70, 68, "127.0.0.1:0")
	go d.run()
	defer d.close(t.Context())
	if err := d.steer(); err != nil {
		t.Fatal(err)
	}
	manyPorts(t, 4000, 5, d.conn.LocalAddr().(*net.UDPAddr).AddrPort())
	if n := strays.Load(); n > 0 {
		t.Errorf("%d queries came to others", n)
	}
}

// TestSteerLosesNothing: while ours is searched, again and again, and others answer as it does, no query gets lost.
func TestSteerLosesNothing(t *testing.T) {
	d, _, _ := datagramGroup(t, echo, 1, 0, "127.0.0.1:0")
	address := d.conn.LocalAddr().String()
	go d.run()
	defer d.close(t.Context())
	for range 4 {
		other, err := listenDatagrams(address)
		if err != nil {
			t.Fatal(err)
		}
		o, err := newDatagrams(other, echo, 1000)
		if err != nil {
			t.Fatal(err)
		}
		go o.run()
		defer o.close(t.Context())
	}
	asked := make(chan struct{})
	go func() { manyPorts(t, 160, 50, netip.MustParseAddrPort(address)); close(asked) }()
	for {
		d.group.found = false
		if err := d.steer(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-asked:
			return
		default:
		}
	}
}

// TestSteerGoesOn: while it is seen that ours still has the number that was found, all goes on to come to it.
func TestSteerGoesOn(t *testing.T) {
	d, _, strays := datagramGroup(t, echo, 4, 1, "127.0.0.1:0")
	go d.run()
	defer d.close(t.Context())
	steer := func() {
		if err := d.steer(); err != nil {
			t.Fatal(err)
		}
	}
	steer()
	var enough atomic.Bool
	var asking sync.WaitGroup
	defer asking.Wait()
	defer enough.Store(true)
	asking.Go(func() {
		for !enough.Load() {
			c, err := net.Dial("udp", d.conn.LocalAddr().String())
			if err != nil {
				t.Error(err)
				return
			}
			c.Write(question("to whom?")) //nolint:errcheck // most come
			c.Close()
		}
	})
	for range 50 {
		steer()
	}
	if n := strays.Load(); n > 0 {
		t.Errorf("%d queries came to others", n)
	}
}

// TestSteerDatagramsAgain: a member closes, and the last, which is ours, takes its number. Steered to
// again, ours has all.
func TestSteerDatagramsAgain(t *testing.T) {
	d, others, strays := datagramGroup(t, echo, 4, 3, "127.0.0.1:0")
	go d.run()
	defer d.close(t.Context())
	asked := d.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, other := range others {
		if err := d.steer(); err != nil {
			t.Fatal(err)
		}
		manyPorts(t, 80, 2, asked)
		other.Close()
	}
	manyPorts(t, 80, 2, asked) // alone
	if n := strays.Load(); n > 0 {
		t.Errorf("%d queries came to others", n)
	}
}

// TestSteerUnread: a socket that nobody reads has no number to be found. The error says where, and the hash
// chooses again: the others have their part.
func TestSteerUnread(t *testing.T) {
	d, _, strays := datagramGroup(t, echo, 2, 0, "127.0.0.1:0")
	err := d.steer()
	if !errors.Is(err, errNotFound) || !strings.Contains(err.Error(), d.conn.LocalAddr().String()) {
		t.Fatalf("not read, but: %v", err)
	}
	for range 200 { // the hash chooses ours for all once in 2^200 times
		c := dialed(t, d, "127.0.0.1")
		ttl(t, c, 1) // the program of the search would choose number 0, ours
		asks(t, c, question("to whom?"))
	}
	await(t, "a query at the other socket", func() bool { return strays.Load() > 0 })
	go d.run()
	d.close(t.Context())
}

// ttl sets that of what a client sends.
func ttl(t *testing.T, c *net.UDPConn, hops int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, hops) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSteerDoubts: one probe is said to have come to us, but it came to another. The confirmations do not come, and the
// search goes on.
func TestSteerDoubts(t *testing.T) {
	other, err := sharing.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ours, err := listenDatagrams(other.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDatagrams(ours, echo, 1000)
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan bool, 1)
	go func() {
		_, from, err := other.ReadFrom(make([]byte, probeSize))
		said <- err == nil && d.probes.took(from.(*net.UDPAddr).AddrPort())
		go d.run()
	}()
	if err := d.steer(); err != nil {
		t.Fatal(err)
	}
	if !<-said {
		t.Error("what came first to the other was no probe")
	}
	manyPorts(t, 80, 2, d.conn.LocalAddr().(*net.UDPAddr).AddrPort())
	d.close(t.Context())
}

// TestProbes: each is taken once, whatever comes from its address later; others are none.
func TestProbes(t *testing.T) {
	var p probes
	from := netip.MustParseAddrPort("[::ffff:127.0.0.1]:1024")
	if p.took(from) {
		t.Error("before any is expected")
	}
	arrived := p.expect(map[netip.AddrPort]int{netip.MustParseAddrPort("127.0.0.1:1024"): 7})
	if !p.took(from) || p.took(from) || <-arrived != 7 {
		t.Error("not taken, or taken twice")
	}
	if p.took(netip.MustParseAddrPort("127.0.0.1:1025")) {
		t.Error("from another port")
	}
}

// await waits for what has to come.
func await(t *testing.T, what string, come func() bool) {
	t.Helper()
	for until := time.Now().Add(patient); !come(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%s: never", what)
		}
	}
}

// TestProbesInAFlood: our buffer is full when the probes are sent, and they are lost. They are sent again.
func TestProbesInAFlood(t *testing.T) {
	d := bound(t, echo, "127.0.0.1:0")
	c := dialed(t, d, "127.0.0.1")
	for !dropping(t, d) {
		asks(t, c, make([]byte, headerSize))
	}
	s := search{raw: d.raw, probes: &d.probes, kind: unix.SOCK_DGRAM}
	if err := s.aim(d.conn.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(3*repetition, d.run)
	if came, err := s.probe(4, 4, patient); len(came) != 4 || err != nil {
		t.Errorf("of 4 probes %d have come: %v", len(came), err)
	}
	d.close(t.Context())
}

// dropping reports whether the buffer of a socket has no room.
func dropping(t *testing.T, d *datagrams) bool {
	t.Helper()
	var memory [9]uint32 // SK_MEMINFO_DROPS is the last
	size := uint32(unsafe.Sizeof(memory))
	var err unix.Errno
	d.raw.Control(func(fd uintptr) {
		_, _, err = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&memory)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != 0 {
		t.Fatal(err)
	}
	return memory[8] > 0
}

// connectionGroup binds the listeners of a group. All accept; others count.
func connectionGroup(t *testing.T, members, ours int, address string) (
	l *steered, others []net.Listener, came, strays *atomic.Int64) {
	t.Helper()
	came, strays = &atomic.Int64{}, &atomic.Int64{}
	for i := range members {
		var listener net.Listener
		var err error
		count := strays
		if i == ours {
			l, err = listenConnections(address)
			listener, count = l, came
		} else {
			listener, err = sharing.Listen(t.Context(), "tcp", address)
			others = append(others, listener)
		}
		needs.Address(t, address, err)
		t.Cleanup(func() { listener.Close() })
		address = rebound(address, listener.Addr())
		go countConnections(listener, count)
	}
	return l, others, came, strays
}

// countConnections counts connections over which something comes, and sends it back. Over those of probes nothing does.
func countConnections(l net.Listener, count *atomic.Int64) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buffer := make([]byte, 100)
			if n, err := conn.Read(buffer); err == nil {
				count.Add(1)
				conn.Write(buffer[:n])
			}
		}()
	}
}

// manyConnections are made one after another, each for one question.
func manyConnections(t *testing.T, count int, asked netip.AddrPort) {
	t.Helper()
	for range count {
		c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(asked))
		if err != nil {
			t.Fatal(err)
		}
		asks(t, c, question("over TCP"))
		gets(t, c, question("over TCP"))
		c.SetLinger(0)
		c.Close()
	}
}

// TestSteerConnections: whichever number ours has, all connections of all clients come to it.
func TestSteerConnections(t *testing.T) {
	eachGroup(t, func(t *testing.T, members, ours int, bound, asked string) {
		if network("tcp", bound) != "tcp" {
			bound = "[::]:0" // which Go has 0.0.0.0 be
		}
		l, _, came, strays := connectionGroup(t, members, ours, bound)
		if err := l.steer(); err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		manyConnections(t, 100, netip.AddrPortFrom(netip.MustParseAddr(asked), port))
		if n := strays.Load(); n > 0 || came.Load() != 100 {
			t.Errorf("%d connections came to others, %d of 100 to us", n, came.Load())
		}
	})
}

// TestSteerConnectionsAgain: a listener closes, and the last, which is ours, takes its number.
func TestSteerConnectionsAgain(t *testing.T) {
	l, others, came, strays := connectionGroup(t, 4, 3, "127.0.0.1:0")
	for _, other := range others {
		if err := l.steer(); err != nil {
			t.Fatal(err)
		}
		manyConnections(t, 50, l.Addr().(*net.TCPAddr).AddrPort())
		other.Close()
	}
	manyConnections(t, 50, l.Addr().(*net.TCPAddr).AddrPort())
	if n := strays.Load(); n > 0 || came.Load() != 200 {
		t.Errorf("%d connections came to others, %d of 200 to us", n, came.Load())
	}
}

// TestSteerWithoutGroup: a socket that shares its address with none by SO_REUSEPORT. The kernel says that.
func TestSteerWithoutGroup(t *testing.T) {
	d := reading(t, echo, "127.0.0.1:0")
	if err := d.steer(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("steered: %v", err)
	}
}

// TestSteerOverLinkLocal: the address of the probes has a zone.
func TestSteerOverLinkLocal(t *testing.T) {
	if !apart(t) {
		return
	}
	asked, _ := linkLocal(t)
	d, _, strays := datagramGroup(t, echo, 2, 1, netip.AddrPortFrom(asked, 0).String())
	go d.run()
	defer d.close(t.Context())
	if err := d.steer(); err != nil {
		t.Fatal(err)
	}
	manyPorts(t, 80, 5, netip.AddrPortFrom(asked, d.port()))
	if n := strays.Load(); n > 0 {
		t.Errorf("%d queries came to others", n)
	}
}
