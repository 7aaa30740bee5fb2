package scripted

import (
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// Noon is the time at which most tests begin.
var Noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// Usual is the tree that most tests of the walk and of the resolver ask about: a sound domain, an unsigned one, one
// whose signatures are stripped, one without the key that its DS points to, one below an empty non-terminal, and a
// reverse zone.
func Usual(clock func() time.Time) *world.Tree {
	unsigned := zones.Config{Unsigned: true}
	return world.New(clock,
		world.Zone("."), world.Zone("com."), world.Zone("uk."), world.Domain("deep.co.uk."),
		world.Zone("arpa."), world.Zone("ip6.arpa."),
		world.Domain("example.com.", "alias CNAME mx", "outward CNAME mx.insecure.com.", "dangling CNAME gone"),
		zones.Plan{Name: "insecure.com.", Text: world.Mail, Config: unsigned},
		zones.Plan{Name: "stripped.com.", Text: world.Mail, Fault: zones.Fault{
			Zone: func(z *zones.Zone) { z.Spoil(stripped) },
		}},
		zones.Plan{Name: "nokey.com.", Text: world.Mail, Fault: zones.Faults["ds-without-key"]},
		zones.Plan{Name: "8.b.d.0.1.0.0.2.ip6.arpa.", Config: unsigned, Text: world.Base +
			"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 PTR mx.insecure.com.\n"},
	)
}

// stripped takes the signatures out of a reply, unless DNSKEY was asked.
func stripped(q dns.Question, m *dns.Msg) *dns.Msg {
	if q.Qtype != dns.TypeDNSKEY {
		m.Answer, m.Ns = Unsigned(m.Answer), Unsigned(m.Ns)
	}
	return m
}

// Unsigned returns the records without the signatures among them.
func Unsigned(rrs []dns.RR) (kept []dns.RR) {
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeRRSIG {
			kept = append(kept, rr)
		}
	}
	return kept
}
