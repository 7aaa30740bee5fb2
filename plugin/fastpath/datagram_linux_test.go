package fastpath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/danelaw-dns/danelaw/test/needs"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// patient is how long a test waits for what has to come.
const patient = 20 * time.Second

// datagramSource answers as its fields say.
type datagramSource struct {
	atOnce func(query []byte, from client, dst []byte) ([]byte, bool)
	inTime func(ctx context.Context, query []byte, w replier)
}

func (s datagramSource) answerer() answerer { return s }
func (datagramSource) flush()               {}

func (s datagramSource) now(query []byte, from client, dst []byte) ([]byte, bool) {
	return s.atOnce(query, from, dst)
}
func (datagramSource) wait(context.Context, []byte, client, replier, func()) bool { return false }

func (s datagramSource) later(ctx context.Context, query []byte, w replier) { s.inTime(ctx, query, w) }

// echo replies at once with the query.
var echo = datagramSource{atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
	return append(dst, query...), true
}}

// deferring leaves all queries for later.
func deferring(later func(ctx context.Context, query []byte, w replier)) datagramSource {
	return datagramSource{
		atOnce: func(_ []byte, _ client, dst []byte) ([]byte, bool) { return append(dst, "not a reply"...), false },
		inTime: later,
	}
}

// question is a message that says what it is.
func question(format string, args ...any) []byte {
	return append(make([]byte, headerSize), fmt.Sprintf(format, args...)...)
}

// bound is a socket that nobody reads yet.
func bound(t testing.TB, s source, address string) *datagrams {
	t.Helper()
	config := net.ListenConfig{Control: prepare}
	conn, err := config.ListenPacket(t.Context(), network("udp", address), address)
	needs.Address(t, address, err)
	d, err := newDatagrams(conn.(*net.UDPConn), s, 1000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.conn.Close() })
	return d
}

// network has 0.0.0.0 be a socket of IPv4, and not :: as else.
func network(protocol, address string) string {
	if strings.HasPrefix(address, "0.0.0.0:") {
		return protocol + "4"
	}
	return protocol
}

// reading is a socket that is read.
func reading(t testing.TB, s source, address string) *datagrams {
	t.Helper()
	d := bound(t, s, address)
	go d.run()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		defer cancel()
		d.close(ctx)
		if ctx.Err() != nil {
			t.Error("queries are still being answered at the close")
		}
	})
	return d
}

