package resolve

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// How long failures are remembered (C-11, RFC 9520 section 3.2).
const (
	bogusLeast  = 5 * time.Second
	bogusMost   = 60 * time.Second
	networkLife = 5 * time.Second
	limitLife   = time.Second // L-6a
)

// failure is why a question could not be answered.
type failure struct {
	question dns.Question
	status   dnssec.Status
	cause    *dnssec.Failure
	told     *atomic.Bool // as in Answer
	bridged  bool         // meanwhile a stale answer is told (C-13)
	until    time.Time
	life     time.Duration
	epoch    uint64 // in which the work for it began
}

// failures remembers failures by question.
type failures struct {
	table *cache.Table[failure]
	epoch func() uint64
}

func newFailures(size int64, epoch func() uint64) *failures {
	return &failures{cache.NewTable(size, failure.cost), epoch}
}

func (f failure) cost() int64 { return 300 + int64(len(f.cause.Text)) }

// failureKey is where the failure of a question is kept.
func failureKey(q dns.Question) string { return q.Name + " " + strconv.Itoa(int(q.Qtype)) }

// alive returns the failure remembered of a question, if it still counts.
func (t *failures) alive(q dns.Question, now time.Time) (failure, bool) {
	f, ok := t.table.Get(failureKey(q))
	return f, ok && f.epoch == t.epoch() && now.Before(f.until)
}

// add remembers f, unless all were forgotten since the work for it began. A Bogus one lives twice as long as the one
// before it, if that has not been over for long.
func (t *failures) add(f failure, now time.Time) {
	if f.epoch != t.epoch() {
		return
	}
	t.table.Update(failureKey(f.question), func(old failure, ok bool) (failure, bool) {
		f.life = f.first()
		if ok && f.doubles() && old.doubles() && old.epoch == f.epoch && now.Before(old.until.Add(bogusMost)) {
			f.life = min(2*old.life, bogusMost)
		}
		f.until = now.Add(f.life)
		return f, true
	})
}

func (f failure) doubles() bool { return f.status == dnssec.Bogus && !f.cause.Limit() }

func (f failure) first() time.Duration {
	switch {
	case f.bridged:
		return staleRetry
	case f.cause.Limit():
		return limitLife
	case f.status == dnssec.Bogus:
		return bogusLeast
	default:
		return networkLife
	}
}

// drop forgets a question: it has succeeded.
func (t *failures) drop(q dns.Question) { t.table.Remove(failureKey(q)) }

// below returns what is remembered of the names at and below one, be it over.
func (t *failures) below(name string) (all []failure) {
	t.table.Keys(func(_ string, f failure) bool {
		if dnssec.IsSubDomain(name, f.question.Name) {
			all = append(all, f)
		}
		return false
	})
	return all
}
