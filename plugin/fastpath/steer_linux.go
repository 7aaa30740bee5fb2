package fastpath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets that share an address by SO_REUSEPORT are a group, and a hash says which of them gets a packet. A program
// attached to the group says it instead, by the number of a socket; a number too high has the hash choose again, so
// that no packet is lost. Sockets are numbered as they were bound, but when one closes the last takes its number, and
// the kernel tells nobody which number a socket has. It is found by trying, which needs no privileges: a first program
// lets the TTL of each probe choose. The lowest that comes to us tells our number; those above it may have come by the
// hash. Then the program that will stay has to bring us all of some more probes.

const (
	// probeSize is how many octets a probe by UDP has: too few for a DNS message, so that every server ignores it.
	probeSize = 11
	// mostProbes is the size of the largest group that is searched: a TTL holds no more.
	mostProbes = 254
	// confirmations are the probes that have to come to the number found, from a port each: even of two sockets the
	// hash would choose ours for all of them once in 65536 times.
	confirmations = 16
	// repetition is how long a probe may take before it is sent again.
	repetition = 20 * time.Millisecond
	// firstPatience is for the first search, confirmPatience for the confirmations.
	firstPatience, confirmPatience = 100 * time.Millisecond, time.Second
	// networkHeader is SKF_NET_OFF, where a program finds the IP header: -0x100000.
	networkHeader = 1<<32 - 0x100000
)

// listenDatagrams opens another socket at an address, HOST:PORT or :PORT, at which all have SO_REUSEPORT. What cannot
// be read well is not bound, so that nothing is lost there: errUnaddressed.
func listenDatagrams(address string) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		return cmp.Or(share(network, address, c), prepare(network, address, c))
	}}
	conn, err := config.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// listenConnections opens another listener at an address at which all have SO_REUSEPORT. It is one of TCP, though Go
// and so CoreDNS prefer MPTCP: a listener of MPTCP may be in the same group, but takes no program for it.
func listenConnections(address string) (*steered, error) {
	config := net.ListenConfig{Control: share}
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return &steered{TCPListener: l.(*net.TCPListener)}, nil
}

// share lets a socket be bound where others are.
func share(_, _ string, c syscall.RawConn) error {
	return control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
}

// control does something with a socket.
func control(c syscall.RawConn, do func(fd int) error) (err error) {
	failed := c.Control(func(fd uintptr) { err = do(int(fd)) })
	return cmp.Or(failed, err)
}

// steer has the kernel give all datagrams of the socket's group to it. run has to be running. When a socket has joined
// or left the group, it is to be called again.
func (d *datagrams) steer() error {
	d.group.raw, d.group.probes, d.group.kind = d.raw, &d.probes, unix.SOCK_DGRAM
	if err := d.group.steer(d.conn.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		return fmt.Errorf("UDP: %w", err)
	}
	return nil
}

// steered is a listener that can be steered to.
type steered struct {
	*net.TCPListener
	steering
}

// Accept gives the next connection that is no probe.
func (l *steered) Accept() (net.Conn, error) {
	for {
		conn, err := l.TCPListener.Accept()
		if err != nil || !l.probes.took(conn.RemoteAddr().(*net.TCPAddr).AddrPort()) {
			return conn, err
		}
		conn.Close()
	}
}

// steer has the kernel give all connections of the listener's group to it. Somebody has to be accepting them. When a
// listener has joined or left the group, it is to be called again.
func (l *steered) steer() error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	l.group.raw, l.group.probes, l.group.kind = raw, &l.probes, unix.SOCK_STREAM
	if err := l.group.steer(l.Addr().(*net.TCPAddr).AddrPort()); err != nil {
		return fmt.Errorf("TCP: %w", err)
	}
	return nil
}

// errNotFound: probes have been sent, and too few of them came.
var errNotFound = errors.New("probes do not come")

// steering is how a socket learns its place in its group.
type steering struct {
	probes probes
	group  search
}

// away has the kernel give what comes to the other sockets of the group.
func (s *steering) away() error { return s.group.away() }

// probes are those that are expected at a socket.
type probes struct {
	mu       sync.Mutex
	expected map[netip.AddrPort]int // their numbers, by where they come from
	arrived  chan int
}

// took reports whether what has come from an address is a probe, and tells the search.
func (p *probes) took(from netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	number, ok := p.expected[from]
	if ok {
		delete(p.expected, from)
		p.arrived <- number // there is room for all
	}
	return ok
}

// expect replaces the probes that are expected.
func (p *probes) expect(numbers map[netip.AddrPort]int) (arrived <-chan int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected, p.arrived = numbers, make(chan int, len(numbers))
	return p.arrived
}

// search looks for the number of a socket in its group.
type search struct {
	raw    syscall.RawConn
	probes *probes
	kind   int            // SOCK_DGRAM or SOCK_STREAM
	target netip.AddrPort // of the probes
	number int            // of our socket
	found  bool           // that number
}

