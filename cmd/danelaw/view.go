package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// The form of a domain in `danelaw check --json`, from which text and page are made too. Names end with a dot, times
// are RFC 3339 in UTC. A field that is not there has nothing to tell.
type (
	domainView struct {
		Domain  string    `json:"domain"`
		Checked time.Time `json:"checked"`
		// of a sender that keeps to RFC 7672: dane, encrypt, opportunistic, defer, bounce, null-mx
		Decision string           `json:"decision"`
		Why      string           `json:"why"`
		Wanted   bool             `json:"wanted"`            // whether it counts for exit code 0
		Culprit  *drawing.Failure `json:"culprit,omitempty"` // the first thing that failed
		// danelaw's own upstreams failed: it is no fault of the domain
		Blind   bool         `json:"blind,omitempty"`
		Senders []senderView `json:"senders"` // what Postfix and Exim do
		MX      lookupView   `json:"mx"`
		Hosts   []*hostView  `json:"hosts"` // in the order in which they are tried
		MTASTS  policyView   `json:"mta_sts"`
		TLSRPT  policyView   `json:"tls_rpt"`
		Report  reportView   `json:"report"`
		// what the policy service answers; not there if the Corefile has no `policy`
		Policy     *danelaw.PolicyReply `json:"policy,omitempty"`
		Signatures []drawing.Signature  `json:"signatures"` // of all that is Secure here, the first to expire first
		Zones      []*drawing.Zone      `json:"zones"`      // parents before children
	}
	senderView struct {
		Name     string `json:"name"`
		Decision string `json:"decision"`
		Text     string `json:"text"`
	}
	lookupView struct {
		Name    string           `json:"name"`
		Type    string           `json:"type"`
		Status  string           `json:"status"` // Secure, Insecure, Bogus, Indeterminate
		Rcode   string           `json:"rcode"`
		Records []string         `json:"records"`           // RDATA in zone-file form, those of aliases left out
		Failure *drawing.Failure `json:"failure,omitempty"` // of Bogus and Indeterminate answers
		Note    *drawing.Failure `json:"note,omitempty"`    // why it is Insecure, if that has an EDE
	}
	hostView struct {
		Name       string       `json:"name"`
		Preference uint16       `json:"preference"`
		Decision   string       `json:"decision"` // as of the domain; no-address, passed-over
		Why        string       `json:"why"`
		Senders    []senderView `json:"senders"`
		Alias      *aliasView   `json:"alias,omitempty"`
		Addresses  []lookupView `json:"addresses"`
		TLSA       []tlsaView   `json:"tlsa"` // by base domains in the order in which they are tried
		SMTP       []smtpView   `json:"smtp,omitempty"`
		Untried    int          `json:"smtp_untried,omitempty"` // addresses beyond those in smtp
	}
	aliasView struct {
		Target string `json:"target"`
		Status string `json:"status"` // of the first CNAME
	}
	tlsaView struct {
		lookupView
		Base   string           `json:"base"`
		Target string           `json:"target,omitempty"` // where the records are, if an alias leads there
		Parts  []tlsaRecordView `json:"parsed"`
	}
	tlsaRecordView struct {
		Usage        uint8  `json:"usage"`
		Selector     uint8  `json:"selector"`
		MatchingType uint8  `json:"matching_type"`
		Data         string `json:"data"`
		Usable       bool   `json:"usable"`
		Why          string `json:"why,omitempty"` // if it is not
	}
	policyView struct {
		lookupView
		Published bool     `json:"published"`
		Error     string   `json:"error,omitempty"` // what is wrong with it
		ID        string   `json:"id,omitempty"`    // of MTA-STS
		RUA       []string `json:"rua,omitempty"`   // of TLS reports
	}
	reportView struct {
		PolicyType     string `json:"policy_type,omitempty"`
		ResultType     string `json:"result_type,omitempty"`     // RFC 8460 section 4.3
		ExchangeOnline string `json:"exchange_online,omitempty"` // the code it tells of that with
	}
)

