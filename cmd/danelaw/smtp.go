package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/probe"
)

// The form of what was seen at the addresses of a host, in `danelaw check --smtp --json`.
type (
	smtpView struct {
		Address string `json:"address"`
		// matches: a TLSA record; tls: there is none to match; failed; unknown: what senders meet is
		Result      string           `json:"result"`
		TLS         string           `json:"tls,omitempty"`     // its version
		Matched     string           `json:"matched,omitempty"` // the TLSA record, in zone-file form
		Certificate *certificateView `json:"certificate,omitempty"`
		Failure     *smtpFailure     `json:"failure,omitempty"`
		// programs that see the certificates otherwise than RFC 7672
		Otherwise []smtpSender `json:"otherwise,omitempty"`
		Note      string       `json:"note,omitempty"` // what else is to be known of the handshake
	}
	smtpSender struct {
		Name    string `json:"name"`
		Accepts bool   `json:"accepts"`
		Error   string `json:"error,omitempty"`
	}
	certificateView struct {
		Subject  string    `json:"subject"`
		Names    []string  `json:"names"`
		Issuer   string    `json:"issuer"`
		Expires  time.Time `json:"expires"` // of a trust anchor's chain that ends sooner, if that is what matched
		DaysLeft int       `json:"days_left"`
	}
	smtpFailure struct {
		// unreachable, slow, protocol, name, no STARTTLS, handshake, unspoken, certificate
		Kind           string `json:"kind"`
		Text           string `json:"text"`
		ResultType     string `json:"result_type,omitempty"` // RFC 8460 section 4.3
		ExchangeOnline string `json:"exchange_online,omitempty"`
	}
)

// connection is what was seen at an address: the form that is printed, and what it was made from.
type connection struct {
	smtpView
	at      netip.AddrPort
	seen    *probe.Report
	refused map[mail.Sender]string // why a program does not take the certificates; nil if it was not looked at
	unsure  map[mail.Sender]string // why it cannot be known whether it does
}

// mostAddresses is how many addresses of a host are tried. Postfix tries no more than 5 in all.
const mostAddresses = 8

// connect connects to the mail hosts of a domain as a sender would.
func (a *asker) connect(ctx context.Context, v *view, o lookOptions) {
	var work sync.WaitGroup
	for i, h := range v.hosts {
		facts := &v.domain.Hosts[i]
		if !slices.ContainsFunc(mail.Senders, func(s mail.Sender) bool {
			return s.Host(&v.domain, facts).Action.Delivers()
		}) {
			continue
		}
		targets := v.targets(facts, o.port)
		h.Untried = max(0, len(targets)-mostAddresses)
		targets = targets[:len(targets)-h.Untried]
		h.connections = make([]connection, len(targets))
		for n, t := range targets {
			work.Go(func() {
				r := a.prober.Probe(ctx, t)
				if len(r.Chain) > 0 && len(t.Usable) > 0 {
					a.lookForOther(ctx, t, r)
				}
				h.connections[n] = connection{smtpView: newSMTPView(r, v.Checked), at: r.Address, seen: r}
				h.connections[n].judge(a.prober, &v.domain, facts, r.Chain, v.Checked)
			})
		}
	}
	work.Wait()
	for _, h := range v.hosts {
		for _, c := range h.connections {
			h.SMTP = append(h.SMTP, c.smtpView)
		}
	}
}

// lookForOther notes what there is to say of the certificate with the other kind of key: some senders may be shown
// that.
func (a *asker) lookForOther(ctx context.Context, t probe.Target, r *probe.Report) {
	if other := a.prober.Other(ctx, t, r); other != nil && other.Failure != nil {
		r.Note = strings.TrimPrefix(fmt.Sprintf("%s; its other certificate, with a key of %s: %s", r.Note,
			probe.KeyOf(other.Chain[0]), other.Failure), "; ")
	}
}

// targets are the addresses of a host, with what is to be found there.
func (v *view) targets(facts *mail.Host, port int) (all []probe.Target) {
	names := mail.Standard.Names(&v.domain, facts)
	t := probe.Target{Base: names[0], Names: names[1:]}
	if found := facts.Found(); found != nil {
		t.Usable, _ = mail.Usable(found.Records)
	}
	for _, ip := range facts.Targets(mail.Postfix) {
		t.Address = netip.AddrPortFrom(ip, uint16(port))
		all = append(all, t)
	}
	return all
}

