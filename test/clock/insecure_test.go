package clock

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// ranges is why Unbound may deny names that nobody has asked for: it uses the range of an NSEC record.
const ranges = "Unbound makes answers of the wildcard and the denials that it has cached (C-9)"

// V-10, C-8, C-16: a zone becomes insecure, step by step, and then secure again. No question fails. The zone is Secure
// until what was cached has ended and not longer, and Secure again as soon as the denial of its DS has ended.
func TestInsecureAndBack(t *testing.T) {
	for _, registry := range []struct {
		name   string
		denial *zones.NSEC3
	}{{"NSEC", nil}, {"NSEC3", &zones.NSEC3{}}, {"opt-out", &zones.NSEC3{OptOut: true}}} {
		run(t, scenario{name: registry.name, play: func(s *stage) {
			s.tree.at("com.").denial = registry.denial
			z := s.tree.at("example.com.")
			signers := *z
			s.tree.publish()
			s.mail(secure)

			z.ds = nil
			s.tree.publish()
			s.mail(secure)
			s.apart = "the DS was not learned at the same moment"
			s.pass(ttl, ttl/6, func() { s.mail(answered); s.still() })
			s.apart = ""
			s.clock.Advance(negative + time.Second)
			s.mail(insecure)

			z.keys, z.ksk, z.zsk = nil, nil, nil
			s.tree.publish()
			s.pass(ttl+time.Second, ttl/4, func() { s.mail(insecure); s.still() })

			z.keys, z.ksk, z.zsk = signers.keys, signers.ksk, signers.zsk
			s.tree.publish()
			s.pass(ttl+time.Second, ttl/4, func() { s.mail(insecure); s.still() })

			z.ds = signers.ds
			s.tree.publish()
			s.apart = "the denial of the DS was not learned at the same moment"
			s.pass(negative+time.Second, negative/4, func() { s.mail(answered); s.still() })
			s.apart = ""
			s.new(secure)
			s.pass(ttl, ttl/4, func() { s.mail(answered); s.still() })
			s.mail(secure)
		}})
	}
}

// V-14, C-8: DS and signatures are removed at the same moment. If the upstream caches nothing old, danelaw finds the
// proof at once. If it does, the zone is Bogus until that ends; the new records are never Secure.
func TestHastilyInsecure(t *testing.T) {
	run(t, scenario{name: "upstream holds nothing", play: func(s *stage) {
		s.mail(secure)
		s.cache.Forget()
		s.unsign()
		s.apart = ranges
		s.new(insecure)
		s.pass(ttl+time.Second, ttl/4, func() { s.new(insecure); s.still() })
		s.apart = ""
		s.mail(insecure)
	}}, scenario{name: "upstream holds the DS", play: func(s *stage) {
		s.mail(secure)
		s.unsign()
		s.apart = ranges
		s.new(bogus(dns.ExtendedErrorCodeNSECMissing)) // no denial of a DS at those names
		s.apart = ""
		s.pass(ttl+time.Minute, ttl/6, func() { s.new(whatever); s.still() })
		s.mail(insecure)
	}}, scenario{name: "nobody had asked", play: func(s *stage) {
		s.unsign()
		s.mail(insecure)
	}})
}

// unsign removes keys, signatures and DS of example.com.
func (s *stage) unsign() {
	z := s.tree.at("example.com.")
	z.keys, z.ksk, z.zsk, z.ds = nil, nil, nil, nil
	s.tree.publish()
}

// C-8: keys, signatures and DS are added at the same moment. No question fails, and nothing is Secure before the DS is
// known.
func TestHastilySigned(t *testing.T) {
	run(t, scenario{name: "example.com.", play: func(s *stage) {
		z := s.tree.at("example.com.")
		signers := *z
		s.unsign()
		s.mail(insecure)
		*z = signers
		s.tree.publish()
		s.apart = "the denial of the DS was not learned at the same moment"
		s.pass(negative+time.Second, negative/4, func() { s.new(answered); s.still() })
		s.apart = ""
		s.new(secure)
	}})
}

// V-13: signatures are removed while the DS stays. The zone is never Insecure, and Secure once they are back.
func TestSignaturesLost(t *testing.T) {
	run(t, scenario{name: "example.com.", play: func(s *stage) {
		z := s.tree.at("example.com.")
		signers := *z
		s.mail(secure)
		z.keys, z.ksk, z.zsk = nil, nil, nil
		s.tree.publish()
		s.apart = ranges
		s.new(bogus(dns.ExtendedErrorCodeNSECMissing))
		s.pass(ttl+time.Second, ttl/4, func() { s.failsOrSecure(); s.still() })
		s.apart = ""
		s.pass(ttl, ttl/4, func() { s.failsOrSecure(); s.still() })
		*z = signers
		s.tree.publish()
		s.clock.Advance(ttl + time.Minute)
		s.mail(secure)
	}})
}

// failsOrSecure asks for new names of example.com, none of which may be Insecure.
func (s *stage) failsOrSecure() {
	s.Helper()
	s.fresh++
	for _, q := range []dns.Question{{Name: "example.com.", Qtype: dns.TypeMX},
		{Name: "x.wild.example.com.", Qtype: dns.TypeMX}} {
		if m := s.ask(q.Name, q.Qtype, whatever); m.Rcode != dns.RcodeServerFailure && !m.AuthenticatedData {
			s.Errorf("%s %s: %s", q.Name, dns.Type(q.Qtype), describe(m))
		}
	}
}
