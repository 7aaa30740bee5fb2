package mail

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Action is what a sender does with mail for a domain, or with one of its hosts.
type Action uint8

// The actions. Those from Opportunistic on deliver, each more safely than the one before. The zero value delivers
// nothing.
const (
	Defer         Action = iota // try again later; a host that is deferred is passed over for the next one
	Bounce                      // give up: there is nobody to deliver to
	NullMX                      // give up: the domain says that it takes no mail (RFC 7505)
	NoAddress                   // of a host: it has none, and is passed over
	PassedOver                  // of a host: the sender does not try it, whatever DNS says of it
	Opportunistic               // with TLS if the host offers it, else in clear; nobody is authenticated
	Encrypt                     // with TLS or not at all; nobody is authenticated
	DANE                        // with TLS and authenticated by a TLSA record, or not at all
)

var actionNames = [...]string{"defer", "bounce", "null-mx", "no-address", "passed-over", "opportunistic", "encrypt",
	"dane"}

// String returns the word for the action that programs read.
func (a Action) String() string { return actionNames[a] }

// ActionOf is the action of such a word, Defer for others.
func ActionOf(word string) Action { return Action(max(0, slices.Index(actionNames[:], word))) }

// Delivers reports whether mail is delivered.
func (a Action) Delivers() bool { return a >= Opportunistic }

// Decision is an action with its reason.
type Decision struct {
	Action Action
	Why    string  // one sentence without full stop
	Failed *Lookup // the lookup because of which mail is deferred; nil if none failed
	Code   string  // the enhanced status code that Postfix gives with it, if it is not that of most such decisions
}

// decide is a decision without more than its reason.
func decide(a Action, format string, args ...any) Decision {
	return Decision{Action: a, Why: fmt.Sprintf(format, args...)}
}

// Lookup is what a sender is told of one question.
type Lookup struct {
	Name   string // what was asked for
	Type   uint16
	Status dnssec.Status
	Data   bool // there is data of the type at the end of the alias chain
}

func (l Lookup) failed() bool { return l.Status <= dnssec.Bogus }

func (l Lookup) String() string { return l.Name + " " + dns.Type(l.Type).String() }

// TLSA is a lookup of TLSA records.
type TLSA struct {
	Lookup
	Base    string // the TLSA base domain
	Records []*dns.TLSA
}

// Host is what DNS says of a mail host.
type Host struct {
	Exchange
	Addresses []Lookup      // A and AAAA
	IPs       []netip.Addr  // what they have
	Expanded  string        // the end of its alias chain; Name if it is no alias
	First     dnssec.Status // of its first CNAME, if it is an alias
	TLSA      []TLSA        // by the base domains of [Bases], as far as they were asked for
}

// Domain is what DNS says of a domain that gets mail.
type Domain struct {
	Name      string
	Expanded  string // the end of its alias chain; Name if it is no alias
	MX        Lookup
	NameError bool // there is no such domain
	Null      bool // it takes no mail: one of its MX records says so, and there is no other
	// one of its MX records says that it takes no mail, and others name hosts, which RFC 7505 section 3 forbids
	NullToo bool
	Hosts   []Host
}

// own reports whether the domain is its own mail host, for want of an MX (RFC 5321 section 5.1).
func (d *Domain) own() bool { return !d.MX.Data && !d.MX.failed() }

// Sender is somebody who sends mail with DANE switched on.
type Sender string

// The senders of which is known what they do: one that keeps to RFC 7672, Postfix from 3.6 with smtp_tls_security_level
// dane, and Exim from 4.96 with hosts_try_dane and dnssec_request_domains.
const (
	Standard Sender = "RFC 7672"
	Postfix  Sender = "Postfix"
	Exim     Sender = "Exim"
)

// Programs are the senders that are programs, Senders all.
var (
	Programs = []Sender{Postfix, Exim}
	Senders  = append([]Sender{Standard}, Programs...)
)

