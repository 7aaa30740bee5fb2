package danelaw

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// TestMetricsDocumented: README.md lists every metric with its labels, and nothing else.
func TestMetricsDocumented(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\* `(coredns_danelaw_\\w+\\{[^}]*\\})`").FindAllStringSubmatch(string(
		readme), -1) {
		got = append(got, strings.ReplaceAll(m[1], " ", ""))
	}
	var want []string
	for d := range described(collectors...) {
		m := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: (\{[^}]*\})`).FindStringSubmatch(d.String())
		want = append(want, m[1]+m[2])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("README.md has\n%s\nthe program\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// collectors are those of all metrics.
var collectors = []prometheus.Collector{
	responses, extendedErrors, cacheHits, cacheMisses, joined, synthesised, fetches, limitHits, signatureChecks,
	signaturesKnown, nsec3Hashes, distrusted, verdictChanges, panics, exhausted, recalled, sharedLooks, stale,
	upstreamQuestions, upstreamFailures, upstreamMismatches, responseDuration, upstreamDuration, shown,
	downgrades, policyAnswers, policyEnded, policyFetches, policyVanished,
	reloads, reloadFailed, buildInfo, notifications,
}

// described returns the descriptions of the metrics of collectors.
func described(of ...prometheus.Collector) chan *prometheus.Desc {
	descs := make(chan *prometheus.Desc, 100)
	for _, c := range of {
		c.Describe(descs)
	}
	close(descs)
	return descs
}

// TestMetricsLint: the linter of Prometheus has nothing to say about any metric.
func TestMetricsLint(t *testing.T) {
	var families []*dto.MetricFamily
	for d := range described(collectors...) {
		m := regexp.MustCompile(`fqName: "(\w+)", help: "([^"]+)"`).FindStringSubmatch(d.String())
		kind, metric := dto.MetricType_GAUGE, &dto.Metric{Gauge: new(dto.Gauge)}
		switch {
		case strings.HasSuffix(m[1], "_total"):
			kind, metric = dto.MetricType_COUNTER, &dto.Metric{Counter: new(dto.Counter)}
		case strings.HasSuffix(m[1], "_duration_seconds"):
			kind, metric = dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: new(dto.Histogram)}
		}
		families = append(families, &dto.MetricFamily{Name: &m[1], Help: &m[2], Type: &kind,
			Metric: []*dto.Metric{metric}})
	}
	gathered, err := prometheus.DefaultGatherer.Gather() // of the types that they have
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range gathered {
		if strings.HasPrefix(f.GetName(), "coredns_danelaw_") {
			f.Metric = f.Metric[:1] // the linter takes a minute for those of all tests before this one
			families = append(families, f)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(families) < 40 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestBuckets: the histograms tell 50 µs from less and more, as a cached answer takes, and see what comes as late as it
// may (L-10).
func TestBuckets(t *testing.T) {
	block := config(t).Block
	m := newMeter(block)
	m.replied(secure, dns.TypeMX, time.Now())
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			h := m.GetHistogram()
			if h == nil || !strings.HasPrefix(f.GetName(), "coredns_danelaw_") {
				continue
			}
			var bounds []float64
			for _, b := range h.GetBucket() {
				bounds = append(bounds, b.GetUpperBound())
			}
			if !slices.Contains(bounds, 50e-6) || bounds[0] >= 50e-6 || bounds[len(bounds)-1] < 4.5 {
				t.Errorf("%s has the buckets %v", f.GetName(), bounds)
			}
		}
	}
}

// TestTypes: replies are counted by the types that mail asks for, all others as one.
func TestTypes(t *testing.T) {
	for qtype, want := range map[uint16]string{
		dns.TypeMX: "mx", dns.TypeA: "a", dns.TypeAAAA: "aaaa", dns.TypeTLSA: "tlsa", dns.TypePTR: "ptr",
		dns.TypeTXT: "txt", dns.TypeNS: "other", 65280: "other",
	} {
		block := config(t).Block
		newMeter(block).replied(secure, qtype, time.Now())
		all := metric(t, "responses_total", "block", block)
		if n := metric(t, "responses_total", "block", block, "type", want); n != 1 || all != 1 {
			t.Errorf("type %d counts %v times as %s, %v times in all", qtype, n, want, all)
		}
	}
}

