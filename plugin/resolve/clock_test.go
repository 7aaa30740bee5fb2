package resolve

import (
	"context"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// C-16: a link learned while the clock ran ahead is not used when it has been set back: it would outlive its TTL by as
// much.
func TestLinksFromTheFuture(t *testing.T) {
	r, u, now := setup(t, nil)
	now.Advance(24 * time.Hour)
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	now.Advance(-24 * time.Hour)
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "mx.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
	for _, link := range []string{". DNSKEY", "com. DS", "com. DNSKEY", "example.com. DS", "example.com. DNSKEY"} {
		if u.Count(link) == 0 {
			t.Errorf("%s was not asked for: %v", link, u.Asked())
		}
	}
	quiet(t, r)
	u.Forget()
	now.Advance(time.Minute)
	expect(t, ask(r, "nothing.example.com.", dns.TypeA), dnssec.Secure, dns.RcodeNameError)
	if n := len(u.Asked()); n != 1 {
		t.Errorf("what was learned since is not known: %v", u.Asked())
	}
}

// C-16: lifetimes are those of the time of day, by which TTLs are told, and not of a count that stands still while the
// host sleeps.
func TestTimeOfDay(t *testing.T) {
	r, _, _ := setup(t, func(c *Config) { c.Clock = time.Now })
	for name, at := range map[string]time.Time{"now": r.now(), "judged at": r.judgedAt(), "check": checkOf(r).Now} {
		if at != at.Round(0) { // Equal would not see the difference
			t.Errorf("%s has a monotonic reading: %v", name, at)
		}
	}
}

// checkOf returns the check of a new client query.
func checkOf(r *Resolver) (check *dnssec.Check) {
	account := r.newWork(question(".", dns.TypeNS), forClient).account
	account.Judge(context.Background(), func(c *dnssec.Check) { check = c })
	return check
}
