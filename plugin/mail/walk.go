package mail

import (
	"net"
	"net/netip"
	"sync"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

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
