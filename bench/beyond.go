package bench

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

var restarted = []column{
	{"back_us", "after it: µs CPU/domain", "%.1f"}, {"back_ms", "ms for all", "%.0f"},
	{"back_asked", "upstream/domain", "%.2f"}, {"empty_us", "without: µs CPU/domain", "%.1f"},
	{"empty_ms", "ms for all", "%.0f"}, {"empty_asked", "upstream/domain", "%.2f"},
	{"first_us", "filled with it: µs CPU/domain", "%.1f"}, {"file_per_answer", "file octets/answer", "%.0f"},
	{"end_ms", "end ms", "%.0f"}, {"end_cpu_ms", "ms CPU", "%.0f"},
	{"write_p99_us", "20k/s: p99 µs, written meanwhile", "%.0f"}, {"reload_p99_us", "not written", "%.0f"},
}

var sharing = []column{
	{"warm_us", "redis knows all: µs CPU/domain", "%.1f"}, {"warm_p50_us", "p50 µs", "%.0f"},
	{"warm_asked", "upstream/domain", "%.2f"}, {"none_us", "without: µs CPU/domain", "%.1f"},
	{"none_p50_us", "p50 µs", "%.0f"}, {"none_asked", "upstream/domain", "%.2f"},
	{"miss_us", "knows nothing: µs CPU/domain", "%.1f"}, {"miss_p50_us", "p50 µs", "%.0f"},
	{"hangs_us", "hangs: µs CPU/domain", "%.1f"}, {"hangs_p50_us", "p50 µs", "%.0f"},
	{"hangs_p99_us", "p99 µs", "%.0f"},
}

var stale = []column{
	{"first_ms", "first: p50 ms", "%.0f"}, {"first_answered", "answered %", "%.1f"},
	{"again_cpu_us", "again: µs CPU/query", "%.1f"}, {"again_p50_us", "p50 µs", "%.0f"},
	{"again_per_second", "queries/s", "%.0f"}, {"off_ms", "without: ms for all", "%.0f"},
	{"off_answered", "answered %", "%.1f"}, {"hit_on_us", "µs CPU/hit with it", "%.2f"},
	{"hit_off_us", "without", "%.2f"},
}

// memories measures what danelaw remembers beyond its process and past TTLs.
type memories struct{ b *bench }

// ours is a workload of what danelaw alone has; of others nothing is measured.
func ours(
	run func(memories, context.Context, server.Server) ([]Sample, error),
) func(*bench, context.Context, server.Server) ([]Sample, error) {
	return func(b *bench, ctx context.Context, s server.Server) ([]Sample, error) {
		if !s.Ours {
			return nil, nil
		}
		return run(memories{b}, ctx, s)
	}
}

// beyond are the domains that are asked about in the workloads of memory that outlives or is shared, at most.
const beyond = 2000

// about asks a server about all domains, and notes what that costs under keys that begin with a prefix.
func (m memories) about(ctx context.Context, p *subject, into *Sample, prefix string) error {
	all, err := m.b.world.deliveries(0, min(beyond, m.b.Universe.Domains))
	if err != nil {
		return err
	}
	sample, err := p.measure(ctx, &load.Deliveries{Domains: all, AtOnce: m.b.InFlight}, domains)
	if err != nil {
		return err
	}
	into.merge(sample)
	v := into.Values
	v[prefix+"_us"], v[prefix+"_ms"] = sample.Values["cpu_us"], 1000*sample.Values["seconds"]
	v[prefix+"_asked"] = sample.Values["asked"]
	v[prefix+"_p50_us"], v[prefix+"_p99_us"] = sample.Values["p50_us"], sample.Values["p99_us"]
	v["others"] = max(v["others"], sample.Values["others"])
	return nil
}

// alone starts a server, has it asked about all domains, and stops it.
func (m memories) alone(ctx context.Context, s server.Server, into *Sample, prefix string, options ...string) error {
	p, err := m.b.start(ctx, s, m.b.world, server.Setup{Options: options})
	if err != nil {
		return err
	}
	defer p.Stop()
	return m.about(ctx, p, into, prefix)
}

