package upstream

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Report is the outcome of the fitness test for one upstream.
type Report struct {
	Upstream string
	Fit      bool
	// Faults are sentences that name the upstream and the step that failed, one for each zone that did not pass. A fit
	// upstream may have some, as one zone that passes is enough.
	Faults []string
}

// stepTimeout is how long each question of the fitness test may take.
const stepTimeout = 5 * time.Second

// Fit asks each upstream what only one fit for validation can answer (S-13, RFC 8027 section 3), for each of zones,
// those of the trust anchors, that it is responsible for. Those that fail are asked last until they pass. The result
// has the order of the configuration, without the upstreams that are responsible for none of the zones.
func (s *Set) Fit(ctx context.Context, zones []string) []Report {
	reports := make([]Report, len(s.upstreams))
	var tests sync.WaitGroup
	for i, u := range s.upstreams {
		tests.Go(func() { reports[i] = s.fit(ctx, u, zones) })
	}
	tests.Wait()
	return slices.DeleteFunc(reports, func(r Report) bool { return !r.Fit && len(r.Faults) == 0 })
}

// fit tests one upstream and keeps the result.
func (s *Set) fit(ctx context.Context, u *upstream, zones []string) Report {
	r := Report{Upstream: u.name}
	for _, zone := range zones {
		zone = dnssec.Canonical(zone)
		if upstreams, _ := s.route(zone); !slices.Contains(upstreams, u) {
			continue
		}
		if fault := s.fitFor(ctx, u, zone); fault != "" {
			r.Faults = append(r.Faults, fault)
		} else {
			r.Fit = true
		}
	}
	if r.Fit || len(r.Faults) > 0 {
		u.health.judged(r.Fit)
	}
	return r
}

// step is one question of the fitness test and what its reply must show; check returns what it does not, or "".
type step struct {
	name  string
	qtype uint16
	tcp   bool
	check func(q dns.Question, m *dns.Msg) string
}

// fitFor returns the first step that u fails for zone, as a sentence, or "". The name that does not exist is asked for
// at once: were u danelaw itself, all other questions would wait for themselves.
func (s *Set) fitFor(ctx context.Context, u *upstream, zone string) string {
	probing, probe, end := s.loopProbes.send(ctx, zone)
	defer end()
	denial := make(chan string, 1)
	go func() { denial <- s.try(probing, u, step{probe, dns.TypeA, false, denied}) }()
	fault := s.try(probing, u, step{zone, dns.TypeDNSKEY, false, signed})
	if fault == "" {
		fault = s.try(probing, u, step{zone, dns.TypeSOA, false, signed})
	}
	fault = cmp.Or(fault, <-denial)
	if s.looped(probing, u) {
		return u.name + " is danelaw itself: the question " + fetch.Describe(dnssec.Question(probe, dns.TypeA)) +
			" came back; take it out of the upstreams"
	}
	if fault == "" {
		fault = s.try(ctx, u, step{zone, dns.TypeDNSKEY, true, signed})
	}
	if fault == "" {
		return ""
	}
	return u.name + " " + fault
}

// try puts the question of one step to u alone.
func (s *Set) try(ctx context.Context, u *upstream, step step) string {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	q := dnssec.Question(step.name, step.qtype)
	until, _ := ctx.Deadline()
	put := query{Question: q, tcp: step.tcp, cd: true, size: s.size, test: true, until: until}
	came := make(chan struct{})
	var reply fetch.Reply
	var outcomes []outcome
	r := s.race(put, []*upstream{u}, nil, func(r fetch.Reply, o []outcome) {
		reply, outcomes = r, o
		close(came)
	})
	defer context.AfterFunc(ctx, r.cancel)()
	if <-came; reply.Msg != nil {
		return step.check(q, reply.Msg)
	}
	text := fetch.Describe(q)
	if step.tcp {
		text += " over TCP"
	}
	return "is not fit for " + text + ": it " + outcomes[0].did().text
}

// signed wants the records asked for, with an RRSIG.
func signed(q dns.Question, m *dns.Msg) string {
	switch {
	case !holds(m.Answer, q.Name, q.Qtype):
		return "does not know " + fetch.Describe(q) + ": the answer holds none"
	case !signs(m.Answer, q.Name, q.Qtype):
		return "strips RRSIGs: " + fetch.Describe(q) + " came without"
	}
	return ""
}

// denied wants a signed denial of a name that is not there; if a wildcard answers for it, a denial comes along as well.
func denied(q dns.Question, m *dns.Msg) string {
	none := "gives no proof that a name does not exist: " + fetch.Describe(q) + " came without NSEC and NSEC3"
	for _, rr := range m.Ns {
		if h := rr.Header(); h.Rrtype == dns.TypeNSEC || h.Rrtype == dns.TypeNSEC3 {
			if signs(m.Ns, h.Name, h.Rrtype) {
				return ""
			}
			none = "strips RRSIGs: the denial of " + fetch.Describe(q) + " came without"
		}
	}
	return none
}

// holds reports whether a section has a record of that owner and type.
func holds(section []dns.RR, owner string, rrtype uint16) bool {
	return slices.ContainsFunc(section, func(rr dns.RR) bool {
		return rr.Header().Rrtype == rrtype && strings.EqualFold(rr.Header().Name, owner)
	})
}

// signs reports whether a section has an RRSIG over them.
func signs(section []dns.RR, owner string, covered uint16) bool {
	return slices.ContainsFunc(section, func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return ok && sig.TypeCovered == covered && strings.EqualFold(sig.Hdr.Name, owner)
	})
}

// probeLabel is the length of a label that chance has made: long enough not to be met or guessed.
const probeLabel = 8

// randomLabel is one that exists in no zone.
func randomLabel() string {
	b := make([]byte, probeLabel)
	rand.Read(b)
	for i := range b {
		b[i] = 'a' + b[i]%26
	}
	return string(b)
}
