package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// How stale answers are told (C-13, RFC 8767 section 5).
const (
	// stalePatience is how long a client waits for a fresh one first.
	stalePatience = 1800 * time.Millisecond
	// staleRetry is how long what has failed is not tried again.
	staleRetry = 30 * time.Second
	// staleTTL is for how long clients may keep them.
	staleTTL = 30 * time.Second
)

// stale is what a Resolver tells past its TTL.
type stale struct{ r *Resolver }

// answer returns what was known of q before its TTL ended, if that may be told where nothing fresh can be had (C-13);
// nil if there is nothing.
func (s stale) answer(q dns.Question) *Answer {
	a := s.ended(q)
	if a == nil || a.Status != dnssec.Secure && !s.stillUnsigned(q, a) {
		return nil
	}
	return a
}

// ended is answer, but for the proof that zones are unsigned.
func (s stale) ended(q dns.Question) *Answer {
	r := s.r
	if r.Stale == 0 {
		return nil
	}
	if a := r.Store.ended(q, r.now(), r.Stale); a != nil && harmless(q, a) {
		return a
	}
	return nil
}

// instead returns an answer, or what is stale in the place of one that no upstream gave.
func (s stale) instead(q dns.Question, a *Answer) *Answer {
	if unanswered(a.Status, a.failure) {
		if old := s.answer(q); old != nil {
			s.r.Meter.Stale()
			return old
		}
	}
	return a
}

// remembered is what is told where the question is not tried again, as it has failed; nil if it is to be tried after
// all, since what was stale meanwhile has ended.
func (s stale) remembered(q dns.Question, f failure) *Answer {
	a := refusal(f.status, f.cause)
	a.Cached, a.told = true, f.told
	if a = s.instead(q, a); a.failure != nil && f.bridged {
		return nil
	}
	return a
}

// bridges reports whether what is stale is told while q is not tried again, which has failed.
func (s stale) bridges(q dns.Question, a *Answer) bool {
	return unanswered(a.Status, a.failure) && s.answer(q) != nil
}

// outdate has what was known of q before now never be stale: something has come, be it Bogus, or of no TTL.
func (s stale) outdate(q dns.Question) {
	if s.r.Stale > 0 {
		for _, key := range keysOf(q) {
			s.r.Store.answers.Spend(key)
		}
	}
}

// keysOf are those under which the answer to q may be.
func keysOf(q dns.Question) [2]cache.Key {
	return [...]cache.Key{keyOf(q), {Name: q.Name, Type: nameError}}
}

// unanswered reports whether a failure is for want of a reply, or of one to a link of the chain, in time. One of the
// data never is, nor one of danelaw's own limits but time and retries.
func unanswered(s dnssec.Status, f *dnssec.Failure) bool {
	return s == dnssec.Indeterminate && f != nil && (f.NoReply() || f.Kind == dnssec.OfMissingLink) &&
		(!f.Limit() || errors.Is(f, fetch.ErrDeadline) || errors.Is(f, fetch.ErrRetries))
}

// ended returns the answer to q that has ended less than most ago: the one that was stored last, if there are two.
func (s *Store) ended(q dns.Question, now time.Time, most time.Duration) (a *Answer) {
	e := s.entries.Get().(*cache.Entry)
	defer s.entries.Put(e)
	var stored time.Time
	for _, key := range keysOf(q) {
		if !s.answers.GetStale(key, now, most, e) || e.Stored.Before(stored) {
			continue
		}
		if unpacked := unpackAnswer(e); unpacked != nil {
			a, stored = unpacked, e.Stored
			a.outlive(q, e, now)
		}
	}
	return a
}

