package policy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// serving is a Server that knows some domains, and how it ended connections.
type serving struct {
	*Server
	address string
	mu      sync.Mutex
	ended   []string
	told    map[Level]int
}

// answers are what it knows.
var answers = map[string]Answer{
	"only.example":          {Level: DANEOnly, Barred: []string{"plain.example."}},
	"xn--bcher-kva.example": {Level: DANEOnly}, "dane.example": {Level: DANE},
	"temp.example": {Level: Temp, Why: "the lookup\nof \x1b MX fails"}, "sts.example": {Level: Secure,
		Match: []string{"mx.sts.example"}, STS: held("*.sts.example")},
	"none-of-them.example": {Level: Secure, Match: []string{".b.example"}, STS: held("*.b.example")},
}

// began is when the policies were fetched.
var began = time.Unix(1e9, 0)

func held(mx ...string) *Held {
	return &Held{"x.", "1", &mail.STSPolicy{Mode: mail.Enforce, MX: mx, MaxAge: 86400 * time.Second}, began}
}

func serve(t *testing.T) *serving {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{address: l.Addr().String(), told: map[Level]int{}}
	s.Server = Serve(l, ServerConfig{
		Decide: func(_ context.Context, domain string) *Answer {
			if domain == "panic.example" {
				panic("test")
			}
			a, ok := answers[strings.TrimSuffix(strings.ToLower(domain), ".")]
			if !ok {
				a.Level = None
			}
			a.Domain = domain + "."
			return &a
		},
		Allow: func(net.Addr) bool { return true },
		Now:   func() time.Time { return began.Add(6400 * time.Second) },
		Told: func(l Level) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.told[l]++
		},
		Ended: func(why string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended = append(s.ended, why)
		},
		Failed: func(any) {},
	})
	t.Cleanup(s.Close)
	return s
}

// dial connects; a test that waits for ever is ended.
func (s *serving) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // then reading fails
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestSocketmap: D-29, what Postfix sends and is answered, all on one connection.
func TestSocketmap(t *testing.T) {
	s := serve(t)
	conn := s.dial(t)
	from := bufio.NewReader(conn)
	for request, want := range map[string]string{
		"QUERY only.example":           "OK dane-only",
		"QUERY dane.example":           "OK dane",
		"QUERY other.example":          "NOTFOUND ",
		"QUERY sts.example":            "OK secure match=mx.sts.example servername=hostname",
		"QUERY none-of-them.example":   "OK secure match=.b.example servername=hostname",
		"QUERYwithTLSRPT only.example": "OK dane-only",
		"QUERYwithTLSRPT sts.example": "OK secure match=mx.sts.example servername=hostname policy_type=sts " +
			"policy_domain=sts.example policy_ttl=80000 mx_host_pattern=*.sts.example " +
			"{ policy_string = version: STSv1 } { policy_string = mode: enforce } " +
			"{ policy_string = mx: *.sts.example } { policy_string = max_age: 86400 }",
		"QUERY [relay.example]":       "NOTFOUND ",
		"QUERY [relay.example]:25":    "NOTFOUND ",
		"QUERY only.example:587":      "NOTFOUND ",
		"QUERY .only.example":         "NOTFOUND ",
		"QUERY 192.0.2.1":             "NOTFOUND ",
		"QUERY ":                      "NOTFOUND ",
		"QUERY a b":                   "NOTFOUND ",
		"QUERY a..b":                  "NOTFOUND ",
		"QUERY sts.example\x00":       "NOTFOUND ",
		"QUERY sts.example\nTEMP":     "NOTFOUND ",
		"QUERY {sts}.example":         "NOTFOUND ",
		"QUERY s=s.example":           "NOTFOUND ",
		"QUERY s\\116s.example":       "NOTFOUND ",
		"QUERY STS.example.":          "OK secure match=mx.sts.example servername=hostname",
		"QUERY bücher.example":        "OK dane-only", // as with smtputf8_enable an address may have it
		"QUERY BÜCHER。example":        "OK dane-only",
		"QUERY xn--bcher-kva.example": "OK dane-only",
		"QUERY b\xfccher.example":     `TEMP "b\xfccher.example" is no domain of the DNS: it is not in UTF-8`,
		"OTHER only.example":          `PERM there is no map "OTHER" here, only QUERY and QUERYwithTLSRPT`,
		"QUERY":                       `PERM there is no map "QUERY" here, only QUERY and QUERYwithTLSRPT`,
	} {
		if _, err := conn.Write(netstring(request)); err != nil {
			t.Fatal(err)
		}
		if got, err := readReply(from); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", request, got, err, want)
		}
	}
	conn.Write(netstring("QUERY temp.example")) //nolint:errcheck // then there is no reply
	if got, err := readReply(from); err != nil || !strings.HasPrefix(got, "TEMP the lookup") ||
		strings.ContainsAny(got, "\n\x1b") {
		t.Errorf("%q, %v", got, err)
	}
}