// view is what was found of a domain: the form that is printed as JSON, and what it was made from. It has many methods,
// as text, page and JSON are all made of it.
type view struct {
	domainView
	domain         mail.Domain
	hosts          []*receiver // as in domain
	asked          lookups     // for the domain
	mtasts, tlsrpt *lookup
	zones          map[string]*dnssec.Zone
	unknowable     bool // what a sender does depends on names that are not validated here
	compared       bool // certificates, too
}

// receiver is a mail host: the form that is printed, and what was seen at its addresses.
type receiver struct {
	*hostView
	connections []connection
}

// lookup is the answer to a question: the form that is printed, and what it was made from.
type lookup struct {
	lookupView
	judged   mail.Lookup
	found    *resolve.Explanation
	unjudged error // the name is not validated at all
}

// lookups are those of a walk, by name and type.
type lookups map[dns.Question]*lookup

// of is what came of one; nil if it was not made.
func (all lookups) of(name string, qtype uint16) *lookup {
	return all[dns.Question{Name: name, Qtype: qtype}]
}

// remember is what a walk asks with: it keeps what ask finds.
func (all lookups) remember(ask func(name string, qtype uint16) *lookup) mail.Ask {
	var mu sync.Mutex
	return func(name string, qtype uint16) mail.Reply {
		l := ask(name, qtype)
		mu.Lock()
		defer mu.Unlock()
		all[dns.Question{Name: name, Qtype: qtype}] = l
		return mail.Reply{Lookup: l.judged, Rcode: l.found.Answer.Rcode, Answer: l.found.Answer.Answer}
	}
}

// records are those of the answer, and of the proof that there is none.
func (l *lookup) records() []dns.RR { return slices.Concat(l.found.Answer.Answer, l.found.Answer.Ns) }

// lookup asks for one thing. A name that is not validated is Indeterminate, with the reason.
func (a *asker) lookup(ctx context.Context, name string, qtype uint16) *lookup {
	e, err := a.explain(ctx, name, qtype)
	l := newLookup(name, qtype, e)
	l.unjudged = err
	return l
}

func newLookup(name string, qtype uint16, e *resolve.Explanation) *lookup {
	l := &lookup{found: e, lookupView: lookupView{
		Name: name, Type: dns.Type(qtype).String(), Status: e.Answer.Status.String(),
		Rcode: dns.RcodeToString[e.Answer.Rcode], Records: []string{},
	}}
	for _, rr := range e.Answer.Answer {
		if rr.Header().Rrtype == qtype {
			l.Records = append(l.Records, drawing.Rdata(rr))
		}
	}
	if len(e.Answer.Notes) > 0 {
		if note := drawing.FailureOf(e.Answer.Notes[0]); e.Answer.Status <= dnssec.Bogus {
			l.Failure = note
		} else {
			l.Note = note
		}
	}
	l.judged = mail.Lookup{Name: name, Type: qtype, Status: e.Answer.Status, Data: len(l.Records) > 0}
	return l
}

// look is how a sender sees a domain. The error is for domains that are not validated here, and for a ctx that ends.
func (a *asker) look(ctx context.Context, domain string, o lookOptions) (*view, error) {
	v := &view{
		domainView: domainView{Domain: domain, Checked: a.now(domain).UTC().Truncate(time.Second),
			Hosts: []*hostView{}},
		asked: lookups{}, zones: map[string]*dnssec.Zone{}, compared: o.smtp,
	}
	var work sync.WaitGroup
	work.Go(func() { a.walk(ctx, v, o) })
	work.Go(func() {
		v.mtasts = a.lookup(ctx, "_mta-sts."+strings.TrimPrefix(domain, "."), dns.TypeTXT)
	})
	work.Go(func() {
		v.tlsrpt = a.lookup(ctx, "_smtp._tls."+strings.TrimPrefix(domain, "."), dns.TypeTXT)
	})
	work.Wait()
	if err := cmp.Or(ctx.Err(), v.of(v.domain.MX).unjudged); err != nil {
		return nil, err
	}
	v.policies()
	v.collectZones()
	a.collectSignatures(ctx, v)
	if o.smtp {
		a.connect(ctx, v, o)
	}
	v.decide(o)
	a.excuse(ctx, v)
	a.service(ctx, v)
	return v, ctx.Err()
}

