package chain

import (
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// CodeNTA is the Extended DNS Error of what a negative trust anchor keeps from being validated (IANA's registry;
// the DNS library has no name for it).
const CodeNTA uint16 = 33

// NegativeAnchor is a negative trust anchor (RFC 7646): until it ends, the zone and all below it are Insecure, with
// Extended DNS Error 33, unless a trust anchor is nearer to a name (T-18).
type NegativeAnchor struct {
	// canonical; without effect where a trust anchor is, as at the root, or none above, or nothing is validated anyway
	Zone   string
	Until  time.Time // by Config.Clock
	Reason string    // for people, clients among them; may be empty
}

// negativeAnchors are the zones that negative trust anchors make, and those that are not validated. They are never
// changed: a walk works with those that it began with.
type negativeAnchors map[string]*dnssec.Zone

func (c *Chain) newNegativeAnchors(all []NegativeAnchor) *negativeAnchors {
	zones := negativeAnchors{}
	for _, name := range c.Unvalidated {
		zones[name] = &dnssec.Zone{Name: name, Status: dnssec.Insecure, Until: c.Now().AddDate(100, 0, 0)}
	}
	trusted := ground{chain: c, anchors: c.Trusted()}
	for _, n := range all {
		_, above := trusted.anchor(n.Zone, c.Now())
		if !above || anchored(trusted.anchors, n.Zone) || slices.Contains(c.Unvalidated, n.Zone) {
			continue
		}
		end := c.Now().Add(n.Until.Sub(c.Clock().Round(0))) // the two differ where the time of judgement is given
		zones[n.Zone] = &dnssec.Zone{Name: n.Zone, Status: dnssec.Insecure, Until: end, Expires: end,
			Cause: n.failure()}
	}
	return &zones
}

func (n NegativeAnchor) failure() *dnssec.Failure {
	f := dnssec.Failure{Kind: dnssec.OfDistrust, Code: CodeNTA, Zone: n.Zone}.Says(
		"%s: not validated, by a negative trust anchor until %s UTC", n.Zone, n.Until.UTC().Format("2006-01-02 15:04"))
	if n.Reason != "" {
		f.Text += ": " + n.Reason
	}
	return f
}

// at returns the zone that a negative trust anchor of this very name makes; nil if there is none, or it is over.
func (n negativeAnchors) at(name string, now time.Time) *dnssec.Zone {
	if z := n[name]; z != nil && now.Before(z.Until) {
		return z
	}
	return nil
}

// Distrust replaces the negative trust anchors. It returns the zones where one has begun or ended, and whether any has
// ended or says something else now: what rests on one elsewhere, as aliases from other zones do, holds no longer then.
func (c *Chain) Distrust(all []NegativeAnchor) (zones []string, elsewhere bool) {
	fresh, old := *c.newNegativeAnchors(all), *c.negative.Load()
	c.negative.Store(&fresh)
	c.Restart()
	for name, z := range fresh {
		was := old[name]
		switch {
		case was == nil:
			zones = append(zones, name)
		case z.Cause == nil: // it is unvalidated as it was
		case was.Cause.Text != z.Cause.Text || !was.Until.Equal(z.Until):
			elsewhere = true
		}
	}
	for name := range old {
		if fresh[name] == nil {
			zones, elsewhere = append(zones, name), true
		}
	}
	return zones, elsewhere
}

// Restart puts all walks that have begun out of date (C-12).
func (c *Chain) Restart() { c.Store.generation.next() }

// anchor returns the closest anchor at or above name, which alone decides: a configured one (V-12), or a negative one
// that is still alive (T-18).
func (g ground) anchor(name string, now time.Time) (zone string, ok bool) {
	for zone = range dnssec.Ancestors(name) {
		if anchored(g.anchors, zone) || g.negative.at(zone, now) != nil {
			return zone, true
		}
	}
	return "", false
}

// anchored reports whether a zone is an anchor point, of which all anchors may have been revoked (T-9).
func anchored(anchors map[string][]*dns.DS, zone string) bool {
	_, ok := anchors[zone]
	return ok
}

// Trusted are the trust anchors, by zone. Nobody may change them.
func (c *Chain) Trusted() map[string][]*dns.DS { return *c.anchors.Load() }

// Trust replaces the trust anchors, of which those of one zone differ: what walks that have begun find out is not kept.
// It reports whether what is known of the zone and of the names below it still holds. It does if no anchor was taken
// away, or if zone, judged by those that are left, is Secure and has all the keys by which the rest was validated.
func (c *Chain) Trust(anchors map[string][]*dns.DS, zone *dnssec.Zone) (holds bool) {
	lost := slices.DeleteFunc(slices.Clone(c.Trusted()[zone.Name]), func(ds *dns.DS) bool {
		return slices.ContainsFunc(anchors[zone.Name], func(o *dns.DS) bool { return dns.IsDuplicate(ds, o) })
	})
	c.anchors.Store(&anchors)
	c.Restart()
	if len(lost) == 0 {
		return true
	}
	cut, known := c.Store.cut(zone.Name)
	if zone.Status != dnssec.Secure || known && !confirms(zone, cut.Zone, lost) {
		return false
	}
	c.Store.learn(zone.Name, Cut{zone}, c.Now(), c.MaxTTL)
	return true
}

// confirms reports whether a zone has all keys that it had before but those of lost anchors.
func confirms(now, before *dnssec.Zone, lost []*dns.DS) bool {
	return !slices.ContainsFunc(before.Keys, func(k *dnssec.Key) bool {
		return !slices.ContainsFunc(now.Keys, func(o *dnssec.Key) bool { return sameKey(k, o) }) &&
			!slices.ContainsFunc(lost, func(ds *dns.DS) bool {
				of := k.RR.ToDS(ds.DigestType)
				return of != nil && dns.IsDuplicate(ds, of)
			})
	})
}
