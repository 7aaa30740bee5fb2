package danelaw

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/policy"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/probe"
)

// STSState is what senders find of MTA-STS at a domain of one's own.
type STSState string

// The states.
const (
	STSEnforce STSState = "enforce" // a policy of that mode
	STSTesting STSState = "testing" // a policy of that mode
	STSNone    STSState = "none"    // a policy of that mode: the domain gives MTA-STS up
	STSAbsent  STSState = "absent"  // no TXT record announces a policy
	STSUnknown STSState = "unknown" // it could not be found out, for want of an answer
	STSBroken  STSState = "broken"  // a policy is announced, and senders cannot have it
	STSBogus   STSState = "bogus"   // the TXT record does not validate
)

// STSStates are all of them.
var STSStates = []STSState{STSEnforce, STSTesting, STSNone, STSAbsent, STSUnknown, STSBroken, STSBogus}

// Weight is how much a finding weighs.
type Weight string

// The weights. A fault alone makes a domain other than good, and is an alarm.
const (
	Fault   Weight = "fault"   // mail is lost or unprotected, or senders do not get what is announced
	Warning Weight = "warning" // what would be a fault, or could not be found out
	Note    Weight = "note"    // what its owner may want to know
)

// Finding is what a look found of MTA-STS or TLS reports.
type Finding struct {
	Weight Weight
	What   string // the same at each look
	Text   string // one sentence without full stop, fit to be shown: what is wrong, and what mends it
}

// SeenPolicies is what senders find of MTA-STS (RFC 8461) and TLS reports (RFC 8460) at a domain (D-34).
type SeenPolicies struct {
	State    STSState
	ID       string          // of the TXT record; "" if there is no sound one
	Policy   *mail.STSPolicy // as it was fetched; nil if it could not be, or none is announced
	Ends     time.Time       // of the certificate of the policy host; zero if it has shown none that is valid
	Reports  []string        // where reports go
	Findings []Finding
	Unknown  bool // something could not be found out, for want of an answer

	unreported bool // no TXT record asks for reports
}

// Faults is the number of faults.
func (p *SeenPolicies) Faults() (n int) {
	for _, f := range p.Findings {
		if f.Weight == Fault {
			n++
		}
	}
	return n
}

// Enforces reports whether senders deliver to a host with a certificate that authorities vouch for, and not without.
func (p *SeenPolicies) Enforces(host string) bool {
	return p.State == STSEnforce && p.Policy.Covers(host)
}

func (p *SeenPolicies) add(w Weight, what, format string, args ...any) {
	p.Findings = append(p.Findings, Finding{w, what, printable.Text(fmt.Sprintf(format, args...))})
}

// failed notes a lookup of a TXT record that has failed.
func (p *SeenPolicies) failed(what string, r mail.Reply, why string) STSState {
	if r.Status == dnssec.Bogus {
		p.add(Fault, what, "the answer for %s TXT does not validate, so that senders who validate have it for "+
			"tampered with: %s; mend the zone's signatures", r.Name, why)
		return STSBogus
	}
	p.Unknown = true
	p.add(Warning, what, "whether there is a TXT record at %s could not be found out: %s; look at the upstreams, and "+
		"at the servers of the zone", r.Name, why)
	return STSUnknown
}

// beside asks for what DANE does not rest on. Why is the sentence of the judge on an answer that failed.
func (l *look) beside(ctx context.Context, name string, qtype uint16) (r mail.Reply, why string) {
	e, err := l.Explain(ctx, dnssec.Question(dns.CanonicalName(name), qtype))
	if err != nil { // of names that are not validated: private and special ones, and those that are too long
		return policyAsker{l.Handler}.lookUp(ctx, name, qtype), err.Error()
	}
	if len(e.Answer.Notes) > 0 {
		why = e.Answer.Notes[0].Text
	}
	return replyOf(name, qtype, e.Answer), why
}

