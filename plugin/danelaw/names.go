package danelaw

import (
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// names are those that are not simply asked for.
type names struct {
	private zoneSet // passed to the plugins below
	local   zoneSet // configured in another way: no special names (S-18)
}

func namesOf(c Config) names {
	n := names{zoneSet{}, zoneSet{}}
	n.private.add(c.Private...)
	for _, r := range c.Routes {
		n.local.add(dns.CanonicalName(r.From))
	}
	for zone := range c.Anchors {
		n.local.add(zone)
	}
	delete(n.local, ".")
	return n
}

// zoneSet is a set of canonical zone names.
type zoneSet map[string]struct{}

func (z zoneSet) add(names ...string) {
	for _, name := range names {
		z[name] = struct{}{}
	}
}

// cover reports whether the canonical name is one of the zones or lies in one.
func (z zoneSet) cover(name string) bool {
	_, ok := z.closest(name)
	return ok
}

// closest returns the deepest of the zones that holds the canonical name.
func (z zoneSet) closest(name string) (string, bool) {
	if len(z) == 0 {
		return "", false
	}
	for at := range dnssec.Ancestors(name) {
		if _, ok := z[at]; ok {
			return at, true
		}
	}
	return "", false
}
