package danelaw

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/danelaw-dns/danelaw/plugin/fastpath"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// upstreams are whom a Handler asks, and what is known of them. It implements upstream.Meter.
type upstreams struct {
	*upstream.Set
	block  string
	memory *memory
	alive  aliveLog
}

func newUpstreams(c Config, m *memory) (u *upstreams, err error) {
	u = &upstreams{block: c.Block, memory: m}
	u.Set, err = upstream.New(u.config(c))
	if err == nil {
		u.count()
	}
	return u, err
}

func (u *upstreams) config(c Config) upstream.Config {
	return upstream.Config{
		Routes: c.Routes, Next: c.Next, Private: c.Private, RootCAs: c.RootCAs, EDNSSize: c.EDNSSize,
		Clock: c.Clock, Meter: u, Pause: fastpath.Look,
	}
}

// count has the counters of all upstreams appear: one that appears with its first event shows no increase.
func (u *upstreams) count() {
	for _, s := range u.States() {
		upstreamQuestions.WithLabelValues(u.block, s.Upstream)
		upstreamMismatches.WithLabelValues(u.block, s.Upstream)
		exhausted.WithLabelValues(u.block, s.Upstream)
	}
}

// Close ends them.
func (u *upstreams) Close() {
	u.Set.Close()
	u.alive.close()
}

// Asked implements upstream.Meter.
func (u *upstreams) Asked(to string) { upstreamQuestions.WithLabelValues(u.block, to).Inc() }

// Answered implements upstream.Meter.
func (u *upstreams) Answered(to string, took time.Duration) {
	upstreamDuration.WithLabelValues(u.block, to).Observe(took.Seconds())
}

// Failed implements upstream.Meter.
func (u *upstreams) Failed(to string, reason upstream.Reason) {
	upstreamFailures.WithLabelValues(u.block, to, string(reason)).Inc()
}

// Mismatched implements upstream.Meter.
func (u *upstreams) Mismatched(to string) { upstreamMismatches.WithLabelValues(u.block, to).Inc() }

// Exhausted implements upstream.Meter.
func (u *upstreams) Exhausted(to string) { exhausted.WithLabelValues(u.block, to).Inc() }

// Alive implements upstream.Meter. What failed while an upstream was away is worth another try now (C-11).
func (u *upstreams) Alive(to string, alive bool, why string) {
	if u.alive.changed(to, alive, why) && alive {
		u.memory.ForgetFailures()
	}
}

// aliveEvery is how often the log tells of one upstream that dies and comes back all the time.
const aliveEvery = time.Minute

// aliveLog logs that an upstream has died or come back: at once, but no more often than once in an interval.
type aliveLog struct {
	every  time.Duration // 0: aliveEvery
	mu     sync.Mutex
	closed bool
	by     map[string]*lifeline
}

// lifeline is what is known, and what was told, of one upstream.
type lifeline struct {
	alive   bool
	why     string // if it is not
	died    time.Time
	changes int // since it was told of
	told    time.Time
	telling *time.Timer // tells the state as it is then; nil if all was told
}

// changed notes whether an upstream is alive, and reports whether it was not before. One of which nothing was heard is.
func (l *aliveLog) changed(to string, alive bool, why string) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[string]*lifeline{}
	}
	u := l.by[to]
	if u == nil {
		u = &lifeline{alive: true}
		l.by[to] = u
	}
	if u.alive == alive {
		return false
	}
	u.alive, u.why = alive, why
	if u.changes++; !alive {
		u.died = now
	}
	switch wait := u.told.Add(cmp.Or(l.every, aliveEvery)).Sub(now); {
	case l.closed || u.telling != nil:
	case wait <= 0:
		u.tell(to, now)
	default:
		u.telling = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if u.telling = nil; !l.closed {
				u.tell(to, time.Now())
			}
		})
	}
	return true
}

// tell writes the line.
func (u *lifeline) tell(to string, now time.Time) {
	often := ""
	if u.changes > 1 {
		often = fmt.Sprintf("; it came or went %d times in %v", u.changes, now.Sub(u.told).Round(time.Second))
	}
	u.told, u.changes = now, 0
	if u.alive {
		log.Infof("upstream %s answers again, %v after it died%s", to, now.Sub(u.died).Round(time.Second), often)
	} else {
		log.Warningf("upstream %s counts as dead: it %s%s", to, u.why, often)
	}
}

// close ends it: what was not told is not any more.
func (l *aliveLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, u := range l.by {
		if u.telling != nil {
			u.telling.Stop()
		}
	}
}

// asksItself returns an error if an upstream is an address on which the server block listens.
func (s *setting) asksItself(config *dnsserver.Config) error {
	for _, r := range s.config.Routes {
		for _, to := range r.To {
			if fmt.Sprint(to.Server.Port()) == config.Port &&
				slices.ContainsFunc(config.ListenHosts, func(host string) bool {
					return reaches(to.Server.Addr(), host)
				}) {
				return s.errorAt("upstream "+r.From, "upstream %s: that is danelaw itself, which listens there: it "+
					"would ask itself; name a resolver", to)
			}
		}
	}
	return nil
}

// reaches reports whether a packet to an address arrives at a listener on host. An empty or unspecified host listens on
// all addresses of this machine.
func reaches(to netip.Addr, host string) bool {
	listens, err := netip.ParseAddr(host)
	if err != nil || listens.IsUnspecified() {
		return (host == "" || err == nil && (listens.Is6() || to.Is4())) && own(to)
	}
	return listens.Unmap().WithZone("") == to.WithZone("")
}

// own reports whether an address is one of this host.
func own(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	addrs, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(addrs, func(o net.Addr) bool {
		p, err := netip.ParsePrefix(o.String())
		return err == nil && p.Addr().Unmap() == a.WithZone("")
	})
}

// returned reports whether a name that a client asks for is one that a server block has asked an upstream for (S-13).
// In a reload the Handler before and the one after share the socket.
func (r *registry) returned(block, name string) bool {
	return slices.ContainsFunc(r.all(), func(h *Handler) bool {
		return h.config.Block == block && h.upstreams.Returned(name)
	})
}

// Loops returns an error if an upstream of a Handler that serves is danelaw itself, however the way leads back. It asks
// each upstream one question, and waits for no reply longer than ctx.
func Loops(ctx context.Context) error {
	for _, h := range process.newest() {
		if loops := h.upstreams.Loops(ctx); len(loops) > 0 {
			return fmt.Errorf("upstream %s leads back to danelaw itself: a question to it came back; name a "+
				"resolver that is another", strings.Join(loops, " and "))
		}
	}
	return nil
}
