package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/certificates"
)

// overTCP asks for the MX of a name over TCP.
func overTCP(ctx context.Context, s *Set, name string) (fetch.Reply, error) {
	return s.Exchange(ctx, question(name, dns.TypeMX), fetch.Try{TCP: true, CD: true})
}

// parallel asks for n names at once over TCP and returns the errors; each answer must be its own.
func parallel(t testing.TB, s *Set, n int) []error {
	ctx := ctxFor(t, longEnough)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			name := fmt.Sprintf("n%d.example.com.", i)
			reply, err := overTCP(ctx, s, name)
			if err == nil && (len(reply.Msg.Answer) != 1 || reply.Msg.Answer[0].Header().Name != name) {
				err = fmt.Errorf("%s got %v", name, reply.Msg)
			}
			errs[i] = err
		})
	}
	all.Wait()
	return errs
}

// answerOwn answers with an MX for the name asked.
func answerOwn(t testing.TB, a *asked) {
	a.answer(newRR(t, a.msg.Question[0].Name+" 300 IN MX 10 mail.example.com."))
}

// gather holds n questions back until all have come, and then answers them, the last first.
func gather(t testing.TB, n int) func(*asked) {
	var mu sync.Mutex
	var held []*asked
	return func(a *asked) {
		mu.Lock()
		defer mu.Unlock()
		if held = append(held, a); len(held) < n {
			return
		}
		for _, h := range slices.Backward(held) {
			answerOwn(t, h)
		}
	}
}

// S-5, S-9: questions share one connection, and their answers may come in any order.
func TestPipelining(t *testing.T) {
	leakless(t)
	for name, server := range map[string]func(testing.TB, func(*asked)) (*server,
		*Set){"TCP": tcpServer, "TLS": tlsServer} {
		s, set := server(t, gather(t, 6))
		for _, err := range parallel(t, set, 6) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := s.connections(); n != 1 {
			t.Errorf("%s: %d connections, want 1", name, n)
		}
	}
}

func tcpServer(t testing.TB, handle func(*asked)) (*server, *Set) {
	s := serve(t, handle)
	return s, rootSet(t, s.plain())
}

// tlsServer is a DoT server with a certificate for dot.example.
func tlsServer(t testing.TB, handle func(*asked)) (*server, *Set) {
	ca := certificates.New(t)
	s := serveTLS(t, certified(t, ca, "dot.example"), handle)
	return s, newSet(t, Config{Routes: []Route{{".", []Address{{TLS, s.addr, "dot.example", ""}}}}, RootCAs: ca.Pool})
}

func serveTLS(t testing.TB, config *tls.Config, handle func(*asked)) *server {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, handle, nil, l, "tls")
}

// certified is the configuration of a server with a certificate for name.
func certified(t testing.TB, ca *certificates.Authority, name string) *tls.Config {
	cert := ca.Server(t, name, time.Now().Add(time.Hour))
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"dot"}}
}

// S-9: ALPN "dot", TLS 1.2 or better, queries padded to 128, the name verified; nothing is ever sent in clear.
func TestTLSAsSent(t *testing.T) {
	leakless(t)
	s, set := tlsServer(t, func(a *asked) { a.answer(theMX(t)) })
	wantMX(t, set)
	q := s.got("tls")[0]
	if len(q.wire)%paddingBlock != 0 || cookieOf(q.msg) != "" {
		t.Errorf("the query has %d octets, cookie %q", len(q.wire), cookieOf(q.msg))
	}
	s.mu.Lock()
	state := s.conns[0].(*tls.Conn).ConnectionState()
	s.mu.Unlock()
	if state.NegotiatedProtocol != "dot" || state.ServerName != "dot.example" || state.Version < tls.VersionTLS12 {
		t.Errorf("negotiated %q for %q in version %x", state.NegotiatedProtocol, state.ServerName, state.Version)
	}
}

