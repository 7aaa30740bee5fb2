package mta

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// receipt says how a message reached a receiver.
type receipt struct {
	at  string // the receiver's address
	tls bool
}

// receivers are all mail hosts of the stage, with what they got.
type receivers struct {
	mu       sync.Mutex
	receipts map[string][]receipt // by the domain of the recipient
}

// listen opens a receiver on port 25. Its manners are those of shows, see mannered; without c it has no STARTTLS.
func (r *receivers) listen(t *testing.T, address, shows string, c *tls.Config) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "25"))
	if err != nil {
		t.Fatal(err)
	}
	c, front := mannered(shows, c)
	l = mannerly{l, front}
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{receivers: r, conn: c, at: address}, nil
	}))
	s.Domain, s.TLSConfig = address, c
	s.ErrorLog = log.New(io.Discard, "", 0) // senders that do not accept a certificate close the connection
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(l) //nolint:errcheck // it ends with Close
	}()
	t.Cleanup(func() {
		l.Close() //nolint:errcheck // Serve may not have begun yet, then Close does not know it
		s.Close() //nolint:errcheck // the test has ended
		<-ended
	})
}

// forget removes all receipts.
func (r *receivers) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receipts = map[string][]receipt{}
}

// of returns the receipts for a domain.
func (r *receivers) of(domain string) []receipt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.receipts[domain]
}

// session is one connection to a receiver.
type session struct {
	receivers *receivers
	conn      *smtp.Conn
	at        string
	domains   []string
}

// Mail, Rcpt, Data, Reset and Logout implement smtp.Session.
func (s *session) Mail(string, *smtp.MailOptions) error { return nil }

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	_, domain, _ := strings.Cut(to, "@")
	s.domains = append(s.domains, domain)
	return nil
}

func (s *session) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	_, encrypted := s.conn.TLSConnectionState()
	s.receivers.mu.Lock()
	defer s.receivers.mu.Unlock()
	for _, d := range s.domains {
		s.receivers.receipts[d] = append(s.receivers.receipts[d], receipt{s.at, encrypted})
	}
	return nil
}

func (s *session) Reset()        { s.domains = nil }
func (s *session) Logout() error { return nil }
