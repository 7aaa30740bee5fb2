package main

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// Whose fault it is that mail waits.
const (
	faultTheirs = "theirs"
	faultOurs   = "ours"
	faultMended = "mended" // what the MTA met is not there any more
	faultOther  = "other"  // it is neither DNS nor TLS
)

// How that is said to people.
var (
	faultWords = map[string]string{faultTheirs: "their fault", faultOurs: "our fault", faultMended: "mended", faultOther: "not DNS or TLS"}
	faultTones = map[string]tone{faultTheirs: bad, faultOurs: bad, faultMended: good, faultOther: plain}
)

// judge says what danelaw finds, whose fault it is, and what mends it. If danelaw is blind it is ours.
func (w *waiting) judge(found result, blind, connected bool) {
	told := func(fault, sentence, remedy string) { w.Fault, w.Sentence, w.Remedy = fault, sentence, remedy }
	switch cause := causeOf(w.Reason); {
	case w.Kind == toLocal:
		told(faultOther, "it goes by a transport that is not SMTP, or to what is no domain name, or where it goes is not seen", "look into the log of "+w.MTA)
	case w.Kind == toAddress:
		told(faultOther, "it goes to an address: neither MX nor TLSA records decide", "look into the log of "+w.MTA+", and at "+w.Destination)
	case blind:
		told(faultOurs, "danelaw's upstreams do not answer, so nothing is known of the domain", "danelaw doctor")
	case found.view == nil:
		told(faultOther, found.Error(), "look into the log of "+w.MTA)
	default:
		w.judgeView(found.view, cause, connected)
	}
}

// judgeView judges by what was found of the domain.
func (w *waiting) judgeView(v *view, cause cause, connected bool) {
	told := func(fault, sentence, remedy string) { w.Fault, w.Sentence, w.Remedy = fault, sentence, remedy }
	decision, changed := v.decision(w.sender)
	w.Decision = decision.Action.String()
	sentence := cmp.Or(v.told(), w.sender.Consequence(&v.domain, decision))
	switch {
	case decision.Action == mail.Bounce || decision.Action == mail.NullMX:
		told(faultTheirs, sentence, "the mail will bounce when it is tried again: "+w.again())
	case !decision.Action.Delivers() && changed:
		told(faultTheirs, w.Destination+" does not keep to its TLSA records: "+decision.Why, v.trust(v.tlsaZone(), true))
	case !decision.Action.Delivers():
		told(faultTheirs, sentence, v.trust(v.brokenZone(), false))
	case cause == causeDNS || cause == causeTLSA:
		told(faultMended, "danelaw finds nothing that is wrong now", w.again()+"; if it stays deferred the MTA asks another resolver: danelaw doctor")
	case cause == causeTLS && decision.Action != mail.DANE && decision.Action != mail.Encrypt && demanded.MatchString(w.Reason):
		told(faultOurs, cmp.Or(v.told(), "there are no TLSA records")+": it is this host that demands TLS", "see smtp_tls_policy_maps or hosts_require_tls: danelaw doctor")
	case cause == causeTLS && decision.Action != mail.DANE && decision.Action != mail.Encrypt:
		told(faultOther, cmp.Or(v.told(), "there are no TLSA records")+": TLS itself fails between this host and theirs", "danelaw check -smtp "+bare(w.Destination)+"; danelaw doctor")
	case cause == causeTLS && connected:
		told(faultMended, "its hosts keep to their TLSA records now", w.again())
	case cause == causeTLS:
		told(faultTheirs, "it has TLSA records, and its host does not keep to them", "danelaw check -smtp "+bare(w.Destination)+" compares; "+v.trust(v.tlsaZone(), true))
	case cause == causeNetwork:
		told(faultOther, "DNS and TLSA records are in order: its host cannot be reached", "wait, or see whether port 25 is open: danelaw check -smtp "+bare(w.Destination))
	case cause == causeSaid:
		told(faultOther, "DNS and TLSA records are in order: its host says so", "do what it says, or ask its postmaster")
	default:
		told(faultOther, "DNS and TLSA records are in order", "look into the log of "+w.MTA)
	}
}

// demanded are reasons of an MTA that was told to want TLS, or a certificate.
var demanded = regexp.MustCompile(`TLS is required|TLS session is required|Server certificate|certificate verification`)

// again is the command that has the mail tried at once.
func (w *waiting) again() string {
	if w.sender == mail.Exim {
		return "exim -Rff " + bare(w.Domains[0])
	}
	if dir, instance := strings.CutPrefix(w.MTA, "Postfix "); instance {
		return "postqueue -c " + dir + " -f"
	}
	return "postqueue -f"
}

// bare is a name as people write it.
func bare(name string) string { return cmp.Or(strings.TrimSuffix(name, "."), ".") }

// trust is what mends a fault of theirs: their postmaster, or a negative trust anchor if there is a zone to leave unvalidated. One for
// the zone of TLSA records is for the time that they say nothing wrong of the zone's signatures.
func (v *view) trust(zone string, keep bool) string {
	const tell = "tell their postmaster"
	if zone == "" {
		return tell + "; nothing here mends it, the mail waits until they do"
	}
	flag := ""
	if keep {
		flag = "-keep "
	}
	return fmt.Sprintf("%s; if it is a mistake and cannot wait: danelaw nta add %s%s 24h", tell, flag, bare(zone))
}

// brokenZone is the zone whose signatures or keys are wrong; "" if it is another fault, such as servers that do not answer.
func (v *view) brokenZone() string {
	if v.Culprit == nil {
		return ""
	}
	for _, l := range v.lookups() {
		if l.Failure == v.Culprit && l.Status == dnssec.Bogus.String() {
			return cmp.Or(v.Culprit.Zone, v.zoneOf(l.Name))
		}
	}
	return ""
}

// tlsaZone is the zone of the TLSA records that a sender keeps to.
func (v *view) tlsaZone() string {
	for i := range v.domain.Hosts {
		if found := v.domain.Hosts[i].Found(); found != nil {
			return v.zoneOf(found.Base)
		}
	}
	return ""
}

// zoneOf is the zone of a name among those on the way.
func (v *view) zoneOf(name string) (zone string) {
	for _, z := range v.Zones {
		if z.Name != "." && dns.IsSubDomain(z.Name, name) && len(z.Name) > len(zone) {
			zone = z.Name
		}
	}
	return zone
}
