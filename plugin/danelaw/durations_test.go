package danelaw

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// TestDurations: durations tell what Prometheus' own histogram does that has observed each time by itself.
func TestDurations(t *testing.T) {
	want := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", Buckets: timeBuckets,
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor})
	got := &durations{desc: prometheus.NewDesc("x", "", nil, nil), created: time.Now(), native: map[int]int64{}}
	compare := func(when string) {
		t.Helper()
		var a, b dto.Metric
		if err := want.Write(&a); err != nil {
			t.Fatal(err)
		}
		if err := got.Write(&b); err != nil {
			t.Fatal(err)
		}
		b.Histogram.CreatedTimestamp = a.Histogram.CreatedTimestamp
		if s := a.Histogram.GetSampleSum() - b.Histogram.GetSampleSum(); s > 1e-6 || s < -1e-6 { // in another order
			t.Errorf("%s: the sum is %v, not %v", when, b.Histogram.GetSampleSum(), a.Histogram.GetSampleSum())
		}
		b.Histogram.SampleSum = a.Histogram.SampleSum
		if !proto.Equal(&a, &b) {
			t.Errorf("%s:\n%v\nwant\n%v", when, &b, &a)
		}
	}
	observe := func(took time.Duration, n int) {
		got.observe(took, n)
		for range n {
			want.Observe(took.Seconds())
		}
	}
	compare("of nothing")
	observe(0, 3)
	compare("of no time")
	for i := range manyBuckets + 1 { // where classic buckets end, and beside it
		for _, beside := range []time.Duration{-1, 0, 1} {
			observe(firstBucket<<i+beside, 2)
		}
	}
	compare("of ends")
	chance := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		observe(time.Duration(chance.Int64N(int64(time.Nanosecond)<<chance.IntN(40)))+1, 1+chance.IntN(3))
	}
	compare("of many")
}
