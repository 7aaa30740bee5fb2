package packets

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is a UDP socket. It is for one goroutine.
type Socket struct {
	fd              int
	in, out         [Batch]message
	queries, texts  [Batch]unix.Iovec
	names           [Batch]unix.RawSockaddrInet4
	octets          [Batch][maxSize]byte
	received, ready int // how many of in, and of out
}

// message is the kernel's struct mmsghdr.
type message struct {
	unix.Msghdr
	octets uint32
}

// buffer is how many octets may wait in a socket, as far as the system allows.
const buffer = 4 << 20

// Dial opens a socket that sends to one address and receives from it only.
func Dial(to netip.AddrPort) (*Socket, error) {
	return open(func(fd int) error { return unix.Connect(fd, sockaddr(to)) })
}

// Listen opens a socket that receives from all; port 0 is a free one.
func Listen(at netip.AddrPort) (*Socket, error) {
	return open(func(fd int) error { return unix.Bind(fd, sockaddr(at)) })
}

func sockaddr(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: a.Addr().Unmap().As4(), Port: int(a.Port())}
}

func open(prepare func(fd int) error) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	for _, size := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, size, buffer) //nolint:errcheck // the system's default will do
	}
	for _, size := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, size, buffer) //nolint:errcheck // only root may
	}
	if err := prepare(fd); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	s := &Socket{fd: fd, received: Batch}
	for i := range s.in {
		s.queries[i].Base = &s.octets[i][0]
		s.queries[i].SetLen(maxSize)
		s.in[i].Iov, s.out[i].Iov = &s.queries[i], &s.texts[i]
		s.in[i].SetIovlen(1)
		s.out[i].SetIovlen(1)
		s.in[i].Name = (*byte)(unsafe.Pointer(&s.names[i]))
	}
	return s, nil
}

// Addr is its own address.
func (s *Socket) Addr() (netip.AddrPort, error) {
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	at := name.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port)), nil
}

// Close closes it.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// Receive reads what there is, or what comes first within a time. That nothing comes is no error.
func (s *Socket) Receive(wait time.Duration) (n int, err error) {
	for i := range s.received { // the kernel has written here, last time
		s.in[i].Namelen, s.in[i].Flags = unix.SizeofSockaddrInet4, 0
	}
	s.received, err = s.transfer(unix.SYS_RECVMMSG, s.in[:])
	if errors.Is(err, unix.EAGAIN) && wait > 0 {
		if err := s.poll(unix.POLLIN, wait); err != nil {
			return 0, err
		}
		s.received, err = s.transfer(unix.SYS_RECVMMSG, s.in[:])
	}
	if errors.Is(err, unix.EAGAIN) {
		err = nil
	}
	return s.received, err
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
func (s *Socket) Datagram(i int) []byte { return s.octets[i][:s.in[i].octets] }

// Reply queues what is sent to whoever has sent a datagram. Neither may change until it is sent.
func (s *Socket) Reply(i int, text []byte) error {
	s.out[s.ready].Name, s.out[s.ready].Namelen = s.in[i].Name, unix.SizeofSockaddrInet4
	return s.Queue(text)
}

// Queue queues what is sent to the address that was dialled. It may not change until it is sent.
func (s *Socket) Queue(text []byte) error {
	s.texts[s.ready].Base = unsafe.SliceData(text)
	s.texts[s.ready].SetLen(len(text))
	if s.ready++; s.ready == Batch {
		return s.Send()
	}
	return nil
}

// Send sends what is queued. At an error the rest of it is dropped.
func (s *Socket) Send() error {
	defer func() { s.ready = 0 }()
	for next := 0; next < s.ready; {
		n, err := s.transfer(unix.SYS_SENDMMSG, s.out[next:s.ready])
		if errors.Is(err, unix.EAGAIN) {
			err = s.poll(unix.POLLOUT, full)
		}
		if err != nil {
			return err
		}
		next += n
	}
	return nil
}

// full is how long a look at a full buffer takes.
const full = 10 * time.Millisecond

// transfer receives or sends some of the messages, and does not wait.
func (s *Socket) transfer(call uintptr, messages []message) (int, error) {
	for {
		n, _, err := unix.Syscall6(call, uintptr(s.fd), uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)),
			unix.MSG_DONTWAIT, 0, 0)
		switch err {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, err
		}
	}
}
