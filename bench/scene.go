package bench

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
	"github.com/danelaw-dns/danelaw/bench/upstream"
)

// scene is a universe and its upstream.
type scene struct {
	*universe.Universe
	spec     universe.Spec
	upstream *upstream.Upstream
}

// scenes are built when they are first needed.
type scenes struct {
	progress Progress
	byName   map[string]*scene
}

func (s scenes) get(ctx context.Context, name string, spec universe.Spec, delay time.Duration) (*scene, error) {
	if at := s.byName[name]; at != nil {
		return at, nil
	}
	done := s.progress("signing domains: "+name, spec.Domains)
	u, err := universe.New(ctx, spec, func() { done(1) })
	if err != nil {
		return nil, err
	}
	up, err := upstream.Start(u, delay)
	if err != nil {
		return nil, err
	}
	s.byName[name] = &scene{u, spec, up}
	return s.byName[name], nil
}

func (s scenes) close() {
	for _, at := range s.byName {
		at.upstream.Close()
	}
}

// subject is a server that runs in front of a scene.
type subject struct {
	*server.Process
	at     *scene
	beside []*server.Process // what it needs, on the same processor: their costs are its own
}

// settle is how long a server may go on with work of its own that a client's question has caused.
const settle = 200 * time.Millisecond

// start starts a server in front of a scene.
func (b *bench) start(ctx context.Context, s server.Server, at *scene, more server.Setup) (*subject, error) {
	more.Upstream, more.Anchor, more.Place = at.upstream.Addr(), at.Anchor(), b.place
	p, err := s.Start(ctx, more)
	return &subject{p, at, nil}, err
}

// learn has the server learn what it is asked for later. It is asked few questions at once: of many equal ones that
// come together, PowerDNS Recursor 4.8 now and then answers one with SERVFAIL.
func (p *subject) learn(ctx context.Context, domains [][]universe.Question, into *Sample) error {
	result, err := load.Run(ctx, p.Addr, &load.Deliveries{Domains: domains, AtOnce: newInFlight})
	into.count(result)
	return err
}

// suddenly asks all questions at the same time. That there is no answer is a result; a wrong one is counted.
func (p *subject) suddenly(ctx context.Context, questions []universe.Question, into *Sample) (load.Result, error) {
	var each [][]universe.Question
	for q := range slices.Chunk(questions, 1) {
		each = append(each, q)
	}
	result, err := load.Run(ctx, p.Addr, &load.Deliveries{Domains: each, AtOnce: len(each)})
	into.countWrong(result)
	return result, err
}

// measure has a server do a script, and reads what it costs by domain or query: units says how many these are.
func (p *subject) measure(ctx context.Context, s load.Script, units func(load.Result) int) (Sample, error) {
	return p.spend(units, func() (load.Result, error) { return load.Run(ctx, p.Addr, s) })
}

// Spent is that of all processes.
func (p *subject) Spent() (server.Spent, error) {
	all, err := p.Process.Spent()
	for _, other := range p.beside {
		spent, failed := other.Spent()
		all.CPU, err = all.CPU+spent.CPU, cmp.Or(err, failed)
	}
	return all, err
}

// RSS is that of all processes.
func (p *subject) RSS() (uint64, error) {
	all, err := p.Process.RSS()
	for _, other := range p.beside {
		rss, failed := other.RSS()
		all, err = all+rss, cmp.Or(err, failed)
	}
	return all, err
}

// spend reads what it costs to answer what somebody asks.
func (p *subject) spend(units func(load.Result) int, ask func() (load.Result, error)) (Sample, error) {
	runtime.GC() // of what asks, not while it measures
	asked := p.at.upstream.Asked()
	begun, err := p.Spent()
	if err != nil {
		return Sample{}, err
	}
	start := time.Now()
	result, err := ask()
	if err != nil {
		return Sample{}, err
	}
	watched := time.Since(start) // longer than it took, where something is lost
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
	if err != nil {
		return Sample{}, err
	}
	n := float64(units(result))
	if n == 0 {
		return Sample{}, fmt.Errorf("it answers nothing: %s", result.Example)
	}
	own, all := done.CPU-begun.CPU, done.Processor-begun.Processor
	sample := Sample{Values: map[string]float64{ // README.md says what each is
		"units": n, "seconds": result.Elapsed.Seconds(),
		"cpu_us":     microseconds(settled.CPU-begun.CPU) / n,
		"per_second": n / result.Elapsed.Seconds(),
		"busy":       100 * share(own, result.Elapsed), "others": 100 * share(all-own, watched),
		"rss_mib": float64(rss) / (1 << 20), "asked": float64(p.at.upstream.Asked()-asked) / n,
		"p50_us": microseconds(result.Percentile(0.5)), "p99_us": microseconds(result.Percentile(0.99)),
		"octets": float64(result.Octets) / float64(max(1, result.Replies)),
	}}
	sample.count(result)
	return sample, nil
}
