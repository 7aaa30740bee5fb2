package danelaw

import (
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// What one MX answer makes danelaw ask at most: two questions for each host, one more for those that mail is tried at first.
const (
	prefetchHosts = 8
	prefetchTLSA  = 4
)

// prefetcher asks for what an MTA is going to ask for.
type prefetcher struct {
	resolver *chain.Resolver
	names    names
}

// prefetch resolves what an MTA asks once it has the MX records: addresses and TLSA of the hosts (RFC 7672 section 2.2), in the
// background. The MTA's own questions join.
func (p prefetcher) prefetch(q dns.Question, a *chain.Answer) {
	if q.Qtype != dns.TypeMX || a.Cached || a.Status <= dnssec.Bogus {
		return
	}
	zone := p.resolver.ZoneAbove(q.Name)
	for i, host := range mailHosts(dns.CanonicalName(q.Name), a) {
		if i == prefetchHosts {
			return
		}
		p.host(host, zone, i < prefetchTLSA)
	}
}

// prefetchHost resolves what is asked about one host. A host in the zone of the mail domain is seldom in yet another one.
func (p prefetcher) host(host, zone string, tlsa bool) {
	if _, special := p.names.special(dns.Question{Name: host, Qtype: dns.TypeA, Qclass: dns.ClassINET}); special || p.names.private.cover(host) {
		return
	}
	near := zone != "." && zone != "" && p.resolver.ZoneAbove(host) == zone
	tlsa = tlsa && !p.resolver.InsecureAbove(host)
	p.ahead(host, dns.TypeA, near, func(a *chain.Answer) {
		if end := aliasEnd(host, a); tlsa && end != host && a.Status == dnssec.Secure {
			p.ahead(mail.TLSAName(end, mail.Port), dns.TypeTLSA, false, nil) // the first that is looked for (D-4)
		}
	})
	p.ahead(host, dns.TypeAAAA, near, nil)
	if tlsa {
		p.ahead(mail.TLSAName(host, mail.Port), dns.TypeTLSA, near, nil)
	}
}

func (p prefetcher) ahead(name string, qtype uint16, near bool, then func(*chain.Answer)) {
	p.resolver.Ahead(dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}, near, then)
}

// mailHosts returns the hosts of an MX answer, the best first; nothing for a domain that takes no mail (RFC 7505) or does not exist.
func mailHosts(domain string, a *chain.Answer) (hosts []string) {
	if a.Rcode != dns.RcodeSuccess {
		return nil
	}
	exchanges, _ := mail.Hosts(aliasEnd(domain, a), a.Answer)
	for _, x := range exchanges {
		hosts = append(hosts, x.Name)
	}
	return hosts
}

// aliasEnd returns where the CNAME records of an answer lead from name.
func aliasEnd(name string, a *chain.Answer) string {
	if a == nil {
		return name
	}
	end, _ := mail.Expanded(name, a.Answer)
	return end
}
