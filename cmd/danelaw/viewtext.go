package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/fatih/color"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// painter writes words in colours, or not.
type painter map[drawing.Tone]*color.Color

func newPainter(colours bool) painter {
	p := painter{
		drawing.Good: color.New(color.FgGreen), drawing.Plain: color.New(color.Faint),
		drawing.Bad: color.New(color.FgRed), drawing.Caution: color.New(color.FgYellow),
	}
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

func (p painter) paint(t drawing.Tone, text string) string {
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
func (v *view) headline() (text string, t drawing.Tone) {
	if v.Blind {
		return "danelaw's own upstreams fail, so nothing is known of the domain", drawing.Bad
	}
	if v.unknowable {
		return "danelaw cannot know what becomes of mail", drawing.Plain
	}
	text, t = headlines[v.Decision], drawing.ToneOf(v.Decision)
	for _, s := range v.worse() {
		switch {
		case s.Decision == "defer":
			text, t = text+"; but "+s.Name+" defers", drawing.Bad
		case s.Decision == "bounce" || s.Decision == "null-mx":
			text, t = text+"; but "+s.Name+" bounces", drawing.Bad
		default:
			text, t = text+"; but "+s.Name+" authenticates nobody", max(t, drawing.Plain)
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
	switch i := slices.IndexFunc(v.Zones, func(z *drawing.Zone) bool { return z.Status == "Insecure" }); {
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
func (v *view) rows() (rows []drawing.Row) {
	rows = append(rows, v.MX.row("MX", "none: the domain is its own mail host"))
	for _, h := range v.Hosts {
		rows = append(append(rows, drawing.Row{}), h.rows()...)
	}
	rows = append(rows, drawing.Row{})
	for _, s := range v.Senders {
		rows = append(rows, drawing.Row{What: s.Name, Word: s.Decision, Text: s.Text})
	}
	rows = append(rows, v.MTASTS.row("MTA-STS", v.sts()), v.TLSRPT.row("TLS reports", v.reports()))
	if p := v.Policy; p != nil {
		rows = append(rows, drawing.Row{What: "policy", Word: p.Level, Text: p.Why})
	}
	told := v.told()
	for _, l := range v.lookups() {
		if l.Note == nil || !strings.Contains(told, l.Note.Text) {
			continue
		}
		for i := range rows { // what is said above once is enough
			rows[i].Text = strings.TrimSuffix(rows[i].Text, inBrackets(l.Note))
		}
	}
	rows = append(rows, drawing.Row{What: "reported as", Text: v.Report.text(v.compared)},
		drawing.Row{What: "signatures", Text: v.firstToExpire()})
	return rows
}

// row is the line of a lookup; none is said if there are no records.
func (l *lookupView) row(what, none string) drawing.Row {
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
		text += inBrackets(l.Note)
	}
	return drawing.Row{What: what, Word: l.Status, Text: text}
}

// inBrackets is how a note follows what it explains.
func inBrackets(f *drawing.Failure) string { return " (" + f.Text + ")" }

// rows are the lines of a host.
func (h *hostView) rows() (rows []drawing.Row) {
	rows = append(rows, drawing.Row{What: h.Name, Word: h.Decision, Text: h.Why, Heading: true})
	if h.Alias != nil {
		rows = append(rows, drawing.Row{What: "  alias", Word: h.Alias.Status, Text: "of " + h.Alias.Target})
	}
	for i := range h.Addresses {
		rows = append(rows, h.Addresses[i].row("  "+h.Addresses[i].Type, "none"))
	}
	for _, t := range h.TLSA {
		rows = append(rows, t.rows()...)
	}
	for i := range h.SMTP {
		rows = append(rows, drawing.Row{What: "  " + h.SMTP[i].Address, Word: h.SMTP[i].Result, Text: h.SMTP[i].text()})
	}
	if h.Untried > 0 {
		rows = append(rows, drawing.Row{Text: fmt.Sprintf("and %d more addresses, not tried", h.Untried)})
	}
	return rows
}

// shown is how many TLSA records of a host are written out.
const shown = 6

// mostForExchange is how many TLSA records of a host Exchange Online takes.
const mostForExchange = 12

// rows are the lines of a TLSA lookup, a line per record.
func (t *tlsaView) rows() (rows []drawing.Row) {
	if len(t.Parts) == 0 {
		return []drawing.Row{t.row("  TLSA", "none at "+t.Name)}
	}
	for i, r := range t.Parts {
		if i == shown {
			rows = append(rows, drawing.Row{Text: fmt.Sprintf("and %d more", len(t.Parts)-shown)})
			break
		}
		rows = append(rows, drawing.Row{Text: r.text()})
		if i == 0 {
			rows[0].What, rows[0].Word = "  TLSA", t.Status
		}
	}
	if len(t.Parts) > mostForExchange {
		rows = append(rows, drawing.Row{Text: fmt.Sprintf("%d records: Exchange Online fails with more than %d",
			len(t.Parts),
			mostForExchange)})
	}
	if t.Target != "" {
		rows = append(rows, drawing.Row{Text: "by an alias, of " + t.Target})
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
func (p *policyView) row(what, text string) drawing.Row {
	if p.Failure != nil {
		text = p.Failure.Text
	}
	return drawing.Row{What: what, Word: p.Status, Text: text}
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
