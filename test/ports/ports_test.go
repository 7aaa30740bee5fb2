package ports

import (
	"net"
	"testing"
)

// TestGivenOnce: no two programs get the same port, even if neither has opened it yet.
func TestGivenOnce(t *testing.T) {
	seen := map[int]bool{}
	for range count / 10 { // by chance alone a hundred of them would come twice
		port := Closed(t)
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
	}
	packets, stream := Open(t)
	defer packets.Close()
	defer stream.Close()
	if port := packets.LocalAddr().(*net.UDPAddr).Port; seen[port] {
		t.Errorf("port %d was given to a program", port)
	}
}
