package danelaw

import (
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what is asked for each UDP listener, in octets. The kernel takes twice that, with room for over a
// thousand questions: so many come in while a busy host keeps danelaw from its processors for a moment, and what does
// not fit is lost, be it about mail (L-13). By default there is room for some 270.
const receiveBuffer = 512 << 10

// widenBuffer enlarges the receive buffers of the UDP sockets that listen on address, ADDR:PORT or :PORT. CoreDNS,
// which has opened them, has no setting for it and gives no plugin its sockets: they are found among the files of the
// process. What the kernel refuses is left as it is: without CAP_NET_ADMIN, net.core.rmem_max is the most.
func widenBuffer(address string) {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, file := range files {
		if fd, err := strconv.Atoi(file.Name()); err == nil && listensOn(fd, address) {
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			}
		}
	}
}

// listensOn reports whether a file is a UDP socket bound to address.
func listensOn(fd int, address string) bool {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_DGRAM {
		return false
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	var ip netip.Addr
	var port int
	switch at := bound.(type) {
	case *unix.SockaddrInet4:
		ip, port = netip.AddrFrom4(at.Addr), at.Port
	case *unix.SockaddrInet6:
		ip, port = netip.AddrFrom16(at.Addr).Unmap(), at.Port
	}
	host, wanted, err := net.SplitHostPort(address)
	if err != nil || wanted != strconv.Itoa(port) {
		return false
	}
	listens, err := netip.ParseAddr(host)
	if err != nil || listens.IsUnspecified() { // 0.0.0.0, too, is opened as ::
		return ip.IsUnspecified()
	}
	return listens.WithZone("").Unmap() == ip
}