// port is where a socket reads.
func (d *datagrams) port() uint16 { return d.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// dialed is a client that sees replies from the address it has asked, and from no other.
func dialed(t testing.TB, d *datagrams, host string) *net.UDPConn {
	t.Helper()
	to := netip.AddrPortFrom(netip.MustParseAddr(host), d.port())
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	needs.Address(t, host, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// asks sends a query.
func asks(t testing.TB, c net.Conn, query []byte) {
	t.Helper()
	if _, err := c.Write(query); err != nil {
		t.Fatal(err)
	}
}

// gets waits for a reply.
func gets(t testing.TB, c net.Conn, want []byte) {
	t.Helper()
	buffer := make([]byte, 64<<10)
	c.SetReadDeadline(time.Now().Add(patient))
	n, err := c.Read(buffer)
	if err != nil {
		t.Fatalf("no reply %.100q: %v", want, err)
	}
	if !bytes.Equal(buffer[:n], want) {
		t.Fatalf("the reply is %.100q (%d octets), not %.100q (%d)", buffer[:n], n, want, len(want))
	}
}

// TestDatagramsReplyFromTheAddressAsked: at once or later, of all families, also where the socket has many addresses.
func TestDatagramsReplyFromTheAddressAsked(t *testing.T) {
	sources := map[string]source{
		"now":   echo,
		"later": deferring(func(_ context.Context, query []byte, w replier) { w.Write(query) }),
	}
	for name, s := range sources {
		rows := append(slices.Clone(groups), []where{{"0.0.0.0:0", "127.0.0.7"}, {"[::]:0", "127.0.0.7"}}...)
		for _, asked := range addresses(t) {
			rows = append(rows, where{"[::]:0", asked.String()})
			if asked.Is4() {
				rows = append(rows, where{"0.0.0.0:0", asked.String()})
			}
		}
		for _, at := range rows {
			t.Run(fmt.Sprintf("%s at %s, %s asked", name, at.bound, at.asked), func(t *testing.T) {
				c := dialed(t, reading(t, s, at.bound), at.asked)
				for i := range 3 {
					asks(t, c, question("%d", i))
					gets(t, c, question("%d", i))
				}
			})
		}
	}
}

// TestDatagramsOverLinkLocal: an address that says nothing without its interface.
func TestDatagramsOverLinkLocal(t *testing.T) {
	if !apart(t) {
		return
	}
	var froms = make(chan client, 1)
	s := datagramSource{atOnce: func(query []byte, from client, dst []byte) ([]byte, bool) {
		froms <- from
		return append(dst, query...), true
	}}
	asked, plain := linkLocal(t)
	for _, at := range []string{"[::]:0", netip.AddrPortFrom(asked, 0).String()} {
		c := dialed(t, reading(t, s, at), asked.String())
		asks(t, c, question("which interface?"))
		if from, want := <-froms, c.LocalAddr().(*net.UDPAddr).AddrPort(); from.addr != want {
			t.Errorf("at %s: the client is %s, not %s", at, from.addr, want)
		}
		gets(t, c, question("which interface?"))
	}
	d := reading(t, echo, "[::]:0") // and for a client whose own address says no interface
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(plain, 0)),
		net.UDPAddrFromAddrPort(netip.AddrPortFrom(asked, d.port())))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	asks(t, c, question("from %s", plain))
	gets(t, c, question("from %s", plain))
}

// addresses are those of this host.
func addresses(t *testing.T) (all []netip.Addr) {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range interfaces {
		prefixes, _ := at.Addrs()
		for _, text := range prefixes {
			prefix, err := netip.ParsePrefix(text.String())
			address := prefix.Addr()
			if err == nil && address.Is6() && address.IsLinkLocalUnicast() {
				address = address.WithZone(at.Name)
			}
			if err == nil {
				all = append(all, address)
			}
		}
	}
	return all
}

// TestDatagramsNameTheClient: as the socket has it, an IPv4 client of a socket of IPv6 as one of IPv4.
func TestDatagramsNameTheClient(t *testing.T) {
	type named struct {
		now           client
		local, remote net.Addr
	}
	for _, at := range groups {
		t.Run(at.asked+" at "+at.bound, func(t *testing.T) {
			names := make(chan named, 1)
			var from client
			d := reading(t, datagramSource{
				atOnce: func(_ []byte, c client, dst []byte) ([]byte, bool) { from = c; return dst, false },
				inTime: func(_ context.Context, _ []byte, w replier) {
					names <- named{from, w.LocalAddr(), w.RemoteAddr()}
				},
			}, at.bound)
			c := dialed(t, d, at.asked)
			asks(t, c, question("who am I?"))
			got, self := <-names, c.LocalAddr().(*net.UDPAddr).AddrPort()
			if want := (client{self, true, got.now.read}); got.now != want || want.read.IsZero() {
				t.Errorf("now: the client is %v, not %v", got.now, want)
			}
			if remote := got.remote.(*net.UDPAddr).AddrPort(); remote != self {
				t.Errorf("later: the client is %v, not %v", remote, self)
			}
			if got.local.String() != d.conn.LocalAddr().String() {
				t.Errorf("the socket is at %v, not %v", got.local, d.conn.LocalAddr())
			}
		})
	}
}

// TestDatagramsThatAreNoQueries: too short for a header, or longer than what is read of a query. Those just long
// enough, and just not too long, are queries.
func TestDatagramsThatAreNoQueries(t *testing.T) {
	d := bound(t, echo, "127.0.0.1:0")
	c := dialed(t, d, "127.0.0.1")
	sizes := []int{0, 1, probeSize, headerSize, packets.Most, packets.Most + 1, 60000, headerSize + 1}
	for i, size := range sizes {
		asks(t, c, bytes.Repeat([]byte{byte(i)}, size))
	}
	go d.run()
	for i, size := range sizes {
		if headerSize <= size && size <= packets.Most {
			gets(t, c, bytes.Repeat([]byte{byte(i)}, size))
		}
	}
	d.close(t.Context())
}

// TestDatagramsInManyBatches: all that waited when the reading began is answered, each query to who has asked.
func TestDatagramsInManyBatches(t *testing.T) {
	d := bound(t, datagramSource{
		atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
			return append(dst, query...), query[headerSize]%3 != 0
		},
		inTime: func(_ context.Context, query []byte, w replier) { w.Write(query) },
	}, "127.0.0.1:0")
	clients := make([]*net.UDPConn, 5*packets.Size+1)
	for i := range clients {
		clients[i] = dialed(t, d, "127.0.0.1")
		asks(t, clients[i], question("%d is my number", i))
	}
	go d.run()
	for i, c := range clients {
		gets(t, c, question("%d is my number", i))
	}
	d.close(t.Context())
}

