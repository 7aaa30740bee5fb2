package danelaw

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestMinutes: the last hour is told minute by minute, the present one last, and what is older is not.
func TestMinutes(t *testing.T) {
	var h history
	begin := time.Unix(1800000000, 0)
	for minute := range 100 {
		h.add(secure.number(), minute, begin.Add(time.Duration(minute)*time.Minute), time.Millisecond)
	}
	h.add(bogus.number(), 1, begin.Add(99*time.Minute), time.Second)
	hour := h.byMinute(begin.Add(110 * time.Minute))
	for i, m := range hour {
		minute, want := 110-(historyMinutes-1)+i, 0
		if minute < 100 {
			want = minute
		}
		if m.counts[secure.number()] != uint64(want) {
			t.Errorf("minute %d: %v, want %d", minute, m.counts, want)
		}
	}
	if last := hour[historyMinutes-1-11]; last.counts[bogus.number()] != 1 {
		t.Errorf("%v", last.counts)
	}
}

// TestBucketOf: the times of the page are sorted as those of the metrics.
func TestBucketOf(t *testing.T) {
	for i, bound := range timeBuckets {
		at := time.Duration(math.Round(bound * float64(time.Second)))
		if in, over := bucketOf(at), bucketOf(at+1); in != i || over != i+1 {
			t.Errorf("%v is in %d, what is longer in %d, want %d", at, in, over, i)
		}
	}
	if bucketOf(-time.Second) != 0 || bucketOf(time.Hour) != manyBuckets {
		t.Error("times beyond all bounds")
	}
}

// TestQuantile: what half of the replies took at most, and what 95 % did.
func TestQuantile(t *testing.T) {
	var h history
	at := time.Unix(1800000000, 0)
	h.add(0, 60, at, 40*time.Microsecond)
	h.add(0, 34, at, 3*time.Millisecond)
	h.add(0, 6, at, time.Hour)
	m := h.byMinute(at)[historyMinutes-1]
	for share, want := range map[float64]time.Duration{0.5: 2 * firstBucket, 0.6: 2 * firstBucket,
		0.9: 128 * firstBucket, 0.95: firstBucket << (manyBuckets - 1)} {
		if got, ok := m.quantile(share); got != want || !ok {
			t.Errorf("%v: %v, %v; want %v", share, got, ok, want)
		}
	}
	if d, ok := new(past).quantile(0.5); ok {
		t.Errorf("%v of no reply", d)
	}
}

// TestPlots: what is drawn stays in its frame, is in proportion, and says what it is.
func TestPlots(t *testing.T) {
	var h history
	at := time.Unix(1800000000, 0)
	for minute := range historyMinutes {
		for v := range verdictOrder {
			h.add(v, minute*(v+1), at.Add(time.Duration(minute)*time.Minute), time.Duration(minute)*30*time.Millisecond)
		}
	}
	h.add(0, 1, at, time.Hour)
	hour := h.byMinute(at.Add((historyMinutes - 1) * time.Minute))
	replies, latency := plotReplies(&hour), plotLatency(&hour)
	if replies.Empty || latency.Empty || len(replies.Bars) != 1+8*(historyMinutes-1) ||
		len(latency.Bars) != historyMinutes {
		t.Fatalf("%d and %d bars", len(replies.Bars), len(latency.Bars))
	}
	for _, b := range append(replies.Bars, latency.Bars...) {
		if b.X < plotLeft || b.X+b.Width > plotLeft+plotColumn*historyMinutes || b.Y < 0 || b.Height <= 0 ||
			b.Y+b.Height > plotTop+plotHeight+0.1 || b.Class == "" || !strings.Contains(b.Title, "min") {
			t.Errorf("%+v", b)
		}
	}
	last := replies.Bars[len(replies.Bars)-8:] // 59 secure, twice as many insecure, and so on; up to 3000
	if last[0].Title != "this minute: 59 secure" || last[7].Height != 15.73 || last[0].Height != 1.97 {
		t.Errorf("%+v", last)
	}
	hour = h.byMinute(at.Add(1000 * time.Hour))
	if replies, latency = plotReplies(&hour), plotLatency(&hour); !replies.Empty || !latency.Empty {
		t.Error("an hour without replies is drawn")
	}
}
