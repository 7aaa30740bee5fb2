package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// askDirectly asks one nameserver, and nobody else.
type askDirectly func(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error)

const (
	directTimeout = 5 * time.Second
	directTries   = 3
)

// exchangeDirectly asks over UDP, and over TCP what is truncated.
func exchangeDirectly(ctx context.Context, server netip.AddrPort, q *dns.Msg) (m *dns.Msg, err error) {
	for range directTries {
		m, _, err = (&dns.Client{Timeout: directTimeout}).ExchangeContext(ctx, q, server.String())
		if err == nil && m.Truncated {
			m, _, err = (&dns.Client{Net: "tcp", Timeout: directTimeout}).ExchangeContext(ctx, q, server.String())
		}
		if err == nil || ctx.Err() != nil || unroutable(err) {
			return m, err
		}
	}
	return nil, err
}

// unroutable reports whether this host has no way to an address at all, as one without IPv6.
func unroutable(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) ||
		errors.Is(err, syscall.EAFNOSUPPORT)
}

// authorities are the nameservers of the zone that a set of records is in.
type authorities struct {
	zone  string
	chain chainOf
	hosts []nameserver
}

// nameserver is one of them with its addresses.
type nameserver struct {
	name      string
	addresses []netip.AddrPort
}

// chainOf gives the judge the zones that the walk has found, from the anchor down.
type chainOf []*dnssec.Zone

// At returns the zone that a name lies in.
func (c chainOf) At(name string) (at *dnssec.Zone) {
	for _, z := range c {
		if dnssec.IsSubDomain(z.Name, name) && (at == nil || dnssec.IsSubDomain(at.Name, z.Name)) {
			at = z
		}
	}
	return at
}

// Anchor returns the anchor of the walk.
func (c chainOf) Anchor(string) string { return c[0].Name }

// authoritiesOf finds the nameservers of the zone that owner is in. Further ones, primaries that no NS record names,
// are asked as well.
func (a *asker) authoritiesOf(ctx context.Context, owner string, further []netip.AddrPort) (*authorities, error) {
	l := a.lookup(ctx, owner, dns.TypeTLSA)
	if err := securely(l); err != nil {
		return nil, err
	}
	all := &authorities{chain: l.found.Zones}
	if at := all.chain.At(owner); at != nil && at.Status == dnssec.Secure {
		all.zone = at.Name
	} else {
		return nil, fmt.Errorf("the zone that %s is in is not known to be Secure", owner)
	}
	servers := a.lookup(ctx, all.zone, dns.TypeNS)
	if err := securely(servers); err != nil {
		return nil, err
	}
	for _, rr := range servers.found.Answer.Answer {
		ns, ok := dnssec.Typed(rr).(*dns.NS)
		if !ok {
			continue
		}
		host, err := a.nameserver(ctx, dns.CanonicalName(ns.Ns))
		if err != nil {
			return nil, err
		}
		all.hosts = append(all.hosts, host)
	}
	for _, address := range further {
		all.hosts = append(all.hosts, nameserver{"the primary " + address.String(), []netip.AddrPort{address}})
	}
	return all, nil
}

// securely returns an error unless a lookup is Secure.
func securely(l *lookup) error {
	switch a := l.found.Answer; {
	case l.unjudged != nil:
		return l.unjudged
	case a.Status == dnssec.Secure:
		return nil
	case len(a.Notes) > 0:
		return fmt.Errorf("%s %s is %s: %s", l.Name, l.Type, a.Status, a.Notes[0].Text)
	default:
		return fmt.Errorf("%s %s is %s: no sender heeds TLSA records there before the zone is signed, with a DS in "+
			"the one above", l.Name, l.Type, a.Status)
	}
}

// nameserver looks for the addresses of one.
func (a *asker) nameserver(ctx context.Context, name string) (nameserver, error) {
	host := nameserver{name: name}
	var failed error
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		l := a.lookup(ctx, name, qtype)
		if answer := l.found.Answer; l.unjudged != nil {
			failed = l.unjudged
		} else if answer.Status <= dnssec.Bogus {
			failed = fmt.Errorf("%s: %s", answer.Status, answer.Notes[0].Text)
		}
		for _, address := range mail.Addresses(l.found.Answer.Answer) {
			host.addresses = append(host.addresses, netip.AddrPortFrom(address, 53))
		}
	}
	switch {
	case failed != nil: // there may be addresses that nobody has looked at
		return host, fmt.Errorf("the addresses of the nameserver %s: %w", name, failed)
	case len(host.addresses) == 0:
		return host, fmt.Errorf("the nameserver %s has no address", name)
	}
	return host, nil
}

