// Package danelaw is the CoreDNS plugin: it answers clients with what plugin/chain has validated, and decides what of
// that they may see (AD, DO, CD, EDNS errors, size). Its options are described in README.md.
//
// In a Corefile it needs no more than its directive. A program puts a [Handler] made by [New] on a socket of its own,
// and one that wants to look at a Corefile without serving it uses [Load].
package danelaw

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

const pluginName = "danelaw"

// Config is what a Handler is made of. Start from [Defaults]; Anchors, and Routes or Next, have to be added.
type Config struct {
	// Block names the server block in metrics and tells its memory from that of others: a Handler with the same Block
	// and the same judgement takes over what the one before it remembers.
	Block string
	Next  plugin.Handler   // answers private zones, and everything that no route covers; may be nil
	Clock func() time.Time // nil: time.Now

	Routes  []upstream.Route
	RootCAs *x509.CertPool // for upstreams over TLS and HTTPS; nil: the system's

	Anchors        trustanchors.Set
	Negative       []NegativeAnchor
	State          string   // a directory for what is to outlive a restart: negative trust anchors; "" for none
	Private        []string // canonical zone names: passed to Next as they are
	Policy         dnssec.Policy
	ValidationTime time.Time // judge as if it were then; zero: now

	AllowClients []netip.Prefix // all others are refused
	ADClients    []netip.Prefix // who may receive AD (V-78)
	IgnoreCD     bool

	CacheSize      int64         // octets
	MinTTL, MaxTTL time.Duration // of the cache (C-5, C-6)
	Aggressive     reuse.Use
	Prefetch       bool // what an MTA asks next, and what ends soon (C-14)

	Timeout           time.Duration // L-10
	SignatureChecks   int           // L-1
	UpstreamQuestions int           // L-9
	Retries           int           // V-14
	InFlight          int           // L-13
	Waiting           int           // L-13
	EDNSSize          uint16        // S-1, octets

	Watch []string // canonical names of own domains, which are looked at regularly
	// WatchDial, if set, connects to their mail hosts in the place of the system.
	WatchDial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Defaults returns the configuration of a Corefile that says nothing.
func Defaults() Config {
	return Config{
		Clock:   time.Now,
		Anchors: trustanchors.Embedded(), Policy: dnssec.DefaultPolicy(),
		AllowClients: loopback(), ADClients: loopback(),
		CacheSize: ours().cache, MaxTTL: 24 * time.Hour, Prefetch: true, Aggressive: reuse.NSEC,
		Timeout: 4500 * time.Millisecond, SignatureChecks: 128, UpstreamQuestions: 100, Retries: 2, InFlight: ours().inFlight,
		Waiting: 1000, EDNSSize: 1232,
	}
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// resolver is what a Handler asks; a *chain.Resolver is one.
type resolver interface {
	Resolve(ctx context.Context, q dns.Question) *chain.Answer
	Unchecked(ctx context.Context, q dns.Question) *chain.Answer
	Cached(q dns.Question) *chain.Answer
}

// Handler answers the clients of one server block. It implements plugin.Handler and ready.Readiness.
type Handler struct {
	Config
	resolver  resolver
	private   zoneSet
	local     zoneSet // configured in some other way: no special names (S-18)
	meter     *meter
	readiness *readiness
	upstreams upstreamStates
	alive     aliveLog
	failures  flood // of log lines
	changes   flood

	block      string // as in Config, known before the rest
	looking    bool   // it serves nobody
	opened     atomic.Bool
	generation *instance // the load of a Corefile that it comes from, if any
	resolving  *chain.Resolver
	set        *upstream.Set
	memory     *memory
	negatives  *table
	control    *control // nil if there is none
	stop       context.CancelFunc
	running    sync.WaitGroup
	closing    sync.Once
}

// New returns a Handler that answers; the error says what its configuration lacks. [Handler.Start] has it tell whether
// it is ready, [Handler.Close] ends it.
func New(c Config) (*Handler, error) {
	h := &Handler{Config: c}
	if err := h.open(); err != nil {
		return nil, err
	}
	return h, nil
}

// open makes what answers: nothing of it asks or runs yet.
func (h *Handler) open() (err error) {
	if h.Clock == nil {
		h.Clock = time.Now
	}
	h.prepare()
	if err := cmp.Or(h.lacks(), h.unwatchable()); err != nil {
		return err
	}
	h.meter = newMeter(h.Block)
	h.changes.of = "changes of verdicts"
	h.set, err = upstream.New(upstream.Config{
		Routes: h.Routes, Next: h.Next, RootCAs: h.RootCAs, EDNSSize: h.EDNSSize, Clock: h.Clock, Meter: upstreamMeter{h},
	})
	if err != nil {
		return err
	}
	h.memory = acquire(h.Config)
	h.negatives = acquireTable(h.tableKey())
	negatives, err := h.negatives.declare(h)
	if err != nil {
		h.negatives.release()
		h.memory.release()
		h.set.Close()
		return err
	}
	h.resolving = chain.New(chain.Config{
		Exchanger: h.set, Anchors: h.Anchors, Store: h.memory.Store, Clock: h.Clock, ValidationTime: h.ValidationTime,
		Policy: h.Policy, Negatives: negatives, Meter: h.meter, Judged: h.judged,
		Timeout: h.Timeout, SignatureChecks: h.SignatureChecks, UpstreamQuestions: h.UpstreamQuestions, Retries: h.Retries,
		InFlight: h.InFlight, Waiting: h.Waiting, Room: h.workRoom(), MinTTL: h.MinTTL, MaxTTL: h.MaxTTL, Prefetch: h.Prefetch,
		Aggressive: h.Aggressive, Apart: h.apart(),
	})
	h.resolver = h.resolving
	h.negatives.join(h)
	h.readiness = newReadiness(h.Config, h.set, h.resolving, h.memory, &h.upstreams)
	h.opened.Store(true)
	return nil
}

// apart returns the zones that have upstreams of their own, which may know other names than the public zones above do.
func (h *Handler) apart() map[string]bool {
	zones := map[string]bool{}
	for _, r := range h.Routes {
		zones[dns.CanonicalName(r.From)] = true
	}
	delete(zones, ".")
	return zones
}

// tableKey names the table of negative trust anchors: all server blocks of a daemon share one.
func (h *Handler) tableKey() string {
	if h.generation != nil {
		return ""
	}
	return h.Block
}

// prepare makes what is looked up per question.
func (h *Handler) prepare() {
	h.private, h.local = zoneSet{}, zoneSet{}
	h.private.add(h.Private...)
	for _, r := range h.Routes {
		h.local.add(dns.CanonicalName(r.From))
	}
	for zone := range h.Anchors {
		h.local.add(zone)
	}
	delete(h.local, ".")
}

// lacks returns what is missing for any answer at all.
func (h *Handler) lacks() error {
	switch {
	case h.Next == nil && len(h.Routes) == 0:
		return errors.New("there is nobody to ask: add `upstream . ADDRESS...`, or a plugin such as forward below danelaw")
	case h.Next == nil && len(h.Private) > 0:
		return fmt.Errorf("private %s needs a plugin below danelaw that answers it, such as forward", h.Private[0])
	case len(h.Anchors) == 0:
		return errors.New("there is no trust anchor: add `trust_anchor embedded`")
	}
	if root := h.Policy.Anchor(".", h.Anchors["."]); len(h.Anchors["."]) > 0 && root.Cut != dnssec.SignedCut { // T-15
		return fmt.Errorf("%s: add `trust_anchor embedded`", root.Cause.Text)
	}
	covered := zoneSet{}
	for _, r := range h.Routes {
		covered.add(dns.CanonicalName(r.From))
	}
	for zone := range h.Anchors {
		if h.Next == nil && !covered.cover(zone) {
			return fmt.Errorf("there is nobody to ask for the trust anchor of %s: add `upstream %[1]s ADDRESS...`, "+
				"or a plugin such as forward below danelaw", zone)
		}
	}
	return nil
}

// Start has the Handler find out, again and again, whether it can do its work (S-13, T-13, T-14).
func (h *Handler) Start() {
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.negatives.start(h)
	h.running.Go(func() { h.readiness.run(ctx) })
	h.running.Go(func() { h.tendNegatives(ctx) })
	if len(h.Watch) > 0 {
		h.running.Go(func() { newWatcher(h).run(ctx) })
	}
	live.add(h)
}

// Close ends the Handler: questions in flight are answered SERVFAIL. It may be called twice.
func (h *Handler) Close() {
	h.closing.Do(func() {
		live.remove(h)
		h.control.release()
		h.negatives.leave(h)
		if h.stop != nil {
			h.stop()
		}
		h.running.Wait()
		h.resolving.Close()
		h.set.Close()
		h.memory.release()
		h.negatives.release()
		h.alive.close()
		h.failures.flush()
		h.changes.flush()
	})
}

// Resolver returns what the Handler asks.
func (h *Handler) Resolver() *chain.Resolver { return h.resolving }

// Fit asks each upstream what only one fit for validation can answer (S-13).
func (h *Handler) Fit(ctx context.Context) []upstream.Report {
	return h.set.Fit(ctx, slices.Sorted(maps.Keys(h.Anchors)))
}

// Ready implements ready.Readiness: anchors, clock and an upstream were found in order, once (S-25). While CoreDNS
// starts, ready may ask before anything is open; in a reload the Handler before still serves then.
func (h *Handler) Ready() bool {
	if h.opened.Load() {
		return h.readiness.Ready()
	}
	before := live.newest()[h.block]
	return before != nil && before.Ready()
}

// Name implements plugin.Handler.
func (h *Handler) Name() string { return pluginName }

// ServeDNS implements plugin.Handler. Every reply is written here, private names apart, so it never returns an RCODE that
// would make the server write another.
func (h *Handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (rcode int, err error) {
	q := newQuery(w, r)
	defer func() {
		if p := recover(); p != nil { // S-27: CoreDNS's own recover sends no EDE
			if h.meter.panics.Inc(); h.failures.open() {
				log.trace("%s: panic: %v\n%s", q, p, debug.Stack())
			}
			rcode, err = h.send(q, crash(q)), nil
		}
	}()
	return h.serve(ctx, q)
}

func (h *Handler) serve(ctx context.Context, q *query) (int, error) {
	switch {
	case q.Response: // S-22
		return dns.RcodeSuccess, nil
	case !contains(h.AllowClients, q.client): // S-23
		return h.send(q, refused(dns.ExtendedErrorCodeProhibited, "%s is not in allow_clients", q.client)), nil
	case q.malformed():
		return h.send(q, reply{verdict: invalid, rcode: dns.RcodeFormatError}), nil
	case q.foreign():
		return h.send(q, reply{verdict: invalid, rcode: dns.RcodeBadVers}), nil
	case upstream.IsProbe(q.question()) && h.returned(q.name()):
		return h.send(q, refused(dns.ExtendedErrorCodeNoReachableAuthority, "danelaw asks itself")), nil
	case h.private.cover(q.name()):
		return h.pass(ctx, q)
	}
	return h.send(q, h.reply(ctx, q)), nil
}

// pass leaves a private name to the plugins below: what they say is not validated and gets no AD (S-21).
func (h *Handler) pass(ctx context.Context, q *query) (int, error) {
	defer h.meter.replied(passed, q)
	defer h.memory.history.replied(passed, q.begun)
	return plugin.NextOrFailure(pluginName, h.Next, ctx, unauthenticated{q.w}, q.Msg)
}

// reply decides what the client is told.
func (h *Handler) reply(ctx context.Context, q *query) reply {
	if re, ok := unsupported(q); ok {
		return re
	}
	if re, ok := h.special(q.question()); ok {
		return re
	}
	if !q.RecursionDesired { // S-22
		if a := h.resolver.Cached(q.question()); a != nil {
			return h.answer(q, a)
		}
		return refused(dns.ExtendedErrorCodeNotAuthoritative, "not in the cache, and the query does not ask for recursion")
	}
	ask := h.resolver.Resolve
	if q.CheckingDisabled && !h.IgnoreCD {
		ask = h.resolver.Unchecked
	}
	a := ask(chain.WithClient(ctx, q.client.String()), q.question())
	h.prefetch(q.question(), a)
	return h.answer(q, a)
}

// contains reports whether one of the prefixes holds the address.
func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// zoneSet is a set of canonical zone names.
type zoneSet map[string]struct{}

func (z zoneSet) add(names ...string) {
	for _, name := range names {
		z[name] = struct{}{}
	}
}

// cover reports whether the canonical name is one of the zones or lies in one.
func (z zoneSet) cover(name string) bool {
	_, ok := z.closest(name)
	return ok
}

// closest returns the deepest of the zones that holds the canonical name.
func (z zoneSet) closest(name string) (string, bool) {
	if len(z) == 0 {
		return "", false
	}
	for at := range dnssec.Ancestors(name) {
		if _, ok := z[at]; ok {
			return at, true
		}
	}
	return "", false
}
