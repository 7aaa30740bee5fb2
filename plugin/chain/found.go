package chain

import (
	"maps"
	"slices"
	"sync"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// found are the zones that a walk has found, by the names that it went to.
type found struct {
	mu    sync.Mutex
	zones names[*dnssec.Zone]
}

func (f *found) note(name string, zone *dnssec.Zone) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.zones.set(name, zone)
}

// at returns the zone of a name walked to.
func (f *found) at(name string) *dnssec.Zone {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.zones.at(name)
}

func (f *found) all() map[string]*dnssec.Zone {
	f.mu.Lock()
	defer f.mu.Unlock()
	zones := map[string]*dnssec.Zone{}
	for name, z := range f.zones.all {
		if z != nil { // else it was forgotten
			zones[name] = z
		}
	}
	return zones
}

// wayTo returns the names at and above owner for which a Secure zone was found, the deepest first: there the fault is
// likely, and tries are few.
func (f *found) wayTo(owner string) (names []string) {
	for name, z := range f.all() {
		if z.Status == dnssec.Secure && dnssec.IsSubDomain(name, owner) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	return names
}

// forget makes the judge ask again for the names in a zone that is out of date.
func (f *found) forget(zone string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, z := range f.zones.all {
		if z != nil && z.Name == zone {
			f.zones.set(name, nil)
		}
	}
}

// Unsigned returns the deepest zone found that is Insecure; "" if none is.
func (w *Walk) Unsigned() (zone string) {
	for _, z := range w.found.all() {
		if z.Status == dnssec.Insecure && len(z.Name) > len(zone) {
			zone = z.Name
		}
	}
	return zone
}

// Zones returns every zone on the way to those found, parents before children.
func (w *Walk) Zones() []*dnssec.Zone {
	zones := map[string]*dnssec.Zone{}
	for _, z := range w.found.all() {
		w.collect(zones, z.Name)
	}
	return slices.SortedFunc(maps.Values(zones), func(a, b *dnssec.Zone) int { return dnssec.Compare(a.Name, b.Name) })
}

// collect adds the zones from name up to its anchor.
func (w *Walk) collect(zones map[string]*dnssec.Zone, name string) {
	now := w.chain.Now()
	anchor, anchored := w.anchor(name, now)
	if z := w.negative.at(anchor, now); z != nil {
		zones[anchor] = z
		return
	}
	least := dnssec.Indeterminate
	for at := range dnssec.Ancestors(name) {
		z := w.found.at(at)
		if cut, ok := w.place(at, now).(Cut); ok && (z == nil || z.Name != at) {
			z = cut.Zone
		}
		// A Secure zone is not below an Insecure name: its DS needed no proof about that (V-62).
		if anchored && z != nil && z.Name == at && z.Status >= least {
			zones[at], least = z, z.Status
		}
		if at == anchor {
			return
		}
	}
}
