package danelaw

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/probe"
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

// Good reports whether all is as it has to be: DANE, and certificates that match at every address.
func (s *Seen) Good() bool {
	return s.State == StateSecure && !slices.ContainsFunc(s.Hosts, func(h SeenHost) bool {
		return slices.ContainsFunc(h.Certificates, func(c SeenCertificate) bool { return c.Failure != nil })
	})
}

// Look finds out how senders see a domain: DNS past the cache of answers, then the certificates of all addresses of its hosts. The
// error is for domains that are not validated at all, and for a ctx that ends.
func (h *Handler) Look(ctx context.Context, domain string, p *probe.Prober) (*Seen, error) {
	l := &look{Handler: h, ctx: ctx, prober: p, seen: &Seen{Domain: dns.CanonicalName(domain), At: h.judgedAt(), State: StateSecure}}
	if err := l.domain(); err != nil {
		return nil, err
	}
	return l.seen, ctx.Err()
}

// judgedAt is the time by which is judged.
func (h *Handler) judgedAt() time.Time {
	if !h.ValidationTime.IsZero() {
		return h.ValidationTime
	}
	return h.Clock()
}

// look is one look.
type look struct {
	*Handler
	ctx    context.Context
	prober *probe.Prober
	seen   *Seen
}

// ask asks for one thing, and notes when what it rests on ends.
func (l *look) ask(name string, qtype uint16) (*chain.Answer, mail.Lookup, error) {
	e, err := l.Explain(l.ctx, dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET})
	if err != nil {
		return nil, mail.Lookup{}, err
	}
	data := slices.ContainsFunc(e.Answer.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == qtype })
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
	return e.Answer, mail.Lookup{Name: name, Type: qtype, Status: e.Answer.Status, Data: data}, nil
}

// ends notes the end of a signature: the time nearest to now that 32 bits may mean (RFC 4034 section 3.1.5).
func (l *look) ends(expiration uint32) {
	now := l.seen.At.Unix()
	end := time.Unix(now+int64(int32(expiration-uint32(now))), 0)
	if l.seen.Signatures.IsZero() || end.Before(l.seen.Signatures) {
		l.seen.Signatures = end
	}
}

// domain looks at everything.
func (l *look) domain() error {
	d := &mail.Domain{Name: l.seen.Domain}
	answer, mx, err := l.ask(d.Name, dns.TypeMX)
	if err != nil {
		return err
	}
	d.MX, d.NameError = mx, answer.Rcode == dns.RcodeNameError
	if answer.Status > dnssec.Bogus && !d.NameError {
		var exchanges []mail.Exchange
		exchanges, d.Null = mail.Hosts(d.Name, answer.Answer)
		for _, x := range exchanges {
			host, err := l.host(x)
			if err != nil {
				return err
			}
			d.Hosts = append(d.Hosts, *host.Host)
			l.judge(d, host)
		}
	}
	if len(l.seen.Hosts) == 0 { // failed, no such domain, null MX, or no host with an address
		decision := mail.Standard.Domain(d)
		l.seen.State, l.seen.Why = stateOf(decision), because(decision, answer)
	}
	return nil
}

