package fetch

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Account is what was asked of upstreams for one client query, and what came. Everything done for the query is done on
// its account, and ends with it. It is safe for concurrent use.
type Account struct {
	fetcher  *Fetcher
	question dns.Question // the client's
	budget   *Budget
	stored   bool // no upstream is asked

	worked dnssec.Work // its part of the budget's work; under Budget.judging

	mu    sync.Mutex // guards what follows, and what the inquiries hold
	asked inquiries
	taken int64 // octets of the room, for replies; negative: it is closed
	wrong bool  // a reply did not validate
}

// Open returns an account for a client's question that spends a budget. It is to be closed when what is done for the
// question has ended.
func (f *Fetcher) Open(q dns.Question, b *Budget) *Account {
	return &Account{fetcher: f, question: q, budget: b}
}

// OpenStored is Open for an account on which Config.Stored is asked and no upstream: each question once, as there is
// nobody else to ask (V-14). What fails there says nothing of the data.
func (f *Fetcher) OpenStored(q dns.Question, b *Budget) *Account {
	a := f.Open(q, b)
	a.stored = true
	return a
}

// Stored reports whether no upstream is asked on the account.
func (a *Account) Stored() bool { return a.stored }

// Question returns what the client asks.
func (a *Account) Question() dns.Question { return a.question }

// Inquiry is one try for an upstream question, as an account has asked it.
type Inquiry struct {
	*exchange
	account *Account
	n       int      // as in its Try
	avoid   []string // likewise
	ahead   bool     // on speculation, and not needed yet
	waiting int      // for it now
	got     *Grouped
}

// inquiries are few, the latest of each try. They are found without a map as soon as with one, and take less memory.
type inquiries []*Inquiry

// first returns the first try for q; nil if there is none.
func (all inquiries) first(q dns.Question) *Inquiry {
	if at := all.find(q, 0); at >= 0 {
		return all[at]
	}
	return nil
}

// find returns where a try for q is; -1 if it is not there.
func (all inquiries) find(q dns.Question, n int) int {
	return slices.IndexFunc(all, func(i *Inquiry) bool {
		return i.n == n && i.question.Qtype == q.Qtype && i.question.Name == q.Name
	})
}

// Grouped is the reply of an upstream with its records in RRsets, for one account.
type Grouped struct {
	*dnssec.Message
	Raw      *dns.Msg // shared: nobody changes it
	Upstream string
}

// Signed reports whether there is any signature in the reply.
func (g *Grouped) Signed() bool {
	return slices.ContainsFunc(slices.Concat(g.Answer, g.Authority),
		func(s *dnssec.RRset) bool { return len(s.Sigs) > 0 })
}

// Ask starts the first try for q, unless the account has done so already, or what came of that is in doubt (V-14). It
// fails when the budget is used up (L-9).
func (a *Account) Ask(q dns.Question, role Role) (*Inquiry, *dnssec.Failure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if role == RoleLink {
		a.budget.needLink() // be it asked on speculation already
	}
	i := a.asked.first(q)
	if i != nil && !i.doubtful() {
		return i, nil
	}
	if !a.budget.askOne() {
		if i != nil { // it may be right all the same
			return i, nil
		}
		return nil, a.tooMany()
	}
	t := a.first()
	e, joined := a.fetcher.start(q, t, role)
	if joined { // it is on another's account
		a.budget.askedNone()
	}
	return a.note(e, t, false), nil
}

// first is the first try for a question.
func (a *Account) first() Try { return Try{CD: true, Avoid: a.budget.avoid(), Stored: a.stored} }

// doubtful reports whether what has come is from an upstream that was shown to be wrong since it was asked: to ask anew
// costs no retry. Account.mu is held.
func (i *Inquiry) doubtful() bool {
	return i.ended() && i.err == nil && !slices.Contains(i.avoid, i.reply.Upstream) &&
		slices.Contains(i.account.budget.avoid(), i.reply.Upstream)
}

func (a *Account) tooMany() *dnssec.Failure {
	return Limit(a.question, "upstream_questions", "needs more than %d upstream questions (limit upstream_questions)",
		a.budget.questions)
}

