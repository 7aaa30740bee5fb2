package clock

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// T-14, C-18: if a clock is corrected by some minutes, or is a day ahead for a while, no question fails whose
// signatures are valid at the time shown, and no TTL becomes longer.
func TestClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{-10 * time.Minute, -time.Second, time.Second, 10 * time.Minute, 2 * hour, day} {
		run(t, scenario{name: by.String(), play: func(s *stage) {
			s.mail(secure)
			s.clock.Advance(by)
			s.mail(secure)
			s.pass(time.Minute, 20*time.Second, func() { s.mail(secure) })
			s.clock.Advance(-by)
			s.mail(secure)
			s.still()
		}})
	}
}

// T-14: while the clock shows a time at which no signature is valid, each answer is SERVFAIL and says so. Within
// seconds after the clock is corrected all is Secure, including what had failed.
func TestClockIsWrong(t *testing.T) {
	for by, code := range map[time.Duration]uint16{
		30 * day: dns.ExtendedErrorCodeSignatureExpired, -30 * day: dns.ExtendedErrorCodeSignatureNotYetValid,
	} {
		for _, first := range []bool{false, true} {
			run(t, scenario{name: fmt.Sprintf("%v, from the beginning %v", by, first), alone: true,
				play: func(s *stage) {
					s.handler.Start()
					if !first {
						s.mail(secure)
					}
					s.clock.Advance(by)
					s.mail(bogus(code))
					time.Sleep(1500 * time.Millisecond) // danelaw looks at the clock each second
					s.mail(bogus(code))
					s.clock.Advance(-by)
					s.recovers()
					s.mail(secure)
				}})
		}
	}
}

// recovers waits until a question that has failed is answered.
func (s *stage) recovers() {
	s.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if m := s.exchange(s.danelaw, "mx.example.com.", dns.TypeA); m.Rcode == dns.RcodeSuccess {
			return
		} else if time.Now().After(deadline) {
			s.Fatalf("since the clock was set: %s", describe(m))
		}
	}
}

// C-16, C-18: links that were fetched while the clock was ahead do not live longer for it. If a zone changes its keys
// afterwards, the new keys are used when the TTL of the old ones has ended, not a day later.
func TestLinksFromTheFuture(t *testing.T) {
	run(t, scenario{name: "a day ahead", alone: true, play: func(s *stage) {
		s.clock.Advance(day)
		s.mail(secure)
		s.clock.Advance(-day)
		s.cache.Forget()
		s.mail(secure)
		learned := len(s.cache.Asked())
		s.pass(3*ttl, ttl/4, func() { s.mail(secure) })
		if !slices.Contains(s.cache.Asked()[learned:], "example.com. DS") {
			s.Error("the DS is not asked for any more")
		}
	}})
}

// V-19: signatures are valid across the ends of the signed and unsigned 32-bit counts of seconds, in 2038 and 2106.
func TestEndsOfTime(t *testing.T) {
	for _, end := range []int64{1 << 31, 1 << 32} {
		at := time.Unix(end, 0).UTC()
		run(t, scenario{name: at.Format(time.DateOnly), begin: at.Add(-hour), alone: true, play: func(s *stage) {
			s.pass(3*hour, 20*time.Minute, func() { s.mail(secure) })
			s.clock.Advance(14 * day)
			s.mail(bogus(dns.ExtendedErrorCodeSignatureExpired))
		}})
	}
}
