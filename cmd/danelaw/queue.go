package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// notForQueue are the flags of check that --queue has no use for.
var notForQueue = []string{"file", "html", "require-dane", "implicit-tls"}

// The form of `danelaw check --queue --json`.
type (
	queueJSON struct {
		Destinations []*waitingJSON `json:"destinations"` // the oldest first
		Errors       []queueFail    `json:"errors"`       // of MTAs whose queue cannot be read
	}
	queueFail struct {
		MTA   string `json:"mta"`
		Error string `json:"error"`
	}
	// waitingJSON is the mail that an MTA holds for one destination.
	waitingJSON struct {
		// where the MTA delivers to: a domain or host with a dot at its end, an address, or a transport
		Destination string    `json:"destination"`
		Kind        string    `json:"kind"`    // domain, host, address, local
		Domains     []string  `json:"domains"` // of the recipients
		MTA         string    `json:"mta"`     // Postfix or Exim, and the directory of an instance
		Messages    int       `json:"messages"`
		Recipients  int       `json:"recipients"`
		Since       time.Time `json:"since"`
		Reason      string    `json:"reason"`             // of the last message that was tried, in the MTA's words
		Decision    string    `json:"decision,omitempty"` // of that MTA, by what danelaw sees now
		Sentence    string    `json:"sentence"`           // what danelaw finds
		Fault       string    `json:"fault"`              // theirs, ours, mended, other
		Remedy      string    `json:"remedy"`             // what to do
		Commands    []string  `json:"commands,omitempty"` // to copy
	}
)

// queue is what waits, by MTA and destination.
type queue struct {
	waiting []*waiting
	errors  []queueFail
	index   map[string]*waiting
}

// waiting is what is told of a destination, and what that comes from.
type waiting struct {
	waitingJSON
	sender   mail.Sender
	messages map[string]bool
	last     time.Time // when the message was tried that Reason is of
}

// Kinds of destinations.
const (
	toDomain  = "domain"
	toHost    = "host" // without a lookup of MX
	toAddress = "address"
	toLocal   = "local" // on this host, by a transport that is not SMTP
)

// checkQueue explains the deferred mail of a machine.
func checkQueue(ctx context.Context, c *cli.Command, m *machine) error {
	if c.Args().Present() {
		return wrong("--queue takes the domains from the queue: leave out %q", c.Args().First())
	}
	for _, name := range notForQueue {
		if c.IsSet(name) {
			return wrong("--%s is for domains, not for --queue", name)
		}
	}
	out, err := readQueues(ctx, m, c.String("mta"))
	if err != nil {
		return err
	}
	if len(out.waiting) > 0 {
		err = withAsker(ctx, c, func(a *asker) error {
			o := lookOptions{smtp: c.Bool("smtp"), port: c.Int("smtp-port")}
			return a.explainQueue(ctx, out.waiting, o, func(n int) func() { return progressBar(c, "checking", n) })
		})
	}
	if err != nil {
		return err
	}
	return cmp.Or(show(c, out.told(), out.print), toldUnless(len(out.waiting)+len(out.errors) == 0))
}

// readQueues reads the queues of all MTAs, or of one.
func readQueues(ctx context.Context, m *machine, only string) (*queue, error) {
	out := &queue{index: map[string]*waiting{}}
	exim := m.eximProgram()
	hasPostfix, hasExim := only != "exim" && m.has("postqueue"), only != "postfix" && exim != ""
	switch {
	case only != "" && only != "postfix" && only != "exim":
		return nil, wrong("--mta %q is neither postfix nor exim", only)
	case !hasPostfix && !hasExim:
		return nil, errors.New("neither postqueue nor exim is found in PATH or /usr/sbin")
	}
	if hasPostfix {
		m.readPostfix(ctx, "", out)
	}
	if hasExim {
		m.readExim(ctx, exim, out)
	}
	slices.SortStableFunc(out.waiting, func(a, b *waiting) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Destination, b.Destination))
	})
	return out, nil
}

// fail notes that a queue cannot be read.
func (q *queue) fail(mta string, err error, who string) {
	q.errors = append(q.errors,
		queueFail{mta, fmt.Sprintf("its queue cannot be read: %s; run this as %s", shownReason(err.Error()), who)})
}

