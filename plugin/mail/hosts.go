package mail

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
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
	together(len(exchanges), func(i int) { d.Hosts[i] = WalkHost(exchanges[i], port, ask) })
	return d
}

// together calls do for 0 to n-1 at the same time, for the last one without a goroutine: one costs more than a lookup
// of what is remembered.
func together(n int, do func(i int)) {
	var work sync.WaitGroup
	for i := range n - 1 {
		work.Go(func() { do(i) })
	}
	if n > 0 {
		do(n - 1)
	}
	work.Wait()
}

// WalkHost asks for all that a sender asks for before it delivers to one mail host.
func WalkHost(x Exchange, port int, ask Ask) Host {
	h := Host{Exchange: x, Expanded: x.Name, Addresses: make([]Lookup, 2)}
	replies := make([]Reply, 2)
	together(len(replies), func(i int) {
		replies[i] = ask(x.Name, []uint16{dns.TypeA, dns.TypeAAAA}[i])
		h.Addresses[i] = replies[i].Lookup
	})
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

// What Postfix 3.7 and Exim 4.96 make of the names in MX records and of the domains of recipients; test/mta shows it. A
// name is compared in its zone-file form, as the C library hands it to both: what is no letter of ASCII has a backslash
// there.

// refuses says why a sender takes no mail for a domain of such a name, "" if it does.
func (s Sender) refuses(domain string) string {
	switch {
	case s == Postfix && (!postfixDomain.MatchString(domain) || numeric.MatchString(domain)):
		return fmt.Sprintf("to Postfix %s is no domain name", domain)
	case s == Exim && !eximDomain.MatchString(domain):
		return fmt.Sprintf("to Exim %s is no domain name", domain)
	}
	return ""
}

// malformed says why a sender passes over an MX record with such a name, "" if it does not.
func (s Sender) malformed(name string) string {
	switch {
	case s == Postfix && postfixLiteral(name).IsValid():
	case s == Postfix && (!postfixHost.MatchString(name) || numeric.MatchString(name)):
		return fmt.Sprintf("to Postfix %s is no host name, and it passes over the MX record", name)
	case s == Exim && anyLiteral(name):
		return fmt.Sprintf("%s is an address, and Exim passes over such an MX record", name)
	case s == Exim && !eximHost.MatchString(name):
		return fmt.Sprintf("to Exim %s is no host name, and it passes over the MX record", name)
	}
	return ""
}

var (
	// Postfix's valid_hostname: letters, digits, underscores, and hyphens within labels; not digits alone. The first
	// label of a host may be a wildcard.
	postfixDomain = regexp.MustCompile(`^(\w([\w-]*\w)?\.?)+$`)
	postfixHost   = regexp.MustCompile(`^(\*\.?|(\*\.)?(\w([\w-]*\w)?\.?)+)$`)
	numeric       = regexp.MustCompile(`^[\d.]+$`)
	eximDomain    = regexp.MustCompile(`^([[:alnum:]][[:alnum:]-]*\.?)+$`)
	eximHost      = regexp.MustCompile(`^(\w([\w/-]*\w)?\.?)+$`) // its check_dns_names_pattern, as it comes
)

// postfixLiteral is the address that Postfix takes an MX name for, which it connects to without a lookup; invalid if it
// is a name.
func postfixLiteral(name string) netip.Addr {
	name = strings.TrimSuffix(name, ".")
	if a, err := netip.ParseAddr(name); strings.Contains(name, ":") && err == nil && a.Zone() == "" {
		return a
	}
	return ipv4(name)
}

// ipv4 reads an IPv4 address as the C library does, which takes 010 for 8; Postfix lets all of 0.0.0.0/8 but 0.0.0.0
// out.
func ipv4(name string) netip.Addr {
	parts := strings.Split(name, ".")
	var octets [4]byte
	if len(parts) != len(octets) {
		return netip.Addr{}
	}
	for i, p := range parts {
		base := 10
		if len(p) > 1 && p[0] == '0' {
			base = 8
		}
		n, err := strconv.ParseUint(p, base, 8)
		if err != nil {
			return netip.Addr{}
		}
		octets[i] = byte(n)
	}
	if a := netip.AddrFrom4(octets); octets[0] != 0 || a == netip.IPv4Unspecified() {
		return a
	}
	return netip.Addr{}
}

// anyLiteral reports whether a name has the form of an address.
func anyLiteral(name string) bool {
	a, err := netip.ParseAddr(strings.TrimSuffix(name, "."))
	return err == nil && a.Zone() == ""
}

// local reports whether who connects to an address reaches oneself.
func local(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() }

// ignored are the networks in which no host is to Debian's configuration of Exim (ignore_target_hosts of the router
// dnslookup).
var ignored = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("100::/64"),
}

// Ignores reports whether a sender takes no host to be at an address.
func (s Sender) Ignores(a netip.Addr) bool {
	return s == Exim && slices.ContainsFunc(ignored, func(net netip.Prefix) bool { return net.Contains(a.Unmap()) })
}
