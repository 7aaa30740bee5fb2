package packets

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlSize has room for one control message: which address a datagram has come to.
const controlSize = unix.SizeofCmsghdr + (unix.SizeofInet6Pktinfo+7)&^7

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

// Batch is the memory for as many datagrams as one system call reads, and for those that another sends. All of it is
// used again for the next batch.
type Batch struct {
	in, out              [Size]message
	texts, sent          [Size]unix.Iovec // of in, and of out
	peers                [Size]peer
	octets               *[Size][Most]byte // outside Go's heap, where they would have as much garbage beside them
	received, next, ends int               // how many of in; those of out from next to ends have not been sent
	zones                zones
}

// NewBatch is a batch that has received nothing yet.
func NewBatch() *Batch {
	b := &Batch{received: Size, zones: zones{}}
	b.octets = outside(b)
	for i := range b.in {
		b.texts[i].Base = &b.octets[i][0]
		b.texts[i].SetLen(Most)
		b.in[i].Iov, b.out[i].Iov = &b.texts[i], &b.sent[i]
		b.in[i].SetIovlen(1)
		b.out[i].SetIovlen(1)
		b.in[i].Name, b.in[i].Control = &b.peers[i].name[0], &b.peers[i].control[0]
	}
	return b
}

// outside is memory for datagrams that the kernel gives, until b is gone, or that of Go if it gives none.
func outside(b *Batch) *[Size][Most]byte {
	memory, err := unix.Mmap(-1, 0, Size*Most, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return new([Size][Most]byte)
	}
	runtime.AddCleanup(b, func(memory []byte) { unix.Munmap(memory) }, memory) //nolint:errcheck // it was mapped
	return (*[Size][Most]byte)(unsafe.Pointer(&memory[0]))
}

// Receive reads what there is, but no more than so many, Size at most, and does not wait. It returns how many datagrams
// that is: fewer are the last.
func (b *Batch) Receive(fd uintptr, most int) (n int, err unix.Errno) {
	for i := range b.received { // the kernel has written here, last time
		b.in[i].Namelen, b.in[i].Flags = uint32(len(b.peers[i].name)), 0
		b.in[i].SetControllen(controlSize)
	}
	b.received, err = transfer(unix.SYS_RECVMMSG, fd, b.in[:most])
	for i := range b.received {
		if b.in[i].Controllen > 0 && b.peers[i].level() != unix.SOL_SOCKET {
			b.peers[i].leave()
		}
	}
	return b.received, err
}

// Datagram is one of those received, until more are.
func (b *Batch) Datagram(i int) []byte { return b.octets[i][:b.in[i].octets] }

// came is when the kernel got a datagram, by the clock of the wall; zero: it does not tell.
func (b *Batch) came(i int) time.Time {
	p := &b.peers[i]
	if b.in[i].Controllen == 0 || p.level() != unix.SOL_SOCKET { // of that nothing but this is asked
		return time.Time{}
	}
	seconds := binary.NativeEndian.Uint64(p.control[unix.SizeofCmsghdr:])
	return time.Unix(int64(seconds), int64(binary.NativeEndian.Uint64(p.control[unix.SizeofCmsghdr+8:])))
}

// Cut reports whether a datagram has been longer.
func (b *Batch) Cut(i int) bool { return b.in[i].Flags&unix.MSG_TRUNC != 0 }

// From is who has sent a datagram: a socket address as the kernel writes it.
func (b *Batch) From(i int) netip.AddrPort {
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

// Reply queues what is sent to whoever has sent a datagram, from the address that it came to. Neither may change until
// it is sent. There has to be room.
func (b *Batch) Reply(i int, text []byte) {
	b.out[b.ends].answer(&b.in[i], &b.peers[i])
	b.Queue(text)
}

// ReplyTo is Reply to where a datagram of any batch has come from.
func (b *Batch) ReplyTo(o *Origin, text []byte) {
	b.out[b.ends].answer(&o.message, &o.peer)
	b.Queue(text)
}

// Queue queues what is sent to the address that the socket is connected to. It may not change until it is sent. There
// has to be room.
func (b *Batch) Queue(text []byte) {
	b.sent[b.ends].Base = unsafe.SliceData(text)
	b.sent[b.ends].SetLen(len(text))
	b.ends++
}

// Full reports whether there is no room for another datagram to send.
func (b *Batch) Full() bool { return b.ends == Size }

// Send sends what is queued, and does not wait. An error is about the first of those that are left.
func (b *Batch) Send(fd uintptr) unix.Errno {
	for b.next < b.ends {
		n, err := transfer(unix.SYS_SENDMMSG, fd, b.out[b.next:b.ends])
		if err != 0 {
			return err
		}
		b.next += n
	}
	b.Drop()
	return 0
}

// Skip drops the first of those that are left.
func (b *Batch) Skip() { b.next++ }

// Drop drops all that are left.
func (b *Batch) Drop() { b.next, b.ends = 0, 0 }

// Origin is where a datagram has come from, and to. It outlives the batch.
type Origin struct {
	message // for its lengths
	peer
}

// Origin is that of one of those received.
func (b *Batch) Origin(i int) Origin { return Origin{b.in[i], b.peers[i]} }

// Reply sends one datagram there, and does not wait.
func (o *Origin) Reply(fd uintptr, text []byte) unix.Errno {
	m := []message{{}}
	m[0].Iov = &unix.Iovec{Base: unsafe.SliceData(text)}
	m[0].Iov.SetLen(len(text))
	m[0].SetIovlen(1)
	m[0].answer(&o.message, &o.peer)
	_, err := transfer(unix.SYS_SENDMMSG, fd, m)
	return err
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

// answer has a message go to where another has come from.
func (m *message) answer(query *message, from *peer) {
	m.Name, m.Namelen = &from.name[0], query.Namelen
	m.Control, m.Controllen = &from.control[0], query.Controllen
}

// level is that of the control message, which is the only one.
func (p *peer) level() uint32 { return binary.NativeEndian.Uint32(p.control[unix.SizeofCmsghdr-8:]) }

// leave makes of the control message that came with a query the one that has the reply leave from the address that the
// query came to. The interface is for the routes to choose, but for a link-local address, which is none without it.
func (p *peer) leave() {
	info := p.control[unix.SizeofCmsghdr:]
	if p.level() == unix.IPPROTO_IP { // in_pktinfo
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
