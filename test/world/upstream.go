package world

import (
	"path"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// Upstream is a recursor, one that validates nothing, for a tree. It remembers what it is asked.
type Upstream struct {
	tree  *Tree
	mu    sync.Mutex
	cache *zones.Recursor // nil: none
	asked []dns.Question
	spoil func(q dns.Question, m *dns.Msg) *dns.Msg
}

// Upstream returns one that caches nothing: what changes in the tree is seen at once.
func (t *Tree) Upstream() *Upstream { return &Upstream{tree: t} }

// Caching returns one that caches, by the clock of the tree.
func (t *Tree) Caching() *Upstream { return &Upstream{tree: t, cache: t.Recursor()} }

// Spoil has f change what is answered from now on; nil stands for SERVFAIL. It may be called while questions are asked.
func (u *Upstream) Spoil(f func(q dns.Question, m *dns.Msg) *dns.Msg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.spoil = f
}

// Resolve answers a question with signatures and proofs. The reply is the caller's; nil stands for SERVFAIL.
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

// AnyPort is the address of a free port.
const AnyPort = "127.0.0.1:0"

// Serve has answer called for what is asked at an address, over UDP and TCP, until the test ends; at is the address,
// also where that was [AnyPort]. A nil reply stands for SERVFAIL.
func Serve(t testing.TB, addr string, answer func(q dns.Question, do bool) *dns.Msg) (at string) {
	t.Helper()
	at, end, err := zones.Listen(addr, answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end() }) //nolint:errcheck // the sockets are loopback's
	return at
}

// Asked are the questions so far as "NAME TYPE", in the order in which they came.
func (u *Upstream) Asked() (all []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.asked {
		all = append(all, Words(q))
	}
	return all
}

// Count returns how many of the questions so far are the one given, as in [Matches].
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

// Forget drops the cache, and the questions so far.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.asked = nil; u.cache != nil {
		u.cache = u.tree.Recursor()
	}
}

// Words is a question as "NAME TYPE".
func Words(q dns.Question) string { return q.Name + " " + dns.Type(q.Qtype).String() }

// Matches reports whether a question is the one given as "NAME TYPE", in which * stands for anything: "* DS" is each
// that asks for DS.
func Matches(pattern string, q dns.Question) bool {
	matches, err := path.Match(pattern, Words(q))
	return Words(q) == pattern || matches && err == nil
}
