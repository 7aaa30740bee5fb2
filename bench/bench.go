// Package bench measures what validation costs: resolvers in turn, on the same work, on a processor of their own.
// README.md says how to read what it prints.
package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/host"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

// Config says what is measured.
type Config struct {
	Universe  universe.Spec
	Servers   []server.Server
	Self      string        // the path of a danelaw, which is the echo, too
	Workloads []string      // of [Workloads]; none: all of them
	Rounds    int           // in each, every server does every workload once, but some in the first ones only
	Hot       time.Duration // how long a sample of cached answers lasts, and each phase of a flood
	InFlight  int           // deliveries at a time
	Delay     time.Duration // of the upstream's replies in the latency workload
	Answers   int           // that are cached in the memory workload
}

// Progress is told that something of so many steps begins; it returns what is called as they are done, by any
// goroutine.
type Progress func(what string, steps int) (done func(steps int))

// Sample is what one server did of one workload in one round.
type Sample struct {
	Workload string
	Server   string
	Round    int
	Values   map[string]float64 // by the keys of the workload's columns, and more
	Replies  int
	Wrong    int
	Failed   int // with SERVFAIL
	Lost     int
	Example  string // of what was wrong, failed or lost
	Fault    string // what else makes the run void
}

// bench is a run under way.
type bench struct {
	Config
	place     server.Placement
	scenes    scenes
	world     *scene                // that most workloads are in
	signature map[int]time.Duration // what a check of one costs, by algorithm
	octets    map[string]float64    // of the first server's mean reply, by the manner it was asked in
	town      *town                 // nil until it is needed
}

// Run measures what has passed [Config.Check]. A [Report] that is void is no error. If ctx ends, the report has what
// was measured until then and is Interrupted; if a server fails, it has that, too, and is void. All servers have been
// stopped then.
func Run(ctx context.Context, c Config, p Progress) (*Report, error) {
	place, err := server.Place()
	if err != nil {
		return nil, err
	}
	b := &bench{
		Config: c, place: place, scenes: scenes{p, map[string]*scene{}}, signature: map[int]time.Duration{},
		octets: map[string]float64{},
	}
	defer func() { b.scenes.close(); b.town.close() }()
	if b.world, err = b.scenes.get(ctx, "all", c.Universe, 0); err != nil {
		return nil, err
	}
	for _, algorithm := range c.Universe.Algorithms {
		if b.signature[algorithm], err = signatureCost(algorithm); err != nil {
			return nil, err
		}
	}
	r := &Report{Started: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(place), Config: c}
	err = b.samples(ctx, r)
	r.Unforeseen = b.world.Unforeseen()
	return r.end(ctx, err)
}

// samples has all servers do all workloads in turn, round by round.
func (b *bench) samples(ctx context.Context, r *Report) error {
	all, steps := b.workloads(), 0
	for _, w := range all {
		steps += w.seconds * min(b.Rounds, w.rounds) * len(b.contenders(w))
	}
	done := b.scenes.progress("measuring", steps)
	for round := range b.Rounds {
		for _, w := range all {
			if round >= w.rounds {
				continue
			}
			if err := b.turn(ctx, r, w, round, done); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn has all servers do a workload.
func (b *bench) turn(ctx context.Context, r *Report, w workload, round int, done func(int)) error {
	servers := b.contenders(w)
	for i := range servers {
		s := servers[(i+round)%len(servers)] // no server always comes after the same other
		samples, err := w.run(b, ctx, s)
		if errors.Is(err, server.ErrQuota) || errors.Is(err, server.ErrMissing) || errors.Is(err, server.ErrNetwork) {
			r.Skipped = append(r.Skipped, fmt.Sprintf("%s was not measured: %v", w.name, err))
			done(w.seconds * (len(servers) - i))
			return nil
		}
		if err != nil {
			return Sample{Workload: w.name, Server: s.Name, Round: round}.broken(err)
		}
		for _, sample := range samples {
			sample.Server, sample.Round = s.Name, round
			r.Samples = append(r.Samples, sample)
		}
		done(w.seconds)
	}
	return nil
}

// contenders are the servers that do a workload.
func (b *bench) contenders(w workload) []server.Server {
	all := slices.DeleteFunc(slices.Clone(b.Servers), func(s server.Server) bool {
		return w.name == policyWork && !s.Ours && !s.Postfix || w.name != policyWork && s.Postfix
	})
	if w.floor == server.EchoName {
		all = append(all, server.Echo(b.Self, 0))
	}
	return all
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// count adds what came of a script. As an example that a reply was wrong outweighs a failure.
func (s *Sample) count(r load.Result) {
	if s.Example == "" || s.Wrong == 0 && r.Wrong > 0 {
		s.Example = r.Example
	}
	s.Replies += r.Replies
	s.Wrong += r.Wrong
	s.Failed += r.Failed
	s.Lost += r.Lost
}

// countWrong adds what came of a script of which failures and losses are results.
func (s *Sample) countWrong(r load.Result) {
	wrong := load.Result{Replies: r.Replies, Wrong: r.Wrong}
	if r.Wrong > 0 {
		wrong.Example = r.Example
	}
	s.count(wrong)
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

// Check says, in words, why there is no such run.
func (c Config) Check() error {
	for _, name := range c.Workloads {
		if all := append(Workloads(), Floods()...); !slices.Contains(all, name) {
			return fmt.Errorf("there is no workload %q, only %s", name, strings.Join(all, ", "))
		}
	}
	switch warm, all := c.warm(), c.Universe.Domains; {
	case c.InFlight < 1 || c.InFlight > load.MaxLines:
		return fmt.Errorf("from 1 to %d deliveries are under way at a time, not %d", load.MaxLines, c.InFlight)
	case all <= warm:
		return fmt.Errorf("there are too few domains, %d: %d are asked about before it is measured", all, warm)
	}
	return c.Universe.Check()
}
