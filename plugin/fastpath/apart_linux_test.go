package fastpath

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/danelaw-dns/danelaw/test/needs"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// apart has a test run in a process with a network of its own, where it reports true. Its loopback interface is not up.
func apart(t *testing.T) bool {
	t.Helper()
	const inside = "DANELAW_FASTPATH_INSIDE"
	if os.Getenv(inside) != "" {
		return true
	}
	needs.Root(t)
	test := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	test.Env = append(os.Environ(), inside+"=1")
	test.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	said, err := test.CombinedOutput()
	switch failed := (&exec.ExitError{}); {
	case errors.As(err, &failed):
		t.Fatalf("%s", said)
	case err == nil && bytes.Contains(said, []byte("--- SKIP")):
		err = fmt.Errorf("%s", said)
	}
	needs.Host(t, err)
	return false
}

// sysctl sets something of the network.
func sysctl(t *testing.T, name, value string) {
	t.Helper()
	needs.Host(t, os.WriteFile("/proc/sys/net/"+name, []byte(value), 0))
}

// setInterface sets something of an interface.
func setInterface(t *testing.T, file int, request uint, name string, set func(*unix.Ifreq) error) {
	t.Helper()
	what, err := unix.NewIfreq(name)
	if err == nil {
		err = set(what)
	}
	if err == nil {
		err = unix.IoctlIfreq(file, request, what)
	}
	if err != nil {
		t.Fatalf("%s, request %#x: %v", name, request, err)
	}
}

// setFlags has an interface be up, or down.
func setFlags(t *testing.T, name string, flags uint16) {
	t.Helper()
	socket := control4(t)
	setInterface(t, socket, unix.SIOCSIFFLAGS, name, func(r *unix.Ifreq) error { r.SetUint16(flags); return nil })
}

// control4 is a socket of this network, to ask the kernel by.
func control4(t *testing.T) int {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(socket) })
	return socket
}

// TestSteerWithoutIPv6: a host that has none, as containers often are. Go listens on [::] there all the same.
func TestSteerWithoutIPv6(t *testing.T) {
	if !apart(t) {
		return
	}
	sysctl(t, "ipv6/conf/all/disable_ipv6", "1")
	setFlags(t, "lo", unix.IFF_UP)
	d, _, strays := datagramGroup(t, echo, 2, 1, "[::]:0")
	go d.run()
	defer d.close(t.Context())
	l, _, came, streamStrays := connectionGroup(t, 2, 1, "[::]:0")
	if err := errors.Join(d.steer(), l.steer()); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		c := dialed(t, d, "127.0.0.1")
		asks(t, c, question("without IPv6"))
		gets(t, c, question("without IPv6"))
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	manyConnections(t, 50, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	if n := strays.Load() + streamStrays.Load(); n > 0 || came.Load() != 50 {
		t.Errorf("%d queries and connections came to others, %d of 50 connections to us", n, came.Load())
	}
}

// TestFullSendBuffer: it is full of datagrams to a neighbour whose hardware address nobody tells. Queries are read all
// the same, and what can be answered is dropped; an answer given later waits. When there is room again, all is as
// before.
func TestFullSendBuffer(t *testing.T) {
	if !apart(t) {
		return
	}
	setFlags(t, "lo", unix.IFF_UP)
	ethernet(t, "deaf", 192, 0, 2, 1)
	deaf := netip.MustParseAddrPort("192.0.2.2:53")
	seen, sent := make(chan string, 1), make(chan error)
	d := reading(t, datagramSource{
		atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
			text := string(query[headerSize:])
			seen <- text
			return append(dst, query...), text != "later"
		},
		inTime: func(_ context.Context, query []byte, w replier) {
			_, err := w.Write(query)
			sent <- err
		},
	}, "0.0.0.0:0")
	fill(t, d, deaf)

	c := dialed(t, d, "127.0.0.1")
	for _, text := range []string{"one", "later", "two", "three"} {
		asks(t, c, question("%s", text))
		if got := <-seen; got != text {
			t.Fatalf("%q has been read, not %q", got, text)
		}
	}
	select {
	case err := <-sent:
		t.Errorf("an answer for later, though there is no room: %v", err)
	default:
	}

	setFlags(t, "deaf", 0) // what waits for the neighbour goes
	if err := <-sent; err != nil {
		t.Errorf("an answer for later, now that there is room: %v", err)
	}
	asks(t, c, question("after"))
	<-seen
	var replies []string
	for buffer := make([]byte, packets.Most); len(replies) == 0 || replies[len(replies)-1] != "after"; {
		c.SetReadDeadline(time.Now().Add(patient))
		n, err := c.Read(buffer)
		if err != nil {
			t.Fatalf("after %q: %v", replies, err)
		}
		replies = append(replies, string(bytes.TrimLeft(buffer[:n], "\x00")))
	}
	if len(replies) > 3 { // the last query before may have been answered when there was room
		t.Errorf("replies to %q", replies)
	}
}