// readReply reads a netstring of any length.
func readReply(from *bufio.Reader) (string, error) {
	var n int
	if _, err := fmt.Fscanf(from, "%d:", &n); err != nil {
		return "", err
	}
	text := make([]byte, n+1)
	_, err := io.ReadFull(from, text)
	return string(text[:n]), err
}

// TestLongReply: where a reply with all that can be reported is longer than Postfix takes, it is without.
func TestLongReply(t *testing.T) {
	a := Answer{Level: Secure, Match: []string{"a.example"},
		STS: held(slices.Repeat([]string{strings.Repeat("a.", 100) + "b"}, 300)...)}
	if got := a.PostfixTLSRPT(began); len(got) > mostReply || got != a.Postfix() {
		t.Errorf("%d octets", len(got))
	}
}

// TestExim: D-29, what Exim sends and is answered.
func TestExim(t *testing.T) {
	s := serve(t)
	for line, want := range map[string]string{
		"exim only.example\n":                        "dane-only\n",
		"exim only.example mx.only.example\n":        "dane-only\n",
		"exim only.example Plain.example\n":          "refuse\n",
		"exim temp.example\n":                        "temp\n",
		"exim other.example\r\n":                     "none\n",
		"exim sts.example\n":                         "secure\n",
		"exim sts.example MX.sts.example\n":          "secure\n",
		"exim sts.example evil.example\n":            "refuse\n",
		"exim sts.example other.sts.example\n":       "refuse\n", // covered, and not among the MX that were seen
		"exim none-of-them.example x.b.example\n":    "secure\n",
		"exim none-of-them.example y.x.b.example\n":  "refuse\n",
		"exim [relay.example]\n":                     "none\n",
		"exim bücher.example\n":                      "dane-only\n",
		"exim b\xfccher.example\n":                   "temp\n",
		"exim a/b.example\n":                         "none\n",
		"exim\n":                                     "",
		"exim a b c\n":                               "",
		"GET / HTTP/1.1\n":                           "",
		"exim " + strings.Repeat("a", 2000) + "\n":   "",
		"exim panic.example\n":                       "",
		"\n":                                         "",
		"exim only.example\nexim dane.example mx.\n": "dane-only\ndane\n",
	} {
		conn := s.dial(t)
		if _, err := io.WriteString(conn, line); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		_, err := io.ReadFull(conn, got)
		if want == "" {
			_, err = conn.Read(make([]byte, 1)) // it is closed
			if timeout, ok := err.(net.Error); err == nil || ok && timeout.Timeout() {
				t.Errorf("%.40q: not closed: %v", line, err)
			}
		} else if err != nil || string(got) != want {
			t.Errorf("%.40q: %q, %v, want %q", line, got, err, want)
		}
	}
}

