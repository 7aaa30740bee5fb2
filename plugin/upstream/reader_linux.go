package upstream

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// reader reads from all sockets of a Set in one goroutine, which waits on one epoll descriptor. The zero value is
// ready. It is safe for concurrent use.
type reader struct {
	mu      sync.Mutex
	epoll   *os.File // nil before the first socket
	closed  bool
	sockets map[int32]*socket
	latest  int32
	running sync.WaitGroup
}

// watch reads from s until it is closed.
func (r *reader) watch(s *socket) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	if err := r.open(); err != nil {
		return unreachable("could not be asked over UDP", err)
	}
	r.latest++
	number := r.latest
	var failed error
	err := s.raw.Control(func(fd uintptr) {
		failed = r.control(int(fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: number})
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return unreachable("could not be asked over UDP", err)
	}
	r.sockets[number] = s
	closing := s.closing
	s.closing = func() {
		r.forget(number)
		closing()
	}
	return nil
}

// open makes the descriptor and begins to read. Go's own poller watches it, so that no thread waits in the kernel.
func (r *reader) open() error {
	if r.epoll != nil {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	r.epoll, r.sockets = os.NewFile(uintptr(fd), "epoll"), map[int32]*socket{}
	raw, err := r.epoll.SyscallConn()
	if err != nil {
		return err
	}
	r.running.Go(func() {
		events := make([]unix.EpollEvent, 128)
		raw.Read(func(fd uintptr) bool { return r.read(int(fd), events) })
	})
	return nil
}

func (r *reader) control(fd int, event *unix.EpollEvent) error {
	raw, err := r.epoll.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(epoll uintptr) {
		failed = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, fd, event))
	})
	if err != nil {
		return err
	}
	return failed
}

// read reads until nothing is left.
func (r *reader) read(epoll int, events []unix.EpollEvent) (done bool) {
	buf := datagrams.Get().(*[datagramSize]byte)
	defer datagrams.Put(buf)
	for {
		n, err := unix.EpollWait(epoll, events, 0)
		if n <= 0 && err != unix.EINTR {
			return false
		}
		for _, e := range events[:max(n, 0)] {
			r.mu.Lock()
			s := r.sockets[e.Fd]
			r.mu.Unlock()
			if s != nil {
				s.receive(buf[:])
			}
		}
	}
}

func (r *reader) forget(number int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sockets, number)
}

// close ends the goroutine. No socket is watched after that.
func (r *reader) close() {
	r.mu.Lock()
	r.closed = true
	epoll := r.epoll
	r.mu.Unlock()
	if epoll != nil {
		epoll.Close()
	}
	r.running.Wait()
}

// look takes all that has arrived.
func (s *socket) look() {
	buf := datagrams.Get().(*[datagramSize]byte)
	defer datagrams.Put(buf)
	for s.receive(buf[:]) {
	}
}

// receive takes one datagram, if there is any.
func (s *socket) receive(buf []byte) bool {
	var n int
	var err error
	if s.raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), buf)
		return true
	}) != nil || err == unix.EAGAIN || err == unix.EINTR {
		return false // closed, or nothing is there
	}
	if err != nil {
		s.failed(os.NewSyscallError("read", err))
		return false
	}
	s.arrived(buf[:n])
	return true
}