// restart fills a cache, ends the server, and begins again with what the cache file has; and without one.
func (m memories) restart(ctx context.Context, s server.Server) ([]Sample, error) {
	sample := Sample{Workload: "restart", Values: map[string]float64{}}
	dir, err := os.MkdirTemp("", "danelaw-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	kept := server.Setup{Dir: dir, Options: []string{"cache_file cache"}}
	if err := m.alone(ctx, s, &sample, "empty"); err != nil {
		return nil, err
	}
	if err := m.written(ctx, s, kept, &sample); err != nil {
		return nil, err
	}
	p, err := m.b.start(ctx, s, m.b.world, kept)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	return []Sample{sample}, m.about(ctx, p, &sample, "back")
}

// written fills a cache, and measures what it costs to write it: at the end of the process, and while it serves, when a
// reload names another file.
func (m memories) written(ctx context.Context, s server.Server, kept server.Setup, sample *Sample) error {
	p, err := m.b.start(ctx, s, m.b.world, kept)
	if err != nil {
		return err
	}
	if err = m.about(ctx, p, sample, "first"); err == nil {
		err = m.whileReloaded(ctx, p, kept, sample)
	}
	if err != nil {
		p.Stop()
		return err
	}
	before, err := p.Spent()
	begun := time.Now()
	p.Stop()
	if err != nil {
		return err
	}
	sample.Values["end_ms"] = microseconds(time.Since(begun)) / 1000
	sample.Values["end_cpu_ms"] = microseconds(p.Total()-before.CPU) / 1000
	file, err := os.Stat(filepath.Join(kept.Dir, "cache"))
	if err != nil {
		return err
	}
	all, err := m.b.world.deliveries(0, min(beyond, m.b.Universe.Domains))
	if err != nil {
		return err
	}
	sample.Values["file_per_answer"] = float64(file.Size()) / float64(len(distinct(flat(all))))
	return nil
}

// reloadedAt is the rate of questions while a server is reloaded.
const reloadedAt = 20_000

// whileReloaded asks for what is cached while the server is reloaded: with the same options, and with those that have
// it write what it knows into the file that it had, and go on with another, and back.
func (m memories) whileReloaded(ctx context.Context, p *subject, kept server.Setup, sample *Sample) error {
	known, err := m.b.world.deliveries(0, min(hotDomains, m.b.Universe.Domains))
	if err != nil {
		return err
	}
	for _, reload := range []struct{ key, file string }{
		{"reload_p99_us", "cache"}, {"write_p99_us", "other"}, {"", "cache"},
	} {
		setup := kept
		setup.Upstream, setup.Anchor = p.at.upstream.Addr(), p.at.Anchor()
		setup.Options = []string{"cache_file " + reload.file}
		failed := make(chan error, 1)
		timer := time.AfterFunc(m.b.Hot/4, func() { failed <- p.Reload(setup) })
		script := load.Steady{Hot: m.b.drawn(keepable(known)), Rate: reloadedAt}
		measured, err := p.measure(ctx, &script, queries)
		if timer.Stop() {
			failed <- nil // the context has ended
		}
		if err := <-failed; err != nil {
			return err
		}
		if err != nil {
			return err
		}
		time.Sleep(settle)
		sample.Values["reload_lost"] += float64(measured.Lost) // a result, as in hot at a rate
		measured.Lost = 0
		if sample.merge(measured); reload.key != "" {
			sample.Values[reload.key] = measured.Values["p99_us"]
		}
	}
	return nil
}

// shared has danelaws begin empty beside a redis that knows all, nothing, and hangs, and without one.
func (m memories) shared(ctx context.Context, s server.Server) ([]Sample, error) {
	redis, err := server.StartRedis()
	if err != nil {
		return nil, err
	}
	defer redis.Stop()
	sample, beside := Sample{Workload: "shared", Values: map[string]float64{}}, "shared_cache unix://"+redis.Socket()
	for _, part := range []struct {
		key     string
		options []string
	}{{"none", nil}, {"miss", []string{beside}}, {"warm", []string{beside}}} {
		if err := m.alone(ctx, s, &sample, part.key, part.options...); err != nil {
			return nil, err
		}
	}
	if err := redis.Hang(); err != nil {
		return nil, err
	}
	return []Sample{sample}, m.alone(ctx, s, &sample, "hangs", beside)
}

// ended are the questions that are asked once their TTL has ended.
const ended = 100 // domains

// stale asks for what was known while the upstream is silent, and measures hits with and without it.
func (m memories) stale(ctx context.Context, s server.Server) ([]Sample, error) {
	spec := m.b.Universe
	spec.Domains, spec.Insecure = min(ended+m.b.warm(), spec.Domains), 0
	spec.Providers = min(spec.Providers, spec.Domains)
	at, err := m.b.scenes.get(ctx, "stale", spec, 0)
	if err != nil {
		return nil, err
	}
	sample := Sample{Workload: "stale", Values: map[string]float64{}}
	for _, on := range []bool{true, false} {
		options, prefix := []string{"cache_ttl 0s 1s"}, "off"
		if on {
			options, prefix = append(options, "serve_stale"), "first"
		}
		if err := m.silent(ctx, s, at, &sample, prefix, options); err != nil {
			return nil, err
		}
	}
	for key, options := range map[string][]string{"hit_on_us": {"serve_stale"}, "hit_off_us": nil} {
		if sample.Values[key], err = m.hitCost(ctx, s, &sample, options); err != nil {
			return nil, err
		}
	}
	return []Sample{sample}, nil
}

// silent has a server learn answers of a TTL of one second, and asks for them when that has ended and nobody answers.
func (m memories) silent(ctx context.Context, s server.Server, at *scene, into *Sample, prefix string, options []string,
) error {
	p, err := m.b.start(ctx, s, at, server.Setup{Options: options})
	if err != nil {
		return err
	}
	defer p.Stop()
	all, err := at.deliveries(0, min(ended, at.spec.Domains))
	if err != nil {
		return err
	}
	known := slices.DeleteFunc(flat(all), func(q universe.Question) bool {
		return q.Type != dns.TypeMX && q.Type != dns.TypeA
	})
	if err := p.learn(ctx, all, into); err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // the TTL, and the second in which it ends
	at.upstream.Silence(true)
	defer at.upstream.Silence(false)
	first, err := p.suddenly(ctx, known, into)
	if err != nil {
		return err
	}
	v := into.Values
	v[prefix+"_answered"] = 100 * float64(first.Right()) / float64(first.Replies+first.Lost)
	if v[prefix+"_ms"] = microseconds(first.Elapsed) / 1000; prefix == "off" {
		return nil
	}
	v[prefix+"_ms"] = microseconds(first.Percentile(0.5)) / 1000
	hot := m.b.drawn(known)
	again, err := p.measure(ctx, &hot, queries)
	if err != nil {
		return err
	}
	into.merge(again)
	for _, key := range []string{"cpu_us", "p50_us", "per_second"} {
		v["again_"+key] = again.Values[key]
	}
	return nil
}

// hitCost is what a cached answer costs with some options.
func (m memories) hitCost(ctx context.Context, s server.Server, into *Sample, options []string) (float64, error) {
	few, err := m.b.world.deliveries(0, min(hotDomains, m.b.Universe.Domains))
	if err != nil {
		return 0, err
	}
	p, err := m.b.start(ctx, s, m.b.world, server.Setup{Options: options})
	if err != nil {
		return 0, err
	}
	defer p.Stop()
	if err := p.learn(ctx, few, into); err != nil {
		return 0, err
	}
	time.Sleep(settle)
	hot := m.b.drawn(keepable(few))
	sample, err := p.hits(ctx, &hot)
	into.merge(sample)
	return sample.Values["cpu_us"], err
}