// policies looks at the records of MTA-STS and TLS reports, and at the policy (D-34).
func (l *look) policies() (p SeenPolicies) {
	l.announced(&p)
	l.reports(&p)
	return p
}

// announced looks at the TXT record of MTA-STS.
func (l *look) announced(p *SeenPolicies) {
	r, why := l.beside(l.ctx, "_mta-sts."+l.seen.Domain, dns.TypeTXT)
	if r.Status <= dnssec.Bogus {
		p.State = p.failed("record", r, why)
		return
	}
	switch id, err := mail.ParseSTS(r.Answer); {
	case errors.Is(err, mail.ErrNoPolicy):
		p.State = STSAbsent
	case err != nil:
		p.State = STSBroken
		p.add(Fault, "record", "senders take the TXT record at %s for none: %v; publish one, such as "+
			`"v=STSv1; id=%s"`, r.Name, err, l.seen.At.UTC().Format("20060102150405"))
	default:
		p.ID = id
		l.fetch(p)
	}
}

// remedies are what mends a policy that cannot be had, by the result type of the failure.
var remedies = map[mail.Result]string{
	mail.STSPolicyFetchError: "serve the policy there, or take the TXT record away",
	mail.STSPolicyInvalid:    "mend the file, and have it served as text/plain",
	mail.STSWebPKIInvalid:    "give the policy host a certificate for its name by an authority that everybody knows",
}

// fetch looks at the policy.
func (l *look) fetch(p *SeenPolicies) {
	var silent atomic.Bool // a lookup of the policy host was not answered
	host := policy.PolicyHost(l.seen.Domain)
	fetched := policy.Fetch(l.ctx, policy.Config{
		Ask: func(ctx context.Context, name string, qtype uint16) mail.Reply {
			r, _ := l.beside(ctx, name, qtype)
			if r.Status < dnssec.Bogus {
				silent.Store(true)
			}
			return r
		},
		Private: l.names.private.cover, Clock: l.JudgedAt, Roots: l.config.PolicyRoots, Dial: l.config.PolicyDial,
	}, l.seen.Domain)
	p.Policy, p.Ends = fetched.Policy, fetched.Ends
	switch failure := fetched.Failure; {
	case failure == nil:
		p.State = STSState(p.Policy.Mode)
	case silent.Load():
		p.State, p.Unknown = STSUnknown, true
		p.add(Warning, "policy", "whether the policy at https://%s can be had could not be found out: %s; look at "+
			"the upstreams, and at the servers of the zone", host, failure.Text)
	default:
		p.State = STSBroken
		p.add(Fault, "policy", "senders cannot have the policy at https://%s that _mta-sts.%s announces: %s; %s",
			host, l.seen.Domain, failure.Text, remedies[failure.Result])
	}
}

// reports looks at the TXT record of TLS reports.
func (l *look) reports(p *SeenPolicies) {
	r, why := l.beside(l.ctx, "_smtp._tls."+l.seen.Domain, dns.TypeTXT)
	if r.Status <= dnssec.Bogus {
		p.failed("reports", r, why)
		return
	}
	rua, err := mail.ParseTLSRPT(r.Answer)
	switch p.unreported = errors.Is(err, mail.ErrNoPolicy); {
	case err == nil:
		p.Reports = rua
	case !p.unreported:
		p.add(Fault, "reports", "nobody sends TLS reports, as the TXT record at %s does not count: %v; publish one, "+
			`such as "v=TLSRPTv1; rua=mailto:postmaster@%s"`, r.Name, err, strings.TrimSuffix(l.seen.Domain, "."))
	}
}

// leastAge is the max_age of a policy below which who can hide the record or the host from a sender for a day undoes
// it; RFC 8461 section 3.2 has weeks or more for the rule.
const leastAge = 24 * time.Hour

