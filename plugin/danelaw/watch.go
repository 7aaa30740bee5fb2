package danelaw

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/probe"
)

const (
	// watchEvery is the interval between two looks at a domain, give or take a tenth so that not all come at once.
	watchEvery = 10 * time.Minute
	// watchSoon is within which time after a start the first looks are, and the next one after a look that found
	// nothing out.
	watchSoon = 20 * time.Second
	// watchAtOnce is how many domains are looked at at the same time.
	watchAtOnce = 4
)

// watches is what is known of the domains that a server block watches. It outlives a reload, or a downgrade between two
// looks would be missed.
type watches struct {
	block string
	mu    sync.Mutex
	by    map[string]watched // by domain
}

func (w *watches) name() string { return w.block }
func (w *watches) close()       {}

// holdWatches returns those of a server block.
func holdWatches(block string) *watches {
	w, _ := hold(&process, block, func() (*watches, error) {
		return &watches{block: block, by: map[string]watched{}}, nil
	})
	return w
}

// known returns what is known of all domains.
func (w *watches) known() map[string]watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.by)
}

// watched is what is known of a domain.
type watched struct {
	state  State // the last one that was known; "" if none was
	lost   bool  // it was secure before
	policy announcement
	seen   *Seen // the last look; nil before the first
}

// watcher looks at domains again and again. Nothing of it is in a query's way.
type watcher struct {
	*Handler
	prober *probe.Prober
	slots  chan struct{}
	wait   func(ctx context.Context, d time.Duration) error // a test's own in tests
	random func() float64                                   // from 0 to 1
}

