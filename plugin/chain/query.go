package chain

import (
	"context"
	"sync"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// query is the work for one client question: what it has asked, found and spent.
type query struct {
	r        *Resolver
	ctx      context.Context
	question dns.Question
	why      purpose

	account *fetch.Account

	mu      sync.Mutex
	marks   map[string]mark // what this query learned of names; the store may hold it shorter
	found   map[string]*dnssec.Zone
	sources map[string][]string // the upstreams that the links of a name were had from
	likely  map[string]bool     // names where a zone cut is likely (V-6a)
	fresh   bool                // an insecure delegation was proven now (C-8)

	troubled func() // is told that a try for the answer has failed

	negatives *negatives
}

func (r *Resolver) newQuery(ctx context.Context, q dns.Question) *query {
	return r.queryOn(r.fetcher.Open(ctx, q, r.fetcher.NewBudget()), ctx, q)
}

// queryOn is the work for q on a client query's account.
func (r *Resolver) queryOn(account *fetch.Account, ctx context.Context, q dns.Question) *query {
	w := &query{
		r: r, ctx: ctx, question: q, why: purpose{role: fetch.RoleAnswer}, troubled: func() {},
		account: account,
		marks:   map[string]mark{}, found: map[string]*dnssec.Zone{}, sources: map[string][]string{}, likely: map[string]bool{},
		negatives: r.negatives.Load(),
	}
	return w
}

// judge runs f with the check of this query (L-7).
func (w *query) judge(f func(c *dnssec.Check)) *dnssec.Failure { return w.account.Judge(w.ctx, f) }

// fetch returns the reply to the first try for q.
func (w *query) fetch(q dns.Question, role fetch.Role) (*fetch.Grouped, *dnssec.Failure) {
	return w.account.Fetch(w.ctx, q, role)
}

// At implements dnssec.Zones: what the walk has found so far.
func (w *query) At(name string) *dnssec.Zone {
	w.mu.Lock()
	defer w.mu.Unlock()
	if z := w.found[name]; z != nil {
		return z
	}
	anchor, _ := w.anchor(name)
	for at := name; at != anchor && at != "."; {
		at = dnssec.Parent(at)
		if z := w.found[at]; z != nil && z.Status != dnssec.Secure {
			return z // holds for all below, unless a nearer anchor is configured (V-11)
		}
	}
	return nil
}

// Anchor implements dnssec.Zones. Where no anchor covers name, no zone is Secure and any bound will do (V-1a).
func (w *query) Anchor(name string) string {
	if zone, ok := w.anchor(name); ok {
		return zone
	}
	return "."
}

// resolve fetches, walks and judges until the alias chain ends.
func (w *query) resolve(q dns.Question) *outcome {
	p, held := w.unasked(q)
	if !held {
		if _, limit := w.account.Ask(q, w.why.role); limit != nil {
			return &outcome{parts: []part{failed(limit)}}
		}
		if !w.why.near {
			w.warm(q)
		}
	}
	o := &outcome{question: q}
	for visited := map[string]bool{}; ; p, held = w.unasked(q) {
		visited[q.Name] = true
		if !held {
			p = w.partOrDenial(q)
		}
		o.parts = append(o.parts, p)
		o.proven = w.proven()
		if p.Status <= dnssec.Bogus || p.Next == "" {
			return o
		}
		if q.Name = p.Next; visited[q.Name] {
			o.parts = append(o.parts, failed(&dnssec.Failure{
				Code: dns.ExtendedErrorCodeOther, Owner: q.Name, Type: dns.TypeCNAME, Text: q.Name + ": alias loop",
			}))
			return o
		}
	}
}

func (w *query) proven() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fresh
}

// part resolves one question as far as one reply leads, trying again elsewhere what does not validate (V-14).
func (w *query) part(q dns.Question) part {
	got, failure := w.fetch(q, w.why.role)
	var avoid []string
	var last part
	for n := 0; ; {
		switch {
		case failure == nil:
			last = w.verdict(q, got, n > 0)
		case failure.Limit() || last.Status != dnssec.Bogus: // else what was wrong with a reply says more than that none came
			last = failed(failure).with(last.raw)
		}
		if last.Status > dnssec.Bogus {
			if last.Status == dnssec.Secure {
				w.flatten(last.Answer)
			}
			return last
		}
		if last.Cause.Limit() || failure == nil && w.chainBroken(last, got) {
			return last
		}
		w.troubled()
		if failure == nil {
			avoid = append(avoid, got.Upstream)
		}
		n = w.r.fetcher.NextTry(n, failure != nil)
		again := w.account.Again(w.ctx, q, n, avoid, false)
		if again == nil {
			return last
		}
		got, failure = again.Wait(w.ctx)
	}
}

// flatten notes which zones sign names below their apex themselves; registries' zones, where every name is a cut, have
// at most one label.
func (w *query) flatten(sets []*dnssec.RRset) {
	for _, set := range sets {
		for _, sig := range set.Sigs {
			signer := dns.CanonicalName(sig.SignerName)
			if set.Type != dns.TypeDS && signer != set.Owner && dns.IsSubDomain(signer, set.Owner) && dns.CountLabel(signer) > 1 {
				w.r.Store.flatten(signer)
			}
		}
	}
}

// chainBroken reports whether the fault lies in a zone, whose links have had their own tries: another reply would need them
// too. That does not hold of a reply without signatures, which may be stripped: it leads the walk to names that another
// does not.
func (w *query) chainBroken(p part, got *fetch.Grouped) bool {
	if !got.Signed() {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, z := range w.found {
		if z.Cause != nil && z.Status <= dnssec.Bogus && z.Cause == p.Cause {
			return true
		}
	}
	return false
}

// verdict judges one reply; if it is Bogus the links that led to it, with own all of them, are fetched anew and it is judged again
// (V-14).
func (w *query) verdict(q dns.Question, got *fetch.Grouped, own bool) part {
	p := w.answer(q, got)
	if p.Status != dnssec.Bogus || p.Cause.Limit() || !w.refreshAll(p.Cause.Owner, own) {
		return p
	}
	return w.answer(q, got)
}

// answer has the judge name the zones it needs, walks to them, and returns its verdict.
func (w *query) answer(q dns.Question, got *fetch.Grouped) part {
	w.hint(got)
	for {
		var v dnssec.Verdict
		if f := w.judge(func(c *dnssec.Check) { v = c.Answer(q, got.Message, w) }); f != nil {
			return failed(f).with(got.Raw)
		}
		if len(v.Needs) == 0 {
			return part{Verdict: v, raw: got.Raw}
		}
		w.warmTo(v.Needs)
		w.walkAll(v.Needs)
	}
}

// hint takes from a reply where zone cuts are likely: the signers of signed data, the owner of SOA or NS of unsigned
// (V-6a). Hints choose questions, proofs decide.
func (w *query) hint(got *fetch.Grouped) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, sets := range [][]*dnssec.RRset{got.Answer, got.Authority} {
		for _, set := range sets {
			for _, sig := range set.Sigs {
				w.likely[dns.CanonicalName(sig.SignerName)] = true
			}
			if len(set.Sigs) == 0 && (set.Type == dns.TypeSOA || set.Type == dns.TypeNS) {
				w.likely[set.Owner] = true
			}
		}
	}
}