// service asks what the policy service answers, where there is one.
func (a *asker) service(ctx context.Context, v *view) {
	h, err := a.handler(v.Domain)
	if err != nil {
		return
	}
	if answer, ok := danelaw.PolicyOf(ctx, h, v.Domain); ok {
		reply := danelaw.NewPolicyReply(answer)
		v.Policy = &reply
	}
}

// excuse clears a domain of blame, and of its report, if danelaw itself could not ask for it.
func (a *asker) excuse(ctx context.Context, v *view) {
	h, err := a.handler(v.Domain)
	if err != nil || mail.ActionOf(v.Decision).Delivers() {
		return
	}
	var failed []*dnssec.Failure
	for _, l := range v.mailLookups() {
		if l.Failure != nil && l.unjudged == nil {
			failed = append(failed, l.found.Answer.Notes[0])
		}
	}
	if f := h.CannotAsk(ctx, v.Domain, failed); f != nil {
		v.Blind, v.Report, v.Why = true, reportView{}, printable.Text(h.NotAsked(f))
	}
}

// lookOptions are what the command line says about looking.
type lookOptions struct {
	smtp        bool // connect to the receivers
	port        int  // theirs
	requireDANE bool // a domain without is not as wanted
	host        bool // the name is that of a mail host: its MX records do not count
}

// walk asks what a sender asks, and keeps all answers.
func (a *asker) walk(ctx context.Context, v *view, o lookOptions) {
	v.domain = *mail.Walk(v.Domain, o.port, v.asked.remember(func(name string, qtype uint16) *lookup {
		if o.host && qtype == dns.TypeMX { // the name is a mail host's: none is made
			return newLookup(name, qtype, &resolve.Explanation{Answer: &resolve.Answer{Status: dnssec.Secure}})
		}
		return a.lookup(ctx, name, qtype)
	}))
	v.MX = v.of(v.domain.MX).lookupView
	for _, h := range v.domain.Hosts {
		v.add(newHostView(h, v.of))
	}
}

// of is what came of a lookup.
func (v *view) of(l mail.Lookup) *lookup { return v.asked.of(l.Name, l.Type) }

func (v *view) add(h *hostView) {
	v.Hosts, v.hosts = append(v.Hosts, h), append(v.hosts, &receiver{hostView: h})
}

func newHostView(h mail.Host, of func(mail.Lookup) *lookup) *hostView {
	v := &hostView{Name: h.Name, Preference: h.Preference, TLSA: []tlsaView{}}
	for _, l := range h.Addresses {
		v.Addresses = append(v.Addresses, of(l).lookupView)
	}
	if h.Expanded != h.Name {
		v.Alias = &aliasView{Target: h.Expanded, Status: h.First.String()}
	}
	for _, t := range h.TLSA {
		v.TLSA = append(v.TLSA, newTLSAView(t, of(t.Lookup)))
	}
	return v
}

func newTLSAView(t mail.TLSA, l *lookup) tlsaView {
	v := tlsaView{lookupView: l.lookupView, Base: t.Base, Parts: []tlsaRecordView{}}
	if target, alias := mail.Expanded(l.Name, l.found.Answer.Answer); alias {
		v.Target = target
	}
	why := map[*dns.TLSA]string{}
	_, unusable := mail.Usable(t.Records)
	for _, u := range unusable {
		why[u.Record] = u.Why
	}
	for _, r := range t.Records {
		v.Parts = append(v.Parts, tlsaRecordView{r.Usage, r.Selector, r.MatchingType, r.Certificate, why[r] == "",
			why[r]})
	}
	return v
}

