package fastpath

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danelaw-dns/danelaw/test/needs"
)

// forever is how long a test waits for what has to come.
const forever = 20 * time.Second

// usualLimits are longer than any test, but for those of the clock, which have one of their own.
var usualLimits = Limits{
	Idle: time.Hour, Read: time.Hour, Write: time.Hour, Connections: 100, Pipelined: 100,
	Pending: 1000,
}

// desk is a source. A query that says "now" is answered at once, one that says "never" gets no reply, and all others
// are left to the test.
type desk chan *task

// task is a query that waits for the test.
type task struct {
	ctx   context.Context
	query string
	w     replier
	done  chan struct{}
}

// saying is a message.
func saying(what string) []byte { return append(make([]byte, headerSize), what...) }

// says is what a message says.
func says(message []byte) string { return string(message[min(len(message), headerSize):]) }

func (d desk) answerer() answerer { return d }
func (desk) flush()               {}

func (d desk) now(query []byte, _ client, dst []byte) ([]byte, bool) {
	switch says(query) {
	case "now":
		return append(dst, query...), true
	case "never":
		return dst, true
	}
	return append(dst, "no reply"...), false
}

func (desk) wait(context.Context, []byte, client, replier, func()) bool { return false }

func (d desk) later(ctx context.Context, query []byte, w replier) {
	t := &task{ctx, says(query), w, make(chan struct{})}
	d <- t
	<-t.done
}

// tasks waits for so many queries.
func (d desk) tasks(t testing.TB, n int) map[string]*task {
	t.Helper()
	all := map[string]*task{}
	for len(all) < n {
		select {
		case next := <-d:
			all[next.query] = next
		case <-time.After(forever):
			t.Fatalf("%d of %d queries are asked", len(all), n)
		}
	}
	return all
}

// answer replies to a query with what it says.
func (t *task) answer() error {
	_, err := t.w.Write(saying(t.query))
	close(t.done)
	return err
}

// ends waits for the end of the query's context.
func (t *task) ends(tb testing.TB) {
	tb.Helper()
	select {
	case <-t.ctx.Done():
	case <-time.After(forever):
		tb.Fatalf("%q is still worked on", t.query)
	}
}

// framed are messages as they go over TCP.
func framed(messages ...[]byte) (stream []byte) {
	for _, m := range messages {
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(m))), m...)
	}
	return stream
}

// asking is a stream of queries that say what they are.
func asking(what ...string) (stream []byte) {
	for _, q := range what {
		stream = append(stream, framed(saying(q))...)
	}
	return stream
}

// serving answers over TCP at an address, until the test ends.
func serving(t testing.TB, s source, limits Limits, address string) *streams {
	t.Helper()
	l, err := net.Listen("tcp", address)
	needs.Address(t, address, err)
	served := newStreams(l, s, limits)
	go served.run()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), forever)
		defer cancel()
		if served.close(ctx); ctx.Err() != nil {
			t.Error("queries are still being answered at the close")
		}
	})
	return served
}

// local serves clients of this host.
func local(t testing.TB, s source) *streams { return serving(t, s, usualLimits, "127.0.0.1:0") }

// caller is a client.
type caller struct {
	net.Conn
	t testing.TB
}

// call connects to an address.
func call(t testing.TB, address net.Addr) caller {
	t.Helper()
	c, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(forever))
	return caller{c, t}
}

// send sends what is to be sent in one segment.
func (c caller) send(stream []byte) {
	c.t.Helper()
	if _, err := c.Write(stream); err != nil {
		c.t.Fatal(err)
	}
}

// reply waits for a message.
func (c caller) reply() ([]byte, error) {
	length := make([]byte, lengthSize)
	if _, err := io.ReadFull(c, length); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length))
	_, err := io.ReadFull(c, message)
	return message, err
}

// gets waits for the replies to queries that say what they are, in their order.
func (c caller) gets(what ...string) {
	c.t.Helper()
	for _, want := range what {
		if m, err := c.reply(); err != nil || !bytes.Equal(m, saying(want)) {
			c.t.Fatalf("the reply is %q (%v), not %q", m, err, want)
		}
	}
}

// closed waits for the server to close. A reset is one, too.
func (c caller) closed() {
	c.t.Helper()
	m, err := c.reply()
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("the connection is not closed: %q, %v", m, err)
	}
}

