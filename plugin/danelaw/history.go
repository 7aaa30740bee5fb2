package danelaw

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	historyMinutes  = 60
	historyFailures = 20 // the latest; enough to see what a mail host suffers from
)

// history is what operators are told of the last hour. It lives in memory through reloads.
type history struct {
	minutes [historyMinutes]minute

	mu       sync.Mutex
	failures []failure // the latest last, one for each question; more of them than are told
}

// failure is a question that a client got SERVFAIL for.
type failure struct {
	dns.Question
	at   time.Time
	text string
}

// minute counts the replies of one minute by verdict, and by the time that they took. Two minutes an hour apart share a
// slot; the first reply of the later one clears it. A reply counted at that moment may be lost, which people who look
// at it will not mind.
type minute struct {
	of     atomic.Int64 // minutes since 1970
	counts [len(verdictOrder)]atomic.Uint64
	took   [manyBuckets + 1]atomic.Uint64 // the last counts those beyond all buckets
}

// verdictOrder numbers the verdicts.
var verdictOrder = [...]verdict{secure, insecure, bogus, indeterminate, local, passed, denied, invalid}

// number is where a verdict is in verdictOrder.
func (v verdict) number() int { return slices.Index(verdictOrder[:], v) }

// replied counts one reply to a question that came then.
func (h *history) replied(v verdict, begun time.Time) { h.add(v.number(), 1, begun, time.Since(begun)) }

// add counts so many replies of a verdict, which took so long each.
func (h *history) add(verdict, replies int, now time.Time, took time.Duration) {
	number := now.Unix() / 60
	m := &h.minutes[number%historyMinutes]
	if old := m.of.Load(); old != number && m.of.CompareAndSwap(old, number) {
		for i := range m.counts {
			m.counts[i].Store(0)
		}
		for i := range m.took {
			m.took[i].Store(0)
		}
	}
	m.counts[verdict].Add(uint64(replies))
	m.took[bucketOf(took)].Add(uint64(replies))
}

// bucketOf returns which of timeBuckets a time belongs to.
func bucketOf(took time.Duration) int {
	return min(bits.Len64(uint64(max(0, took-1)/firstBucket)), manyBuckets)
}

// lastHour returns the replies of the last hour by verdict, without the verdicts that did not occur.
func (h *history) lastHour(now time.Time) map[string]uint64 {
	all := map[string]uint64{}
	for i := range h.minutes {
		m := &h.minutes[i]
		if age := now.Unix()/60 - m.of.Load(); age < 0 || age >= historyMinutes {
			continue
		}
		for v, of := range verdictOrder {
			if n := m.counts[v].Load(); n > 0 {
				all[string(of)] += n
			}
		}
	}
	return all
}

// failed notes a failure; one of the same question before it is forgotten.
func (h *history) failed(q dns.Question, text string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures = slices.DeleteFunc(h.failures, func(f failure) bool { return f.Question == q })
	if len(h.failures) == 2*historyFailures { // a flood moves none most of the time
		h.failures = slices.Delete(h.failures, 0, historyFailures)
	}
	h.failures = append(h.failures, failure{q, now.UTC(), text})
}

// told are the failures to tell, the latest last; h.mu is held.
func (h *history) told() []failure { return h.failures[max(0, len(h.failures)-historyFailures):] }

// latest returns the failures, the latest first.
func (h *history) latest() []FailureStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := []FailureStatus{}
	for _, f := range slices.Backward(h.told()) {
		all = append(all, FailureStatus{f.Name, dns.Type(f.Qtype).String(), f.at, f.text})
	}
	return all
}

// question returns the one of a failure that is told of under a name and a type.
func (h *history) question(name, qtype string) (dns.Question, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := h.told()
	i := slices.IndexFunc(told, func(f failure) bool {
		return f.Name == name && dns.Type(f.Qtype).String() == qtype
	})
	if i < 0 {
		return dns.Question{}, false
	}
	return told[i].Question, true
}

// past is what one minute of the last hour was like.
type past struct {
	counts [len(verdictOrder)]uint64
	took   [manyBuckets + 1]uint64
}

// byMinute returns the minutes of the last hour, the present one last.
func (h *history) byMinute(now time.Time) (all [historyMinutes]past) {
	for i := range all {
		number := now.Unix()/60 - int64(historyMinutes-1-i)
		m := &h.minutes[number%historyMinutes]
		if m.of.Load() != number {
			continue
		}
		for v := range m.counts {
			all[i].counts[v] = m.counts[v].Load()
		}
		for b := range m.took {
			all[i].took[b] = m.took[b].Load()
		}
	}
	return all
}

// quantile returns the time that a share of the replies took at most, to the bucket; false if there were none.
func (p *past) quantile(share float64) (time.Duration, bool) {
	var all, seen uint64
	for _, n := range p.took {
		all += n
	}
	for i, n := range p.took {
		if seen += n; seen > 0 && float64(seen) >= share*float64(all) {
			return firstBucket << min(i, manyBuckets-1), true
		}
	}
	return 0, false
}
