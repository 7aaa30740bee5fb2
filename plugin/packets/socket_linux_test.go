package packets

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A datagram comes when it comes to the socket, and not when it is read.
func TestCame(t *testing.T) {
	for _, family := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(family, func(t *testing.T) { came(t, netip.MustParseAddrPort(family)) })
	}
}

func came(t *testing.T, family netip.AddrPort) {
	server, err := Listen(family)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	at, err := server.Addr()
	if err != nil {
		t.Fatal(err)
	}
	client, err := Dial(at)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	transmit(t, client.Queue([]byte("question")), client.Send())
	if n, err := server.Receive(time.Minute); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	// The kernel begins to note times a moment after the first socket of the machine has asked for them.
	for end := time.Now().Add(time.Minute); wrongTimes(t, client, server) != "" && time.Now().Before(end); {
	}
	if wrong := wrongTimes(t, client, server); wrong != "" {
		t.Error(wrong)
	}
}

// wrongTimes has a server send two datagrams, and says of which the time is not that at which it came.
func wrongTimes(t *testing.T, client, server *Socket) (wrong string) {
	t.Helper()
	before := time.Now()
	transmit(t, server.Reply(0, []byte("first")), server.Reply(0, []byte("second")), server.Send())
	after := time.Now()
	const unread = 100 * time.Millisecond
	time.Sleep(unread)
	if n, err := client.Receive(time.Minute); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	const clocks = unread / 2 // the kernel's is set now and then
	for i, text := range []string{"first", "second"} {
		came := client.Came(i)
		if string(client.Datagram(i)) != text || came.Before(before.Add(-clocks)) || came.After(after.Add(clocks)) {
			wrong += fmt.Sprintf("%q came %v after it was sent, which took %v; it was read %v later\n",
				client.Datagram(i), came.Sub(before), after.Sub(before), unread)
		}
	}
	return wrong
}

func transmit(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
