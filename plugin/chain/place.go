package chain

import (
	"sync/atomic"
	"time"
	"weak"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Place is what is known of one name: a Cut, Within a zone, or Failed.
type Place interface {
	until() time.Time // when the links must be fetched anew; use does not extend it (C-16)
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
	packed     *cache.Octets         // of each name a record
	opened     *cache.Table[*opened] // the zones of those in use
	shared     shared                // those of them that somebody holds
	failed     *cache.Table[mishap]  // of names that have no other place
	epoch      atomic.Uint64         // of failures
	generation generation
}

// NewStore returns a Store of at most size octets.
func NewStore(size int64) *Store {
	const (
		share = 8       // one octet of so many is for opened zones, and one for failures
		most  = 4 << 20 // for the zones that are in use at one time
	)
	few := min(size/share, most)
	return &Store{
		packed: cache.NewOctets(size - 2*few), opened: cache.NewTable(few, (*opened).cost),
		shared: shared{zones: map[string]weak.Pointer[opened]{}}, failed: cache.NewTable(few, mishap.cost),
	}
}

// Size returns octets held, and the names of which something is.
func (s *Store) Size() (octets int64, entries int) {
	octets, entries = s.packed.Size()
	open, _ := s.opened.Size()
	failures, n := s.failed.Size()
	return octets + open + failures, entries + n
}

// Evicted returns how many entries were evicted to make room for others.
func (s *Store) Evicted() uint64 { return s.packed.Evicted() + s.failed.Evicted() }

// ForgetFailures drops all remembered failures, and has none be remembered of what has begun.
func (s *Store) ForgetFailures() { s.epoch.Add(1) }

// Epoch counts how often failures were dropped.
func (s *Store) Epoch() uint64 { return s.epoch.Load() }

// Flush forgets the places at and below name, and returns how many there were, and how many failures beside them.
func (s *Store) Flush(name string) (places, failures int) {
	for _, key := range s.failed.Keys(func(key string, _ mishap) bool { return dnssec.IsSubDomain(name, key) }) {
		s.forget(key)
		failures++
	}
	for _, key := range s.packed.Keys(func(key string, _ []byte) bool { return dnssec.IsSubDomain(name, key) }) {
		s.packed.Remove(key)
		places++
	}
	return places, failures
}

// forget forgets the place of a name.
func (s *Store) forget(name string) {
	s.packed.Remove(name)
	s.failed.Remove(name)
}

// enough is memory for most records, so that looking at one allocates nothing.
type enough [256]byte

// record returns what is kept of name beside its place.
func (s *Store) record(name string) record {
	var memory enough
	b, _ := s.packed.Get(name, memory[:0])
	r, _ := unpackRecord(b)
	return r
}

// update replaces what is kept of name, if there is anything, by what f makes of it.
func (s *Store) update(name string, f func(*record)) {
	s.packed.Update(name, func(old []byte) []byte {
		if old == nil {
			return nil
		}
		r, place := unpackRecord(old)
		f(&r)
		return r.pack(place)
	})
}

// place returns what is known of name; nil if nothing is. What was learned later than now was so before the clock was
// set back, and would outlive its TTL.
func (s *Store) place(name string, now time.Time) Place {
	var memory enough
	b, _ := s.packed.Get(name, memory[:0])
	if r, place := unpackRecord(b); r.holds(now) && !now.Before(r.since) {
		return s.open(name, r, place)
	}
	if f, ok := s.failed.Get(name); ok && now.Before(f.until) && f.epoch == s.Epoch() {
		return f.place
	}
	return nil
}

// cut returns the zone that begins at name, be its time over; ok if one does.
func (s *Store) cut(name string) (cut Cut, ok bool) {
	b, _ := s.packed.Get(name, nil)
	if r, place := unpackRecord(b); r.isCut() {
		cut, ok = s.open(name, r, place).(Cut)
	}
	return cut, ok
}

// open returns the place of name in a record. Zones in use are parsed once.
func (s *Store) open(name string, r record, place []byte) Place {
	if r.kind != secureCut {
		return r.open(name, place)
	}
	o, ok := s.opened.Get(name)
	if !ok || !o.of(r, place) {
		o = s.shared.open(name, r, place)
		s.opened.Put(o.zone.Name, o)
	}
	return Cut{&o.zone}
}

// rounding is by how much links from a source that counts down may seem to live longer than those it gave before.
const rounding = 2 * time.Second

// learn keeps what was proven of name, for at most the given time.
func (s *Store) learn(name string, p Place, now time.Time, most time.Duration) {
	fresh, place := newRecord(p)
	if end := now.Add(most); fresh.until.After(end) {
		fresh.until = end
	}
	fresh.since = now.Truncate(time.Second) // whoever looks at the clock a moment earlier may use it too
	s.packed.Update(name, func(old []byte) []byte {
		r, _ := unpackRecord(old)
		fresh.tried, fresh.vain = r.tried, r.vain
		fresh.claimed = r.claimed && !fresh.until.After(r.until.Add(rounding))
		return fresh.pack(place)
	})
	s.failed.Remove(name)
	if fresh.kind == secureCut {
		o := &opened{string(place), *p.(Cut).Zone}
		o.zone.Until = fresh.until
		s.opened.Put(name, o)
	}
}

// failedLife is how long it is remembered that links could not be had or proven: a TLD whose DNSKEY was lost once must
// not defer all its mail (C-11).
const failedLife = time.Second

// mishap is a Failed in a Store.
type mishap struct {
	place Failed
	until time.Time
	epoch uint64
}

func (m mishap) cost() int64 { return placeOctets + zoneOctets + int64(len(m.place.Zone.Cause.Text)) }

// fail keeps that the links of name failed, unless it is known better, or failures were dropped since the epoch in
// which that began to be found out.
func (s *Store) fail(name string, p Failed, now time.Time, epoch uint64) {
	if epoch != s.Epoch() {
		return
	}
	known := false
	s.update(name, func(r *record) {
		if known = r.holds(now); !known {
			r.kind = none
		}
	})
	if !known {
		s.failed.Put(name, mishap{p, now.Add(failedLife), epoch})
	}
}

// refreshEvery bounds how often a zone's links are fetched past the cache because something below did not validate
// (V-14).
const refreshEvery = 30 * time.Second

// mayRefresh notes that the links of name are fetched past the cache now, and reports whether the last time was long
// enough ago (V-14).
func (s *Store) mayRefresh(name string, now time.Time) (may bool) {
	s.update(name, func(r *record) {
		if may = now.Sub(r.tried).Abs() >= refreshEvery; may { // the clock may have been set back
			r.tried = now
		}
	})
	return may
}

// claim reports whether the caller is to renew the links of name.
func (s *Store) claim(name string) (may bool) {
	s.update(name, func(r *record) { may, r.claimed = !r.claimed, true })
	return may
}

// mostVain is how often in a row no zone began where one was asked for on speculation, before none is asked for any
// more. One that begins there makes up for half of that.
const mostVain = 7

// pays reports whether zones begin at names below an apex often enough to ask for them on speculation (L-9).
func (s *Store) pays(apex string) bool { return s.record(apex).vain < mostVain }

// noteAhead notes what became of speculation below an apex, if a zone is known there.
func (s *Store) noteAhead(apex string, became outcome) {
	if vain := s.record(apex).vain; became(vain) != vain {
		s.update(apex, func(r *record) { r.vain = became(r.vain) })
	}
}

// outcome is what becomes of speculation: how much was in vain after it, by how much was before.
type outcome func(vain uint8) uint8

func inVain(vain uint8) uint8 { return min(vain+1, mostVain) }
func paid(vain uint8) uint8   { return vain / 2 }
func hopeless(uint8) uint8    { return mostVain }

// EndsSoon reports whether what lives for at least 10 s has a tenth of its life left, or signatures that end before
// half of it is over (C-14). The zero time of expiration means that it rests on none.
func EndsSoon(now, stored time.Time, life time.Duration, expires time.Time) bool {
	const least = 10 * time.Second
	return life >= least && (now.Sub(stored) >= life-life/10 || !expires.IsZero() && expires.Sub(now) < life/2)
}
