package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/policy"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

func watchCommand() *cli.Command {
	return &cli.Command{
		Name:      "watch",
		Usage:     "look once at domains of your own as senders with DANE see them, for cron",
		ArgsUsage: "DOMAIN...",
		Flags: append(slices.Concat(askFlags(), probeFlags()),
			intFlag("days", 1,
				"a signature, or a certificate under usage 2, that ends within `N` days is a fault", nil),
			boolFlag("json", "print JSON for a program")),
		Action: watch,
	}
}

func watch(ctx context.Context, c *cli.Command) error {
	domains := c.Args().Slice()
	if len(domains) == 0 {
		return misused(c, "watch takes the domains to look at")
	}
	for i, domain := range domains {
		name, err := mailHost(domain)
		if err != nil {
			return err
		}
		domains[i] = name
	}
	if c.Int("days") < 0 {
		return wrong("--days %d: write 0 or more", c.Int("days"))
	}
	return withAsker(ctx, c, func(a *asker) error { return a.watch(ctx, c, domains) })
}

// watch looks at one domain after the other.
func (a *asker) watch(ctx context.Context, c *cli.Command, domains []string) error {
	out := watchJSON{Good: true, Domains: []*watchedJSON{}}
	for _, domain := range domains {
		h, err := a.handler(domain)
		if err != nil {
			return err
		}
		seen, err := h.Look(ctx, domain, a.prober)
		if err != nil {
			return err
		}
		d := report(seen, time.Duration(c.Int("days"))*24*time.Hour)
		out.Domains, out.Good = append(out.Domains, &d.watchedJSON), out.Good && d.Good
		if to := c.Root().Writer.(*printer); !c.Bool("json") {
			d.print(to)
			if err := to.Flush(); err != nil { // the next one takes a while
				return err
			}
		}
	}
	return cmp.Or(show(c, out, func(io.Writer) {}), toldUnless(out.Good))
}

// The form of `danelaw watch --json`, of which the text is made too. Names end with a dot, times are RFC 3339 in UTC. A
// field that is not there has nothing to tell.
type (
	watchJSON struct {
		Good    bool           `json:"good"` // whether the exit code is 0
		Domains []*watchedJSON `json:"domains"`
	}
	watchedJSON struct {
		Domain     string             `json:"domain"`
		Checked    time.Time          `json:"checked"`
		Good       bool               `json:"good"`
		State      string             `json:"state"` // secure, unknown, none, bogus
		Why        string             `json:"why"`
		Faults     []string           `json:"faults"`               // sentences
		Warnings   []string           `json:"warnings"`             // of MTA-STS and TLS reports, which are no faults
		Notes      []string           `json:"notes"`                // the same, of less weight
		Signatures *endJSON           `json:"signatures,omitempty"` // the first to end
		MTASTS     watchedSTSJSON     `json:"mta_sts"`
		TLSReports []string           `json:"tls_reports"` // where they go
		Hosts      []*watchedHostJSON `json:"hosts"`
	}
	watchedSTSJSON struct {
		State      string   `json:"state"` // enforce, testing, none, absent, unknown, broken, bogus
		ID         string   `json:"id,omitempty"`
		MX         []string `json:"mx,omitempty"`          // of the policy
		MaxAge     int64    `json:"max_age,omitempty"`     // seconds
		PolicyHost *endJSON `json:"policy_host,omitempty"` // its certificate
	}
	watchedHostJSON struct {
		Name         string            `json:"name"`
		State        string            `json:"state"`
		Why          string            `json:"why"`
		Certificates []certificateJSON `json:"certificates"`
	}
	certificateJSON struct {
		Address string   `json:"address"`
		Key     string   `json:"key,omitempty"` // RSA or ECDSA, if there is a certificate
		TLS     string   `json:"tls,omitempty"`
		Matches string   `json:"matches,omitempty"` // the TLSA record
		Ends    *endJSON `json:"ends,omitempty"`
		Error   string   `json:"error,omitempty"`       // why it does not match, or there is none
		Result  string   `json:"result_type,omitempty"` // of the error, in TLS reports (RFC 8460 section 4.3)
		Note    string   `json:"note,omitempty"`        // what else is to be known of the handshake
	}
	endJSON struct {
		At       time.Time `json:"at"`
		DaysLeft int       `json:"days_left"` // whole ones
	}
)

// watchedDomain is what was found of a domain: the form that is printed as JSON, and the faults that the text lists
// apart.
type watchedDomain struct {
	watchedJSON
	senders  []string // what a program does
	policies []string // what is wrong with MTA-STS and TLS reports
	soon     []string // what is to come
}

// end is a time to come, or gone by; nil for none.
func end(at, now time.Time) *endJSON {
	if at.IsZero() {
		return nil
	}
	return &endJSON{at.UTC(), drawing.DaysLeft(at, now)}
}

func (e *endJSON) String() string {
	if e.DaysLeft < 0 {
		return fmt.Sprintf("ended %s", e.At.Format("2006-01-02 15:04 UTC"))
	}
	return fmt.Sprintf("end %s, in %s", e.At.Format("2006-01-02 15:04 UTC"), counted(e.DaysLeft, "day"))
}

