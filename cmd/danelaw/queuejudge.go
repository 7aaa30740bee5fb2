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
	faultWords = map[string]string{faultTheirs: "their fault", faultOurs: "our fault", faultMended: "mended",
		faultOther: "not DNS or TLS"}
	faultTones = map[string]tone{faultTheirs: bad, faultOurs: bad, faultMended: good, faultOther: plain}
)

// told notes the judgement: whose fault, what danelaw finds, what to do, and by which commands.
func (w *waiting) told(fault, sentence, remedy string, commands ...string) {
	w.Fault, w.Sentence, w.Remedy, w.Commands = fault, sentence, remedy, commands
}

// judge says what danelaw finds, whose fault it is, and what mends it. If danelaw cannot ask, the fault is ours.
func (w *waiting) judge(found result, connected bool) {
	log := "look into the log of " + w.MTA
	switch cause := causeOf(w.Reason); {
	case w.Kind == toLocal:
		w.told(faultOther, "it goes by a transport that is not SMTP, or to what is no domain name, or where "+
			"it goes is not seen", log)
	case w.Kind == toAddress:
		w.told(faultOther, "it goes to an address: neither MX nor TLSA records decide", log+", and at "+w.Destination)
	case found.view == nil:
		w.told(faultOther, found.Error(), log)
	case found.view.unknowable:
		w.told(faultOther, found.view.Why, log)
	case found.view.Blind:
		w.told(faultOurs, "nothing is known of the domain: "+found.view.Why, "see what is wrong with the upstreams",
			"danelaw doctor")
	default:
		w.judgeView(found.view, cause, connected)
	}
}

// judgeView judges by what was found of the domain.
func (w *waiting) judgeView(v *view, cause cause, connected bool) {
	decision, changed := v.decision(w.sender)
	w.Decision = decision.Action.String()
	tlsa := decision.Action == mail.DANE || decision.Action == mail.Encrypt
	sentence := cmp.Or(v.told(), w.sender.Consequence(&v.domain, decision))
	compare := "danelaw check --smtp " + operand(w.Destination)
	switch {
	case decision.Action == mail.Bounce || decision.Action == mail.NullMX:
		w.told(faultTheirs, sentence, "it will bounce when it is tried again", w.again())
	case !decision.Action.Delivers() && changed:
		w.trust(v.tlsaZone(), w.Destination+" does not keep to its TLSA records: "+decision.Why, "--keep ")
	case !decision.Action.Delivers():
		w.trust(v.brokenZone(), sentence, "")
	case cause == causeDNS || cause == causeTLSA:
		w.told(faultMended, "danelaw finds nothing that is wrong now",
			"try it again; if it stays deferred, the MTA asks another resolver", w.again(), "danelaw doctor")
	case cause == causeTLS && tlsa && connected:
		w.told(faultMended, "its hosts keep to their TLSA records now", "try it again", w.again())
	case cause == causeTLS && tlsa:
		w.trust(v.tlsaZone(), "it has TLSA records, and its host does not keep to them", "--keep ", compare)
	case cause == causeTLS && demanded.MatchString(w.Reason):
		w.told(faultOurs, cmp.Or(v.told(), "there are no TLSA records")+": it is this host that demands TLS",
			"see smtp_tls_policy_maps or hosts_require_tls", "danelaw doctor")
	case cause == causeTLS:
		w.told(faultOther, cmp.Or(v.told(), "there are no TLSA records")+
			": TLS itself fails between this host and theirs", "see on which side", compare, "danelaw doctor")
	case cause == causeNetwork:
		w.told(faultOther, "DNS and TLSA records are in order: its host cannot be reached",
			"wait, or see whether port 25 is open", compare)
	case cause == causeSaid:
		w.told(faultOther, "DNS and TLSA records are in order: its host says so",
			"do what it says, or ask its postmaster")
	default:
		w.told(faultOther, "DNS and TLSA records are in order", "look into the log of "+w.MTA)
	}
}

// trust is for a fault of theirs: their postmaster mends it, or a negative trust anchor if there is a zone to leave
// unvalidated. One for wrong TLSA records is kept, as the zone's signatures are right all the time.
func (w *waiting) trust(zone, sentence, keep string, commands ...string) {
	if zone == "" {
		w.told(faultTheirs, sentence, "tell their postmaster; nothing here mends it, the mail waits until they do",
			commands...)
		return
	}
	w.told(faultTheirs, sentence, "tell their postmaster; if it is a mistake and no attack, and cannot wait, do "+
		"without DANE for a while",
		append(commands, fmt.Sprintf("danelaw nta add %s%s 24h", keep, operand(zone)))...)
}

// demanded are reasons of an MTA that was told to want TLS, or a certificate.
var demanded = regexp.MustCompile(`TLS is required|TLS session is required|Server certificate|certificate verification`)

// again is the command that has the mail tried at once.
func (w *waiting) again() string {
	if w.sender == mail.Exim {
		return "exim -Rff " + argument(w.Domains[0])
	}
	if dir, instance := strings.CutPrefix(w.MTA, "Postfix "); instance {
		return "postqueue -c " + dir + " -f"
	}
	return "postqueue -f"
}

// plainArgument are names that mean nothing else to a shell.
var plainArgument = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// argument is a name as people write it, in a command that they copy: whoever sends mail may have chosen it.
func argument(name string) string {
	name = cmp.Or(strings.TrimSuffix(name, "."), ".")
	if plainArgument.MatchString(name) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// operand is an argument of danelaw that it takes for no flag, even if the name begins with a hyphen.
func operand(name string) string {
	if strings.HasPrefix(name, "-") {
		return "-- " + argument(name)
	}
	return argument(name)
}

// brokenZone is the zone whose signatures or keys are wrong; "" if it is another fault, such as servers that do not
// answer.
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
