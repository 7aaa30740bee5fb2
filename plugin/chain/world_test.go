package chain

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// clock is a virtual clock.
type clock struct {
	mu         sync.Mutex
	start, now time.Time
}

func newClock() *clock {
	noon := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	return &clock{start: noon, now: noon}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// upstream is a scripted Exchanger over a world: rule, if it returns true, decides what happens to a question.
type upstream struct {
	world *world
	mu    sync.Mutex
	asked []string // "name TYPE", in order of arrival
	tries []fetch.Try
	rule  func(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error, bool)
}

func (u *upstream) Exchange(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error) {
	u.mu.Lock()
	u.asked = append(u.asked, fetch.Describe(q))
	u.tries = append(u.tries, t)
	rule := u.rule
	u.mu.Unlock()
	if rule != nil {
		if r, err, done := rule(ctx, q, t); done {
			return r, err
		}
	}
	return u.reply(q), nil
}

func (u *upstream) reply(q dns.Question) fetch.Reply {
	m := u.world.answer(q)
	return fetch.Reply{Msg: m, Upstream: "good", Size: m.Len()}
}

// count returns how many of the questions asked so far contain the text.
func (u *upstream) count(text string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.asked {
		if strings.Contains(q, text) {
			n++
		}
	}
	return n
}

func (u *upstream) questions() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.asked)
}

func (u *upstream) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked, u.tries = nil, nil
}

func (u *upstream) setRule(rule func(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error, bool)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rule = rule
}

// setup returns a resolver over the usual world, with its upstream and clock; change may alter the configuration.
func setup(t *testing.T, change func(*Config)) (*Resolver, *upstream, *clock) {
	t.Helper()
	now := newClock()
	u := &upstream{world: newWorld(t, now)}
	c := Config{
		Exchanger: u, Anchors: u.world.anchors(), Store: NewStore(4 << 20), Clock: now.Now, Policy: dnssec.DefaultPolicy(),
		Retries: 2,
	}
	if change != nil {
		change(&c)
	}
	r := New(c)
	t.Cleanup(r.Close)
	return r, u, now
}

// ask resolves name and type.
func ask(r *Resolver, name string, qtype uint16) *Answer {
	return r.Resolve(context.Background(), question(name, qtype))
}

// expect checks status and RCODE.
func expect(t *testing.T, a *Answer, status dnssec.Status, rcode int) {
	t.Helper()
	if a.Status != status || a.Rcode != rcode {
		t.Fatalf("%v %s, want %v %s; notes %s", a.Status, dns.RcodeToString[a.Rcode], status, dns.RcodeToString[rcode],
			notes(a))
	}
}

func notes(a *Answer) string {
	var s []string
	for _, f := range a.Notes {
		s = append(s, fmt.Sprintf("%d %q", f.Code, f.Text))
	}
	return strings.Join(s, "; ")
}