// report is what was seen, with its faults.
func report(s *danelaw.Seen, margin time.Duration) *watchedDomain {
	d := &watchedDomain{watchedJSON: watchedJSON{
		Domain: s.Domain, Checked: s.At.UTC().Truncate(time.Second), State: string(s.State), Why: s.Why,
		Faults: []string{}, Warnings: []string{}, Notes: []string{}, TLSReports: []string{},
		Signatures: end(s.Signatures, s.At), Hosts: []*watchedHostJSON{},
	}}
	if s.State != danelaw.StateSecure {
		d.Faults = append(d.Faults, s.Why)
	}
	for _, o := range s.Otherwise {
		told := fmt.Sprintf("%s %s", o.Sender, o.Text)
		d.senders, d.Faults = append(d.senders, told), append(d.Faults, told)
	}
	if !s.Signatures.IsZero() && s.Signatures.Before(s.At.Add(margin)) {
		d.soon = append(d.soon, fmt.Sprintf("signatures %s", d.Signatures))
	}
	d.addPolicies(s, margin)
	for _, h := range s.Hosts {
		host := &watchedHostJSON{Name: h.Name, State: string(h.State), Why: h.Why, Certificates: []certificateJSON{}}
		for _, c := range h.Certificates {
			shown := certificate(c, s.At)
			where := strings.TrimSpace(fmt.Sprintf("%s at %s %s", h.Name, shown.Address, shown.Key))
			switch {
			case shown.Error != "":
				d.Faults = append(d.Faults, where+": "+shown.Error)
			case rests(s, h.Name, c) && c.Expires().Before(s.At.Add(margin)):
				d.soon = append(d.soon, fmt.Sprintf("%s: certificates %s", where, shown.Ends))
			}
			host.Certificates = append(host.Certificates, shown)
		}
		d.Hosts = append(d.Hosts, host)
	}
	d.Faults = append(d.Faults, d.soon...)
	d.Good = len(d.Faults) == 0
	return d
}

// rests reports whether senders heed when a certificate ends.
func rests(s *danelaw.Seen, host string, c danelaw.SeenCertificate) bool {
	return c.Record != nil && c.Record.Usage == mail.DANETA || s.Policies.Enforces(host) && c.Expires().After(s.At)
}

// addPolicies adds what was seen of MTA-STS and TLS reports.
func (d *watchedDomain) addPolicies(s *danelaw.Seen, margin time.Duration) {
	p := &s.Policies
	d.MTASTS = watchedSTSJSON{State: string(p.State), ID: p.ID, PolicyHost: end(p.Ends, s.At)}
	if p.Policy != nil {
		d.MTASTS.MX, d.MTASTS.MaxAge = p.Policy.MX, int64(p.Policy.MaxAge.Seconds())
	}
	d.TLSReports = append(d.TLSReports, p.Reports...)
	for _, f := range p.Findings {
		switch f.Weight {
		case danelaw.Fault:
			d.policies = append(d.policies, f.Text)
		case danelaw.Warning:
			d.Warnings = append(d.Warnings, f.Text)
		default:
			d.Notes = append(d.Notes, f.Text)
		}
	}
	d.Faults = append(d.Faults, d.policies...)
	if e := d.MTASTS.PolicyHost; e != nil && p.Ends.Before(s.At.Add(margin)) {
		d.soon = append(d.soon, fmt.Sprintf("%s: certificates %s", policy.PolicyHost(s.Domain), e))
	}
}

func certificate(c danelaw.SeenCertificate, now time.Time) certificateJSON {
	shown := certificateJSON{Address: c.Address.Addr().String(), Key: string(c.Key), Ends: end(c.Expires(), now),
		Note: c.Note}
	if c.Version != 0 {
		shown.TLS = tls.VersionName(c.Version)
	}
	if c.Record != nil {
		shown.Matches = mail.Brief(c.Record)
	}
	if c.Failure != nil {
		shown.Error, shown.Result = c.Failure.Error(), string(c.Failure.Result())
	}
	return shown
}

// print prints the text.
func (d *watchedDomain) print(to io.Writer) {
	word := "good"
	if !d.Good {
		word = "fault"
	}
	fmt.Fprintf(to, "%s %s\n  DANE %s: %s\n", d.Domain, word, d.State, d.Why)
	for _, told := range d.senders {
		fmt.Fprintf(to, "  %s\n", told)
	}
	d.printPolicies(to)
	if d.Signatures != nil {
		fmt.Fprintf(to, "  signatures %s\n", d.Signatures)
	}
	for _, h := range d.Hosts {
		fmt.Fprintf(to, "  %s %s\n", h.Name, h.State)
		rows := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
		for _, c := range h.Certificates {
			told := c.Error
			switch {
			case told != "":
			case c.Matches == "": // there is no DANE, and MTA-STS
				told = c.Ends.String()
			default:
				told = fmt.Sprintf("matches %s, %s", c.Matches, c.Ends)
			}
			if c.Note != "" {
				told += "; " + c.Note
			}
			fmt.Fprintf(rows, "    %s\t%s\t%s\t%s\n", c.Address, cmp.Or(c.Key, "-"), cmp.Or(c.TLS, "-"), told)
		}
		rows.Flush() //nolint:errcheck // see printer
	}
	for _, fault := range d.soon {
		fmt.Fprintf(to, "  too soon: %s\n", fault)
	}
}

// printPolicies prints what was seen of MTA-STS and TLS reports.
func (d *watchedDomain) printPolicies(to io.Writer) {
	fmt.Fprintf(to, "  MTA-STS %s", d.MTASTS.State)
	if len(d.MTASTS.MX) > 0 {
		fmt.Fprintf(to, ": mx %s", printable.Short(strings.Join(d.MTASTS.MX, " ")))
	}
	fmt.Fprintln(to)
	if len(d.TLSReports) > 0 {
		fmt.Fprintf(to, "  TLS reports to %s\n", printable.Short(strings.Join(d.TLSReports, ", ")))
	}
	for _, of := range []struct {
		weight danelaw.Weight
		told   []string
	}{{danelaw.Fault, d.policies}, {danelaw.Warning, d.Warnings}, {danelaw.Note, d.Notes}} {
		for _, text := range of.told {
			fmt.Fprintf(to, "  %s: %s\n", of.weight, text)
		}
	}
}
