package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

// flood is what attackers ask while mail is sent.
type flood struct {
	name  string
	title string
	trap  string // of the universe
	rate  int    // questions per second: one that a resolver of today should stand
	full  int    // and more than it can; 0: as many as it answers, with floodAlong of them under way
}

var floods = []flood{
	{"bogus", "names whose signatures are broken", "bogus", 300, 0},
	{"keytrap", "60 keys of one tag (CVE-2023-50387)", "keytrap", 50, 0},
	{"nsec3", "names of 60 labels, 50 iterations (CVE-2023-50868)", "nsec3", 50, 0},
	{"many", "a wildcard with 50 records", "many", 500, 0},
	{"signed", "random names in a signed zone", "signed", 2_000, 0},
	{"opt-out", "random names in a zone with opt-out", "optout", 2_000, 0},
	{"hanging", "names for which there is no answer", "silent", 100, 1_000},
	{"capacity", "random names in a signed zone, more than the machine can do", "signed", 10_000, 30_000},
}

const (
	mailRate   = 2_000 // cached questions of mail per second
	floodAlong = 500   // questions of the flood under way where it keeps the processor busy
)

// The name of all floods, and how those of single ones begin.
const (
	flooding = "flood"
	ofFlood  = flooding + "-"
)

// The phases of a flood: mail alone, beside the flood's rate, and beside as much as it can be.
const (
	quietPhase = "quiet"
	ratePhase  = "rate"
	fullPhase  = "full"
)

var phases = []string{quietPhase, ratePhase, fullPhase}

// workload has a server stand it.
func (f flood) workload() workload {
	run := func(b *bench, ctx context.Context, s server.Server) ([]Sample, error) {
		sample, err := b.flooded(ctx, s, f)
		return []Sample{sample}, err
	}
	return workload{ofFlood + f.name, 10, once, "", run, []table{{
		workload: ofFlood + f.name, unserved: nothing,
		title: "Flood: " + f.title + "; 2,000 cached questions of mail per second beside it",
		columns: []column{
			{"full_p99_us", "full: mail p99 µs", "%.0f"}, {"full_lost", "mail lost %", "%.2f"},
			{"full_goodput", "flood right/s", "%.0f"}, {"full_busy", "busy %", "%.0f"},
			{"rate_p99_us", "rate: mail p99 µs", "%.0f"}, {"rate_lost", "mail lost %", "%.2f"},
			{"rate_goodput", "flood right/s", "%.0f"}, {"quiet_p99_us", "quiet: mail p99 µs", "%.0f"},
			{"rss_mib", "RSS MiB", "%.0f"},
		},
	}}}
}

// flooded asks mail's questions alone, beside a flood of a rate, and beside one as large as it can be.
func (b *bench) flooded(ctx context.Context, s server.Server, f flood) (Sample, error) {
	few, err := b.world.deliveries(0, min(hotDomains, b.Universe.Domains))
	if err != nil {
		return Sample{}, err
	}
	p, err := b.start(ctx, s, b.world, server.Setup{})
	if err != nil {
		return Sample{}, err
	}
	defer p.Stop()
	sample := Sample{Workload: "flood-" + f.name, Values: map[string]float64{}}
	if err := p.learn(ctx, few, &sample); err != nil {
		return Sample{}, err
	}
	chance := rand.New(rand.NewPCG(b.Universe.Seed, 1))
	attack := attack{ask: universe.Flood(f.trap, chance)}
	attacks := map[string]load.Script{ratePhase: &steadyAttack{attack, f.rate}, fullPhase: &attack}
	if f.full > 0 {
		attacks[fullPhase] = &steadyAttack{attack, f.full}
	}
	for _, phase := range phases {
		if err := b.beside(ctx, p, &sample, phase, flat(few), attacks[phase]); err != nil {
			return Sample{}, err
		}
	}
	rss, err := p.RSS()
	sample.Values["rss_mib"] = float64(rss) / (1 << 20)
	return sample, err
}

// beside asks mail's questions while an attack, if there is one, is under way.
func (b *bench) beside(ctx context.Context, p *subject, s *Sample, key string, mail []universe.Question,
	attack load.Script) error {
	under, stop := context.WithCancel(ctx)
	defer stop()
	type outcome struct {
		load.Result
		err error
	}
	attacked := make(chan outcome, 1)
	go func() {
		if attack == nil {
			attacked <- outcome{}
			return
		}
		r, err := load.Run(under, p.Addr, attack)
		attacked <- outcome{r, err}
	}()
	time.Sleep(settle)
	since := time.Now()
	begun, _ := p.Spent() // what it has cost is for information
	result, err := load.Run(ctx, p.Addr, &load.Steady{Hot: b.drawn(mail), Rate: mailRate})
	done, _ := p.Spent()
	lasted := time.Since(since) // also until what is lost was given up
	stop()
	end := <-attacked
	s.Values[key+"_busy"] = 100 * share(done.CPU-begun.CPU, lasted)
	if err != nil || end.err != nil && !errors.Is(end.err, context.Canceled) {
		return errors.Join(err, end.err)
	}
	s.count(result)
	s.countWrong(end.Result)
	if result.Right() > 0 {
		s.Values[key+"_p99_us"] = microseconds(result.Percentile(0.99))
	}
	s.Values[key+"_late_p99_us"] = microseconds(result.Lateness(0.99))
	s.Values[key+"_lost"] = 100 * (1 - float64(result.Right())/float64(result.Replies+result.Lost))
	if attack != nil {
		s.Values[key+"_goodput"] = float64(end.Right()) / end.Elapsed.Seconds()
	}
	return nil
}

// attack is a script that ends when it is stopped.
type attack struct{ ask func() *universe.Question }

// Lines implements [load.Script].
func (attack) Lines() int { return floodAlong }

// Next implements [load.Script].
func (a attack) Next(int) *universe.Question { return a.ask() }

// steadyAttack is an attack of a rate.
type steadyAttack struct {
	attack
	rate int
}

// Lines implements [load.Script].
func (steadyAttack) Lines() int { return load.MaxLines }

// Interval implements [load.Paced].
func (a steadyAttack) Interval() time.Duration { return time.Second / time.Duration(a.rate) }
