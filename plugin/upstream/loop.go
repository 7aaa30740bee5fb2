package upstream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// loopProbes are questions under way for random names. Who is asked for one of them on this side of the upstreams has
// been asked by himself: directly, or through a redirection, a NAT or another forwarder, which comparing addresses does
// not find.
type loopProbes struct {
	mu  sync.Mutex
	out map[string]context.CancelCauseFunc // by name
}

var errReturned = errors.New("the question came back")

// send notes a name below zone that nobody can guess. The context ends with errReturned when it comes back; end forgets
// the name.
func (p *loopProbes) send(ctx context.Context, zone string) (probing context.Context, name string, end func()) {
	name = dns.Fqdn(strings.TrimRight(randomLabel()+"."+zone, "."))
	probing, cancel := context.WithCancelCause(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out[name] = cancel
	return probing, name, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.out, name)
		cancel(nil)
	}
}

// Returned says that a client has asked for a canonical name, and reports whether it is one by which this Set finds out
// whether an upstream is the asker himself.
func (s *Set) Returned(name string) bool {
	s.loopProbes.mu.Lock()
	defer s.loopProbes.mu.Unlock()
	cancel, ours := s.loopProbes.out[name]
	if ours {
		cancel(errReturned)
	}
	return ours
}

// IsProbe reports whether q has the form of a question that may be handed to [Set.Returned].
func IsProbe(q dns.Question) bool {
	return q.Qtype == dns.TypeA && strings.IndexByte(q.Name, '.') == probeLabel
}

// Loops asks each upstream one question, and returns the names of those from which it came back.
func (s *Set) Loops(ctx context.Context) []string {
	found := make([]string, len(s.upstreams))
	var tests sync.WaitGroup
	for i, u := range s.upstreams {
		tests.Go(func() {
			if s.returns(ctx, u) {
				found[i] = u.name
			}
		})
	}
	tests.Wait()
	return slices.DeleteFunc(found, func(name string) bool { return name == "" })
}

// returns reports whether a question to u comes back.
func (s *Set) returns(ctx context.Context, u *upstream) bool {
	zone := "."
	for _, r := range s.routes {
		if slices.Contains(r.upstreams, u) {
			zone = r.from
		}
	}
	probing, name, end := s.loopProbes.send(ctx, zone)
	defer end()
	s.try(probing, u, step{name: name, qtype: dns.TypeA, check: denied})
	return s.looped(probing, u)
}

// looped notes whether the probe of a context came back from u.
func (s *Set) looped(probing context.Context, u *upstream) bool {
	loop := errors.Is(context.Cause(probing), errReturned)
	u.itself.Store(loop)
	return loop
}
