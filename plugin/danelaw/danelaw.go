// Package danelaw is the CoreDNS plugin: it answers clients with what plugin/resolve has validated, and decides how
// much of that they may see (AD, DO, CD, EDNS errors, size). README.md describes its options.
//
// In a Corefile it needs no more than its directive. A program puts a [Handler] made by [New] on a socket of its own,
// and one that wants to look at a Corefile without serving it uses [Load].
package danelaw

import (
	"cmp"
	"context"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fastpath"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

const pluginName = "danelaw"

// resolver is what a Handler asks; a *resolve.Resolver is one.
type resolver interface {
	Resolve(ctx context.Context, q dns.Question) *resolve.Answer
	Unchecked(ctx context.Context, q dns.Question) *resolve.Answer
	Cached(q dns.Question) *resolve.Answer
}

// Handler answers the clients of one server block. It implements plugin.Handler and ready.Readiness.
type Handler struct {
	config    Config
	origin    origin
	names     names
	upstreams *upstreams
	resolving *resolve.Resolver
	resolver  resolver // the same, but in tests
	meter     *meter
	readiness *readiness
	writer    writer
	changes   changes
	kept
	background
}

// origin is where a Handler comes from. That of a program's own is the zero one.
type origin struct {
	load      uint64   // the number of the load of a Corefile; 0: none
	addresses []string // where danelaw is to read for it
	looking   bool     // it serves nobody
}

// kept is what a Handler holds that outlives it.
type kept struct {
	memory  *memory
	ntas    *table
	keeper  *keeper
	follows map[string]*point // the keeper's, by zone
	watches *watches
	alarms  *alarms  // nil if nobody is told of them
	control *control // nil if there is none
	page    *page    // as control
	// cacheFile is what of the memory outlives the process; nil: nothing does
	cacheFile *cacheFile
	shared    *sharedCache // nil if there is none
	policy    *mailPolicy  // as shared
}

// background is what a Handler does beside answering, and what has to end before it can.
type background struct {
	stop    context.CancelFunc // nil before it has begun
	running sync.WaitGroup
	closing sync.Once
	asked   atomic.Int64 // queries from CoreDNS that it answers now
}

// New returns a Handler that answers; the error says what its configuration lacks. [Handler.Start] has it tell whether
// it is ready, [Handler.Close] ends it.
func New(c Config) (*Handler, error) { return newHandler(c, origin{}) }

// newHandler makes what answers: nothing of it asks or runs yet.
func newHandler(c Config, from origin) (h *Handler, err error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	h = &Handler{config: c, origin: from, names: namesOf(c), meter: newMeter(c.Block)}
	if err := cmp.Or(c.missing(), h.names.unwatchable(c.Watch)); err != nil {
		return nil, err
	}
	table := c.Block
	if from.load != 0 { // all server blocks of a Corefile share one
		table = ""
	}
	h.kept = kept{memory: holdMemory(c), ntas: holdTable(table), keeper: holdKeeper(table),
		watches: holdWatches(c.Block)}
	h.writer = writer{adClients: c.ADClients, ednsSize: c.EDNSSize, meter: h.meter, history: &h.memory.history}
	if !from.looking {
		h.alarms = holdAlarms(c.Notify)
	}
	h.changes = changes{alarms: h.alarms, last: h.memory.last, meter: h.meter, lines: flood{of: "changes of verdicts"}}
	if h.policy, err = openPolicy(h, table); err == nil {
		err = h.open()
	}
	if err != nil {
		h.kept.release()
		return nil, err
	}
	return h, nil
}

// release lets go of all but the control socket.
func (k *kept) release() {
	release(&process, k.memory)
	release(&process, k.ntas)
	release(&process, k.keeper)
	release(&process, k.watches)
	if k.cacheFile != nil {
		release(&process, k.cacheFile)
	}
	if k.shared != nil {
		release(&process, k.shared)
	}
	if k.alarms != nil {
		release(&process, k.alarms)
	}
	k.policy.release()
}

// open makes what asks and what judges.
func (h *Handler) open() (err error) {
	c := h.config
	if h.upstreams, err = newUpstreams(c, h.memory); err != nil {
		return err
	}
	anchors, err := h.keeper.declare(h)
	ntas, failed := h.ntas.declare(h)
	if err = cmp.Or(err, failed); err != nil {
		h.upstreams.Close()
		return err
	}
	if !h.origin.looking { // what is told of upstreams is to be what they say
		if h.cacheFile, err = holdCacheFile(c); err != nil {
			h.upstreams.Close()
			return err
		}
		h.shared = holdSharedCache(c)
	}
	h.resolving = resolve.New(resolve.Config{
		Beyond: beyond(h), Exchanger: h.upstreams.Set, Anchors: anchors, NTAs: ntas, Policy: c.Policy,
		Store: h.memory.Store, Clock: c.Clock, ValidationTime: c.ValidationTime, Meter: h.meter,
		Judged: h.changes.judged, Timeout: c.Timeout, SignatureChecks: c.SignatureChecks,
		UpstreamQuestions: c.UpstreamQuestions, Retries: c.Retries, InFlight: c.InFlight, Waiting: c.Waiting,
		Room: c.workRoom(), MinTTL: c.MinTTL, MaxTTL: c.MaxTTL, Prefetch: c.Prefetch, Aggressive: c.Aggressive,
		Apart: c.apart(), Private: c.Private, Stale: c.ServeStale, ProcessorsShort: c.processorsShort,
		Pause: fastpath.Look,
	})
	h.resolver = h.resolving
	h.readiness = newReadiness(h)
	h.keeper.join(h)
	h.ntas.join(h)
	return nil
}

// Start has the Handler find out, again and again, whether it can do its work (S-13, T-13, T-14).
func (h *Handler) Start() {
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.keeper.start()
	h.ntas.start(h)
	h.cacheFile.start(h.memory.Store)
	h.running.Go(func() { h.readiness.run(ctx) })
	h.running.Go(func() { every(ctx, tick, func() { h.ntas.tend(ctx, h) }) })
	h.running.Go(func() { every(ctx, tick, func() { h.keeper.tend(ctx, h) }) })
	if len(h.config.Watch) > 0 {
		h.running.Go(func() { newWatcher(h).run(ctx) })
	}
	h.policy.start(ctx, &h.running)
	process.begin(h)
}

// Close ends the Handler: questions in flight are answered SERVFAIL. It may be called twice.
func (h *Handler) Close() {
	h.closing.Do(func() {
		process.end(h)
		if h.control != nil {
			release(&process, h.control)
		}
		if h.page != nil {
			release(&process, h.page)
		}
		h.keeper.leave(h)
		h.ntas.leave(h)
		if h.stop != nil {
			h.stop()
		}
		h.running.Wait()
		h.resolving.Close()
		h.upstreams.Close()
		h.kept.release()
		h.writer.failures.flush()
		h.changes.lines.flush()
	})
}

// Resolver returns what the Handler asks.
func (h *Handler) Resolver() *resolve.Resolver { return h.resolving }

// Fit asks each upstream what only one fit for validation can answer (S-13).
func (h *Handler) Fit(ctx context.Context) []upstream.Report {
	return h.upstreams.Fit(ctx, slices.Sorted(maps.Keys(h.config.Anchors)))
}

// Ready implements ready.Readiness: anchors, clock and an upstream were found in order, once (S-25).
func (h *Handler) Ready() bool { return h.readiness.Ready() }

// Name implements plugin.Handler.
func (h *Handler) Name() string { return pluginName }

// ServeDNS implements plugin.Handler. Every reply is written here, private names apart, so it never returns an RCODE
// that would make the server write another.
func (h *Handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (rcode int, err error) {
	q := newQuery(w, r)
	defer func() {
		if p := recover(); p != nil { // S-27: CoreDNS's own recover sends no EDE
			if h.meter.panics.Inc(); h.writer.failures.open() {
				log.trace("%s: panic: %v\n%s", q, p, debug.Stack())
			}
			rcode, err = h.writer.send(q, crash(q)), nil
		}
	}()
	if r, ok := routeOf(w); ok && r.answer(h, q) {
		return dns.RcodeSuccess, nil
	}
	return h.serve(ctx, q)
}

func (h *Handler) serve(ctx context.Context, q *query) (int, error) {
	switch {
	case q.Response: // S-22
		return dns.RcodeSuccess, nil
	case !contains(h.config.AllowClients, q.client): // S-23
		return h.writer.send(q, refused(dns.ExtendedErrorCodeProhibited, "%s is not in allow_clients", q.client)), nil
	case q.malformed():
		return h.writer.send(q, reply{verdict: invalid, rcode: dns.RcodeFormatError}), nil
	case q.foreign():
		return h.writer.send(q, reply{verdict: invalid, rcode: dns.RcodeBadVers}), nil
	case upstream.IsProbe(q.question()) && process.returned(h.config.Block, q.name()):
		return h.writer.send(q, refused(dns.ExtendedErrorCodeNoReachableAuthority, "danelaw asks itself")), nil
	case h.names.private.cover(q.name()):
		return h.pass(ctx, q)
	}
	return h.writer.send(q, h.reply(ctx, q)), nil
}

// pass leaves a private name to the plugins below: what they say is not validated and gets no AD (S-21).
func (h *Handler) pass(ctx context.Context, q *query) (int, error) {
	defer h.meter.replied(passed, q.qtype(), q.begun)
	defer h.memory.history.replied(passed, q.begun)
	return plugin.NextOrFailure(pluginName, h.config.Next, ctx, unauthenticated{q.w}, q.Msg)
}

// reply decides what the client is told.
func (h *Handler) reply(ctx context.Context, q *query) reply {
	if re, ok := unsupported(q); ok {
		return re
	}
	if re, ok := h.names.special(q.question()); ok {
		return re
	}
	if !q.RecursionDesired { // S-22
		if a := h.resolver.Cached(q.question()); a != nil {
			return h.answer(q, a)
		}
		return refused(dns.ExtendedErrorCodeNotAuthoritative,
			"not in the cache, and the query does not ask for recursion")
	}
	if a, ok := ctx.Value(answered{}).(*answered); ok {
		q.begun = a.begun
		return h.answer(q, a.answer)
	}
	ask := h.resolver.Resolve
	if q.CheckingDisabled && !h.config.IgnoreCD {
		ask = h.resolver.Unchecked
	}
	a := ask(resolve.WithClient(ctx, q.client.String()), q.question())
	if q.untrueOf(h.resolving.Trusted()["."], a) {
		return untrue(q)
	}
	if h.config.Prefetch {
		prefetcher{h.resolving, h.names}.prefetch(q.question(), a)
	}
	return h.answer(q, a)
}
