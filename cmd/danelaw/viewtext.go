package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/fatih/color"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// tone is how a word is to be taken.
type tone uint8

const (
	neutral tone = iota
	good
	plain // neither good nor bad
	bad
	caution
)

// toneNames are their names in style sheets.
var toneNames = [...]string{"neutral", "good", "plain", "bad", "caution"}

// tones of the words that views have for a status or a decision.
var tones = map[string]tone{
	"Secure": good, "Insecure": plain, "Bogus": bad, "Indeterminate": bad,
	"dane": good, "encrypt": good, "opportunistic": plain, "no-address": plain, "passed-over": plain, "null-mx": plain,
	"defer": bad, "bounce": bad,
	"matches": good, "tls": plain, "failed": bad,
	"ok": good, "warning": caution, "fault": bad, "unknown": plain,
}

// painter writes words in colours, or not.
type painter map[tone]*color.Color

func newPainter(colours bool) painter {
	p := painter{good: color.New(color.FgGreen), plain: color.New(color.Faint), bad: color.New(color.FgRed),
		caution: color.New(color.FgYellow)}
	for _, c := range p {
		if colours {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
	}
	return p
}

// painterFor paints what goes to a terminal, unless its user does not want that (NO_COLOR).
func painterFor(to io.Writer) painter {
	return newPainter(fileOf(to) == os.Stdout && !color.NoColor)
}

func (p painter) paint(t tone, text string) string {
	if c := p[t]; c != nil && text != "" {
		return c.Sprint(text)
	}
	return text
}

// headlines say what the decision on a domain means.
var headlines = map[string]string{
	"dane":          "DANE, mail goes to none but a host whose certificate matches its TLSA record",
	"encrypt":       "encrypted, but to whom is not verified",
	"opportunistic": "no DANE, mail is encrypted if the host offers it",
	"defer":         "mail is deferred",
	"bounce":        "mail bounces",
	"null-mx":       "takes no mail",
}

// headline says what the decision on the domain means, and which of the programs does worse.
func (v *view) headline() (text string, t tone) {
	if v.Blind {
		return "danelaw's own upstreams fail, so nothing is known of the domain", bad
	}
	if v.unknowable {
		return "danelaw cannot know what becomes of mail", plain
	}
	text, t = headlines[v.Decision], tones[v.Decision]
	for _, s := range v.worse() {
		switch {
		case s.Decision == "defer":
			text, t = text+"; but "+s.Name+" defers", bad
		case s.Decision == "bounce" || s.Decision == "null-mx":
			text, t = text+"; but "+s.Name+" bounces", bad
		default:
			text, t = text+"; but "+s.Name+" authenticates nobody", max(t, plain)
		}
	}
	return text, t
}

// worse are the programs that do less than a sender that keeps to RFC 7672 and that delivers.
func (v *view) worse() []senderView {
	worse := func(s senderView) bool { return mail.ActionOf(s.Decision) < mail.ActionOf(v.Decision) }
	if !mail.ActionOf(v.Decision).Delivers() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(v.Senders), func(s senderView) bool { return !worse(s) })
}

// row is a line of the table: what, a status or decision, and the rest. That of a heading is not aligned with others.
type row struct {
	What, Word, Text string
	Heading          bool
}

// Empty reports whether the row is there to part others.
func (r row) Empty() bool { return r == row{} }

// Indented reports whether the row belongs to the heading above.
func (r row) Indented() bool { return r.What == "" || r.What[0] == ' ' }

// Tone is how its word is to be taken, for style sheets.
func (r row) Tone() string { return toneNames[tones[r.Word]] }

// printView prints one domain for people.
func printView(to io.Writer, v *view, p painter) {
	headline, tone := v.headline()
	between := "  "
	if len(v.Domain)+2+len(headline) > widthOf(to) {
		headline, between = wrapped(headline, 2, widthOf(to)), "\n"
	}
	fmt.Fprintln(to, v.Domain+between+p.paint(tone, headline))
	if told := v.told(); told != "" {
		fmt.Fprintln(to, wrapped(printable.Text(told), 0, widthOf(to)))
	}
	fmt.Fprintln(to)
	printRows(to, v.rows(), 2, p, widthOf(to))
}

// told is the sentence below the headline.
func (v *view) told() string {
	if v.Blind || v.unknowable {
		return v.Why
	}
	if _, stopped := v.decision(mail.Standard); v.Culprit != nil && !stopped {
		return v.Culprit.Text
	}
	switch i := slices.IndexFunc(v.Zones, func(z *zoneView) bool { return z.Status == "Insecure" }); {
	case v.Decision == "dane":
		return ""
	case v.Decision != "opportunistic" || v.domain.MX.Status != dnssec.Insecure || i < 0:
	case v.Zones[i].Failure != nil:
		return v.Why + ", since " + v.Zones[i].Failure.Text
	default:
		return fmt.Sprintf("%s, since %s is %s", v.Why, v.Zones[i].Name, v.Zones[i].How)
	}
	return v.Why
}

