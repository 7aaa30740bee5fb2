package danelaw

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

const (
	// fitEvery is the interval of the fitness test (S-13).
	fitEvery = 10 * time.Minute
	// Until the first success all is tried again after firstRetry, doubled up to lastRetry: started before the network,
	// danelaw must become ready with it (T-13).
	firstRetry = time.Second
	lastRetry  = time.Minute
	// tick is how often the clock is looked at (T-14).
	tick = time.Second
	// jump is how far the clock must move away from the time that has passed to count as set.
	jump = 2 * time.Second
)

// readiness finds out whether danelaw can do its work: the clock is not before the build date (T-14), an upstream is
// fit for validation (S-13), and the key of an anchor could be validated (T-13). It only reports: questions are judged
// on their own evidence, ready or not (S-13a).
type readiness struct {
	clock func() time.Time
	built time.Time // zero: the clock does not matter, as validation_time is set
	zones []string  // of the anchors
	// fit tests upstreams, prime tries the trust anchors.
	fit     func(ctx context.Context, zones []string) []upstream.Report
	prime   func(ctx context.Context) error
	memory  *memory
	early   atomic.Bool // the clock is before the build date
	again   chan struct{}
	reports map[string]string // by upstream: what was logged last

	obstacle atomic.Pointer[dnssec.Failure] // why it is not ready
}

func newReadiness(h *Handler) *readiness {
	c := h.config
	r := &readiness{
		clock: c.Clock, built: BuildDate(), zones: slices.Sorted(maps.Keys(c.Anchors)), fit: h.upstreams.Set.Fit,
		prime: h.resolving.Prime, memory: h.memory,
		again: make(chan struct{}, 1), reports: map[string]string{},
	}
	if !c.ValidationTime.IsZero() {
		r.built = time.Time{}
	}
	r.obstruct("danelaw has just been started")
	r.early.Store(r.clock().Before(r.built))
	return r
}

// Ready reports whether all was in order once. It stays so: losing the upstream would otherwise take all replicas out
// of service at once, with their cached answers (S-25).
func (r *readiness) Ready() bool { return r.memory.ready.Load() }

// lacks says why danelaw is not ready; "" if it is.
func (r *readiness) lacks() string {
	if why := r.obstacle.Load(); !r.Ready() && why != nil {
		return why.Text
	}
	return ""
}

// run looks at everything until ctx ends.
func (r *readiness) run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(ctx) })
	defer watching.Wait()
	for retry := firstRetry; ; {
		wait := retry
		if r.attempt(ctx) {
			wait, retry = fitEvery, firstRetry
		} else {
			retry = min(2*retry, lastRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.again:
			retry = firstRetry
		case <-time.After(wait):
		}
	}
}

// attempt tests upstreams and, until it is ready, anchors. It reports whether there is time for the next one.
func (r *readiness) attempt(ctx context.Context) (passed bool) {
	defer survive()
	fit := r.test(ctx)
	if r.Ready() {
		return fit
	}
	switch {
	case !fit:
		r.obstruct("no upstream is fit for validation")
	case r.early.Load():
		r.obstruct(fmt.Sprintf("check this host's clock: it is %s, which is before danelaw was built (%s)",
			r.clock().UTC().Format(time.RFC3339), r.built.Format(time.RFC3339)))
	default:
		if err := r.prime(ctx); err != nil {
			r.obstruct(err.Error() + outdated(err))
			return false
		}
		r.memory.ready.Store(true)
		log.Infof(inOrder)
		return true
	}
	return false
}

// every calls f at that interval until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

// survive ends a panic in a goroutine of ours (S-27).
func survive() {
	if p := recover(); p != nil {
		log.trace("panic in the background: %v\n%s", p, debug.Stack())
	}
}

// obstruct notes why danelaw is not ready. Each reason is logged once.
func (r *readiness) obstruct(why string) {
	old := r.obstacle.Swap(&dnssec.Failure{Kind: dnssec.OfNoUpstream, Code: dns.ExtendedErrorCodeNotReady,
		Text: "not ready: " + why})
	if old != nil && old.Text != r.obstacle.Load().Text {
		log.Warningf("%s", r.obstacle.Load().Text)
	}
}

// test tests all upstreams and reports whether one is fit.
func (r *readiness) test(ctx context.Context) bool {
	fit := false
	for _, report := range r.fit(ctx, r.zones) {
		fit = fit || report.Fit
		if ctx.Err() == nil {
			r.log(report)
		}
	}
	return fit
}

// log tells what failed at an upstream, and when it recovers: once, not at every test.
func (r *readiness) log(report upstream.Report) {
	state := fmt.Sprint(report.Fit, len(report.Faults))
	old, known := r.reports[report.Upstream]
	r.reports[report.Upstream] = state
	if old == state || !known && report.Fit && len(report.Faults) == 0 {
		return
	}
	faults := strings.Join(report.Faults, "; ")
	switch {
	case faults == "":
		log.Infof("upstream %s is fit for validation again", report.Upstream)
	case report.Fit:
		log.Warningf("upstream %s is fit for validation, but not for all trust anchors: %s", report.Upstream, faults)
	default:
		log.Warningf("upstream %s is not fit for validation, and asked last: %s", report.Upstream, faults)
	}
}

// watch looks at the clock until ctx ends. When it has been set, failures of the time before are forgotten (T-14).
func (r *readiness) watch(ctx context.Context) {
	shown, passed := r.clock(), time.Now()
	every(ctx, tick, func() {
		now, at := r.clock(), time.Now()
		r.look(now, now.Round(0).Sub(shown.Round(0))-at.Sub(passed))
		shown, passed = now, at
	})
}

// look draws the conclusions from the time that the clock shows and the step it made.
func (r *readiness) look(now time.Time, step time.Duration) {
	r.early.Store(now.Before(r.built))
	if step.Abs() < jump {
		return
	}
	log.Infof("the clock was set by %v; it is %s now", step.Round(time.Second), now.UTC().Format(time.RFC3339))
	r.memory.ForgetFailures()
	r.soon()
}

// soon has everything be looked at now.
func (r *readiness) soon() {
	select {
	case r.again <- struct{}{}:
	default: // an attempt is due already
	}
}

// explain returns the reasons of a SERVFAIL, with the one that lies in danelaw if the answer rests on an anchor that it
// could not try yet (T-13).
func (r *readiness) explain(notes []*dnssec.Failure) []*dnssec.Failure {
	if r.Ready() || len(notes) == 0 || !notes[0].Anchor {
		return slices.Clone(notes)
	}
	return slices.Insert(slices.Clone(notes), 1, r.obstacle.Load())
}
