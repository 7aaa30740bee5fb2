package main

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/probe"
)

// manners is what a program does because of how a host speaks SMTP, where RFC 7672 says otherwise. The suite test/mta
// shows it with Debian's Postfix 3.7 and Exim 4.96. It counts only if it is so at all addresses that the program tries.
func (h *receiver) manners(s mail.Sender, a mail.Action) (d mail.Decision, ok bool) {
	for _, at := range h.connections {
		if s.Ignores(at.at.Addr()) {
			continue
		}
		action, why := manner(s, a, at.seen)
		if why == "" {
			return d, false
		}
		if !ok {
			d, ok = mail.Decision{Action: action, Why: fmt.Sprintf("%s at %s: %s", h.Name, at.Address, why)}, true
		}
	}
	return d, ok
}

// manner is that of one address; why is "" if a program has none of its own.
func manner(s mail.Sender, a mail.Action, r *probe.Report) (action mail.Action, why string) {
	switch {
	case r == nil:
	case s == mail.Exim && r.Code/100 == 5:
		return mail.Bounce, r.Failure.Error()
	case s == mail.Postfix && a > mail.Opportunistic && strings.Trim(r.Greeting, "20 *") == "" && r.Code/100 == 2:
		return mail.Defer, "Postfix takes a greeting without a word for that of a Cisco PIX, says HELO, and is not " +
			"offered STARTTLS (smtp_pix_workarounds)"
	case s == mail.Postfix && a > mail.Opportunistic && r.Version != 0 && r.Version < tls.VersionTLS12:
		return mail.Defer, fmt.Sprintf("Postfix with OpenSSL 3 does not agree on %s where it must have TLS",
			tls.VersionName(r.Version))
	}
	return 0, ""
}