// Domain is the decision on a domain (D-2). A domain is no safer than the least safe of its hosts, since who can make
// the others fail chooses the host.
func (s Sender) Domain(d *Domain) Decision {
	switch {
	case d.MX.failed():
		return failing(d.MX)
	case d.NameError:
		return decide(Bounce, "there is no domain %s", d.Name)
	case d.Null:
		return decide(NullMX, "%s says by a null MX that it takes no mail", d.Name)
	case s.refuses(d.Name) != "":
		return Decision{Action: Bounce, Why: s.refuses(d.Name), Code: "5.1.3"}
	case d.NullToo && s == Postfix:
		return decide(NullMX, "one of the MX records of %s says that it takes no mail, and Postfix then heeds no other",
			d.Name)
	}
	var all []Decision
	for i := range d.Hosts {
		all = append(all, s.Host(d, &d.Hosts[i]))
	}
	if loop := d.loop(all); loop != nil && s == Postfix {
		return *loop
	}
	return over(d, all)
}

// loop is the decision of Postfix if it finds itself among the hosts and none before itself; nil if there is one.
func (d *Domain) loop(hosts []Decision) *Decision {
	self := d.self()
	goesOn := func(h Decision) bool { return h.Action.Delivers() || h.Action == Defer }
	if self == nil || slices.ContainsFunc(hosts, goesOn) {
		return nil
	}
	for i := range d.Hosts {
		if h := &d.Hosts[i]; h.Preference < self.Preference && Postfix.malformed(h.Name) == "" {
			return &Decision{Action: Defer, Code: "4.4.4",
				Why: fmt.Sprintf("%s is the sender itself, and the hosts before it have no address", self.Name)}
		}
	}
	return &Decision{Action: Bounce, Code: "5.4.6",
		Why: fmt.Sprintf("the mail host %s is the sender itself, so that mail would loop", self.Name)}
}

// self is the first of the hosts that has an address by which Postfix reaches itself; nil if there is none.
func (d *Domain) self() *Host {
	for i := range d.Hosts { // which come by preference
		if slices.ContainsFunc(d.Hosts[i].Targets(Postfix), local) {
			return &d.Hosts[i]
		}
	}
	return nil
}

// over is the decision on a domain with those on its hosts given.
func over(d *Domain, hosts []Decision) Decision {
	weakest := Decision{Action: DANE + 1}
	var deferred *Decision
	for i, h := range hosts {
		switch {
		case h.Action.Delivers() && h.Action < weakest.Action:
			weakest = h
		case h.Action == Defer && deferred == nil:
			deferred = &hosts[i]
		}
	}
	switch {
	case weakest.Action <= DANE:
		return weakest
	case deferred != nil:
		return *deferred
	case d.own() && hosts[0].Action == NoAddress:
		return decide(Bounce, "%s has neither MX nor address", d.Name)
	case len(hosts) > 0 && hosts[0].Action == PassedOver:
		return Decision{Action: Bounce, Why: hosts[0].Why}
	}
	return decide(Bounce, "no mail host of %s has an address", d.Name)
}

// failing is the decision because of a lookup.
func failing(l Lookup) Decision {
	return Decision{Action: Defer, Why: fmt.Sprintf("the lookup of %s fails", l), Failed: &l}
}

// Host is the decision on one host of a domain whose MX lookup has not failed (D-2).
func (s Sender) Host(d *Domain, h *Host) Decision {
	if why := s.passesOver(d, h); why != "" {
		return Decision{Action: PassedOver, Why: why}
	}
	if s == Postfix && postfixLiteral(h.Name).IsValid() {
		return decide(Opportunistic, "the MX record names the address %s, to which Postfix delivers without DANE",
			h.Name)
	}
	return s.byDNS(d, h)
}

// byDNS is the decision on a host that a sender tries.
func (s Sender) byDNS(d *Domain, h *Host) Decision {
	addresses, ok := h.addresses()
	if !ok {
		return h.unreachable()
	}
	if why := s.noTLSA(d, h, addresses); why != "" {
		return Decision{Action: Opportunistic, Why: why}
	}
	return s.byTLSA(h)
}