func newSMTPView(r *probe.Report, now time.Time) smtpView {
	v := smtpView{Address: r.Address.String(), Result: "tls", Note: r.Note}
	if r.Version != 0 {
		v.TLS = tls.VersionName(r.Version)
	}
	if len(r.Chain) > 0 {
		c, end := r.Chain[0], r.Expires().UTC()
		names := []string{}
		for _, name := range c.DNSNames {
			names = append(names, printable.Short(name))
		}
		v.Certificate = &certificateView{printable.Short(c.Subject.String()), names, printable.Short(c.Issuer.String()),
			end, drawing.DaysLeft(end, now)}
	}
	if r.Record != nil {
		v.Result, v.Matched = "matches", drawing.Rdata(r.Record)
	}
	if r.Failure != nil {
		result := r.Failure.Result()
		v.Result = "failed"
		if r.Failure.Kind.Unknown() {
			v.Result = "unknown"
		}
		v.Failure = &smtpFailure{string(r.Failure.Kind), r.Failure.Error(), string(result), result.ExchangeOnline()}
	}
	return v
}

// judge notes what each program decides about the certificates, where that differs from RFC 7672.
func (s *connection) judge(p *probe.Prober, d *mail.Domain, h *mail.Host, chain []*x509.Certificate, now time.Time) {
	if s.Failure != nil && probe.Kind(s.Failure.Kind) != probe.Certificate || len(chain) == 0 {
		return
	}
	s.refused, s.unsure = map[mail.Sender]string{}, map[mail.Sender]string{}
	for _, program := range mail.Programs {
		_, err := program.Authenticate(d, h, chain, now)
		switch why := p.Unsure(program, err, chain, now); {
		case why != "":
			s.unsure[program] = why
		case err != nil:
			s.refused[program] = err.Error()
			if s.Failure == nil && program.Host(d, h).Action == mail.DANE {
				s.Otherwise = append(s.Otherwise, smtpSender{string(program), false, err.Error()})
			}
		case s.Failure != nil && program.Host(d, h).Action == mail.DANE:
			s.Otherwise = append(s.Otherwise, smtpSender{string(program), true, ""})
		}
	}
}

