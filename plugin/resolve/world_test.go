package resolve

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
)

var question = dnssec.Question

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) Fetch(fetch.Role, bool)  {}
func (noMeter) Limit(string)            {}
func (noMeter) Cache(bool)              {}
func (noMeter) Checks(dnssec.Work)      {}
func (noMeter) Joined()                 {}
func (noMeter) Synthesised(reuse.Proof) {}
func (noMeter) Recalled(string, bool)   {}
func (noMeter) Stale()                  {}

// usually is c with what danelaw takes unless it is told another, and as much room as its questions may want.
func usually(c Config) Config {
	c.Timeout = cmp.Or(c.Timeout, 4500*time.Millisecond)
	c.SignatureChecks = cmp.Or(c.SignatureChecks, 128)
	c.UpstreamQuestions = cmp.Or(c.UpstreamQuestions, 100)
	c.InFlight = cmp.Or(c.InFlight, 16384)
	c.Waiting = cmp.Or(c.Waiting, 1000)
	c.MaxTTL = cmp.Or(c.MaxTTL, 24*time.Hour)
	c.Meter = cmp.Or[Meter](c.Meter, noMeter{})
	c.Room = cmp.Or(c.Room, fetch.NewRoom(int64(c.InFlight)*2*OctetsPerQuestion))
	return c
}

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
	r := New(usually(c))
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