// passesOver says why a sender does not try a host of an MX record, whatever DNS says of it; "" if it does.
func (s Sender) passesOver(d *Domain, h *Host) string {
	if why := s.malformed(h.Name); why != "" && !d.own() {
		return why
	}
	if stop := s.stopsAt(d); stop != nil && h.Preference > stop.Preference {
		return fmt.Sprintf("the lookup of TLSA records for %s, which comes before, fails, and %s then tries no other "+
			"host in the same attempt", stop.Name, s)
	}
	targets := h.Targets(s)
	switch self := d.self(); {
	case s == Exim && len(targets) == 0 && len(h.IPs) > 0:
		return fmt.Sprintf("%s has no address but %s, and Debian's Exim passes over private ones", h.Name, h.IPs[0])
	case s == Postfix && d.beyond(h):
		return fmt.Sprintf("Postfix tries %d addresses of a domain (smtp_mx_address_limit), and those of %s are "+
			"further behind", mostTried, h.Name)
	case s != Postfix || self == nil || h.Preference < self.Preference:
		return ""
	case slices.ContainsFunc(targets, local):
		return fmt.Sprintf("%s is the sender itself", h.Name)
	default:
		return fmt.Sprintf("%s is the sender itself, and Postfix tries no host of the same preference or behind it",
			self.Name)
	}
}

// mostTried is how many addresses of a domain Postfix tries (smtp_mx_address_limit).
const mostTried = 5

// beyond reports whether Postfix leaves a host out because there are enough addresses before those of the host, of each
// family if there are both (smtp_balance_inet_protocols). Those of the same preference come in no order.
func (d *Domain) beyond(h *Host) bool {
	var all, before [2]int // of IPv4 and of IPv6
	for i := range d.Hosts {
		for _, a := range d.Hosts[i].Targets(Postfix) {
			if Postfix.malformed(d.Hosts[i].Name) != "" && !d.own() {
				continue
			}
			all[family(a)]++
			if d.Hosts[i].Preference < h.Preference {
				before[family(a)]++
			}
		}
	}
	if all[0]+all[1] <= mostTried {
		return false
	}
	return !slices.ContainsFunc(h.Targets(Postfix), func(a netip.Addr) bool {
		own, other := all[family(a)], all[1-family(a)]
		switch {
		case other == 0:
			return before[family(a)] < mostTried
		case own <= mostTried/2:
			return true
		case other <= mostTried/2:
			return before[family(a)] < mostTried-other
		}
		return before[family(a)] < (mostTried+1)/2
	})
}

// family is 0 for IPv4 and 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// stopsAt is the first host because of which a sender gives up for now, although there are others: with Exim one whose
// TLSA lookup fails. Nil if there is none.
func (s Sender) stopsAt(d *Domain) *Host {
	if s != Exim {
		return nil
	}
	for i := range d.Hosts {
		h := &d.Hosts[i]
		if s.malformed(h.Name) != "" || len(h.Targets(s)) == 0 {
			continue
		}
		if at := s.byDNS(d, h); at.Action == Defer && at.Failed.Type == dns.TypeTLSA {
			return h
		}
	}
	return nil
}

// Targets are the addresses at which a sender tries a host.
func (h *Host) Targets(s Sender) []netip.Addr {
	if a := postfixLiteral(h.Name); s == Postfix && a.IsValid() {
		return []netip.Addr{a}
	}
	return slices.DeleteFunc(slices.Clone(h.IPs), s.Ignores)
}

// addresses is the status of the host's addresses; ok is false if none can be had. One lookup that fails beside one
// that does not keeps nobody from delivering.
func (h *Host) addresses() (status dnssec.Status, ok bool) {
	status = dnssec.Secure
	for _, l := range h.Addresses {
		if l.Data && !l.failed() {
			status, ok = status.Join(l.Status), true
		}
	}
	return status, ok
}

// Status is the status of the addresses of a host, Indeterminate if none can be had.
func (h *Host) Status() dnssec.Status {
	if status, ok := h.addresses(); ok {
		return status
	}
	return dnssec.Indeterminate
}

// unreachable is the decision on a host without a known address.
func (h *Host) unreachable() Decision {
	if i := slices.IndexFunc(h.Addresses, Lookup.failed); i >= 0 {
		return failing(h.Addresses[i])
	}
	return decide(NoAddress, "%s has no address", h.Name)
}

