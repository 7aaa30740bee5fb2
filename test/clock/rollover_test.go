package clock

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// move is one step of a rollover: a change of the zone, and how long to wait until caches have lost what was there
// before.
type move struct {
	change func(z *state)
	wait   time.Duration
}

// roll plays a rollover of example.com. At every moment of it all must be Secure, whether it is cached or new, by
// danelaw or by the upstream.
func roll(s *stage, moves ...move) {
	s.mail(secure)
	s.pass(ttl/2, ttl/4, func() { s.mail(secure) })
	for _, m := range moves {
		m.change(s.tree.at("example.com."))
		s.tree.publish()
		s.mail(secure)
		s.pass(m.wait, ttl/4, func() { s.mail(secure); s.still() })
	}
}

// V-3, V-14, V-22, V-23, V-41: the rollovers of RFC 6781 section 4.1. Each step comes as early as it may: a second
// after the end of the wait for it.
func TestRollovers(t *testing.T) {
	const wait = ttl + time.Second
	for _, zone := range []struct {
		name   string
		denial *zones.NSEC3
	}{{"NSEC", nil}, {"NSEC3", &zones.NSEC3{Salt: "ab", Iterations: 1}}} {
		play := func(name string, moves func(s *stage, z *state) []move) {
			run(t, scenario{name: zone.name + ", " + name, play: func(s *stage) {
				z := s.tree.at("example.com.")
				z.denial = zone.denial
				s.tree.publish()
				roll(s, moves(s, z)...)
			}})
		}
		play("pre-published zone-signing key", prePublish(wait))
		play("double signature of the zone-signing key", doubleZoneSignature(wait))
		play("double signature of the key-signing key", doubleSignature(wait))
		play("double DS", doubleDS(wait))
		play("algorithm", algorithmRoll(wait))
		play("one key for two", oneKey(wait))
	}
}

// prePublish: RFC 6781 section 4.1.1.1.
func prePublish(wait time.Duration) func(*stage, *state) []move {
	return func(s *stage, z *state) []move {
		sep, old, successor := z.ksk[0], z.zsk[0], s.tree.newKey(z, dns.ECDSAP256SHA256, zsk)
		return []move{
			{func(z *state) { z.keys = keys(sep, old, successor) }, wait},
			{func(z *state) { z.zsk = keys(successor) }, wait},
			{func(z *state) { z.keys = keys(sep, successor) }, wait},
		}
	}
}

// doubleZoneSignature: RFC 6781 section 4.1.1.2.
func doubleZoneSignature(wait time.Duration) func(*stage, *state) []move {
	return func(s *stage, z *state) []move {
		sep, old, successor := z.ksk[0], z.zsk[0], s.tree.newKey(z, dns.ECDSAP256SHA256, zsk)
		return []move{
			{func(z *state) { z.keys, z.zsk = keys(sep, old, successor), keys(old, successor) }, wait},
			{func(z *state) { z.keys, z.zsk = keys(sep, successor), keys(successor) }, wait},
		}
	}
}

// doubleSignature: RFC 6781 section 4.1.2.
func doubleSignature(wait time.Duration) func(*stage, *state) []move {
	return func(s *stage, z *state) []move {
		old, zone, successor := z.ksk[0], z.zsk[0], s.tree.newKey(z, dns.ECDSAP256SHA256, ksk)
		return []move{
			{func(z *state) { z.keys, z.ksk = keys(old, successor, zone), keys(old, successor) }, wait},
			{func(z *state) { z.ds = keys(successor) }, wait},
			{func(z *state) { z.keys, z.ksk = keys(successor, zone), keys(successor) }, wait},
		}
	}
}

// doubleDS: RFC 7583 section 3.3.2. The new key replaces the old one, and signs at once.
func doubleDS(wait time.Duration) func(*stage, *state) []move {
	return func(s *stage, z *state) []move {
		old, zone, successor := z.ksk[0], z.zsk[0], s.tree.newKey(z, dns.ECDSAP256SHA256, ksk)
		return []move{
			{func(z *state) { z.ds = keys(old, successor) }, wait},
			{func(z *state) { z.keys, z.ksk = keys(successor, zone), keys(successor) }, wait},
			{func(z *state) { z.ds = keys(successor) }, wait},
		}
	}
}

// algorithmRoll: RFC 6781 section 4.1.4, the conservative way: the new signatures come before the new key, and the old
// ones are removed last.
func algorithmRoll(wait time.Duration) func(*stage, *state) []move {
	return func(s *stage, z *state) []move {
		sep, old := z.ksk[0], z.zsk[0]
		newSep, successor := s.tree.newKey(z, dns.ED25519, ksk), s.tree.newKey(z, dns.ED25519, zsk)
		return []move{
			{func(z *state) { z.zsk = keys(old, successor) }, wait},
			{func(z *state) { z.keys, z.ksk = keys(sep, old, newSep, successor), keys(sep, newSep) }, wait},
			{func(z *state) { z.ds = keys(newSep) }, wait},
			{func(z *state) { z.keys, z.ksk = keys(newSep, successor), keys(newSep) }, wait},
			{func(z *state) { z.zsk = keys(successor) }, wait},
		}
	}
}

