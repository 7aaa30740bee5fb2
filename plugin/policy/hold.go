package policy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// When is asked again (D-28).
const (
	recheckAfter = time.Minute     // for the TXT record of a policy that is held, by a question
	fetchEvery   = 5 * time.Minute // at most, of a domain, whether that succeeds or not (RFC 8461 section 3.3)
	renewAfter   = 24 * time.Hour  // at the latest; half of max_age if that is less
	renewAgain   = 30 * time.Minute
	renewPause   = 10 * time.Minute // between two looks at what is to be renewed
	inUse        = 30 * 24 * time.Hour
	// heldPatience is how long a question waits for news of a policy that is held.
	heldPatience = 4 * time.Second
	// updateLife is how long it may take to learn of a policy: the TXT record, then the fetch.
	updateLife = fetchLife + 10*time.Second
)

// Bounds on what is held and done at once.
const (
	mostHeld      = 8192
	mostOctets    = 3 << 20 // as they are kept in a file
	fetchesAtOnce = 128
	renewsAtOnce  = 8
)

// Held is a policy that is held (D-28). It is not changed once others have it.
type Held struct {
	Domain  string // canonical
	ID      string // of the TXT record for which it was fetched
	Policy  *mail.STSPolicy
	Fetched time.Time
}

// Ends is when it is enforced no more (D-28). However short max_age is, it lasts until it may be fetched again.
func (h *Held) Ends() time.Time { return h.Fetched.Add(max(h.Policy.MaxAge, fetchEvery)) }

// renewal is when a policy is fetched again whatever its TXT record says.
func (h *Held) renewal() time.Time { return h.Fetched.Add(min(h.Policy.MaxAge/2, renewAfter)) }

// entry is what is known of the policy of a domain.
type entry struct {
	held     *Held // nil: none
	octets   int   // that held takes in a file
	used     time.Time
	checked  time.Time // when the TXT record was last looked at
	tried    time.Time // when it was last fetched, or that was tried
	renew    time.Time // when it is looked at without a question
	failure  *Failure  // of the last try; nil if it succeeded
	vanished bool      // it is not there any more, and holds on
}

// Store holds policies. It outlives a Service.
type Store struct {
	flights singleflight.Group
	most    int           // entries
	slots   chan struct{} // of those that fetch

	mu      sync.Mutex
	entries map[string]*entry // by domain
	octets  int
	changes uint64 // counts what a file does not have yet
}

// NewStore returns one that holds nothing.
func NewStore() *Store {
	return &Store{most: mostHeld, slots: make(chan struct{}, fetchesAtOnce), entries: map[string]*entry{}}
}

// policy is the policy in force of a domain, or why there is none although one is announced; both nil: there is none.
func (s *Service) policy(ctx context.Context, domain string) (*Held, *Failure) {
	now := s.config.Clock()
	held, fresh := s.store.use(domain, now)
	if fresh {
		return held, nil
	}
	if held != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, heldPatience)
		defer cancel()
	}
	select {
	case r := <-s.store.flights.DoChan(domain, func() (any, error) { return s.update(domain), nil }):
		failed, _ := r.Val.(*Failure)
		held, _ = s.store.use(domain, now)
		return held, failed
	case <-ctx.Done():
		if held != nil {
			return held, nil
		}
		return nil, &Failure{Result: mail.STSPolicyFetchError, Doubt: true,
			Text: "whether there is a policy of MTA-STS could not be found out in time"}
	}
}

// use is the policy in force, which a question uses now, and whether it was looked at a moment ago.
func (s *Store) use(domain string, now time.Time) (held *Held, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[domain]
	if e == nil || e.held == nil || !now.Before(e.held.Ends()) {
		return nil, false
	}
	e.used = now
	return e.held, now.Sub(e.checked) < recheckAfter && now.Before(e.held.renewal())
}

// update learns what is to be known of the policy of a domain. It returns why the policy, if there is to be one, cannot
// be had or renewed.
func (s *Service) update(domain string) (failed *Failure) {
	defer func() { // S-27: of another's goroutine, whom nobody else would keep from ending the process
		if p := recover(); p != nil {
			s.config.Meter.Panicked(p)
			failed = &Failure{Result: mail.STSPolicyFetchError, Doubt: true, Text: "danelaw has a fault"}
		}
	}()
	before := s.store.lost(domain)
	failed = s.look(domain)
	switch after := s.store.lost(domain); {
	case after && !before && failed != nil:
		s.config.Meter.Vanished(domain, failed.Text)
	case after && !before:
		s.config.Meter.Vanished(domain, "its TXT record of MTA-STS is gone")
	case before && !after:
		s.config.Meter.Restored(domain)
	}
	return failed
}

