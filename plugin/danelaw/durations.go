package danelaw

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// durations is what [prometheus.Histogram] is, of times, and takes many equal ones at once: a batch of cached answers
// has as many, and to observe each of them by itself is 3 % of what such an answer costs. It is safe for concurrent
// use.
type durations struct {
	desc    *prometheus.Desc
	labels  []string
	created time.Time

	mu      sync.Mutex
	count   uint64
	seconds float64
	classic [manyBuckets + 1]uint64 // by timeBuckets; the last is for what takes longer than all
	zero    uint64
	native  map[int]int64 // by nativeBucket
}

// durationsVec are durations by their labels.
type durationsVec struct{ *prometheus.MetricVec }

func newDurations(name, help string, labels ...string) durationsVec {
	desc := prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, name), help,
		append([]string{blockLabel}, labels...), nil)
	vec := prometheus.NewMetricVec(desc, func(values ...string) prometheus.Metric {
		return &durations{desc: desc, labels: slices.Clone(values), created: time.Now(), native: map[int]int64{}}
	})
	prometheus.MustRegister(vec)
	return durationsVec{vec}
}

// WithLabelValues panics, as that of [prometheus.HistogramVec] does, if there are more or fewer values than labels.
func (v durationsVec) WithLabelValues(values ...string) *durations {
	m, err := v.GetMetricWithLabelValues(values...)
	if err != nil {
		panic(err)
	}
	return m.(*durations)
}

// observe counts n times that are equal.
func (d *durations) observe(took time.Duration, n int) {
	seconds := took.Seconds()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count += uint64(n)
	d.seconds += seconds * float64(n)
	d.classic[bucketOf(took)] += uint64(n)
	if took <= 0 {
		d.zero += uint64(n)
	} else {
		d.native[nativeBucket(seconds)] += int64(n)
	}
}

// Desc implements [prometheus.Metric].
func (d *durations) Desc() *prometheus.Desc { return d.desc }

// Write implements [prometheus.Metric]: a classic histogram and a native one, as the histograms of CoreDNS are.
func (d *durations) Write(out *dto.Metric) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	within, all := map[float64]uint64{}, uint64(0)
	for i, bound := range timeBuckets {
		all += d.classic[i]
		within[bound] = all
	}
	native, err := prometheus.NewConstNativeHistogram(d.desc, d.count, d.seconds, d.native, nil, d.zero, nativeSchema,
		prometheus.DefNativeHistogramZeroThreshold, d.created, d.labels...)
	if err != nil {
		return err
	}
	classic, err := prometheus.NewConstHistogramWithCreatedTimestamp(d.desc, d.count, d.seconds, within, d.created,
		d.labels...)
	if err != nil {
		return err
	}
	var buckets dto.Metric
	if err := classic.Write(&buckets); err != nil {
		return err
	}
	err = native.Write(out)
	out.Histogram.Bucket = buckets.Histogram.Bucket
	return err
}

// nativeSchema is what [plugin.NativeHistogramBucketFactor] means for Prometheus: each bucket ends 2^(1/16) times as
// high as the one before.
const nativeSchema = 4

// nativeBucket is the number of the bucket of a native histogram that a value above 0 lies in: the first whose end,
// 2^(number/16), is no less.
func nativeBucket(v float64) int {
	const each = 1 << nativeSchema
	fraction, exponent := math.Frexp(v)
	within, _ := slices.BinarySearch(nativeEnds[:], fraction)
	return within + (exponent-1)*each
}

// nativeEnds are where buckets between 0.5 and 1 end.
var nativeEnds = func() (ends [1 << nativeSchema]float64) {
	for i := range ends {
		ends[i] = math.Exp2(float64(i)/float64(len(ends)) - 1)
	}
	return ends
}()
