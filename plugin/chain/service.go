package chain

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// silence is how long the answer for a name below _tcp may be awaited before its denial is sought (D-17): longer than most answers take,
// and short enough for another question within L-10. With a shorter Timeout it is a quarter of that.
const silence = time.Second

// errDenied ends what a question still asks once a denial of its answer is proven.
var errDenied = errors.New("the name was proven not to exist meanwhile")

// serviceAbove returns the ancestor of name that begins with the label _tcp (RFC 6698 section 3); "" if there is none.
func serviceAbove(name string) string {
	for name != "." {
		if name = dnssec.Parent(name); strings.HasPrefix(name, "_tcp.") {
			return name
		}
	}
	return ""
}

// partOrDenial is part for any name. Some servers fail on names below _tcp that do not exist, or on type TLSA: they time out, refuse, or
// deny without proof. There, a Secure denial counts as the answer (D-17), be it held already or that of the name _tcp.HOST, from which
// nothing below it exists (C-17) or the NSEC it comes with cover the name asked for. It is sought when a try has failed or nothing has
// come for a while, and whichever proves first what there is, answers.
func (w *query) partOrDenial(q dns.Question) part {
	service := serviceAbove(q.Name)
	if service == "" || w.why.renews() {
		return w.part(q)
	}
	outer := w.ctx
	ctx, cancel := context.WithCancelCause(outer)
	s := &denialSearch{r: w.r, question: q, service: service, found: cancel, done: make(chan struct{})}
	timer := time.AfterFunc(min(silence, w.r.Timeout/4), func() { s.begin(w) })
	w.ctx, w.troubled = ctx, func() { s.begin(w) }
	p := w.part(q)
	timer.Stop()
	w.ctx, w.troubled = outer, func() {}
	cancel(nil)
	if p.Status > dnssec.Bogus {
		return p
	}
	return s.instead(outer, p)
}

// denialSearch looks for a proof that there is no answer to a question.
type denialSearch struct {
	r        *Resolver
	question dns.Question
	service  string
	found    func(cause error)

	mu     sync.Mutex
	begun  bool
	done   chan struct{} // closed when it has ended
	denial part
	ok     bool
}

// begin starts the search, once, unless w may not ask for more (L-9).
func (s *denialSearch) begin(w *query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	anchor, _ := w.anchor(s.question.Name)
	if s.begun || w.negative(anchor) != nil || s.r.InsecureAbove(s.question.Name) || !w.mayAsk() { // there nothing can be proven
		return
	}
	s.begun = s.r.running.start(s.run)
}

// mayAsk takes one from the questions that w may put to upstreams.
func (w *query) mayAsk() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked >= w.r.UpstreamQuestions {
		return false
	}
	w.asked++
	return true
}

// run asks for the addresses of the service's name, a type that every server knows, unless what is held suffices.
func (s *denialSearch) run() {
	defer close(s.done)
	defer func() {
		if p := recover(); p != nil { // S-27
			s.r.Meter.Limit(string(ErrPanic))
		}
	}()
	ctx, cancel := context.WithTimeoutCause(s.r.ctx, max(background, s.r.Timeout), errDeadline)
	defer cancel()
	if s.proven(ctx) {
		return
	}
	s.r.look(ctx, question(s.service, dns.TypeA))
	s.proven(ctx)
}

// proven reports whether what is held proves a denial.
func (s *denialSearch) proven(ctx context.Context) bool {
	w := s.r.newQuery(ctx, s.question)
	p, ok := w.synthesise(s.question, AggressiveAll)
	s.r.Meter.Checks(w.check.Work())
	if s.ok = ok && p.Denial && p.Next == ""; s.ok {
		s.denial = p
		s.found(errDenied)
	}
	return s.ok
}

// look has q resolved, for what is learned by it, unless that has just been done.
func (r *Resolver) look(ctx context.Context, q dns.Question) {
	if a, _ := r.Store.answer(q, r.now()); a != nil {
		return
	}
	if _, failed := r.Store.failures.alive(failureKey(q), r.now()); !failed {
		r.join(ctx, q)
	}
}

// instead returns the denial in the place of a failure, if the search has begun and finds one.
func (s *denialSearch) instead(ctx context.Context, failure part) part {
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	if !begun {
		return failure
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return failure
	}
	if s.ok {
		return s.denial
	}
	return failure
}