// look looks at the TXT record of a domain, and fetches its policy if that is due.
func (s *Service) look(domain string) (failed *Failure) {
	ctx, cancel := context.WithTimeout(context.Background(), updateLife)
	defer cancel()
	id, failed := s.announced(ctx, domain)
	now := s.config.Clock()
	if failed != nil || id == "" {
		s.store.looked(domain, now, failed == nil || !failed.Unanswered)
		return failed
	}
	due, last := s.store.due(domain, id, now)
	if !due {
		return last
	}
	select {
	case s.store.slots <- struct{}{}:
		defer func() { <-s.store.slots }()
	case <-ctx.Done():
		return &Failure{Result: mail.STSPolicyFetchError, Doubt: true, At: now,
			Text: "too many policies of MTA-STS are being fetched"}
	}
	fetched := s.fetch.get(ctx, domain)
	p, failed := fetched.Policy, fetched.Failure
	now = s.config.Clock()
	s.config.Meter.Fetched(domain, failed)
	if failed != nil {
		failed.At = now
		s.store.failed(domain, failed, now)
		return failed
	}
	old := s.store.put(&Held{domain, id, p, now}, now)
	if old == nil || old.Policy.Mode != p.Mode || !slices.Equal(old.Policy.MX, p.MX) {
		s.config.Meter.Changed(domain, policyOf(old), p)
	}
	return nil
}

func policyOf(h *Held) *mail.STSPolicy {
	if h == nil {
		return nil
	}
	return h.Policy
}

// announced is the id in the TXT record of a domain; "" if it announces no policy.
func (s *Service) announced(ctx context.Context, domain string) (id string, failed *Failure) {
	r := s.config.Ask(ctx, "_mta-sts."+domain, dns.TypeTXT)
	if r.Status <= dnssec.Bogus {
		return "", &Failure{Result: mail.STSPolicyFetchError, At: s.config.Clock(), Doubt: r.Status == dnssec.Bogus,
			Unanswered: true, Text: "the lookup of " + r.Lookup.String() + " fails"}
	}
	id, err := mail.ParseSTS(r.Answer)
	switch {
	case errors.Is(err, mail.ErrNoPolicy):
		return "", nil
	case err != nil: // which is as if there were none (RFC 8461 section 3.1)
		return "", &Failure{Result: mail.STSPolicyInvalid, At: s.config.Clock(),
			Text: "the TXT record of MTA-STS does not parse: " + err.Error()}
	}
	return id, nil
}

// looked notes a look at the TXT record to which nothing sound came; gone if that says that there is no policy.
func (s *Store) looked(domain string, now time.Time, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[domain]
	if e == nil {
		return
	}
	e.checked, e.renew = now, now.Add(renewAgain)
	if gone {
		e.vanish(now)
	}
}

// vanish notes that a policy in force is not there any more.
func (e *entry) vanish(now time.Time) {
	if e.held != nil && e.held.Policy.Mode != mail.NoSTS && now.Before(e.held.Ends()) {
		e.vanished = true
	}
}

// lost reports whether a policy that is held has vanished.
func (s *Store) lost(domain string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[domain]
	return e != nil && e.held != nil && e.vanished
}

// due reports whether a policy is to be fetched now. If it is not, last is why it could not be the last time.
func (s *Store) due(domain, id string, now time.Time) (due bool, last *Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[domain]
	if e == nil {
		return true, nil
	}
	e.checked = now
	same := e.held != nil && e.held.ID == id && now.Before(e.held.renewal())
	if same && e.failure == nil {
		e.vanished, e.renew = false, e.held.renewal()
		return false, nil
	}
	return now.Sub(e.tried) >= fetchEvery, e.failure
}

// failed notes that a policy could not be fetched.
func (s *Store) failed(domain string, why *Failure, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[domain]
	if e == nil {
		e = &entry{used: now}
		s.entries[domain] = e
	}
	e.failure, e.tried, e.checked, e.renew = why, now, now, now.Add(renewAgain)
	e.vanish(now)
	if e.held != nil && !now.Before(e.held.Ends()) {
		s.octets -= e.octets
		e.held, e.octets, e.vanished = nil, 0, false
		s.changes++
	}
	s.shrink(domain)
}

