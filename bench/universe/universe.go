// Package universe is a signed DNS of many mail domains for measurements. A [Spec] says what it is like and makes the
// same one, octet by octet, wherever it is built: names, keys and signatures follow from its seed and its time. What
// an MTA's resolver asks is signed and packed ahead, so that answering costs a look into a table; any other question
// is answered by making its zone again.
package universe

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// Universe answers as a recursor does that knows all of it. It may be used by many goroutines.
type Universe struct {
	spec       Spec
	index      map[string]int         // of the domains, by name
	registries map[string]*zones.Zone // the root and the top-level domains
	replies    replies
	unforeseen atomic.Int64
}

// New builds the universe; done is called after each domain, by several goroutines.
func New(ctx context.Context, s Spec, done func()) (*Universe, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	u := &Universe{spec: s, index: map[string]int{}, replies: replies{packed: map[string][]byte{}}}
	for i := range s.Domains {
		u.index[s.domain(i).name] = i
	}
	delegations, err := u.signDomains(ctx, done)
	if err != nil {
		return nil, err
	}
	if u.registries, err = s.makeRegistries(delegations); err != nil {
		return nil, err
	}
	return u, u.signCuts(ctx)
}

// signDomains packs what the domains' own zones answer, and returns their delegations.
func (u *Universe) signDomains(ctx context.Context, done func()) ([][]dns.RR, error) {
	delegations := make([][]dns.RR, u.spec.Domains)
	return delegations, u.each(ctx, func(i int) (err error) {
		delegations[i], err = u.signDomain(i)
		done()
		return err
	})
}

// signCuts packs what the root and the top-level domains answer of themselves and of the zones below them.
func (u *Universe) signCuts(ctx context.Context) error {
	for name := range u.registries {
		err := u.keep(dns.Question{Name: name, Qtype: dns.TypeDNSKEY}, dns.Question{Name: name, Qtype: dns.TypeDS})
		if err != nil {
			return err
		}
	}
	return u.each(ctx, func(i int) error {
		return u.keep(dns.Question{Name: u.spec.domain(i).name, Qtype: dns.TypeDS})
	})
}

// each does something for every domain, on all processors.
func (u *Universe) each(ctx context.Context, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for i := int(next.Add(1)) - 1; i < u.spec.Domains && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	work.Wait()
	return context.Cause(ctx)
}

// signDomain packs what will be asked of a domain's own zone, and returns its delegation.
func (u *Universe) signDomain(i int) ([]dns.RR, error) {
	d := u.spec.domain(i)
	z, err := u.spec.zone(d)
	if err != nil {
		return nil, err
	}
	asked := append(d.questions(), dns.Question{Name: d.name, Qtype: dns.TypeDNSKEY})
	if u.spec.Policies.IsValid() {
		asked = append(asked, d.asksForPolicy()...)
	}
	for _, q := range asked {
		if !dns.IsSubDomain(d.name, q.Name) {
			continue // another's host
		}
		if err := u.replies.keep(q, z.Answer(q, true)); err != nil {
			return nil, err
		}
	}
	return delegation(z), nil
}

// delegation are the records by which a zone hangs from the one above.
func delegation(z *zones.Zone) []dns.RR {
	rrs := slices.Concat(z.Records(z.Name, dns.TypeNS), z.Records("ns."+z.Name, dns.TypeA))
	for _, ds := range z.DS(dns.SHA256) {
		rrs = append(rrs, ds)
	}
	return rrs
}