// sight is what all nameservers say of a set of records.
type sight struct {
	lacking []string // those that say, Secure, that a record is not in it
	doubts  []string // why nothing is known of others
	ttl     uint32   // the longest of the sets that they have, in seconds; 0 if none has any
	sets    [][]*dns.TLSA
}

// everywhere reports whether each nameserver has what was looked for.
func (s *sight) everywhere() bool { return len(s.lacking) == 0 && len(s.doubts) == 0 }

// look asks all nameservers for a set of records, and judges each reply by the keys of the zone (D-30). Of an address
// to which this host has no way at all, others of the same nameserver speak.
func (all *authorities) look(ctx context.Context, ask askDirectly, check func() *dnssec.Check, owner string,
	want ...*dns.TLSA) *sight {
	s := new(sight)
	for _, host := range all.hosts {
		reached := false
		for _, address := range host.addresses {
			who := host.name
			if len(host.addresses) > 1 {
				who = fmt.Sprintf("%s at %s", host.name, address.Addr())
			}
			records, ttl, err := all.one(ctx, ask, check(), owner, address)
			switch {
			case unroutable(err):
				continue
			case err != nil:
				s.doubts = append(s.doubts, fmt.Sprintf("%s: %v", who, err))
			case slices.ContainsFunc(want, func(r *dns.TLSA) bool {
				return !slices.ContainsFunc(records,
					sameTLSA(r))
			}):
				s.lacking = append(s.lacking, who)
			}
			reached = true
			s.ttl = max(s.ttl, ttl)
			s.sets = append(s.sets, records)
		}
		if !reached {
			s.doubts = append(s.doubts, fmt.Sprintf("%s: this host has no way to any of its addresses", host.name))
		}
	}
	return s
}

// sameTLSA reports whether a record says the same as another.
func sameTLSA(want *dns.TLSA) func(*dns.TLSA) bool {
	return func(r *dns.TLSA) bool {
		return r.Usage == want.Usage && r.Selector == want.Selector && r.MatchingType == want.MatchingType &&
			strings.EqualFold(r.Certificate, want.Certificate)
	}
}

// one is what one nameserver has.
func (all *authorities) one(ctx context.Context, ask askDirectly, check *dnssec.Check, owner string,
	server netip.AddrPort) (records []*dns.TLSA, ttl uint32, err error) {
	query := new(dns.Msg).SetQuestion(owner, dns.TypeTLSA).SetEdns0(1232, true)
	query.RecursionDesired = false
	m, err := ask(ctx, server, query)
	switch {
	case err != nil:
		return nil, 0, err
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, 0, fmt.Errorf("it answers %s", dns.RcodeToString[m.Rcode])
	case !m.Authoritative:
		return nil, 0, fmt.Errorf("it is not authoritative for %s", owner)
	}
	reply, err := dnssec.Group(m)
	if err != nil {
		return nil, 0, err
	}
	v := check.Answer(dnssec.Question(owner, dns.TypeTLSA), reply, all.chain)
	switch {
	case len(v.Needs) > 0:
		return nil, 0, fmt.Errorf("its answer is of another zone than %s", all.zone)
	case v.Status != dnssec.Secure:
		return nil, 0, notSecure(v)
	}
	for _, set := range v.Answer {
		for _, rr := range set.RRs {
			if r, ok := dnssec.Typed(rr).(*dns.TLSA); ok {
				records, ttl = append(records, r), max(ttl, r.Hdr.Ttl)
			}
		}
	}
	return records, ttl, nil
}

func notSecure(v dnssec.Verdict) error {
	if v.Cause == nil {
		return fmt.Errorf("its answer is %s", v.Status)
	}
	return fmt.Errorf("its answer is %s: %s", v.Status, printable.Short(v.Cause.Text))
}
