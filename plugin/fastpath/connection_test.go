package fastpath

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestOutOfOrder: what is ready is sent, whatever else the same client waits for (S-4).
func TestOutOfOrder(t *testing.T) {
	d := desk(make(chan *task))
	c := call(t, local(t, d).listener.Addr())
	c.send(asking("first", "second", "now"))
	c.gets("now")
	tasks := d.tasks(t, 2)
	c.send(asking("now"))
	c.gets("now")
	for _, what := range []string{"second", "first"} {
		tasks[what].answer()
		c.gets(what)
	}
}

// TestManyReplies: one query may have a stream of them.
func TestManyReplies(t *testing.T) {
	d := desk(make(chan *task))
	c := call(t, local(t, d).listener.Addr())
	c.send(asking("transfer"))
	task := d.tasks(t, 1)["transfer"]
	for range 1000 {
		task.w.Write(saying("part"))
	}
	task.answer()
	c.gets(append(slices.Repeat([]string{"part"}, 1000), "transfer")...)
}

// parrot answers at once with the query.
type parrot struct{ desk }

func (s parrot) answerer() answerer { return s }
func (parrot) flush()               {}

func (parrot) now(query []byte, _ client, dst []byte) ([]byte, bool) {
	return append(dst, query...), true
}

// TestSegments: queries of all lengths come in segments of all lengths.
func TestSegments(t *testing.T) {
	served := local(t, parrot{})
	for _, longest := range []int{300, 3000, math.MaxUint16} {
		var queries [][]byte
		for i := range 200 {
			queries = append(queries, bytes.Repeat([]byte{byte(i)}, headerSize+i*(longest-headerSize)/199))
		}
		slices.Reverse(queries[:100])
		stream := framed(queries...)
		for _, segment := range []int{1, 2, 3, 13, 511, 512, 513, 4096, 65537, len(stream)} {
			if len(stream)/segment > 100_000 {
				continue // takes too long
			}
			t.Run(fmt.Sprintf("up to %d in %d", longest, segment), func(t *testing.T) {
				c := call(t, served.listener.Addr())
				go func() {
					for part := range slices.Chunk(stream, segment) {
						c.Write(part)
					}
				}()
				replies := make([]byte, len(stream))
				if _, err := io.ReadFull(c, replies); err != nil || !bytes.Equal(replies, stream) {
					t.Errorf("the replies are not the queries: %v", err)
				}
			})
		}
	}
}

// TestNoQueries: a client of something else gets no further than that, but what it has asked before is answered.
func TestNoQueries(t *testing.T) {
	for name, odd := range map[string][]byte{
		"nothing":        framed(nil),
		"five octets":    framed(make([]byte, 5)),
		"eleven octets":  framed(make([]byte, 11)),
		"nothing to say": asking("never"),
	} {
		t.Run(name, func(t *testing.T) {
			d := desk(make(chan *task))
			c := call(t, local(t, d).listener.Addr())
			c.send(slices.Concat(asking("before", "now"), odd, asking("now", "after")))
			c.gets("now")
			d.tasks(t, 1)["before"].answer()
			c.gets("before")
			c.closed()
			select {
			case after := <-d:
				t.Errorf("%q is asked", after.query)
			default:
			}
		})
	}
}

// TestLongestReply: what cannot be framed is not sent.
func TestLongestReply(t *testing.T) {
	d := desk(make(chan *task))
	c := call(t, local(t, d).listener.Addr())
	c.send(asking("long"))
	task := d.tasks(t, 1)["long"]
	if _, err := task.w.Write(make([]byte, math.MaxUint16+1)); err == nil {
		t.Error("a reply of 65536 octets is sent")
	}
	if n, err := task.w.Write(make([]byte, math.MaxUint16)); n != math.MaxUint16 || err != nil {
		t.Errorf("%d of 65535 octets are sent: %v", n, err)
	}
	task.answer()
	if m, err := c.reply(); len(m) != math.MaxUint16 || err != nil {
		t.Errorf("%d of 65535 octets have come: %v", len(m), err)
	}
	c.gets("long")
}

// giant answers at once with so many octets.
type giant struct {
	desk
	size int
}

func (g giant) answerer() answerer { return g }
func (giant) flush()               {}

func (g giant) now(_ []byte, _ client, dst []byte) ([]byte, bool) {
	return append(dst, make([]byte, g.size)...), true
}

