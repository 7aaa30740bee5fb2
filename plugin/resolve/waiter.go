package resolve

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// waiter is a client that waits for the answer to a question, without a goroutine.
type waiter struct {
	r      *Resolver
	q      dns.Question
	client string
	then   func(*Answer) // is called once, with what is shared

	mu     sync.Mutex
	at     *flight // it waits for; nil between two, and after the last
	leads  bool
	gaveUp error       // why it waits no longer
	hurry  *time.Timer // of settle; nil if nothing stale was there
}

// Later has then called with the answer to q, as Resolve returns it, but shared with others: it must not be changed. It
// does not wait for it: then may be called before it returns, or by the goroutine that has found the answer, which it
// must not keep waiting. Once ctx has ended, nobody waits for the answer any more. It is false, and does nothing, where
// a failure is remembered.
func (m Memory) Later(ctx context.Context, q dns.Question, client string, then func(*Answer)) bool {
	r := m.Resolver
	q.Name = strings.Clone(q.Name)
	if _, failed := r.Store.failures.alive(q, r.now()); failed {
		return false
	}
	r.Meter.Cache(false)
	w := &waiter{r: r, q: q, client: client}
	timer := time.AfterFunc(r.Timeout, func() { w.giveUp(context.DeadlineExceeded) })
	stop := func() bool { return true }
	if ctx.Done() != nil { // it may end
		stop = context.AfterFunc(ctx, func() { w.giveUp(ctx.Err()) })
	}
	w.then = func(a *Answer) {
		timer.Stop()
		stop()
		then(a)
	}
	w.join()
	return true
}

// Refused returns what a client is told whose question, which is not in memory, a limit keeps out at once (L-13); nil
// if none does, or that is for [Memory.Later] to find out. Nothing is done for the question, nor counted: where
// thousands are refused in a second, one takes little more than a hit. The answer stands no longer than the name of the
// question.
func (m Memory) Refused(q dns.Question, client func() string) *Answer {
	r := m.Resolver
	refused := r.flights.refusing(keyOf(q), client, func() string { return r.crowdOf(q.Name) })
	if refused == nil {
		return nil
	}
	if _, failed := r.Store.failures.alive(q, r.now()); failed {
		return nil
	}
	return refusal(dnssec.Indeterminate, refused.failure(q))
}

// CountRefused counts what Refused has returned and a client was told.
func (m Memory) CountRefused(a *Answer) {
	m.Resolver.Meter.Cache(false)
	count(m.Resolver.Meter, a)
}

// join begins to wait for the flight of the question, which it starts if there is none.
func (w *waiter) join() {
	r := w.r
	f, leads, refused := r.flights.join(keyOf(w.q), w.client, func() string { return r.crowdOf(w.q.Name) })
	if refused != nil {
		r.Meter.Limit(string(refused.limit))
		w.then(refusal(dnssec.Indeterminate, refused.failure(w.q)))
		return
	}
	if leads {
		r.launch(f, w.q, forClient)
	} else {
		r.Meter.Joined()
	}
	w.mu.Lock()
	w.at, w.leads = f, leads
	w.settleLater(f)
	late := w.gaveUp != nil
	w.mu.Unlock()
	if f.await(w); late {
		w.giveUp(w.gaveUp)
	}
}

// leave reports whether the waiter still waits for a flight, or for any if f is nil, and has it wait no longer.
func (w *waiter) leave(f *flight) (at *flight, waits bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == nil || f != nil && w.at != f {
		return nil, false
	}
	at, w.at = w.at, nil
	if w.hurry != nil {
		w.hurry.Stop()
	}
	return at, true
}

// ended is called at the end of a flight. One that ran out of time while this client has some left is begun anew, by
// one of those who waited for it (L-6a), and so is one whose answer rests on what has ended meanwhile (C-2, V-19).
func (w *waiter) ended(f *flight) {
	if _, waits := w.leave(f); !waits {
		return
	}
	w.r.flights.leave(f)
	if f.yielded() {
		w.r.Meter.Limit(string(errYielded))
	}
	if !f.result.over(w.r.judgedAt()) && (w.leads || f.handsOn() || w.r.fetcher.Context().Err() != nil) {
		w.then(stale{w.r}.instead(w.q, f.result))
		return
	}
	w.join()
}

// giveUp has the client wait no longer: its time is up, or it has gone.
func (w *waiter) giveUp(cause error) {
	w.mu.Lock()
	w.gaveUp = cause
	w.mu.Unlock()
	f, waits := w.leave(nil)
	if !waits {
		return
	}
	a := f.overdue(w.q, w.r.Timeout)
	w.part(f)
	if errors.Is(cause, context.Canceled) { // nobody reads it any more: that is no news for the log
		a.told = new(atomic.Bool)
		a.Tell()
	} else if s := w.meanwhile(f); s != nil { // it may be told since zones were found to be unsigned
		w.r.Meter.Stale()
		a = s
	} else {
		w.r.Meter.Limit(string(fetch.ErrDeadline))
	}
	w.then(a)
}

// part has the work for a flight, which the client has waited for, go on without it.
func (w *waiter) part(f *flight) {
	f.forget(w)
	if w.r.flights.leave(f) {
		w.r.flights.release(f)
	}
}
