package packets

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is a UDP socket. It is for one goroutine.
type Socket struct {
	fd    int
	batch *Batch
	read  time.Time // when the batch was received
}

// buffer is how many octets may wait in a socket, as far as the system allows.
const buffer = 4 << 20

// Dial opens a socket that sends to one address and receives from it only.
func Dial(to netip.AddrPort) (*Socket, error) {
	return open(to, func(fd int, to unix.Sockaddr) error {
		// a kernel before 5.1 does not know it
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1) //nolint:errcheck // Came says what then
		return unix.Connect(fd, to)
	})
}

// Listen opens a socket that receives from all; port 0 is a free one.
func Listen(at netip.AddrPort) (*Socket, error) {
	return open(at, unix.Bind)
}

// sockaddr is an address as the kernel has it, and its family.
func sockaddr(a netip.AddrPort) (family int, at unix.Sockaddr) {
	addr := a.Addr().Unmap()
	if addr.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: addr.As4(), Port: int(a.Port())}
	}
	six := &unix.SockaddrInet6{Addr: addr.As16(), Port: int(a.Port())}
	if on, err := net.InterfaceByName(addr.Zone()); err == nil {
		six.ZoneId = uint32(on.Index)
	}
	return unix.AF_INET6, six
}

// open makes a socket for an address and prepares it.
func open(at netip.AddrPort, prepare func(fd int, at unix.Sockaddr) error) (*Socket, error) {
	family, to := sockaddr(at)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	for _, size := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, size, buffer) //nolint:errcheck // the system's default will do
	}
	for _, size := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, size, buffer) //nolint:errcheck // only root may
	}
	if err := prepare(fd, to); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Socket{fd: fd, batch: NewBatch()}, nil
}

// Addr is its own address.
func (s *Socket) Addr() (netip.AddrPort, error) {
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if six, ok := name.(*unix.SockaddrInet6); ok {
		return netip.AddrPortFrom(netip.AddrFrom16(six.Addr), uint16(six.Port)), nil
	}
	four := name.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), uint16(four.Port)), nil
}

// Close closes it.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// Receive reads what there is, or what comes first within a time. That nothing comes is no error.
func (s *Socket) Receive(wait time.Duration) (int, error) {
	n, err := s.batch.Receive(uintptr(s.fd), Size)
	if err == unix.EAGAIN && wait > 0 {
		if err := s.poll(unix.POLLIN, wait); err != nil {
			return 0, err
		}
		n, err = s.batch.Receive(uintptr(s.fd), Size)
	}
	s.read = time.Now()
	if err != 0 && err != unix.EAGAIN {
		return 0, err
	}
	return n, nil
}

// poll waits for something to happen.
func (s *Socket) poll(what int16, wait time.Duration) error {
	timeout := unix.NsecToTimespec(wait.Nanoseconds())
	_, err := unix.Ppoll([]unix.PollFd{{Fd: int32(s.fd), Events: what}}, &timeout, nil)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// Datagram is one of those received, until more are.
func (s *Socket) Datagram(i int) []byte { return s.batch.Datagram(i) }

// Came is when a datagram came to a socket that was dialled, however long it has waited there for Receive; if the
// kernel does not tell, when it was received.
func (s *Socket) Came(i int) time.Time {
	came := s.batch.came(i)
	if came.IsZero() {
		return s.read
	}
	return s.read.Add(-max(0, s.read.Round(0).Sub(came)))
}

// Reply queues what is sent to whoever has sent a datagram. Neither may change until it is sent.
func (s *Socket) Reply(i int, text []byte) error {
	s.batch.Reply(i, text)
	return s.full()
}

// Queue queues what is sent to the address that was dialled. It may not change until it is sent.
func (s *Socket) Queue(text []byte) error {
	s.batch.Queue(text)
	return s.full()
}

// full sends what is queued if there is no room for more.
func (s *Socket) full() error {
	if s.batch.Full() {
		return s.Send()
	}
	return nil
}

// Send sends what is queued. At an error the rest of it is dropped.
func (s *Socket) Send() error {
	defer s.batch.Drop()
	for {
		switch err := s.batch.Send(uintptr(s.fd)); err {
		case 0:
			return nil
		case unix.EAGAIN:
			if err := s.poll(unix.POLLOUT, look); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// look is how long a look at a full buffer takes.
const look = 10 * time.Millisecond
