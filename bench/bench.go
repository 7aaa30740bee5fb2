// Package bench measures what validation costs: resolvers in turn, on the same work, on a processor of their own.
// README.md says how to read what it prints.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/host"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
	"github.com/danelaw-dns/danelaw/bench/upstream"
)

// Config says what is measured.
type Config struct {
	Universe  universe.Spec
	Servers   []server.Server
	Workloads []string      // of [Workloads]; none: all of them
	Rounds    int           // in each, every server does every workload once
	Hot       time.Duration // how long a sample of the hot workload lasts
	InFlight  int           // deliveries of the cold workload at a time
	Delay     time.Duration // of the upstream's replies
}

// Progress is told that something of so many steps begins; it returns what is called after each, by any goroutine.
type Progress func(what string, steps int) (done func())

// Sample is what one server did of one workload in one round.
type Sample struct {
	Workload string
	Server   string
	Round    int
	Units    int           // domains or queries, as the workload counts
	CPU      time.Duration // of the server's process
	Elapsed  time.Duration
	Busy     float64 // share of that time in which the server had its processor
	Others   float64 // share of it in which something else had that processor
	RSS      uint64  // octets, at the end
	Asked    int64   // questions to the upstream
	Replies  int
	Wrong    int
	Lost     int
	Example  string // of what was wrong or lost
}

// bench is a run under way.
type bench struct {
	Config
	world    *universe.Universe
	upstream *upstream.Upstream
	place    server.Placement
}

// Run measures what has passed [Config.Check]. A [Report] that is void is no error. If ctx ends there is none, and
// all servers have been stopped.
func Run(ctx context.Context, c Config, p Progress) (*Report, error) {
	place, err := server.Place()
	if err != nil {
		return nil, err
	}
	b := &bench{Config: c, place: place}
	if b.world, err = universe.New(ctx, c.Universe, p("signing domains", c.Universe.Domains)); err != nil {
		return nil, err
	}
	if b.upstream, err = upstream.Start(b.world, c.Delay); err != nil {
		return nil, err
	}
	defer b.upstream.Close()
	r := &Report{Started: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(place), Config: c}
	steps := c.Rounds * len(c.Servers) * len(c.workloads())
	if r.Samples, err = b.samples(ctx, p("measuring", steps)); err != nil {
		return nil, err
	}
	r.Unforeseen = b.world.Unforeseen()
	r.conclude()
	return r, nil
}

// samples has all servers do all workloads in turn, round by round.
func (b *bench) samples(ctx context.Context, done func()) (all []Sample, err error) {
	for round := range b.Rounds {
		for _, w := range b.workloads() {
			for i := range b.Servers {
				s := b.Servers[(i+round)%len(b.Servers)] // no server always comes after the same other
				sample, err := b.sample(ctx, s, w)
				if err != nil {
					return nil, err
				}
				sample.Round = round
				all = append(all, sample)
				done()
			}
		}
	}
	return all, nil
}

// settle is how long a server may go on with work of its own that a client's question has caused.
const settle = 200 * time.Millisecond

// sample starts a server, has it do what comes before a workload, and measures what that costs.
func (b *bench) sample(ctx context.Context, s server.Server, w workload) (Sample, error) {
	prepare, measured, err := w.scripts(b)
	if err != nil {
		return Sample{}, err
	}
	p, err := s.Start(ctx, server.Setup{Upstream: b.upstream.Addr(), Anchor: b.world.Anchor(), Place: b.place})
	if err != nil {
		return Sample{}, err
	}
	defer p.Stop()
	before, err := load.Run(ctx, p.Addr, prepare)
	if err != nil {
		return Sample{}, fmt.Errorf("%s: %w", s.Name, err)
	}
	time.Sleep(settle)
	runtime.GC() // of what asks, not while it measures
	sample, err := b.measure(ctx, p, measured)
	if err != nil {
		return Sample{}, fmt.Errorf("%s: %w", s.Name, err)
	}
	sample.Workload, sample.Server = w.name, s.Name
	if sample.Units = w.units(sample); sample.Units == 0 {
		return Sample{}, fmt.Errorf("%s answers nothing: %s", s.Name, sample.Example)
	}
	sample.Wrong, sample.Lost = before.Wrong+sample.Wrong, before.Lost+sample.Lost
	sample.Example = cmp.Or(before.Example, sample.Example)
	return sample, nil
}

// measure has a server do a script, and reads what it costs.
func (b *bench) measure(ctx context.Context, p *server.Process, script func() load.Script) (Sample, error) {
	asked := b.upstream.Asked()
	begun, err := p.Spent()
	if err != nil {
		return Sample{}, err
	}
	result, err := load.Run(ctx, p.Addr, script())
	if err != nil {
		return Sample{}, err
	}
	done, err := p.Spent()
	if err != nil {
		return Sample{}, err
	}
	time.Sleep(settle)
	settled, err := p.Spent()
	if err != nil {
		return Sample{}, err
	}
	rss, err := p.RSS()
	own, all := done.CPU-begun.CPU, done.Processor-begun.Processor
	return Sample{
		CPU: settled.CPU - begun.CPU, RSS: rss, Asked: b.upstream.Asked() - asked, Elapsed: result.Elapsed,
		Busy: share(own, result.Elapsed), Others: share(all-own, result.Elapsed),
		Replies: result.Replies, Wrong: result.Wrong, Lost: result.Lost, Example: result.Example,
	}, err
}

