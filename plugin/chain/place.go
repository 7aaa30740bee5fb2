package chain

import (
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Place is what is known of one name: a Cut, Within a zone, or Failed.
type Place interface {
	until() time.Time // when the links must be fetched anew; use does not extend it (C-16)
	cost() int64      // octets
}

// Cut is the place of a name at which a zone begins.
type Cut struct{ Zone *dnssec.Zone } // Secure or Insecure

// Within is the place of a name that lies in a zone, at which none begins.
type Within struct {
	Zone  string // its apex
	Below bool   // no zone begins below the name either
	end   time.Time
}

// Failed is the place of a name whose links could not be had or proven.
type Failed struct{ Zone *dnssec.Zone } // Bogus or Indeterminate

// broken is the place of a name whose links failed for a cause.
func broken(name string, cause *dnssec.Failure) Failed { return Failed{dnssec.BogusZone(name, cause)} }

func (p Cut) until() time.Time    { return p.Zone.Until }
func (p Within) until() time.Time { return p.end }
func (Failed) until() time.Time   { return time.Time{} }

// What places take, measured at about 600 octets for a parsed P-256 key with its record, beside the zone.
const (
	placeOctets = 150
	zoneOctets  = 400
	keyOctets   = 400
)

// cost charges hostile zones for long keys: a key is held parsed and in base64.
func (p Cut) cost() int64 {
	cost := int64(placeOctets + zoneOctets)
	for _, key := range p.Zone.Keys {
		cost += keyOctets + 2*int64(len(key.RR.PublicKey))
	}
	return cost
}

func (Within) cost() int64   { return placeOctets }
func (p Failed) cost() int64 { return placeOctets + zoneOctets + int64(len(p.Zone.Cause.Text)) }

// same reports whether two places let the same records validate.
func same(a, b Place) bool {
	switch a := a.(type) {
	case Cut:
		b, ok := b.(Cut)
		return ok && sameKeys(a.Zone, b.Zone)
	case Within:
		b, ok := b.(Within)
		return ok && a.Below == b.Below
	}
	return false
}

// Store keeps the places of names. It outlives a Chain.
type Store struct {
	records *cache.Table[record]
	epoch   atomic.Uint64 // of failures
}

// record is a Place in a Store, and what is kept of the name beside it.
type record struct {
	place Place // nil if it is only known that its links were fetched
	since time.Time
	until time.Time
	epoch uint64    // of a failure
	tried time.Time // when the links were last fetched past the cache (V-14)
	// claimed: somebody fetches the links again, or has and got none that live longer (C-14).
	claimed bool
	signs   bool // the zone signs names below its apex itself, so that cuts there are rare
}

func (r record) cost() int64 {
	if r.place == nil {
		return placeOctets
	}
	return r.place.cost()
}

// NewStore returns a Store of at most size octets.
func NewStore(size int64) *Store { return &Store{records: cache.NewTable(size, record.cost)} }

// Size returns octets and entries held.
func (s *Store) Size() (octets int64, entries int) { return s.records.Size() }

// Evicted returns how many entries were evicted to make room for others.
func (s *Store) Evicted() uint64 { return s.records.Evicted() }

// ForgetFailures drops all remembered failures.
func (s *Store) ForgetFailures() { s.epoch.Add(1) }

// Flush forgets the places at and below name, and returns how many there were and how many of them were failures.
func (s *Store) Flush(name string) (places, failures int) {
	for _, key := range s.records.Keys(func(key string, _ record) bool { return dns.IsSubDomain(name, key) }) {
		if r, _ := s.records.Get(key); r.failed() {
			failures++
		} else {
			places++
		}
		s.records.Remove(key)
	}
	return places, failures
}

func (r record) failed() bool {
	_, failed := r.place.(Failed)
	return failed
}

// place returns what is known of name; nil if nothing is. What was learned later than now was so before the clock was
// set back, and would outlive its TTL.
func (s *Store) place(name string, now time.Time) Place {
	r, ok := s.records.Get(name)
	if !ok || !s.holds(r, now) || now.Before(r.since) {
		return nil
	}
	return r.place
}

// holds reports whether a record has not ended.
func (s *Store) holds(r record, now time.Time) bool {
	switch p := r.place.(type) {
	case Cut:
		return now.Before(r.until) && (p.Zone.Expires.IsZero() || !now.After(p.Zone.Expires))
	case Failed:
		return now.Before(r.until) && r.epoch == s.epoch.Load()
	}
	return now.Before(r.until)
}

// rounding is by how much links from a source that counts down may seem to live longer than those it gave before.
const rounding = 2 * time.Second

// learn keeps what was proven of name, for at most the given time.
func (s *Store) learn(name string, p Place, now time.Time, most time.Duration) {
	until := p.until()
	if end := now.Add(most); until.After(end) {
		until = end
	}
	s.records.Update(name, func(r record, _ bool) (record, bool) {
		r.claimed = r.claimed && !until.After(r.until.Add(rounding))
		r.place, r.until = p, until
		r.since = now.Truncate(time.Second) // whoever looks at the clock a moment earlier may use it too
		return r, true
	})
}

// failedLife is how long it is remembered that links could not be had or proven: a TLD whose DNSKEY was lost once must
// not defer all its mail (C-11).
const failedLife = time.Second

// fail keeps that the links of name failed, unless it is known better.
func (s *Store) fail(name string, p Failed, now time.Time) {
	s.records.Update(name, func(r record, ok bool) (record, bool) {
		if !ok || r.failed() || !s.holds(r, now) {
			r.place, r.since, r.until, r.epoch = p, time.Time{}, now.Add(failedLife), s.epoch.Load()
		}
		return r, true
	})
}

// refreshEvery bounds how often a zone's links are fetched past the cache because something below did not validate
// (V-14).
const refreshEvery = 30 * time.Second

// mayRefresh notes that the links of name are fetched past the cache now, and reports whether the last time was long
// enough ago (V-14).
func (s *Store) mayRefresh(name string, now time.Time) (may bool) {
	s.records.Update(name, func(r record, ok bool) (record, bool) {
		if may = ok && now.Sub(r.tried).Abs() >= refreshEvery; may { // the clock may have been set back
			r.tried = now
		}
		return r, ok
	})
	return may
}

// claim reports whether the caller is to renew the links of name.
func (s *Store) claim(name string) (may bool) {
	s.records.Update(name, func(r record, ok bool) (record, bool) {
		may = ok && !r.claimed
		r.claimed = true
		return r, ok
	})
	return may
}

// noteSigner notes that the zone of an apex signs names below that itself.
func (s *Store) noteSigner(apex string) {
	s.records.Update(apex, func(r record, ok bool) (record, bool) {
		r.signs = true
		return r, ok
	})
}

// signs reports whether the zone of an apex does.
func (s *Store) signs(apex string) bool {
	r, _ := s.records.Get(apex)
	return r.signs
}

// EndsSoon reports whether what lives for at least 10 s has a tenth of its life left, or signatures that end before
// half of it is over (C-14). The zero time of expiration means that it rests on none.
func EndsSoon(now, stored time.Time, life time.Duration, expires time.Time) bool {
	const least = 10 * time.Second
	return life >= least && (stored.Add(life).Sub(now) <= life/10 || !expires.IsZero() && expires.Sub(now) < life/2)
}