// noTLSA says why a sender does not ask for TLSA records of a host, or not heed them; "" if it does.
func (s Sender) noTLSA(d *Domain, h *Host, addresses dnssec.Status) string {
	alias := h.Expanded != h.Name
	switch {
	// Postfix takes the TLSA records of a host that an Insecure MX names (smtp_tls_dane_insecure_mx_policy), as RFC
	// 7672 section 2.2.1 allows. The default for a domain that is its own host is its addresses' status alone, in Exim
	// as well.
	case d.MX.Status != dnssec.Secure && (s == Standard || s == Exim && !d.own()):
		return fmt.Sprintf("%s is Insecure", d.MX)
	case addresses == dnssec.Secure:
		return ""
	case !alias:
		return fmt.Sprintf("the addresses of %s are Insecure", h.Name)
	case s == Exim: // it goes by the status of the whole alias chain
		return fmt.Sprintf("%s is an alias of %s, which is Insecure", h.Name, h.Expanded)
	case h.First != dnssec.Secure:
		return fmt.Sprintf("%s is an alias that is Insecure", h.Name)
	}
	return ""
}

// byTLSA is the decision on a host whose TLSA records count.
func (s Sender) byTLSA(h *Host) Decision {
	t := s.found(h)
	switch {
	case t == nil:
		return decide(Opportunistic, "there is no Secure TLSA record for %s", h.Name)
	case t.failed():
		return failing(t.Lookup)
	}
	switch usable, _ := s.Usable(t.Records); {
	case s == Postfix && slices.ContainsFunc(t.Records, Crashes):
		return Decision{Defer, "Postfix 3.7 crashes on a TLSA record without data at " + t.Name, &t.Lookup, "4.3.0"}
	case len(usable) > 0:
		return decide(DANE, "%s is Secure and usable", t.Lookup)
	}
	return decide(Encrypt, "%s is Secure, but no record of it is usable", t.Lookup)
}

// found is the TLSA lookup that decides: the first one that is Secure and has records, or fails. Exim takes the target
// of an alias for the host, and asks for the records of that alone.
func (s Sender) found(h *Host) *TLSA {
	for i, t := range h.TLSA {
		switch {
		case s == Exim && t.Base != h.Expanded:
			continue
		case s == Postfix && len(t.Name) > longest: // it takes that for a name that does not exist
			continue
		}
		if t.failed() || t.Status == dnssec.Secure && t.Data {
			return &h.TLSA[i]
		}
	}
	return nil
}

// longest is the length of the longest name that Postfix asks for, its dot at the end counted. That of the longest that
// can be asked for is 254 (RFC 1035 section 2.3.4).
const longest = 256

// Found is the TLSA lookup that decides what a sender that keeps to RFC 7672 does with a host; nil if there are no
// Secure records.
func (h *Host) Found() *TLSA { return Standard.found(h) }

// Consequence tells what a sender does, in words that its users know.
func (s Sender) Consequence(d *Domain, a Decision) string {
	halfDANE := s == Postfix && d.MX.Status != dnssec.Secure && d.MX.Data
	switch a.Action {
	case DANE:
		return "delivers with TLS and a certificate that matches a TLSA record, or defers" + logged(s, halfDANE)
	case Encrypt:
		return "delivers with TLS, whatever the certificate, or defers"
	case Opportunistic:
		return "delivers, with TLS if the host offers it; " + a.Why
	case NoAddress, PassedOver:
		return "passes over it: " + a.Why
	case Defer:
		return "defers" + deferral(s, a) + ": " + a.Why
	default:
		return "bounces" + bounce(s, a) + ": " + a.Why
	}
}

// logged is how Postfix's log calls what was authenticated.
func logged(s Sender, half bool) string {
	switch {
	case s != Postfix:
		return ""
	case half: // the MX names may be forged
		return ` (its log says "Trusted", as the MX is Insecure)`
	}
	return ` (its log says "Verified")`
}

