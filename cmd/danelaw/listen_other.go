//go:build !linux

package main

import "syscall"

// enlarge gives a socket the buffer as far as the system allows.
func enlarge(c syscall.Conn) {
	if b, ok := c.(interface{ SetReadBuffer(int) error }); ok {
		b.SetReadBuffer(receiveBuffer) //nolint:errcheck // a smaller one serves too
	}
}
