package danelaw

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/probe"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// State is what senders find of DANE at a domain of one's own, or at one of its hosts.
type State string

// The states. From StateSecure to StateNone or StateBogus is what a downgrade looks like.
const (
	StateSecure  State = "secure"  // usable TLSA records, all Secure: mail comes authenticated or not at all
	StateUnknown State = "unknown" // it could not be found out, for want of an answer
	StateNone    State = "none"    // proven: no TLSA records that senders heed
	StateBogus   State = "bogus"   // an answer does not validate: mail is deferred
)

// States are all of them, from the best to the worst.
var States = []State{StateSecure, StateUnknown, StateNone, StateBogus}

// worse returns the worse one of two.
func (s State) worse(other State) State {
	return States[max(slices.Index(States, s), slices.Index(States, other))]
}

// Seen is what a look at a domain found.
type Seen struct {
	Domain     string
	At         time.Time
	State      State // of its worst host
	Why        string
	Signatures time.Time // when the first of the signatures ends that all this rests on; zero if there is none
	Hosts      []SeenHost
	Otherwise  []SeenSender // programs that do something else than DANE, although the state is secure
	Policies   SeenPolicies // MTA-STS and TLS reports
}

// SeenSender is a program that sends mail, and what it does.
type SeenSender struct {
	Sender mail.Sender
	Text   string // what it does, without the subject
}

// SeenHost is a mail host of the domain.
type SeenHost struct {
	Name         string // canonical
	State        State
	Why          string // one sentence
	Certificates []SeenCertificate
}

// SeenCertificate is what a host showed at one address, for one kind of key.
type SeenCertificate struct {
	*probe.Report
	Key probe.Key // AnyKey if the probe did not come to a certificate
}

// Good reports whether every program that sends mail uses DANE, the certificates at all addresses match, and nothing
// is wrong with MTA-STS and TLS reports.
func (s *Seen) Good() bool {
	failed := func(c SeenCertificate) bool { return c.Failure != nil }
	return s.State == StateSecure && len(s.Otherwise) == 0 && s.Policies.Faults() == 0 &&
		!slices.ContainsFunc(s.Hosts, func(h SeenHost) bool { return slices.ContainsFunc(h.Certificates, failed) })
}

// Look finds out how senders see a domain. It asks past the cache of answers, fetches the domain's policy of MTA-STS if
// there is to be one, then looks at the certificates at all addresses of the hosts with DANE, or that are to have one
// by MTA-STS. It fails for domains that are never validated, and when ctx ends.
func (h *Handler) Look(ctx context.Context, domain string, p *probe.Prober) (*Seen, error) {
	l := &look{Handler: h, ctx: ctx, prober: p, seen: &Seen{Domain: dns.CanonicalName(domain), At: h.JudgedAt(),
		State: StateSecure},
		answers: map[dns.Question]*resolve.Answer{}}
	if err := l.domain(); err != nil {
		return nil, err
	}
	return l.seen, ctx.Err()
}

// JudgedAt is the time as of which answers are judged: now, unless validation_time says another.
func (h *Handler) JudgedAt() time.Time {
	if !h.config.ValidationTime.IsZero() {
		return h.config.ValidationTime
	}
	return h.config.Clock()
}

// look is one look.
type look struct {
	*Handler
	ctx    context.Context
	prober *probe.Prober
	seen   *Seen

	mu      sync.Mutex
	answers map[dns.Question]*resolve.Answer // by name and type
	failed  error                            // of a name that is not validated at all
}