// S-9: a server that does not prove its name, or offers old TLS or none, gets no question.
func TestTLSRefused(t *testing.T) {
	leakless(t)
	ca, otherCA := certificates.New(t), certificates.New(t)
	old := certified(t, ca, "dot.example")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for name, tt := range map[string]struct {
		config *tls.Config
		clock  func() time.Time
		text   string
	}{
		"another name": {certified(t, ca, "other.example"), time.Now,
			"certificate is valid for other.example, not dot.example"},
		// S-15
		"a rude name": {certified(t, ca, "\x1b[2J.example"), time.Now,
			"certificate is valid for \\u001b[2J.example, not dot.example"},
		"another CA": {certified(t, otherCA, "dot.example"), time.Now, "certificate signed by unknown authority"},
		"TLS 1.1":    {old, time.Now, "protocol version"},
		"no TLS":     {nil, time.Now, "could not be reached over TLS"},
		// T-14
		"a clock in 1970": {certified(t, ca, "dot.example"), func() time.Time { return time.Unix(0, 0) },
			"not yet valid"},
		"a clock in 2100": {certified(t, ca, "dot.example"), func() time.Time { return time.Unix(4102444800, 0) },
			"expired"},
	} {
		handle := func(a *asked) { a.answer(theMX(t)) }
		var s *server
		if tt.config == nil {
			s = serve(t, func(a *asked) { a.answer(theMX(t)) })
		} else {
			s = serveTLS(t, tt.config, handle)
		}
		address := Address{TLS, s.addr, "dot.example", ""}
		set := newSet(t, Config{Routes: []Route{{".", []Address{address}}}, RootCAs: ca.Pool, Clock: tt.clock})
		_, err := exchange(t, set)
		code := dns.ExtendedErrorCodeNetworkError
		if tt.config == nil { // it waits for the rest of a very long message
			code = dns.ExtendedErrorCodeNoReachableAuthority
		}
		wantFailure(t, err, code, tt.text, address.String())
		if len(s.got("tls"))+len(s.got("tcp"))+len(s.got("udp")) != 0 {
			t.Errorf("%s: a question was sent", name)
		}
	}
}

// S-5: a kept connection that has been reset is no failure: the question goes to a new one.
func TestResetIsRetried(t *testing.T) {
	leakless(t)
	s, set := tcpServer(t, func(a *asked) { answerOwn(t, a) })
	if _, err := overTCP(ctxFor(t, longEnough), set, "example.com."); err != nil {
		t.Fatal(err)
	}
	s.hangUp()
	for _, err := range parallel(t, set, 6) {
		if err != nil {
			t.Error(err)
		}
	}
}

// closing is a server that closes its first so many connections without an answer.
func closing(t *testing.T, name string, first int) (*server, *Set) {
	handle := func(a *asked) {
		if a.conn <= first {
			a.close()
			return
		}
		answerOwn(t, a)
	}
	if name == "TLS" {
		return tlsServer(t, handle)
	}
	return tcpServer(t, handle)
}

// streamOf is the stream of the one upstream of a set.
func streamOf(set *Set) *stream {
	if d, ok := set.upstreams[0].carrier.(*datagram); ok {
		return d.stream
	}
	return set.upstreams[0].carrier.(waiting).over.(*stream)
}

// S-5, RFC 7766 section 6.2.4: connections that are closed without an answer are tried again and again, with pauses,
// while time is left, but not without end.
func TestClosedIsRetriedWithPauses(t *testing.T) {
	leakless(t)
	for _, name := range []string{"TCP", "TLS"} {
		s, set := closing(t, name, maxLost-1)
		streamOf(set).patience.pause = time.Millisecond
		for _, err := range parallel(t, set, 3) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := s.connections(); n < maxLost || n > 3*maxLost {
			t.Errorf("%s: %d connections", name, n)
		}

		s, set = closing(t, name, 1000)
		streamOf(set).patience.pause = time.Millisecond
		_, err := overTCP(ctxFor(t, longEnough), set, "example.com.")
		wantFailure(t, err, dns.ExtendedErrorCodeNetworkError, "failed over "+name+": connection ")
		if n := s.connections(); n != maxLost {
			t.Errorf("%s: %d connections, want %d", name, n, maxLost)
		}
	}
}

