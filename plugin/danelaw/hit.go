package danelaw

import (
	"encoding/binary"
	"runtime/debug"
	"sync"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fastpath"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// packed is memory for answers from the cache.
var packed = sync.Pool{New: func() any { return new(resolve.Packed) }}

// hit answers at once what is in the cache, octet by octet as ServeDNS does, to whom it does. All else is left to that:
// other clients, special, private and sentinel names, failures, and what does not fit.
func (b *passing) hit(h *Handler, q *fastpath.Question, dst []byte) (reply []byte, ok bool) {
	begun := time.Now()
	question := dnssec.Question(q.Name, q.Type)
	if !contains(h.config.AllowClients, q.Client) || !hittable(q.Type) || h.names.elsewhere(q.Name) ||
		upstream.IsProbe(question) || sentinels(question) || clog.D.Value() {
		return dst, false
	}
	p := packed.Get().(*resolve.Packed)
	defer packed.Put(p)
	if !(resolve.Memory{Resolver: h.resolving}).Packed(question, !q.DNSSECOK, p) {
		return dst, false
	}
	room := h.writer.room(q.Client, q.UDP, q.EDNS, q.Size)
	r := fastpath.Reply{Wire: p.Wire(), Options: p.Errors(), Size: q.Size}
	if q.UDP {
		r.Size = uint16(room)
	}
	r.Authentic = p.Vouched() && (q.DNSSECOK || q.AuthenticData) && contains(h.config.ADClients, q.Client)
	if reply = q.Append(dst, r); len(reply)-len(dst) > room {
		return dst, false
	}
	countHit(h, q, p, begun)
	b.requests.count(q, reply[len(dst):], begun)
	return reply, true
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

// countHit counts a hit as send does a reply.
func countHit(h *Handler, q *fastpath.Question, p *resolve.Packed, begun time.Time) {
	v := verdicts[p.Status()]
	h.meter.Cache(true)
	h.meter.replied(v, q.Type, begun)
	h.memory.history.replied(v, begun)
	if p.Distrusted() {
		h.meter.distrusted.Inc()
	}
	if !q.EDNS {
		return
	}
	for options := p.Errors(); len(options) > 0; {
		h.meter.told(binary.BigEndian.Uint16(options[4:]))
		options = options[4+binary.BigEndian.Uint16(options[2:]):]
	}
}

// serveHit is the fastpath's: a hit of the block that owns the name.
func (l *listening) serveHit(q *fastpath.Question, dst []byte) (reply []byte, ok bool) {
	b := l.server.Load().owner(q.Name, q.Type)
	if b == nil {
		return dst, false
	}
	h := b.directive.enter()
	defer h.asked.Add(-1)
	defer func() {
		if p := recover(); p != nil { // S-27: ServeDNS tries it
			h.meter.panics.Inc()
			log.trace("%s: panic: %v\n%s", q.Name, p, debug.Stack())
			reply, ok = dst, false
		}
	}()
	return b.hit(h, q, dst)
}
