package chain

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
	linkLife    = time.Second // a TLD whose DNSKEY was lost once must not defer all its mail
	limitLife   = time.Second // L-6a
)

// failure is why a question, or a link of the chain, could not be answered.
type failure struct {
	status dnssec.Status
	cause  *dnssec.Failure
	link   bool
	told   *atomic.Bool // as in Answer; nil for links
	until  time.Time
	life   time.Duration
	epoch  uint64
}

// failures remembers failures by question and by link.
type failures struct {
	table *cache.Table[failure]
	epoch atomic.Uint64
}

func newFailures(size int64) *failures {
	return &failures{table: cache.NewTable(size, failure.cost)}
}

func (f failure) cost() int64 { return 300 + int64(len(f.cause.Text)) }

func failureKey(q dns.Question) string { return q.Name + " " + strconv.Itoa(int(q.Qtype)) }

// questionOf returns what was asked under a failureKey; false for that of a link.
func questionOf(key string) (dns.Question, bool) {
	name := nameOf(key)
	qtype, err := strconv.ParseUint(key[len(name)+1:], 10, 16)
	return question(name, uint16(qtype)), err == nil
}

func linkKey(zone string) string { return zone + " link" }

// alive returns the failure remembered under key, if it still counts.
func (t *failures) alive(key string, now time.Time) (failure, bool) {
	f, ok := t.table.Get(key)
	return f, ok && f.epoch == t.epoch.Load() && now.Before(f.until)
}

// add remembers f. A Bogus one lives twice as long as the one before it, if that has not been over for long.
func (t *failures) add(key string, f failure, now time.Time) {
	t.table.Update(key, func(old failure, ok bool) (failure, bool) {
		f.epoch = t.epoch.Load()
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
	case f.cause.Limit():
		return limitLife
	case f.status == dnssec.Bogus:
		return bogusLeast
	case f.link:
		return linkLife
	default:
		return networkLife
	}
}

// drop forgets key: it has succeeded.
func (t *failures) drop(key string) { t.table.Remove(key) }

// forget forgets all.
func (t *failures) forget() { t.epoch.Add(1) }