// TestFullSendBufferOfTheReady: a reply that is ready then waits for room, and its query with it.
func TestFullSendBufferOfTheReady(t *testing.T) {
	if !apart(t) {
		return
	}
	setFlags(t, "lo", unix.IFF_UP)
	ethernet(t, "deaf", 192, 0, 2, 1)
	s := &waiting{datagramSource: deferring(nil), begun: make(chan struct{}, 1), answer: make(chan struct{})}
	d := reading(t, s, "0.0.0.0:0")
	fill(t, d, netip.MustParseAddrPort("192.0.2.2:53"))
	c := dialed(t, d, "127.0.0.1")
	asks(t, c, question("is there room?"))
	<-s.begun
	close(s.answer)
	time.Sleep(20 * time.Millisecond)
	if s.over.Load() > 0 {
		t.Error("it is over, though there is no room")
	}
	setFlags(t, "deaf", 0) // what waits for the neighbour goes
	gets(t, c, question("is there room?"))
}

// TestReplyTakesItsRoute: a query comes by one interface, but the way to its client leads by another.
func TestReplyTakesItsRoute(t *testing.T) {
	if !apart(t) {
		return
	}
	in, out := ethernet(t, "in", 192, 0, 2, 1), ethernet(t, "out", 198, 51, 100, 1)
	for _, of := range []string{"all", "in"} {
		sysctl(t, "ipv4/conf/"+of+"/rp_filter", "0")
	}
	for i, address := range []string{"0.0.0.0:0", "[::]:0"} {
		d := reading(t, echo, address)
		asker := netip.AddrFrom4([4]byte{198, 51, 100, byte(2 + i)})
		asked := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), d.port())
		if _, err := in.Write(frame(netip.AddrPortFrom(asker, 1024), asked, question("by in"))); err != nil {
			t.Fatal(err)
		}
		soughtAt(t, out, asked.Addr(), asker)
	}
}

// soughtAt waits for the ARP request by which an address of ours looks for another at an Ethernet.
func soughtAt(t *testing.T, at *os.File, by, sought netip.Addr) {
	t.Helper()
	seen := make(chan struct{})
	go func() {
		for frame := make([]byte, 2000); ; {
			n, err := at.Read(frame)
			if err != nil {
				return
			}
			if arp := n >= 42 && bytes.Equal(frame[12:14], []byte{8, 6}); arp &&
				bytes.Equal(frame[28:32], by.AsSlice()) && bytes.Equal(frame[38:42], sought.AsSlice()) {
				close(seen)
				return
			}
		}
	}()
	select {
	case <-seen:
	case <-time.After(patient):
		t.Fatalf("%s does not look for %s there", by, sought)
	}
}

// frame is a datagram on an Ethernet, to all.
func frame(from, to netip.AddrPort, text []byte) []byte {
	f := append(bytes.Repeat([]byte{0xff}, 6), 2, 0, 0, 0, 0, 1, 8, 0) // to, from, IPv4
	header := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(header[2:], uint16(28+len(text)))
	header = append(append(header, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum+sum>>16))
	f = append(f, header...)
	f = binary.BigEndian.AppendUint16(f, from.Port())
	f = binary.BigEndian.AppendUint16(f, to.Port())
	f = binary.BigEndian.AppendUint16(f, uint16(8+len(text)))
	return append(append(f, 0, 0), text...) // no checksum
}

// ethernet makes an interface of an address, at which we hear what leaves. Nobody answers there.
func ethernet(t *testing.T, name string, address ...byte) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0) // os would poll it too early
	needs.Host(t, os.NewSyscallError("open /dev/net/tun", err))
	tap := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { tap.Close() })
	setInterface(t, fd, unix.TUNSETIFF, name, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return nil
	})
	socket := control4(t)
	setInterface(t, socket, unix.SIOCSIFADDR, name, func(r *unix.Ifreq) error {
		return r.SetInet4Addr(address) // a /24
	})
	setFlags(t, name, unix.IFF_UP)
	return tap
}

// fill fills the send buffer of a socket, once it is small.
func fill(t *testing.T, d *datagrams, to netip.AddrPort) {
	t.Helper()
	if err := d.conn.SetWriteBuffer(4096); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 100 {
		d.raw.Control(func(fd uintptr) {
			err = unix.Sendto(int(fd), make([]byte, 100), unix.MSG_DONTWAIT, sockaddr(to))
		})
		if err != nil {
			break
		}
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("the buffer is not full: %v", err)
	}
}

// linkLocal is a link-local address of an interface that it makes, and one of the same interface that says nothing of
// it.
func linkLocal(t *testing.T) (address, plain netip.Addr) {
	t.Helper()
	setFlags(t, "lo", unix.IFF_UP) // by which a host hears itself
	for _, of := range []string{"all", "default"} {
		sysctl(t, "ipv6/conf/"+of+"/accept_dad", "0") // nobody is there who could have the addresses, too
	}
	const name = "link"
	ethernet(t, name, 192, 0, 2, 1)
	plain = netip.MustParseAddr("2001:db8::1")
	add(t, name, plain)
	for over := time.Now().Add(patient); time.Now().Before(over); time.Sleep(time.Millisecond) {
		for _, address := range addresses(t) {
			if address.Zone() == name && usable(address) && usable(plain) {
				return address, plain
			}
		}
	}
	t.Fatal("the interface has no addresses")
	return address, plain
}

// usable reports whether the kernel has found, as it does beside us, that nobody else has an address.
func usable(address netip.Addr) bool {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// add gives an interface an address of IPv6.
func add(t *testing.T, name string, address netip.Addr) {
	t.Helper()
	at, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	what := struct { // in6_ifreq of linux/ipv6.h
		address [16]byte
		bits    uint32
		index   int32
	}{address.As16(), 64, int32(at.Index)}
	_, _, failed := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&what)))
	if failed != 0 {
		t.Fatal(failed)
	}
}
