package mail

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Port is where mail is received.
const Port = 25

// Exchange is a mail host of a domain.
type Exchange struct {
	Name       string // canonical
	Preference uint16 // of its MX record, the lower the better; 0 for a domain that is its own mail host
}

// Hosts returns the mail hosts of a domain that exists, by the answer to its MX question, in the order in which senders
// try them: by preference, among equals by name. A host named twice counts where it is preferred. A domain without MX
// is its own mail host (RFC 5321 section 5.1). Null says that one of the records has the root for a host, by which the
// domain takes no mail if there is no other (RFC 7505, D-18). The root is none of the hosts.
func Hosts(domain string, answer []dns.RR) (hosts []Exchange, null bool) {
	for _, rr := range answer {
		mx, ok := rr.(*dns.MX)
		if !ok {
			continue
		}
		if name := dns.CanonicalName(mx.Mx); name == "." {
			null = true
		} else {
			hosts = append(hosts, Exchange{name, mx.Preference})
		}
	}
	slices.SortFunc(hosts, func(a, b Exchange) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), cmp.Compare(a.Name, b.Name))
	})
	seen := map[string]bool{}
	hosts = slices.DeleteFunc(hosts, func(h Exchange) bool {
		twice := seen[h.Name]
		seen[h.Name] = true
		return twice
	})
	if len(hosts) == 0 && !null {
		return []Exchange{{Name: dns.CanonicalName(domain)}}, false
	}
	return hosts, null
}

// TLSAName is where the TLSA records of a base domain stand (D-3, RFC 6698 section 3).
func TLSAName(base string, port int) string {
	return fmt.Sprintf("_%d._tcp.%s", port, strings.TrimPrefix(base, "."))
}

// Bases returns the TLSA base domains of a host in the order in which they are tried; the next one only if the one
// before has no Secure TLSA records, and its lookup has not failed (D-4, RFC 7671 section 7, RFC 7672 sections 2.2.2
// and 2.2.3). Expanded is the name at the end of the host's alias chain, the host itself if it is no alias; addresses
// is the status of its address records, first that of its first CNAME. There is none for a host that is Insecure.
func Bases(host, expanded string, addresses, first dnssec.Status) []string {
	switch {
	case addresses <= dnssec.Bogus:
		return nil
	case addresses == dnssec.Secure && expanded != host:
		return []string{expanded, host}
	case addresses == dnssec.Secure || expanded != host && first == dnssec.Secure:
		return []string{host}
	}
	return nil
}

// Expanded returns the name at the end of the alias chain that begins at a name in an answer, and whether it is an
// alias at all.
func Expanded(name string, answer []dns.RR) (string, bool) {
	targets := map[string]string{}
	for _, rr := range answer {
		if alias, ok := rr.(*dns.CNAME); ok {
			targets[dns.CanonicalName(alias.Hdr.Name)] = dns.CanonicalName(alias.Target)
		}
	}
	at := dns.CanonicalName(name)
	for range targets { // no chain is longer
		if next, ok := targets[at]; ok {
			at = next
		}
	}
	return at, at != dns.CanonicalName(name)
}