func newWatcher(h *Handler) *watcher {
	return &watcher{
		Handler: h, prober: &probe.Prober{Clock: h.JudgedAt, Dial: h.config.WatchDial},
		slots: make(chan struct{}, watchAtOnce), wait: sleep, random: rand.Float64,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// run watches all domains until ctx ends.
func (w *watcher) run(ctx context.Context) {
	w.begin()
	var domains sync.WaitGroup
	for _, domain := range w.config.Watch {
		domains.Go(func() { w.watch(ctx, domain) })
	}
	domains.Wait()
}

// begin takes over what is known of the domains, and forgets others.
func (w *watcher) begin() {
	w.watches.mu.Lock()
	defer w.watches.mu.Unlock()
	known := map[string]watched{}
	for _, domain := range w.config.Watch {
		known[domain] = w.watches.by[domain]
		for _, to := range []State{StateNone, StateBogus} {
			downgrades.WithLabelValues(w.config.Block, domain, string(to)) // so that the first one is seen as a step
		}
	}
	w.watches.by = known
}

// watch watches one domain.
func (w *watcher) watch(ctx context.Context, domain string) {
	for next := w.within(0, watchSoon); w.wait(ctx, next) == nil; {
		next = w.within(watchEvery*9/10, watchEvery*11/10)
		if state, err := w.look(ctx, domain); err != nil || state == StateUnknown {
			next = w.within(watchSoon, 4*watchSoon)
		}
	}
}

func (w *watcher) within(least, most time.Duration) time.Duration {
	return least + time.Duration(w.random()*float64(most-least))
}

// look looks at a domain once, and tells of what has changed.
func (w *watcher) look(ctx context.Context, domain string) (state State, err error) {
	defer survive()
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	seen, err := w.Look(ctx, domain, w.prober)
	if err != nil {
		if ctx.Err() == nil {
			log.Warningf("watch %s: %v", domain, err)
		}
		return "", err
	}
	w.remember(seen)
	return seen.State, nil
}

// remember keeps what was seen, counts a downgrade and logs changes. Not to know is no change.
func (w *watcher) remember(seen *Seen) {
	w.watches.mu.Lock()
	defer w.watches.mu.Unlock()
	known, watching := w.watches.by[seen.Domain]
	if !watching { // a reload took it out
		return
	}
	known.policy = seen.Policies.since(known.policy)
	before := new(Seen)
	if known.seen != nil {
		before = known.seen
	}
	seen.Policies.keep(&before.Policies)
	w.logFaults(before, seen)
	w.logPolicies(seen.Domain, &before.Policies, &seen.Policies)
	old := known.state
	known.seen = seen
	if seen.State != StateUnknown {
		known.state = seen.State
		known.lost = seen.State != StateSecure && (known.lost || old == StateSecure)
	}
	w.watches.by[seen.Domain] = known
	w.alarms.seen(seen, known.lost)
	if seen.State == StateUnknown || seen.State == old {
		return
	}
	switch {
	case old == StateSecure:
		downgrades.WithLabelValues(w.config.Block, seen.Domain, string(seen.State)).Inc()
		log.Errorf("watch %s: DANE was secure and is %s now: %s", seen.Domain, seen.State, seen.Why)
	case seen.State == StateSecure:
		log.Infof("watch %s: DANE is secure: %s", seen.Domain, seen.Why)
	default:
		log.Warningf("watch %s: DANE is %s: %s", seen.Domain, seen.State, seen.Why)
	}
}

// logFaults tells what is wrong beside the state of DANE, and what is so no more.
func (w *watcher) logFaults(old, seen *Seen) {
	before, now := faults(old), faults(seen)
	for _, where := range slices.Sorted(maps.Keys(now)) {
		if before[where] != now[where] {
			log.Warningf("watch %s: %s: %s", seen.Domain, where, now[where])
		}
	}
	for _, where := range slices.Sorted(maps.Keys(before)) {
		if now[where] == "" {
			log.Infof("watch %s: %s: no fault any more", seen.Domain, where)
		}
	}
}

// faults are what is wrong with certificates, by host and address, and what programs do other than DANE, by their
// names.
func faults(s *Seen) map[string]string {
	all := map[string]string{}
	for _, o := range s.Otherwise {
		all[string(o.Sender)] = o.Text
	}
	for _, h := range s.Hosts {
		for _, c := range h.Certificates {
			if c.Failure != nil {
				all[strings.TrimSpace(fmt.Sprintf("%s at %s %s", h.Name, c.Address.Addr(), c.Key))] = c.Failure.Error()
			}
		}
	}
	return all
}

var downgrades = counter("watch_downgrades_total", "Counter of watched domains whose DANE was secure and is no more.",
	"domain", "to")

// The gauges of what was seen at last.
var (
	shownState = gauge("watch_state", "1 for the state of DANE of a watched domain, 0 for the others.",
		"domain", "state")
	shownChecked = gauge("watch_checked_timestamp_seconds", "When a watched domain was looked at.", "domain")
	shownLeft    = gauge("watch_signatures_left_seconds",
		"Seconds until the first signature ends that DANE of a watched domain rests on.", "domain")
	shownMatches = gauge("watch_certificate_matches",
		"1 if a certificate matches the TLSA records of its host.", "domain", "host", "address", "key")
	shownReached = gauge("watch_host_reached", "1 if a mail host could be reached and spoke TLS.",
		"domain", "host", "address")
	shownCertificate = gauge("watch_certificate_left_seconds", "Seconds until a certificate ends.",
		"domain", "host", "address", "key")
)

// show shows the gauges of all domains.
func (w *watches) show(show func(d *prometheus.Desc, value float64, labels ...string), now time.Time) {
	for _, of := range w.known() {
		if of.seen != nil {
			of.seen.show(show, now)
		}
	}
}

func (s *Seen) show(show func(d *prometheus.Desc, value float64, labels ...string), now time.Time) {
	for _, state := range States {
		show(shownState, truth(s.State == state), s.Domain, string(state))
	}
	show(shownChecked, float64(s.At.Unix()), s.Domain)
	if !s.Signatures.IsZero() {
		show(shownLeft, s.Signatures.Sub(now).Seconds(), s.Domain)
	}
	s.Policies.show(show, s.Domain, now)
	for _, h := range s.Hosts {
		reached := map[string]bool{}
		for _, c := range h.Certificates {
			address := c.Address.Addr().String()
			if reached[address] = reached[address] || len(c.Chain) > 0; len(c.Chain) > 0 {
				if h.State == StateSecure && (c.Failure == nil || !c.Failure.Kind.Unknown()) {
					show(shownMatches, truth(c.Failure == nil), s.Domain, h.Name, address, string(c.Key))
				}
				show(shownCertificate, c.Expires().Sub(now).Seconds(), s.Domain, h.Name, address, string(c.Key))
			}
		}
		for address, yes := range reached {
			show(shownReached, truth(yes), s.Domain, h.Name, address)
		}
	}
}

// setWatch reads the option watch.
func setWatch(s *setting, args []string) error {
	if len(args) == 0 {
		return errArgs
	}
	for _, arg := range args {
		domain := dns.CanonicalName(arg)
		if _, ok := dns.IsDomainName(arg); !ok || domain == "." || strings.ContainsAny(arg, "/:@*") || !ascii(arg) {
			return fmt.Errorf("%q is not a domain that gets mail", arg)
		}
		if slices.Contains(s.config.Watch, domain) {
			return fmt.Errorf("%s is there twice", domain)
		}
		s.config.Watch = append(s.config.Watch, domain)
	}
	return nil
}

// unwatchable says why a domain to be watched is not validated here.
func (n names) unwatchable(domains []string) error {
	for _, domain := range domains {
		if _, special := n.special(dnssec.Question(domain, dns.TypeMX)); special || n.private.cover(domain) {
			return errors.New("watch " + domain + ": the name is private or special, and never validated")
		}
	}
	return nil
}
