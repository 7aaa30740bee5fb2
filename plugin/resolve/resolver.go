package resolve

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// background is how long work may go on after its client was told SERVFAIL: its result fills the cache for the next try
// (L-10).
const background = 10 * time.Second

// grace is by how much an upstream question would outlive the client query that asks it first: that is to end by its
// own time, and not to spend its last moment on another try.
const grace = 100 * time.Millisecond

// Resolver answers questions with validated data. It is safe for concurrent use.
type Resolver struct {
	Config
	times
	anchorPoints
	fetcher *fetch.Fetcher
	chain   *chain.Chain
	flights *flights     // client questions
	aheads  atomic.Int64 // flights for nobody
}

// New returns a Resolver.
func New(c Config) *Resolver {
	r := &Resolver{Config: c, times: times{c.Clock, c.ValidationTime, c.Clock()}}
	r.anchorPoints = anchorPoints{r}
	if c.Pause == nil {
		c.Pause = func() {}
	}
	r.fetcher = fetch.New(fetch.Config{
		Exchanger: c.Exchanger, Stored: c.Beyond, Meter: c.Meter, Room: c.Room,
		Patience:  max(background, c.Timeout) + grace,
		Questions: c.UpstreamQuestions, Retries: c.Retries, Pause: c.Pause, Check: func() *dnssec.Check {
			return &dnssec.Check{
				Now: r.judgedAt(), Policy: r.Policy, SignatureChecks: r.SignatureChecks, Verified: r.Store.verified,
				Pause:  c.Pause,
				Border: func(owner, target string) bool { return r.home(owner) != r.home(target) },
			}
		},
	})
	c.Store.answers.Linger(c.Stale)
	if c.ProcessorsShort == nil {
		c.ProcessorsShort = r.fetcher.ProcessorsShort
	}
	r.flights = newFlights(c.InFlight, c.Waiting, c.Room, c.ProcessorsShort)
	links := chain.Config{
		Fetcher: r.fetcher, Store: c.Store.places, Anchors: c.Anchors, Policy: c.Policy, Clock: c.Clock, Now: r.now,
		MaxTTL: c.MaxTTL, Renew: c.Prefetch, Busy: r.flights.busy, Joined: c.Meter.Joined, Life: background,
		Unvalidated: c.Private,
	}
	if c.Beyond != nil {
		links.Keep = keeping{r}.link
	}
	r.chain = chain.New(links, c.NTAs)
	return r
}

// times are those that a Resolver works by.
type times struct {
	clock      func() time.Time
	validation time.Time // the instant at which everything is judged; zero for that of the clock
	started    time.Time // by the clock
}

// now is the time by which caches live; it differs from the clock only where everything is judged at one instant.
func (t times) now() time.Time {
	if t.validation.IsZero() {
		return t.wall()
	}
	return t.validation.Add(t.clock().Sub(t.started))
}

// wall is the clock's time of day alone. The monotonic reading that time.Now brings along stands still while the host
// sleeps: what is kept would live longer by that.
func (t times) wall() time.Time { return t.clock().Round(0) }

// judgedAt is the time at which signatures are judged.
func (t times) judgedAt() time.Time {
	if t.validation.IsZero() {
		return t.wall()
	}
	return t.validation
}

// Resolve answers q (class IN, RD=1) from the cache or from upstream, within Config.Timeout. It never returns nil.
func (r *Resolver) Resolve(ctx context.Context, q dns.Question) *Answer {
	return r.resolve(ctx, q, false)
}

// Unchecked is Resolve for a client that sets CD (V-76): what is remembered of data that came but could not be
// validated does not answer it (C-11), so that Answer.Unvalidated is there whenever a reply can be had.
func (r *Resolver) Unchecked(ctx context.Context, q dns.Question) *Answer {
	return r.resolve(ctx, q, true)
}

// Cached answers q from the cache alone; nil if it is not there (RD=0, S-22).
func (r *Resolver) Cached(q dns.Question) *Answer {
	q.Name = dnssec.Canonical(q.Name)
	a, _ := r.Store.answer(q, r.now())
	return a
}

