package danelaw

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fastpath"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
)

// The counters and histograms. Every label takes few values: block and to are those of the Corefile, all others are
// constants of the program.
var (
	responses      = counter("responses_total", "Counter of replies by verdict and type asked for.", "verdict", "type")
	extendedErrors = counter("extended_errors_total", "Counter of Extended DNS Errors told to clients.", "code")
	cacheHits      = counter("cache_hits_total", "Counter of questions answered from the cache.")
	cacheMisses    = counter("cache_misses_total", "Counter of questions that were not in the cache.")
	joined         = counter("joined_total", "Counter of questions that waited for the same question in flight.")
	synthesised    = counter("synthesised_total", "Counter of answers made of records of other answers, by proof.",
		"proof")
	recalled = counter("recalled_total", "Counter of answers found beyond the process, by the verdict on them.", "from",
		"result")
	stale           = counter("stale_answers_total", "Counter of stale answers told to clients (serve_stale).")
	fetches         = counter("fetches_total", "Counter of questions to upstreams by use and end.", "role", "result")
	limitHits       = counter("limits_total", "Counter of limits hit.", "limit")
	signatureChecks = counter("signature_checks_total", "Counter of signatures verified.")
	signaturesKnown = counter("signatures_known_total",
		"Counter of signatures that were not verified, as they were known to hold.")
	nsec3Hashes = counter("nsec3_hashes_total", "Counter of names hashed for NSEC3.")
	distrusted  = counter("negative_trust_anchor_answers_total",
		"Counter of answers that a negative trust anchor kept from being validated.")
	verdictChanges = counter("verdict_changes_total", "Counter of changes of the verdict on a question of mail.",
		"from", "to", "type")
	panics = counter("panics_total", "Counter of queries that ran into a fault of danelaw.")

	upstreamQuestions = counter("upstream_questions_total", "Counter of questions sent, copies included.", "to")
	upstreamFailures  = counter("upstream_failures_total", "Counter of questions without a usable reply.", "to",
		"reason")
	upstreamMismatches = counter("upstream_mismatches_total", "Counter of datagrams that matched no question.", "to")

	exhausted = counter("files_exhausted_total",
		"Counter of questions to upstreams that found the table of open files full.", "to")

	responseDuration = newDurations("response_duration_seconds", "Histogram of the time a reply took.", "verdict")
	upstreamDuration = histogram("upstream_reply_duration_seconds", "Histogram of the time a usable reply took.", "to")
)

// timeBuckets begin below the time that an answer from the cache takes, and end beyond L-10: 25 µs to 6.6 s, each twice
// the one before.
var timeBuckets = prometheus.ExponentialBuckets(firstBucket.Seconds(), 2, manyBuckets)

const (
	firstBucket = 25 * time.Microsecond
	manyBuckets = 19
)

// typeOrder numbers the types that mail servers ask for; all others are the last.
var typeOrder = [...]struct {
	qtype uint16
	label string
}{
	{dns.TypeMX, "mx"}, {dns.TypeA, "a"}, {dns.TypeAAAA, "aaaa"}, {dns.TypeTLSA, "tlsa"}, {dns.TypePTR, "ptr"},
	{dns.TypeTXT, "txt"}, {0, "other"},
}

const otherType = len(typeOrder) - 1

func typeNumber(qtype uint16) int {
	for number := range otherType {
		if typeOrder[number].qtype == qtype {
			return number
		}
	}
	return otherType
}

// alarming are the limits that tell of a host too small for what it is asked, or of a flood, not of one question.
var alarming = []string{"in_flight", "memory", "processors", "outstanding", "files", fastpath.LimitConnections}

// blockLabel names the server block.
const blockLabel = "block"

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: name, Help: help,
	}, append([]string{blockLabel}, labels...))
}

func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: name, Help: help,
		Buckets: timeBuckets, NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
	}, append([]string{blockLabel}, labels...))
}

// meter counts for one server block. What is counted for each query is looked up once.
type meter struct {
	block string
	ofReplies
	hits, misses, joined     prometheus.Counter
	signatures, known, nsec3 prometheus.Counter
	panics                   prometheus.Counter
	synthesised              map[reuse.Proof]prometheus.Counter
	distrusted, stale        prometheus.Counter
}

