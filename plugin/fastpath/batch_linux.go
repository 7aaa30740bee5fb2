package fastpath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many datagrams are read, or replies sent, by one system call.
	batchSize = 64
	// querySize is the most octets of a query: a longer one is dropped.
	querySize = 4 << 10
	// controlSize has room for one control message: which address a datagram has come to.
	controlSize = unix.SizeofCmsghdr + (unix.SizeofInet6Pktinfo+7)&^7
	// sendPatience is how long a batch of replies waits for a full send buffer, in milliseconds: nothing is read then.
	sendPatience = 10
)

// message is the kernel's struct mmsghdr.
type message struct {
	unix.Msghdr
	octets uint32
}

// peer is the other end of a datagram, and which of our addresses it came to.
type peer struct {
	name    [unix.SizeofSockaddrInet6]byte
	control [controlSize]byte
}

// batch is the memory for as many datagrams as one system call reads, and for their replies. All of it is used again
// for the next batch. It is locked while one is answered.
type batch struct {
	sync.Mutex
	in, out         [batchSize]message
	queries, texts  [batchSize]unix.Iovec
	peers           [batchSize]peer
	octets          [batchSize][querySize]byte
	replies         []byte // one after another
	received, ready int    // how many of in, and of out
	zones           zones
	answerer        answerer
}

// newBatch is a batch that has received nothing yet.
func newBatch(a answerer) *batch {
	b := &batch{answerer: a, replies: make([]byte, 0, batchSize<<9), received: batchSize, zones: zones{}}
	for i := range b.in {
		b.queries[i].Base = &b.octets[i][0]
		b.queries[i].SetLen(querySize)
		b.in[i].Iov, b.out[i].Iov = &b.queries[i], &b.texts[i]
		b.in[i].SetIovlen(1)
		b.out[i].SetIovlen(1)
		b.in[i].Name, b.in[i].Control = &b.peers[i].name[0], &b.peers[i].control[0]
	}
	return b
}

// receive reads what there is, and does not wait.
func (b *batch) receive(fd uintptr) (err unix.Errno) {
	for i := range b.received { // the kernel has written here, last time
		b.in[i].Namelen, b.in[i].Flags = uint32(len(b.peers[i].name)), 0
		b.in[i].SetControllen(controlSize)
	}
	b.replies, b.ready = b.replies[:0], 0
	b.received, err = transfer(unix.SYS_RECVMMSG, fd, b.in[:])
	for i := range b.received {
		if b.in[i].Controllen > 0 {
			b.peers[i].leave()
		}
	}
	return err
}

// query is one of the queries received; none if it has been cut.
func (b *batch) query(i int) []byte {
	if b.in[i].Flags&unix.MSG_TRUNC != 0 {
		return nil
	}
	return b.octets[i][:b.in[i].octets]
}

// from is who has sent a query: a socket address as the kernel writes it.
func (b *batch) from(i int) netip.AddrPort {
	name := &b.peers[i].name
	port := binary.BigEndian.Uint16(name[2:])
	if binary.NativeEndian.Uint16(name[:]) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(name[4:8])), port)
	}
	addr := netip.AddrFrom16([16]byte(name[8:24])).Unmap()
	if scope := binary.NativeEndian.Uint32(name[24:]); scope != 0 {
		addr = addr.WithZone(b.zones.name(scope))
	}
	return netip.AddrPortFrom(addr, port)
}

// reply adds a reply to those that send sends.
func (b *batch) reply(i int, text []byte) {
	b.out[b.ready].answer(&b.in[i], &b.peers[i], text)
	b.ready++
}

// send sends the replies. One that cannot be sent is dropped.
func (b *batch) send(fd uintptr) {
	for next, waited := 0, false; next < b.ready; {
		n, err := transfer(unix.SYS_SENDMMSG, fd, b.out[next:b.ready])
		switch {
		case err == 0:
			next += n
		case err == unix.EAGAIN && waited:
			return
		case err == unix.EAGAIN:
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, sendPatience)
			waited = true
		default:
			next++ // what the error is about is the first of those that were left
		}
	}
}

// transfer receives or sends some of the messages, and does not wait. So the scheduler of Go need not be told of the
// call: where it is, and the call takes more than 20 µs as one with many replies does, it starts a thread to do other
// work meanwhile, which has to find out that there is none.
func transfer(call, fd uintptr, messages []message) (int, unix.Errno) {
	for {
		n, _, err := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)),
			unix.MSG_DONTWAIT, 0, 0)
		switch err {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, err
		}
	}
}

// answer makes a message the reply to another, which has come from a peer.
func (m *message) answer(query *message, from *peer, text []byte) {
	m.Name, m.Namelen = &from.name[0], query.Namelen
	m.Control, m.Controllen = &from.control[0], query.Controllen
	m.Iov.Base = unsafe.SliceData(text)
	m.Iov.SetLen(len(text))
}

// leave makes of the control message that came with a query the one that has the reply leave from the address that the
// query came to. The interface is for the routes to choose, but for a link-local address, which is none without it.
func (p *peer) leave() {
	info := p.control[unix.SizeofCmsghdr:]
	if binary.NativeEndian.Uint32(p.control[unix.SizeofCmsghdr-8:]) == unix.IPPROTO_IP { // in_pktinfo
		clear(info[:4])
	} else if !netip.AddrFrom16([16]byte(info[:16])).IsLinkLocalUnicast() { // in6_pktinfo
		clear(info[16:20])
	}
}

// zones are the names of interfaces by their numbers.
type zones map[uint32]string

func (z zones) name(number uint32) string {
	name, known := z[number]
	if !known {
		name = strconv.Itoa(int(number))
		if at, err := net.InterfaceByIndex(int(number)); err == nil {
			name = at.Name
		}
		z[number] = name
	}
	return name
}
