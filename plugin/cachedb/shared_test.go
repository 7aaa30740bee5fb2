package cachedb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
)

// counts counts what becomes of looks and records.
type counts struct {
	mu   sync.Mutex
	by   map[string]int
	away []bool
}

func (c *counts) Looked(op, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]int{}
	}
	c.by[op+" "+result]++
}

func (c *counts) Away(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = append(c.away, why != nil)
}

// shared is a Shared of what answers each read with a reply.
func shared(t *testing.T, reply string) (*Shared, *counts) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewReader(conn); ; {
					if _, err := lines.ReadString('\n'); err != nil {
						return
					}
					if _, err := conn.Write([]byte(reply)); err != nil {
						return
					}
				}
			}()
		}
	}()
	o, err := ParseURL("redis://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := new(counts)
	s := NewShared(SharedConfig{Options: o, Meter: c})
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // the socket is loopback's
	return s, c
}

// TestSharedHostile: whatever a shared cache says, or if it says nothing, a look into it has no record, and soon.
func TestSharedHostile(t *testing.T) {
	for what, reply := range map[string]string{
		"silence": "", "huge": "$9000000000000000000\r\n", "large": "$500000000\r\nxxxx", "negative": "$-7\r\n",
		"array": "*1000000\r\n", "garbage": "\x00\xff\n\n\n", "endless line": "+" + strings.Repeat("x", 1<<16),
		"RESP 3": "%1\r\n+a\r\n+b\r\n", "errors": "-ERR no\r\n", "nothing": "$0\r\n\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			s, c := shared(t, reply)
			begun := time.Now()
			const looks = 20
			for range looks {
				if r, ok := s.Find(t.Context(), noon, cache.Key{Name: "a.example.", Type: dns.TypeA}); ok {
					t.Errorf("it has %v", r)
				}
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("%d looks took %v", looks, took)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if what == "silence" && (c.by["find skipped"] < looks/2 || len(c.away) == 0) {
				t.Errorf("it was asked on: %v", c.by)
			}
		})
	}
}

// TestGuarded: the lengths that a reply announces are bounded, wherever its octets are cut.
func TestGuarded(t *testing.T) {
	good := fmt.Sprintf("*2\r\n$3\r\na\nb\r\n$-1\r\n:5\r\n+OK\r\n-ERR x\r\n$%d\r\n%s\r\n$0\r\n\r\n", maxRecord,
		strings.Repeat("$", maxRecord))
	for _, cut := range []int{1, 2, 7, 100, len(good)} {
		var c guarded
		for b := []byte(good); len(b) > 0; b = b[min(cut, len(b)):] {
			if err := c.look(b[:min(cut, len(b))]); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
	}
	for _, bad := range []string{
		fmt.Sprintf("$%d\r\n", maxRecord+2), "*1000\r\n", "$-2\r\n", "$x\r\n", "$\r\n", "~1\r\n", "$3\r\nabc\r\n!\r\n",
	} {
		if err := new(guarded).look([]byte(bad)); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
	if err := new(guarded).look(bytes.Repeat([]byte("+"), mostLine+1)); err == nil {
		t.Error("a line without end passes")
	}
}

// TestParseURL: a password in a URL is refused, without a word of it.
func TestParseURL(t *testing.T) {
	for url, good := range map[string]bool{
		"redis://192.0.2.1": true, "rediss://user@redis.example:6380/2": true, "unix:///run/redis.sock": true,
		"redis://:secret@192.0.2.1": false, "rediss://u:secret@h": false, "http://192.0.2.1": false, "192.0.2.1": false,
		"redis://192.0.2.1/x": false, "unix://u:secret@/run/redis.sock": false,
		"redis://u:secret": false, "redis://u:secret@h:x/0": false,
	} {
		if _, err := ParseURL(url); (err == nil) != good || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestBreaker: what fails five times is left alone for a second, then twice as long each time; one look is let through
// after that, and one that goes well ends it.
func TestBreaker(t *testing.T) {
	var b breaker
	for i := range tolerated {
		if !b.lets(noon) || b.done(false, noon) != (i == tolerated-1) {
			t.Fatalf("failure %d", i+1)
		}
	}
	if b.lets(noon.Add(firstAway - 1)) {
		t.Error("asked too early")
	}
	later := noon.Add(firstAway)
	if !b.lets(later) || b.lets(later) || b.done(false, later) || b.lets(later.Add(2*firstAway-1)) {
		t.Error("not one look alone, or not twice as long")
	}
	later = later.Add(2 * firstAway)
	if !b.lets(later) || !b.done(true, later) || !b.lets(later) || b.done(true, later) {
		t.Error("it does not come back")
	}
}

// TestSharedUnreached: of a shared cache to which no connection can be made it is told why that is, although who looks
// does not wait for it.
func TestSharedUnreached(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	var c told
	s := &Shared{meter: &c}
	if _, err := s.dialer(nil)(t.Context(), "tcp", l.Addr().String()); err == nil {
		t.Fatal("connected")
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	s.dialer(nil)(late, "tcp", l.Addr().String()) //nolint:errcheck // nobody waits for it
	for range tolerated {
		s.done(context.DeadlineExceeded)
	}
	if len(c) != 1 || !errors.Is(c[0], syscall.ECONNREFUSED) {
		t.Errorf("told: %v", c)
	}
	if s.done(nil); len(c) != 2 || c[1] != nil {
		t.Errorf("told: %v", c)
	}
}

// told is what was told of a shared cache.
type told []error

func (*told) Looked(_, _ string) {}

func (t *told) Away(why error) { *t = append(*t, why) }