// No pause begins for which there is no time, so that the failure says what happened.
func TestNoPauseBeyondTheEnd(t *testing.T) {
	leakless(t)
	s, set := closing(t, "TCP", 1000)
	streamOf(set).patience.pause = time.Hour
	_, err := overTCP(ctxFor(t, longEnough), set, "example.com.")
	wantFailure(t, err, dns.ExtendedErrorCodeNetworkError, "failed over TCP: connection ")
	if n := s.connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// A server that starts anew closes its connections, then refuses some, or closes them before TLS has begun.
func TestServerStartsAnew(t *testing.T) {
	leakless(t)
	for name, during := range map[string]error{
		"refused": os.NewSyscallError("connect", syscall.ECONNREFUSED),
		"reset":   os.NewSyscallError("read", syscall.ECONNRESET), "closed": io.EOF,
	} {
		s := serve(t, func(a *asked) {
			if a.conn == 1 {
				a.close()
				return
			}
			a.answer(theMX(t))
		})
		c := plainStream(t, s, usualPatience)
		c.patience.pause = time.Millisecond
		connect, tries := c.connect, 0
		c.connect = func(ctx context.Context) (net.Conn, error) {
			if tries++; tries > 1 && tries < 4 { // one after another
				return nil, &net.OpError{Op: "dial", Err: during}
			}
			return connect(ctx)
		}
		if _, err := c.ask(ctxFor(t, longEnough), theQuery); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A connection cut in mid-answer: each question outstanding on it goes to a new connection.
func TestCutInMidAnswer(t *testing.T) {
	leakless(t)
	for name, server := range map[string]func(testing.TB, func(*asked)) (*server,
		*Set){"TCP": tcpServer, "TLS": tlsServer} {
		all := make(chan struct{}, 6)
		s, set := server(t, func(a *asked) {
			if a.conn > 1 {
				answerOwn(t, a)
				return
			}
			if all <- struct{}{}; len(all) < cap(all) {
				return
			}
			m := a.reply()
			wire := packed(t, m)
			a.sendRaw(append([]byte{0, byte(len(wire))}, wire[:len(wire)/2]...))
			a.close()
		})
		for _, err := range parallel(t, set, 6) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := s.connections(); n < 2 || n > 7 {
			t.Errorf("%s: %d connections, want one more for each of 6 questions at most", name, n)
		}
	}
}

// A server that closes each connection after one answer fails no question, nor does one that closes it for one of the
// questions there: on the second connection they are apart.
func TestOneAnswerPerConnection(t *testing.T) {
	leakless(t)
	for name, server := range map[string]func(testing.TB, func(*asked)) (*server,
		*Set){"TCP": tcpServer, "TLS": tlsServer} {
		var mu sync.Mutex
		first := 0
		answered := map[int]bool{}
		_, set := server(t, func(a *asked) {
			mu.Lock()
			defer mu.Unlock()
			if a.conn == 1 {
				if first++; first < 6 {
					return
				}
			}
			if !answered[a.conn] {
				answered[a.conn] = true
				answerOwn(t, a)
				a.close()
			}
		})
		for _, err := range parallel(t, set, 6) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// When a connection with many questions is lost there are not as many new ones.
func TestManyLoseTheirConnection(t *testing.T) {
	leakless(t)
	const n = 200
	hold := gather(t, n)
	var mu sync.Mutex
	first := 0
	s, set := tcpServer(t, func(a *asked) {
		mu.Lock()
		defer mu.Unlock()
		if a.conn > 1 {
			hold(a)
		} else if first++; first == n {
			a.close()
		}
	})
	for _, err := range parallel(t, set, n) {
		if err != nil {
			t.Error(err)
		}
	}
	if got := s.connections(); got != 1+maxApart {
		t.Errorf("%d connections, want %d", got, 1+maxApart)
	}
}

// A server that sends replies without end that nobody asked for is not listened to for ever.
func TestUnaskedReplies(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) {
		m := a.reply()
		for m.Id ^= 0x8000; a.conn == 1 && a.n <= maxUnasked; a.n++ {
			a.write(m)
		}
		if a.conn > 1 {
			answerOwn(t, a)
		}
	})
	p := usualPatience
	p.silence = longEnough
	if _, err := plainStream(t, s, p).ask(ctxFor(t, longEnough), theQuery); err != nil {
		t.Error(err)
	}
}

// Replies to no question outstanding, and late ones, are ignored; one to another question under the right ID is not
// usable.
func TestStreamMismatches(t *testing.T) {
	leakless(t)
	_, set := tcpServer(t, func(a *asked) {
		m := a.reply()
		m.Id ^= 0x8000 // far from those of the other questions
		a.write(m)
		answerOwn(t, a)
		answerOwn(t, a)
	})
	for _, err := range parallel(t, set, 6) {
		if err != nil {
			t.Error(err)
		}
	}
	_, set = tcpServer(t, func(a *asked) {
		a.msg.Question[0].Name = "example.net."
		answerOwn(t, a)
	})
	_, err := set.Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{TCP: true})
	wantFailure(t, err, dns.ExtendedErrorCodeInvalidData, "replied to another question over TCP")
	_, set = tcpServer(t, func(a *asked) { a.truncate() })
	_, err = set.Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{TCP: true})
	wantFailure(t, err, dns.ExtendedErrorCodeInvalidData, "truncated its reply over TCP")
	_, set = tcpServer(t, func(a *asked) { a.send([]byte("short")) })
	_, err = set.Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{TCP: true})
	wantFailure(t, err, dns.ExtendedErrorCodeNetworkError, "failed over TCP: "+errShort.Error())
}