// ofReplies are the counters of replies, by the numbers of verdicts and types.
type ofReplies struct {
	responses [len(verdictOrder)][len(typeOrder)]prometheus.Counter
	durations [len(verdictOrder)]*durations
	errors    [commonCodes]atomic.Pointer[prometheus.Counter] // told, by their code; nil: none yet
}

func newMeter(block string) *meter {
	m := &meter{
		block: block,
		hits:  cacheHits.WithLabelValues(block), misses: cacheMisses.WithLabelValues(block),
		joined:     joined.WithLabelValues(block),
		signatures: signatureChecks.WithLabelValues(block), known: signaturesKnown.WithLabelValues(block),
		nsec3:  nsec3Hashes.WithLabelValues(block),
		panics: panics.WithLabelValues(block), distrusted: distrusted.WithLabelValues(block),
		stale:       stale.WithLabelValues(block),
		synthesised: map[reuse.Proof]prometheus.Counter{},
	}
	for _, p := range []reuse.Proof{reuse.ProofCut, reuse.ProofNSEC, reuse.ProofNSEC3, reuse.ProofWildcard} {
		m.synthesised[p] = synthesised.WithLabelValues(block, string(p))
	}
	for _, from := range []verdict{secure, insecure, bogus} {
		for _, to := range []verdict{secure, insecure, bogus} {
			for _, qtype := range []uint16{dns.TypeMX, dns.TypeTLSA} {
				if from != to {
					// a counter that appears with its first change shows no increase
					verdictChanges.WithLabelValues(block, string(from), string(to), typeOrder[typeNumber(qtype)].label)
				}
			}
		}
	}
	for _, limit := range alarming { // as above
		limitHits.WithLabelValues(block, limit)
	}
	for number, v := range verdictOrder {
		for of, t := range typeOrder {
			m.responses[number][of] = responses.WithLabelValues(block, string(v), t.label)
		}
		m.durations[number] = responseDuration.WithLabelValues(block, string(v))
	}
	return m
}

// replied counts one reply.
func (m *meter) replied(v verdict, qtype uint16, begun time.Time) {
	m.responses[v.number()][typeNumber(qtype)].Inc()
	m.durations[v.number()].observe(time.Since(begun), 1)
}

// replies counts those of a verdict that took so long each, so many of each type, and returns how many they are.
func (m *meter) replies(verdict int, byType *[len(typeOrder)]int, took time.Duration) (all int) {
	for of, n := range byType {
		if n > 0 {
			m.responses[verdict][of].Add(float64(n))
		}
		all += n
	}
	if all > 0 {
		m.durations[verdict].observe(took, all)
	}
	return all
}

// malformed counts one query that was refused before it was one.
func (m *meter) malformed() { m.responses[invalid.number()][otherType].Inc() }

// changed counts one change of the verdict on a question of that type.
func (m *meter) changed(qtype uint16, from, to verdict) {
	verdictChanges.WithLabelValues(m.block, string(from), string(to), typeOrder[typeNumber(qtype)].label).Inc()
}

// commonCodes is how many Extended DNS Errors have their counters kept: all that there are names for, and more.
const commonCodes = 64

// told counts one Extended DNS Error.
func (m *meter) told(code uint16) {
	if code < commonCodes {
		if kept := m.errors[code].Load(); kept != nil {
			(*kept).Inc()
			return
		}
	}
	c := extendedErrors.WithLabelValues(m.block, strconv.Itoa(int(code)))
	if code < commonCodes {
		m.errors[code].Store(&c)
	}
	c.Inc()
}

// Fetch implements resolve.Meter.
func (m *meter) Fetch(role fetch.Role, failed bool) {
	result := "reply"
	if failed {
		result = "failure"
	}
	fetches.WithLabelValues(m.block, string(role), result).Inc()
}

// Limit implements resolve.Meter. A panic ends a question as a limit does, but is counted apart.
func (m *meter) Limit(name string) {
	if name == string(fetch.ErrPanic) {
		m.panics.Inc()
		return
	}
	limitHits.WithLabelValues(m.block, name).Inc()
}

// Cache implements resolve.Meter.
func (m *meter) Cache(hit bool) {
	if hit {
		m.hits.Inc()
	} else {
		m.misses.Inc()
	}
}

// Checks implements resolve.Meter.
func (m *meter) Checks(w dnssec.Work) {
	m.signatures.Add(float64(w.Signatures))
	m.known.Add(float64(w.Known))
	m.nsec3.Add(float64(w.Hashes))
}

