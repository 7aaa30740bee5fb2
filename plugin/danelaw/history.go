package danelaw

import (
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
	failures []FailureStatus // the latest first, one for each question
}

// minute counts the replies of one minute by verdict. Two minutes an hour apart share a slot; the first reply of the
// later one clears it. A reply counted at that moment may be lost, which people who look at it will not mind.
type minute struct {
	of     atomic.Int64 // minutes since 1970
	counts [len(verdictOrder)]atomic.Uint64
}

// verdictOrder numbers the verdicts.
var verdictOrder = [...]verdict{secure, insecure, bogus, indeterminate, local, passed, denied, invalid}

// number is where a verdict is in verdictOrder.
func (v verdict) number() int { return slices.Index(verdictOrder[:], v) }

// replied counts one reply.
func (h *history) replied(v verdict, now time.Time) { h.add(v.number(), 1, now) }

// add counts so many replies of a verdict.
func (h *history) add(verdict, replies int, now time.Time) {
	number := now.Unix() / 60
	m := &h.minutes[number%historyMinutes]
	if old := m.of.Load(); old != number && m.of.CompareAndSwap(old, number) {
		for i := range m.counts {
			m.counts[i].Store(0)
		}
	}
	m.counts[verdict].Add(uint64(replies))
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
	latest := FailureStatus{q.Name, dns.Type(q.Qtype).String(), now.UTC(), text}
	h.failures = slices.DeleteFunc(h.failures, func(f FailureStatus) bool {
		return f.Name == latest.Name && f.Type == latest.Type
	})
	h.failures = slices.Insert(h.failures, 0, latest)
	h.failures = h.failures[:min(len(h.failures), historyFailures)]
}

// latest returns the failures, the latest first.
func (h *history) latest() []FailureStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]FailureStatus{}, h.failures...)
}
