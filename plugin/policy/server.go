package policy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"regexp"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// Bounds on who asks (D-29).
const (
	mostClients   = 1024             // at once
	readPatience  = 5 * time.Second  // for the rest of a request that has begun
	writePatience = 5 * time.Second  // for a reply to be taken
	idlePatience  = 10 * time.Minute // between two requests
)

// ServerConfig is what a Server is made of.
type ServerConfig struct {
	Decide func(ctx context.Context, domain string) *Answer
	Allow  func(client net.Addr) bool // who may ask
	Now    func() time.Time
	Told   func(level Level) // counts an answer
	Ended  func(why string)  // counts a connection that was ended: malformed, slow, refused
	Failed func(p any)       // tells of a fault
}

// The reasons for which a Server ends connections.
const (
	EndedMalformed = "malformed"
	EndedSlow      = "slow"
	EndedRefused   = "refused"
)

// Server answers Postfix and Exim on one socket. A request that begins with a digit is one of Postfix's socketmap
// protocol, a letter begins a line of Exim.
type Server struct {
	ServerConfig
	listener net.Listener
	ctx      context.Context
	stop     context.CancelFunc
	serving  sync.WaitGroup

	mu      sync.Mutex
	clients map[net.Conn]bool
}

// Serve answers on a listener until the Server is closed.
func Serve(l net.Listener, c ServerConfig) *Server {
	s := &Server{ServerConfig: c, listener: l, clients: map[net.Conn]bool{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.serving.Go(s.accept)
	return s
}

// Close ends all.
func (s *Server) Close() {
	s.stop()
	s.listener.Close()
	s.mu.Lock()
	for c := range s.clients {
		c.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *Server) accept() {
	for s.ctx.Err() == nil {
		conn, err := s.listener.Accept()
		if err != nil { // closed, or no file is left for a moment
			select {
			case <-s.ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		if !s.Allow(conn.RemoteAddr()) || !s.enter(conn) {
			s.Ended(EndedRefused)
			conn.Close()
			continue
		}
		s.serving.Go(func() {
			defer s.leave(conn)
			s.serve(conn)
		})
	}
}

// enter takes a client in, if there is room.
func (s *Server) enter(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil || len(s.clients) >= mostClients {
		return false
	}
	s.clients[conn] = true
	return true
}

func (s *Server) leave(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, conn)
	conn.Close()
}

// serve answers one request after another (D-29).
func (s *Server) serve(conn net.Conn) {
	defer func() { // S-27
		if p := recover(); p != nil {
			s.Failed(p)
		}
	}()
	from := bufio.NewReaderSize(conn, mostRequest)
	for {
		conn.SetReadDeadline(time.Now().Add(idlePatience)) //nolint:errcheck // then reading fails
		first, err := from.Peek(1)
		if err != nil {
			return
		}
		conn.SetReadDeadline(time.Now().Add(readPatience)) //nolint:errcheck // as above
		reply, err := s.answer(from, first[0])
		if err != nil {
			s.count(err)
			return
		}
		conn.SetWriteDeadline(time.Now().Add(writePatience)) //nolint:errcheck // as above
		if _, err := conn.Write(reply); err != nil {
			s.count(err)
			return
		}
	}
}

// count counts a connection that ends as the client did not keep to what is expected.
func (s *Server) count(err error) {
	slow, ok := err.(net.Error)
	switch {
	case err == errMalformed:
		s.Ended(EndedMalformed)
	case ok && slow.Timeout():
		s.Ended(EndedSlow)
	}
}

// answer reads a request and answers it in its protocol.
func (s *Server) answer(from *bufio.Reader, first byte) ([]byte, error) {
	if first >= '0' && first <= '9' {
		request, err := readNetstring(from)
		if err != nil {
			return nil, err
		}
		return netstring(s.toPostfix(s.ctx, request)), nil
	}
	line, err := readLine(from)
	if err != nil {
		return nil, err
	}
	word, err := s.toExim(s.ctx, line)
	return []byte(word + "\n"), err
}

// decide decides on what Postfix or Exim deliver to, and counts that.
func (s *Server) decide(ctx context.Context, key string) *Answer {
	a := s.of(ctx, key)
	s.Told(a.Level)
	return a
}

// of decides on a key. What is no domain that mail is for has no policy: the relays of a configuration, [HOST] or
// HOST:PORT, addresses, and .DOMAIN, for which Postfix asks in the place of what is below it. Domains in UTF-8 (RFC
// 6531 section 3.2) are meant as the DNS has them; what cannot be written so is not known to be without a policy
// (D-29).
func (s *Server) of(ctx context.Context, key string) *Answer {
	domain, err := mail.ALabels(key)
	switch _, ok := dns.IsDomainName(domain); {
	case err != nil:
		return &Answer{Level: Temp, Why: fmt.Sprintf("%.80q is no domain of the DNS: %v", key, err)}
	case !ok || !mailDomain.MatchString(domain) || allDigits.MatchString(domain):
		return &Answer{Level: None, Why: fmt.Sprintf("%.80q is not a domain", key)}
	}
	return s.Decide(ctx, domain)
}

// mailDomain has what domains of addresses have: Postfix and Exim deliver to no other.
var mailDomain = regexp.MustCompile(`^([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?$`)

// allDigits is an IPv4 address, or no more a domain than one.
var allDigits = regexp.MustCompile(`^[0-9.]*$`)
