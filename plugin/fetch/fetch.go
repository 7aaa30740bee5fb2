// Package fetch puts questions to upstreams, each on somebody's account. Identical first tries are joined; an [Account]
// is what one client query has asked, and all that is done for it spends one [Budget]: questions, octets, retries,
// speculation and the work of the judge, which waits for its turn at a processor.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Exchanger puts one question to one upstream. It sets RD and DO, asks with EDNS, and follows t for CD and transport.
//
// It brings only usable replies: to this question, RCODE NOERROR, NXDOMAIN or YXDOMAIN, not truncated, no referral.
// Everything else is an error that is a *dnssec.Failure with EDE code 22, 23 or 24 and a sentence that names the
// upstreams asked and what each did. Lost packets, second copies, TC and failing over to the next upstream after a bad
// RCODE (S-14) are its business; judging is not. It is safe for concurrent use.
type Exchanger interface {
	// Ask has done called once, by another goroutine than the one that runs Ask: with the reply, which belongs to the
	// caller, or with the error; in both cases soon after the time of the question is over, or cancel was called. done
	// is quick. cancel does not wait for it, and may be called at any time.
	Ask(q dns.Question, t Try, done func(Reply, error)) (cancel func())
}

// Try says how a question is put.
type Try struct {
	N   int  // 0 for the first, then V-14's further tries
	TCP bool // ask over TCP at once
	CD  bool // the CD bit to send
	// upstreams whose replies were judged Bogus or unusable; asked only if there is no other, in this order
	Avoid []string
	// Demand, if not nil, tells how often clients have come for the reply so far, counted anew once all copies had been
	// sent; 0 if nobody waits for it at the moment: the question is not put once more then. It is cheap and safe for
	// concurrent use.
	Demand func() int
	Until  time.Time // when to give up; zero: never
	// Stored: it is put to Config.Stored, and to no upstream.
	Stored bool
}

// Reply is what came back.
type Reply struct {
	Msg      *dns.Msg
	Upstream string // its name as in Try.Avoid
	Size     int    // octets on the wire (L-11)
}

// Role says what a question to an upstream is for; it labels metrics.
type Role string

// The roles of upstream questions.
const (
	RoleAnswer Role = "answer" // what the client asked, or the rest of its alias chain
	RoleLink   Role = "link"   // DS or DNSKEY that a verdict needs
	RoleWarm   Role = "warm"   // the same, asked ahead on speculation
	RoleRetry  Role = "retry"  // V-14
	RoleAhead  Role = "ahead"  // what a client will ask next
	RoleRenew  Role = "renew"  // what was asked, again, before it ends (C-14)
)

// Meter is told what happened, for metrics. Its methods are cheap and safe for concurrent use.
type Meter interface {
	Fetch(role Role, failed bool) // one question to an upstream has ended
}

// Config is what a Fetcher is made of. All but Retries and Stored is required.
type Config struct {
	Exchanger Exchanger
	Stored    Exchanger // brings replies of old, for accounts of OpenStored; may be nil
	Meter     Meter
	Room      *Room                // for work in flight (L-15)
	Patience  time.Duration        // how long an upstream question may be open
	Questions int                  // that a client query may put to upstreams (L-9)
	Retries   int                  // of one question (V-14)
	Check     func() *dnssec.Check // returns the one of a new client query
	Pause     func()               // between two pieces of work: what must not wait is done meanwhile
}

// maxSpeculation is how many questions may be in flight on speculation, of all client queries (L-9).
const maxSpeculation = 64

// Fetcher asks upstreams on behalf of all client queries. It is safe for concurrent use.
type Fetcher struct {
	Config
	ctx         context.Context
	cancel      context.CancelFunc
	work        crew
	turns       *turns
	processors  *processors
	speculating atomic.Int64 // questions in flight on speculation

	seed  maphash.Seed
	tries [16]tries // each for a part of all names, so that few wait for the same lock
}

// tries are those in flight.
type tries struct {
	mu     sync.Mutex
	firsts map[try]*exchange // the first ones (L-13)
	open   map[*exchange]struct{}
}

// New returns a Fetcher.
func New(c Config) *Fetcher {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fetcher{Config: c, ctx: ctx, cancel: cancel, turns: newTurns(), processors: newProcessors(),
		seed: maphash.MakeSeed()}
	for i := range f.tries {
		f.tries[i].firsts, f.tries[i].open = map[try]*exchange{}, map[*exchange]struct{}{}
	}
	return f
}

// Context ends when the Fetcher is closed.
func (f *Fetcher) Context() context.Context { return f.ctx }

// Go runs work in the background and reports whether it does: not once the Fetcher is closed.
func (f *Fetcher) Go(work func()) bool { return f.work.start(work) }

// ProcessorsShort reports whether processors are what is short: work waits long for its turn to verify, or for one of
// them at all.
func (f *Fetcher) ProcessorsShort() bool { return f.turns.short() || f.processors.short(time.Now()) }

// Close ends what goes on in the background and waits for it. Questions put later fail.
func (f *Fetcher) Close() {
	f.cancel()
	f.work.shut()
	for i := range f.tries {
		for _, e := range f.tries[i].all() {
			f.settle(e)
		}
	}
	f.work.wait()
}

// copiesSent is when an upstream question has usually been put as often as it may be: who comes for its reply later may
// have it put once more.
const copiesSent = 2500 * time.Millisecond

// try identifies a try for an upstream question; the first may be joined with another in flight.
type try struct {
	name  string
	qtype uint16
	n     int
}

