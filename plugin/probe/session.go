package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
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

// The replies of RFC 5321 section 4.2.3 and RFC 3207 section 4 that are looked at.
const (
	codeReady       = 220
	codeOK          = 250
	codeUnavailable = 421
	codeUnknown     = 500
	codeParameter   = 501
	codeNoCommand   = 502
	codeNoParameter = 504
	codeNoMailbox   = 550
)

// session speaks SMTP (RFC 5321) over a connection.
type session struct {
	in *bufio.Reader
	io.Writer
}

func newSession(conn net.Conn) session { return session{bufio.NewReaderSize(conn, maxLine), conn} }

// answer is a reply that is not the one waited for.
type answer struct {
	code int
	text string
}

func (a *answer) Error() string {
	first, _, _ := strings.Cut(a.text, "\n")
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.code, printable.Short(first)))
}

// greeting waits for the first words of the receiver.
func (s session) greeting(r *Report) error {
	a, err := s.reply()
	if err == nil {
		if r.Code, r.Greeting = a.code, printable.Short(a.text); a.code == codeReady {
			return nil
		}
		err = a
	}
	return refusal(Protocol, "connections", err)
}

// startTLS has the receiver wait for a TLS handshake.
func (s session) startTLS(helo string) error {
	a, err := s.command("EHLO " + helo)
	switch {
	case err != nil:
		return refusal(Protocol, "EHLO", err)
	case a.code != codeOK:
		return s.noEHLO(helo, a)
	case !offers(a.text, "STARTTLS"):
		return &Failure{NoSTARTTLS, errors.New("the host does not offer STARTTLS")}
	}
	if a, err = s.command("STARTTLS"); err == nil && a.code != codeReady {
		err = a
	}
	if err != nil {
		return refusal(NoSTARTTLS, "STARTTLS", err)
	}
	if s.in.Buffered() > 0 { // what a man in the middle put in (CVE-2011-0411)
		return &Failure{Protocol, errors.New("the host says more than it was asked for before TLS begins")}
	}
	return nil
}

// noEHLO is the failure of a host that refuses EHLO. It may dislike the name alone; else senders go on with HELO, where
// there are no extensions (RFC 5321 section 3.2), and Postfix does so whatever the code, but for 421.
func (s session) noEHLO(helo string, a *answer) error {
	switch a.code {
	case codeUnavailable:
		return refusal(Protocol, "EHLO", a)
	case codeParameter, codeNoParameter, codeNoMailbox:
		return &Failure{Name, fmt.Errorf("the host refuses EHLO %s (%w), and may take another name: danelaw check "+
			"--helo NAME tries yours", helo, a)}
	}
	second, err := s.command("HELO " + helo)
	switch {
	case err != nil:
		return refusal(Protocol, "HELO", err)
	case second.code != codeOK:
		return refusal(Protocol, "EHLO and HELO", second)
	case a.code == codeUnknown || a.code == codeNoCommand:
		return &Failure{NoSTARTTLS, fmt.Errorf("the host knows no EHLO (%w), so it cannot offer STARTTLS", a)}
	}
	return &Failure{NoSTARTTLS, fmt.Errorf("the host refuses EHLO (%w) and takes HELO, so it cannot offer STARTTLS", a)}
}

// command sends a line and waits for the reply.
func (s session) command(line string) (*answer, error) {
	if _, err := io.WriteString(s, line+"\r\n"); err != nil {
		return nil, err
	}
	return s.reply()
}

// maxLine bounds a line of a reply: RFC 5321 section 4.5.3.1.5 has 512 octets, hosts have more.
const maxLine = 4096

var errGarbled = errors.New("no reply")

// reply reads a reply of any number of lines. The code of the last one counts (section 4.2.1), and a line may be the
// code alone.
func (s session) reply() (*answer, error) {
	var lines []string
	for {
		if begin, err := s.in.Peek(3); err != nil {
			return nil, err
		} else if strings.Trim(string(begin), "0123456789") != "" { // some other protocol, which may know no lines
			return nil, errGarbled
		}
		line, err := s.in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, errGarbled
		case err != nil:
			return nil, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		code, rest := text[:3], text[3:]
		if rest != "" && rest[0] != '-' && rest[0] != ' ' {
			return nil, errGarbled
		}
		lines = append(lines, strings.TrimLeft(rest, "- "))
		if rest == "" || rest[0] == ' ' {
			n, err := strconv.Atoi(code)
			return &answer{n, strings.Join(lines, "\n")}, err
		}
	}
}

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
	switch {
	case errors.As(err, new(*answer)):
		return &Failure{kind, fmt.Errorf("the host refuses %s: %w", what, err)}
	case errors.Is(err, errGarbled):
		return &Failure{Protocol, errors.New("the peer does not speak SMTP")}
	case errors.Is(err, errTooMuch):
		return &Failure{Protocol, err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the peer closed the connection")
	}
	return err
}
