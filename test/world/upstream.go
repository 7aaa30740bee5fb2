package world

import (
	"path"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// Upstream is a recursor for a tree, which validates nothing. It records the questions that it is asked.
type Upstream struct {
	tree  *Tree
	mu    sync.Mutex
	cache *zones.Recursor // nil: none
	asked []dns.Question
	spoil func(q dns.Question, m *dns.Msg) *dns.Msg
}

// Upstream returns an upstream without a cache: a change in the tree is seen at once.
func (t *Tree) Upstream() *Upstream { return &Upstream{tree: t} }

// Caching returns an upstream with a cache, which follows the clock of the tree.
func (t *Tree) Caching() *Upstream { return &Upstream{tree: t, cache: t.Recursor()} }

// Spoil makes f change each answer from now on; if f returns nil, the answer is SERVFAIL. Spoil may be called while
// questions are asked.
func (u *Upstream) Spoil(f func(q dns.Question, m *dns.Msg) *dns.Msg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.spoil = f
}

// Resolve answers a question with signatures and proofs; nil stands for SERVFAIL. The caller may change the reply.
func (u *Upstream) Resolve(q dns.Question) *dns.Msg { return u.answer(q, true) }

func (u *Upstream) answer(q dns.Question, do bool) *dns.Msg {
	u.mu.Lock()
	u.asked = append(u.asked, q)
	recursor, spoil := u.cache, u.spoil
	u.mu.Unlock()
	if recursor == nil {
		recursor = u.tree.Recursor()
	}
	m := recursor.Answer(q, do)
	if spoil != nil {
		m = spoil(q, m)
	}
	return m
}

// Reply answers a query.
func (u *Upstream) Reply(query *dns.Msg) *dns.Msg {
	m := u.Resolve(query.Question[0])
	if m == nil {
		return new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
	}
	m.Id = query.Id
	return m.SetEdns0(4096, true)
}

// Serve answers at an address as [Serve] does.
func (u *Upstream) Serve(t testing.TB, addr string) (at string) {
	t.Helper()
	return Serve(t, addr, u.answer)
}

// AnyPort asks [Serve] for a free port of 127.0.0.1.
const AnyPort = "127.0.0.1:0"

// Serve answers the questions that come to an address, over UDP and TCP, until the test ends. It returns the address,
// which for [AnyPort] has the port that was free. A nil reply stands for SERVFAIL.
func Serve(t testing.TB, addr string, answer func(q dns.Question, do bool) *dns.Msg) (at string) {
	t.Helper()
	at, end, err := zones.Listen(addr, answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end() }) //nolint:errcheck // the sockets are loopback's
	return at
}

// Asked returns the questions so far as "NAME TYPE", in the order in which they came.
func (u *Upstream) Asked() (all []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.asked {
		all = append(all, Words(q))
	}
	return all
}

// Count returns how many of the questions so far match a pattern, as in [Matches].
func (u *Upstream) Count(pattern string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.asked {
		if Matches(pattern, q) {
			n++
		}
	}
	return n
}

// Forget empties the cache and the list of questions.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.asked = nil; u.cache != nil {
		u.cache = u.tree.Recursor()
	}
}

// Words returns a question as "NAME TYPE".
func Words(q dns.Question) string { return q.Name + " " + dns.Type(q.Qtype).String() }

// Matches reports whether a question matches a pattern "NAME TYPE", in which * stands for anything: "* DS" matches each
// question for DS.
func Matches(pattern string, q dns.Question) bool {
	matches, err := path.Match(pattern, Words(q))
	return Words(q) == pattern || matches && err == nil
}