// readPostfix reads the queue of an instance, and of those that it names.
func (m *machine) readPostfix(ctx context.Context, dir string, out *queue) {
	name := strings.TrimSpace("Postfix " + dir)
	p, err := m.openPostfix(ctx, dir)
	if err != nil {
		out.fail(name, err, "root")
		return
	}
	if dir != "" && !strings.EqualFold(p.settings["multi_instance_enable"], "yes") {
		return
	}
	text, err := p.run(ctx, "postqueue", "-j")
	var all []deferred
	if err == nil {
		all, err = parsePostqueue(text)
	}
	if err != nil {
		out.fail(name, err, "root, or as a user whom authorized_mailq_users names, while Postfix runs")
	}
	asked, known := map[string]int{}, map[string][2]string{}
	for _, d := range all {
		domain := domainOf(d.recipient)
		if asked[domain]++; asked[domain] <= mostAsked {
			kind, to := p.destinationOf(ctx, d)
			known[domain] = [2]string{kind, to}
		}
		out.add(name, mail.Postfix, known[domain][0], known[domain][1], d)
	}
	for _, other := range postfixWords(p.settings["multi_instance_directories"]) {
		if dir == "" {
			m.readPostfix(ctx, other, out)
		}
	}
}

// readExim reads Exim's queue. The reasons are in the logs of the messages.
func (m *machine) readExim(ctx context.Context, program string, out *queue) {
	text, err := m.run(ctx, program, "-bp")
	var all []deferred
	if err == nil {
		all, err = parseEximQueue(text, time.Now())
	}
	if err != nil {
		out.fail("Exim", err, "root or as an administrator of Exim (with Debian: in the group Debian-exim)")
		return
	}
	routers, _ := m.run(ctx, program, "-bP", "routers") // without them a host is not told from a domain
	e := &exim{machine: m, program: program, routers: eximDrivers(routers)}
	e.readLogs(ctx, all)
	for _, d := range all {
		kind, to := e.destinationOf(ctx, d)
		out.add("Exim", mail.Exim, kind, to, d)
	}
}

// mostAsked is how many messages to a domain are looked into, for the way that they take or for a reason.
const mostAsked = 5

// readLogs completes messages by what their logs tell. One that tells of an attempt is enough for a domain.
func (e *exim) readLogs(ctx context.Context, all []deferred) {
	slices.SortStableFunc(all, func(a, b deferred) int { return b.since.Compare(a.since) })
	read, like := map[string]int{}, map[string]deferred{}
	for i := range all {
		d := &all[i]
		domain := domainOf(d.recipient)
		if known := like[domain]; read[domain] >= mostAsked || known.reason != "" &&
			!notTried.MatchString(known.reason) {
			d.reason, d.router, d.host = known.reason, known.router, known.host
			if domainOf(known.recipient) != domain { // it became another address
				d.recipient = known.recipient
			}
			continue
		}
		read[domain]++
		if log, err := e.machine.run(ctx, e.program, "-Mvl", d.id); err == nil {
			d.readEximLog(log)
		}
		like[domain] = *d
	}
}

// destinationOf is where Exim sent a message: to a host that a router names, or to the hosts of its domain.
func (e *exim) destinationOf(ctx context.Context, d deferred) (kind, to string) {
	i := slices.IndexFunc(e.routers, func(r eximDriver) bool { return r.name == "router "+d.router })
	if i < 0 || e.routers[i].options["driver"] != "manualroute" {
		return kindOf(domainOf(d.recipient), false)
	}
	if d.host == "" && !strings.HasPrefix(d.recipient, "-") {
		out, _ := e.machine.run(ctx, e.program, "-bt", d.recipient) // without an answer it is not known
		if m := eximHostLine.FindStringSubmatch(out); m != nil {
			d.host = m[1]
		}
	}
	if d.host == "" {
		return toLocal, "router " + d.router
	}
	return kindOf("["+d.host+"]", true)
}

// kindOf sorts a next hop: a domain, a host in brackets, or an address.
func kindOf(text string, host bool) (kind, to string) {
	h := nexthopOf(text)
	if h.address.IsValid() {
		return toAddress, h.address.String()
	}
	name, err := parseName(h.name)
	switch {
	case err != nil:
		return toLocal, shownReason(text)
	case host || strings.HasPrefix(text, "["):
		return toHost, name
	}
	return toDomain, name
}

