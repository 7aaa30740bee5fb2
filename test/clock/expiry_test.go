package clock

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// skew is why Unbound may answer where danelaw does not: Unbound accepts a signature an hour or more after its
// expiration or before its inception, danelaw only up to 300 s before its inception (V-20).
const skew = "Unbound's allowance for clocks that are wrong is larger (V-20)"

// C-1, C-2, V-19: an answer is Secure up to the second in which a signature expires, its own or one of its chain, and
// not a second later. Once the zone is signed again, all is Secure as soon as nobody caches the old records.
func TestExpiresWhileCached(t *testing.T) {
	for _, zone := range []string{".", "com.", "example.com."} {
		run(t, scenario{name: zone, play: func(s *stage) {
			s.tree.at(zone).expiration = s.clock.Now().Add(10 * time.Minute)
			s.tree.publish()
			s.mail(secure)
			s.pass(10*time.Minute-time.Second, 3*time.Minute, func() { s.mail(secure) })
			s.clock.Advance(time.Second)
			s.mail(secure)
			s.apart = skew
			s.clock.Advance(time.Second)
			s.mail(bogus(dns.ExtendedErrorCodeSignatureExpired))
			s.apart = ""
			s.clock.Advance(2 * hour) // more than Unbound allows for such a short validity
			s.mail(bogus(dns.ExtendedErrorCodeSignatureExpired))
			s.tree.at(zone).expiration = s.clock.Now().Add(14 * day)
			s.tree.publish()
			// for the upstream's cache, and for failures, which are remembered for up to a minute (C-11)
			s.clock.Advance(ttl + time.Minute)
			s.mail(secure)
			s.still()
		}})
	}
}

// V-14, C-11: once an expired zone is signed again and the upstream has the new signatures, all of it is Secure within
// a minute, including what was Bogus before.
func TestSignedAnew(t *testing.T) {
	run(t, scenario{name: "example.com.", play: func(s *stage) {
		z := s.tree.at("example.com.")
		z.expiration = s.clock.Now().Add(-2 * hour)
		z.inception = z.expiration.Add(-day)
		s.tree.publish()
		s.apart = skew
		s.pass(5*time.Minute, 20*time.Second, func() { s.mail(bogus(dns.ExtendedErrorCodeSignatureExpired)) })
		z.inception, z.expiration = s.clock.Now(), s.clock.Now().Add(14*day)
		s.tree.publish()
		s.cache.Forget()
		s.apart = "both remember failures for a minute at most, but not from the same moment (C-11)"
		s.pass(time.Minute, 10*time.Second, func() { s.mail(whatever) })
		s.apart = ""
		s.mail(secure)
	}})
}

// V-19, V-20: a signature whose inception is a second ahead is accepted. One whose inception is 301 s ahead is accepted
// as soon as the failure is forgotten.
func TestValidityBegins(t *testing.T) {
	for _, zone := range []string{".", "com.", "example.com."} {
		run(t, scenario{name: zone + " in a second", play: func(s *stage) {
			s.tree.at(zone).inception = s.clock.Now().Add(time.Second)
			s.tree.publish()
			s.pass(3*time.Second, time.Second, func() { s.mail(secure) })
		}}, scenario{name: zone + " a second too early", play: func(s *stage) {
			s.tree.at(zone).inception = s.clock.Now().Add(301 * time.Second)
			s.tree.publish()
			s.apart = skew
			s.mail(bogus(dns.ExtendedErrorCodeSignatureNotYetValid))
			s.apart = ""
			s.clock.Advance(5 * time.Second) // a failure is remembered that long (C-11)
			s.mail(secure)
		}})
	}
}

// C-16: links whose TTLs end at different times, or all at once, are fetched again without any failed question.
func TestTTLsRunOut(t *testing.T) {
	for _, tt := range []struct{ registry, keys, ds, step time.Duration }{
		{45 * time.Second, 30 * time.Second, 20 * time.Second, 7 * time.Second},
		{hour, 5 * time.Second, hour, 2 * time.Second},
		{5 * time.Second, hour, hour, 2 * time.Second},
		{hour, hour, 5 * time.Second, 2 * time.Second},
		{time.Second, time.Second, time.Second, time.Second},
		{0, 0, 0, time.Second},
	} {
		run(t, scenario{name: fmt.Sprintf("%v %v %v", tt.registry, tt.keys, tt.ds), play: func(s *stage) {
			shorten(s, tt.registry, tt.keys, tt.ds)
			s.mail(secure)
			s.pass(12*tt.step, tt.step, func() { s.mail(secure); s.still() })
			s.ask("_25._tcp.mx.example.com.", dns.TypeDS, secure) // nobody has asked this before
		}})
	}
}

// shorten sets the TTLs of the keys of com, and of the keys and DS of example.com.
func shorten(s *stage, registry, keys, ds time.Duration) {
	com, example := s.tree.at("com."), s.tree.at("example.com.")
	for _, k := range com.keys {
		k.DNSKEY.Hdr.Ttl = uint32(registry / time.Second)
	}
	for _, k := range example.keys {
		k.DNSKEY.Hdr.Ttl = uint32(keys / time.Second)
	}
	com.dsTTL, example.dsTTL = ds, ds
	s.tree.publish()
	s.cache.Forget()
}

// C-16: if the TTL of a link ends while another link of the same chain is being fetched, the link still serves the
// question that it was fetched for. (Unbound takes a clock that jumps while it waits for a timeout.)
func TestTTLRunsOutWhileAsked(t *testing.T) {
	for _, link := range []dns.Question{
		{Name: "com.", Qtype: dns.TypeDNSKEY}, {Name: "example.com.", Qtype: dns.TypeDS},
		{Name: "example.com.", Qtype: dns.TypeDNSKEY},
		{Name: "example.com.", Qtype: dns.TypeMX},
	} {
		run(t, scenario{name: link.Name + " " + dns.Type(link.Qtype).String(), alone: true, play: func(s *stage) {
			shorten(s, time.Minute, time.Minute, time.Minute)
			s.cache.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
				if q.Name == link.Name && q.Qtype == link.Qtype {
					s.clock.Advance(2 * time.Minute)
				}
				return m
			})
			for range 3 {
				s.mail(secure)
				s.clock.Advance(hour)
			}
		}})
	}
}
