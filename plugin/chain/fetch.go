package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// exchange identifies an upstream question that may be joined with another in flight.
type exchange struct {
	name  string
	qtype uint16
}

// future is the reply to one upstream question, once done is closed. It is shared: nobody changes it any more.
type future struct {
	question dns.Question
	done     chan struct{}
	reply    Reply
	message  *dnssec.Message
	err      error
}

// exchanges are the first tries in flight, of all client queries (L-13).
type exchanges struct {
	mu    sync.Mutex
	calls map[exchange]*future
}

// start returns the future of q and whether it was there already. It runs under the resolver and not under the client
// query that happened to ask first: others may wait for it.
func (r *Resolver) start(q dns.Question, t Try, role Role) (f *future, joined bool) {
	if t.N > 0 {
		return r.launchExchange(q, t, role, func() {}), false
	}
	key := exchange{q.Name, q.Qtype}
	r.exchanges.mu.Lock()
	defer r.exchanges.mu.Unlock()
	if f := r.exchanges.calls[key]; f != nil {
		return f, true
	}
	f = r.launchExchange(q, t, role, func() {
		r.exchanges.mu.Lock()
		defer r.exchanges.mu.Unlock()
		delete(r.exchanges.calls, key)
	})
	r.exchanges.calls[key] = f
	return f, false
}

func (r *Resolver) launchExchange(q dns.Question, t Try, role Role, ended func()) *future {
	f := &future{question: q, done: make(chan struct{})}
	ctx, cancel := context.WithTimeoutCause(r.ctx, max(background, r.Timeout), errDeadline)
	if role == RoleWarm {
		r.warming.Add(1)
		ended = func(ended func()) func() { return func() { r.warming.Add(-1); ended() } }(ended)
	}
	r.running.Go(func() {
		defer cancel()
		defer close(f.done)
		defer ended()
		defer func() {
			if p := recover(); p != nil { // S-27
				f.err = fmt.Errorf("panic: %v", p)
			}
		}()
		if f.reply, f.err = r.Exchanger.Exchange(ctx, q, t); f.err == nil {
			f.message, f.err = dnssec.Group(f.reply.Msg)
		}
		r.Meter.Fetch(role, f.err != nil)
	})
	return f
}

// ask starts a first try for q on behalf of w, unless w has done so already.
func (w *query) ask(q dns.Question, role Role) (*future, *dnssec.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := exchange{q.Name, q.Qtype}
	if f := w.futures[key]; f != nil {
		return f, nil
	}
	if role != RoleWarm && w.asked >= w.r.UpstreamQuestions {
		return nil, w.tooMany()
	}
	f, joined := w.r.start(q, Try{CD: true}, role)
	switch {
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
	return w.limit("upstream_questions", "needs more than %d upstream questions (limit upstream_questions)",
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
	select {
	case <-f.done:
	case <-w.ctx.Done():
		return nil, expired(w.ctx, w.question, describe(f.question))
	}
	if f.err != nil {
		return nil, asFailure(f.question, f.err)
	}
	return w.accept(f)
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
		return nil, w.limit("response_octets", "the replies needed are over %d octets", responseOctets)
	}
	got := &reply{f.message.Clone(), f.reply.Msg, f.reply.Upstream}
	w.replies[f] = got
	return got, nil
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
