package bench

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

// workload is a kind of work. One run of a server may fill several tables.
type workload struct {
	name    string
	seconds int    // that a server takes for it, about
	rounds  int    // at most
	floor   string // the server that is measured too, as none is cheaper; "" without
	run     func(b *bench, ctx context.Context, s server.Server) ([]Sample, error)
	tables  []table
}

// table is what is shown of a kind of sample.
type table struct {
	workload string // of the samples
	title    string
	columns  []column // the first is what servers are compared by; less is better
	unserved verdict  // what is void where replies fail or are lost
}

// verdict is what does not count.
type verdict int

const (
	wholeRun verdict = iota
	oneRow           // of the server that cannot keep up with a rate: others can
	nothing          // they are a result
)

// column is a value of samples.
type column struct{ key, head, form string }

const (
	often = 1 << 10
	once  = 1
)

var cached = []column{
	{"cpu_us", "µs CPU/query", "%.1f"}, {"per_second", "queries/s", "%.0f"}, {"p50_us", "p50 µs", "%.0f"},
	{"p99_us", "p99 µs", "%.0f"}, {"lost_share", "lost %", "%.2f"}, {"busy", "busy %", "%.0f"},
}

var perDomain = []column{
	{"cpu_us", "µs CPU/domain", "%.1f"}, {"rest_us", "but signatures", "%.1f"}, {"per_second", "domains/s", "%.0f"},
	{"signatures", "signatures/s", "%.0f"}, {"asked", "upstream/domain", "%.2f"}, {"busy", "busy %", "%.0f"},
	{"rss_mib", "RSS MiB", "%.0f"},
}

// workloads are the kinds of work.
var workloads = []workload{
	{"cold", 5, often, "", (*bench).cold, []table{
		{workload: "cold", title: "Cold: a domain never asked about before: MX, A, AAAA, TLSA", columns: perDomain},
	}},
	{"hot", 18, often, server.EchoName, (*bench).hot, []table{
		{workload: "hot", title: "Hot: cached answers, asked with DO=1 at saturation", columns: cached},
		{workload: "hot-do0", title: "Hot, asked without EDNS, as programs in a cluster do", columns: cached},
		{workload: "hot-ede", title: "Hot, answers of which danelaw has something to say (EDE 1)", columns: cached},
		{workload: "hot-20k", title: "Hot, 20,000 queries/s", columns: cached, unserved: oneRow},
		{workload: "hot-60k", title: "Hot, 60,000 queries/s", columns: cached, unserved: oneRow},
	}},
	{"quarter", 14, once, "", (*bench).quarter, []table{{
		workload: "quarter", title: "Cold, with a quarter of a processor", unserved: nothing, columns: []column{
			{"cpu_us", "µs CPU/domain", "%.1f"}, {"per_second", "domains/s", "%.0f"}, {"failed", "SERVFAIL", "%.0f"},
			{"lost", "lost", "%.0f"}, {"p50_us", "p50 µs", "%.0f"}, {"p99_us", "p99 µs", "%.0f"},
		},
	}}},
	{"latency", 10, 2, "", (*bench).latency, []table{{
		workload: "latency", title: "Latency: a delivery's questions behind a slow upstream, in ms and round trips",
		columns: []column{
			{"own_ms", "own host", "%.1f"}, {"own_trips", "trips", "%.1f"}, {"shared_ms", "shared", "%.1f"},
			{"shared_trips", "trips", "%.1f"}, {"insecure_ms", "insecure", "%.1f"}, {"insecure_trips", "trips", "%.1f"},
			{"empty_ms", "empty cache", "%.1f"}, {"empty_trips", "trips", "%.1f"},
		},
	}}},
	{"memory", 50, once, "", (*bench).memory, []table{{
		workload: "memory", title: "Memory: of answers that are served as hits, and what hits cost as they grow",
		columns: []column{
			{"rss_per_answer", "octets/answer", "%.0f"}, {"rss_mib", "RSS MiB", "%.0f"}, {"empty_mib", "empty", "%.0f"},
			{"answers", "answers", "%.0f"}, {"cpu_us_few", "µs CPU/hit at 3k", "%.1f"},
			{"cpu_us_some", "at 30k", "%.1f"}, {"cpu_us_all", "at all", "%.1f"}, {"growth", "all/3k", "%.2f"},
		},
	}}},
	{"algorithms", 25, once, "", (*bench).algorithms, kinds()},
	{"restart", 20, often, "", ours(memories.restart), []table{{
		workload: "restart", title: "Restart: all is asked again after it, with and without cache_file",
		columns: restarted,
	}}},
	{"shared", 25, often, "", ours(memories.shared), []table{{
		workload: "shared", title: "Shared cache: a danelaw that begins empty beside a redis", columns: sharing,
	}}},
	{"stale", 30, often, "", ours(memories.stale), []table{{
		workload: "stale", title: "Upstream silent: MX and A whose TTL has ended, with and without serve_stale",
		columns: stale,
	}}},
	{policyWork, 20, often, "", (*bench).policy, []table{
		{workload: "policy", title: "Policy: what Postfix is told of domains whose MTA-STS is in force, cached",
			columns: postfixed},
		{workload: "policy-mixed", title: "Policy, of all domains, of which many have DANE or nothing",
			columns: postfixed},
		{workload: "policy-rate", title: "Policy, 1,000 requests/s", columns: postfixed},
		{workload: "policy-cold", title: "Policy of a domain never asked about before: DNS, TLS and the file",
			columns: firstAsked},
	}},
}