// TestLongestReplyAtOnce: the same of what is answered at once.
func TestLongestReplyAtOnce(t *testing.T) {
	c := call(t, local(t, giant{size: math.MaxUint16}).listener.Addr())
	c.send(asking("one", "two"))
	for range 2 {
		if m, err := c.reply(); len(m) != math.MaxUint16 || err != nil {
			t.Errorf("%d of 65535 octets have come: %v", len(m), err)
		}
	}
	c = call(t, local(t, giant{size: math.MaxUint16 + 1}).listener.Addr())
	c.send(asking("one"))
	c.closed()
}

// TestHalfClosed: a client may say that it has no more questions, and wait for the replies.
func TestHalfClosed(t *testing.T) {
	d := desk(make(chan *task))
	c := call(t, local(t, d).listener.Addr())
	c.send(append(asking("first", "second", "now"), 0))
	c.Conn.(*net.TCPConn).CloseWrite()
	c.gets("now")
	for what, task := range d.tasks(t, 2) {
		if err := errors.Join(task.ctx.Err(), task.answer()); err != nil {
			t.Error(what, err)
		}
		c.gets(what)
	}
	if _, err := c.reply(); err != io.EOF {
		t.Error(err)
	}
}

// TestClientGone: nobody works for a client that has reset its connection.
func TestClientGone(t *testing.T) {
	d := desk(make(chan *task))
	c := call(t, local(t, d).listener.Addr())
	c.send(asking("first", "second"))
	tasks := d.tasks(t, 2)
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Close()
	for _, task := range tasks {
		task.ends(t)
		close(task.done)
	}
}

// TestClientGoneUnseen: one that has closed may still be there to read. The first reply that it refuses ends all.
func TestClientGoneUnseen(t *testing.T) {
	d := desk(make(chan *task))
	c := call(t, local(t, d).listener.Addr())
	c.send(asking("first", "last"))
	tasks := d.tasks(t, 2)
	c.Close()
	for tasks["first"].ctx.Err() == nil {
		tasks["first"].w.Write(saying("part"))
	}
	for _, task := range tasks {
		task.ends(t)
		close(task.done)
	}
}

// TestSlowReader: a client that takes no replies is cut off, which counts as a limit hit (L-16), and nobody works for
// it any more.
func TestSlowReader(t *testing.T) {
	limits, hits := usualLimits, make(chan string, 10)
	limits.Write, limits.Hit = 50*time.Millisecond, func(limit string) { hits <- limit }
	d := desk(make(chan *task))
	served := serving(t, d, limits, "127.0.0.1:0")
	c := call(t, served.listener.Addr())
	c.send(asking("much", "other"))
	tasks := d.tasks(t, 2)
	written := 0
	for {
		n, err := tasks["much"].w.Write(make([]byte, math.MaxUint16))
		if written += n; err != nil {
			break
		}
	}
	if hit := <-hits; hit != LimitUnread {
		t.Errorf("limit hit: %s", hit)
	}
	for _, task := range tasks {
		task.ends(t)
		close(task.done)
	}
	if n, _ := io.Copy(io.Discard, c); n > int64(written) {
		t.Errorf("%d octets have come, %d were sent", n, written)
	}
}