// keep packs the answers to questions.
func (u *Universe) keep(questions ...dns.Question) error {
	for _, q := range questions {
		m, err := u.answer(q)
		if err == nil {
			err = u.replies.keep(q, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// answer is the reply to any question, from its zone.
func (u *Universe) answer(q dns.Question) (*dns.Msg, error) {
	q.Qclass = dns.ClassINET
	z, err := u.zoneOf(dns.CanonicalName(q.Name), q.Qtype)
	if err != nil {
		return nil, err
	}
	return z.Answer(q, true), nil
}

// zoneOf is the zone that answers for a name: for DS at a zone's apex it is the one above (RFC 4035 section 3.1.4.1).
func (u *Universe) zoneOf(name string, t uint16) (*zones.Zone, error) {
	labels := dns.SplitDomainName(name)
	if n := len(labels); n >= 2 && !(n == 2 && t == dns.TypeDS) {
		if i, ok := u.index[dns.Fqdn(labels[n-2]+"."+labels[n-1])]; ok {
			return u.spec.zone(u.spec.domain(i))
		}
	}
	if n := len(labels); n >= 1 && !(n == 1 && t == dns.TypeDS) {
		if z := u.registries[dns.Fqdn(labels[n-1])]; z != nil {
			return z, nil
		}
	}
	return u.registries["."], nil
}

// Anchor is the trust anchor of the root.
func (u *Universe) Anchor() *dns.DS { return u.registries["."].DS(dns.SHA256)[0] }

// Unforeseen is how many questions were answered that had not been packed ahead. Each makes the upstream slow once.
func (u *Universe) Unforeseen() int64 { return u.unforeseen.Load() }

// Delivery is what an MTA asks to deliver mail to domain i, in its order, with what a validator must answer.
func (u *Universe) Delivery(i int) ([]Question, error) {
	d := u.spec.domain(i)
	var all []Question
	for _, q := range d.questions() {
		owner := d
		if !dns.IsSubDomain(d.name, q.Name) {
			owner = u.spec.domain(d.provider)
		}
		truth := u.replies.get(key(q))
		if truth == nil {
			return nil, fmt.Errorf("%s %s was not signed ahead", q.Name, dns.Type(q.Qtype))
		}
		// RFC 5155 section 9.2: that a name is covered with opt-out proves nothing of it
		unproven := u.spec.Denial == OptOut && int(truth[3]&0xf) == dns.RcodeNameError
		all = append(all, Ask(q, owner.secure && !unproven, truth))
	}
	return all, nil
}

// Domain is what is known of one.
type Domain struct {
	Name   string
	Secure bool // and so is its mail host's
	Shared bool // its mail host is a provider's
	DANE   bool // all is Secure, and its mail host has a TLSA record

	host, sts string
}

// Enforces is the mail host that a policy of MTA-STS in force names; "" without one.
func (d Domain) Enforces() string {
	if d.sts != enforce {
		return ""
	}
	return strings.TrimSuffix(d.host, ".")
}

// Policy is the file with its policy of MTA-STS, and the name of the host that has it; ok is false without one.
func (d Domain) Policy() (host, file string, ok bool) {
	file = fmt.Sprintf("version: STSv1\r\nmode: %s\r\nmx: %s\r\nmax_age: 604800\r\n", d.sts,
		strings.TrimSuffix(d.host, "."))
	return "mta-sts." + strings.TrimSuffix(d.Name, "."), file, d.sts != ""
}

// Domain says what domain i is like.
func (u *Universe) Domain(i int) Domain {
	d := u.spec.domain(i)
	provider := u.spec.domain(d.provider)
	secure := d.secure && provider.secure
	return Domain{d.name, secure, d.provider != i, secure && provider.tlsa != "", d.host, d.sts}
}

// Signatures is how many signatures the replies carry that a validator has to ask for about some domains, and not about
// those before them: each once, as if it were asked for once.
func (u *Universe) Signatures(from, to int) (int, error) {
	known := map[string]bool{}
	before := 0
	for i := range to {
		if i == from {
			before = len(known)
		}
		d := u.spec.domain(i)
		questions := append(d.questions(), dns.Question{Name: d.name, Qtype: dns.TypeDS})
		if d.secure {
			questions = append(questions, dns.Question{Name: d.name, Qtype: dns.TypeDNSKEY})
		}
		for _, q := range questions {
			if err := u.note(q, known); err != nil {
				return 0, err
			}
		}
	}
	return len(known) - before, nil
}

// note adds the signatures of a reply to those known. Those that no validator can check are none.
func (u *Universe) note(q dns.Question, known map[string]bool) error {
	m := new(dns.Msg)
	if err := m.Unpack(u.replies.get(key(q))); err != nil {
		return fmt.Errorf("%s %s: %w", q.Name, dns.Type(q.Qtype), err)
	}
	for _, rr := range append(m.Answer, m.Ns...) {
		if sig, ok := rr.(*dns.RRSIG); ok && sig.Algorithm != unknown {
			known[sig.Signature] = true
		}
	}
	return nil
}
