package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// postmaster answers each request of a connection with the next of some replies, as they are written; then it hangs up.
func postmaster(t *testing.T, replies ...string) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		from := bufio.NewReader(server)
		for _, reply := range replies {
			if request, err := from.ReadString(','); err != nil || request != "11:QUERY d.net," {
				return
			}
			fmt.Fprint(server, reply)
		}
	}()
	t.Cleanup(func() { client.Close(); server.Close() })
	return client
}

// times gives a lookup so many times on each connection.
func times(n, connections int) func(int) *Lookup {
	left := make([]int, connections)
	return func(c int) *Lookup {
		if left[c]++; left[c] > n {
			return nil
		}
		return &Lookup{"d.net", "OK secure"}
	}
}

// TestPostfix: replies are right, wrong, temporary failures, or lost with their connection.
func TestPostfix(t *testing.T) {
	const right = "9:OK secure,"
	for name, tt := range map[string]struct {
		replies      []string
		right, wrong int
		failed, lost int
		example      string
	}{
		"right": {replies: []string{right, right, right}, right: 3},
		"wrong": {replies: []string{right, "9:NOTFOUND ,", right}, right: 2, wrong: 1,
			example: `"NOTFOUND " instead`},
		"later":     {replies: []string{right, right, "8:TEMP no.,"}, right: 2, failed: 1, example: "TEMP no."},
		"hangs up":  {replies: []string{right}, right: 1, lost: 1, example: "closed pipe"},
		"no length": {replies: []string{right, "x:,"}, right: 1, lost: 1, example: "is no length"},
		"no comma":  {replies: []string{right, "1:ab"}, right: 1, lost: 1, example: "does not end"},
		"nothing":   {lost: 1, example: "closed pipe"},
	} {
		for _, interval := range []time.Duration{0, time.Millisecond} {
			p := Postfix{Connections: []net.Conn{postmaster(t, tt.replies...)}, Next: times(3, 1), Interval: interval}
			r, err := p.Run(t.Context())
			if err != nil || r.Right() != tt.right || r.Wrong != tt.wrong || r.Failed != tt.failed ||
				r.Lost != tt.lost || len(r.Took) != tt.right || !strings.Contains(r.Example, tt.example) {
				t.Errorf("%s: %v, %+v", name, err, r)
			}
			if least := time.Duration(max(0, r.Replies-1)) * interval; r.Elapsed < least {
				t.Errorf("%s: %v for %d replies at a rate", name, r.Elapsed, r.Replies)
			}
		}
	}
}

// TestPostfixOverSeveral: what comes over several connections is counted together.
func TestPostfixOverSeveral(t *testing.T) {
	all := []net.Conn{postmaster(t, "9:OK secure,", "9:OK secure,"), postmaster(t, "9:OK secure,", "2:no,")}
	p := Postfix{Connections: all, Next: times(2, 2)}
	if r, err := p.Run(t.Context()); err != nil || r.Right() != 3 || r.Wrong != 1 || len(r.Took) != 3 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestPostfixEnded: who is told to end does not wait for a reply.
func TestPostfixEnded(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		server.Read(make([]byte, 1)) //nolint:errcheck // it has asked
		cancel()
	}()
	p := Postfix{Connections: []net.Conn{client}, Next: times(1, 1)}
	if _, err := p.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
