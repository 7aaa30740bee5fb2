//go:build linux

package mta

import (
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// network is the way between a resolver and its upstream, where an attacker may change replies.
type network struct {
	upstream string
	faults   map[string]tamper // faults of nameservers, by domain, for all names in it
	attacks  map[string]tamper // the same for attackers, while attacked is set
	attacked atomic.Bool
}

// tamper returns the reply to be sent instead of r, or nil for none. It may change r.
type tamper func(q dns.Question, r *dns.Msg) *dns.Msg

// serve answers at an address.
func (n *network) serve(t *testing.T, address string) {
	t.Helper()
	packets, err := net.ListenPacket("udp", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("tcp", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Fatal(err)
	}
	ports.ServeOn(t, n, packets, stream)
}

// ServeDNS implements dns.Handler.
func (n *network) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	client := dns.Client{Net: w.LocalAddr().Network(), Timeout: 5 * time.Second}
	r, _, err := client.Exchange(query, n.upstream)
	if err != nil {
		return // the test has ended
	}
	if how := n.tamper(query.Question[0].Name); how != nil {
		r = how(query.Question[0], r)
	}
	if r != nil {
		w.WriteMsg(r) //nolint:errcheck // the resolver has gone
	}
}

// tamper returns what is done to replies about name; nil: nothing.
func (n *network) tamper(name string) tamper {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		domain := dns.CanonicalName(name[off:])
		if how := n.attacks[domain]; how != nil && n.attacked.Load() {
			return how
		}
		if how := n.faults[domain]; how != nil {
			return how
		}
	}
	return nil
}

// forged replaces the answer to questions of type t by a record of the attacker's. The signatures stay, and AD is set.
func forged(t uint16, record string) func(*stage) tamper {
	return func(s *stage) tamper {
		return func(q dns.Question, r *dns.Msg) *dns.Msg {
			if q.Qtype != t {
				return r
			}
			rr, err := dns.NewRR(q.Name + " 3600 " + strings.ReplaceAll(record, "{MALLORY}", tlsa(3, s.mallory.leaf)))
			if err != nil {
				panic(err) // a mistake in the table
			}
			r.AuthenticatedData, r.Rcode, r.Ns = true, dns.RcodeSuccess, nil
			r.Answer = append(slices.DeleteFunc(r.Answer, ofType(t)), rr)
			return r
		}
	}
}

// always is an attack that does not depend on the stage.
func always(how tamper) func(*stage) tamper { return func(*stage) tamper { return how } }

// denied answers questions of type t with a denial that has the SOA of the reply, if any, but no proof.
func denied(t uint16) tamper {
	return func(q dns.Question, r *dns.Msg) *dns.Msg {
		if q.Qtype == t {
			r.AuthenticatedData, r.Rcode = true, dns.RcodeNameError
			r.Answer, r.Ns = nil, slices.DeleteFunc(r.Ns, ofType(dns.TypeNSEC))
		}
		return r
	}
}

// stripped removes all signatures and proofs, as if nothing were signed.
func stripped(_ dns.Question, r *dns.Msg) *dns.Msg {
	for _, t := range []uint16{dns.TypeRRSIG, dns.TypeNSEC, dns.TypeDS, dns.TypeDNSKEY} {
		r.Answer, r.Ns = slices.DeleteFunc(r.Answer, ofType(t)), slices.DeleteFunc(r.Ns, ofType(t))
	}
	return r
}

// dropped gives no reply to questions of type t, as a resolver whose upstream's nameserver drops them.
func dropped(t uint16) tamper {
	return func(q dns.Question, r *dns.Msg) *dns.Msg {
		if q.Qtype == t {
			return nil
		}
		return r
	}
}

func ofType(t uint16) func(dns.RR) bool {
	return func(rr dns.RR) bool { return rr.Header().Rrtype == t }
}
