package bench

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

// manner is a way to ask for cached answers.
type manner struct {
	workload string
	rate     int // queries per second; 0: as many as the server answers
	plain    bool
	told     bool // danelaw's replies have an EDE
}

var manners = []manner{
	{workload: "hot"}, {workload: "hot-do0", plain: true}, {workload: "hot-20k", rate: 20_000},
	{workload: "hot-60k", rate: 60_000},
}

// explained is how a server is asked for answers of which danelaw has something to say.
func explained(s server.Server) manner { return manner{workload: "hot-ede", told: s.Ours} }

// hot asks for what has been asked for before, in all manners.
func (b *bench) hot(ctx context.Context, s server.Server) ([]Sample, error) {
	if s.Name == server.EchoName {
		return b.echoed(ctx)
	}
	all, err := b.warmed(ctx, s, b.world, manners)
	if err != nil || s.Guesses {
		return all, err
	}
	spec := b.Universe
	spec.Domains = min(hotDomains, spec.Domains)
	spec.Insecure, spec.Unsupported, spec.Providers = 0, 1, min(spec.Providers, spec.Domains)
	at, err := b.scenes.get(ctx, "hot-ede", spec, 0)
	if err != nil {
		return nil, err
	}
	more, err := b.warmed(ctx, s, at, []manner{explained(s)})
	return append(all, more...), err
}

// warmed starts a server, asks it questions, and then asks them again and again.
func (b *bench) warmed(ctx context.Context, s server.Server, at *scene, manners []manner) (all []Sample, err error) {
	few, err := at.deliveries(0, min(hotDomains, at.spec.Domains))
	if err != nil {
		return nil, err
	}
	p, err := b.start(ctx, s, at, server.Setup{})
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	var before Sample
	if err := p.learn(ctx, few, &before); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	for _, m := range manners {
		sample, err := p.hits(ctx, m.script(b, keepable(few)))
		if err != nil {
			return nil, err
		}
		sample.merge(before)
		sample.Workload = m.workload
		all, before = append(all, sample), Sample{}
		if _, known := b.octets[m.workload]; !known {
			b.octets[m.workload] = sample.Values["octets"]
		}
	}
	return all, nil
}

// script asks questions in this manner, the same ones each time.
func (m manner) script(b *bench, questions []universe.Question) load.Script {
	for i, q := range questions {
		if m.plain {
			questions[i] = q.Plain()
		}
		if m.told {
			questions[i] = q.Told()
		}
	}
	hot := b.drawn(questions)
	if m.rate == 0 {
		return &hot
	}
	return &load.Steady{Hot: hot, Rate: m.rate}
}

// drawn are questions drawn by chance for some time.
func (b *bench) drawn(questions []universe.Question) load.Hot {
	chance := rand.New(rand.NewPCG(b.Universe.Seed, 0))
	return load.Hot{Questions: questions, AtOnce: hotInFlight, For: b.Hot, Chance: chance}
}

// flat are copies of the questions of deliveries, one after another.
func flat(deliveries [][]universe.Question) (all []universe.Question) {
	for _, d := range deliveries {
		all = append(all, d...)
	}
	return all
}

// keepable are the questions whose answers all servers keep: that a name does not exist, some, such as Unbound and
// Knot Resolver, prove anew each time from what they know of others (RFC 8198).
func keepable(deliveries [][]universe.Question) []universe.Question {
	return slices.DeleteFunc(flat(deliveries), func(q universe.Question) bool { return q.Missing() })
}

const (
	tolerated = 0.001 // the share of questions that may be lost, or of cached answers that may be none
	uncounted = 0.01  // the share of questions that a server's statistics may lack
	ofItself  = 10    // questions that a server may ask of itself meanwhile, such as whether its upstream is there
)

// hits measures a script of which all answers are cached, and finds fault if they are not: by what the upstream was
// asked, and by the server's own statistics.
func (p *subject) hits(ctx context.Context, s load.Script) (Sample, error) {
	begun, known, err := p.Counts()
	if err != nil {
		return Sample{}, err
	}
	sample, err := p.measure(ctx, s, queries)
	if err != nil {
		return Sample{}, err
	}
	done, _, err := p.Counts()
	if err != nil {
		return Sample{}, err
	}
	sample.Values["lost_share"] = 100 * float64(sample.Lost) / float64(sample.Replies+sample.Lost)
	replies := float64(sample.Replies)
	sample.Fault = fetched(replies, sample.Values["asked"]*sample.Values["units"])
	if known {
		counts := server.Counts{Questions: done.Questions - begun.Questions, Misses: done.Misses - begun.Misses}
		sample.Values["hits"] = hitShare(counts)
		sample.Fault = cmp.Or(sample.Fault, missed(replies, counts))
	}
	return sample, nil
}

// fetched finds fault with answers that the upstream was asked for, though they should be cached; "" if they were.
func fetched(replies, asked float64) string {
	if asked <= max(ofItself, tolerated*replies) {
		return ""
	}
	return fmt.Sprintf("of %.0f answers that should be cached %.0f were asked for", replies, asked)
}

// hitShare is the percentage of questions that a server counts as answered from memory.
func hitShare(c server.Counts) float64 { return 100 * (1 - c.Misses/max(c.Questions, 1)) }

// missed finds fault with answers that should be cached by what a server counts itself; "" if there is none.
func missed(replies float64, c server.Counts) string {
	switch {
	case c.Questions < (1-uncounted)*replies:
		return fmt.Sprintf("it counts %.0f questions where it was asked %.0f", c.Questions, replies)
	case c.Misses > max(ofItself, tolerated*c.Questions):
		return fmt.Sprintf("it counts %.2f %% of its answers as cached, not 99.9", hitShare(c))
	}
	return ""
}

// echoed is hot for the echo, whose replies have as many octets as the first server's in the same manner: it has no
// turn before that in any run.
func (b *bench) echoed(ctx context.Context) (all []Sample, err error) {
	few, err := b.world.deliveries(0, min(hotDomains, b.Universe.Domains))
	if err != nil {
		return nil, err
	}
	var questions []universe.Question
	for _, q := range keepable(few) {
		asked := universe.Attack(dns.Question{Name: q.Name, Qtype: q.Type}, dns.RcodeSuccess, true)
		questions = append(questions, asked)
	}
	for _, m := range append(manners, explained(server.Server{})) {
		sample, err := m.echo(ctx, b, slices.Clone(questions))
		if err != nil {
			return nil, err
		}
		sample.Workload = m.workload
		all = append(all, sample)
	}
	return all, nil
}

// echo asks an echo in this manner.
func (m manner) echo(ctx context.Context, b *bench, questions []universe.Question) (Sample, error) {
	size := int(math.Round(b.octets[m.workload]))
	p, err := b.start(ctx, server.Echo(b.Self, size), b.world, server.Setup{})
	if err != nil {
		return Sample{}, err
	}
	defer p.Stop()
	return p.hits(ctx, m.script(b, questions))
}
