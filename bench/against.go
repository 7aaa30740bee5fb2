package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

// Against measures a resolver that runs already, by the answers about some mail domains that it has in its cache. Of
// the configuration Rounds and Hot are used. It fails if the resolver has no answer at all.
func Against(ctx context.Context, at netip.AddrPort, domains []string, c Config, p Progress) (*Report, error) {
	c.Servers = []server.Server{{Name: at.String()}}
	b := &bench{Config: c}
	r := &Report{Started: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(server.Placement{}), Config: c}
	learnt, err := learn(ctx, at, domains, p("asking for the first time", len(domains)))
	if err != nil {
		return nil, err
	}
	done := p("measuring", c.Rounds*len(against))
	for round := range c.Rounds {
		for _, a := range against {
			sample, err := b.asked(ctx, at, a.manner.script(b, learnt.questions))
			sample.Workload, sample.Server, sample.Round = a.manner.workload, at.String(), round
			if err != nil {
				return r.end(ctx, sample.broken(err))
			}
			sample.Values["questions"] = float64(len(learnt.questions))
			sample.Values["first_p50_us"] = microseconds(learnt.first.Percentile(0.5))
			sample.Values["first_p99_us"] = microseconds(learnt.first.Percentile(0.99))
			r.Samples = append(r.Samples, sample)
			done(1)
		}
	}
	return r.end(ctx, nil)
}

// asked has a resolver do a script.
func (b *bench) asked(ctx context.Context, at netip.AddrPort, s load.Script) (Sample, error) {
	result, err := load.Run(ctx, at, s)
	if err != nil {
		return Sample{}, err
	}
	if result.Replies == 0 {
		return Sample{}, fmt.Errorf("%v answers nothing: %s", at, result.Example)
	}
	sample := Sample{Values: map[string]float64{
		"per_second": float64(result.Replies) / result.Elapsed.Seconds(),
		"p50_us":     microseconds(result.Percentile(0.5)), "p99_us": microseconds(result.Percentile(0.99)),
		"lost_share": 100 * float64(result.Lost) / float64(result.Replies+result.Lost),
	}}
	sample.count(result)
	return sample, nil
}

// learner asks a resolver, and keeps the questions with what it said.
type learner struct {
	at        netip.AddrPort
	questions []universe.Question
	first     load.Result
	err       error // why one was not kept
}

// learn asks what an MTA asks about domains. What fails, and what is too long for a datagram, is left out.
func learn(ctx context.Context, at netip.AddrPort, domains []string, done func(int)) (*learner, error) {
	l := &learner{at: at}
	for _, domain := range domains {
		if host := hostIn(l.ask(ctx, domain, dns.TypeMX)); host != "" {
			l.ask(ctx, host, dns.TypeA)
			l.ask(ctx, host, dns.TypeAAAA)
			l.ask(ctx, "_25._tcp."+host, dns.TypeTLSA)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		done(1)
	}
	if len(l.questions) == 0 {
		return nil, fmt.Errorf("%v has answers about none of these domains: %w", at, l.err)
	}
	slices.Sort(l.first.Took)
	return l, nil
}

// ask asks once; nil: the answer cannot be used.
func (l *learner) ask(ctx context.Context, name string, t uint16) *dns.Msg {
	q := dns.Question{Name: dns.Fqdn(name), Qtype: t}
	reply, took, err := exchange(ctx, l.at, q)
	if err != nil {
		l.err = err
		return nil
	}
	l.first.Took = append(l.first.Took, took)
	l.questions = append(l.questions, universe.Known(q, reply.Rcode, reply.AuthenticatedData))
	return reply
}

// hostIn is the first mail host of an answer; "" without one.
func hostIn(reply *dns.Msg) string {
	best := &dns.MX{}
	if reply == nil {
		return ""
	}
	for _, rr := range reply.Answer {
		if mx, ok := rr.(*dns.MX); ok && mx.Mx != "." && (best.Mx == "" || mx.Preference < best.Preference) {
			best = mx
		}
	}
	return best.Mx
}

// datagram is the size that clients of today have room for (RFC 9715).
const datagram = 1232

// exchange asks once. A failure, and a truncated reply, are errors.
func exchange(ctx context.Context, at netip.AddrPort, q dns.Question) (*dns.Msg, time.Duration, error) {
	m := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(datagram, true)
	m.AuthenticatedData = true
	reply, took, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeContext(ctx, m, at.String())
	switch {
	case err != nil:
		return nil, 0, err
	case reply.Truncated:
		return nil, 0, errors.New("a reply is truncated")
	case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
		return nil, 0, fmt.Errorf("%s %s: %s", q.Name, dns.Type(q.Qtype), dns.RcodeToString[reply.Rcode])
	}
	return reply, took, nil
}