// pipes is a listener whose clients are in the same process, and may have a clock of their own and any address.
type pipes struct {
	coming   chan net.Conn
	failures []error // of Accept, before anybody comes
	asked    []time.Time
	once     sync.Once
	over     chan struct{}
}

type pipe struct {
	net.Conn
	from net.Addr
}

func (p pipe) RemoteAddr() net.Addr { return p.from }

func (l *pipes) Accept() (net.Conn, error) {
	l.asked = append(l.asked, time.Now())
	if len(l.failures) > 0 {
		err := l.failures[0]
		l.failures = l.failures[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: err}
	}
	select {
	case c := <-l.coming:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error   { l.once.Do(func() { close(l.over) }); return nil }
func (l *pipes) Addr() net.Addr { return nil }

// call connects from an address. What is served rests before and after.
func (l *pipes) call(t testing.TB, from string) caller {
	synctest.Wait()
	client, server := net.Pipe()
	l.coming <- pipe{server, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 1))}
	t.Cleanup(func() { client.Close() })
	synctest.Wait()
	return caller{client, t}
}

// inBubble serves clients with a clock that goes on when all wait for it.
func inBubble(t *testing.T, limits Limits, test func(t *testing.T, l *pipes, d desk, served *streams)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l, d := &pipes{coming: make(chan net.Conn), over: make(chan struct{})}, desk(make(chan *task, 1000))
		served := newStreams(l, d, limits)
		t.Cleanup(func() {
			gone, cancel := context.WithCancel(context.Background())
			cancel()
			served.close(gone)
		})
		test(t, l, d, served)
	})
}

// TestTable: which of its connections makes room for one more; each that goes counts as a limit hit (L-16).
func TestTable(t *testing.T) {
	const a, b, c = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	const net1, net1too, net2 = "2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"
	for name, row := range map[string]struct {
		come string // "new ADDRESS", "ask N": the Nth asks and is answered, "busy N": the Nth asks and is not
		gone []int  // who is closed
	}{
		"all have a place":                       {news(3, a) + news(1, b) + news(1, c), nil},
		"one address gets no more than six":      {news(7, a), []int{0}},
		"and so on":                              {news(9, a), []int{0, 1, 2}},
		"a /64 is one address":                   {news(6, net1) + news(1, net1too), []int{0}},
		"another /64 is another":                 {news(6, net1) + news(1, net2), nil},
		"who has asked has not waited so long":   {news(6, a) + "ask 0," + news(1, a), []int{1}},
		"who is in work has its place":           {news(6, a) + "busy 0," + news(1, a), []int{1}},
		"a new one makes no room in work":        {busy(6, a) + news(1, a), []int{6}},
		"the last quarter is for others":         {busy(6, a) + news(2, b), nil},
		"one with a quarter gets none of others": {busy(6, a) + news(1, b) + news(1, a), []int{7}},
		"whoever waits makes room":               {news(6, a) + news(2, b) + news(1, c), []int{0}},
		"who is in work makes none":              {busy(6, a) + news(2, b) + news(1, c), []int{6}},
		"nobody waits":                           {busy(6, a) + news(2, b) + "busy 6,busy 7," + news(1, c), []int{8}},
	} {
		t.Run(name, func(t *testing.T) {
			limits := usualLimits
			limits.Connections = 8
			var hits []string
			limits.Hit = func(limit string) { hits = append(hits, limit) }
			inBubble(t, limits, func(t *testing.T, l *pipes, d desk, served *streams) {
				go served.run()
				var callers []caller
				for next := range strings.SplitSeq(strings.TrimSuffix(row.come, ","), ",") {
					what, who, _ := strings.Cut(next, " ")
					n, _ := strconv.Atoi(who)
					switch what {
					case "new":
						callers = append(callers, l.call(t, who))
					case "ask":
						callers[n].send(asking("now"))
						callers[n].gets("now")
					case "busy":
						callers[n].send(asking("later"))
						defer d.tasks(t, 1)["later"].answer()
					}
					synctest.Wait()
				}
				for i, c := range callers {
					c.SetReadDeadline(time.Now().Add(time.Second))
					_, err := c.reply()
					if gone := !errors.Is(err, os.ErrDeadlineExceeded); gone != slices.Contains(row.gone, i) {
						t.Errorf("connection %d: %v", i, err)
					}
				}
				if want := slices.Repeat([]string{LimitConnections}, len(row.gone)); !slices.Equal(hits, want) {
					t.Errorf("limits hit %v, want %v", hits, want)
				}
			})
		})
	}
}