// text is the line about an address.
func (s *smtpView) text() string {
	var parts []string
	add := func(when bool, format string, args ...any) {
		if when {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	if s.Failure != nil {
		parts = append(parts, s.Failure.Text)
	}
	for _, o := range s.Otherwise {
		if o.Accepts {
			parts = append(parts, o.Name+" takes it all the same")
		} else {
			parts = append(parts, "not to "+o.Name+": "+o.Error)
		}
	}
	add(s.Matched != "", "TLSA %s", brief(s.Matched))
	if c := s.Certificate; c != nil {
		add(!c.Expires.IsZero(), "certificate until %s, %s", c.Expires.Format(time.DateOnly), days(c.DaysLeft))
	}
	add(s.TLS != "", "%s", s.TLS)
	add(s.Note != "", "%s", s.Note)
	return strings.Join(parts, "; ")
}

// days words a number of days left, as of daysLeft.
func days(n int) string {
	switch {
	case n == -1:
		return "it has ended, less than a day ago"
	case n < 0:
		return fmt.Sprintf("it has ended, more than %s ago", counted(-n-1, "day"))
	}
	return counted(n, "day") + " left"
}

// brief is a TLSA record, its data cut short.
func brief(rdata string) string {
	fields := strings.Fields(rdata)
	if last := len(fields) - 1; last >= 0 && len(fields[last]) > 16 {
		fields[last] = strings.ToLower(fields[last][:16]) + "..."
	}
	return strings.Join(fields, " ")
}

// stops says why what was seen at an address keeps a sender with such a decision from delivering there; "" if it does
// not.
func (s *connection) stops(by mail.Sender, a mail.Action) string {
	switch why := s.refused[by]; {
	case s.refused != nil && by != mail.Standard && (why == "" || a != mail.DANE):
		return ""
	case why != "":
		return s.Address + ": " + why
	case s.Failure == nil || probe.Kind(s.Failure.Kind).Unknown():
		return ""
	}
	switch probe.Kind(s.Failure.Kind) {
	case probe.Certificate:
		if a != mail.DANE {
			return ""
		}
	case probe.NoSTARTTLS, probe.Handshake:
		if a == mail.Opportunistic {
			return ""
		}
	}
	return s.Address + ": " + s.Failure.Text
}

// unreachable reports whether nobody answered.
func (s *connection) unreachable() bool {
	return s.Failure != nil && probe.Kind(s.Failure.Kind) == probe.Unreachable
}

// stops says why a sender with such a decision delivers to none of a host's addresses that it tries; "" if it does to
// one, or nobody has tried.
func (h *receiver) stops(s mail.Sender, a mail.Action) (why string) {
	telling := false
	for _, at := range h.connections {
		if s.Ignores(at.at.Addr()) {
			continue
		}
		stopped := at.stops(s, a)
		if stopped == "" {
			return ""
		}
		// An address of a family that is not routed here says little.
		if said := !at.unreachable(); why == "" || said && !telling {
			why, telling = h.Name+" at "+stopped, said
		}
	}
	return why
}

// unknown reports whether danelaw could not find out if a sender with such a decision delivers to all addresses of a
// host. For a sender that needs no TLS it does not matter how the host speaks it.
func (h *receiver) unknown(a mail.Action) bool {
	return slices.ContainsFunc(h.connections, func(s connection) bool {
		if s.Failure == nil {
			return false
		}
		kind := probe.Kind(s.Failure.Kind)
		return kind.Unknown() && (a > mail.Opportunistic || kind != probe.Unspoken)
	})
}

// unsure says why it is not known what a program with such a decision does at a host with TLSA records; "" if it is
// known.
func (h *receiver) unsure(s mail.Sender, a mail.Action) string {
	for _, at := range h.connections {
		if why := at.unsure[s]; a == mail.DANE && why != "" && !s.Ignores(at.at.Addr()) {
			return at.Address + ": " + why
		}
	}
	return ""
}

// unsure says why it is not known what a sender does: a lookup that its decision rests on is not made here, or the
// first host from index from up to to, of which it is not known.
func (v *view) unsure(s mail.Sender, d mail.Decision, from, to int) string {
	if d.Failed != nil {
		if l := v.of(*d.Failed); l != nil && l.unjudged != nil {
			return fmt.Sprintf("danelaw cannot know: %v", l.unjudged)
		}
	}
	for i := from; i < to; i++ {
		own, _ := v.hostDecision(s, i)
		if why := v.hosts[i].unsure(s, own.Action); d.Action.Delivers() && why != "" {
			return why
		}
	}
	return ""
}

// fails reports whether a sender with such a decision meets something at an address of a host that keeps it from
// delivering there, although others may do. That nobody answers is no fault of one address: not every network has both
// families.
func (h *receiver) fails(by mail.Sender, a mail.Action) bool {
	return slices.ContainsFunc(h.connections, func(s connection) bool {
		return !by.Ignores(s.at.Addr()) && s.stops(by, a) != "" && !s.unreachable()
	})
}

// decision is that of a sender on the domain, after what was seen at its hosts; it says whether that has changed it.
func (v *view) decision(s mail.Sender) (d mail.Decision, changed bool) {
	d = s.Domain(&v.domain)
	if !d.Action.Delivers() {
		return d, false
	}
	var left, stopped []mail.Decision
	for i := range v.Hosts {
		switch own, changed := v.hostDecision(s, i); {
		case changed:
			stopped = append(stopped, own)
		case own.Action.Delivers():
			left = append(left, own)
		}
	}
	if len(stopped) == 0 {
		return d, false
	}
	for i, own := range append(left, stopped...) {
		if i == 0 || own.Action.Delivers() && own.Action < d.Action {
			d = own
		}
	}
	return d, len(left) == 0
}

// hostDecision is that of a sender on one host, after what was seen there.
func (v *view) hostDecision(s mail.Sender, i int) (d mail.Decision, changed bool) {
	d = s.Host(&v.domain, &v.domain.Hosts[i])
	if d.Action.Delivers() {
		if own, ok := v.hosts[i].manners(s, d.Action); ok {
			return own, true
		}
		if why := v.hosts[i].stops(s, d.Action); why != "" {
			return mail.Decision{Action: mail.Defer, Why: why}, true
		}
	}
	return d, false
}

// smtpResult is the result type of what was seen at the hosts: of the first that keeps to TLSA records.
func (v *view) smtpResult() mail.Result {
	for i, h := range v.hosts {
		action := mail.Standard.Host(&v.domain, &v.domain.Hosts[i]).Action
		for _, s := range h.connections {
			if s.stops(mail.Standard, action) != "" && s.Failure.ResultType != "" {
				return mail.Result(s.Failure.ResultType)
			}
		}
	}
	return ""
}

// box is the certificate seen at some addresses, or what was seen instead.
func (s *smtpView) box() *drawing.Box {
	b := drawing.NewBox("at "+s.Address, s.Result, s.text())
	if c := s.Certificate; c != nil {
		b.Title = "certificate " + b.Title
		b.Lines = append(b.Lines, "names "+strings.Join(c.Names, ", ")+"; issued by "+c.Issuer)
	}
	return b
}

// manners is what a program does because of how a host speaks SMTP. It counts only if it is so at all addresses that
// the program tries.
func (h *receiver) manners(s mail.Sender, a mail.Action) (d mail.Decision, ok bool) {
	for _, at := range h.connections {
		if s.Ignores(at.at.Addr()) {
			continue
		}
		if at.seen == nil {
			return d, false
		}
		action, why := at.seen.Manners(s, a)
		if why == "" {
			return d, false
		}
		if !ok {
			d, ok = mail.Decision{Action: action, Why: fmt.Sprintf("%s at %s: %s", h.Name, at.Address, why)}, true
		}
	}
	return d, ok
}