// put holds a policy, in the place of the one before, which it returns; nil if there was none in force.
func (s *Store) put(h *Held, now time.Time) (old *Held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[h.Domain]
	if e == nil {
		e = &entry{used: now}
		s.entries[h.Domain] = e
	}
	if e.held != nil && now.Before(e.held.Ends()) {
		old = e.held
	}
	s.octets -= e.octets
	e.held, e.octets, e.failure, e.vanished = h, octets(h), nil, false
	e.checked, e.tried, e.renew = now, now, h.renewal()
	s.octets += e.octets
	s.changes++
	s.shrink(h.Domain)
	return old
}

// shrink makes room. What is not in force goes first. Of the others, if they are too many, the one that was used the
// longest time ago goes; if they take too much, the largest one, so that a giant costs others nothing.
func (s *Store) shrink(but string) {
	for len(s.entries) > s.most || s.octets > mostOctets {
		large := s.octets > mostOctets
		var least string
		var of *entry
		for domain, e := range s.entries {
			if domain != but && (of == nil || e.goesBefore(of, large)) || large && of == nil {
				least, of = domain, e
			}
		}
		s.octets -= of.octets
		delete(s.entries, least)
		s.changes++
	}
}

func (e *entry) goesBefore(other *entry, large bool) bool {
	return cmp.Or(cmp.Compare(e.worth(), other.worth()), map[bool]int{true: cmp.Compare(other.octets, e.octets)}[large],
		e.used.Compare(other.used)) < 0
}

// worth is 0 of what is not held, 2 of what is enforced.
func (e *entry) worth() int {
	switch {
	case e.held == nil:
		return 0
	case e.held.Policy.Mode != mail.Enforce:
		return 1
	}
	return 2
}

// Run renews the policies of domains in use before anybody asks, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	ticker := time.NewTicker(renewPause)
	defer ticker.Stop()
	for {
		s.renew(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// renew looks at all policies for which it is time.
func (s *Service) renew(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	slots := make(chan struct{}, renewsAtOnce)
	due, ended := s.store.stale(s.config.Clock())
	for _, domain := range ended {
		s.config.Meter.Restored(domain)
	}
	for _, domain := range due {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		work.Go(func() {
			defer func() { <-slots }()
			select {
			case <-s.store.flights.DoChan(domain, func() (any, error) { return s.update(domain), nil }):
			case <-ctx.Done():
			}
		})
	}
}

// stale are the domains in use whose policies are to be renewed now. What nobody has use for any more is forgotten;
// ended are those of it that had vanished.
func (s *Store) stale(now time.Time) (due, ended []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for domain, e := range s.entries {
		switch over := e.held == nil || !now.Before(e.held.Ends()); {
		case over && now.Sub(e.tried) >= fetchEvery:
			s.octets -= e.octets
			delete(s.entries, domain)
			s.changes++
			if e.vanished {
				ended = append(ended, domain)
			}
		case !over && now.Sub(e.used) < inUse && !now.Before(e.renew):
			due = append(due, domain)
		}
	}
	slices.Sort(due)
	return due, ended
}

// Known is what a Store knows.
type Known struct {
	Held, Enforced int      // policies in force, and those of them that are enforced
	Vanished       int      // of those in force, what is not there any more
	Failed         []Failed // what could not be had at the last try; the latest first, a few of them
}

// Failed is a domain whose policy could not be had.
type Failed struct {
	Domain string
	*Failure
}

// fewFailed is how many of them are told.
const fewFailed = 5

// Known returns what is known.
func (s *Store) Known(now time.Time) (k Known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for domain, e := range s.entries {
		if e.failure != nil {
			k.Failed = append(k.Failed, Failed{domain, e.failure})
		}
		if e.held == nil || !now.Before(e.held.Ends()) {
			continue
		}
		k.Held++
		if e.held.Policy.Mode == mail.Enforce {
			k.Enforced++
		}
		if e.vanished {
			k.Vanished++
		}
	}
	slices.SortFunc(k.Failed, func(a, b Failed) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Domain, b.Domain))
	})
	k.Failed = k.Failed[:min(len(k.Failed), fewFailed)]
	return k
}
