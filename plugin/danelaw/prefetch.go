package danelaw

import (
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// What one MX answer makes danelaw ask at most: two questions for each host, one more for those that mail is tried at
// first.
const (
	prefetchHosts = 8
	prefetchTLSA  = 4
)

// prefetcher asks for what an MTA is going to ask for.
type prefetcher struct {
	resolver *resolve.Resolver
	names    names
}

// prefetch resolves what an MTA asks once it has the MX records: addresses and TLSA of the hosts (RFC 7672 section
// 2.2), in the background. The MTA's own questions join.
func (p prefetcher) prefetch(q dns.Question, a *resolve.Answer) {
	if q.Qtype != dns.TypeMX || a.Cached || a.Status <= dnssec.Bogus || a.Rcode != dns.RcodeSuccess {
		return
	}
	hosts, _ := mail.Hosts(aliasEnd(dns.CanonicalName(q.Name), a), a.Answer) // none of a domain that takes no mail
	zone, _ := p.resolver.ZoneKnown(q.Name)
	ahead := p.resolver.Ahead()
	for i, host := range hosts[:min(len(hosts), prefetchHosts)] { // the best first
		p.host(ahead, host.Name, zone, i < prefetchTLSA)
	}
}

// host resolves what is asked about one host. A host below the mail domain's zone is seldom in a zone of its own.
func (p prefetcher) host(ahead *resolve.Ahead, host, zone string, tlsa bool) {
	if _, special := p.names.special(dns.Question{Name: host, Qtype: dns.TypeA, Qclass: dns.ClassINET}); special ||
		p.names.private.cover(host) {
		return
	}
	above, insecure := p.resolver.ZoneKnown(host)
	near := zone != "." && zone != "" && above == zone
	tlsa = tlsa && !insecure
	ask := func(name string, qtype uint16, near bool, then func(*resolve.Answer)) {
		ahead.Resolve(dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}, near, then)
	}
	ask(host, dns.TypeA, near, func(a *resolve.Answer) {
		if end := aliasEnd(host, a); tlsa && end != host && a.Status == dnssec.Secure {
			ask(mail.TLSAName(end, mail.Port), dns.TypeTLSA, false, nil) // the first that is looked for (D-4)
		}
	})
	ask(host, dns.TypeAAAA, near, nil)
	if tlsa {
		ask(mail.TLSAName(host, mail.Port), dns.TypeTLSA, near, nil)
	}
}

// aliasEnd returns where the CNAME records of an answer lead from name.
func aliasEnd(name string, a *resolve.Answer) string {
	if a == nil {
		return name
	}
	end, _ := mail.Expanded(name, a.Answer)
	return end
}