// oneKey: one key without the SEP flag, which signs everything, replaces a pair of keys (V-3).
func oneKey(wait time.Duration) func(*stage, *state) []move {
	return func(s *stage, z *state) []move {
		sep, old, successor := z.ksk[0], z.zsk[0], s.tree.newKey(z, dns.ECDSAP384SHA384, zsk)
		return []move{
			{func(z *state) { z.zsk = keys(old, successor) }, wait},
			{func(z *state) {
				z.keys, z.ksk, z.ds = keys(sep, old, successor), keys(sep, successor), keys(sep, successor)
			}, wait},
			{func(z *state) { z.keys, z.ksk, z.ds = keys(successor), keys(successor), keys(successor) }, wait},
			{func(z *state) { z.zsk = keys(successor) }, wait},
		}
	}
}

// T-3: the root changes its key as it does in 2026 and 2027. Both keys are trust anchors. All is Secure before, during
// and after the change, also while the old key is revoked.
func TestRootRolls(t *testing.T) {
	run(t, scenario{name: "root", play: func(s *stage) {
		root := s.tree.at(".")
		old, zone, successor := root.ds[0], root.zsk[0], root.ds[1]
		revoked := *old
		revoked.DNSKEY = dns.Copy(old.DNSKEY).(*dns.DNSKEY)
		revoked.DNSKEY.Flags |= dns.REVOKE
		for _, change := range []func(){
			func() {},
			func() { root.keys = keys(old, successor, zone) },
			func() { root.ksk = keys(successor) },
			func() { root.keys, root.ksk = keys(&revoked, successor, zone), keys(&revoked, successor) },
			func() { root.keys, root.ksk = keys(successor, zone), keys(successor) },
		} {
			change()
			s.tree.publish()
			s.mail(secure)
			s.pass(ttl+time.Second, ttl/4, func() { s.mail(secure); s.still() })
		}
	}})
}

// V-14, C-11: all keys and the DS are replaced at the same moment, as after a theft. The upstream, and danelaw, may
// have some of the old records in their caches. If the upstream has none, all is Secure at once. Otherwise it is Secure
// as soon as it is for Unbound, and at the latest when no cache has old records.
func TestEmergencyRoll(t *testing.T) {
	for held := range 4 {
		for _, warm := range []bool{false, true} {
			run(t, scenario{name: fmt.Sprintf("upstream holds DS %v, DNSKEY %v; danelaw warm %v", held&1 != 0,
				held&2 != 0, warm), play: func(s *stage) {
				if warm {
					s.mail(secure)
				}
				s.cache.Forget()
				if held&1 != 0 {
					s.cache.hold("example.com.", dns.TypeDS)
				}
				if held&2 != 0 {
					s.cache.hold("example.com.", dns.TypeDNSKEY)
				}
				s.replaceKeys()
				if held == 0 {
					s.mail(secure)
				}
				s.apart = "both remember failures for a minute at most, but not from the same moment (C-11)"
				s.pass(2*time.Minute, 10*time.Second, func() { s.new(whatever); s.still() })
				s.apart = ""
				s.pass(ttl-2*time.Minute, ttl/6, func() { s.mail(whatever); s.still() })
				s.clock.Advance(time.Minute + time.Second)
				s.mail(secure)
			}})
		}
	}
}

// replaceKeys replaces all keys of example.com and their DS.
func (s *stage) replaceKeys() {
	z := s.tree.at("example.com.")
	sep, zone := s.tree.newKey(z, dns.ECDSAP256SHA256, ksk), s.tree.newKey(z, dns.ECDSAP256SHA256, zsk)
	z.keys, z.ksk, z.zsk, z.ds = keys(sep, zone), keys(sep), keys(zone), keys(sep)
	s.tree.publish()
}

// V-14: the first of two upstreams has the old keys and DS in its cache. What does not validate with its replies is
// asked of the second.
func TestEmergencyRollWithTwoUpstreams(t *testing.T) {
	for _, warm := range []bool{false, true} {
		run(t, scenario{name: fmt.Sprintf("danelaw warm %v", warm), alone: true, play: func(s *stage) {
			second := s.newRecursor()
			_, s.danelaw = s.newDanelaw(s.cache.addr, second.addr)
			if warm {
				s.mail(secure)
			}
			s.cache.hold("example.com.", dns.TypeDS)
			s.cache.hold("example.com.", dns.TypeDNSKEY)
			s.replaceKeys()
			s.new(secure)
			s.pass(ttl+time.Minute, ttl/6, func() { s.mail(secure); s.still() })
		}})
	}
}