// rows are the lines of the table.
func (v *view) rows() (rows []row) {
	rows = append(rows, v.MX.row("MX", "none: the domain is its own mail host"))
	for _, h := range v.Hosts {
		rows = append(append(rows, row{}), h.rows()...)
	}
	rows = append(rows, row{})
	for _, s := range v.Senders {
		rows = append(rows, row{What: s.Name, Word: s.Decision, Text: s.Text})
	}
	rows = append(rows, v.MTASTS.row("MTA-STS", v.sts()), v.TLSRPT.row("TLS reports", v.reports()))
	told := v.told()
	for _, l := range v.lookups() {
		if l.Note == nil || !strings.Contains(told, l.Note.Text) {
			continue
		}
		for i := range rows { // what is said above once is enough
			rows[i].Text = strings.TrimSuffix(rows[i].Text, l.Note.inBrackets())
		}
	}
	rows = append(rows, row{What: "reported as", Text: v.Report.text(v.compared)},
		row{What: "signatures", Text: v.firstToExpire()})
	return rows
}

// row is the line of a lookup; none is said if there are no records.
func (l *lookupView) row(what, none string) row {
	text := strings.Join(l.Records, ", ")
	switch {
	case l.Failure != nil:
		text = l.Failure.Text
	case l.Rcode == "NXDOMAIN" && what == "MX":
		text = "there is no such domain"
	case text == "":
		text = none
	}
	if l.Note != nil {
		text += l.Note.inBrackets()
	}
	return row{What: what, Word: l.Status, Text: text}
}

// inBrackets is how a note follows what it explains.
func (f *failureView) inBrackets() string { return " (" + f.Text + ")" }

// rows are the lines of a host.
func (h *hostView) rows() (rows []row) {
	rows = append(rows, row{h.Name, h.Decision, h.Why, true})
	if h.Alias != nil {
		rows = append(rows, row{What: "  alias", Word: h.Alias.Status, Text: "of " + h.Alias.Target})
	}
	for i := range h.Addresses {
		rows = append(rows, h.Addresses[i].row("  "+h.Addresses[i].Type, "none"))
	}
	for _, t := range h.TLSA {
		rows = append(rows, t.rows()...)
	}
	for i := range h.SMTP {
		rows = append(rows, row{What: "  " + h.SMTP[i].Address, Word: h.SMTP[i].Result, Text: h.SMTP[i].text()})
	}
	if h.Untried > 0 {
		rows = append(rows, row{Text: fmt.Sprintf("and %d more addresses, not tried", h.Untried)})
	}
	return rows
}

// shown is how many TLSA records of a host are written out.
const shown = 6

// mostForExchange is how many TLSA records of a host Exchange Online takes.
const mostForExchange = 12

// rows are the lines of a TLSA lookup, a line per record.
func (t *tlsaView) rows() (rows []row) {
	if len(t.Parts) == 0 {
		return []row{t.row("  TLSA", "none at "+t.Name)}
	}
	for i, r := range t.Parts {
		if i == shown {
			rows = append(rows, row{Text: fmt.Sprintf("and %d more", len(t.Parts)-shown)})
			break
		}
		rows = append(rows, row{Text: r.text()})
		if i == 0 {
			rows[0].What, rows[0].Word = "  TLSA", t.Status
		}
	}
	if len(t.Parts) > mostForExchange {
		rows = append(rows, row{Text: fmt.Sprintf("%d records: Exchange Online fails with more than %d", len(t.Parts),
			mostForExchange)})
	}
	if t.Target != "" {
		rows = append(rows, row{Text: "by an alias, of " + t.Target})
	}
	return rows
}

func (r *tlsaRecordView) text() string {
	data := strings.ToLower(r.Data)
	if len(data) > 16 {
		data = data[:16] + "..."
	}
	text := fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.MatchingType, data)
	if !r.Usable {
		text += "  unusable: " + r.Why
	}
	return text
}

// sts says what the MTA-STS record is good for.
func (v *view) sts() string {
	switch {
	case !v.MTASTS.Published:
		return "none"
	case v.MTASTS.Error != "":
		return "the record does not parse, so that there is no policy: " + v.MTASTS.Error
	case v.Report.PolicyType == mail.PolicyTLSA:
		return "id " + v.MTASTS.ID + "; DANE is stronger and wins"
	}
	return "id " + v.MTASTS.ID
}

// reports says where TLS reports go.
func (v *view) reports() string {
	switch {
	case !v.TLSRPT.Published:
		return "none are asked for"
	case v.TLSRPT.Error != "":
		return "the record does not parse, so that none are sent: " + v.TLSRPT.Error
	}
	return "to " + strings.Join(v.TLSRPT.RUA, ", ")
}

// row is the line of a policy, in words of its own.
func (p *policyView) row(what, text string) row {
	if p.Failure != nil {
		text = p.Failure.Text
	}
	return row{What: what, Word: p.Status, Text: text}
}

// text is how others tell of what failed; compared says whether certificates were looked at, too.
func (r *reportView) text(compared bool) string {
	if r.PolicyType == "" {
		return "unknown"
	}
	text := "policy type " + r.PolicyType
	switch {
	case r.ResultType == "" && r.PolicyType == mail.PolicyTLSA && !compared:
		return text + "; certificates were not compared"
	case r.ResultType == "":
		return text + ", no failure"
	}
	text += ", result type " + r.ResultType
	if r.ExchangeOnline != "" {
		text += "; by Exchange Online as " + r.ExchangeOnline
	}
	if r.ResultType == string(mail.DNSSECInvalid) {
		text += ` or 4/5.4.312 "DNS query failed"`
	}
	return text
}
