package clock

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// ranges is why Unbound may know of names that it has not asked about.
const ranges = "Unbound makes answers of the wildcard and the denials that it has cached (C-9)"

// V-10, C-8, C-16: a zone goes insecure, step by step, and comes back. It never fails, is Secure to the end of what was
// cached and not longer, and Secure again as soon as the denial of its DS is over.
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

// V-14, C-8: DS and signatures go in one moment. Where the upstream holds nothing old, danelaw finds the proof at once;
// with an upstream that does it is Bogus until that ends, never Secure on the new records.
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
		s.new(bogus(dns.ExtendedErrorCodeNSECMissing)) // of the DS of those names, which might make them insecure
		s.apart = ""
		s.pass(ttl+time.Minute, ttl/6, func() { s.new(whatever); s.still() })
		s.mail(insecure)
	}}, scenario{name: "nobody had asked", play: func(s *stage) {
		s.unsign()
		s.mail(insecure)
	}})
}

// unsign takes keys, signatures and DS from example.com.
func (s *stage) unsign() {
	z := s.tree.at("example.com.")
	z.keys, z.ksk, z.zsk, z.ds = nil, nil, nil, nil
	s.tree.publish()
}

// C-8: keys, signatures and DS come in one moment: nothing fails, and nothing is Secure before the DS is known.
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

// V-13: signatures go while the DS stays: at no moment is that Insecure, and when they are back all is Secure.
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

// failsOrSecure asks new names of example.com, none of which may be Insecure.
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
