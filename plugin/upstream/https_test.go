package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/certificates"
)

// dohServer answers HTTPS requests as its handler does; the DNS message asked is in asked, the good reply to it in
// reply.
func dohServer(t testing.TB, name string, handle func(w http.ResponseWriter, r *http.Request, asked []byte,
	reply *dns.Msg)) (*Set, *atomic.Int32) {
	t.Helper()
	return dohServerAs(t, &http.Server{}, name, handle)
}

// dohServerAs has a server do so that is configured already.
func dohServerAs(t testing.TB, server *http.Server, name string,
	handle func(w http.ResponseWriter, r *http.Request, asked []byte, reply *dns.Msg)) (*Set, *atomic.Int32) {
	t.Helper()
	ca := certificates.New(t)
	server.TLSConfig = certified(t, ca, name)
	server.TLSConfig.NextProtos = nil // net/http's
	l := listenTCP(t)
	connections := new(atomic.Int32)
	server.ConnContext = func(ctx context.Context,
		c net.Conn) context.Context {
		return context.WithValue(ctx, connection{}, c)
	}
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		m, reply := new(dns.Msg), new(dns.Msg)
		if err != nil || m.Unpack(body) != nil {
			t.Errorf("the question %x cannot be read", body)
			return
		}
		reply.SetReply(m)
		reply.RecursionAvailable = true
		reply.SetEdns0(1232, true)
		reply.Answer = []dns.RR{newRR(t, m.Question[0].Name+" 300 IN MX 10 mail.example.com.")}
		handle(w, r, body, reply)
	})
	var serving sync.WaitGroup
	serving.Go(func() { server.ServeTLS(l, "", "") })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return dohSet(t, ca, l), connections
}