// TestLimitsChange: new limits hold for connections that are open; of those that are too many then, who has waited
// longest goes, and who has a query in work does not (S-4).
func TestLimitsChange(t *testing.T) {
	var hits []string
	inBubble(t, usualLimits, func(t *testing.T, l *pipes, d desk, served *streams) {
		go served.run()
		var callers []caller
		for i := range 4 {
			callers = append(callers, l.call(t, fmt.Sprintf("192.0.2.%d", i)))
		}
		callers[0].send(asking("later"))
		task := d.tasks(t, 1)["later"]
		limits := usualLimits
		limits.Connections, limits.Idle = 2, time.Second
		limits.Hit = func(limit string) { hits = append(hits, limit) }
		served.limit(limits)
		callers[1].closed()
		callers[2].closed()
		if want := []string{LimitConnections, LimitConnections}; !slices.Equal(hits, want) {
			t.Errorf("limits hit %v, want %v", hits, want)
		}
		callers[3].send(asking("now"))
		callers[3].gets("now")
		begun := time.Now()
		if callers[3].closed(); time.Since(begun) != time.Second {
			t.Errorf("an idle connection is closed after %v", time.Since(begun))
		}
		go task.answer()
		callers[0].gets("later")
	})
}

// news are so many connections of an address.
func news(n int, address string) string { return strings.Repeat("new "+address+",", n) }

// busy are so many with a query in work, the first of all.
func busy(n int, address string) (come string) {
	for i := range n {
		come += news(1, address) + fmt.Sprintf("busy %d,", i)
	}
	return come
}

// TestTableEmpties: of those who have gone nothing is left.
func TestTableEmpties(t *testing.T) {
	inBubble(t, usualLimits, func(t *testing.T, l *pipes, d desk, served *streams) {
		go served.run()
		for _, from := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1"} {
			l.call(t, from).Close()
		}
		synctest.Wait()
		if n := served.idle.Len() - 1; len(served.open) > 0 || len(served.holders) > 0 || n > 0 {
			t.Errorf("%d connections, %d addresses, %d wait", len(served.open), len(served.holders), n)
		}
	})
}

// TestAcceptFails: while there are no files it is tried again, less and less often, and ends with the close only.
func TestAcceptFails(t *testing.T) {
	inBubble(t, usualLimits, func(t *testing.T, l *pipes, d desk, served *streams) {
		l.failures = slices.Repeat([]error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOMEM}, 3)
		go served.run()
		time.Sleep(time.Hour)
		c := l.call(t, "192.0.2.1")
		c.send(asking("now"))
		c.gets("now")
		var pauses []time.Duration
		for i := range l.asked[1:] {
			pauses = append(pauses, l.asked[i+1].Sub(l.asked[i]))
		}
		const ms = time.Millisecond
		want := []time.Duration{
			5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, 1000 * ms, 1000 * ms, 1000 * ms,
			1000 * ms,
		}
		if got := pauses[:len(want)]; !slices.Equal(got, want) {
			t.Errorf("the pauses are %v, not %v", got, want)
		}
	})
}

// TestAcceptFailsAgain: who has come since makes the pauses short again.
func TestAcceptFailsAgain(t *testing.T) {
	inBubble(t, usualLimits, func(t *testing.T, l *pipes, d desk, served *streams) {
		l.failures = slices.Repeat([]error{syscall.EMFILE}, 20)
		go served.run()
		time.Sleep(time.Hour)
		synctest.Wait()
		l.failures = []error{syscall.EMFILE}
		l.call(t, "192.0.2.1") // and then Accept fails
		begun := time.Now()
		l.call(t, "192.0.2.1")
		if pause := l.asked[len(l.asked)-1].Sub(begun); pause != 5*time.Millisecond {
			t.Errorf("the pause is %v", pause)
		}
	})
}

// TestAcceptFailsAtClose: a pause does not hold up the close.
func TestAcceptFailsAtClose(t *testing.T) {
	inBubble(t, usualLimits, func(t *testing.T, l *pipes, d desk, served *streams) {
		l.failures = slices.Repeat([]error{syscall.EMFILE}, 1000)
		ended := make(chan struct{})
		go func() { served.run(); close(ended) }()
		time.Sleep(10*time.Second + time.Millisecond)
		begun := time.Now()
		served.close(t.Context())
		<-ended
		if took := time.Since(begun); took > 0 {
			t.Errorf("the close took %v", took)
		}
	})
}

