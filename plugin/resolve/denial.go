package resolve

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
)

// silence is how long the answer for a name below _tcp may be awaited before its denial is sought (D-17): longer than
// most answers take, and short enough for another question within L-10. With a shorter Timeout it is a quarter of that.
const silence = time.Second

// errDenied ends what a question still asks once a denial of its answer is proven.
var errDenied = errors.New("the name was proven not to exist meanwhile")

// serviceAbove returns the ancestor of name that begins with the label _tcp (RFC 6698 section 3); "" if there is none.
func serviceAbove(name string) string {
	for above := range dnssec.Ancestors(dnssec.Parent(name)) {
		if strings.HasPrefix(above, "_tcp.") {
			return above
		}
	}
	return ""
}

// resolvePartOrDenial is resolvePart for any name. Some servers fail on names below _tcp that do not exist, or on
// type TLSA: they time out, refuse, or deny without proof. There, a Secure denial counts as the answer (D-17), be it
// held already or that of the name _tcp.HOST, from which nothing below it exists (C-17) or the NSEC it comes with cover
// the name asked for. It is sought when a try has failed or nothing has come for a while, and whichever proves first
// what there is, answers.
func (w *work) resolvePartOrDenial(ctx context.Context, q dns.Question) part {
	service := serviceAbove(q.Name)
	if service == "" || w.why.renews() {
		return w.resolvePart(ctx, q, func() {})
	}
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s := &denialSearch{ctx: ctx, beside: w.beside(q), service: service, found: stop, done: make(chan struct{})}
	timer := time.AfterFunc(min(silence, w.r.Timeout/4), s.begin)
	p := w.resolvePart(asking, q, s.begin)
	timer.Stop()
	if p.Status > dnssec.Bogus {
		return p
	}
	return s.instead(p)
}

// denialSearch looks for a proof that there is no answer to a question.
type denialSearch struct {
	ctx     context.Context
	beside  *work // the same question, on the same account (L-6)
	service string
	found   func(cause error)

	mu     sync.Mutex
	begun  bool
	done   chan struct{} // closed when it has ended
	denial part
	ok     bool
}

// begin starts the search, once, unless nothing can be proven there.
func (s *denialSearch) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	zone := s.beside.walk.Known(s.beside.question.Name)
	if s.begun || zone != nil && zone.Status == dnssec.Insecure {
		return
	}
	s.begun = s.beside.r.fetcher.Go(s.run)
}

// run asks for the addresses of the service's name, a type that every server knows, unless what is held suffices.
func (s *denialSearch) run() {
	defer close(s.done)
	defer func() {
		if p := recover(); p != nil { // S-27
			s.beside.r.Meter.Limit(string(fetch.ErrPanic))
		}
	}()
	if !s.proven() {
		s.beside.look(s.ctx, dnssec.Question(s.service, dns.TypeA))
		s.proven()
	}
}

// proven reports whether what is held proves a denial.
func (s *denialSearch) proven() bool {
	p, ok := s.beside.synthesise(s.ctx, s.beside.question, reuse.All)
	if s.ok = ok && p.Denial && p.Next == ""; s.ok {
		s.denial = p
		s.found(errDenied)
	}
	return s.ok
}

// look has q resolved on the account of w, for what is learned by it, unless that has just been done.
func (w *work) look(ctx context.Context, q dns.Question) {
	r := w.r
	if a, _ := r.Store.answer(q, r.now()); a != nil {
		return
	}
	if _, failed := r.Store.failures.alive(q, r.now()); !failed {
		sub := w.beside(q)
		sub.keep(ctx, sub.complete(ctx))
	}
}

// instead returns the denial in the place of a failure, if the search has begun and finds one.
func (s *denialSearch) instead(failure part) part {
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	if !begun {
		return failure
	}
	select {
	case <-s.done:
	case <-s.ctx.Done():
		return failure
	}
	if s.ok {
		return s.denial
	}
	return failure
}
