package bench

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

const (
	distant      = 500 // domains of the universe behind a slow upstream
	perProvider  = 60  // of them for each provider
	perKind      = 60  // deliveries of each kind
	distantFlows = 4   // of them at a time, so that nobody waits for a processor
)

// latency measures how long a delivery's questions take, one after the other, when the upstream is far away.
func (b *bench) latency(ctx context.Context, s server.Server) ([]Sample, error) {
	spec := b.Universe
	spec.Domains, spec.Providers = distant, distant/perProvider
	at, err := b.scenes.get(ctx, "latency", spec, b.Delay)
	if err != nil {
		return nil, err
	}
	p, err := b.start(ctx, s, at, server.Setup{})
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	warm, kinds := at.kinds()
	sample := Sample{Workload: "latency", Values: map[string]float64{}}
	note := func(kind string, domains ...int) error {
		took, result, err := p.deliver(ctx, domains)
		sample.count(result)
		sample.Values[kind+"_ms"] = microseconds(took) / 1000
		sample.Values[kind+"_trips"] = float64(took) / float64(b.Delay)
		return err
	}
	if err := note("empty", warm[0]); err != nil {
		return nil, err
	}
	if err := note("warm", warm[1:]...); err != nil {
		return nil, err
	}
	for kind, domains := range kinds {
		if err := note(kind, domains...); err != nil {
			return nil, err
		}
	}
	return []Sample{sample}, nil
}

// kinds are domains of each kind, and those that are asked about before: the providers first.
func (s *scene) kinds() (warm []int, kinds map[string][]int) {
	kinds = map[string][]int{}
	for i := range s.spec.Domains {
		d, kind := s.Domain(i), ""
		switch {
		case i < max(s.spec.Providers, s.spec.Domains/warmShare):
			warm = append(warm, i)
			continue
		case !d.Secure && !d.Shared:
			kind = "insecure"
		case d.Secure && d.Shared:
			kind = "shared"
		case d.Secure:
			kind = "own"
		}
		if kind != "" && len(kinds[kind]) < perKind {
			kinds[kind] = append(kinds[kind], i)
		}
	}
	return warm, kinds
}

// deliver asks what deliveries to some domains ask, and returns how long the middle one took.
func (p *subject) deliver(ctx context.Context, domains []int) (time.Duration, load.Result, error) {
	script := &load.Deliveries{AtOnce: distantFlows}
	for _, i := range domains {
		questions, err := p.at.Delivery(i)
		if err != nil {
			return 0, load.Result{}, err
		}
		script.Domains = append(script.Domains, questions)
	}
	result, err := load.Run(ctx, p.Addr, script)
	if err != nil || len(script.Took) == 0 {
		return 0, result, err
	}
	slices.Sort(script.Took)
	return script.Took[len(script.Took)/2], result, nil
}

// octets of a cache for each answer, so that none is thrown away.
const perAnswer = 5 << 10

const allOfThem = 0 // answers

// stages are how many answers are cached when hits are measured, if there are so many, and the ends of the keys of
// that.
var stages = []struct {
	answers int
	key     string
}{{3_000, "few"}, {30_000, "some"}, {allOfThem, "all"}}

// memory fills a server's cache, asks for all of it again, and measures hits as it grows.
func (b *bench) memory(ctx context.Context, s server.Server) ([]Sample, error) {
	spec := b.Universe
	distinct := 1 + float64(perDelivery-1)*(1-spec.Shared) // answers that are asked for the first time, by domain
	spec.Domains = max(spec.Domains, int(float64(b.Answers)/distinct))
	at, err := b.scenes.get(ctx, "memory", spec, 0)
	if err != nil {
		return nil, err
	}
	p, err := b.start(ctx, s, at, server.Setup{CacheMiB: max(256, b.Answers*perAnswer>>20)})
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	empty, err := p.RSS()
	if err != nil {
		return nil, err
	}
	sample := Sample{Workload: "memory", Values: map[string]float64{"empty_mib": float64(empty) / (1 << 20)}}
	if err := b.grow(ctx, p, &sample, distinct); err != nil {
		return nil, err
	}
	return []Sample{sample}, p.remembered(ctx, &sample)
}