// policyWork is the workload that servers do who tell Postfix of policies.
const policyWork = "policy"

func init() {
	for _, f := range floods {
		workloads = append(workloads, f.workload())
	}
}

// against are what a resolver that runs already is measured by.
var against = []struct {
	manner
	table
}{
	{manner{workload: "against"}, table{title: "Cached answers, at saturation"}},
	{manner{workload: "against-20k", rate: 20_000}, table{title: "Cached answers, 20,000 queries/s", unserved: oneRow}},
	{manner{workload: "against-60k", rate: 60_000}, table{title: "Cached answers, 60,000 queries/s", unserved: oneRow}},
}

var answering = []column{
	{"p99_us", "p99 µs", "%.0f"}, {"p50_us", "p50 µs", "%.0f"}, {"per_second", "queries/s", "%.0f"},
	{"lost_share", "lost %", "%.2f"}, {"questions", "questions", "%.0f"},
	{"first_p50_us", "first asked: p50 µs", "%.0f"}, {"first_p99_us", "p99 µs", "%.0f"},
}

// Workloads are the names of all kinds of work; that of all floods is one.
func Workloads() (names []string) {
	for _, w := range workloads {
		if !strings.HasPrefix(w.name, ofFlood) {
			names = append(names, w.name)
		}
	}
	return append(names, flooding)
}

// Floods are the names of single floods, which are workloads, too.
func Floods() (names []string) {
	for _, f := range floods {
		names = append(names, ofFlood+f.name)
	}
	return names
}

// workloads are those that the configuration names; all if it names none.
func (c Config) workloads() (all []workload) {
	for _, w := range workloads {
		named := slices.Contains(c.Workloads, w.name) ||
			strings.HasPrefix(w.name, ofFlood) && slices.Contains(c.Workloads, flooding)
		if len(c.Workloads) == 0 || named {
			all = append(all, w)
		}
	}
	return all
}

const (
	perDelivery  = 4   // questions
	warmShare    = 20  // one domain of so many is asked about before, so that top-level domains and providers are known
	hotDomains   = 750 // whose answers are hot, as far as there are so many
	hotInFlight  = 128 // few enough for a socket's buffer of the usual size
	newInFlight  = 8   // see learn
	quarterShare = 4   // one domain of so many is asked about in the quarter workload
)

func domains(r load.Result) int { return (r.Replies + r.Lost) / perDelivery }
func queries(r load.Result) int { return r.Replies }

// warm is how many domains are asked about before the cold workload is measured.
func (c Config) warm() int { return max(c.Universe.Providers, c.Universe.Domains/warmShare) }

// cold asks about each domain once.
func (b *bench) cold(ctx context.Context, s server.Server) ([]Sample, error) {
	sample, err := b.coldIn(ctx, s, b.world, server.Setup{}, b.Universe.Domains)
	sample.Workload = "cold"
	return []Sample{sample}, err
}

// quarter is cold with a quarter of a processor.
func (b *bench) quarter(ctx context.Context, s server.Server) ([]Sample, error) {
	last := b.warm() + max(1, (b.Universe.Domains-b.warm())/quarterShare)
	sample, err := b.coldIn(ctx, s, b.world, server.Setup{Quota: 0.25}, last)
	if err != nil {
		return nil, err
	}
	sample.Workload = "quarter"
	sample.Values["failed"], sample.Values["lost"] = float64(sample.Failed), float64(sample.Lost)
	return []Sample{sample}, nil
}

// coldIn asks about each domain of a scene up to some one.
func (b *bench) coldIn(ctx context.Context, s server.Server, at *scene, setup server.Setup, last int) (Sample, error) {
	warm := max(at.spec.Providers, at.spec.Domains/warmShare)
	all, err := at.deliveries(0, last)
	if err != nil {
		return Sample{}, err
	}
	p, err := b.start(ctx, s, at, setup)
	if err != nil {
		return Sample{}, err
	}
	defer p.Stop()
	var before Sample
	if err := p.learn(ctx, all[:warm], &before); err != nil {
		return Sample{}, err
	}
	time.Sleep(settle)
	sample, err := p.measure(ctx, &load.Deliveries{Domains: all[warm:], AtOnce: b.InFlight}, domains)
	if err != nil {
		return Sample{}, err
	}
	sample.merge(before)
	return sample, b.checked(at, &sample, warm, last)
}

// checked adds what signatures have to do with it.
func (b *bench) checked(at *scene, s *Sample, warm, last int) error {
	n, err := at.Signatures(warm, last)
	if err != nil {
		return err
	}
	var each time.Duration
	for _, algorithm := range at.spec.Algorithms {
		each += b.signature[algorithm] / time.Duration(len(at.spec.Algorithms))
	}
	s.Values["signatures"] = float64(n) / s.Values["seconds"]
	s.Values["floor_us"] = float64(n) * microseconds(each) / s.Values["units"]
	s.Values["rest_us"] = s.Values["cpu_us"] - s.Values["floor_us"]
	return nil
}

// deliveries are the questions about some domains.
func (s *scene) deliveries(from, to int) ([][]universe.Question, error) {
	all := make([][]universe.Question, to-from)
	for i := range all {
		var err error
		if all[i], err = s.Delivery(from + i); err != nil {
			return nil, err
		}
	}
	return all, nil
}