// CannotAsk says why danelaw itself could not ask about a domain: its upstreams cannot be reached, or give no valid
// answer even for the root or the TLD. Failed are the failures of the domain's lookups. It returns nil if the fault is
// the domain's own, or its servers'.
func (h *Handler) CannotAsk(ctx context.Context, domain string, failed []*dnssec.Failure) *dnssec.Failure {
	bogus := func(f *dnssec.Failure) bool { return !f.Missing() }
	for _, f := range failed {
		if slices.ContainsFunc(failed, bogus) { // that is worse, and not for want of an answer
			break
		}
		switch f = root(f); f.Kind {
		case dnssec.OfNoUpstream:
			return f
		case dnssec.OfNoReply:
			link := f.Type == dns.TypeDS || f.Type == dns.TypeDNSKEY
			if link && dns.CountLabel(f.Owner) <= 1 && f.Owner != domain {
				return f
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	above, err := h.Explain(ctx, dnssec.Question(".", dns.TypeNS))
	if err != nil || above.Answer.Status > dnssec.Bogus || ctx.Err() != nil {
		return nil
	}
	return root(above.Answer.Notes[0])
}

// root is the failure at the root of another.
func root(f *dnssec.Failure) *dnssec.Failure {
	for inner, ok := errors.AsType[*dnssec.Failure](f.Err); ok; inner, ok = errors.AsType[*dnssec.Failure](f.Err) {
		f = inner
	}
	return f
}

// NotAsked is the sentence about what [Handler.CannotAsk] returns. It names who was asked.
func (h *Handler) NotAsked(f *dnssec.Failure) string {
	did := "could not ask"
	if !f.Missing() {
		did = "cannot validate even the root"
	}
	var names []string
	for _, u := range h.upstreams.States() {
		names = append(names, u.Upstream)
	}
	told := fmt.Sprintf("danelaw %s: %s", did, f.Text)
	if len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return strings.Contains(f.Text, name) }) {
		return told
	}
	return told + " (asked: " + strings.Join(names, ", ") + ")"
}

// ask asks for one thing, keeps it, and notes when what it rests on ends.
func (l *look) ask(name string, qtype uint16) mail.Reply {
	q := dnssec.Question(name, qtype)
	e, err := l.Explain(l.ctx, q)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		e = l.Unvalidated(q, err)
		if name == l.seen.Domain {
			l.failed = err
		}
	}
	l.answers[q] = e.Answer
	for _, z := range e.Zones {
		if z.Status == dnssec.Secure {
			l.ends(z.Tie.Expiration)
		}
	}
	for _, rr := range slices.Concat(e.Answer.Answer, e.Answer.Ns) {
		if sig, ok := rr.(*dns.RRSIG); ok && e.Answer.Status == dnssec.Secure {
			l.ends(sig.Expiration)
		}
	}
	return replyOf(name, qtype, e.Answer)
}

// replyOf is an answer as package mail has it.
func replyOf(name string, qtype uint16, a *resolve.Answer) mail.Reply {
	data := slices.ContainsFunc(a.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == qtype })
	return mail.Reply{Lookup: mail.Lookup{Name: name, Type: qtype, Status: a.Status, Data: data}, Rcode: a.Rcode,
		Answer: a.Answer}
}

// ends notes the end of a signature.
func (l *look) ends(expiration uint32) {
	l.seen.Signatures = dnssec.Earlier(l.seen.Signatures, dnssec.Near(l.seen.At, expiration))
}

// domain looks at everything.
func (l *look) domain() error {
	d := mail.Walk(l.seen.Domain, mail.Port, l.ask)
	if l.failed != nil {
		return l.failed
	}
	l.seen.Policies = l.policies()
	for i := range d.Hosts {
		l.judge(d, &d.Hosts[i])
	}
	l.compare(d)
	if len(l.seen.Hosts) == 0 { // failed, no such domain, null MX, or no host with an address
		decision := mail.Standard.Domain(d)
		l.seen.State, l.seen.Why = stateOf(decision), l.because(decision)
	}
	if f := l.CannotAsk(l.ctx, d.Name, l.failures()); f != nil && l.seen.State != StateSecure {
		l.seen.Why = l.NotAsked(f)
	}
	for _, s := range mail.Programs {
		if decision := s.Domain(d); l.seen.State == StateSecure && decision.Action != mail.DANE {
			l.seen.Otherwise = append(l.seen.Otherwise, SeenSender{s, s.Consequence(d, decision)})
		}
	}
	return nil
}

// failures are those of all lookups.
func (l *look) failures() (all []*dnssec.Failure) {
	for _, a := range l.answers {
		if a.Status <= dnssec.Bogus {
			all = append(all, a.Notes[0])
		}
	}
	return all
}

// because is the reason of a decision: the sentence of the judge if a lookup failed.
func (l *look) because(d mail.Decision) string {
	if d.Failed != nil {
		if a := l.answers[dnssec.Question(d.Failed.Name, d.Failed.Type)]; a.Status <= dnssec.Bogus {
			return a.Notes[0].Text
		}
	}
	return d.Why
}