func listenTCP(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// dohSet asks the DoH server behind l.
func dohSet(t testing.TB, ca *certificates.Authority, l net.Listener) *Set {
	t.Helper()
	address := Address{HTTPS, l.Addr().(*net.TCPAddr).AddrPort(), "doh.example", "/dns-query"}
	return newSet(t, Config{Routes: []Route{{".", []Address{address}}}, RootCAs: ca.Pool})
}

func writeMessage(t testing.TB, w http.ResponseWriter, m *dns.Msg) {
	w.Header().Set("Content-Type", dnsMessage)
	w.Write(packed(t, m))
}

// S-10: what goes out, by name to the configured address and past any proxy; and TTLs come less the Age.
func TestHTTPS(t *testing.T) {
	leakless(t)
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	for header, ttl := range map[string]uint32{"": 300, "0": 300, "100": 200, "301": 0, "4294967296": 0,
		"99999999999999999999": 0, "-1": 300, "x": 300} {
		set, _ := dohServer(t, "doh.example",
			func(w http.ResponseWriter, r *http.Request, asked []byte, reply *dns.Msg) {
				host, _, _ := strings.Cut(r.Host, ":")
				if r.Method != http.MethodPost || r.URL.Path != "/dns-query" || host != "doh.example" ||
					r.TLS.ServerName != "doh.example" ||
					r.Header.Get("Content-Type") != dnsMessage || r.Header.Get("Accept") != dnsMessage ||
					r.ProtoMajor != 2 {
					t.Errorf("request %s %v %v", r.Proto, r.URL, r.Header)
				}
				if r.Header.Get("User-Agent") != "" || r.Header.Get("Idempotency-Key") != "" {
					t.Errorf("header tells too much: %v", r.Header)
				}
				if asked[0] != 0 || asked[1] != 0 || len(asked)%paddingBlock != 0 {
					t.Errorf("ID %x, %d octets; want 0 and a multiple of %d", asked[:2], len(asked), paddingBlock)
				}
				w.Header().Set("Age", header)
				writeMessage(t, w, reply)
			})
		reply := wantMX(t, set)
		if got := reply.Msg.Answer[0].Header().Ttl; got != ttl {
			t.Errorf("Age %q: TTL %d, want %d", header, got, ttl)
		}
		if opt := reply.Msg.IsEdns0(); opt == nil || !opt.Do() {
			t.Errorf("Age %q: OPT is now %v", header, opt)
		}
	}
}

// Parallel questions share one HTTP/2 connection.
func TestHTTPSPipelining(t *testing.T) {
	leakless(t)
	var all sync.WaitGroup
	all.Add(100)
	set, connections := dohServer(t, "doh.example",
		func(w http.ResponseWriter, r *http.Request, asked []byte, reply *dns.Msg) {
			all.Done()
			all.Wait()
			writeMessage(t, w, reply)
		})
	for _, err := range parallel(t, set, 100) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// RFC 8484 section 5.2 does without HTTP/2, if slowly: there a question that takes long has its connection for itself,
// and the others theirs.
func TestHTTPSWithoutHTTP2(t *testing.T) {
	leakless(t)
	var all sync.WaitGroup
	all.Add(maxConns)
	server := &http.Server{Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	set, connections := dohServerAs(t, server, "doh.example",
		func(w http.ResponseWriter, r *http.Request, asked []byte, reply *dns.Msg) {
			if !strings.HasPrefix(reply.Question[0].Name, "example.") {
				all.Done()
				all.Wait()
			}
			writeMessage(t, w, reply)
		})
	wantMX(t, set)
	for _, err := range parallel(t, set, maxConns) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n < maxConns || n > maxConns+1 {
		t.Errorf("%d connections, want %d, and the first", n, maxConns)
	}
}

// A server that allows few questions at once on a connection gets more connections.
func TestHTTPSFewStreams(t *testing.T) {
	leakless(t)
	var all sync.WaitGroup
	all.Add(50)
	server := &http.Server{HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10}}
	set, _ := dohServerAs(t, server, "doh.example",
		func(w http.ResponseWriter, r *http.Request, asked []byte, reply *dns.Msg) {
			all.Done()
			all.Wait()
			writeMessage(t, w, reply)
		})
	for _, err := range parallel(t, set, 50) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// net/http would open connections, one after the other and as fast as it can, to a server that goes away from each.
func TestHTTPSGoesAway(t *testing.T) {
	leakless(t)
	ca := certificates.New(t)
	config := certified(t, ca, "doh.example")
	config.NextProtos = []string{"h2"}
	l := tls.NewListener(listenTCP(t), config)
	// RFC 9113 sections 6.5 and 6.8
	settingsAndGoAway := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	opened := 0
	var serving sync.WaitGroup
	serving.Go(func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			opened++
			serving.Go(func() {
				defer c.Close()
				c.Write(settingsAndGoAway)
				io.Copy(io.Discard, c)
			})
		}
	})
	set := dohSet(t, ca, l)
	_, err := exchange(t, set)
	wantFailure(t, err, dns.ExtendedErrorCodeNetworkError, "failed over HTTPS: "+errNoStream.Error())
	set.Close()
	l.Close()
	serving.Wait()
	if opened > maxTries+1 { // the last was being opened as the question was given up
		t.Errorf("%d connections, want at most %d", opened, maxTries+1)
	}
}

// S-9, S-10: each fault of the service is an error that names it, and no question goes to a server without the name.
func TestHTTPSRefused(t *testing.T) {
	leakless(t)
	write := func(change func(h http.Header, m *dns.Msg)) func(http.ResponseWriter, *http.Request, []byte, *dns.Msg) {
		return func(w http.ResponseWriter, _ *http.Request, _ []byte, m *dns.Msg) {
			w.Header().Set("Content-Type", dnsMessage)
			change(w.Header(), m)
			w.Write(packed(t, m))
		}
	}
	for _, tt := range []struct {
		name   string
		code   uint16
		text   string
		handle func(http.ResponseWriter, *http.Request, []byte, *dns.Msg)
	}{
		{"other.example", dns.ExtendedErrorCodeNetworkError, "certificate is valid for other.example, not doh.example",
			func(http.ResponseWriter, *http.Request, []byte, *dns.Msg) { t.Error("a question was sent") }},
		{"doh.example", dns.ExtendedErrorCodeNoReachableAuthority, "answered with HTTP status 503",
			func(w http.ResponseWriter, _ *http.Request, _ []byte, _ *dns.Msg) { w.WriteHeader(503) }},
		{"doh.example", dns.ExtendedErrorCodeNoReachableAuthority, "answered with HTTP status 302",
			func(w http.ResponseWriter, _ *http.Request, _ []byte, _ *dns.Msg) {
				w.Header().Set("Location", "https://doh.example/elsewhere")
				w.WriteHeader(302)
			}},
		{"doh.example", dns.ExtendedErrorCodeInvalidData,
			`content of type "text/html" instead of application/dns-message`,
			write(func(h http.Header, _ *dns.Msg) { h.Set("Content-Type", "text/html; charset=utf-8") })},
		{"doh.example", dns.ExtendedErrorCodeInvalidData, "replied to another question over HTTPS",
			write(func(_ http.Header, m *dns.Msg) { m.Question[0].Name = "example.net." })},
		{"doh.example", dns.ExtendedErrorCodeInvalidData, "replied to another question over HTTPS",
			write(func(_ http.Header, m *dns.Msg) { m.Id++ })},
		{"doh.example", dns.ExtendedErrorCodeNoReachableAuthority, "answered SERVFAIL",
			write(func(_ http.Header, m *dns.Msg) { m.Rcode = dns.RcodeServerFailure })},
		{"doh.example", dns.ExtendedErrorCodeInvalidData, "more than 65535 octets",
			func(w http.ResponseWriter, _ *http.Request, _ []byte, m *dns.Msg) {
				w.Header().Set("Content-Type", dnsMessage)
				w.Write(append(packed(t, m), bytes.Repeat([]byte{0}, 70000)...))
			}},
		{"doh.example", dns.ExtendedErrorCodeNetworkError, "failed over HTTPS",
			func(w http.ResponseWriter, _ *http.Request, _ []byte, m *dns.Msg) { // cut in mid-answer
				w.Header().Set("Content-Type", dnsMessage)
				w.Header().Set("Content-Length", "1000")
				w.Write(packed(t, m))
				panic(http.ErrAbortHandler)
			}},
	} {
		set, _ := dohServer(t, tt.name, tt.handle)
		_, err := exchange(t, set)
		wantFailure(t, err, tt.code, tt.text)
	}
}

// S-14: an HTTP status other than 200 for one odd name says nothing about the service, which stays alive.
func TestHTTPSStatusForOneName(t *testing.T) {
	leakless(t)
	set, _ := dohServer(t, "doh.example",
		func(w http.ResponseWriter, _ *http.Request, _ []byte, _ *dns.Msg) { w.WriteHeader(504) })
	for range maxMissed {
		if _, err := exchange(t, set); err == nil {
			t.Fatal("no error")
		}
	}
	if fit, alive := set.upstreams[0].health.state(); !fit || !alive {
		t.Errorf("fit %v, alive %v", fit, alive)
	}
}

// S-5: over HTTPS too the questions on a connection that has been reset are put once more, on a new one, and no more
// than that.
func TestHTTPSReset(t *testing.T) {
	leakless(t)
	var mu sync.Mutex
	asked := 0
	set, connections := dohServer(t, "doh.example",
		func(w http.ResponseWriter, r *http.Request, _ []byte, reply *dns.Msg) {
			mu.Lock()
			asked++
			n := asked
			mu.Unlock()
			if n > 6 {
				writeMessage(t, w, reply)
				return
			}
			if n == 6 {
				r.Context().Value(connection{}).(net.Conn).Close()
			}
			<-r.Context().Done()
		})
	for _, err := range parallel(t, set, 6) {
		if err != nil {
			t.Error(err)
		}
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}

	var tries atomic.Int32
	set, _ = dohServer(t, "doh.example", func(http.ResponseWriter, *http.Request, []byte, *dns.Msg) {
		tries.Add(1)
		panic(http.ErrAbortHandler)
	})
	_, err := exchange(t, set)
	wantFailure(t, err, dns.ExtendedErrorCodeNetworkError, "failed over HTTPS: stream error")
	if n := tries.Load(); n != 2 {
		t.Errorf("%d tries, want 2", n)
	}
}

// S-5: connections that are closed without an answer are tried again with pauses, but not without end.
func TestHTTPSClosedIsRetriedWithPauses(t *testing.T) {
	leakless(t)
	for name, closed := range map[string]int32{"all but the last": maxLost - 1, "all": maxLost} {
		var tries atomic.Int32
		set, _ := dohServer(t, "doh.example", func(w http.ResponseWriter, r *http.Request, _ []byte, reply *dns.Msg) {
			if tries.Add(1) <= closed {
				r.Context().Value(connection{}).(net.Conn).Close()
				return
			}
			writeMessage(t, w, reply)
		})
		if _, err := exchange(t, set); (err == nil) != (closed < maxLost) {
			t.Errorf("%s: %v", name, err)
		}
		if n := tries.Load(); n != maxLost {
			t.Errorf("%s: %d tries, want %d", name, n, maxLost)
		}
	}
}

// connection is the key of the connection in the context of a request at the test server.
type connection struct{}

// A kept connection that the server has closed meanwhile is no failure, though the method is POST.
func TestHTTPSReconnects(t *testing.T) {
	leakless(t)
	var closing atomic.Bool
	set, connections := dohServer(t, "doh.example",
		func(w http.ResponseWriter, r *http.Request, _ []byte, reply *dns.Msg) {
			if closing.CompareAndSwap(true, false) {
				w.Header().Set("Connection", "close") // GOAWAY in HTTP/2
			}
			writeMessage(t, w, reply)
		})
	for i := range 4 {
		closing.Store(i%2 == 0)
		wantMX(t, set)
	}
	if n := connections.Load(); n < 2 {
		t.Errorf("%d connections, want more than one", n)
	}
}

// The end of the context ends a request that hangs.
func TestHTTPSHangs(t *testing.T) {
	leakless(t)
	arrived := make(chan struct{})
	set, _ := dohServer(t, "doh.example", func(w http.ResponseWriter, r *http.Request, _ []byte, _ *dns.Msg) {
		close(arrived)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := overTCP(ctx, set, "example.com.")
		ended <- err
	}()
	<-arrived
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
}

// TestHTTPSPath: the path is a credential. Clients get the host alone, logs and metrics a shortened one, by which two
// services of one server are told apart all the same; and a server that repeats it in what is no HTTP does not have it
// told.
func TestHTTPSPath(t *testing.T) {
	leakless(t)
	ca := certificates.New(t)
	config := certified(t, ca, "doh.example")
	config.NextProtos = nil // it speaks what was before HTTP/2
	l := tls.NewListener(listenTCP(t), config)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					fmt.Fprintf(c, "no %s here\r\n\r\n", r.URL.Path)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	at := l.Addr().(*net.TCPAddr).AddrPort()
	set := newSet(t, Config{RootCAs: ca.Pool, Routes: []Route{{".", []Address{
		{HTTPS, at, "doh.example", "/s3cr3t"}, {HTTPS, at, "doh.example", "/dns-query/s3cr3t"},
		{HTTPS, at, "doh.example", "/other"},
	}}}})
	_, err := exchange(t, set)
	wantFailure(t, err, dns.ExtendedErrorCodeNetworkError,
		fmt.Sprintf(`https://%s%%doh.example failed over HTTPS: net/http: HTTP/1.x transport`, at),
		`malformed HTTP status code "/..."`)
	if strings.Contains(err.Error(), "s3cr3t") {
		t.Error(err)
	}
	var names []string
	for _, r := range set.Fit(ctxFor(t, longEnough), []string{"."}) {
		if names = append(names, r.Upstream); strings.Contains(fmt.Sprint(r), "s3cr3t") {
			t.Errorf("the fitness test tells %v", r)
		}
	}
	want := []string{fmt.Sprintf("https://%s/...%%doh.example", at),
		fmt.Sprintf("https://%s/dns-query/...%%doh.example", at),
		fmt.Sprintf("https://%s/...%%doh.example #2", at)}
	if !slices.Equal(names, want) {
		t.Errorf("they are called %q, want %q", names, want)
	}
}

// TestHTTPSPathInEDE: nor is a part of the path told that a server names in an Extended DNS Error.
func TestHTTPSPathInEDE(t *testing.T) {
	leakless(t)
	ca := certificates.New(t)
	l := listenTCP(t)
	server := &http.Server{TLSConfig: certified(t, ca, "doh.example"),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			m := new(dns.Msg)
			if m.Unpack(body) != nil {
				return
			}
			reply := new(dns.Msg).SetRcode(m, dns.RcodeRefused)
			reply.SetEdns0(1232, true)
			reply.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 18, ExtraText: "profile s3cr3t of " +
				r.URL.Path + " has ended"}}
			writeMessage(t, w, reply)
		})}
	server.TLSConfig.NextProtos = nil
	var serving sync.WaitGroup
	serving.Go(func() { server.ServeTLS(l, "", "") })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	address := Address{HTTPS, l.Addr().(*net.TCPAddr).AddrPort(), "doh.example", "/user%3As3cr3t/s3cr3t"}
	_, err := exchange(t, newSet(t, Config{RootCAs: ca.Pool, Routes: []Route{{".", []Address{address}}}}))
	wantFailure(t, err, dns.ExtendedErrorCodeNoReachableAuthority,
		`answered REFUSED (EDE 18 "profile ... of /... has ended")`)
}

// A service at an address where nobody listens.
func TestHTTPSUnreachable(t *testing.T) {
	leakless(t)
	l := listenTCP(t)
	address := Address{HTTPS, netip.MustParseAddrPort(l.Addr().String()), "doh.example", "/dns-query"}
	l.Close()
	_, err := exchange(t, rootSet(t, address))
	wantFailure(t, err, dns.ExtendedErrorCodeNetworkError, address.public()+" failed over HTTPS: connection refused")
}
