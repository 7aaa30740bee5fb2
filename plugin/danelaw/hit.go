package danelaw

import (
	"context"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fastpath"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// hit is a question that passes by CoreDNS if what is cached answers it, or will once it is there.
type hit struct {
	*fastpath.Question
	h      *Handler
	block  *passing
	waited bool // it was not there
}

// question is what is asked. Its name stands no longer than the Question.
func (q *hit) question() dns.Question { return dnssec.Question(q.Name, q.Type) }

// passes reports whether the question may pass: not those of other clients, for special, private and sentinel names,
// and of odd types.
func (q *hit) passes() bool {
	return contains(q.h.config.AllowClients, q.Client) && hittable(q.Type) && !q.h.names.elsewhere(q.Name) &&
		!upstream.IsProbe(q.question()) && !sentinels(q.question()) && !clog.D.Value()
}

// hittable reports whether a question for a type may be answered at once: not those that are no type of data, and not
// those whose records others get only with DO (V-70, V-71, V-75).
func hittable(t uint16) bool {
	switch t {
	case dns.TypeANY, dns.TypeNXNAME, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3:
		return false
	}
	return !meta(t)
}

// reply appends to dst what is in the cache, octet by octet as ServeDNS tells it, if it fits the client.
func (q *hit) reply(dst []byte, b *batch) (reply []byte, ok bool) {
	defer q.survive(&ok)
	b.of(q)
	p := &b.packed
	if !q.passes() {
		return dst, false
	}
	if !q.memory().Packed(q.question(), !q.DNSSECOK, b.now, p) {
		return q.refuse(dst, b)
	}
	room := q.h.writer.room(q.Client, q.UDP, q.EDNS, q.Size)
	r := fastpath.Reply{Wire: p.Wire(), Options: p.Errors(), Size: q.Size}
	if q.UDP {
		r.Size = uint16(room)
	}
	r.Authentic = p.Vouched() && (q.DNSSECOK || q.AuthenticData) && contains(q.h.config.ADClients, q.Client)
	if reply = q.Append(dst, r); len(reply)-len(dst) > room {
		return dst, false
	}
	b.count(q, p, len(reply)-len(dst))
	return reply, true
}

func (q *hit) memory() resolve.Memory { return resolve.Memory{Resolver: q.h.resolving} }

// survive makes no hit of a panic (S-27): ServeDNS tries it.
func (q *hit) survive(ok *bool) {
	if p := recover(); p != nil {
		q.h.meter.panics.Inc()
		log.trace("%s: panic: %v\n%s", q.Name, p, debug.Stack())
		*ok = false
	}
}

// refuse appends to dst what is told where a limit keeps the question out. A flood of them would else take what is left
// of the processors for their own work, and mail would wait for it.
func (q *hit) refuse(dst []byte, b *batch) (reply []byte, ok bool) {
	if q.waited {
		return dst, false
	}
	a := q.memory().Refused(q.question(), q.Client.String)
	if a == nil {
		return dst, false
	}
	if reply, ok = q.failure(dst, a, b); ok {
		q.memory().CountRefused(a)
	}
	return reply, ok
}

// later has what is not in the cache answered once it is there: from the cache, or else by a Server that is given the
// answer, so that nobody waits for it again. done is called after it.
func (q *hit) later(ctx context.Context, then func(reply []byte, otherwise fastpath.Server), done func()) bool {
	if !q.passes() || q.CheckingDisabled {
		return false
	}
	q.waited = true
	return q.memory().Later(ctx, q.question(), q.Client.String(), func(a *resolve.Answer) {
		if reply, ok := q.after(a); ok {
			defer done()
			then(reply, nil)
			return
		}
		then(nil, func(ctx context.Context, w dns.ResponseWriter, m *dns.Msg) {
			defer done()
			c := &measured{ResponseWriter: request.NewScrubWriter(m, w)}
			ctx = context.WithValue(ctx, answered{}, &answered{a.Clone(), q.Read})
			q.h.ServeDNS(ctx, c, m) //nolint:errcheck // it has written its reply
			if r := q.block.requests; r != nil {
				r.count(q, c.rcode, c.octets)
			}
		})
	})
}

// after is reply for what has just been answered with a. It asks ahead as ServeDNS does.
func (q *hit) after(a *resolve.Answer) (reply []byte, ok bool) {
	defer q.survive(&ok)
	if q.h.config.Prefetch {
		prefetcher{q.h.resolving, q.h.names}.prefetch(q.question(), a)
	}
	b := batches.Get().(*batch)
	defer batches.Put(b)
	defer b.Flush()
	if a.Status <= dnssec.Bogus {
		b.of(q)
		return q.failure(nil, a, b)
	}
	return q.reply(nil, b)
}

// batches are of one hit each, which has waited.
var batches = sync.Pool{New: func() any { return new(batch) }}

// failure appends to dst the SERVFAIL of a question that CoreDNS was not asked, as ServeDNS tells it, if all of it fits
// the client.
func (q *hit) failure(dst []byte, a *resolve.Answer, b *batch) (reply []byte, ok bool) {
	notes := q.h.readiness.explain(a.Notes)
	if a.Cached || len(notes) == 0 {
		return dst, false
	}
	room := q.h.writer.room(q.Client, q.UDP, q.EDNS, q.Size)
	r := fastpath.Reply{Options: resolve.PackedErrors(notes), Size: q.Size}
	if q.UDP {
		r.Size = uint16(room)
	}
	if reply = q.Fail(dst, dns.RcodeServerFailure, r); len(reply)-len(dst) > room {
		return dst, false
	}
	question := q.question()
	question.Name = strings.Clone(question.Name)
	q.h.logFailure(asker{question, q.Client, q.Read}, a, notes)
	b.replied(q, verdicts[a.Status], r.Options, dns.RcodeServerFailure, len(reply)-len(dst))
	return reply, true
}

// answered is what a client has waited for before ServeDNS is asked, and since when; in a context it is its own key.
type answered struct {
	answer *resolve.Answer
	begun  time.Time
}

// measured is a writer that knows what CoreDNS counts of a reply.
type measured struct {
	dns.ResponseWriter
	rcode, octets int
}

// WriteMsg implements dns.ResponseWriter.
func (c *measured) WriteMsg(m *dns.Msg) error {
	c.rcode, c.octets = m.Rcode, m.Len()
	return c.ResponseWriter.WriteMsg(m)
}

// hitOf finds the question's block among those that serve.
func (l *listening) hitOf(q *fastpath.Question) (hit, bool) {
	b := l.server.Load().owner(q.Name, q.Type)
	if b == nil {
		return hit{}, false
	}
	return hit{Question: q, h: b.directive.enter(), block: b}, true
}

// always finds a Handler that has all names.
func always(h *Handler) finder {
	block := new(passing)
	return func(q *fastpath.Question) (hit, bool) {
		h.asked.Add(1)
		return hit{Question: q, h: h, block: block}, true
	}
}

// later is the fastpath's Later.
func (f finder) later(
	ctx context.Context, q *fastpath.Question, then func(reply []byte, otherwise fastpath.Server),
) bool {
	hit, ok := f(q)
	if !ok {
		return false
	}
	done := func() { hit.h.asked.Add(-1) }
	if !hit.later(ctx, then, done) {
		done()
		return false
	}
	return true
}
