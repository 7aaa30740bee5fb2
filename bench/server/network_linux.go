package server

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// Network is a network of this machine's own, which leads nowhere: loopback alone, and whoever asks there as programs
// do by /etc/resolv.conf asks 127.0.0.1. So policy hosts can have an address that counts as public.
type Network struct{ work chan func() }

// ErrNetwork is that of a machine on which no such network can be made.
var ErrNetwork = errors.New("a network of its own takes root (namespaces of networks and mounts)")

// NewNetwork makes one that has an address of IPv4 beside 127.0.0.1. Its /etc/resolv.conf is the file given.
func NewNetwork(address netip.Addr, resolvConf string) (*Network, error) {
	n := &Network{make(chan func())}
	made := make(chan error)
	go func() {
		// The thread is of that network until it ends, as it does with its goroutine. What it starts ends with it.
		runtime.LockOSThread()
		err := enterNetwork(address, resolvConf)
		made <- err
		for f := range n.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		n.Close()
		return nil, fmt.Errorf("%w: %w", ErrNetwork, err)
	}
	return n, nil
}

// Do calls f, whose goroutine makes sockets and processes there as long as it is f's own.
func (n *Network) Do(f func()) {
	done := make(chan struct{})
	n.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Close ends it, once its sockets and processes have ended.
func (n *Network) Close() { close(n.work) }

// enterNetwork moves the thread into a network of its own.
func enterNetwork(address netip.Addr, resolvConf string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(resolvConf, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("/etc/resolv.conf: %w", err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket) //nolint:errcheck // nothing was written
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, up); err != nil {
		return err
	}
	also, err := unix.NewIfreq("lo:1")
	if err != nil {
		return err
	}
	if err := also.SetInet4Addr(address.AsSlice()); err != nil {
		return err
	}
	return unix.IoctlIfreq(socket, unix.SIOCSIFADDR, also)
}