// deferral is what stands in the log of a sender that defers.
func deferral(s Sender, a Decision) string {
	switch {
	case s == Postfix && a.Code != "":
		return fmt.Sprintf(" (%s)", a.Code)
	case s == Standard || a.Failed == nil: // nil: of what no lookup tells
		return ""
	case a.Failed.Type == dns.TypeTLSA && s == Postfix:
		return ` (4.7.5, "TLSA lookup error")`
	case a.Failed.Type == dns.TypeTLSA:
		return ` ("DANE error: tlsa lookup DEFER")`
	case s == Postfix:
		return fmt.Sprintf(` (4.4.3, "Name service error for name=%s")`, strings.TrimSuffix(a.Failed.Name, "."))
	}
	return ` ("host lookup did not complete")`
}

// bounce is the status of a sender that bounces.
func bounce(s Sender, a Decision) string {
	switch {
	case s == Postfix && a.Code != "":
		return fmt.Sprintf(" (%s)", a.Code)
	case s == Postfix && a.Action == NullMX:
		return " (5.1.0)"
	case s == Postfix:
		return " (5.4.4)"
	}
	return ""
}

// exchangeOnline are the enhanced status codes by which Exchange Online tells of results (D-23), the first digit 4
// while it tries again and 5 when it gives up.
var exchangeOnline = map[Result]string{
	STARTTLSNotSupported: "4/5.7.321", CertificateExpired: "4/5.7.322", TLSAInvalid: "4/5.7.323",
	DNSSECInvalid: "4/5.7.324", CertificateHostMismatch: "5.7.325",
}

// ExchangeOnline is the code by which Exchange Online tells of the result, "" if it has none of its own.
func (r Result) ExchangeOnline() string { return exchangeOnline[r] }

// The policy types of TLS reports (RFC 8460 section 4.4).
const (
	PolicyTLSA = "tlsa"
	PolicySTS  = "sts"
	PolicyNone = "no-policy-found"
)

// Result is the result type by which a sender reports what DNS says of a host (D-20); "" if nothing failed.
func (h *Host) Result() Result {
	if _, ok := h.addresses(); !ok && h.unreachable().Action == Defer {
		return DNSSECInvalid
	}
	t := h.Found()
	if t == nil {
		return ""
	}
	if t.failed() {
		return DNSSECInvalid
	}
	if usable, _ := Usable(t.Records); len(usable) == 0 {
		return TLSAInvalid
	}
	return ""
}

// Result is the result type that a sender reports for the domain: that of its MX, else the first of its hosts'; "" if
// nothing failed.
func (d *Domain) Result() Result {
	if d.MX.failed() {
		return DNSSECInvalid
	}
	for i := range d.Hosts {
		if r := d.Hosts[i].Result(); r != "" {
			return r
		}
	}
	return ""
}

// PolicyType is the policy that a sender reports on: DANE wins over MTA-STS (D-21, RFC 8461 section 2). Sts says
// whether the domain announces MTA-STS.
func (d *Domain) PolicyType(sts bool) string {
	for i := range d.Hosts {
		if t := d.Hosts[i].Found(); t != nil && !t.failed() {
			return PolicyTLSA
		}
	}
	if sts {
		return PolicySTS
	}
	return PolicyNone
}

// Result is a result type of TLS reports (RFC 8460 section 4.3, D-20): what went wrong, in the word that a sender
// reports it with.
type Result string

const (
	// Of DNS.
	TLSAInvalid   Result = "tlsa-invalid"
	DNSSECInvalid Result = "dnssec-invalid"
	DANERequired  Result = "dane-required"
	// Of a connection.
	STARTTLSNotSupported    Result = "starttls-not-supported"
	CertificateHostMismatch Result = "certificate-host-mismatch"
	CertificateExpired      Result = "certificate-expired"
	CertificateNotTrusted   Result = "certificate-not-trusted"
	ValidationFailure       Result = "validation-failure"
	// Of a policy of MTA-STS.
	STSPolicyFetchError Result = "sts-policy-fetch-error"
	STSPolicyInvalid    Result = "sts-policy-invalid"
	STSWebPKIInvalid    Result = "sts-webpki-invalid"
)