// TestClock: how long a client may leave us waiting.
func TestClock(t *testing.T) {
	limits := Limits{
		Idle: 10 * time.Second, Read: 3 * time.Second, Write: 5 * time.Second, Connections: 10, Pending: 100,
		Pipelined: 10,
	}
	for name, row := range map[string]struct {
		does func(c caller, d desk)
		ends time.Duration // after the client has come
	}{
		"asks nothing": {func(caller, desk) {}, 10 * time.Second},
		"asks after 9 s": {func(c caller, d desk) {
			time.Sleep(9 * time.Second)
			c.send(asking("now"))
			c.gets("now")
		}, 19 * time.Second},
		"waits 25 s for a reply": {func(c caller, d desk) {
			c.send(asking("later"))
			time.Sleep(25 * time.Second)
			go d.tasks(c.t, 1)["later"].answer()
			c.gets("later")
		}, 35 * time.Second},
		"asks while another question is in work": {func(c caller, d desk) {
			c.send(asking("later"))
			time.Sleep(25 * time.Second)
			c.send(asking("now"))
			c.gets("now")
			time.Sleep(time.Second)
			go d.tasks(c.t, 1)["later"].answer()
			c.gets("later")
		}, 36 * time.Second},
		"begins a question": {func(c caller, d desk) {
			time.Sleep(9 * time.Second)
			c.send(asking("now")[:1])
		}, 12 * time.Second},
		"begins one, octet by octet": {func(c caller, d desk) {
			for _, octet := range asking("now")[:6] {
				c.send([]byte{octet})
				time.Sleep(500 * time.Millisecond)
			}
		}, 3 * time.Second},
		"begins a second one with the first": {func(c caller, d desk) {
			time.Sleep(9 * time.Second)
			c.send(asking("now", "now")[:20])
			c.gets("now")
		}, 12 * time.Second},
		"ends one in time": {func(c caller, d desk) {
			c.send(asking("now")[:4])
			time.Sleep(3*time.Second - 1)
			c.send(asking("now")[4:])
			c.gets("now")
		}, 13*time.Second - 1},
		"begins one while another is in work": {func(c caller, d desk) {
			c.send(append(asking("later"), 0))
			time.Sleep(3 * time.Second)
			go d.tasks(c.t, 1)["later"].answer()
			c.gets("later")
		}, 3 * time.Second},
		"takes no reply": {func(c caller, d desk) {
			time.Sleep(9 * time.Second)
			c.send(asking("now"))
			if n, err := c.Write(asking("now")); err == nil {
				c.t.Errorf("%d octets are read while a reply is not taken", n)
			}
		}, 14 * time.Second},
		"takes no late reply": {func(c caller, d desk) {
			c.send(asking("later"))
			time.Sleep(time.Second)
			if d.tasks(c.t, 1)["later"].answer() == nil {
				c.t.Error("there is nobody to take it")
			}
		}, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, limits, func(t *testing.T, l *pipes, d desk, served *streams) {
				go served.run()
				c := l.call(t, "192.0.2.1")
				begun := time.Now()
				row.does(c, d)
				c.closed()
				if took := time.Since(begun); took != row.ends {
					t.Errorf("it is closed after %v, not %v", took, row.ends)
				}
			})
		})
	}
}

// TestSlowReaderIsNotRead: nor has it work done, while it does not take its replies.
func TestSlowReaderIsNotRead(t *testing.T) {
	inBubble(t, usualLimits, func(t *testing.T, l *pipes, d desk, served *streams) {
		go served.run()
		c := l.call(t, "192.0.2.1")
		c.send(asking("now"))
		go c.Write(asking("later"))
		synctest.Wait()
		if len(d) > 0 {
			t.Error("a query is worked on while a reply cannot be sent")
		}
		c.gets("now")
		defer d.tasks(t, 1)["later"].answer()
	})
}

// TestPipelined: no more queries of one connection are worked on at once. Those before that are answered meanwhile.
func TestPipelined(t *testing.T) {
	limits := usualLimits
	limits.Pipelined = 2
	inBubble(t, limits, func(t *testing.T, l *pipes, d desk, served *streams) {
		go served.run()
		c := l.call(t, "192.0.2.1")
		c.send(asking("first", "second", "now", "third", "fourth"))
		c.gets("now")
		tasks := d.tasks(t, 2)
		for _, next := range []string{"third", "fourth"} {
			synctest.Wait()
			if len(d) > 0 {
				t.Fatalf("%q does not wait", (<-d).query)
			}
			for what, task := range tasks {
				go task.answer()
				c.gets(what)
				delete(tasks, what)
				break
			}
			tasks[next] = d.tasks(t, 1)[next]
		}
		other := l.call(t, "192.0.2.1")
		other.send(asking("other"))
		tasks["other"] = d.tasks(t, 1)["other"]
		other.Close()
		c.Close()
		for _, task := range tasks {
			task.answer()
		}
	})
}

