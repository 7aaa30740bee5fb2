package resolve

import (
	"context"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// anchorPoints are the zones with trust anchors, for who follows their keys.
type anchorPoints struct{ r *Resolver }

// Trusted are the trust anchors in use, by zone. Nobody may change them.
func (p anchorPoints) Trusted() map[string][]*dns.DS { return p.r.chain.Trusted() }

// Sight asks for the DNSKEY RRset of a zone with trust anchors past all memory, elsewhere again if it does not validate
// (V-14), and judges it by them. The failure is that nothing came.
func (p anchorPoints) Sight(ctx context.Context, zone string) (s dnssec.Sight, f *dnssec.Failure) {
	r := p.r
	ctx, cancel := context.WithTimeoutCause(ctx, background, fetch.ErrDeadline)
	defer cancel()
	q := dnssec.Question(zone, dns.TypeDNSKEY)
	account := r.fetcher.Open(q, r.fetcher.NewBudget())
	defer account.Close()
	got, f := account.Fetch(ctx, q, fetch.RoleRenew)
	var avoid []string
	for n := 0; ; {
		if f == nil {
			f = account.Judge(ctx, func(c *dnssec.Check) { s = c.Sight(zone, r.Trusted()[zone], got.Message) })
		}
		if f == nil {
			if s.Zone.Status == dnssec.Secure || len(s.Revoked) > 0 {
				return s, nil
			}
			avoid = append(avoid, got.Upstream)
		}
		n = r.fetcher.NextTry(n, f != nil)
		again, _ := account.Again(ctx, q, n, avoid, true)
		if again == nil {
			break
		}
		got, f = again.Wait(ctx)
	}
	if s.Zone != nil {
		return s, nil // what is wrong with a reply says more than that none came
	}
	return s, f
}

// Trust replaces the trust anchors, of which those of one zone differ, as follows from a look at its keys. What is
// remembered stays as far as it still holds by that look; what is being found out is begun anew.
func (p anchorPoints) Trust(anchors map[string][]*dns.DS, zone string, s dnssec.Sight) {
	r := p.r
	check := &dnssec.Check{Now: r.judgedAt(), Policy: r.Policy, SignatureChecks: r.SignatureChecks}
	holds := r.chain.Trust(anchors, s.Under(check, zone, anchors[zone]))
	r.flights.detach()
	if !holds {
		r.Store.flush(zone)
	}
	r.Store.ForgetFailures()
}
