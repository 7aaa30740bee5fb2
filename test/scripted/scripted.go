// Package scripted gives tests an upstream in process. It answers for a tree of signed zones but for what its script
// says.
package scripted

import (
	"context"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/world"
)

// Upstream is a [fetch.Exchanger] that caches nothing, and remembers what it is asked.
type Upstream struct {
	Tree *world.Tree

	mu      sync.Mutex
	asked   []dns.Question
	tries   []fetch.Try // for each question
	scripts []Script    // the first that decides counts
}

// Script decides what becomes of a question if it returns true.
type Script func(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error, bool)

// New returns an upstream that is honest until it has a script.
func New(tree *world.Tree) *Upstream { return &Upstream{Tree: tree} }

// Follow has it do as the script says from now on; nil: it is honest. It may be called while questions are asked.
func (u *Upstream) Follow(script Script) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.scripts = nil; script != nil {
		u.scripts = []Script{script}
	}
}

// First has a script decide before the one there is.
func (u *Upstream) First(script Script) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.scripts = append([]Script{script}, u.scripts...)
}

// Exchange implements [fetch.Exchanger].
func (u *Upstream) Exchange(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error) {
	u.mu.Lock()
	u.asked, u.tries = append(u.asked, q), append(u.tries, t)
	scripts := u.scripts
	u.mu.Unlock()
	for _, script := range scripts {
		if r, err, done := script(ctx, q, t); done {
			return r, err
		}
	}
	return u.Reply(q), nil
}

// Reply is the honest one, which is the caller's. It comes from an upstream named good.
func (u *Upstream) Reply(q dns.Question) fetch.Reply {
	m := u.Tree.Recursor().Resolve(q)
	return fetch.Reply{Msg: m, Upstream: "good", Size: m.Len()}
}

// FirstLinkOnly is the script of an upstream that follows no alias.
func (u *Upstream) FirstLinkOnly(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
	reply := u.Reply(q)
	if len(reply.Msg.Answer) > 0 {
		reply.Msg.Ns = nil // the denial of the target
	}
	reply.Msg.Answer = slices.DeleteFunc(reply.Msg.Answer, func(rr dns.RR) bool { return rr.Header().Name != q.Name })
	return reply, nil, true
}

// Asked are the questions so far as "NAME TYPE", in the order in which they came.
func (u *Upstream) Asked() (all []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.asked {
		all = append(all, world.Words(q))
	}
	return all
}

// Tries are those of the questions so far that are the one given, as in [world.Matches].
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

// Count returns how many of the questions so far are the one given, as in [world.Matches].
func (u *Upstream) Count(pattern string) int { return len(u.Tries(pattern)) }

// Forget drops the questions so far.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked, u.tries = nil, nil
}
