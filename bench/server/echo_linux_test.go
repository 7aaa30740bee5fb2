package server

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// TestEcho: more datagrams than one call takes come back, each as it was sent and as long as it is to be, and an echo
// that is not asked waits no longer than it is told to.
func TestEcho(t *testing.T) {
	free, err := packets.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	at, err := free.Addr()
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- RunEcho(ctx, at, 100) }()
	client, err := packets.Dial(at)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const datagrams = 3*packets.Size + 1
	for deadline := time.Now().Add(time.Minute); ; {
		client.Queue([]byte{0, 0, 1, 0}) //nolint:errcheck // the echo may not be there yet
		client.Send()                    //nolint:errcheck // likewise
		if n, err := client.Receive(10 * time.Millisecond); err == nil && n > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing comes back")
		}
	}
	for left := 1; left > 0; { // what was sent before it was there
		if left, err = client.Receive(200 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	for i := range datagrams {
		if err := client.Queue([]byte{byte(i), byte(i >> 8), 1, 0}); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Send(); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for len(seen) < datagrams {
		n, err := client.Receive(10 * time.Second)
		if err != nil || n == 0 {
			t.Fatalf("%d of %d, error %v", len(seen), datagrams, err)
		}
		for i := range n {
			d := client.Datagram(i)
			if len(d) != 100 || d[2] != 0x81 {
				t.Fatalf("%x", d)
			}
			seen[int(d[0])|int(d[1])<<8] = true
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