// policies reads the TXT records of MTA-STS and TLS reports.
func (v *view) policies() {
	v.MTASTS.lookupView, v.TLSRPT.lookupView = v.mtasts.lookupView, v.tlsrpt.lookupView
	if id, err := mail.ParseSTS(v.mtasts.found.Answer.Answer); v.MTASTS.parsed(err) {
		v.MTASTS.ID = id
	}
	if rua, err := mail.ParseTLSRPT(v.tlsrpt.found.Answer.Answer); v.TLSRPT.parsed(err) {
		v.TLSRPT.RUA = rua
	}
}

// parsed notes how parsing ended.
func (p *policyView) parsed(err error) bool {
	p.Published = p.Failure == nil && err != mail.ErrNoPolicy
	if p.Published && err != nil {
		p.Error = printable.Text(err.Error())
	}
	return err == nil
}

// firstFailed is the lookup whose failure is told as the culprit; nil if none failed.
func (v *view) firstFailed() *lookup {
	all := v.lookups()
	if i := slices.IndexFunc(all, func(l *lookup) bool { return l.Failure != nil }); i >= 0 {
		return all[i]
	}
	return nil
}

// mailLookups are the lookups that delivery depends on.
func (v *view) mailLookups() (all []*lookup) {
	all = append(all, v.of(v.domain.MX))
	for _, h := range v.domain.Hosts {
		for _, l := range h.Addresses {
			all = append(all, v.of(l))
		}
		for _, t := range h.TLSA {
			all = append(all, v.of(t.Lookup))
		}
	}
	return all
}

// lookups are all of a domain.
func (v *view) lookups() []*lookup { return append(v.mailLookups(), v.mtasts, v.tlsrpt) }

// collectZones puts together the chains of all lookups. Of a zone that was judged twice the worse verdict is told.
func (v *view) collectZones() {
	for _, l := range v.lookups() {
		for _, z := range l.found.Zones {
			if known := v.zones[z.Name]; known == nil || z.Status < known.Status {
				v.zones[z.Name] = z
			}
		}
	}
	v.Zones = drawing.Zones(slices.SortedFunc(maps.Values(v.zones), byDepth))
}

// byDepth orders zones so that parents come before children.
func byDepth(a, b *dnssec.Zone) int {
	return cmp.Or(cmp.Compare(dns.CountLabel(a.Name), dns.CountLabel(b.Name)), cmp.Compare(a.Name, b.Name))
}

// collectSignatures lists the signatures on the way: of the zones' keys, of their DS, of the answers and their proofs.
func (a *asker) collectSignatures(ctx context.Context, v *view) {
	all := map[drawing.Signature]bool{}
	add := func(s drawing.Signature, expiration uint32) {
		s.Expires = dnssec.Near(v.Checked, expiration)
		s.DaysLeft = drawing.DaysLeft(s.Expires, v.Checked)
		all[s] = true
	}
	records := make([][]dns.RR, len(v.Zones))
	var work sync.WaitGroup
	for i, z := range v.Zones {
		zone := v.zones[z.Name]
		if zone.Status != dnssec.Secure {
			continue
		}
		add(drawing.Signature{Owner: z.Name, Type: "DNSKEY", Signer: z.Name, KeyTag: zone.Tie.KeyTag},
			zone.Tie.Expiration)
		if z.Name != "." {
			work.Go(func() {
				records[i] = a.lookup(ctx, z.Name, dns.TypeDS).records()
			})
		}
	}
	work.Wait()
	for _, l := range v.lookups() {
		records = append(records, l.records())
	}
	for _, rr := range slices.Concat(records...) {
		sig, ok := rr.(*dns.RRSIG)
		if !ok {
			continue
		}
		signer := dns.CanonicalName(sig.SignerName)
		if z := v.zones[signer]; z != nil && z.Status == dnssec.Secure {
			// a signature of an Insecure zone holds nothing up
			add(drawing.Signature{Owner: sig.Hdr.Name, Type: dns.Type(sig.TypeCovered).String(), Signer: signer,
				KeyTag: sig.KeyTag}, sig.Expiration)
		}
	}
	v.Signatures = slices.AppendSeq([]drawing.Signature{}, maps.Keys(all))
	slices.SortFunc(v.Signatures, func(a, b drawing.Signature) int {
		return cmp.Or(a.Expires.Compare(b.Expires), strings.Compare(a.Owner, b.Owner), strings.Compare(a.Type, b.Type),
			cmp.Compare(a.KeyTag, b.KeyTag))
	})
}

