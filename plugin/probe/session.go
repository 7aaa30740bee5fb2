package probe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// maxOctets is how much is read of one peer: the longest certificate message that crypto/tls takes has 256 KiB.
const maxOctets = 1 << 20

// bounded is a connection of which no more than so many octets are read.
type bounded struct {
	net.Conn
	left int
}

var errTooMuch = errors.New("the peer sends without end")

// Read implements net.Conn.
func (b *bounded) Read(to []byte) (int, error) {
	if b.left == 0 {
		return 0, errTooMuch
	}
	n, err := b.Conn.Read(to[:min(len(to), b.left)])
	b.left -= n
	return n, err
}

// The replies of RFC 5321 section 4.2.3 and RFC 3207 section 4 that are waited for.
const (
	codeReady = 220
	codeBye   = 221
	codeOK    = 250
	anyCode   = 0
)

// session speaks SMTP (RFC 5321) over a connection.
type session struct{ text *textproto.Conn }

func newSession(conn net.Conn) session { return session{textproto.NewConn(conn)} }

// greeting waits for the first words of the receiver.
func (s session) greeting() (string, error) {
	_, text, err := s.reply(codeReady)
	if err != nil {
		return "", refusal(Protocol, "connections", err)
	}
	return printable.Short(text), nil
}

// startTLS has the receiver wait for a TLS handshake.
func (s session) startTLS(helo string) error {
	code, text, err := s.command(anyCode, "EHLO %s", helo)
	switch {
	case err != nil:
		return refusal(Protocol, "EHLO", err)
	case code/100 == 5 && code < 510: // it knows no EHLO, so no extensions (RFC 5321 section 4.1.1.1)
		return &Failure{NoSTARTTLS, fmt.Errorf("the host knows no EHLO (%d %s), so it cannot offer STARTTLS", code, firstLine(text))}
	case code != codeOK:
		return refusal(Protocol, "EHLO", &textproto.Error{Code: code, Msg: text})
	case !offers(text, "STARTTLS"):
		return &Failure{NoSTARTTLS, errors.New("the host does not offer STARTTLS")}
	}
	if _, _, err := s.command(codeReady, "STARTTLS"); err != nil {
		return refusal(NoSTARTTLS, "STARTTLS", err)
	}
	if s.text.R.Buffered() > 0 { // what a man in the middle put in (CVE-2011-0411)
		return &Failure{Protocol, errors.New("the host says more than it was asked for before TLS begins")}
	}
	return nil
}

// command sends a line and waits for the reply.
func (s session) command(code int, format string, args ...any) (int, string, error) {
	if _, err := s.text.Cmd(format, args...); err != nil {
		return 0, "", err
	}
	return s.reply(code)
}

// reply reads a reply. textproto takes "SSH-" for the begin of a long one and waits for more.
func (s session) reply(code int) (int, string, error) {
	begin, err := s.text.R.Peek(3)
	if err != nil {
		return 0, "", err
	}
	if _, err := strconv.ParseUint(string(begin), 10, 16); err != nil {
		return 0, "", textproto.ProtocolError("no reply code")
	}
	return s.text.ReadResponse(code)
}

// quit takes leave; a receiver that does not say farewell has said all that matters.
func (s session) quit() { s.command(codeBye, "QUIT") } //nolint:errcheck // see above

// offers reports whether a reply to EHLO lists an extension.
func offers(reply, extension string) bool {
	for line := range strings.Lines(reply) {
		if keyword, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.EqualFold(keyword, extension) {
			return true
		}
	}
	return false
}

// refusal turns a reply that is not the one waited for into a failure; errors of the connection stay what they are.
func refusal(kind Kind, what string, err error) error {
	var reply *textproto.Error
	var garbled textproto.ProtocolError
	switch {
	case errors.As(err, &reply):
		return &Failure{kind, fmt.Errorf("the host refuses %s: %d %s", what, reply.Code, firstLine(reply.Msg))}
	case errors.As(err, &garbled):
		return &Failure{Protocol, errors.New("the peer does not speak SMTP")}
	case errors.Is(err, errTooMuch):
		return &Failure{Protocol, err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the peer closed the connection")
	}
	return err
}

// firstLine is what of a reply stands in a message.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return printable.Short(line)
}