// outlive makes a, as it was remembered of q, a stale answer.
func (a *Answer) outlive(q dns.Question, e *cache.Entry, now time.Time) {
	ttl := staleTTL
	if a.expires = e.Expires; !a.expires.IsZero() {
		ttl = min(ttl, a.expires.Sub(now))
	}
	for _, rr := range slices.Concat(a.Answer, a.Ns) {
		rr.Header().Ttl = seconds(ttl)
	}
	note := &dnssec.Failure{Code: dns.ExtendedErrorCodeStaleAnswer, Owner: q.Name, Type: q.Qtype}
	if a.Rcode == dns.RcodeNameError {
		note.Code = dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	}
	over := now.Sub(e.Stored.Add(e.Life)).Truncate(time.Second)
	note.Text = fmt.Sprintf("%s: no fresh answer can be had; the TTL of this one ended %v ago", fetch.Describe(q), over)
	a.Notes = append([]*dnssec.Failure{note}, a.Notes...)
}

// harmless reports whether it does no harm to tell a when it is stale. What tells a sender that a host has no TLSA any
// more, or others, decides whether mail is authenticated; a denial of MX or addresses, that it is returned; and one of
// DS, that a zone is unsigned.
func harmless(q dns.Question, a *Answer) bool {
	switch q.Qtype {
	case dns.TypeTLSA, dns.TypeANY, dns.TypeRRSIG:
		return false
	case dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeDS:
		return slices.ContainsFunc(a.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == q.Qtype })
	}
	return true
}

// stillUnsigned reports whether all that an Insecure answer to q says is of zones that are known to be unsigned now:
// that was proven of them, and the proof has not ended. What came before a proof that fails since, or cannot be had, is
// not told.
func (s stale) stillUnsigned(q dns.Question, a *Answer) bool {
	return !slices.ContainsFunc(namesIn(q, a), func(name string) bool {
		z := s.r.chain.Known(name)
		return z == nil || z.Status != dnssec.Insecure
	})
}

// namesIn are the names that an answer to q says something of.
func namesIn(q dns.Question, a *Answer) (names []string) {
	names = []string{q.Name}
	for _, rr := range a.Answer {
		names = append(names, dnssec.Canonical(rr.Header().Name))
		if alias, ok := rr.(*dns.CNAME); ok {
			names = append(names, dnssec.Canonical(alias.Target))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// proveUnsigned begins to find out whether what is stale and Insecure is still of unsigned zones, beside the work for a
// fresh answer, which finds that out only once a reply has come. The function that it returns waits for the end of it.
func (w *work) proveUnsigned(ctx context.Context) (await func()) {
	a := stale{w.r}.ended(w.question)
	if a == nil || a.Status != dnssec.Insecure || w.why.asks() {
		return func() {}
	}
	done := make(chan struct{})
	if !w.r.fetcher.Go(func() {
		defer close(done)
		w.beside(w.question).visit(ctx, namesIn(w.question, a))
	}) {
		close(done)
	}
	return func() { <-done }
}

// visit finds out the zones of names.
func (w *work) visit(ctx context.Context, names []string) {
	defer func() {
		if p := recover(); p != nil { // S-27
			w.r.Meter.Limit(string(fetch.ErrPanic))
		}
	}()
	for _, name := range names {
		w.walk.ZoneOf(ctx, name)
	}
}

// settleLater has the client told what is stale once it, or those who came before it, have waited for a flight long
// enough; w.mu is held.
func (w *waiter) settleLater(f *flight) {
	if w.hurry = nil; (stale{w.r}).ended(w.q) != nil {
		patience := min(stalePatience, w.r.Timeout/2)
		w.hurry = time.AfterFunc(patience-time.Since(f.began), func() { w.settle(f) })
	}
}

// settle has the client told what is stale, while the flight goes on for those who come later.
func (w *waiter) settle(f *flight) {
	a := w.meanwhile(f)
	if a == nil {
		return
	}
	if _, waits := w.leave(f); waits {
		w.part(f)
		w.r.Meter.Stale()
		w.then(a)
	}
}

// meanwhile returns what is stale and may be told while a flight goes on; nil if there is nothing, or what has come
// for the flight may be Bogus: then the verdict is awaited.
func (w *waiter) meanwhile(f *flight) *Answer {
	if f.doubtful() {
		return nil
	}
	return stale{w.r}.answer(w.q)
}
