package danelaw

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/fastpath"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// finder finds the server block that a question is for, and counts it as asked there; false if it may not pass by
// CoreDNS.
type finder func(q *fastpath.Question) (hit, bool)

// batch answers hits, and counts those that have come together at once. It implements fastpath.Answerer.
type batch struct {
	find   finder
	packed resolve.Packed // memory for the next answer
	tally
}

// answerer is the fastpath's Answerer.
func (f finder) answerer() fastpath.Answerer { return &batch{find: f} }

// Serve implements fastpath.Answerer.
func (b *batch) Serve(q *fastpath.Question, dst []byte) (reply []byte, ok bool) {
	hit, ok := b.find(q)
	if !ok {
		return dst, false
	}
	defer hit.h.asked.Add(-1)
	return hit.reply(dst, b)
}

// tally is what is counted of the hits of one server block that were read at one time, until it is flushed. The
// metrics are shared by all processors, and looked up and changed once for all of these.
type tally struct {
	h     *Handler // nil: nothing is counted
	block *passing
	read  time.Time
	now   time.Time // by which answers are kept

	hits     int
	replies  [len(verdictOrder)][len(typeOrder)]int
	requests []requested
}

// requested are requests of one kind.
type requested struct {
	requestKind
	counters
	n, do int
}

// of has what is counted from now on be hits as this one.
func (t *tally) of(q *hit) {
	if t.h == q.h && t.block == q.block && t.read.Equal(q.Read) {
		return
	}
	t.Flush()
	t.h, t.block, t.read, t.now = q.h, q.block, q.Read, q.memory().Now()
}

// count counts a hit.
func (t *tally) count(q *hit, p *resolve.Packed, octets int) {
	if !q.waited {
		t.hits++
	}
	if p.Distrusted() {
		q.h.meter.distrusted.Inc()
	}
	t.replied(q, verdicts[p.Status()], p.Errors(), p.Rcode(), octets)
}

// replied counts a reply as send does.
func (t *tally) replied(q *hit, v verdict, errors []byte, rcode, octets int) {
	t.replies[v.number()][typeNumber(q.Type)]++
	if q.EDNS {
		q.told(errors)
	}
	if r := q.block.requests; r != nil {
		t.request(r, q, rcode, octets)
	}
}

// told counts Extended DNS Errors, which are options of an OPT.
func (q *hit) told(options []byte) {
	for len(options) > 0 {
		q.h.meter.told(binary.BigEndian.Uint16(options[4:]))
		options = options[4+binary.BigEndian.Uint16(options[2:]):]
	}
}

// request counts it for CoreDNS.
func (t *tally) request(r *requests, q *hit, rcode, octets int) {
	k := r.kindOf(q, rcode)
	at := slices.IndexFunc(t.requests, func(o requested) bool { return o.requestKind == k })
	if at < 0 {
		at = len(t.requests)
		t.requests = append(t.requests, requested{requestKind: k, counters: r.of(k)})
	}
	o := &t.requests[at]
	o.n++
	if q.DNSSECOK {
		o.do++
	}
	o.sizes(q, octets)
}

// Flush implements fastpath.Answerer: the metrics have all that was counted.
func (t *tally) Flush() {
	if t.h == nil {
		return
	}
	took := time.Since(t.read)
	t.h.meter.hits.Add(float64(t.hits))
	for number := range t.replies {
		if n := t.h.meter.replies(number, &t.replies[number], took); n > 0 {
			t.h.memory.history.add(number, n, t.read, took)
		}
	}
	for _, o := range t.requests {
		o.add(o.n, o.do, took)
	}
	*t = tally{requests: t.requests[:0]}
}
