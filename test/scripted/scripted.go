// Package scripted gives tests an upstream in process. It answers for a tree of signed zones, except where its script
// says otherwise.
package scripted

import (
	"context"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/world"
)

// Upstream is a [fetch.Exchanger] without a cache. It records the questions that it is asked.
type Upstream struct {
	Tree *world.Tree

	mu      sync.Mutex
	asked   []dns.Question
	tries   []fetch.Try // for each question
	scripts []Script    // the first one that decides counts
}

// Script answers a question, or returns false to leave it to the next script, or to the honest answer.
type Script func(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error, bool)

// New returns an upstream that answers honestly until it has a script.
func New(tree *world.Tree) *Upstream { return &Upstream{Tree: tree} }

// Follow replaces all scripts by one; with nil the upstream answers honestly. It may be called while questions are
// asked.
func (u *Upstream) Follow(script Script) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.scripts = nil; script != nil {
		u.scripts = []Script{script}
	}
}

// First adds a script that decides before those there are.
func (u *Upstream) First(script Script) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.scripts = append([]Script{script}, u.scripts...)
}

// Ask implements [fetch.Exchanger].
func (u *Upstream) Ask(q dns.Question, t fetch.Try, done func(fetch.Reply, error)) (cancel func()) {
	u.mu.Lock()
	u.asked, u.tries = append(u.asked, q), append(u.tries, t)
	scripts := u.scripts
	u.mu.Unlock()
	return InBackground(t, done, func(ctx context.Context) (fetch.Reply, error) { return u.follow(ctx, scripts, q, t) })
}

// InBackground calls done with what exchange returns, as [fetch.Exchanger] has it. The context ends with the time of
// the question, by [fetch.ErrDeadline], or when it is cancelled.
func InBackground(t fetch.Try, done func(fetch.Reply, error),
	exchange func(context.Context) (fetch.Reply, error)) (cancel func()) {
	ctx, cancel := context.WithDeadlineCause(context.Background(), t.Until, fetch.ErrDeadline)
	go func() {
		defer cancel()
		done(exchange(ctx))
	}()
	return cancel
}

func (u *Upstream) follow(ctx context.Context, scripts []Script, q dns.Question, t fetch.Try) (fetch.Reply, error) {
	for _, script := range scripts {
		if r, err, done := script(ctx, q, t); done {
			return r, err
		}
	}
	return u.Reply(q), nil
}

// Reply returns the honest reply, from an upstream named good. The caller may change it.
func (u *Upstream) Reply(q dns.Question) fetch.Reply {
	m := u.Tree.Recursor().Resolve(q)
	return fetch.Reply{Msg: m, Upstream: "good", Size: m.Len()}
}

// FirstLinkOnly is the script of an upstream that answers with the first alias of a chain only.
func (u *Upstream) FirstLinkOnly(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
	reply := u.Reply(q)
	if len(reply.Msg.Answer) > 0 {
		reply.Msg.Ns = nil // the denial of the target
	}
	reply.Msg.Answer = slices.DeleteFunc(reply.Msg.Answer, func(rr dns.RR) bool { return rr.Header().Name != q.Name })
	return reply, nil, true
}

// Asked returns the questions so far as "NAME TYPE", in the order in which they came.
func (u *Upstream) Asked() (all []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.asked {
		all = append(all, world.Words(q))
	}
	return all
}

// Tries returns the tries of those questions so far that match a pattern, as in [world.Matches].
func (u *Upstream) Tries(pattern string) (all []fetch.Try) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, q := range u.asked {
		if world.Matches(pattern, q) {
			all = append(all, u.tries[i])
		}
	}
	return all
}

// Count returns how many of the questions so far match a pattern, as in [world.Matches].
func (u *Upstream) Count(pattern string) int { return len(u.Tries(pattern)) }

// Forget empties the list of questions.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked, u.tries = nil, nil
}