// share is how much of a time something took.
func share(part, of time.Duration) float64 { return max(0, float64(part)/float64(of)) }

// Machine is where a run was.
type Machine struct {
	CPU       string
	CPUs      int
	Kernel    string
	Shared    bool // the servers shared one processor with what asks them
	GoVersion string
}

func thisMachine(place server.Placement) Machine {
	m := Machine{CPUs: runtime.NumCPU(), Shared: place.Shared, GoVersion: runtime.Version()}
	if all, err := cpu.Info(); err == nil && len(all) > 0 {
		m.CPU = all[0].ModelName
	}
	m.Kernel, _ = host.KernelVersion() // without one the report has none
	return m
}

// workload is a kind of work.
type workload struct {
	name, title, unit string
	// scripts are what is asked before and while it is measured; the latter begins when it is called.
	scripts func(b *bench) (prepare load.Script, measured func() load.Script, err error)
	units   func(Sample) int
}

// Workloads are the kinds of work: hot, and cold.
var workloads = []workload{
	{"cold", "Cold: a domain never asked about before: MX, A, AAAA, TLSA", "domain", (*bench).cold, domains},
	{"hot", "Hot: cached answers, asked with DO=1 at saturation", "query", (*bench).hot, queries},
}

// Workloads are the names of all kinds of work.
func Workloads() (names []string) {
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

// Check says, in words, why there is no such run.
func (c Config) Check() error {
	for _, name := range c.Workloads {
		if !slices.Contains(Workloads(), name) {
			return fmt.Errorf("there is no workload %q, only %s", name, strings.Join(Workloads(), " and "))
		}
	}
	switch warm, all := c.warm(), c.Universe.Domains; {
	case c.Hot <= 0:
		return errors.New("cached answers are asked for during some time, not none")
	case c.InFlight < 1 || c.InFlight > load.MaxLines:
		return fmt.Errorf("from 1 to %d deliveries are under way at a time, not %d", load.MaxLines, c.InFlight)
	case all <= warm:
		return fmt.Errorf("there are too few domains, %d: %d are asked about before it is measured", all, warm)
	}
	return c.Universe.Check()
}

// workloads are those that the configuration names; all if it names none.
func (c Config) workloads() (all []workload) {
	for _, w := range workloads {
		if len(c.Workloads) == 0 || slices.Contains(c.Workloads, w.name) {
			all = append(all, w)
		}
	}
	return all
}

const (
	perDelivery = 4   // questions
	warmShare   = 20  // one domain of so many is asked about before, so that top-level domains and providers are known
	hotDomains  = 750 // whose answers are hot, as far as there are so many
	hotInFlight = 128 // few enough for a socket's buffer of the usual size
)

func domains(s Sample) int { return (s.Replies + s.Lost) / perDelivery }
func queries(s Sample) int { return s.Replies }

// warm is how many domains are asked about before the cold workload is measured.
func (c Config) warm() int { return max(c.Universe.Providers, c.Universe.Domains/warmShare) }

// cold asks about each domain once.
func (b *bench) cold() (load.Script, func() load.Script, error) {
	all, err := b.deliveries(b.Universe.Domains)
	if err != nil {
		return nil, nil, err
	}
	warm := b.warm()
	return &load.Deliveries{Domains: all[:warm], AtOnce: b.InFlight}, func() load.Script {
		return &load.Deliveries{Domains: all[warm:], AtOnce: b.InFlight}
	}, nil
}

// hot asks for what has been asked for before.
func (b *bench) hot() (load.Script, func() load.Script, error) {
	all, err := b.deliveries(min(hotDomains, b.Universe.Domains))
	if err != nil {
		return nil, nil, err
	}
	var questions []universe.Question
	for _, d := range all {
		questions = append(questions, d...)
	}
	return &load.Deliveries{Domains: all, AtOnce: hotInFlight}, func() load.Script {
		chance := rand.New(rand.NewPCG(b.Universe.Seed, 0))
		return &load.Hot{Questions: questions, AtOnce: hotInFlight, Until: time.Now().Add(b.Hot), Chance: chance}
	}, nil
}

// deliveries are the questions about the first domains.
func (b *bench) deliveries(n int) ([][]universe.Question, error) {
	all := make([][]universe.Question, n)
	for i := range all {
		var err error
		if all[i], err = b.world.Delivery(i); err != nil {
			return nil, err
		}
	}
	return all, nil
}