// begins is told when a batch has been answered, and when a query is to be answered later, which it is not.
type begins struct {
	datagramSource
	flushed func()
	begun   func()
}

func (s begins) answerer() answerer { return s }
func (s begins) flush()             { s.flushed() }

func (s begins) wait(_ context.Context, _ []byte, _ client, _ replier, over func()) bool {
	defer over()
	s.begun()
	return true
}

// hitOrMiss answers at once what begins with an h.
func hitOrMiss(query []byte, _ client, dst []byte) ([]byte, bool) {
	if query[headerSize] != 'h' {
		return dst, false
	}
	return append(dst, query...), true
}

// L-7: what is answered at once has its reply before anything begins for what came with it and is not.
func TestHitsBeforeMisses(t *testing.T) {
	given, got, misses := 0, 0, 0
	var c net.Conn
	d := bound(t, begins{datagramSource{atOnce: func(query []byte, from client, dst []byte) ([]byte, bool) {
		reply, hit := hitOrMiss(query, from, dst)
		if hit {
			given++
		}
		return reply, hit
	}}, func() {}, func() {
		for misses++; got < given; got++ {
			gets(t, c, question("hit %d", got))
		}
	}}, "127.0.0.1:0")
	c = dialed(t, d, "127.0.0.1")
	const each = few
	for i := range each {
		asks(t, c, question("miss %d", i))
		asks(t, c, question("hit %d", i))
	}
	for begun := time.Now(); given+misses < 2*each && time.Since(begun) < patient; {
		d.raw.Control(func(fd uintptr) { d.take(d.batches[0], fd, packets.Size) })
	}
	if given != each || misses != each {
		t.Errorf("%d hits and %d misses of %d each", given, misses, each)
	}
}

// L-7: where what has been read takes time, few are read together next, so that what is cached waits for few.
func TestFewAfterMisses(t *testing.T) {
	const all = packets.Size + 3*few
	now, misses, sizes := 0, 0, []int(nil)
	d := bound(t, begins{datagramSource{atOnce: func(_ []byte, _ client, dst []byte) ([]byte, bool) {
		now++
		return dst, false
	}}, func() {
		sizes, now = append(sizes, now), 0
	}, func() { misses++ }}, "127.0.0.1:0")
	c := dialed(t, d, "127.0.0.1")
	for i := range all {
		asks(t, c, question("%d", i))
	}
	for begun := time.Now(); misses < all && time.Since(begun) < patient; {
		d.raw.Control(func(fd uintptr) { d.serve(fd) })
	}
	if misses != all || slices.Max(sizes[1:]) > few {
		t.Errorf("%d of %d are begun; read together were %v: after the first at most %d are", misses, all, sizes, few)
	}
}

// TestDatagramsWithoutReply: the source is silent about some; the others have theirs.
func TestDatagramsWithoutReply(t *testing.T) {
	d := bound(t, datagramSource{atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
		switch string(query[headerSize:]) {
		case "silence":
			return dst, true
		case "nothing":
			return nil, true
		}
		return append(dst, query...), true
	}}, "127.0.0.1:0")
	c := dialed(t, d, "127.0.0.1")
	for _, text := range []string{"silence", "a", "nothing", "silence", "b", "nothing"} {
		asks(t, c, question("%s", text))
	}
	go d.run()
	gets(t, c, question("a"))
	gets(t, c, question("b"))
	d.close(t.Context())
}

// TestDatagramsThatCannotBeSent: a reply that the kernel refuses costs no other its way out, wherever in a batch it is.
func TestDatagramsThatCannotBeSent(t *testing.T) {
	huge := make([]byte, 66000) // more than UDP has room for
	d := bound(t, datagramSource{atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
		if string(query[headerSize:]) == "huge" {
			return append(dst, huge...), true
		}
		return append(dst, query...), true
	}}, "127.0.0.1:0")
	c := dialed(t, d, "127.0.0.1")
	texts := []string{"huge", "a", "huge", "huge", "b", "c", "huge"}
	for _, text := range texts {
		asks(t, c, question("%s", text))
	}
	go d.run()
	for _, text := range texts {
		if text != "huge" {
			gets(t, c, question("%s", text))
		}
	}
	d.close(t.Context())
}

