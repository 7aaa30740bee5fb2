// Package upstream puts questions to upstreams: over UDP with TCP where UDP does not do, over TLS, over HTTPS, or
// through the next plugin of the CoreDNS chain. It implements [fetch.Exchanger] and judges nothing: whatever transport
// brought it, a reply is evidence and no more (S-12).
//
// What it promises of an address (a port and an ID for each question, copies of lost questions, the choice of another
// upstream for V-14, the fitness test S-13) it cannot promise of the next plugin, which chooses its upstreams and its
// sockets itself: there, Try.Avoid has no effect, replies are trusted to answer the question sent, truncation is
// retried as best the plugin can, and the fitness test finds the plugin fit as a whole or not at all.
package upstream

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Bounds of the EDNS size, in octets (S-1).
const (
	minEDNSSize = 512
	maxEDNSSize = datagramSize
)

// Route sends the questions for names at and below From to the upstreams To, in order of preference. The longest From
// wins.
type Route struct {
	From string
	To   []Address
}

// Config is what a [Set] is made of.
type Config struct {
	Routes   []Route
	Next     plugin.Handler   // is asked for names that no route covers, and for private ones; nil: these fail
	Private  []string         // zones that only Next knows, by canonical name
	RootCAs  *x509.CertPool   // vouch for TLS and HTTPS upstreams; nil: the system's
	EDNSSize uint16           // octets to advertise, 512..4096 (S-1)
	Clock    func() time.Time // for certificates, round trips and backoff
	Meter    Meter
	Pause    func() // between two pieces of work: what must not wait is done meanwhile (L-7)
}

// Set is all upstreams. It is safe for concurrent use.
type Set struct {
	size       uint16
	clock      func() time.Time
	routes     []route // private zones first, then the longest From
	upstreams  []*upstream
	loopProbes loopProbes //  which tell an upstream that is the asker himself
	schedule   schedule
	reader     reader
	insteads   atomic.Int64 // see race
}

var _ fetch.Exchanger = (*Set)(nil)

type route struct {
	from      string
	upstreams []*upstream
}

// New returns the Set for a configuration; an error names what is wrong in it. Nothing is asked yet.
func New(c Config) (*Set, error) {
	if c.EDNSSize < minEDNSSize || c.EDNSSize > maxEDNSSize {
		return nil, fmt.Errorf("EDNS size %d: give one of %d to %d octets", c.EDNSSize, minEDNSSize, maxEDNSSize)
	}
	s := &Set{
		size: c.EDNSSize, clock: c.Clock, schedule: schedule{pause: c.Pause},
		loopProbes: loopProbes{out: map[string]context.CancelCauseFunc{}},
	}
	if err := s.addRoutes(c); err != nil {
		return nil, err
	}
	return s, nil
}

// addRoutes makes the upstreams; the same address in two routes is one upstream.
func (s *Set) addRoutes(c Config) error {
	known := map[Address]*upstream{}
	for _, r := range c.Routes {
		from := dnssec.Canonical(r.From)
		if _, ok := dns.IsDomainName(from); !ok || r.From == "" || len(r.To) == 0 {
			return fmt.Errorf("upstream %q: give a domain name and at least one address", r.From)
		}
		if slices.ContainsFunc(s.routes, func(o route) bool { return o.from == from }) {
			return fmt.Errorf("upstream %s is given twice: put its addresses in one", from)
		}
		s.routes = append(s.routes, route{from, s.fromAddresses(r.To, known, c)})
	}
	slices.SortStableFunc(s.routes, func(a, b route) int { return dns.CountLabel(b.from) - dns.CountLabel(a.from) })
	if c.Next == nil {
		return nil
	}
	next := &below{c.Next}
	u := newUpstream(next.name(), next.name(), waiting{next}, true, c)
	if _, covered := s.route("."); !covered {
		s.upstreams = append(s.upstreams, u)
		s.routes = append(s.routes, route{".", []*upstream{u}})
	}
	for _, zone := range c.Private {
		s.routes = slices.Insert(s.routes, 0, route{zone, []*upstream{u}})
	}
	return nil
}

