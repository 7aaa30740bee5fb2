// Package policy says how a sender is to secure mail for a domain: by DANE, by MTA-STS (RFC 8461), or as it does by
// itself. It fetches and holds the policies of MTA-STS, and tells Postfix by its socketmap protocol, Exim by lines.
// What DNS says it is told by whoever has validated it.
package policy

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// Config is what a Service is made of.
type Config struct {
	// Ask looks one thing up, from memory if it is there. It is safe for concurrent use.
	Ask func(ctx context.Context, name string, qtype uint16) mail.Reply
	// Private reports whether a name is of a network of one's own, where policies may be fetched from addresses that
	// are not public.
	Private func(name string) bool
	Clock   func() time.Time
	Meter   Meter
	// Roots are the authorities that vouch for policy hosts; nil: the system's.
	Roots *x509.CertPool
	// Dial connects to policy hosts; nil: the system does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Meter is told what happened. Its methods are cheap and safe for concurrent use.
type Meter interface {
	Fetched(domain string, failure *Failure) // a policy, or why not: nil if it was
	Changed(domain string, old, now *mail.STSPolicy)
	Vanished(domain string, why string) // of one that is held and in force
	Restored(domain string)             // what had vanished is there again, or its time is over
	Panicked(p any)                     // by a fault of this package
}

// Service decides. Its methods are safe for concurrent use.
type Service struct {
	config Config
	store  *Store
	fetch  fetcher
}

// New returns a Service that holds policies in a Store.
func New(c Config, s *Store) *Service {
	return &Service{config: c, store: s, fetch: newFetcher(c)}
}

// Decide says how mail for a domain is to be secured. It may wait for a policy to be fetched, for a minute at most.
func (s *Service) Decide(ctx context.Context, domain string) *Answer {
	domain = dns.CanonicalName(domain)
	if _, fresh := s.store.use(domain, s.config.Clock()); !fresh {
		go s.ahead(ctx, domain)
	}
	d := mail.Walk(domain, mail.Port, func(name string, qtype uint16) mail.Reply {
		return s.config.Ask(ctx, name, qtype)
	})
	a, hosts := byDNS(d)
	if a.Level != Undecided {
		return a
	}
	a.STS, a.Failure = s.policy(ctx, domain)
	return hosts.with(a)
}

// ahead asks for what a policy is found by beside the mail hosts, so that the first mail to a domain does not wait for
// one after the other (D-27). What comes is in memory when it is needed.
func (s *Service) ahead(ctx context.Context, domain string) {
	defer func() { // S-27
		if p := recover(); p != nil {
			s.config.Meter.Panicked(p)
		}
	}()
	if id, _ := s.announced(ctx, domain); id != "" {
		s.fetch.addresses(ctx, dns.Fqdn(PolicyHost(domain))) //nolint:errcheck // that is told when they are needed
	}
}