// grow asks about more and more domains, and measures hits in between.
func (b *bench) grow(ctx context.Context, p *subject, all *Sample, distinct float64) error {
	at := p.at
	from := 0
	for _, stage := range stages {
		to := int(float64(stage.answers) / distinct)
		if stage.answers == allOfThem {
			to = at.spec.Domains
		}
		if to > at.spec.Domains {
			continue
		}
		more, err := at.deliveries(from, to)
		if err != nil {
			return err
		}
		if err := p.learn(ctx, more, all); err != nil {
			return err
		}
		from = to
		known, err := at.deliveries(0, to)
		if err != nil {
			return err
		}
		time.Sleep(settle)
		hot := b.drawn(keepable(known))
		sample, err := p.hits(ctx, &hot)
		if err != nil {
			return err
		}
		all.merge(sample)
		all.Values["cpu_us_"+stage.key] = sample.Values["cpu_us"]
	}
	if few, ok := all.Values["cpu_us_few"]; ok {
		all.Values["growth"] = all.Values["cpu_us_all"] / few
	}
	return nil
}

// merge adds what became of the replies of another sample.
func (s *Sample) merge(other Sample) {
	s.count(load.Result{
		Replies: other.Replies, Wrong: other.Wrong, Failed: other.Failed, Lost: other.Lost, Example: other.Example,
	})
	if s.Fault == "" {
		s.Fault = other.Fault
	}
}

// distinct are the questions that have answers of their own, by name and type.
func distinct(all []universe.Question) map[string]bool {
	keys := map[string]bool{}
	for _, q := range all {
		keys[fmt.Sprint(strings.ToLower(q.Name), q.Type)] = true
	}
	return keys
}

// remembered asks once more for everything, which has to be served from memory, and reads how large that is.
func (p *subject) remembered(ctx context.Context, s *Sample) error {
	all, err := p.at.deliveries(0, p.at.spec.Domains)
	if err != nil {
		return err
	}
	var again [][]universe.Question
	for q := range slices.Chunk(keepable(all), perDelivery) {
		again = append(again, q)
	}
	sample, err := p.hits(ctx, &load.Deliveries{Domains: again, AtOnce: hotInFlight})
	if err != nil {
		return err
	}
	s.merge(sample)
	rss, n := sample.Values["rss_mib"], float64(len(distinct(flat(all))))
	s.Values["rss_mib"], s.Values["answers"] = rss, n
	s.Values["rss_per_answer"] = (rss - s.Values["empty_mib"]) * (1 << 20) / n
	return nil
}

// ofAlgorithm is how many domains the universe for each algorithm and kind of denial has.
const ofAlgorithm = 1000

var (
	algorithms = []int{13, 8, 10, 14, 15}
	ways       = []universe.Denial{universe.NSEC, universe.NSEC3, universe.OptOut}
)

// kinds are the tables of the algorithms workload, one for each kind of denial.
func kinds() (all []table) {
	for _, way := range ways {
		t := table{workload: "algorithms-" + string(way)}
		t.title = fmt.Sprintf("Cold by algorithm, names denied by %s: µs CPU/domain", way)
		for _, algorithm := range algorithms {
			n := strconv.Itoa(algorithm)
			t.columns = append(t.columns, column{"cpu_us_" + n, "algorithm " + n, "%.1f"},
				column{"times_" + n, "× " + Floor, "%.2f"})
		}
		all = append(all, t)
	}
	return all
}

// ofAlgorithm adds what was measured with one algorithm.
func (s *Sample) ofAlgorithm(algorithm int, one Sample) {
	s.merge(one)
	one.Values["times"] = divided(one.Values["cpu_us"], one.Values["floor_us"])
	for _, key := range []string{"cpu_us", "rest_us", "signatures", "floor_us", "times"} {
		s.Values[fmt.Sprint(key, "_", algorithm)] = one.Values[key]
	}
}

// algorithms is cold with each algorithm and kind of denial.
func (b *bench) algorithms(ctx context.Context, s server.Server) (all []Sample, err error) {
	for _, way := range ways {
		total := Sample{Workload: "algorithms-" + string(way), Values: map[string]float64{}}
		for _, algorithm := range algorithms {
			spec := b.Universe
			spec.Domains = min(ofAlgorithm, spec.Domains)
			spec.Providers, spec.Algorithms = max(1, spec.Domains/perProvider), []int{algorithm}
			spec.Denial, spec.TopLevel = way, way
			at, err := b.scenes.get(ctx, fmt.Sprint("algorithm ", algorithm, " ", way), spec, 0)
			if err != nil {
				return nil, err
			}
			if b.signature[algorithm] == 0 {
				if b.signature[algorithm], err = signatureCost(algorithm); err != nil {
					return nil, err
				}
			}
			sample, err := b.coldIn(ctx, s, at, server.Setup{}, spec.Domains)
			if err != nil {
				return nil, err
			}
			total.ofAlgorithm(algorithm, sample)
		}
		all = append(all, total)
	}
	return all, nil
}
