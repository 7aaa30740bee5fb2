package ports

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestHeld: a port that a test has closed refuses what comes. Nobody else can bind it on all addresses, as resolvers
// do, or be given it in another process, and the test can open it again. It is free when the test has ended.
func TestHeld(t *testing.T) {
	var port int
	t.Run("while the test runs", func(t *testing.T) {
		packets, stream := Open(t)
		addr := stream.Addr().String()
		port = stream.Addr().(*net.TCPAddr).Port
		for range 3 {
			packets.Close()
			stream.Close()
			refused(t, addr)
			if c, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port)); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("bound on all addresses: %v %v", c, err)
			}
			if _, err := hold(port); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("held by another: %v", err)
			}
			packets, stream = Reopen(t, addr)
		}
		packets.Close()
		stream.Close()
	})
	release, err := hold(port)
	if err != nil {
		t.Fatalf("after the test: %v", err)
	}
	release()
}

// TestNoCopies: a program that is started while a test is given a port has no copy of the sockets by which the port was
// found to be free.
func TestNoCopies(t *testing.T) {
	var enough atomic.Bool
	var starting sync.WaitGroup
	for range 2 {
		starting.Go(func() {
			for !enough.Load() {
				if err := exec.Command(os.Args[0], "-test.run=^$").Run(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for name, give := range map[string]struct {
		port func(testing.TB) int
		at   string
	}{"Closed": {Closed, "127.0.0.1"}, "Everywhere": {Everywhere, "0.0.0.0"}} {
		for range 2000 { // some ten of them were not free
			packets, stream, err := listen(fmt.Sprintf("%s:%d", give.at, give.port(t)))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			packets.Close()
			stream.Close()
		}
	}
	enough.Store(true)
	starting.Wait()
}

// refused checks that the port refuses UDP and TCP.
func refused(t *testing.T, addr string) {
	t.Helper()
	for _, network := range []string{"udp4", "tcp4"} {
		c, err := net.Dial(network, addr)
		if err == nil {
			c.SetDeadline(time.Now().Add(time.Minute))
			if _, err = c.Write([]byte("?")); err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v", network, err)
		}
	}
}
