package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// publishedSet is what is published of a host. The zero value is for what was not looked up.
type publishedSet struct {
	secure  bool
	owner   string // where the records stand: the TLSA name, or what it is an alias of (D-5)
	records []*dns.TLSA
	ttl     uint32 // the longest of the records' and, if they stand behind aliases, of these: as signed, in seconds
}

// locate finds the addresses of the host, the base domain of its TLSA records, and these. Mandatory says that the
// records have to be Secure; else what is known of them is nice to have, and only addresses that cannot be had are an
// error.
func (p *tlsaPlan) locate(ctx context.Context, mandatory bool) ([]netip.Addr, error) {
	seen := lookups{}
	h := mail.WalkHost(mail.Exchange{Name: p.host}, p.port, seen.remember(func(name string, qtype uint16) *lookup {
		return p.lookup(ctx, name, qtype)
	}))
	for _, l := range seen {
		if l.unjudged != nil {
			return nil, l.unjudged
		}
	}
	var addresses []netip.Addr
	for _, l := range h.Addresses {
		a := seen.of(l.Name, l.Type).found.Answer
		if a.Status <= dnssec.Bogus && !mandatory {
			return nil, errors.New(a.Notes[0].Text)
		}
		addresses = append(addresses, mail.Addresses(a.Answer)...)
	}
	bases := mail.Bases(h.Name, h.Expanded, h.Status(), h.First)
	if found := h.Found(); found != nil {
		p.base = found.Base
	} else if len(bases) > 0 {
		p.base = bases[0]
	}
	unsigned := len(bases) == 0 && h.Status() == dnssec.Insecure
	if unsigned && mandatory {
		return nil, fmt.Errorf("the addresses of %s are Insecure: no sender looks for its TLSA records before their "+
			"zone is signed, with a DS "+
			"in the one above", h.Expanded)
	}
	if unsigned {
		return addresses, nil
	}
	return addresses, p.published(ctx, seen, mandatory)
}

// published reads the records that senders find by the base domain.
func (p *tlsaPlan) published(ctx context.Context, seen lookups, mandatory bool) error {
	name := mail.TLSAName(p.base, p.port)
	l := seen.of(name, dns.TypeTLSA)
	if l == nil { // there are no addresses
		l = p.lookup(ctx, name, dns.TypeTLSA)
	}
	a := l.found.Answer
	switch {
	case a.Status == dnssec.Secure:
		p.set = setOf(name, a.Answer)
	case mandatory && a.Status <= dnssec.Bogus:
		return p.notPublished(ctx, name, a)
	case mandatory:
		return fmt.Errorf("%s is Insecure: no sender heeds TLSA records there before its zone is signed, with a "+
			"DS in the one above", name)
	}
	return nil
}

// notPublished is the error for records that could not be looked up. If danelaw itself cannot ask, it says so.
func (p *tlsaPlan) notPublished(ctx context.Context, name string, a *resolve.Answer) error {
	h, err := p.handler(name)
	if err != nil {
		return err
	}
	if f := h.CannotAsk(ctx, name, a.Notes); f != nil {
		return errors.New(h.NotAsked(f))
	}
	return fmt.Errorf("the records published at %s are %s, senders defer mail: %s", name, a.Status, a.Notes[0].Text)
}

// setOf reads a Secure answer. An alias is cached as long as its own TTL says, and so is what it led to.
func setOf(name string, answer []dns.RR) publishedSet {
	s := publishedSet{secure: true, owner: name}
	s.owner, _ = mail.Expanded(name, answer)
	for _, rr := range answer {
		switch rr := dnssec.Typed(rr).(type) {
		case *dns.TLSA:
			s.records = append(s.records, rr)
		case *dns.RRSIG:
			if rr.TypeCovered == dns.TypeTLSA || rr.TypeCovered == dns.TypeCNAME || rr.TypeCovered == dns.TypeDNAME {
				s.ttl = max(s.ttl, rr.OrigTtl)
			}
		}
	}
	return s
}