// TestLaterReplies: each has a query of its own, whatever comes meanwhile; sends several replies; and hears of one that
// cannot be sent.
func TestLaterReplies(t *testing.T) {
	proceed, refused := make(chan struct{}), make(chan error, 2*packets.Size)
	d := reading(t, deferring(func(_ context.Context, query []byte, w replier) {
		<-proceed
		_, err := w.Write(make([]byte, 66000))
		refused <- err
		for _, part := range []string{"first", "second"} {
			reply := append(slices.Clone(query), part...)
			if n, err := w.Write(reply); n != len(reply) || err != nil {
				t.Errorf("a reply of %d octets: %d sent, %v", len(reply), n, err)
			}
		}
	}), "[::]:0")
	clients := make([]*net.UDPConn, 2*packets.Size)
	for i := range clients {
		clients[i] = dialed(t, d, "127.0.0.1")
		asks(t, clients[i], question("%d ", i))
	}
	close(proceed)
	for i, c := range clients {
		gets(t, c, question("%d first", i))
		gets(t, c, question("%d second", i))
		if err := <-refused; !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("a reply too long for UDP: %v", err)
		}
	}
}

// TestLaterIsBounded: while as many queries are answered later as may be, nothing is read; what has come is answered as
// they end (L-15).
func TestLaterIsBounded(t *testing.T) {
	const pending, asked = 3, 10
	begun, proceed := make(chan struct{}, asked), make(chan struct{})
	d := bound(t, deferring(func(_ context.Context, query []byte, w replier) {
		begun <- struct{}{}
		<-proceed
		w.Write(query)
	}), "127.0.0.1:0")
	d.limit(Limits{Pending: pending})
	c := dialed(t, d, "127.0.0.1")
	for i := range asked {
		asks(t, c, question("%d", i))
	}
	ended := make(chan struct{})
	go func() { d.run(); close(ended) }()
	for range pending {
		<-begun
	}
	for range asked - pending {
		if len(begun) > 0 {
			t.Fatalf("more than %d are answered at once", pending)
		}
		proceed <- struct{}{}
		<-begun
	}
	close(proceed)
	for range asked {
		c.SetReadDeadline(time.Now().Add(patient))
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	d.close(t.Context())
	<-ended
}

// TestDatagramsClose: what is in flight is answered, while nothing more is read; the close does not wait longer than
// for that, and the socket is closed then.
func TestDatagramsClose(t *testing.T) {
	begun, proceed := make(chan struct{}), make(chan struct{})
	d := bound(t, deferring(func(_ context.Context, query []byte, w replier) {
		begun <- struct{}{}
		<-proceed
		w.Write(query)
	}), "127.0.0.1:0")
	ran := make(chan struct{})
	go func() { d.run(); close(ran) }()
	c := dialed(t, d, "127.0.0.1")
	asks(t, c, question("in flight"))
	<-begun
	closed := make(chan struct{})
	go func() { d.close(context.Background()); close(closed) }()
	<-ran // nobody reads any more
	asks(t, c, question("too late"))
	close(proceed)
	gets(t, c, question("in flight"))
	<-closed
	if _, err := d.conn.Write(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket: %v", err)
	}
}

// TestDatagramsCloseUnderLoad: there is always one more query to be read.
func TestDatagramsCloseUnderLoad(t *testing.T) {
	var c *net.UDPConn
	begun := make(chan struct{}, 1)
	d := bound(t, datagramSource{atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
		c.Write(query)
		select {
		case begun <- struct{}{}:
		default:
		}
		return dst, true
	}}, "127.0.0.1:0")
	c = dialed(t, d, "127.0.0.1")
	asks(t, c, question("and again"))
	go d.run()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	if d.close(ctx); ctx.Err() != nil {
		t.Error("it is still being read")
	}
}

// TestDatagramsCloseAnswersTheRest: a busy host has kept the reader from its processor until the close. What has come
// before is answered, be it more than is read at once (S-26).
func TestDatagramsCloseAnswersTheRest(t *testing.T) {
	const come = 3*packets.Size + 1
	d := bound(t, echo, "127.0.0.1:0")
	c := dialed(t, d, "127.0.0.1")
	for i := range come {
		asks(t, c, question("%d", i))
	}
	d.endReading()
	d.run()
	for i := range come {
		gets(t, c, question("%d", i))
	}
}

// TestDatagramsCloseWithoutPatience: queries whose answers take too long hear of the end, and cannot reply any more.
func TestDatagramsCloseWithoutPatience(t *testing.T) {
	begun, failed := make(chan struct{}), make(chan error)
	d := bound(t, deferring(func(ctx context.Context, query []byte, w replier) {
		close(begun)
		<-ctx.Done()
		var err error
		for err == nil { // the socket is closed a moment later
			_, err = w.Write(query)
		}
		failed <- err
	}), "127.0.0.1:0")
	go d.run()
	asks(t, dialed(t, d, "127.0.0.1"), question("never"))
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.close(ctx)
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a reply after the end: %v", err)
	}
}

