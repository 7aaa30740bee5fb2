package policy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// The names of maps that Postfix asks for, the first part of a request (socketmap_table(5)); those of postfix-tlspol.
const (
	mapPlain  = "QUERY"
	mapTLSRPT = "QUERYwithTLSRPT" // for Postfix from 3.10, with what it reports on
)

// Maps are all of them, the plain one first.
var Maps = []string{mapPlain, mapTLSRPT}

// noMap is what a Server says to who asks for another: by that it is known.
const noMap = "PERM there is no map %.40q here, only " + mapPlain + " and " + mapTLSRPT

// Speaks reports whether a Server is at the other end of a connection.
func Speaks(conn net.Conn) bool {
	const nobodys = "danelaw"
	if _, err := conn.Write(netstring(nobodys + " .")); err != nil {
		return false
	}
	reply, err := readNetstring(bufio.NewReader(conn))
	return err == nil && reply == fmt.Sprintf(noMap, nobodys)
}

// mostRequest is how many octets a request has: a name of a map and one of DNS, with much to spare.
const mostRequest = 1000

// errMalformed ends a connection.
var errMalformed = errors.New("malformed")

// readNetstring reads LENGTH:OCTETS, (https://cr.yp.to/proto/netstrings.txt).
func readNetstring(from *bufio.Reader) (string, error) {
	length := ""
	for {
		c, err := from.ReadByte()
		switch {
		case err != nil:
			return "", err
		case c == ':':
			return readOctets(from, length)
		case c < '0' || c > '9' || length == "0" || len(length) == len(strconv.Itoa(mostRequest)):
			return "", errMalformed
		}
		length += string(c)
	}
}

func readOctets(from *bufio.Reader, length string) (string, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n > mostRequest {
		return "", errMalformed
	}
	octets := make([]byte, n+1)
	if _, err := io.ReadFull(from, octets); err != nil {
		return "", err
	}
	if octets[n] != ',' {
		return "", errMalformed
	}
	return string(octets[:n]), nil
}

// netstring is the other way.
func netstring(text string) []byte { return fmt.Appendf(nil, "%d:%s,", len(text), text) }

// toPostfix answers one request of Postfix, NAME KEY (D-29).
func (s *Server) toPostfix(ctx context.Context, request string) string {
	name, key, ok := strings.Cut(request, " ")
	if !ok || name != mapPlain && name != mapTLSRPT {
		return fmt.Sprintf(noMap, name)
	}
	a := s.decide(ctx, key)
	if name == mapTLSRPT {
		return a.PostfixTLSRPT(s.Now())
	}
	return a.Postfix()
}

// mostReply is how many octets a reply has; Postfix takes 100000 (socketmap_max_reply_size).
const mostReply = 90000

// Postfix is the answer as smtp_tls_policy_maps takes it.
func (a *Answer) Postfix() string {
	switch a.Level {
	case Temp, Undecided:
		return "TEMP " + printable.Text(a.Why)
	case None:
		return "NOTFOUND "
	case Secure:
		return "OK secure match=" + strings.Join(a.Match, ":") + " servername=hostname"
	}
	return "OK " + string(a.Level)
}

// PostfixTLSRPT is the answer with what Postfix from 3.10 reports besides, unless that is too long.
func (a *Answer) PostfixTLSRPT(now time.Time) string {
	plain := a.Postfix()
	if a.Level != Secure {
		return plain
	}
	if full := plain + a.attributes(now); len(full) <= mostReply {
		return full
	}
	return plain
}

// attributes are what Postfix from 3.10 reports of a policy, and holds hosts against
// (smtp_tls_enforce_sts_mx_patterns).
func (a *Answer) attributes(now time.Time) string {
	left := int64(a.STS.Ends().Sub(now).Seconds())
	text := fmt.Sprintf(" policy_type=sts policy_domain=%s policy_ttl=%d", strings.TrimSuffix(a.Domain, "."), left)
	for _, pattern := range a.STS.Policy.MX {
		text += " mx_host_pattern=" + pattern
	}
	for _, line := range a.STS.Policy.Lines() {
		text += " { policy_string = " + line + " }"
	}
	return text
}