// because is the reason of a decision: the sentence of the judge if an answer failed.
func because(d mail.Decision, a *chain.Answer) string {
	if d.Failed != nil && a.Status <= dnssec.Bogus {
		return a.Notes[0].Text
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

// lookedUp is what DNS says of a host.
type lookedUp struct {
	*mail.Host
	failed    *chain.Answer // the last answer that failed
	addresses []netip.Addr
}

// host asks for the addresses of a host, then for its TLSA records.
func (l *look) host(x mail.Exchange) (*lookedUp, error) {
	h := &lookedUp{Host: &mail.Host{Exchange: x, Expanded: x.Name}}
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		a, found, err := l.ask(x.Name, qtype)
		if err != nil {
			return nil, err
		}
		h.Addresses = append(h.Addresses, found)
		if err := l.note(h, a); err != nil {
			return nil, err
		}
	}
	for _, base := range mail.Bases(h.Name, h.Expanded, h.Status(), h.First) {
		a, found, err := l.ask(mail.TLSAName(base, mail.Port), dns.TypeTLSA)
		if err != nil {
			return nil, err
		}
		tlsa := mail.TLSA{Lookup: found, Base: base}
		for _, rr := range a.Answer {
			if r, ok := rr.(*dns.TLSA); ok {
				tlsa.Records = append(tlsa.Records, r)
			}
		}
		h.fail(a)
		if h.TLSA = append(h.TLSA, tlsa); h.Found() != nil {
			break
		}
	}
	return h, nil
}

// note takes what an answer about addresses says.
func (l *look) note(h *lookedUp, a *chain.Answer) error {
	h.fail(a)
	for _, rr := range a.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			h.add(rr.A)
		case *dns.AAAA:
			h.add(rr.AAAA)
		}
	}
	target, alias := mail.Expanded(h.Name, a.Answer)
	if !alias || h.Expanded != h.Name {
		return nil
	}
	if h.Expanded, h.First = target, a.Status; a.Status != dnssec.Secure { // which link is it (D-4)?
		_, first, err := l.ask(h.Name, dns.TypeCNAME)
		h.First = first.Status
		return err
	}
	return nil
}

func (h *lookedUp) fail(a *chain.Answer) {
	if a.Status <= dnssec.Bogus {
		h.failed = a
	}
}

func (h *lookedUp) add(ip []byte) {
	if a, ok := netip.AddrFromSlice(ip); ok {
		h.addresses = append(h.addresses, a.Unmap())
	}
}

// judge says what senders make of a host, and looks at its certificates if they would.
func (l *look) judge(d *mail.Domain, h *lookedUp) {
	decision := mail.Standard.Host(d, h.Host)
	if decision.Action == mail.NoAddress { // passed over
		return
	}
	seen := SeenHost{Name: h.Name, State: stateOf(decision), Why: decision.Why}
	if h.failed != nil {
		seen.Why = because(decision, h.failed)
	}
	if seen.State == StateSecure {
		l.certificates(d, h, &seen)
	}
	if l.seen.Why == "" || l.seen.State.worse(seen.State) != l.seen.State {
		l.seen.Why = seen.Why
	}
	l.seen.State = l.seen.State.worse(seen.State)
	l.seen.Hosts = append(l.seen.Hosts, seen)
}

// certificates probes all addresses of a host.
func (l *look) certificates(d *mail.Domain, h *lookedUp, seen *SeenHost) {
	found := h.Found()
	usable, _ := mail.Usable(found.Records)
	for _, address := range h.addresses {
		seen.Certificates = append(seen.Certificates, l.address(probe.Target{
			Address: netip.AddrPortFrom(address, mail.Port), Base: found.Base, Names: []string{h.Name, d.Name}, Usable: usable,
		})...)
	}
	// A host that has no IPv6 of its own cannot say anything about another's.
	reached := func(c SeenCertificate) bool { return len(c.Chain) > 0 }
	if slices.ContainsFunc(seen.Certificates, reached) {
		seen.Certificates = slices.DeleteFunc(seen.Certificates, func(c SeenCertificate) bool { return noRoute(c.Report) })
	}
}

func noRoute(r *probe.Report) bool {
	return r.Failure != nil && (errors.Is(r.Failure, syscall.ENETUNREACH) || errors.Is(r.Failure, syscall.EADDRNOTAVAIL))
}

// address probes one address, and if it shows a certificate, for that with the other kind of key too.
func (l *look) address(t probe.Target) (all []SeenCertificate) {
	r := l.prober.Probe(l.ctx, t)
	if len(r.Chain) == 0 {
		return []SeenCertificate{{r, probe.AnyKey}}
	}
	key := probe.KeyOf(r.Chain[0])
	all = append(all, SeenCertificate{r, key})
	if t.Key = probe.RSA; key == probe.RSA {
		t.Key = probe.ECDSA
	}
	if r := l.prober.Probe(l.ctx, t); len(r.Chain) > 0 { // most have none
		all = append(all, SeenCertificate{r, t.Key})
	}
	return all
}