// steer attaches the program that chooses the socket, if its number is found; else none is left attached. A number that
// was found before is tried first: while another is looked for the kernel gives others of the group what comes.
func (s *search) steer(bound netip.AddrPort) error {
	err := s.aim(bound)
	if s.found && err == nil {
		s.found, err = s.confirm(firstPatience)
	}
	for count, patience := 8, firstPatience; !s.found && err == nil && count < 4*mostProbes; patience *= 2 {
		s.found, err = s.try(min(count, mostProbes), patience)
		count *= 4
	}
	if s.found && err == nil {
		return nil
	}
	control(s.raw, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	})
	return fmt.Errorf("cannot have the kernel give us all that comes to %s: %w", bound, cmp.Or(err, errNotFound))
}

// aim chooses the target: an address that the socket is bound to, from which a probe can be sent, too.
func (s *search) aim(bound netip.AddrPort) (err error) {
	targets := []netip.Addr{bound.Addr().Unmap()}
	if targets[0].IsUnspecified() {
		targets = []netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})} // :: may take both
		if bound.Addr().Is4() {
			targets = targets[1:]
		}
	}
	for _, addr := range targets {
		s.target = netip.AddrPortFrom(addr, bound.Port())
		var fd int
		if fd, _, err = s.open(0); err == nil {
			return unix.Close(fd)
		}
	}
	return err
}

// try looks for the number among so many, and attaches the program that chooses it.
func (s *search) try(count int, patience time.Duration) (found bool, err error) {
	ttl := uint32(networkHeader + 8)
	if s.target.Addr().Is6() {
		ttl-- // IPv6 calls it hop limit
	}
	err = s.attach(
		unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: ttl},
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_SUB | unix.BPF_K, K: 1},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_A})
	if err != nil {
		return false, err
	}
	came, err := s.probe(count, 1, patience)
	if len(came) == 0 || err != nil {
		return false, err
	}
	s.number = slices.Min(came)
	return s.confirm(confirmPatience)
}

// confirm attaches the program that chooses the number, and reports whether that is our socket's.
func (s *search) confirm(patience time.Duration) (ours bool, err error) {
	if err = s.attach(always(s.number)); err != nil {
		return false, err
	}
	came, err := s.probe(confirmations, confirmations, patience)
	return len(came) == confirmations, err
}

// always is the program that chooses one socket.
func always(number int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(number)}
}

// away has the kernel give another of the group what comes from now on. Alone in it, our socket gets it still.
func (s *search) away() error { return s.attach(always(1 - min(s.number, 1))) }

// probe sends so many probes, numbered from 0, until enough of them have come to our socket. It returns their numbers.
func (s *search) probe(count, enough int, patience time.Duration) (came []int, err error) {
	sockets, numbers := make([]int, 0, count), map[netip.AddrPort]int{}
	defer func() {
		for _, fd := range sockets {
			unix.Close(fd)
		}
	}()
	for number := range count {
		fd, from, err := s.open(number)
		if err != nil {
			return nil, err
		}
		sockets, numbers[from] = append(sockets, fd), number
	}
	arrived := s.probes.expect(numbers)
	again := time.NewTicker(repetition)
	defer again.Stop()
	s.send(sockets)
	for over := time.After(patience); len(came) < enough; {
		select {
		case number := <-arrived:
			came = append(came, number)
		case <-again.C:
			s.send(sockets)
		case <-over:
			return came, nil
		}
	}
	return came, nil
}

// open opens the socket of a probe. The number is in the TTL; a connection is reset when it is closed.
func (s *search) open(number int) (fd int, from netip.AddrPort, err error) {
	domain, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TTL
	if s.target.Addr().Is6() {
		domain, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	fd, err = unix.Socket(domain, s.kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, from, err
	}
	unix.SetsockoptInt(fd, level, option, number+1)
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	port := 0
	if err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(s.target.Addr(), 0))); err == nil {
		port, err = boundPort(fd)
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, netip.AddrPortFrom(s.target.Addr().WithZone(""), uint16(port)), err
}

// boundPort is the port that the kernel has given a socket.
func boundPort(fd int) (int, error) {
	switch name, err := unix.Getsockname(fd); name := name.(type) {
	case *unix.SockaddrInet4:
		return name.Port, err
	case *unix.SockaddrInet6:
		return name.Port, err
	default:
		return 0, err
	}
}

// send sends probes. A datagram may come twice: only the first counts. A connection is made once; the kernel repeats
// what is lost of it.
func (s *search) send(sockets []int) {
	to := sockaddr(s.target)
	for _, fd := range sockets {
		if s.kind == unix.SOCK_STREAM {
			unix.Connect(fd, to)
		} else {
			unix.Sendto(fd, make([]byte, probeSize), 0, to)
		}
	}
}

// attach attaches a program to the group.
func (s *search) attach(program ...unix.SockFilter) error {
	code := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return control(s.raw, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &code)
	})
}

// sockaddr is an address as the kernel takes it.
func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	to := &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	if scope, err := net.InterfaceByName(at.Addr().Zone()); err == nil {
		to.ZoneId = uint32(scope.Index)
	}
	return to
}