// Speculate starts the first try for q ahead of its need, as far as speculation may, and reports whether it may go
// further: not where verifying waits, as nobody has his answer sooner for it then. It costs a question only when it
// turns out to be needed (L-9).
func (a *Account) Speculate(q dns.Question) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked.first(q) != nil {
		return true
	}
	if a.fetcher.turns.waited() >= longWait || !a.budget.guessOne() {
		return false
	}
	t := a.first()
	e, joined := a.fetcher.start(q, t, RoleWarm)
	if joined || e == nil {
		a.budget.guessedNone()
	}
	if e != nil {
		a.note(e, t, !joined)
	}
	return true
}

// note keeps what was asked, in place of the same try where that came to nothing; mu is held.
func (a *Account) note(e *exchange, t Try, ahead bool) *Inquiry {
	i := &Inquiry{exchange: e, account: a, n: t.N, avoid: t.Avoid, ahead: ahead}
	if at := a.asked.find(e.question, t.N); at >= 0 {
		a.asked[at] = i
	} else {
		a.asked = append(a.asked, i)
	}
	return i
}

// Reply returns a copy of what has come to the first try for q by now; nil if nothing has.
func (a *Account) Reply(q dns.Question) *dns.Msg {
	a.mu.Lock()
	i := a.asked.first(q)
	a.mu.Unlock()
	if i == nil || !i.ended() || i.err != nil {
		return nil
	}
	return i.reply.Msg.Copy()
}

// Fetch returns the reply to the first try for q. ctx may end earlier than the account.
func (a *Account) Fetch(ctx context.Context, q dns.Question, role Role) (*Grouped, *dnssec.Failure) {
	i, limit := a.Ask(q, role)
	if limit == nil && i.arrives(ctx) {
		i, limit = a.Ask(q, role) // another, if what has come is in doubt
	}
	if limit != nil {
		return nil, limit
	}
	return i.Wait(ctx)
}

// NextTry returns the number of the try after n. What no upstream would answer has been put to all of them already
// (S-14): only the last try, another way of asking, is left.
func (f *Fetcher) NextTry(n int, unanswered bool) int {
	if unanswered {
		return max(n+1, f.Retries)
	}
	return n + 1
}

// Again starts the n-th further try for q, elsewhere, and the last one with CD=0 over TCP (V-14): with CD=1 a
// validating upstream may repeat the bad entry that it holds. It returns nil when the tries are used up, short if it is
// only the retries of the client query that are. A link, which what is one, may not spend those that are set aside for
// answers.
func (a *Account) Again(ctx context.Context, q dns.Question, n int, avoid []string, link bool) (_ *Inquiry,
	short bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrong = a.wrong || len(avoid) > 0
	if n > a.fetcher.Retries || ctx.Err() != nil || a.stored {
		return nil, false
	}
	if !a.budget.retryOne(link) {
		return nil, true
	}
	last := n == a.fetcher.Retries
	t := Try{N: n, CD: !last, TCP: last, Avoid: a.budget.avoid(avoid...)}
	e, _ := a.fetcher.start(q, t, RoleRetry)
	return a.note(e, t, false), false
}

// Doubtful reports whether a reply has come that did not validate: what is being found out may be that all is Bogus.
func (a *Account) Doubtful() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wrong
}

// Suspect has what is still to be asked put to others than the upstreams whose replies did not validate where these did
// (V-14). Who is right where another is wrong is suspected no more.
func (a *Account) Suspect(wrong []string, right ...*Grouped) {
	if len(wrong) == 0 {
		return
	}
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.suspect = slices.DeleteFunc(slices.Concat(b.suspect, wrong), func(upstream string) bool {
		return slices.ContainsFunc(right, func(g *Grouped) bool { return g != nil && g.Upstream == upstream })
	})
}

// Abandon gives up all that was asked. Questions displaced by newer ones would else pile up behind them (L-13, L-15).
func (a *Account) Abandon() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range a.asked {
		a.fetcher.leave(i.exchange)
	}
}

// Sought notes for all that is waited for that a client has come for it.
func (a *Account) Sought() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range a.asked {
		if i.waiting > 0 {
			i.sought()
		}
	}
}

