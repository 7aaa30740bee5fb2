package danelaw

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

const (
	// rememberedVerdicts is on how many questions the last verdict is remembered: more than a mail host delivers to in
	// a day, in a megabyte.
	rememberedVerdicts = 4096
	verdictParts       = 16
)

// lastVerdicts are those on questions of mail, in parts, so that few wait for the same lock.
type lastVerdicts struct {
	seed  maphash.Seed
	parts [verdictParts]verdictPart
}

// verdictPart has those on some questions, the least recently judged of which are forgotten.
type verdictPart struct {
	mu  sync.Mutex
	lru *simplelru.LRU[dns.Question, dnssec.Status]
}

func newLastVerdicts() *lastVerdicts {
	l := &lastVerdicts{seed: maphash.MakeSeed()}
	for i := range l.parts { // fails for counts below 1 only
		l.parts[i].lru, _ = simplelru.NewLRU[dns.Question, dnssec.Status](rememberedVerdicts/verdictParts, nil)
	}
	return l
}

// swap remembers a verdict and returns the one before; false if none is remembered.
func (l *lastVerdicts) swap(q dns.Question, s dnssec.Status) (old dnssec.Status, known bool) {
	p := &l.parts[maphash.String(l.seed, q.Name)%verdictParts]
	p.mu.Lock()
	defer p.mu.Unlock()
	old, known = p.lru.Get(q)
	p.lru.Add(q, s)
	return old, known
}

// changes tells of verdicts on mail domains that are others than before.
type changes struct {
	last   *lastVerdicts
	meter  *meter
	alarms *alarms
	lines  flood
}

// judged tells when the verdict on a mail domain has changed. It is called where something was judged anew, never for
// what is answered from the cache.
func (c *changes) judged(q dns.Question, s dnssec.Status, why string) {
	if s == dnssec.Indeterminate || !ofMail(q) { // nothing was judged, or nobody delivers mail by it
		return
	}
	old, known := c.last.swap(q, s)
	if !known || old == s {
		return
	}
	c.meter.changed(q.Qtype, verdicts[old], verdicts[s])
	if old == dnssec.Secure || s == dnssec.Secure {
		c.alarms.verdict(describe(q), s == dnssec.Secure, fmt.Sprintf("it is %s now, it was %s: %s", s, old, why))
	}
	switch {
	case !c.lines.open():
	case s == dnssec.Secure:
		log.Infof("%s is %s now, it was %s", describe(q), s, old)
	default:
		log.Warningf("%s is %s now, it was %s: %s", describe(q), s, old, why)
	}
}

// ofMail reports whether the delivery of mail to a domain rests on q: its MX, or the TLSA of a host.
func ofMail(q dns.Question) bool {
	return q.Qtype == dns.TypeMX || q.Qtype == dns.TypeTLSA && strings.HasPrefix(q.Name, "_25._tcp.")
}
