package mail

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

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

// Reply is what came of one lookup.
type Reply struct {
	Lookup
	Rcode  int
	Answer []dns.RR // empty if it failed
}

// Ask looks one thing up. It is safe for concurrent use.
type Ask func(name string, qtype uint16) Reply

// Walk asks for all that a sender asks for before it delivers to a domain at a port: MX, then for each host at once its
// addresses and, as far as [Bases] has it, its TLSA records (RFC 7672 section 2.2).
func Walk(domain string, port int, ask Ask) *Domain {
	mx := ask(domain, dns.TypeMX)
	d := &Domain{Name: domain, Expanded: domain, MX: mx.Lookup, NameError: mx.Rcode == dns.RcodeNameError}
	if mx.failed() || d.NameError {
		return d
	}
	d.Expanded, _ = Expanded(domain, mx.Answer)
	exchanges, null := Hosts(domain, mx.Answer)
	d.Null, d.NullToo = null && len(exchanges) == 0, null && len(exchanges) > 0
	d.Hosts = make([]Host, len(exchanges))
	var work sync.WaitGroup
	for i, x := range exchanges {
		work.Go(func() { d.Hosts[i] = WalkHost(x, port, ask) })
	}
	work.Wait()
	return d
}

// WalkHost asks for all that a sender asks for before it delivers to one mail host.
func WalkHost(x Exchange, port int, ask Ask) Host {
	h := Host{Exchange: x, Expanded: x.Name, Addresses: make([]Lookup, 2)}
	replies := make([]Reply, 2)
	var work sync.WaitGroup
	for i, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		work.Go(func() { replies[i] = ask(x.Name, t); h.Addresses[i] = replies[i].Lookup })
	}
	work.Wait()
	h.IPs = append(Addresses(replies[0].Answer), Addresses(replies[1].Answer)...)
	h.follow(replies, ask)
	for _, base := range Bases(h.Name, h.Expanded, h.Status(), h.First) {
		h.TLSA = append(h.TLSA, askTLSA(base, port, ask))
		if h.Found() != nil {
			break
		}
	}
	return h
}

// Addresses are those in an answer.
func Addresses(answer []dns.RR) (all []netip.Addr) {
	for _, rr := range answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			all = append(all, a.Unmap())
		}
	}
	return all
}

// follow finds out whether the host is an alias, and how far that is to be trusted: its first CNAME may be Secure
// although what it leads to is not (D-4).
func (h *Host) follow(addresses []Reply, ask Ask) {
	for _, r := range addresses {
		target, alias := Expanded(h.Name, r.Answer)
		first := r.Status
		if r.failed() || alias && first != dnssec.Secure {
			cname := ask(h.Name, dns.TypeCNAME)
			if first = cname.Status; r.failed() {
				target, alias = Expanded(h.Name, cname.Answer)
			}
		}
		if alias {
			h.Expanded, h.First = target, first
			return
		}
	}
}

func askTLSA(base string, port int, ask Ask) TLSA {
	r := ask(TLSAName(base, port), dns.TypeTLSA)
	t := TLSA{Lookup: r.Lookup, Base: base}
	for _, rr := range r.Answer {
		if record, ok := dnssec.Typed(rr).(*dns.TLSA); ok {
			t.Records = append(t.Records, record)
		}
	}
	return t
}