// TestInWorkTogether: of all connections only so many queries are worked on at once, and a client that gets no more
// replies takes none of their places (L-15). What is answered at once does not wait for that.
func TestInWorkTogether(t *testing.T) {
	limits := usualLimits
	limits.Pending = 2
	limits.Write = 5 * time.Second
	inBubble(t, limits, func(t *testing.T, l *pipes, d desk, served *streams) {
		go served.run()
		deaf, other, last := l.call(t, "192.0.2.1"), l.call(t, "192.0.2.2"), l.call(t, "192.0.2.3")
		deaf.send(asking("first"))
		other.send(asking("second"))
		tasks := d.tasks(t, 2)
		deaf.send(asking("of nobody"))
		last.send(asking("now", "third"))
		last.gets("now")
		synctest.Wait()
		if len(d) > 0 {
			t.Fatalf("%q does not wait", (<-d).query)
		}
		tasks["first"].w.Write(saying("nobody takes it"))
		tasks["first"].ends(t)
		close(tasks["first"].done)
		third := d.tasks(t, 1)["third"]
		synctest.Wait()
		if third == nil || len(d) > 0 {
			t.Fatal("who has gone has a place")
		}
		for _, task := range []*task{third, tasks["second"]} {
			go task.answer()
		}
		last.gets("third")
		other.gets("second")
		synctest.Wait()
		if n := len(served.slots.now()); n != 0 {
			t.Errorf("%d places are kept", n)
		}
	})
}

// TestPipelinedGone: a query that waits for others is not worked on once its client takes no replies, and has no place
// among those that are (L-15).
func TestPipelinedGone(t *testing.T) {
	limits := usualLimits
	limits.Pipelined = 1
	limits.Write = 5 * time.Second
	inBubble(t, limits, func(t *testing.T, l *pipes, d desk, served *streams) {
		go served.run()
		for range 20 { // whether there is a place, or a client, is looked at in any order
			l.call(t, "192.0.2.1").send(asking("first", "second", "now"))
			first := d.tasks(t, 1)["first"]
			first.w.Write(saying("nobody takes it"))
			first.ends(t)
			close(first.done)
			synctest.Wait()
			if len(d) > 0 {
				t.Errorf("%q is worked on", (<-d).query)
			}
		}
		if n := len(served.slots.now()); n != 0 {
			t.Errorf("%d places are kept", n)
		}
	})
}

// TestNameOfClient: as it has asked, whatever the family of the socket.
func TestNameOfClient(t *testing.T) {
	for address, host := range map[string]string{
		"127.0.0.1:0": "127.0.0.1", "[::1]:0": "::1", "[::]:0": "127.0.0.1", "0.0.0.0:0": "127.0.0.1",
	} {
		t.Run(address, func(t *testing.T) {
			s := naming{make(chan client, 1), desk(make(chan *task))}
			served := serving(t, s, usualLimits, address)
			_, port, _ := net.SplitHostPort(served.listener.Addr().String())
			to := netip.MustParseAddrPort(net.JoinHostPort(host, port))
			c := call(t, net.TCPAddrFromAddrPort(to))
			from := c.LocalAddr().(*net.TCPAddr).AddrPort()
			c.send(asking("who am I"))
			if got := <-s.names; got.addr != from || got.udp || got.read.IsZero() {
				t.Errorf("the client is %v, not %v", got, from)
			}
			task := s.desk.tasks(t, 1)["who am I"]
			remote, local := task.w.RemoteAddr().(*net.TCPAddr), task.w.LocalAddr().(*net.TCPAddr)
			if !remote.IP.Equal(from.Addr().AsSlice()) || remote.Port != int(from.Port()) ||
				!local.IP.Equal(to.Addr().AsSlice()) || local.Port != int(to.Port()) {
				t.Errorf("%v asks %v", remote, local)
			}
			task.answer()
		})
	}
}

// naming is a source that says who asks.
type naming struct {
	names chan client
	desk
}

func (n naming) answerer() answerer { return n }
func (naming) flush()               {}

func (n naming) now(_ []byte, from client, dst []byte) ([]byte, bool) {
	n.names <- from
	return dst, false
}

// tape is a connection whose client has sent what it will.
type tape struct {
	net.Conn          // panics
	segments [][]byte // then the client has closed its half
	written  [][]byte
	deaf     bool // the client takes no replies
}

func (c *tape) Read(b []byte) (int, error) {
	if len(c.segments) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.segments[0])
	if c.segments[0] = c.segments[0][n:]; len(c.segments[0]) == 0 {
		c.segments = c.segments[1:]
	}
	return n, nil
}

func (c *tape) Write(b []byte) (int, error) {
	if c.deaf {
		return 0, io.ErrClosedPipe
	}
	c.written = append(c.written, slices.Clone(b))
	return len(b), nil
}

