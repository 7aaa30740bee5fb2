package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// enlarge gives a socket the buffer, beyond net.core.rmem_max if that is allowed; if it is not, as far as it goes.
func enlarge(c syscall.Conn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // a smaller buffer serves too
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) //nolint:errcheck // likewise
		}
	})
}
