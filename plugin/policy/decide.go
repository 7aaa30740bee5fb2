package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// Level is how mail for a domain is to be secured.
type Level string

// The levels. The zero value is none that anybody is told.
const (
	Undecided Level = ""
	Temp      Level = "temp"      // it cannot be known: mail waits
	None      Level = "none"      // nothing is promised: the sender does as it does by itself
	Secure    Level = "secure"    // by certificates that authorities vouch for, as MTA-STS has it
	DANE      Level = "dane"      // by DANE at each host that has it
	DANEOnly  Level = "dane-only" // by DANE, and at no host without it
)

// Levels are all that are told.
var Levels = []Level{Temp, None, Secure, DANE, DANEOnly}

// Answer is the decision on a domain.
type Answer struct {
	Domain string // canonical
	Level  Level
	Why    string   // one sentence without full stop
	Match  []string // of Secure: the names of hosts, or .DOMAIN for those in it, without dot at the end
	Barred []string // of DANEOnly: canonical names of hosts without DANE that the policy does not cover
	STS    *Held    // the policy that was heeded; nil if none was looked for, or there is none
	// Failure is why there is no policy although the domain announces one, or why the one held could not be renewed.
	Failure *Failure
}

// hosts are those of a domain by what DNS promises of them (D-2).
type hosts struct {
	domain                      *mail.Domain
	dane, encrypt, open, failed int
	without                     []string        // the names of those of encrypt and open
	unsure                      map[string]bool // by name: whether it has TLSA records is not known
}

// byDNS decides what DNS alone does (D-26); a Level of Undecided means that MTA-STS counts too.
func byDNS(d *mail.Domain) (*Answer, *hosts) {
	decided := func(l Level) (*Answer, *hosts) {
		return &Answer{Domain: d.Name, Level: l, Why: mail.Standard.Domain(d).Why}, nil
	}
	switch {
	case d.MX.Status <= dnssec.Bogus:
		return decided(Temp)
	case d.NameError, d.Null:
		return decided(None)
	}
	h := countHosts(d)
	switch known := h.dane + h.encrypt + h.open; {
	case known+h.failed == 0:
		return decided(None)
	case known == 0:
		return decided(Temp)
	case h.dane == known+h.failed:
		return &Answer{Domain: d.Name, Level: DANEOnly,
			Why: "every mail host has usable TLSA records, and all is Secure"}, nil
	}
	return &Answer{Domain: d.Name}, h
}

func countHosts(d *mail.Domain) *hosts {
	h := &hosts{domain: d, unsure: map[string]bool{}}
	for i := range d.Hosts {
		switch at := mail.Standard.Host(d, &d.Hosts[i]); at.Action {
		case mail.DANE:
			h.dane++
		case mail.Encrypt:
			h.encrypt++
			h.without = append(h.without, d.Hosts[i].Name)
		case mail.Opportunistic:
			h.open++
			h.without = append(h.without, d.Hosts[i].Name)
		case mail.Defer:
			h.failed++
			h.unsure[d.Hosts[i].Name] = at.Failed.Type == dns.TypeTLSA
		}
	}
	return h
}

// with decides with what MTA-STS says (D-26, D-21).
func (h *hosts) with(a *Answer) *Answer {
	signed := h.domain.MX.Status == dnssec.Secure
	enforced := a.STS != nil && a.STS.Policy.Mode == mail.Enforce
	switch {
	case a.Failure != nil && a.STS == nil && (a.Failure.Doubt || a.Failure.Unanswered && signed):
		a.Level, a.Why = Temp, a.Failure.Text
	case h.dane > 0 && enforced:
		a.Level, a.Why = DANEOnly, "some mail hosts have DANE, and to the others a policy of MTA-STS forbids to "+
			"deliver unauthenticated"
		a.Barred = slices.DeleteFunc(h.without, a.STS.Policy.Covers)
	case h.dane > 0:
		a.Level, a.Why = DANE, "some mail hosts have usable TLSA records"
	case enforced:
		h.match(a)
	case h.encrypt > 0:
		a.Level, a.Why = DANE, "there are TLSA records, of which none is usable: TLS is mandatory"
	case h.failed > 0 && signed:
		a.Level, a.Why = DANE, "whether all mail hosts have TLSA records is not known, and the sender is to skip "+
			"those of which it is not"
	default:
		a.Level, a.Why = None, h.nothing(a)
	}
	return a
}

// nothing says why nothing is promised.
func (h *hosts) nothing(a *Answer) string {
	why := mail.Standard.Domain(h.domain).Why
	switch {
	case a.Failure != nil:
		return why + ", and no policy of MTA-STS can be had: " + a.Failure.Text
	case a.STS != nil:
		return fmt.Sprintf("%s, and the policy of MTA-STS has the mode %s", why, a.STS.Policy.Mode)
	}
	return why + ", and there is no policy of MTA-STS"
}

// match names the hosts that a policy covers, as the sender is to find one of these names in the certificate. A host
// whose TLSA records are withheld is none of them. If none of the MX is covered, the patterns stand there: to no other
// host is mail delivered.
func (h *hosts) match(a *Answer) {
	covered := 0
	for _, host := range h.domain.Hosts {
		if !a.STS.Policy.Covers(host.Name) {
			continue
		}
		if covered++; !h.unsure[host.Name] {
			a.Match = append(a.Match, strings.TrimSuffix(host.Name, "."))
		}
	}
	switch {
	case len(a.Match) > 0:
		a.Level, a.Why = Secure, "a policy of MTA-STS is in force"
	case covered > 0:
		a.Level, a.Why = Temp, "whether the mail hosts that the policy of MTA-STS covers have TLSA records is not known"
	default:
		a.Level, a.Why = Secure, "a policy of MTA-STS is in force, and covers none of the mail hosts"
		for _, pattern := range a.STS.Policy.MX {
			a.Match = append(a.Match, strings.TrimPrefix(pattern, "*"))
		}
	}
}
