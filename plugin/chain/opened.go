package chain

import (
	"runtime"
	"strings"
	"sync"
	"weak"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// opened is the zone that a place was opened to. Who holds the zone holds all of it.
type opened struct {
	place string // packed
	zone  dnssec.Zone
}

// of reports whether a record still has that place.
func (o *opened) of(r record, place []byte) bool {
	return o.place == string(place) && o.zone.Until.Equal(r.until) && o.zone.Expires.Equal(r.expires)
}

// shared are the opened zones that somebody holds, whether or not a table has room for them: a zone of 60 keys that
// each of the questions about its names has opened for itself would take a hundred times what these are counted with
// (L-15).
type shared struct {
	mu    sync.Mutex
	zones map[string]weak.Pointer[opened]
}

// open is the zone of name in a record, opened by the first who asks for it.
func (s *shared) open(name string, r record, place []byte) *opened {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.zones[name].Value(); o != nil && o.of(r, place) {
		return o
	}
	name = strings.Clone(name) // whose memory may be used again
	o := &opened{string(place), *r.open(name, place).(Cut).Zone}
	s.zones[name] = weak.Make(o)
	runtime.AddCleanup(o, s.forget, name)
	return o
}

// forget forgets the zone of name once nobody holds it.
func (s *shared) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.zones[name].Value() == nil {
		delete(s.zones, name)
	}
}

// What opened zones and failures take, measured at about 600 octets for a parsed P-256 key with its record, beside the
// zone.
const (
	placeOctets = 150
	zoneOctets  = 400
	keyOctets   = 400
)

// cost charges hostile zones for long keys: a key is held parsed, in base64 and packed.
func (o *opened) cost() int64 {
	cost := int64(placeOctets + zoneOctets + len(o.place))
	for _, key := range o.zone.Keys {
		cost += keyOctets + 2*int64(len(key.RR.PublicKey))
	}
	return cost
}
