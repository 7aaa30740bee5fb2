package resolve

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// part is the verdict on one reply of an alias chain, with that reply.
type part struct {
	dnssec.Verdict
	raw  *dns.Msg // shared; nil if none came
	held bool     // made of what was held, nobody was asked (C-9)
}

// failed is the part that has no usable reply.
func failed(f *dnssec.Failure) part {
	return part{Verdict: dnssec.Verdict{Status: dnssec.Indeterminate, Rcode: dns.RcodeServerFailure, Cause: f}}
}

func (p part) with(raw *dns.Msg) part {
	p.raw = raw
	return p
}

// outcome is all that came of one client question.
type outcome struct {
	parts  []part
	proven bool   // an insecure delegation was proven on the way (C-8)
	age    uint32 // whole seconds since its first question was put: no TTL in it is younger (C-7)
	// recalled: it comes from memory beyond the process
	recalled bool
}

// last is the part that decides RCODE and denial (RFC 6604 section 3).
func (o *outcome) last() part { return o.parts[len(o.parts)-1] }

// status of a chain is that of its weakest link (V-64).
func (o *outcome) status() dnssec.Status {
	s := dnssec.Secure
	for _, p := range o.parts {
		s = s.Join(p.Status)
	}
	return s
}

// life returns how long the outcome may be kept, and the time past which it may not (C-2).
func (o *outcome) life() (ttl uint32, expires time.Time) {
	ttl = o.parts[0].TTL
	for _, p := range o.parts {
		ttl = min(ttl, p.TTL)
		expires = dnssec.Earlier(expires, p.Expires)
	}
	return aged(ttl, o.age), expires
}

// aged returns what is left of a TTL.
func aged(ttl, age uint32) uint32 { return ttl - min(ttl, age) }

// answer is what the client is told. No TTL is longer than most, nor than the signatures hold (C-1, C-5).
func (o *outcome) answer(now time.Time, most time.Duration) *Answer {
	status := o.status()
	if status <= dnssec.Bogus {
		a := refusal(status, o.last().Cause)
		a.Unvalidated = o.unvalidated()
		return a
	}
	a := &Answer{Status: status, Rcode: o.last().Rcode}
	if _, a.expires = o.life(); !a.expires.IsZero() {
		most = max(0, min(most, a.expires.Sub(now)))
	}
	for _, p := range o.parts {
		a.Answer = appendSets(a.Answer, p.Answer, o.age, seconds(most))
		a.Ns = appendSets(a.Ns, p.Authority, o.age, seconds(most))
		a.Notes = append(a.Notes, p.Notes...)
		if p.Cause != nil {
			a.Notes = append(a.Notes, p.Cause)
		}
	}
	return a
}

// unvalidated puts together what came, for clients that set CD (V-76); nil if the last reply is missing.
func (o *outcome) unvalidated() *dns.Msg {
	raw := o.last().raw
	if raw == nil {
		return nil
	}
	m := raw.Copy()
	m.Answer = nil
	for _, p := range o.parts[:len(o.parts)-1] {
		m.Answer = appendSets(m.Answer, p.Answer, 0, math.MaxUint32)
	}
	m.Answer = append(m.Answer, raw.Copy().Answer...)
	return m
}

// appendSets appends copies of the records of sets with their signatures, TTLs as judged (V-21), less their age and at
// most the given.
func appendSets(to []dns.RR, sets []*dnssec.RRset, age, most uint32) []dns.RR {
	for _, set := range sets {
		ttl := min(aged(set.TTL, age), most)
		for _, rr := range set.RRs {
			to = append(to, withTTL(rr, ttl))
		}
		for _, sig := range set.Sigs {
			to = append(to, withTTL(sig, ttl))
		}
	}
	return to
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

func withTTL(rr dns.RR, ttl uint32) dns.RR {
	rr = dns.Copy(rr)
	rr.Header().Ttl = ttl
	return rr
}

// over reports whether a signature that a rests on has ended by now. One is valid to the end of its last second (RFC
// 4034 section 3.1.5).
func (a *Answer) over(now time.Time) bool {
	return !a.expires.IsZero() && now.Truncate(time.Second).After(a.expires)
}

// refusal is the SERVFAIL for a failure.
func refusal(status dnssec.Status, f *dnssec.Failure) *Answer {
	return &Answer{
		Status: status, Rcode: dns.RcodeServerFailure, Notes: []*dnssec.Failure{f}, failure: f, told: new(atomic.Bool),
	}
}

// Clone returns a copy that shares no record with a. Notes are immutable.
func (a *Answer) Clone() *Answer {
	b := *a
	b.Answer, b.Ns = copyRRs(a.Answer), copyRRs(a.Ns)
	if a.Unvalidated != nil {
		b.Unvalidated = a.Unvalidated.Copy()
	}
	return &b
}

func copyRRs(rrs []dns.RR) []dns.RR {
	c := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		c[i] = dns.Copy(rr)
	}
	return c
}
