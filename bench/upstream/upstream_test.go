package upstream

import (
	"encoding/binary"
	"net"
	"testing"
	"time"
)

// echo answers with the query, and with what it was asked over; it has no answer to "nothing".
type echo struct{}

func (echo) Reply(dst, query []byte, stream bool) []byte {
	switch {
	case string(query) == "nothing":
		return dst
	case stream:
		return append(append(dst, query...), " over TCP"...)
	}
	return append(append(dst, query...), " over UDP"...)
}

func start(t *testing.T, delay time.Duration) *Upstream {
	t.Helper()
	u, err := Start(echo{}, delay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

func dial(t *testing.T, network string, u *Upstream) net.Conn {
	t.Helper()
	c, err := net.Dial(network, u.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// TestDatagrams: every datagram of many is answered to who sent it, but those without an answer, and all are counted.
func TestDatagrams(t *testing.T) {
	for _, delay := range []time.Duration{0, 50 * time.Millisecond} {
		u := start(t, delay)
		a, b := dial(t, "udp", u), dial(t, "udp", u)
		begun := time.Now()
		for range 50 {
			for _, m := range []string{"one", "nothing", "two"} {
				a.Write([]byte(m))
			}
			b.Write([]byte("three"))
		}
		in := make([]byte, 100)
		for i := range 150 {
			c, want := a, "one over UDP"
			switch {
			case i >= 100:
				c, want = b, "three over UDP"
			case i%2 == 1:
				want = "two over UDP"
			}
			if n, err := c.Read(in); err != nil || string(in[:n]) != want {
				t.Fatalf("reply %d is %q, error %v, want %q", i, in[:n], err, want)
			}
		}
		if took := time.Since(begun); took < delay {
			t.Errorf("the last reply came after %v, before the delay of %v", took, delay)
		}
		if u.Asked() != 200 {
			t.Errorf("%d were counted", u.Asked())
		}
	}
}

// TestStream: a connection takes one query after another.
func TestStream(t *testing.T) {
	c := dial(t, "tcp", start(t, time.Millisecond))
	for _, query := range []string{"one", "two"} {
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
			t.Fatal(err)
		}
		if reply, err := readFramed(c); err != nil || string(reply) != query+" over TCP" {
			t.Errorf("%q, error %v", reply, err)
		}
	}
	c.Write([]byte("\x00\x07nothing"))
	if reply, err := readFramed(c); err == nil {
		t.Errorf("%q for a query without an answer", reply)
	}
}

// TestSilence: who is silent answers nothing, over either transport, and counts on; then it answers again.
func TestSilence(t *testing.T) {
	u := start(t, 0)
	c, s := dial(t, "udp", u), dial(t, "tcp", u)
	u.Silence(true)
	c.Write([]byte("one"))
	s.Write([]byte("\x00\x03one"))
	if reply, err := readFramed(s); err == nil {
		t.Errorf("%q from who is silent", reply)
	}
	for deadline := time.Now().Add(time.Minute); u.Asked() < 2 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	u.Silence(false)
	c.Write([]byte("two"))
	in := make([]byte, 100)
	if n, err := c.Read(in); err != nil || string(in[:n]) != "two over UDP" || u.Asked() != 3 {
		t.Errorf("%q, error %v, %d were counted", in[:n], err, u.Asked())
	}
}