// TestEvictions: what is evicted from the cache to make room is counted, and the bound of the cache is shown.
func TestEvictions(t *testing.T) {
	c := config(t)
	c.CacheSize = 1 << 20
	h := started(t, c)
	if n := metric(t, "cache_limit_bytes", "block", c.Block); n != 1<<20 {
		t.Errorf("the bound is %v", n)
	}
	if n := metric(t, "cache_evictions_total", "block", c.Block); n != 0 {
		t.Errorf("%v evictions at the beginning", n)
	}
	w := from("127.0.0.1:5300")
	for i := 0; metric(t, "cache_evictions_total", "block", c.Block) == 0; i++ {
		for n := range 100 {
			w.ask(t, h, fmt.Sprintf("n%d-%d.%s", i, n, secureMX), dns.TypeMX, withDO)
		}
		if i == 100 {
			t.Fatal("ten thousand answers evict none of a cache of 1 MiB")
		}
	}
}

// TestMetrics: what happens is counted, under the block's name and with the labels that README.md gives.
func TestMetrics(t *testing.T) {
	p := between(t, honest)
	c := config(t, p.addr)
	h := started(t, c)
	eventually(t, "ready", h.Ready)
	server := serve(t, h)
	now := func(name string, labels ...string) float64 {
		return metric(t, name, append(labels, "block", c.Block)...)
	}
	fits := now("upstream_questions_total", "to", p.addr)
	if fits < 4 { // the fitness test alone asks four
		t.Errorf("%v questions upstream", fits)
	}
	for range 2 {
		ask(t, server, secureMX, dns.TypeMX, withDO)
		ask(t, server, insecureMX, dns.TypeMX, withDO)
		ask(t, server, bogusMX, dns.TypeMX, withDO)
		ask(t, server, "_25._tcp.mx.tlsa-servfail.dane.", dns.TypeTLSA, withDO)
		ask(t, server, "localhost.", dns.TypeA, withDO)
		ask(t, server, secureMX, dns.TypeAXFR, withDO)
		ask(t, server, secureMX, dns.TypeNXNAME, withDO)
		ask(t, server, "_25._tcp.mx.iterations.dane.", dns.TypeTLSA, withDO)
	}
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"responses_total", []string{"verdict", "secure"}, 2}, {"responses_total", []string{"verdict", "insecure"}, 4},
		{"responses_total", []string{"verdict", "bogus"}, 2}, {"responses_total", []string{"verdict", "indeterminate"},
			2},
		{"responses_total", []string{"verdict", "local"}, 2}, {"responses_total", []string{"verdict", "refused"}, 2},
		{"responses_total", []string{"verdict", "insecure", "type", "tlsa"}, 2},
		{"responses_total", []string{"type", "mx"}, 6},
		{"responses_total", []string{"type", "a"}, 2}, {"responses_total", []string{"type", "other"}, 4},
		{"responses_total", []string{"verdict", "invalid"}, 2}, {"responses_total", []string{"verdict", "private"}, 0},
		{"response_duration_seconds", []string{"verdict", "secure"}, 2}, {"response_duration_seconds", nil, 16},
		{"extended_errors_total", []string{"code", "7"}, 2}, {"extended_errors_total", []string{"code", "22"}, 2},
		{"extended_errors_total", []string{"code", "13"}, 2}, {"extended_errors_total", []string{"code", "21"}, 2},
		{"extended_errors_total", []string{"code", "30"}, 2}, {"extended_errors_total", []string{"code", "27"}, 2},
		{"cache_hits_total", nil, 5}, {"cache_misses_total", nil, 5},
		{"ready", nil, 1}, {"upstream_fit", []string{"to", p.addr}, 1}, {"upstream_alive", []string{"to", p.addr}, 1},
		{"panics_total", nil, 0}, {"upstream_mismatches_total", nil, 0}, {"joined_total", nil, now("joined_total")},
	} {
		if got := now(tt.name, tt.labels...); got != tt.want {
			t.Errorf("%s%v is %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	octets, entries := h.memory.Size()
	if got := now("cache_size_bytes"); got != float64(octets) || octets == 0 {
		t.Errorf("cache_size_bytes is %v, %d octets are held", got, octets)
	}
	if got := now("cache_entries"); got != float64(entries) || entries == 0 {
		t.Errorf("cache_entries is %v, %d are held", got, entries)
	}
	for _, name := range []string{"signature_checks_total", "fetches_total", "upstream_reply_duration_seconds"} {
		if now(name) < 5 {
			t.Errorf("%s is %v", name, now(name))
		}
	}
	for _, role := range []string{"answer", "link", "warm", "retry"} {
		if now("fetches_total", "role", role) == 0 && role != "link" { // links are mostly asked ahead
			t.Errorf("no fetches of role %s", role)
		}
	}
	if now("fetches_total", "result", "failure") == 0 || now("upstream_failures_total", "to", p.addr, "reason",
		"rcode") == 0 {
		t.Error("the failures of upstream are not counted")
	}
	h.Close()
	if now("ready") != 0 || now("upstream_fit") != 0 {
		t.Error("gauges of a handler that is closed")
	}
}

// TestMeterLimits: a limit is counted under its name, a panic of the chain as what it is (L-16, S-27).
func TestMeterLimits(t *testing.T) {
	block := config(t).Block
	m := newMeter(block)
	m.Limit("nsec3_hashes")
	m.Limit("panic")
	if n, p := metric(t, "limits_total", "block", block), metric(t, "panics_total", "block", block); n != 1 || p != 1 {
		t.Errorf("%v limits, %v panics", n, p)
	}
}

// TestMetricsCardinality: clients cannot make metrics: labels have few values whatever is asked.
func TestMetricsCardinality(t *testing.T) {
	c := config(t)
	h := open(t, c)
	series := func() int {
		families, err := prometheus.DefaultGatherer.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), "coredns_danelaw_") {
				n += len(f.GetMetric())
			}
		}
		return n
	}
	all := func(round int) {
		for i := range uint16(300) {
			w := from(fmt.Sprintf("127.0.%d.1:%d", i%200, 1024+i))
			w.ask(t, h, fmt.Sprintf("n%d-%d.dane.", round, i), i, withDO)
			w.ask(t, h, fmt.Sprintf("N%d-%d.expired.dane.", round, i), dns.TypeMX, withDO)
			w.ask(t, h, fmt.Sprintf("n%d-%d.localhost.", round, i), i)
		}
	}
	all(1)
	before := series()
	all(2)
	if after := series(); after != before {
		t.Errorf("%d series, then %d", before, after)
	}
}

