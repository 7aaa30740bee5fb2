package upstream

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// asked is one question as it arrived at a test server, and the way back.
type asked struct {
	n       int    // how many arrived over this network before it
	network string // "udp", "tcp" or "tls"
	from    netip.AddrPort
	wire    []byte
	msg     *dns.Msg
	conn    int          // the number of the connection, from 1; 0 for UDP
	send    func([]byte) // a message back
	sendRaw func([]byte) // octets back, without their length before them; TCP and TLS only
	close   func()       // ends the connection
}

// reply is the beginning of a good reply.
func (a *asked) reply() *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(a.msg)
	m.RecursionAvailable = true
	m.SetEdns0(1232, true)
	return m
}

func (a *asked) write(m *dns.Msg) {
	wire, err := m.Pack()
	if err != nil {
		panic(err)
	}
	a.send(wire)
}

// answer sends a good reply with the given records.
func (a *asked) answer(records ...dns.RR) {
	m := a.reply()
	m.Answer = records
	a.write(m)
}

func (a *asked) rcode(rcode int) {
	m := a.reply()
	m.Rcode = rcode
	a.write(m)
}

func (a *asked) truncate() {
	m := a.reply()
	m.Truncated = true
	a.write(m)
}

// server is a DNS server on 127.0.0.1 that answers as its handler does, each question in a goroutine of its own.
type server struct {
	t       testing.TB
	addr    netip.AddrPort
	handle  func(*asked)
	mu      sync.Mutex
	arrived map[string][]*asked // by network
	conns   []net.Conn
	running sync.WaitGroup
}

// serve answers over UDP and TCP at one port until the test ends.
func serve(t testing.TB, handle func(*asked)) *server {
	t.Helper()
	pc, l := ports.Open(t)
	return start(t, handle, pc, l, "tcp")
}

// start serves on given sockets; pc may be nil.
func start(t testing.TB, handle func(*asked), pc net.PacketConn, l net.Listener, network string) *server {
	s := &server{t: t, handle: handle, addr: l.Addr().(*net.TCPAddr).AddrPort(), arrived: map[string][]*asked{}}
	if pc != nil {
		s.running.Go(func() { s.servePackets(pc) })
	}
	s.running.Go(func() { s.accept(l, network) })
	t.Cleanup(func() {
		if pc != nil {
			pc.Close()
		}
		l.Close()
		s.hangUp()
		s.running.Wait()
	})
	return s
}

// hangUp closes the connections there are.
func (s *server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

func (s *server) servePackets(pc net.PacketConn) {
	for {
		buf := make([]byte, 65535)
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		s.take(&asked{
			network: "udp", wire: buf[:n], from: from.(*net.UDPAddr).AddrPort(), close: func() {},
			send: func(wire []byte) { pc.WriteTo(wire, from) },
		})
	}
}

func (s *server) accept(l net.Listener, network string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		number := len(s.conns)
		s.mu.Unlock()
		s.running.Go(func() { s.serveConn(c, network, number) })
	}
}

func (s *server) serveConn(c net.Conn, network string, number int) {
	defer c.Close()
	r := bufio.NewReader(c)
	var writing sync.Mutex
	for {
		wire, err := readFramed(r)
		if err != nil {
			return
		}
		s.take(&asked{
			network: network, wire: wire, conn: number, from: c.RemoteAddr().(*net.TCPAddr).AddrPort(),
			close:   func() { c.Close() },
			sendRaw: func(octets []byte) { c.Write(octets) },
			send: func(wire []byte) {
				writing.Lock()
				defer writing.Unlock()
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...))
			},
		})
	}
}

func (s *server) take(a *asked) {
	a.msg = new(dns.Msg)
	if err := a.msg.Unpack(a.wire); err != nil {
		s.t.Errorf("the question over %s cannot be read: %v", a.network, err)
		return
	}
	s.mu.Lock()
	a.n = len(s.arrived[a.network])
	s.arrived[a.network] = append(s.arrived[a.network], a)
	s.mu.Unlock()
	s.running.Go(func() { s.handle(a) })
}

// got returns what has arrived over a network so far.
func (s *server) got(network string) []*asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.arrived[network])
}

// connections tells how many were opened.
func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// plain is the server's address as an upstream.
func (s *server) plain() Address { return Address{Server: s.addr} }

// leakless fails the test if goroutines are left at its end, when all else has been cleaned up.
func leakless(t testing.TB) {
	before, _ := goroutines()
	t.Cleanup(func() {
		for deadline := time.Now().Add(longEnough); ; time.Sleep(10 * time.Millisecond) {
			after, stacks := goroutines()
			if after <= before {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines, %d before:\n%s", after, before, stacks)
			}
		}
	})
}

// goroutines counts those that run, without those of CoreDNS's forward: it ends them in a finalizer.
func goroutines() (int, string) {
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	return strings.Count(stacks, "\n\n") - strings.Count(stacks, "proxy.(*Transport).connManager("), stacks
}

const defaultEDNSSize = 1232

var question = dnssec.Question

// usually is c with what danelaw takes unless it is told another.
func usually(c Config) Config {
	c.EDNSSize = cmp.Or(c.EDNSSize, defaultEDNSSize)
	c.Meter = cmp.Or[Meter](c.Meter, new(counts))
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Pause == nil {
		c.Pause = func() {}
	}
	return c
}

// newSet makes a Set that is closed at the end of the test, when no goroutine of it may be left.
func newSet(t testing.TB, c Config) *Set {
	t.Helper()
	s, err := New(usually(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// rootSet asks the given upstreams for everything.
func rootSet(t testing.TB, to ...Address) *Set {
	t.Helper()
	return newSet(t, Config{Routes: []Route{{From: ".", To: to}}})
}

// longEnough is for what must come, however slow the machine is.
const longEnough = 30 * time.Second

func ctxFor(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Exchange asks and waits for the outcome.
func (s *Set) Exchange(ctx context.Context, q dns.Question, t fetch.Try) (reply fetch.Reply, err error) {
	t.Until, _ = ctx.Deadline()
	came := make(chan struct{})
	cancel := s.Ask(q, t, func(r fetch.Reply, e error) {
		reply, err = r, e
		close(came)
	})
	defer context.AfterFunc(ctx, cancel)()
	<-came
	return reply, err
}

var addr = netip.MustParseAddr

var mxQuestion = question("example.com.", dns.TypeMX)

// exchange asks for the MX of example.com with CD set, as most questions are.
func exchange(t testing.TB, s *Set) (fetch.Reply, error) {
	t.Helper()
	return s.Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{CD: true})
}

// wantMX asks and fails the test unless the one MX of the test servers comes back.
func wantMX(t testing.TB, s *Set) fetch.Reply {
	t.Helper()
	reply, err := exchange(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(reply.Msg.Answer) != 1 || reply.Msg.Answer[0].(*dns.MX).Mx != "mail.example.com." {
		t.Fatalf("got %v", reply.Msg)
	}
	return reply
}

func theMX(t testing.TB) dns.RR { return newRR(t, "example.com. 300 IN MX 10 mail.example.com.") }

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longEnough); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain for %s", longEnough, what)
		}
	}
}