// exchange is one try for an upstream question. Its outcome is there once done is closed, and is shared: nobody changes
// it.
type exchange struct {
	question dns.Question
	stored   bool // as in its Try
	began    time.Time
	done     chan struct{}
	reply    Reply
	message  *dnssec.Message
	err      error

	among  *tries
	users  int          // accounts that have asked it; under among.mu
	cancel func()       // nil: it is not put yet; under among.mu
	waits  atomic.Int32 // accounts that wait for it now
	again  atomic.Int32 // how often clients have come late
}

// demand tells how often clients have come for the reply, as Try.Demand.
func (e *exchange) demand() int {
	if e.waits.Load() == 0 {
		return 0
	}
	return 1 + int(e.again.Load())
}

// sought notes that a client has come for the reply. What was asked long ago may have been lost, or the upstream was
// away then.
func (e *exchange) sought() {
	if time.Since(e.began) >= copiesSent {
		e.again.Add(1)
	}
}

// ended reports whether the outcome is there.
func (e *exchange) ended() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// start returns the exchange of q and whether it was there already; nil if it is speculation and there is enough of
// that. It belongs to the Fetcher and not to the client query that happened to ask first: others may wait for it.
func (f *Fetcher) start(q dns.Question, t Try, role Role) (e *exchange, joined bool) {
	if e, joined = f.enter(q, t, role); e != nil && !joined {
		f.put(e, t, role)
	}
	return e, joined
}

// enter notes a question that is going to be put, if it is not there already.
func (f *Fetcher) enter(q dns.Question, t Try, role Role) (e *exchange, joined bool) {
	all := &f.tries[maphash.String(f.seed, q.Name)%uint64(len(f.tries))]
	all.mu.Lock()
	defer all.mu.Unlock()
	common := t.N == 0 && len(t.Avoid) == 0 && !t.Stored
	if e := all.firsts[try{q.Name, q.Qtype, t.N}]; e != nil && common {
		e.users++
		e.sought()
		return e, true
	}
	if role == RoleWarm && !f.speculate() {
		return nil, false
	}
	e = &exchange{
		question: q, began: time.Now(), done: make(chan struct{}), among: all, users: 1, stored: t.Stored,
	}
	all.open[e] = struct{}{}
	if common {
		all.firsts[try{q.Name, q.Qtype, 0}] = e
	}
	return e, false
}

// speculate notes one more question on speculation, if there is not enough of that.
func (f *Fetcher) speculate() bool {
	if f.Room.Half() {
		return false
	}
	if f.speculating.Add(1) > maxSpeculation {
		f.speculating.Add(-1)
		return false
	}
	return true
}

// put asks upstream for e.
func (f *Fetcher) put(e *exchange, t Try, role Role) {
	if !f.Room.Take(QuestionOctets, true) {
		e.err = Limit(e.question, ErrRoom, "no memory is left for questions to upstreams (limit %s)", string(ErrRoom))
		f.ended(e, role)
		return
	}
	if !f.work.begin() {
		f.Room.Give(QuestionOctets)
		e.err = ErrClosed
		f.ended(e, role)
		return
	}
	t.Until = e.began.Add(f.Patience)
	t.Demand = func() int {
		if f.ProcessorsShort() { // what was not looked at yet need not have been lost
			return 0
		}
		return e.demand()
	}
	cancel := f.ask(e, t, role)
	e.among.mu.Lock()
	e.cancel = cancel
	e.among.mu.Unlock()
	f.settle(e)
}

// ask survives a panic (S-27).
func (f *Fetcher) ask(e *exchange, t Try, role Role) (cancel func()) {
	defer func() {
		if p := recover(); p != nil {
			f.arrived(e, role, Reply{}, fmt.Errorf("panic: %v", p))
		}
	}()
	to := f.Exchanger
	if t.Stored {
		to = f.Stored
	}
	return to.Ask(e.question, t, func(r Reply, err error) { f.arrived(e, role, r, err) })
}

// settle gives e up if it is put and nobody is left who wants it.
func (f *Fetcher) settle(e *exchange) {
	e.among.mu.Lock()
	cancel, wanted := e.cancel, e.users > 0 && f.ctx.Err() == nil
	e.among.mu.Unlock()
	if cancel != nil && !wanted {
		cancel()
	}
}

// arrived takes what an upstream has brought for e.
func (f *Fetcher) arrived(e *exchange, role Role, r Reply, err error) {
	defer f.work.end()
	defer f.Room.Give(QuestionOctets)
	defer f.ended(e, role)
	f.Pause()
	defer func() {
		if p := recover(); p != nil { // S-27
			e.err = fmt.Errorf("panic: %v", p)
		}
	}()
	if e.reply, e.err = r, err; err == nil {
		e.message, e.err = dnssec.Group(r.Msg)
	}
	if !e.stored {
		f.Meter.Fetch(role, e.err != nil)
	}
}

// ended hands out the outcome of e.
func (f *Fetcher) ended(e *exchange, role Role) {
	if role == RoleWarm {
		f.speculating.Add(-1)
	}
	e.among.mu.Lock()
	defer e.among.mu.Unlock()
	e.among.drop(e)
	delete(e.among.open, e)
	close(e.done)
}

// drop makes e one that is not joined any more; mu is held.
func (t *tries) drop(e *exchange) {
	if key := (try{e.question.Name, e.question.Qtype, 0}); t.firsts[key] == e {
		delete(t.firsts, key)
	}
}

// all returns all of them.
func (t *tries) all() []*exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.open))
}

// leave ends e if no other account has asked it.
func (f *Fetcher) leave(e *exchange) {
	e.among.mu.Lock()
	if e.users--; e.users == 0 {
		e.among.drop(e)
	}
	e.among.mu.Unlock()
	f.settle(e)
}

// ErrClosed is that of a Fetcher which is closed.
var ErrClosed = errors.New("shutting down")