// TestUpstreamStates: an upstream of which nothing was heard is in order, and one that comes back makes failures be
// forgotten (C-11).
func TestUpstreamStates(t *testing.T) {
	h := open(t, config(t))
	m := h.upstreams
	q := dns.Question{Name: bogusMX, Qtype: dns.TypeMX, Qclass: dns.ClassINET}
	cached := func() bool {
		h.resolver.Resolve(context.Background(), q)
		return h.resolver.Resolve(context.Background(), q).Cached
	}
	for _, tt := range []struct{ alive, cached bool }{{false, true}, {false, true}, {true, false}, {true, true}} {
		if !cached() {
			t.Fatal("a failure is not cached")
		}
		m.Alive("192.0.2.1:53", tt.alive, "sent no reply")
		if got := h.resolver.Resolve(context.Background(), q).Cached; got != tt.cached {
			t.Errorf("%+v: cached %v", tt, got)
		}
	}
	m.Mismatched("192.0.2.1:53")
	m.Exhausted("192.0.2.1:53")
	if n := metric(t, "upstream_mismatches_total", "block", h.config.Block, "to", "192.0.2.1:53"); n != 1 {
		t.Errorf("%v mismatches", n)
	}
	for _, s := range m.States() {
		if !s.Fit || !s.Alive {
			t.Errorf("of which nothing was heard: %+v", s)
		}
	}
}