// TestListenerClosed: one that somebody else has closed is not tried again.
func TestListenerClosed(t *testing.T) {
	inBubble(t, usualLimits, func(t *testing.T, l *pipes, d desk, served *streams) {
		l.Close()
		served.run()
	})
}

// TestClose: what is in flight is answered.
func TestClose(t *testing.T) {
	d := desk(make(chan *task))
	served := local(t, d)
	waiting, working := call(t, served.listener.Addr()), call(t, served.listener.Addr())
	waiting.send(asking("now"))
	waiting.gets("now")
	working.send(asking("first", "second"))
	tasks := d.tasks(t, 2)
	closed := make(chan struct{})
	go func() {
		served.close(context.Background())
		close(closed)
	}()
	waiting.closed()
	for what, task := range tasks {
		select {
		case <-closed:
			t.Fatalf("it does not wait for %q", what)
		default:
		}
		if err := errors.Join(task.ctx.Err(), task.answer()); err != nil {
			t.Error(what, err)
		}
		working.gets(what)
	}
	working.closed()
	<-closed
	if c, err := net.Dial("tcp", served.listener.Addr().String()); err == nil {
		c.Close()
		t.Error("new connections are accepted")
	}
}

// TestCloseReadsNoMore: not even from a client that still gets replies.
func TestCloseReadsNoMore(t *testing.T) {
	inBubble(t, usualLimits, func(t *testing.T, l *pipes, d desk, served *streams) {
		go served.run()
		c := l.call(t, "192.0.2.1")
		c.send(append(asking("first"), 0))
		go served.close(t.Context())
		synctest.Wait()
		c.SetWriteDeadline(time.Now().Add(time.Minute))
		if n, err := c.Write([]byte{0}); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d octets more are read: %v", n, err)
		}
		go d.tasks(t, 1)["first"].answer()
		c.gets("first")
		c.closed()
	})
}

// TestCloseWithoutPatience: what takes longer is given up.
func TestCloseWithoutPatience(t *testing.T) {
	d := desk(make(chan *task))
	served := local(t, d)
	c := call(t, served.listener.Addr())
	c.send(asking("first", "second"))
	tasks := d.tasks(t, 2)
	gone, cancel := context.WithCancel(context.Background())
	closed := make(chan struct{})
	go func() {
		served.close(gone)
		close(closed)
	}()
	cancel()
	<-closed
	c.closed()
	for _, task := range tasks {
		task.ends(t)
		if task.answer() == nil {
			t.Error("there is somebody to reply to")
		}
	}
}

// TestCloseWhileTheyCome: who comes just then is either served or closed, and nobody is left.
func TestCloseWhileTheyCome(t *testing.T) {
	for range 20 {
		d := desk(make(chan *task))
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := newStreams(l, d, usualLimits)
		go served.run()
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(forever))
				c.Write(asking("now"))
				if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("a connection is left open")
				}
			})
		}
		served.close(t.Context())
		callers.Wait()
		if all := slices.Collect(maps.Keys(served.open)); len(all) > 0 {
			t.Errorf("%d connections are left", len(all))
		}
	}
}

// TestLongMessages: only so many connections hold long messages that are not wholly there (L-15).
func TestLongMessages(t *testing.T) {
	var hits atomic.Int64
	limits := usualLimits
	limits.Hit = func(string) { hits.Add(1) }
	inBubble(t, limits, func(t *testing.T, l *pipes, _ desk, served *streams) {
		go served.run()
		long := asking(strings.Repeat("x", 60_000))
		var holders []caller
		for range mostLong {
			c := l.call(t, "192.0.2.1")
			c.send(long[:50_000])
			holders = append(holders, c)
		}
		one := l.call(t, "192.0.2.2")
		n, err := one.Write(long[:50_000])
		synctest.Wait()
		if err == nil || hits.Load() != 1 {
			t.Errorf("%d octets of one more are read, %d limits hit", n, hits.Load())
		}
		holders[0].Close()
		another := l.call(t, "192.0.2.2")
		another.send(long[:50_000])
		if synctest.Wait(); hits.Load() != 1 {
			t.Errorf("%d limits hit once there is room", hits.Load())
		}
	})
}
