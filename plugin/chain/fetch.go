package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// patience is how long an upstream question may be without a reply before that is told of the upstreams: all its copies have been sent by
// then, and questions that arrived with the end of a client query are not among those.
const patience = 4 * time.Second

// copiesSent is when an upstream question has usually been put as often as it may be: who comes for its reply later may have it put once more.
const copiesSent = 2500 * time.Millisecond

// grace is by how much an upstream question would outlive the client query that asks it first: that is to end by its own time, and not to
// spend its last moment on another try.
const grace = 100 * time.Millisecond

// exchange identifies a try for an upstream question; the first may be joined with another in flight.
type exchange struct {
	name  string
	qtype uint16
	try   int
}

// future is the reply to one upstream question, once done is closed. It is shared: nobody changes it any more.
type future struct {
	question dns.Question
	began    time.Time
	done     chan struct{}
	reply    Reply
	message  *dnssec.Message
	err      error

	users  int // client queries that have asked it, under exchanges.mu
	cancel context.CancelFunc
	waits  atomic.Int32 // client queries that wait for it now
	again  atomic.Int32 // how often clients have come late
}

// demand tells how often clients have come for the reply, as Try.Demand.
func (f *future) demand() int {
	if f.waits.Load() == 0 {
		return 0
	}
	return 1 + int(f.again.Load())
}

// sought notes that a client has come for the reply. What was asked long ago may have been lost, or the upstream was away then.
func (f *future) sought() {
	if time.Since(f.began) >= copiesSent {
		f.again.Add(1)
	}
}

// exchanges are the first tries in flight, of all client queries (L-13).
type exchanges struct {
	mu    sync.Mutex
	calls map[exchange]*future
}

// start returns the future of q and whether it was there already; nil if it is speculation and there is enough of that. It
// runs under the resolver and not under the client query that happened to ask first: others may wait for it.
func (r *Resolver) start(q dns.Question, t Try, role Role) (f *future, joined bool) {
	key := exchange{q.Name, q.Qtype, t.N}
	r.exchanges.mu.Lock()
	defer r.exchanges.mu.Unlock()
	if f := r.exchanges.calls[key]; f != nil && t.N == 0 {
		f.users++
		f.sought()
		return f, true
	}
	if role == RoleWarm && (r.warming.Load() >= warmInFlight || r.Room.half()) {
		return nil, false
	}
	ctx, cancel := context.WithTimeoutCause(r.ctx, max(background, r.Timeout)+grace, errDeadline)
	f = &future{question: q, began: time.Now(), done: make(chan struct{}), users: 1, cancel: cancel}
	t.Demand = func() int {
		if r.slots.short() { // what was not looked at yet need not have been lost
			return 0
		}
		return f.demand()
	}
	if t.N == 0 {
		r.exchanges.calls[key] = f
	}
	if role == RoleWarm {
		r.warming.Add(1)
	}
	switch {
	case !r.Room.take(questionOctets, true):
		f.err = limitFailure(q, errRoom, "no memory is left for questions to upstreams (limit %s)", string(errRoom))
	case r.running.start(func() {
		defer r.Room.give(questionOctets)
		r.exchange(ctx, f, t, role)
	}):
		return f, false
	default:
		r.Room.give(questionOctets)
		f.err = errClosed
	}
	r.ended(f, role)
	return f, false
}

// exchange asks upstream for f.
func (r *Resolver) exchange(ctx context.Context, f *future, t Try, role Role) {
	defer func() {
		r.exchanges.mu.Lock()
		defer r.exchanges.mu.Unlock()
		r.ended(f, role)
	}()
	defer func() {
		if p := recover(); p != nil { // S-27
			f.err = fmt.Errorf("panic: %v", p)
		}
	}()
	if f.reply, f.err = r.Exchanger.Exchange(ctx, f.question, t); f.err == nil {
		f.message, f.err = dnssec.Group(f.reply.Msg)
	}
	r.Meter.Fetch(role, f.err != nil)
}

// ended hands out the outcome of f; exchanges.mu is held.
func (r *Resolver) ended(f *future, role Role) {
	if role == RoleWarm {
		r.warming.Add(-1)
	}
	r.exchanges.drop(f)
	f.cancel()
	close(f.done)
}

// drop makes f one that is not joined any more.
func (e *exchanges) drop(f *future) {
	if key := (exchange{f.question.Name, f.question.Qtype, 0}); e.calls[key] == f {
		delete(e.calls, key)
	}
}

// leave ends f if no other client query has asked it.
func (e *exchanges) leave(f *future) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.users--; f.users == 0 {
		e.drop(f)
		f.cancel()
	}
}

// abandon gives up all that w has asked. Questions put out by newer ones would else pile up behind them (L-13, L-15).
func (w *query) abandon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.futures {
		w.r.exchanges.leave(f)
	}
}

// ask starts a first try for q on behalf of w, unless w has done so already.
func (w *query) ask(q dns.Question, role Role) (*future, *dnssec.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := exchange{q.Name, q.Qtype, 0}
	if f := w.futures[key]; f != nil {
		return f, nil
	}
	if role != RoleWarm && w.asked >= w.r.UpstreamQuestions {
		return nil, w.tooMany()
	}
	f, joined := w.r.start(q, Try{CD: true}, role)
	switch {
	case f == nil:
		return nil, nil
	case joined: // another query's, and on its account
	case role == RoleWarm:
		w.ahead[f] = true // counted when it turns out to be needed
	default:
		w.asked++
	}
	w.futures[key] = f
	return f, nil
}