func (*tape) Close() error                     { return nil }
func (*tape) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv6loopback, Port: 1} }
func (*tape) SetReadDeadline(time.Time) error  { return nil }
func (*tape) SetWriteDeadline(time.Time) error { return nil }

// play serves a tape to its end.
func play(s source, c *tape) {
	served := newStreams(nil, s, usualLimits)
	served.enter(newConnection(c, served))
	served.running.Wait()
}

// counting is a parrot that counts.
type counting struct {
	parrot
	asked *atomic.Int64
}

func (c counting) answerer() answerer { return c }
func (counting) flush()               {}

func (c counting) now(query []byte, from client, dst []byte) ([]byte, bool) {
	c.asked.Add(1)
	return c.parrot.now(query, from, dst)
}

// TestDeafClient: 1.2 MB of queries from a client that has gone cost no more than the first of them.
func TestDeafClient(t *testing.T) {
	s := counting{asked: new(atomic.Int64)}
	many := asking(slices.Repeat([]string{"what is the address of this?"}, 30_000)...)
	play(s, &tape{segments: [][]byte{many}, deaf: true})
	if n := s.asked.Load(); n == 0 || n > 400 {
		t.Errorf("%d queries are answered", n)
	}
}

// goner is a source that asks about a client that has gone.
type goner struct {
	gone  chan struct{} // is closed when it has
	asked []string      // later
}

func (g *goner) answerer() answerer { return g }
func (*goner) flush()               {}

func (g *goner) now(query []byte, _ client, dst []byte) ([]byte, bool) {
	if says(query) == "second" {
		<-g.gone
	}
	return dst, false
}

func (*goner) wait(context.Context, []byte, client, replier, func()) bool { return false }

func (g *goner) later(ctx context.Context, query []byte, w replier) {
	g.asked = append(g.asked, says(query))
	w.Write(query)
	<-ctx.Done()
	close(g.gone)
}

// TestGoneMeanwhile: a query that has been read before the client is seen to have gone is not worked on.
func TestGoneMeanwhile(t *testing.T) {
	g := &goner{gone: make(chan struct{})}
	play(g, &tape{segments: [][]byte{asking("first", "second", "third")}, deaf: true})
	if want := []string{"first"}; !slices.Equal(g.asked, want) {
		t.Errorf("%q are worked on", g.asked)
	}
}

// TestOneWrite: a reply and its length go out together (S-4), and so do the replies to what has come together.
func TestOneWrite(t *testing.T) {
	together := &tape{segments: [][]byte{asking("now", "now", "now"), asking("now")}}
	play(desk(nil), together)
	want := [][]byte{asking("now", "now", "now"), asking("now")}
	if !slices.EqualFunc(together.written, want, bytes.Equal) {
		t.Errorf("%q is written", together.written)
	}
	d, late := desk(make(chan *task, 1)), &tape{segments: [][]byte{asking("later")}}
	go func() { (<-d).answer() }()
	play(d, late)
	if want = [][]byte{asking("later")}; !slices.EqualFunc(late.written, want, bytes.Equal) {
		t.Errorf("%q is written", late.written)
	}
}

// FuzzStream: whatever comes in whatever segments, each message is taken as it was framed, until one is none.
func FuzzStream(f *testing.F) {
	f.Add(asking("one", "two", "three"), []byte{1, 2, 3, 50})
	f.Add(asking("one", "two", "three")[:30], []byte{})
	f.Add(append(asking("one"), framed([]byte("short"))...), []byte{0})
	f.Add(append(framed(make([]byte, 2000), make([]byte, 500)), 0, 0, 1), []byte{255, 255})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		var want []byte
		for rest := stream; len(rest) >= lengthSize; {
			end := lengthSize + int(binary.BigEndian.Uint16(rest))
			if end > len(rest) || end < lengthSize+headerSize {
				break
			}
			want, rest = append(want, rest[:end]...), rest[end:]
		}
		c := &tape{}
		for _, cut := range cuts {
			n := min(len(stream), 1+int(cut))
			c.segments, stream = append(c.segments, stream[:n]), stream[n:]
		}
		c.segments = slices.DeleteFunc(append(c.segments, stream), func(s []byte) bool { return len(s) == 0 })
		play(parrot{}, c)
		if got := slices.Concat(c.written...); !bytes.Equal(got, want) {
			t.Errorf("%q is answered, not %q", got, want)
		}
	})
}