// stateOf is the state that makes senders decide so.
func stateOf(d mail.Decision) State {
	switch {
	case d.Action == mail.DANE:
		return StateSecure
	case d.Failed == nil:
		return StateNone
	case d.Failed.Status == dnssec.Bogus:
		return StateBogus
	}
	return StateUnknown
}

// judge notes what senders decide about a host. If they use DANE or enforce MTA-STS, it looks at the host's
// certificates.
func (l *look) judge(d *mail.Domain, h *mail.Host) {
	decision := mail.Standard.Host(d, h)
	if decision.Action == mail.NoAddress { // passed over
		return
	}
	seen := SeenHost{Name: h.Name, State: stateOf(decision), Why: l.because(decision)}
	enforced := l.seen.Policies.Enforces(h.Name)
	switch {
	case seen.State == StateSecure:
		l.certificates(d, h, &seen)
	case seen.State == StateNone && enforced:
		seen.Certificates = l.shown(h, probe.Target{Base: h.Name})
	}
	if enforced {
		l.authorities(d, h, &seen)
	}
	if l.seen.Why == "" || l.seen.State.worse(seen.State) != l.seen.State {
		l.seen.Why = seen.Why
	}
	l.seen.State = l.seen.State.worse(seen.State)
	l.seen.Hosts = append(l.seen.Hosts, seen)
}

// certificates probes all addresses of a host.
func (l *look) certificates(d *mail.Domain, h *mail.Host, seen *SeenHost) {
	names := mail.Standard.Names(d, h)
	usable, _ := mail.Usable(h.Found().Records)
	seen.Certificates = l.shown(h, probe.Target{Base: names[0], Names: names[1:], Usable: usable})
	for _, c := range seen.Certificates {
		l.refusal(d, h, c.Report)
	}
}

// shown are the certificates at all addresses of a host.
func (l *look) shown(h *mail.Host, t probe.Target) (all []SeenCertificate) {
	for _, address := range h.IPs {
		t.Address = netip.AddrPortFrom(address, mail.Port)
		all = append(all, l.address(t)...)
	}
	// A host that has no IPv6 of its own cannot say anything about another's.
	if slices.ContainsFunc(all, func(c SeenCertificate) bool { return len(c.Chain) > 0 }) {
		all = slices.DeleteFunc(all, func(c SeenCertificate) bool { return noRoute(c.Report) })
	}
	return all
}

// refusal notes as a failure that a program refuses what RFC 7672 accepts: a certificate, or how the host speaks.
func (l *look) refusal(d *mail.Domain, h *mail.Host, r *probe.Report) {
	for _, s := range mail.Programs {
		if r.Failure != nil || s.Host(d, h).Action != mail.DANE {
			continue
		}
		if _, why := r.Manners(s, mail.DANE); why != "" {
			r.Failure = &probe.Failure{Kind: probe.Protocol, Err: fmt.Errorf("not to %s: %s", s, why)}
			continue
		}
		_, err := s.Authenticate(d, h, r.Chain, l.seen.At)
		switch why := l.prober.Unsure(s, err, r.Chain, l.seen.At); {
		case why != "":
			r.Failure = &probe.Failure{Kind: probe.Unspoken, Err: errors.New(why)}
		case err != nil:
			r.Failure = &probe.Failure{Kind: probe.Certificate, Err: fmt.Errorf("not to %s: %w", s, err)}
		}
	}
}

func noRoute(r *probe.Report) bool {
	return r.Failure != nil && (errors.Is(r.Failure, syscall.ENETUNREACH) ||
		errors.Is(r.Failure, syscall.EADDRNOTAVAIL))
}

// address probes one address. If it shows a certificate, it also asks for the one with the other kind of key.
func (l *look) address(t probe.Target) (all []SeenCertificate) {
	r := l.prober.Probe(l.ctx, t)
	if len(r.Chain) == 0 {
		return []SeenCertificate{{r, probe.AnyKey}}
	}
	all = append(all, SeenCertificate{r, probe.KeyOf(r.Chain[0])})
	if other := l.prober.Other(l.ctx, t, r); other != nil {
		all = append(all, SeenCertificate{other, probe.KeyOf(other.Chain[0])})
	}
	return all
}
