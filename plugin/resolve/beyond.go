package resolve

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// Beyond is memory beyond the process: a file that outlives it, or a cache that others share. It lies below the judge:
// what it brings is a reply as any upstream's, with what is left of its TTLs, and answers a client only if it is found
// Secure anew, from its own signatures and its chain. All else costs time and no more: upstreams are asked then as if
// nothing had come (C-18). It is safe for concurrent use.
type Beyond interface {
	// Ask brings nothing where there is nothing, and is done soon in any case.
	fetch.Exchanger
	// Keep offers what was found Secure: an answer under its key, or the reply that proves a link under its question's.
	// What e has stands no longer than the call, which is quick.
	Keep(k cache.Key, e *cache.Entry)
	// Forget has nothing come back that was kept before now of a name and those below it (C-12).
	Forget(name string, now time.Time)
}

// recallPatience is how long a client's question may wait for what memory beyond the process knows of it, judging
// included. Honest entries take a tenth of that, and a client has 4.5 s (L-10).
const recallPatience = 100 * time.Millisecond

// recall answers q from memory beyond the process; nil if that has no Secure answer. It spends a budget of its own:
// what is forged there costs the client's question nothing of what it may spend (L-1, L-4, L-11).
func (w *work) recall(ctx context.Context, q dns.Question) *outcome {
	if w.r.Beyond == nil || w.why.asks() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, recallPatience, fetch.ErrDeadline)
	defer cancel()
	s := w.fromBeyond()
	defer s.account.Close()
	defer func() { w.r.Meter.Checks(s.account.Work()) }()
	got, failure := s.account.Fetch(ctx, q, fetch.RoleAnswer)
	if failure != nil {
		return nil
	}
	p := s.judgeOnce(ctx, q, got)
	taken := p.Status == dnssec.Secure && p.Next == ""
	w.r.Meter.Recalled(got.Upstream, taken)
	if !taken {
		return nil
	}
	return &outcome{parts: []part{p}, recalled: true}
}

// recallLinks learns what memory beyond the process has of the links to q's name, while upstreams are asked for the
// answer.
func (w *work) recallLinks(ctx context.Context, q dns.Question) {
	name := chain.Likely(q)
	if w.r.Beyond == nil || w.why.asks() || name == "" {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, recallPatience, fetch.ErrDeadline)
	defer cancel()
	s := w.fromBeyond()
	defer s.account.Close()
	s.walk.Find(ctx, []string{name})
	w.r.Meter.Checks(s.account.Work())
}

// fromBeyond is work for the same question for which no upstream is asked. Its account is to be closed.
func (w *work) fromBeyond() *work {
	account := w.r.fetcher.OpenStored(w.question, w.r.fetcher.NewBudget())
	return &work{r: w.r, account: account, walk: w.r.chain.NewWalk(account), question: w.question, why: forClient}
}

// keeping is what a Resolver has kept beyond the process.
type keeping struct{ r *Resolver }

// answer keeps the Secure answer to q, which is remembered, beyond the process too.
func (k keeping) answer(q dns.Question, now time.Time) {
	r := k.r
	e := r.Store.entries.Get().(*cache.Entry)
	defer r.Store.entries.Put(e)
	for _, key := range []cache.Key{keyOf(q), {Name: q.Name, Type: nameError}} {
		if r.Store.answers.Get(key, now, e) && dnssec.Status(e.Status) == dnssec.Secure {
			r.Beyond.Keep(key, e)
			return
		}
	}
}

// link remembers the reply that has proven a link for what lies beyond the process. The chain of trust itself needs it
// no more.
func (k keeping) link(q dns.Question, reply *dns.Msg, life time.Duration) {
	r := k.r
	m := dns.Msg{Question: []dns.Question{q}, Answer: ofLink(q, reply.Answer), Ns: ofLink(q, reply.Ns)}
	m.Rcode = reply.Rcode
	wire, err := packed(m, nil)
	if err != nil {
		return
	}
	now := r.now()
	e := &cache.Entry{Status: uint8(dnssec.Secure), Stored: now, Life: min(life, r.MaxTTL), Wire: wire}
	r.Store.links.Put(keyOf(q), e, now)
	r.Beyond.Keep(keyOf(q), e)
}

// ofLink are the records that may prove a link, or that there is none.
func ofLink(q dns.Question, rrs []dns.RR) []dns.RR {
	return slices.DeleteFunc(slices.Clone(rrs), func(rr dns.RR) bool {
		switch t := rr.Header().Rrtype; t {
		case q.Qtype, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeSOA, dns.TypeCNAME, dns.TypeDNAME:
			return false
		}
		return true
	})
}

// NewLastingStore is NewStore for a Resolver with memory beyond the process: an eighth is for the replies that have
// proven the chain of trust.
func NewLastingStore(size int64) *Store {
	s := NewStore(size - size/8)
	s.links = cache.New(size / 8)
	return s
}

// Lasting are the answers and links that may be kept beyond the process: those that are Secure (C-18). The Entry is
// used again for the next one.
func (s *Store) Lasting(now time.Time) iter.Seq2[cache.Key, *cache.Entry] {
	return func(yield func(cache.Key, *cache.Entry) bool) {
		for _, part := range []*cache.Cache{s.links, s.answers} {
			for k, e := range part.All(now) {
				if dnssec.Status(e.Status) == dnssec.Secure && !yield(k, e) {
					return
				}
			}
		}
	}
}
