// Package receiver is a mail host for tests: it accepts every message.
package receiver

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"testing"

	"github.com/emersion/go-smtp"
)

// Serve receives what is sent to a listener until the test ends, and calls received with the recipients of each message
// and whether it came encrypted. The host greets as name; with c nil it has no STARTTLS.
func Serve(t testing.TB, l net.Listener, name string, c *tls.Config, received func(to []string, encrypted bool)) {
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{conn: c, received: received}, nil
	}))
	s.Domain, s.TLSConfig = name, c
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

// session is one connection. It implements smtp.Session.
type session struct {
	conn     *smtp.Conn
	received func(to []string, encrypted bool)
	to       []string
}

func (s *session) Mail(string, *smtp.MailOptions) error { return nil }

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	_, encrypted := s.conn.TLSConnectionState()
	s.received(s.to, encrypted)
	return nil
}

func (s *session) Reset()        { s.to = nil }
func (s *session) Logout() error { return nil }