func (r *Resolver) resolve(ctx context.Context, q dns.Question, unchecked bool) *Answer {
	q.Name = dnssec.Canonical(q.Name)
	now := r.now()
	if a, due := r.Store.answer(q, now); a != nil {
		r.Meter.Cache(true)
		if due {
			r.renew(q)
		}
		return a
	}
	if f, ok := r.Store.failures.alive(q, now); ok && !(unchecked && !f.cause.NoReply()) {
		a := r.insteadOf(ctx, q)
		if a == nil {
			a = stale{r}.remembered(q, f)
		}
		if a != nil {
			r.Meter.Cache(true)
			return a
		}
	}
	r.Meter.Cache(false)
	return r.join(ctx, q)
}

// join waits for the answer to q.
func (r *Resolver) join(ctx context.Context, q dns.Question) *Answer {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	answer := make(chan *Answer, 1)
	w := &waiter{r: r, q: q, client: clientOf(ctx), then: func(a *Answer) { answer <- a }}
	w.join()
	defer context.AfterFunc(ctx, func() { w.giveUp(ctx.Err()) })()
	return (<-answer).Clone()
}

// ofClient is the key of the client in a context.
type ofClient struct{}

// WithClient says who asks: when the table of questions is full, a client that fills it yields to others (L-13).
func WithClient(ctx context.Context, client string) context.Context {
	return context.WithValue(ctx, ofClient{}, client)
}

func clientOf(ctx context.Context) string {
	client, _ := ctx.Value(ofClient{}).(string)
	return client
}

// crowdOf returns whose names name is counted with when the table is full: those of the deepest zone known, or of the
// delegation below if that is the root or a registry's.
func (r *Resolver) crowdOf(name string) string {
	zone, _ := r.ZoneKnown(name)
	for zone != name && dns.CountLabel(zone) < 2 {
		zone = dnssec.Toward(zone, name)
	}
	return zone
}

// launch runs the work of a flight in the background.
func (r *Resolver) launch(f *flight, q dns.Question, why purpose) {
	ctx, cancel := context.WithCancelCause(r.fetcher.Context())
	w := r.newWork(q, why)
	f.begin(w.account, cancel)
	f.limit(r.Timeout, max(background-r.Timeout, 0), func() { r.flights.release(f) })
	started := r.fetcher.Go(func() {
		defer cancel(nil)
		defer w.account.Close()
		defer f.unlimited()
		r.fetcher.Pause()
		a := w.run(ctx)
		if ctx.Err() != nil {
			w.account.Abandon()
		}
		r.flights.remove(f) // what was remembered serves those who come now
		f.finish(a)
		why.done(a)
	})
	if !started {
		cancel(nil)
		f.unlimited()
		r.flights.remove(f)
		f.finish(refusal(dnssec.Indeterminate, fetch.AsFailure(q, fetch.ErrClosed)))
		why.done(nil)
	}
}

// rescue, deferred, makes a SERVFAIL of a panic (S-27).
func rescue(q dns.Question, a **Answer) {
	if p := recover(); p != nil {
		*a = refusal(dnssec.Indeterminate, fetch.Panic(q, p))
	}
}

// Explain answers q past the answer cache and tells the chain it rests on.
func (r *Resolver) Explain(ctx context.Context, q dns.Question) (e *Explanation) {
	q.Name = dnssec.Canonical(q.Name)
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fetch.ErrDeadline)
	defer cancel()
	e = new(Explanation)
	defer rescue(q, &e.Answer)
	w := r.newWork(q, purpose{role: fetch.RoleAnswer, past: true})
	defer w.account.Close()
	e.Answer = w.complete(ctx).answer(r.judgedAt(), r.MaxTTL)
	e.Zones = w.walk.Zones()
	return e
}

// Prime asks for and judges the DNSKEY of every anchor zone (T-13). Nil if at least one could be validated, or none
// needs to be (T-15), else the *dnssec.Failure of one that could not.
func (r *Resolver) Prime(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, background, fetch.ErrDeadline)
	defer cancel()
	var failed error
	for zone := range r.chain.Trusted() {
		w := r.newWork(dnssec.Question(zone, dns.TypeDNSKEY), forClient)
		z := w.walk.ZoneOf(ctx, zone)
		w.account.Close()
		switch z.Status {
		case dnssec.Secure:
			return nil
		case dnssec.Insecure:
		default:
			failed = z.Cause
		}
	}
	return failed
}

// Close ends background work and waits for it. Questions asked later fail.
func (r *Resolver) Close() { r.fetcher.Close() }

// typeName returns the mnemonic of an RR type, or TYPEnnn (RFC 3597).
func typeName(t uint16) string { return dns.Type(t).String() }