// The end of one question's context leaves the connection to the others.
func TestOneQuestionGivenUp(t *testing.T) {
	leakless(t)
	release := make(chan struct{})
	s, set := tcpServer(t, func(a *asked) {
		if a.msg.Question[0].Name == "slow.example.com." {
			<-release
		}
		answerOwn(t, a)
	})
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() {
		_, err := overTCP(ctx, set, "slow.example.com.")
		given <- err
	}()
	eventually(t, "the slow question", func() bool { return len(s.got("tcp")) == 1 })
	cancel()
	if err := <-given; err == nil {
		t.Error("no error")
	}
	close(release) // the late reply matches nothing
	if _, err := overTCP(ctxFor(t, longEnough), set, "example.com."); err != nil {
		t.Error(err)
	}
	if n := s.connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// plainStream returns a stream to s with the given patience.
func plainStream(t testing.TB, s *server, p patience) *stream {
	c := newTCP(s.plain())
	c.patience = p
	t.Cleanup(c.close)
	return c
}

var theQuery = query{Question: mxQuestion, tcp: true, size: defaultEDNSSize}

// A connection on which nothing comes back any more is left, as its peer may have forgotten it, and the question asked
// on a new one.
func TestSilentConnection(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) {
		if a.conn > 1 {
			a.answer(theMX(t))
		}
	})
	p := usualPatience
	p.silence = 50 * time.Millisecond
	c := plainStream(t, s, p)
	connect := c.connect
	c.connect = func(ctx context.Context) (net.Conn, error) { // the first connection alone is soon given up
		c.mu.Lock()
		c.patience.silence = longEnough
		c.mu.Unlock()
		return connect(ctx)
	}
	if _, err := c.ask(ctxFor(t, longEnough), theQuery); err != nil {
		t.Error(err)
	}

	s = serve(t, func(*asked) {})
	_, err := plainStream(t, s, p).ask(ctxFor(t, longEnough), theQuery)
	if f, ok := errors.AsType[*fault](err); !ok || f.reason != Timeout || len(s.got("tcp")) != 2 {
		t.Errorf("got %v after %d questions, want a timeout after 2", err, len(s.got("tcp")))
	}
}