// compare compares policies with the mail hosts.
func (l *look) compare(d *mail.Domain) {
	p := &l.seen.Policies
	secure := func(h SeenHost) bool { return h.State == StateSecure }
	if p.unreported && (p.Policy != nil || slices.ContainsFunc(l.seen.Hosts, secure)) {
		p.add(Note, "reports", "there is no TXT record at _smtp._tls.%s, so that nobody tells when senders cannot "+
			`deliver; publish one, such as "v=TLSRPTv1; rua=mailto:postmaster@%s"`, d.Name,
			strings.TrimSuffix(d.Name, "."))
	}
	if p.State != STSEnforce && p.State != STSTesting {
		return
	}
	if p.Policy.MaxAge < leastAge {
		p.add(Note, "max_age", "the policy is held for %v only, so that who hides it from a sender for as long undoes "+
			"it; give it a max_age of weeks", p.Policy.MaxAge)
	}
	if d.MX.Status > dnssec.Bogus && !d.NameError && !d.Null {
		p.covers(d.Hosts)
	}
}

// covers compares the hosts with the patterns of the policy.
func (p *SeenPolicies) covers(hosts []mail.Host) {
	weight, refused := Fault, "senders do not deliver to it"
	if p.State == STSTesting {
		weight, refused = Warning, "senders would not deliver to it if the mode were enforce"
	}
	for _, h := range hosts {
		if !p.Policy.Covers(h.Name) {
			p.add(weight, "MX "+h.Name, "the mail host %s is no mx of the policy, so that %s; add it to the policy, "+
				"then give the TXT record another id", h.Name, refused)
		}
	}
	var idle []string
	for _, pattern := range p.Policy.MX {
		one := &mail.STSPolicy{MX: []string{pattern}}
		if !slices.ContainsFunc(hosts, func(h mail.Host) bool { return one.Covers(h.Name) }) {
			idle = append(idle, pattern)
		}
	}
	const most = 5
	if len(idle) > 0 {
		p.add(Note, "mx", "%d mx of the policy cover no mail host, among them %s; take them out, unless there are "+
			"hosts to come", len(idle), strings.Join(idle[:min(len(idle), most)], ", "))
	}
}

// authorities notes what senders by MTA-STS object to in the certificates of a host: they ask with the name in the MX
// record, and go by it and by the authorities they know (RFC 8461 section 4.2).
func (l *look) authorities(d *mail.Domain, h *mail.Host, seen *SeenHost) {
	shown := seen.Certificates
	if seen.State == StateSecure && mail.Standard.Names(d, h)[0] != h.Name { // DANE asked with another one
		shown = l.shown(h, probe.Target{Base: h.Name})
	}
	for _, c := range shown {
		if len(c.Chain) == 0 {
			continue
		}
		if why := l.objection(h.Name, c.Chain); why != "" {
			where := strings.TrimSpace(fmt.Sprintf("%s at %s %s", h.Name, c.Address.Addr(), c.Key))
			l.seen.Policies.add(Fault, where, "senders by MTA-STS do not deliver to %s: %s", where, why)
		}
	}
}

// objection is what is wrong with a chain that a host shows, and what mends it; "" if nothing is.
func (l *look) objection(host string, chain []*x509.Certificate) string {
	host = strings.TrimSuffix(host, ".")
	o := x509.VerifyOptions{DNSName: host, Roots: l.config.PolicyRoots, Intermediates: x509.NewCertPool(),
		CurrentTime: l.seen.At}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(o)
	_, name := errors.AsType[x509.HostnameError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	invalid, _ := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case err == nil:
		return ""
	case name:
		return fmt.Sprintf("its certificate is not for %s; have one issued with that name", host)
	case unknown:
		return "no authority that this system knows vouches for its certificate; take one of a public authority, and " +
			"have the server send its intermediates, too"
	case invalid.Reason == x509.Expired && invalid.Cert == chain[0]:
		return fmt.Sprintf("its certificate is valid from %s to %s; renew it", stamp(chain[0].NotBefore),
			stamp(chain[0].NotAfter))
	}
	return fmt.Sprintf("its certificate is not valid: %v; have another one issued", err)
}