// TestMalformed: what is no netstring ends the connection at once, and nothing else.
func TestMalformed(t *testing.T) {
	s := serve(t)
	for _, text := range []string{"5:QUERY;", "1001:", "99999999999999999999:", "00:,", "01:a,", "5QUERY,", "12345",
		"5:QUERYx"} {
		conn := s.dial(t)
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		_, err := conn.Read(make([]byte, 1))
		if timeout, ok := err.(net.Error); err == nil || ok && timeout.Timeout() {
			t.Errorf("%s: not closed: %v", text, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, why := range s.ended {
		if why != EndedMalformed {
			t.Errorf("ended as %s", why)
		}
	}
	if len(s.ended) != 8 {
		t.Errorf("%d ended, want 8", len(s.ended))
	}
}

// TestManyClients: many ask at once on many connections, and are all answered; one who has begun to ask and goes no
// further holds nobody up.
func TestManyClients(t *testing.T) {
	s := serve(t)
	io.WriteString(s.dial(t), "18:QUE") //nolint:errcheck // nothing is expected of it
	var work sync.WaitGroup
	for range 100 {
		conn := s.dial(t)
		work.Go(func() {
			from := bufio.NewReader(conn)
			for range 50 {
				conn.Write(netstring("QUERY only.example")) //nolint:errcheck // then there is no reply
				if got, err := readReply(from); err != nil || got != "OK dane-only" {
					t.Errorf("%q, %v", got, err)
					return
				}
			}
		})
	}
	work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told[DANEOnly] != 100*50 {
		t.Errorf("%d answers are counted", s.told[DANEOnly])
	}
}

// TestClose: nobody who is connected keeps the Server from ending.
func TestClose(t *testing.T) {
	s := serve(t)
	conn := s.dial(t)
	conn.Write(netstring("QUERY only.example")) //nolint:errcheck // then there is no reply
	if _, err := readReply(bufio.NewReader(conn)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("still connected")
	}
}

// FuzzRequest: whatever comes is answered or ends the connection.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("18:QUERY only.example,"))
	f.Add([]byte("28:QUERYwithTLSRPT sts.example,"))
	f.Add([]byte("exim sts.example mx.sts.example\n"))
	f.Add([]byte("21:QUERY bücher.example,"))
	s := &Server{ServerConfig: ServerConfig{
		Decide: func(_ context.Context, domain string) *Answer {
			a := answers["sts.example"]
			a.Domain = domain
			return &a
		},
		Now: func() time.Time { return began }, Told: func(Level) {}}, ctx: context.Background()}
	f.Fuzz(func(t *testing.T, octets []byte) {
		if len(octets) == 0 {
			return
		}
		from := bufio.NewReaderSize(strings.NewReader(string(octets)), mostRequest)
		reply, err := s.answer(from, octets[0])
		if err == nil && (len(reply) < 3 || strings.ContainsAny(string(reply[:len(reply)-1]), "\n\x00")) {
			t.Errorf("%q", reply)
		}
	})
}

// pipes is a listener to which a test brings the connections.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return nil }

// TestSlow: who sends half a request, or does not take his reply, is cut off after a few seconds; who asks nothing,
// after some minutes.
func TestSlow(t *testing.T) {
	for name, c := range map[string]struct {
		sends string
		after time.Duration
		ended []string
	}{
		"half a netstring": {"18:QUE", readPatience, []string{EndedSlow}},
		"half a line":      {"exim ", readPatience, []string{EndedSlow}},
		"takes no reply":   {"18:QUERY only.example,", writePatience, []string{EndedSlow}},
		"asks nothing":     {"", idlePatience, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var ended []string
			l := make(pipes)
			s := Serve(l, ServerConfig{
				Decide: func(context.Context, string) *Answer { return &Answer{Level: DANEOnly} },
				Allow:  func(net.Addr) bool { return true }, Now: time.Now, Told: func(Level) {},
				Ended: func(why string) { mu.Lock(); defer mu.Unlock(); ended = append(ended, why) },
			})
			client, server := net.Pipe()
			l <- server
			io.WriteString(client, c.sends) //nolint:errcheck // it is what the test is about
			there := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.clients) }
			time.Sleep(c.after - time.Millisecond)
			synctest.Wait()
			if there() != 1 {
				t.Errorf("%s: cut off too early", name)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			mu.Lock()
			if there() != 0 || !slices.Equal(ended, c.ended) {
				t.Errorf("%s: %d connected, ended %q", name, there(), ended)
			}
			mu.Unlock()
			s.Close()
			client.Close()
		})
	}
}

// TestCrowd: more connections than there may be are refused; those that are there are answered.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := make(chan string, 1)
		l := make(pipes)
		s := Serve(l, ServerConfig{
			Decide: func(context.Context, string) *Answer { return &Answer{Level: DANEOnly} },
			Allow:  func(net.Addr) bool { return true }, Now: time.Now, Told: func(Level) {},
			Ended: func(why string) { refused <- why },
		})
		var clients []net.Conn
		for range mostClients + 1 {
			client, server := net.Pipe()
			l <- server
			clients = append(clients, client)
		}
		if why := <-refused; why != EndedRefused {
			t.Errorf("ended as %s", why)
		}
		go clients[0].Write(netstring("QUERY only.example")) //nolint:errcheck // then there is no reply
		if got, err := readReply(bufio.NewReader(clients[0])); err != nil || got != "OK dane-only" {
			t.Errorf("%q, %v", got, err)
		}
		s.Close()
	})
}
