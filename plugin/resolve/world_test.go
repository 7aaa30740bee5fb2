package resolve

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
)

// setup returns a resolver over the usual world, with its upstream and clock; change may alter the configuration.
func setup(t *testing.T, change func(*Config)) (*Resolver, *scripted.Upstream, *world.Clock) {
	t.Helper()
	now := world.NewClock(scripted.Noon)
	u := scripted.New(scripted.Usual(now.Now))
	c := Config{
		Exchanger: u, Anchors: u.Tree.Anchors(), Store: NewStore(4 << 20), Clock: now.Now,
		Policy:  dnssec.DefaultPolicy(),
		Retries: 2,
	}
	if change != nil {
		change(&c)
	}
	r := New(c)
	r.flights.short = func() bool { return false } // however much else this machine has to do
	t.Cleanup(r.Close)
	return r, u, now
}

// ask resolves name and type.
func ask(r *Resolver, name string, qtype uint16) *Answer {
	return r.Resolve(context.Background(), question(name, qtype))
}

// expect checks status and RCODE.
func expect(t *testing.T, a *Answer, status dnssec.Status, rcode int) {
	t.Helper()
	if a.Status != status || a.Rcode != rcode {
		t.Fatalf("%v %s, want %v %s; notes %s", a.Status, dns.RcodeToString[a.Rcode], status, dns.RcodeToString[rcode],
			notes(a))
	}
}

func notes(a *Answer) string {
	var s []string
	for _, f := range a.Notes {
		s = append(s, fmt.Sprintf("%d %q", f.Code, f.Text))
	}
	return strings.Join(s, "; ")
}