// decide fills in what senders make of it.
func (v *view) decide(o lookOptions) {
	decision, _ := v.decision(mail.Standard)
	v.Decision, v.Why = decision.Action.String(), decision.Why
	v.Senders = v.senders(v.decision, 0, len(v.Hosts))
	if why := v.unsure(mail.Standard, decision, 0, 0); why != "" {
		v.Why, v.unknowable = why, true
	}
	for i, h := range v.Hosts {
		own, _ := v.hostDecision(mail.Standard, i)
		h.Decision, h.Why = own.Action.String(), own.Why
		h.Senders = v.senders(func(s mail.Sender) (mail.Decision, bool) { return v.hostDecision(s, i) }, i, i+1)
	}
	if l := v.firstFailed(); l != nil {
		v.Culprit = l.Failure
	}
	result := cmp.Or(v.domain.Result(), v.smtpResult())
	if result == "" && o.requireDANE && decision.Action.Delivers() && decision.Action != mail.DANE {
		result = mail.DANERequired
	}
	v.Report = reportView{v.domain.PolicyType(v.MTASTS.Published && v.MTASTS.Error == ""), string(result),
		result.ExchangeOnline()}
	if v.unknowable {
		v.Report = reportView{}
	}
	v.Wanted = v.wanted(o)
}

// senders are the decisions of the programs on the hosts from one to before another.
func (v *view) senders(decide func(mail.Sender) (mail.Decision, bool), from, to int) (all []senderView) {
	for _, s := range mail.Programs {
		d, changed := decide(s)
		text := s.Consequence(&v.domain, d)
		switch why := v.unsure(s, d, from, to); { // by what DNS does not tell
		case why != "":
			text = why
		case changed && d.Action == mail.Bounce:
			text = "bounces: " + d.Why
		case changed:
			text = "defers: " + d.Why
		}
		all = append(all, senderView{string(s), d.Action.String(), text})
	}
	return all
}

// wanted reports whether a domain is as it should be: every sender delivers, to whichever host it comes to; or the
// domain wants no mail.
func (v *view) wanted(o lookOptions) bool {
	for _, s := range mail.Senders {
		d, _ := v.decision(s)
		if v.domain.Null && d.Action == mail.NullMX {
			return true
		}
		if !d.Action.Delivers() || s == mail.Standard && o.requireDANE && d.Action != mail.DANE {
			return false
		}
		for i := range v.Hosts {
			if own, _ := v.hostDecision(s, i); own.Action == mail.Defer || own.Action == mail.Bounce ||
				v.hosts[i].unsure(s, own.Action) != "" || v.hosts[i].fails(s, own.Action) ||
				v.hosts[i].unknown(own.Action) {
				return false
			}
		}
	}
	return true
}

// firstToExpire tells which signature is the first to expire.
func (v *view) firstToExpire() string {
	switch {
	case v.Blind:
		return "unknown"
	case len(v.Signatures) == 0:
		return "nothing is signed"
	case v.Culprit != nil && !mail.ActionOf(v.Decision).Delivers():
		return "what fails is told above"
	}
	s := v.Signatures[0]
	return fmt.Sprintf("the first to expire is that over %s %s (key %d), %s UTC: %s", s.Owner, s.Type, s.KeyTag,
		minute(s.Expires), days(s.DaysLeft))
}