// add counts a message among those for a destination.
func (q *queue) add(mta string, sender mail.Sender, kind, to string, d deferred) {
	key := strings.Join([]string{mta, kind, to}, "\x00")
	w := q.index[key]
	if w == nil {
		w = &waiting{sender: sender, messages: map[string]bool{}, waitingJSON: waitingJSON{
			Destination: to, Kind: kind, Domains: []string{}, MTA: mta, Since: d.since.UTC(),
		}}
		q.index[key] = w
		q.waiting = append(q.waiting, w)
	}
	domain := shownReason(domainOf(d.recipient))
	if name, err := parseName(domain); err == nil {
		domain = name
	}
	if !slices.Contains(w.Domains, domain) {
		w.Domains = append(w.Domains, domain)
	}
	w.messages[d.id] = true
	w.Messages, w.Recipients = len(w.messages), w.Recipients+1
	if d.since.Before(w.Since) {
		w.Since = d.since.UTC()
	}
	tried, told := !notTried.MatchString(d.reason), w.Reason != "" && !notTried.MatchString(w.Reason)
	if d.reason != "" && (tried && !told || tried == told && !d.since.Before(w.last)) {
		w.last, w.Reason = d.since, shownReason(d.reason)
	}
}

// told is the queue in the form of JSON.
func (q *queue) told() queueJSON {
	out := queueJSON{Destinations: []*waitingJSON{}, Errors: append([]queueFail{}, q.errors...)}
	for _, w := range q.waiting {
		out.Destinations = append(out.Destinations, &w.waitingJSON)
	}
	return out
}

// explainQueue checks each destination once, and judges.
func (a *asker) explainQueue(ctx context.Context, all []*waiting, o lookOptions, bar func(n int) func()) error {
	var domains, hosts []string
	for _, w := range all {
		switch w.Kind {
		case toDomain:
			domains = append(domains, w.Destination)
		case toHost:
			hosts = append(hosts, w.Destination)
		}
	}
	domains, hosts = unique(domains), unique(hosts)
	done := bar(len(domains) + len(hosts))
	found := map[string]result{}
	for kind, names := range map[string][]string{toDomain: domains, toHost: hosts} {
		o.host = kind == toHost
		results, err := lookAll(ctx, a, names, o, done)
		if err != nil {
			return err
		}
		for _, r := range results {
			found[kind+r.domain] = r
		}
	}
	for _, w := range all {
		w.judge(found[w.Kind+w.Destination], o.smtp)
	}
	return nil
}

// print prints the destinations for people, with what to do at the end of each.
func (q *queue) print(to io.Writer) {
	paint, width, messages := painterFor(to), widthOf(to), 0
	for _, w := range q.waiting {
		messages += w.Messages
		fmt.Fprintf(to, "%s  %s  %s by %s since %s\n", w.title(), paint.paint(faultTones[w.Fault], faultWords[w.Fault]),
			counted(w.Messages, "message"), w.MTA, w.Since.Format("2006-01-02 15:04 UTC"))
		reason := fmt.Sprintf("%s (%s)", cmp.Or(w.Reason, "no reason is told"), w.sender)
		for _, line := range []string{reason, w.Sentence, "→ " + w.Remedy} {
			fmt.Fprintln(to, wrapped(line, 4, width))
		}
		for _, command := range w.Commands {
			fmt.Fprintf(to, "        %s\n", command)
		}
	}
	for _, e := range q.errors {
		fmt.Fprintf(to, "%s  %s  %s\n", e.MTA, paint.paint(drawing.Bad, "unknown"), e.Error)
	}
	switch {
	case len(q.waiting) > 0:
		fmt.Fprintf(to, "\n%s deferred, to %s\n", counted(messages, "message"), counted(len(q.waiting), "destination"))
	case len(q.errors) == 0:
		fmt.Fprintln(to, "no mail is deferred")
	}
}

// title names a destination, and whose mail it gets if it is not the recipients' own domain.
func (w *waiting) title() string {
	if slices.Equal(w.Domains, []string{w.Destination}) {
		return w.Destination
	}
	return fmt.Sprintf("%s (for %s)", w.Destination, several(w.Domains))
}

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
	faultTones = map[string]drawing.Tone{faultTheirs: drawing.Bad, faultOurs: drawing.Bad,
		faultMended: drawing.Good, faultOther: drawing.Plain}
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
		"without DANE for a while", append(commands, fmt.Sprintf("danelaw nta add %s%s 24h", keep, operand(zone)))...)
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
	if l := v.firstFailed(); l != nil && l.Status == dnssec.Bogus.String() {
		return cmp.Or(l.Failure.Zone, v.zoneOf(l.Name))
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