// RFC 7766 section 6.2.3: an idle connection is closed, and the next question opens another.
func TestIdleConnectionIsClosed(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) { a.answer(theMX(t)) })
	p := usualPatience
	p.idle = time.Millisecond
	c := plainStream(t, s, p)
	for range 2 {
		if _, err := c.ask(ctxFor(t, longEnough), theQuery); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the connection to be closed", func() bool { return c.conns[0].ctx.Err() != nil })
	}
	if n := s.connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// Who cannot be reached is a timeout or a network error, never a wait for ever.
func TestDialFails(t *testing.T) {
	leakless(t)
	hang := newStream("TCP", query.unpadded, func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	hang.patience.dial = time.Millisecond
	defer hang.close()
	_, err := hang.ask(ctxFor(t, longEnough), theQuery)
	if f, ok := errors.AsType[*fault](err); !ok || f.reason != Timeout ||
		f.text != "could not be reached over TCP: no reply" {
		t.Errorf("got %v", err)
	}
}

// L-12: a connection takes its share, then another is opened, up to a bound; beyond it a question fails at once.
func TestRoomOnConnections(t *testing.T) {
	leakless(t)
	hang := newStream("TCP", query.unpadded, func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	defer hang.close()
	wire, err := theQuery.pack(0)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[uint16]bool{}
	for i := range maxConns * maxOutstanding {
		c, k, err := hang.place(wire, false)
		if err != nil {
			t.Fatal(err)
		}
		if want := 1 + i/maxOutstanding; len(hang.conns) != want {
			t.Fatalf("%d connections for question %d, want %d", len(hang.conns), i, want)
		}
		if c == hang.conns[0] {
			ids[k.id] = true
		}
	}
	if len(ids) != maxOutstanding {
		t.Errorf("%d IDs for %d questions", len(ids), maxOutstanding)
	}
	if _, _, err := hang.place(wire, false); err != errBusy {
		t.Errorf("got %v, want %v", err, errBusy)
	}
}

// After Close nothing is asked, and what is outstanding ends.
func TestClose(t *testing.T) {
	leakless(t)
	s, set := tcpServer(t, func(*asked) {})
	ended := make(chan error)
	go func() {
		_, err := set.Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{TCP: true})
		ended <- err
	}()
	eventually(t, "the question", func() bool { return len(s.got("tcp")) == 1 })
	set.Close()
	wantFailure(t, <-ended, dns.ExtendedErrorCodeNetworkError, "shutting down")
	_, err := set.Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{TCP: true})
	wantFailure(t, err, dns.ExtendedErrorCodeNetworkError, "shutting down")
}

// L-7: what must not wait is done before a connection is opened, once it is open, and before it is closed.
func TestPausesOfConnections(t *testing.T) {
	leakless(t)
	answer := func(a *asked) { a.answer(theMX(t)) }
	ca := certificates.New(t)
	plain, encrypted := serve(t, answer), serveTLS(t, certified(t, ca, "dot.example"), answer)
	for name, to := range map[string]Address{
		"TCP": plain.plain(), "TLS": {TLS, encrypted.addr, "dot.example", ""},
	} {
		var pauses atomic.Int64
		s := newSet(t, Config{
			Routes: []Route{{".", []Address{to}}}, RootCAs: ca.Pool, Pause: func() { pauses.Add(1) },
		})
		if _, err := overTCP(ctxFor(t, longEnough), s, "example.com."); err != nil {
			t.Fatal(err)
		}
		s.Close()
		eventually(t, name+": a pause before each piece of work", func() bool { return pauses.Load() == 3 })
	}
}