func (w *query) tooMany() *dnssec.Failure {
	return limitFailure(w.question, "upstream_questions", "needs more than %d upstream questions (limit upstream_questions)",
		w.r.UpstreamQuestions)
}

// fetch returns the reply to the first try for q, grouped for this client query.
func (w *query) fetch(q dns.Question, role Role) (*reply, *dnssec.Failure) {
	f, limit := w.ask(q, role)
	if limit != nil {
		return nil, limit
	}
	return w.wait(f)
}

// retriesPerQuery bounds the further tries of V-14 for one client query (L-9).
const retriesPerQuery = 10

// nextTry returns the number of the try after n. What no upstream would answer has been put to all of them already
// (S-14): only the last try, another way of asking, is left.
func (w *query) nextTry(n int, unanswered bool) int {
	if unanswered {
		return max(n+1, w.r.Retries)
	}
	return n + 1
}

// again starts the n-th further try for q, elsewhere, and the last one with CD=0 over TCP (V-14): with CD=1 a validating
// upstream may repeat the bad entry that it holds. It returns nil when the tries are used up.
func (w *query) again(q dns.Question, n int, avoid []string) *future {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > w.r.Retries || w.retried >= retriesPerQuery || w.ctx.Err() != nil {
		return nil
	}
	w.retried++
	last := n == w.r.Retries
	f, _ := w.r.start(q, Try{N: n, CD: !last, TCP: last, Avoid: avoid}, RoleRetry)
	w.futures[exchange{q.Name, q.Qtype, n}] = f
	return f
}

// reply is one upstream's reply as this client query sees it.
type reply struct {
	*dnssec.Message
	raw      *dns.Msg // shared
	upstream string
}

// signed reports whether there is any signature in the reply.
func (r *reply) signed() bool {
	return slices.ContainsFunc(slices.Concat(r.Answer, r.Authority), func(s *dnssec.RRset) bool { return len(s.Sigs) > 0 })
}

// wait waits for f and takes its reply for this query.
func (w *query) wait(f *future) (*reply, *dnssec.Failure) {
	w.awaits(f, +1)
	defer w.awaits(f, -1)
	f.waits.Add(1)
	defer f.waits.Add(-1)
	select {
	case <-f.done:
	case <-w.ctx.Done():
		return nil, w.gaveUp(f)
	}
	if f.err != nil {
		return nil, asFailure(f.question, f.err)
	}
	return w.accept(f)
}

// gaveUp is why w waits no longer for f: the upstreams were silent all the time (C-11), or else its own is over (L-6a).
func (w *query) gaveUp(f *future) *dnssec.Failure {
	silent := time.Since(f.began)
	if silent < patience || !errors.Is(context.Cause(w.ctx), errDeadline) {
		return expired(w.ctx, w.question, describe(f.question))
	}
	return &dnssec.Failure{
		Code: dns.ExtendedErrorCodeNoReachableAuthority, Owner: f.question.Name, Type: f.question.Qtype,
		Text: fmt.Sprintf("%s: no upstream has replied in %v", describe(f.question), silent.Round(100*time.Millisecond)),
	}
}

// accept makes the reply of f one of this query, which pays for it: a question of its own (L-9), the octets (L-11).
func (w *query) accept(f *future) (*reply, *dnssec.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.replies[f]; got != nil {
		return got, nil
	}
	if w.ahead[f] {
		delete(w.ahead, f)
		if w.asked++; w.asked > w.r.UpstreamQuestions {
			return nil, w.tooMany()
		}
	}
	if w.octets += f.reply.Size; w.octets > responseOctets {
		return nil, limitFailure(w.question, "response_octets", "the replies needed are over %d octets", responseOctets)
	}
	if !w.roomFor(f.reply.Size) {
		return nil, limitFailure(w.question, errRoom, "no memory is left for replies of upstreams (limit %s)", string(errRoom))
	}
	got := &reply{f.message.Clone(), f.reply.Msg, f.reply.Upstream}
	w.replies[f] = got
	return got, nil
}

// roomFor takes the room for a reply of so many octets, until this query ends.
func (w *query) roomFor(octets int) bool {
	n := int64(octets) * replyGrowth
	if !w.r.Room.take(n, true) {
		return false
	}
	context.AfterFunc(w.ctx, func() { w.r.Room.give(n) })
	return true
}

// asFailure makes a failure of any error; one that is none already is a network error.
func asFailure(q dns.Question, err error) *dnssec.Failure {
	var f *dnssec.Failure
	if errors.As(err, &f) {
		return f
	}
	return &dnssec.Failure{
		Code: dns.ExtendedErrorCodeNetworkError, Owner: q.Name, Type: q.Qtype, Err: err,
		Text: fmt.Sprintf("%s could not be asked: %v", describe(q), err),
	}
}

// describe names a question for a sentence.
func describe(q dns.Question) string { return q.Name + " " + typeName(q.Qtype) }