// TestDatagramsSurviveTheSocketsErrors: for a while every reading fails. Then queries are answered as before.
func TestDatagramsSurviveTheSocketsErrors(t *testing.T) {
	answered := atomic.Int32{}
	d := reading(t, datagramSource{atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
		answered.Add(1)
		return append(dst, query...), true
	}}, "127.0.0.1:0")
	c := dialed(t, d, "127.0.0.1")
	asks(t, c, question("before"))
	gets(t, c, question("before"))

	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var fd, saved int
	d.raw.Control(func(number uintptr) { fd = int(number) })
	if saved, err = unix.Dup(fd); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(saved)
	if err := unix.Dup3(int(null.Fd()), fd, unix.O_CLOEXEC); err != nil { // recvmmsg: ENOTSOCK
		t.Fatal(err)
	}
	asks(t, c, question("meanwhile")) // wakes the reader
	time.Sleep(20 * time.Millisecond)
	if answered.Load() != 1 {
		t.Error("what could not be read has been answered")
	}
	if err := unix.Dup3(saved, fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	gets(t, c, question("meanwhile"))
	asks(t, c, question("after"))
	gets(t, c, question("after"))
}

// TestBuffers: there is room for over four thousand questions and for many replies, as far as the host allows it.
func TestBuffers(t *testing.T) {
	d := bound(t, echo, "127.0.0.1:0")
	for _, row := range []struct {
		of           string
		forced, read int
		wanted       int
	}{
		{"rmem_max", unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer},
		{"wmem_max", unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer},
	} {
		var size int
		var err error
		d.raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, row.read) })
		if err != nil {
			t.Fatal(err)
		}
		if want := allowedBuffer(t, row.forced, row.read, row.wanted); size != want {
			t.Errorf("%s: the buffer has %d octets, not %d", row.of, size, want)
		}
	}
}

// allowedBuffer is the size that a buffer gets, which is twice what is asked for, if so much is wanted of this host.
func allowedBuffer(t *testing.T, forced, asked, wanted int) (octets int) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	if unix.SetsockoptInt(socket, unix.SOL_SOCKET, forced, wanted) == nil {
		return 2 * wanted
	}
	if err = unix.SetsockoptInt(socket, unix.SOL_SOCKET, asked, wanted); err == nil {
		octets, err = unix.GetsockoptInt(socket, unix.SOL_SOCKET, asked)
	}
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// batches are as many queries as one system call reads. answer answers such a batch, and returns the processor time
// that it has taken.
func batches(t testing.TB, address, asked string) (answer func() time.Duration) {
	t.Helper()
	d := bound(t, echo, address)
	c := dialed(t, d, asked)
	query, reply := question("the same, again and again"), make([]byte, packets.Most)
	serve := func(fd uintptr) { d.serve(fd) }
	return func() time.Duration {
		for range packets.Size {
			c.Write(query)
		}
		begun := processorTime()
		d.raw.Control(serve)
		took := processorTime() - begun
		for range packets.Size {
			if n, err := c.Read(reply); err != nil || n != len(query) {
				t.Fatal(n, err)
			}
		}
		return took
	}
}

// processorTime is what this thread has used.
func processorTime() time.Duration {
	var used unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used)
	return time.Duration(used.Nano())
}

// TestNowAllocatesNothing: from the socket to the socket.
func TestNowAllocatesNothing(t *testing.T) {
	for _, at := range groups {
		t.Run(at.asked+" at "+at.bound, func(t *testing.T) {
			answer := batches(t, at.bound, at.asked)
			if n := testing.AllocsPerRun(100, func() { answer() }); n >= 1 {
				t.Errorf("%.1f allocations for %d queries", n, packets.Size)
			}
		})
	}
}

// BenchmarkNow is what a query costs that is answered at once, its part of a batch: ns/query is the processor time
// without that of the client.
func BenchmarkNow(b *testing.B) {
	for _, at := range []string{"127.0.0.1:0", "[::]:0"} {
		b.Run(at, func(b *testing.B) {
			answer := batches(b, at, "127.0.0.1")
			b.ReportAllocs()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var took time.Duration
			done := 0
			for ; done < b.N; done += packets.Size {
				took += answer()
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(done), "ns/query")
		})
	}
}