// Missing names what is waited for at this moment.
func (a *Account) Missing() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for _, i := range a.asked {
		if i.waiting > 0 {
			names = append(names, Describe(i.question))
		}
	}
	if len(names) == 0 {
		return "signatures to be verified"
	}
	sort.Strings(names)
	return strings.Join(slices.Compact(names), ", ")
}

// Wait waits for the reply and takes it for the account.
func (i *Inquiry) Wait(ctx context.Context) (*Grouped, *dnssec.Failure) {
	if !i.arrives(ctx) {
		return nil, i.gaveUp(ctx)
	}
	i.account.fetcher.Pause()
	if i.err != nil {
		return nil, AsFailure(i.question, i.err)
	}
	return i.take()
}

// arrives waits for the outcome, and reports whether it is there.
func (i *Inquiry) arrives(ctx context.Context) bool {
	i.wait(+1)
	defer i.wait(-1)
	select {
	case <-i.done:
	case <-ctx.Done():
	}
	return i.ended()
}

func (i *Inquiry) wait(n int) {
	i.waits.Add(int32(n))
	i.account.mu.Lock()
	defer i.account.mu.Unlock()
	i.waiting += n
}

// silentAfter is how long an upstream question may be without a reply before that is told of the upstreams: all its
// copies have been sent by then, and questions that arrived with the end of a client query are not among those.
const silentAfter = 4 * time.Second

// gaveUp is why a reply is not waited for any longer: the upstreams were silent all the time (C-11), or else the
// query's own time is over (L-6a).
func (i *Inquiry) gaveUp(ctx context.Context) *dnssec.Failure {
	silent := time.Since(i.began)
	if silent < silentAfter || !errors.Is(context.Cause(ctx), ErrDeadline) {
		return Expired(ctx, i.account.question, Describe(i.question))
	}
	return Unanswered(i.question, nil).Says(
		"%s: no upstream has replied in %v", Describe(i.question), silent.Round(100*time.Millisecond))
}

// take makes the reply one of the account, which pays for it: a question of its own (L-9), the octets (L-11), the room
// (L-15).
func (i *Inquiry) take() (*Grouped, *dnssec.Failure) {
	a := i.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if i.got != nil {
		return i.got, nil
	}
	if i.ahead {
		if !a.budget.askOne() {
			return nil, a.tooMany()
		}
		i.ahead = false
	}
	if !a.budget.receive(i.reply.Size) {
		return nil, Limit(a.question, "response_octets", "the replies needed are over %d octets", responseOctets)
	}
	if !a.takeRoom(int64(i.reply.Size) * replyGrowth) {
		return nil, Limit(a.question, ErrRoom, "no memory is left for replies of upstreams (limit %s)", string(ErrRoom))
	}
	i.got = &Grouped{i.message.Clone(), i.reply.Msg, i.reply.Upstream}
	return i.got, nil
}

// takeRoom takes octets of the room until the account is closed (L-15); mu is held.
func (a *Account) takeRoom(octets int64) bool {
	if a.taken < 0 {
		return true // nothing begins any more
	}
	if !a.fetcher.Room.Take(octets, true) {
		return false
	}
	a.taken += octets
	return true
}

// Close gives back the room for what was brought (L-15). It may be called again.
func (a *Account) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fetcher.Room.Give(max(a.taken, 0))
	a.taken = -1
}

// Judge runs judge with the check of the client query when it is its turn (L-7). It fails when ctx ends before.
func (a *Account) Judge(ctx context.Context, judge func(c *dnssec.Check)) *dnssec.Failure {
	b := a.budget
	b.judging.Lock()
	defer b.judging.Unlock()
	if b.await(ctx) != nil {
		return Expired(ctx, a.question, "a processor to verify signatures")
	}
	defer a.judged(b.check.Work())
	a.fetcher.Pause()
	judge(b.check)
	return nil
}

// judged notes the work done since then, and lets others have their turn.
func (a *Account) judged(before dnssec.Work) {
	a.budget.release()
	after := a.budget.check.Work()
	a.worked.Signatures += after.Signatures - before.Signatures
	a.worked.Known += after.Known - before.Known
	a.worked.Hashes += after.Hashes - before.Hashes
}

// Work returns what was done on this account.
func (a *Account) Work() dnssec.Work {
	a.budget.judging.Lock()
	defer a.budget.judging.Unlock()
	return a.worked
}