// Joined implements resolve.Meter.
func (m *meter) Joined() { m.joined.Inc() }

// Recalled implements resolve.Meter.
func (m *meter) Recalled(from string, secure bool) {
	result := "secure"
	if !secure {
		result = "rejected"
	}
	recalled.WithLabelValues(m.block, from, result).Inc()
}

// Stale implements resolve.Meter.
func (m *meter) Stale() { m.stale.Inc() }

// Synthesised implements resolve.Meter.
func (m *meter) Synthesised(by reuse.Proof) { m.synthesised[by].Inc() }

// The gauges, shown as things are when asked.
var (
	shownReady   = gauge("ready", "1 once anchors, clock and an upstream were found in order.")
	shownOctets  = gauge("cache_size_bytes", "Octets held by the cache: answers, zones and failures.")
	shownLimit   = gauge("cache_limit_bytes", "Octets that the cache may hold.")
	shownEvicted = gauge("cache_evictions_total", "Counter of entries evicted from the cache to make room.")
	shownEntries = gauge("cache_entries", "Entries held by the cache: answers, zones and failures.")
	shownNTAs    = gauge("negative_trust_anchors", "Negative trust anchors in force.")
	shownUnsaved = gauge("state_unsaved", "1 if what is to outlive a restart could not be read or written.")
	shownFit     = gauge("upstream_fit",
		"1 if the upstream has passed the fitness test, or has not been tested yet.", "to")
	shownAlive = gauge("upstream_alive", "1 if the upstream answers.", "to")
)

// gauges are all that are described to Prometheus by gauge. It implements prometheus.Collector.
type gauges struct{ descs []*prometheus.Desc }

var shown = new(gauges)

func gauge(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, name), help,
		append([]string{blockLabel}, labels...), nil)
	shown.descs = append(shown.descs, d)
	return d
}

func init() { prometheus.MustRegister(shown) }

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range g.descs {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	for block, h := range process.newest() {
		show := func(d *prometheus.Desc, value float64, labels ...string) {
			labels = append([]string{block}, labels...)
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
		}
		octets, entries := h.memory.Size()
		show(shownReady, truth(h.Ready()))
		show(shownOctets, float64(octets))
		show(shownLimit, float64(h.config.CacheSize))
		show(shownEntries, float64(entries))
		to <- prometheus.MustNewConstMetric(shownEvicted, prometheus.CounterValue, float64(h.memory.Evicted()), block)
		show(shownNTAs, float64(h.ntas.count(h)))
		_, failed := h.ntas.saved()
		_, too := h.keeper.saved()
		show(shownUnsaved, truth(failed || too || h.cacheFile.unsaved() || h.policy.unsaved()))
		h.cacheFile.show(show)
		if h.shared != nil {
			show(shownShared, truth(!h.shared.away.Load()))
		}
		for _, p := range h.keeper.told(h, h.config.Clock()) {
			p.show(show, h.config.Clock())
		}
		for _, s := range h.upstreams.States() {
			show(shownFit, truth(s.Fit), s.Upstream)
			show(shownAlive, truth(s.Alive), s.Upstream)
		}
		h.policy.show(show, h.config.Clock())
		if len(h.config.Watch) > 0 {
			h.watches.show(show, h.JudgedAt())
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// What is one for the whole process, so that there is no label of a server block.
var (
	reloads = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "reloads_total",
		Help: "Counter of reloads of the Corefile by result.",
	}, []string{"result"})
	reloadFailed = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "reload_failed",
		Help: "1 if the last reload failed, and the configuration before it is in use.",
	})
	buildInfo = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "build_info",
		Help: "1, with what danelaw was built from.",
	}, []string{"version", "revision", "goversion"})
)

func init() {
	reloads.WithLabelValues("success") // a counter that appears with its first failure shows no increase
	reloads.WithLabelValues("failure")
	b := ThisBuild()
	buildInfo.WithLabelValues(b.Version, b.Revision, runtime.Version()).Set(1)
}

// ReloadFailed counts a reload that failed before a server block was told of it: its Corefile could not be read or
// understood.
func ReloadFailed() {
	reloads.WithLabelValues("failure").Inc()
	reloadFailed.Set(1)
}

func reloaded() {
	reloads.WithLabelValues("success").Inc()
	reloadFailed.Set(0)
}