// announcement is a policy and the id under which it was first seen.
type announcement struct {
	id     string
	policy *mail.STSPolicy
}

// since compares with what was seen before (D-34): who holds a policy fetches another when the id is another. It
// returns what is to be compared with next.
func (p *SeenPolicies) since(first announcement) announcement {
	now := announcement{p.ID, p.Policy}
	switch same := first.policy != nil && now.policy != nil && alike(first.policy, now.policy); {
	case now.policy == nil:
		return first
	case first.policy == nil, first.id != now.id && !same:
		return now
	case first.id != now.id:
		p.add(Note, "id", "the id is %s now and was %s, and the policy is what it was: senders fetch it again for "+
			"nothing; leave the id while the policy stays", now.id, first.id)
		return now
	case !same:
		p.add(Fault, "id", "the policy is another one than before, and its id %s is not, so that senders keep to the "+
			"old one; give the TXT record another id", now.id)
	}
	return first
}

// alike reports whether two policies are the same to senders.
func alike(a, b *mail.STSPolicy) bool {
	return a.Mode == b.Mode && a.MaxAge == b.MaxAge &&
		slices.Equal(slices.Sorted(slices.Values(a.MX)), slices.Sorted(slices.Values(b.MX)))
}

// keep takes over from the look before what was wrong: not to know is no change (S-32).
func (p *SeenPolicies) keep(old *SeenPolicies) {
	if !p.Unknown {
		return
	}
	known := p.by(Fault, Warning, Note)
	for _, f := range old.Findings {
		if _, there := known[f.What]; f.Weight == Fault && !there {
			p.Findings = append(p.Findings, f)
		}
	}
	if p.Ends.IsZero() {
		p.Ends = old.Ends
	}
}

// by are the sentences of such weights, by what they are about.
func (p *SeenPolicies) by(weights ...Weight) map[string]string {
	all := map[string]string{}
	for _, f := range p.Findings {
		if slices.Contains(weights, f.Weight) {
			all[f.What] = f.Text
		}
	}
	return all
}

// logPolicies tells what is found now and was not before, and which faults are none any more.
func (w *watcher) logPolicies(domain string, old, now *SeenPolicies) {
	before, is := old.by(Fault, Warning, Note), now.by(Fault, Warning, Note)
	for _, f := range now.Findings {
		switch {
		case before[f.What] == f.Text:
		case f.Weight == Note:
			log.Infof("watch %s: %s", domain, f.Text)
		default:
			log.Warningf("watch %s: %s", domain, f.Text)
		}
	}
	was := old.by(Fault)
	for _, what := range slices.Sorted(maps.Keys(was)) {
		if is[what] == "" {
			log.Infof("watch %s: no more: %s", domain, was[what])
		}
	}
}

// The gauges of policies of one's own.
var (
	shownSTS = gauge("watch_mta_sts_state", "1 for the state of MTA-STS of a watched domain, 0 for the others.",
		"domain", "state")
	shownSTSFaults = gauge("watch_mta_sts_faults", "Faults of MTA-STS and TLS reports of a watched domain.", "domain")
	shownSTSLeft   = gauge("watch_policy_host_certificate_left_seconds",
		"Seconds until the certificate ends of the host with a watched domain's policy of MTA-STS.", "domain")
)

func (p *SeenPolicies) show(show func(d *prometheus.Desc, value float64, labels ...string), domain string,
	now time.Time) {
	for _, state := range STSStates {
		show(shownSTS, truth(p.State == state), domain, string(state))
	}
	show(shownSTSFaults, float64(p.Faults()), domain)
	if !p.Ends.IsZero() {
		show(shownSTSLeft, p.Ends.Sub(now).Seconds(), domain)
	}
}