func (s *Set) fromAddresses(to []Address, known map[Address]*upstream, c Config) []*upstream {
	var upstreams []*upstream
	for _, a := range to {
		u := known[a]
		if u == nil {
			u = s.fromAddress(a, s.unusedName(a), c)
			known[a] = u
			s.upstreams = append(s.upstreams, u)
		}
		if !slices.Contains(upstreams, u) {
			upstreams = append(upstreams, u)
		}
	}
	return upstreams
}

// unusedName names the upstream at an address as no other is named: two services of one server may differ only in what
// names leave out of a path.
func (s *Set) unusedName(a Address) string {
	name := a.String()
	for n := 2; slices.ContainsFunc(s.upstreams, func(u *upstream) bool { return u.name == name }); n++ {
		name = fmt.Sprintf("%s #%d", a, n)
	}
	return name
}

// route returns the upstreams for a name.
func (s *Set) route(name string) ([]*upstream, bool) {
	for _, r := range s.routes {
		if dnssec.IsSubDomain(r.from, name) {
			return r.upstreams, true
		}
	}
	return nil, false
}

// Ask implements [fetch.Exchanger].
func (s *Set) Ask(q dns.Question, t fetch.Try, done func(fetch.Reply, error)) (cancel func()) {
	// DS is data of the parent (V-8), so the parent's upstreams are asked.
	upstreams, ok := s.route(dnssec.InCharge(q.Name, q.Qtype == dns.TypeDS))
	if !ok {
		none := fetch.Unanswered(q, ErrUpstream)
		f := none.Says("%s: there is no upstream to ask and no plugin below", fetch.Describe(q))
		go done(fetch.Reply{}, f)
		return func() {}
	}
	query := query{Question: q, tcp: t.TCP, cd: t.CD, further: t.N > 0, size: s.size, until: t.Until, demand: t.Demand}
	first, reserve := order(upstreams, t.Avoid)
	if _, alive := first[0].health.state(); alive { // else the dead are asked anyway
		s.probe(query, upstreams)
	}
	return s.race(query, first, reserve, func(reply fetch.Reply, outcomes []outcome) {
		if reply.Msg == nil {
			done(fetch.Reply{}, failure(q, outcomes))
		} else {
			done(reply, nil)
		}
	}).cancel
}

// order sorts upstreams as given, the dead after the others. Those to avoid, in the order of avoid, and then the unfit
// (S-13) are a reserve, asked when all others have failed: if they had the second copy of a slow question, their
// useless reply would win. If all others are dead, there is no reason to wait for them.
func order(upstreams []*upstream, avoid []string) (first, reserve []*upstream) {
	var dead, unfit []*upstream
	for _, u := range upstreams {
		fit, alive := u.health.state()
		switch {
		case slices.Contains(avoid, u.name):
			reserve = append(reserve, u)
		case !fit:
			unfit = append(unfit, u)
		case !alive:
			dead = append(dead, u)
		default:
			first = append(first, u)
		}
	}
	slices.SortStableFunc(reserve, func(a, b *upstream) int {
		return slices.Index(avoid, a.name) - slices.Index(avoid, b.name)
	})
	reserve = append(reserve, unfit...)
	if len(first) == 0 {
		return append(dead, reserve...), nil
	}
	return append(first, dead...), reserve
}

// probeTimeout is how long a dead upstream has to show that it lives.
const probeTimeout = 3 * time.Second

// probe puts q also to those dead upstreams that are to be tried again. Their replies do not count; nobody waits for
// them.
func (s *Set) probe(q query, upstreams []*upstream) {
	now := time.Now()
	q.until = now.Add(probeTimeout)
	for _, u := range upstreams {
		if u.health.due(s.clock()) {
			a := u.ask(q, func(fetch.Reply, *fault) {})
			s.schedule.set(&due{ring: func() { a.giveUp(context.DeadlineExceeded) }}, q.until)
		}
	}
}

// Close closes all sockets and connections and ends what is under way; questions asked later fail.
func (s *Set) Close() error {
	for _, u := range s.upstreams {
		u.carrier.close()
	}
	s.schedule.close()
	s.reader.close()
	return nil
}
