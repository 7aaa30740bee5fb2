package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// deferred is a message, to one recipient, that an MTA holds.
type deferred struct {
	id                string
	since             time.Time
	sender, recipient string
	reason            string // "" if the list does not tell
	router, host      string // of the last attempt, as Exim's log has them
}

// parsePostqueue reads `postqueue -j`: an object for each message (postqueue(1)). What has not been tried, or is held,
// is left out.
func parsePostqueue(text string) (all []deferred, err error) {
	for decoder := json.NewDecoder(strings.NewReader(text)); ; {
		var m struct {
			Queue      string `json:"queue_name"`
			ID         string `json:"queue_id"`
			Arrival    int64  `json:"arrival_time"`
			Sender     string `json:"sender"`
			Recipients []struct {
				Address string `json:"address"`
				Reason  string `json:"delay_reason"`
			} `json:"recipients"`
		}
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("postqueue -j does not print what is expected: %w", err)
		}
		for _, r := range m.Recipients {
			if m.Queue != "hold" && (m.Queue == "deferred" || r.Reason != "") {
				all = append(all, deferred{id: m.ID, since: time.Unix(m.Arrival, 0), sender: m.Sender,
					recipient: r.Address, reason: r.Reason})
			}
		}
	}
}

// eximUnread is that of a message that Exim cannot read, without a sender; below it stands why, and no recipient.
var eximUnread = regexp.MustCompile(`^ {0,3}\d+[smhdw] +(?:\S+ +)?\w+-\w+-\w+(?: .*)?$`)

// eximMessage is the first line of a message in `exim -bp`: age, size, identifier, sender, and whether it is frozen.
var eximMessage = regexp.MustCompile(`^ *(\d+)([smhdw]) +\S+ +(\S+-\S+-\S+) +<([^>]*)>(.*)$`)

var eximUnits = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	"w": 7 * 24 * time.Hour}

// parseEximQueue reads `exim -bp`. Recipients stand below their message; those that have got it have a D before them.
func parseEximQueue(text string, now time.Time) (all []deferred, err error) {
	var message *deferred
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if m := eximMessage.FindStringSubmatch(line); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return nil, fmt.Errorf("exim -bp does not print what is expected: %q", line)
			}
			message = &deferred{id: m[3], since: now.Add(-time.Duration(n) * eximUnits[m[2]]), sender: m[4]}
			if strings.Contains(m[5], "*** frozen ***") {
				message.reason = "frozen"
			}
			continue
		}
		if eximUnread.MatchString(line) {
			message = &deferred{}
			continue
		}
		recipient := strings.TrimSpace(line)
		switch {
		case message != nil && message.id == "": // what is wrong with it
		case recipient == "" || strings.HasPrefix(recipient, "D ") || strings.HasPrefix(recipient, "+D "):
		case message == nil:
			return nil, fmt.Errorf("exim -bp does not print what is expected: %q", line)
		default:
			d := *message
			d.recipient = recipient
			all = append(all, d)
		}
	}
	return all, nil
}

// eximAttempt is a line of a message's log: the address, what it was made of, and what came of it.
var eximAttempt = regexp.MustCompile(`^\S+ \S+ (\S+@\S+)(?: <([^>]*)>)?(.*?) defer \(-?\d+\)(.*?): (.*)$`)

// notTried are reasons of Exim that tell of no attempt: the host has failed before, maybe for another message.
var notTried = regexp.MustCompile(`^retry time not reached|^all hosts .* have been failing`)

// readEximLog completes d by the last attempt that a message's log tells of (exim -Mvl).
func (d *deferred) readEximLog(text string) {
	recipient := d.recipient
	for line := range strings.Lines(text) {
		m := eximAttempt.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil || !strings.EqualFold(m[1], recipient) && !strings.EqualFold(m[2], recipient) {
			continue
		}
		if d.reason != "" && notTried.MatchString(m[5]) {
			continue
		}
		d.recipient, d.reason, d.router, d.host = m[1], m[5], "", ""
		for _, field := range strings.Fields(m[3] + m[4]) {
			switch name, value, _ := strings.Cut(field, "="); name {
			case "R":
				d.router = value
			case "H":
				d.host = value
			}
		}
	}
}

// eximHostLine is a line of `exim -bt`: a host that a router found.
var eximHostLine = regexp.MustCompile(`(?m)^ +host (\S+)`)

// cause is what an MTA's reason is about.
type cause string

const (
	causeDNS     cause = "dns"     // the lookup of MX or addresses
	causeTLSA    cause = "tlsa"    // that of TLSA records
	causeTLS     cause = "tls"     // TLS could not be had, or the certificate is not right
	causeNetwork cause = "network" // no connection, or none that lasts
	causeSaid    cause = "said"    // the host says no
	causeOther   cause = "other"
)

// causes are tried in their order: what a host says may be about anything.
var causes = []struct {
	cause  cause
	reason *regexp.Regexp
}{
	{causeTLSA, regexp.MustCompile(`(?i)TLSA lookup`)},
	{causeDNS, regexp.MustCompile(`(?i)Name service error|host lookup did not complete|lookup failed|lookup of host|` +
		`lookup for .* (?:did not complete|done insecurely)|Host not found`)},
	{
		causeSaid, regexp.MustCompile(`(?i)\bsaid: [245]\d\d|refused to talk to me|SMTP error from remote mail ` +
			`server|^[^:]*: [45]\d\d[ -]`),
	},
	{causeTLS, regexp.MustCompile(`Server certificate|certificate verification|TLS is required|TLS session|STARTTLS|` +
		`Cannot start TLS|TLS handshake|DANE (?:error|attempt)`)},
	{causeNetwork, regexp.MustCompile(`(?i)Connection (?:refused|timed out|reset)|unreachable|No route to host|lost ` +
		`connection|conversation with|Connection closed|timeout`)},
}

// causeOf sorts a reason.
func causeOf(reason string) cause {
	for _, c := range causes {
		if c.reason.MatchString(reason) {
			return c.cause
		}
	}
	return causeOther
}

// domainOf is the domain of a mail address, or the literal in brackets.
func domainOf(address string) string {
	return address[strings.LastIndex(address, "@")+1:]
}

// shownReason is a text of the queue, which servers and senders have a part in, in one line.
func shownReason(text string) string {
	return printable.Text(strings.Join(strings.Fields(text), " "))
}
