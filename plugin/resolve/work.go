package resolve

import (
	"context"
	"errors"
	"slices"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// work is what is done for one question: a client's, or one that is asked beside it on its account.
type work struct {
	r        *Resolver
	account  *fetch.Account
	walk     *chain.Walk
	question dns.Question
	why      purpose
}

// newWork returns the work for q on an account of its own, which is to be closed.
func (r *Resolver) newWork(q dns.Question, why purpose) *work {
	account := r.fetcher.Open(q, why.spends(r.fetcher))
	return &work{r: r, account: account, walk: r.chain.NewWalk(account), question: q, why: why}
}

// beside returns the work for another question, or the same once more, on the account of w.
func (w *work) beside(q dns.Question) *work {
	why := purpose{role: fetch.RoleAnswer, beside: true}
	return &work{r: w.r, account: w.account, walk: w.r.chain.NewWalk(w.account), question: q, why: why}
}

// run resolves a question and remembers the outcome.
func (w *work) run(ctx context.Context) (a *Answer) {
	defer func() { count(w.r.Meter, a) }()
	defer rescue(w.question, &a)
	awaitProof := w.proveUnsigned(ctx)
	o := w.complete(ctx)
	if unanswered(o.status(), o.last().Cause) {
		awaitProof()
	}
	w.r.Meter.Checks(w.account.Work())
	return w.keep(ctx, o)
}

// keep remembers the result of a question, if what the work for it began with holds (C-12), and tells of it.
func (w *work) keep(ctx context.Context, o *outcome) *Answer {
	r := w.r
	a := o.answer(r.judgedAt(), r.MaxTTL)
	if a.Status >= dnssec.Bogus {
		stale{r}.outdate(w.question)
	}
	kept := w.walk.Keep(func() { w.remember(ctx, o, a) })
	if kept && r.Judged != nil && !(w.why.renews() && a.Status <= dnssec.Bogus) {
		r.Judged(w.question, a.Status, w.reason(a))
	}
	return a
}

// remember remembers the result of a question, but no failure of a flight that was displaced, or by a resolver that is
// closed (L-13).
func (w *work) remember(ctx context.Context, o *outcome, a *Answer) {
	r, now := w.r, w.r.now()
	switch {
	case a.failure == nil:
		r.Store.remember(w.question, o, a, now, r.MinTTL, r.MaxTTL)
	case w.why.mayFail(a.failure) && !errors.Is(context.Cause(ctx), context.Canceled):
		r.Store.failures.add(failure{
			question: w.question, status: a.Status, cause: a.failure, told: a.told,
			bridged: stale{r}.bridges(w.question, a), epoch: w.walk.Epoch(),
		}, now)
	}
	if r.Beyond != nil && a.Status == dnssec.Secure && !o.recalled {
		keeping{r}.answer(w.question, now)
	}
}

// reason says why a is not Secure; "" if it is.
func (w *work) reason(a *Answer) string {
	switch {
	case a.Status == dnssec.Secure:
		return ""
	case len(a.Notes) > 0:
		return a.Notes[0].Text
	}
	unsigned := w.walk.Unsigned()
	if unsigned == "" {
		return "no trust anchor covers it, or a denial rests on an opt-out"
	}
	return unsigned + ": unsigned, as the zone above proves that there is no DS"
}

// count tells the meter which limit ended a query (L-16). Deadlines are counted for each client that they kept waiting.
func count(m Meter, a *Answer) {
	if !a.failure.Limit() || errors.Is(a.failure, fetch.ErrDeadline) {
		return
	}
	if limit, ok := errors.AsType[dnssec.LimitError](a.failure); ok {
		m.Limit(string(limit))
	}
}

// complete resolves the question, and notes how old the outcome is.
func (w *work) complete(ctx context.Context) *outcome {
	asked := w.r.now()
	o := w.resolve(ctx)
	o.age = seconds(max(0, w.r.now().Sub(asked)))
	return o
}

// resolve fetches, walks and judges until the alias chain ends.
func (w *work) resolve(ctx context.Context) *outcome {
	q := w.question
	var guess chain.Guess
	p, held := w.unasked(ctx, q)
	if !held {
		if o := w.recall(ctx, q); o != nil {
			return o
		}
		if _, limit := w.account.Ask(q, w.why.role); limit != nil {
			return &outcome{parts: []part{failed(limit)}}
		}
		w.recallLinks(ctx, q)
		if !w.why.near {
			guess = w.walk.Ahead(q)
		}
	}
	o := &outcome{}
	for visited := []string(nil); ; p, held = w.unasked(ctx, q) {
		visited = append(visited, q.Name)
		if !held {
			if p = w.resolvePartOrDenial(ctx, q); p.Status > dnssec.Bogus {
				guess.Note()
			}
		}
		if p.Status <= dnssec.Bogus && errors.Is(p.Cause, fetch.ErrShort) {
			p.Cause = fetch.With(p.Cause, fetch.ErrRetries)
		}
		o.parts = append(o.parts, p)
		o.proven = w.walk.InsecureProven()
		if p.Status <= dnssec.Bogus || p.Next == "" {
			return o
		}
		if q.Name = p.Next; slices.Contains(visited, q.Name) {
			f := dnssec.Failure{Code: dns.ExtendedErrorCodeOther, Owner: q.Name, Type: dns.TypeCNAME}
			o.parts = append(o.parts, failed(f.Says("%s: alias loop", q.Name)))
			return o
		}
	}
}

// resolvePart resolves one question as far as one reply leads. What does not validate is asked again elsewhere (V-14).
// failing is called when a try has failed.
func (w *work) resolvePart(ctx context.Context, q dns.Question, failing func()) part {
	got, failure := w.account.Fetch(ctx, q, w.why.role)
	var avoid []string
	var last part
	for n := 0; ; {
		further := last // what was wrong with a reply says more than that none came
		switch {
		case failure == nil:
			further = w.judge(ctx, q, got, n > 0)
		case failure.Limit() || last.Status != dnssec.Bogus:
			further = failed(failure).with(last.raw)
		}
		last = last.orTry(further)
		if last.Status > dnssec.Bogus {
			w.account.Suspect(avoid, got)
			if last.Status == dnssec.Secure {
				w.r.chain.NoteSigners(last.Answer)
			}
			return last
		}
		if further.Cause.Limit() || failure == nil && chainBroken(last, got) {
			return last
		}
		failing()
		if failure == nil {
			avoid = append(avoid, got.Upstream)
		}
		n = w.r.fetcher.NextTry(n, failure != nil)
		again, short := w.account.Again(ctx, q, n, avoid, false)
		if short {
			last.Cause = fetch.With(last.Cause, fetch.ErrShort)
		}
		if again == nil {
			return last
		}
		got, failure = again.Wait(ctx)
	}
}

// chainBroken reports whether the fault lies in a zone, whose links have had their own tries: another reply would need
// them too. That does not hold of a reply without signatures, which may be stripped: it leads the walk to names that
// another does not.
func chainBroken(p part, got *fetch.Grouped) bool {
	return got.Signed() && (p.Cause.Kind == dnssec.OfLink || p.Cause.Kind == dnssec.OfMissingLink)
}

// judge judges one reply; if it is Bogus the links that led to it, with own all of them, are fetched anew and it is
// judged again (V-14).
func (w *work) judge(ctx context.Context, q dns.Question, got *fetch.Grouped, own bool) part {
	p := w.judgeOnce(ctx, q, got)
	if p.Status != dnssec.Bogus || p.Cause.Limit() || !w.walk.Refresh(ctx, p.Cause.Owner, own) {
		return p
	}
	return w.judgeOnce(ctx, q, got)
}

// orTry is what a further try leaves: its own verdict, or where a limit ended it, what was wrong before (V-14).
// As where no retry is left, another query may get further.
func (p part) orTry(further part) part {
	if p.Status != dnssec.Bogus || further.Status > dnssec.Bogus || !further.Cause.Limit() {
		return further
	}
	p.Cause = fetch.With(p.Cause, fetch.ErrShort)
	return p
}

// judgeOnce has the judge name the zones it needs, walks to them, and returns its verdict.
func (w *work) judgeOnce(ctx context.Context, q dns.Question, got *fetch.Grouped) part {
	w.walk.Hint(got.Message)
	for {
		var v dnssec.Verdict
		if f := w.account.Judge(ctx, func(c *dnssec.Check) { v = c.Answer(q, got.Message, w.walk) }); f != nil {
			return failed(f).with(got.Raw)
		}
		if len(v.Needs) == 0 {
			return part{Verdict: v, raw: got.Raw}
		}
		w.walk.Learn(v.Shown)
		w.walk.AheadTo(v.Needs)
		w.walk.Find(ctx, v.Needs)
	}
}
