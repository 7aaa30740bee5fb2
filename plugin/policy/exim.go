package policy

import (
	"bufio"
	"context"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// lineCommand begins a line of Exim, and is no digit: a netstring begins with one.
const lineCommand = "exim"

// refuse is what Exim is told of a host that the policy in force does not cover.
const refuse = "refuse"

// readLine reads a line.
func readLine(from *bufio.Reader) (string, error) {
	var line []byte
	for len(line) <= mostRequest {
		c, err := from.ReadByte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, c)
	}
	return "", errMalformed
}

// toExim answers a line, `exim DOMAIN` or `exim DOMAIN HOST`, with one word: a Level, or refuse (D-29).
func (s *Server) toExim(ctx context.Context, line string) (word string, err error) {
	fields := strings.Fields(line)
	if len(fields) < 2 || len(fields) > 3 || fields[0] != lineCommand {
		return "", errMalformed
	}
	a := s.decide(ctx, fields[1])
	if len(fields) == 3 && a.bars(fields[2]) {
		return refuse, nil
	}
	return string(a.Level), nil
}

// bars reports whether mail may not go to a host.
func (a *Answer) bars(host string) bool {
	return a.Level == Secure && !a.covers(host) || slices.Contains(a.Barred, dns.CanonicalName(host))
}

// covers reports whether the policy has mail go to a host.
func (a *Answer) covers(host string) bool {
	host = strings.TrimSuffix(dns.CanonicalName(host), ".")
	return slices.Contains(a.Match, host) || !a.named() && a.STS.Policy.Covers(host)
}

// named reports whether Match names hosts of the domain, not patterns.
func (a *Answer) named() bool { return len(a.Match) > 0 && a.STS.Policy.Covers(a.Match[0]) }
