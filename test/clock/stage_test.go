// Package clock shows danelaw signatures that begin and end, TTLs that end, and keys that change, under a clock that
// the tests set. If DANELAW_TEST_TOOLS is set, an unmodified Unbound, whose clock faketime moves, is asked the same
// questions: what it answers, danelaw must answer too.
package clock

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/test/inprocess"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

// begin is the time at which a scenario starts, unless it has its own.
var begin = time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)

// scenario is one sequence of events.
type scenario struct {
	name  string
	begin time.Time // zero: begin
	alone bool      // without Unbound
	play  func(s *stage)
}

// run plays scenarios for danelaw alone and, if DANELAW_TEST_TOOLS is set, again for danelaw and Unbound.
func run(t *testing.T, scenarios ...scenario) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			if sc.begin.IsZero() {
				sc.begin = begin
			}
			s := newStage(t, sc.begin)
			if !sc.alone {
				s.besideUnbound()
			}
			sc.play(s)
		})
	}
}

// stage is what a scenario needs: zones that change, a recursor that caches but does not validate, and a danelaw that
// forwards to it.
type stage struct {
	*testing.T
	clock    *world.Clock
	tree     *tree
	handler  *danelaw.Handler
	danelaw  string    // its address
	unbound  string    // its address; "": there is none
	silences int       // of Unbound
	cache    *recursor // the one they forward to
	apart    string    // why the two may differ at the moment; "": they may not
	fresh    int       // how many names have been used that nobody had asked for before
}

func newStage(t *testing.T, at time.Time) *stage {
	t.Helper()
	s := &stage{T: t, clock: world.NewClock(at)}
	s.tree = newTree(t, s.clock)
	s.cache = s.newRecursor()
	s.handler, s.danelaw = s.newDanelaw(s.cache.addr)
	return s
}

// newDanelaw starts a danelaw that forwards to the given addresses.
func (s *stage) newDanelaw(to ...string) (*danelaw.Handler, string) {
	s.Helper()
	h, addr, _ := inprocess.Start(s, trustanchors.Set{".": s.tree.anchors()}, func(c *danelaw.Config) {
		c.Clock = s.clock.Now
		c.Aggressive = reuse.Off // new names must be asked of the upstream
	}, to...)
	return h, addr
}

// recursor is a caching recursor on a socket.
type recursor struct {
	*world.Upstream
	addr string
}

func (s *stage) newRecursor() *recursor {
	s.Helper()
	u := s.tree.Caching()
	return &recursor{u, u.Serve(s, world.AnyPort)}
}

// hold puts an answer into its cache, as if a client had asked.
func (r *recursor) hold(name string, qtype uint16) {
	r.Resolve(dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET})
}

// verdict is the result that a question must have.
type verdict struct {
	status string
	ede    uint16 // of a Bogus one
}

var (
	secure   = verdict{status: "Secure"}
	insecure = verdict{status: "Insecure"}
	answered = verdict{status: "Secure or Insecure"} // while either is right
	whatever = verdict{status: "any"}                // it is only compared with Unbound's
)

func bogus(ede uint16) verdict { return verdict{"Bogus", ede} }

// says reports whether a client sees the verdict in m.
func (v verdict) says(m *dns.Msg) bool {
	failed := m.Rcode == dns.RcodeServerFailure
	switch v.status {
	case "Secure":
		return !failed && m.AuthenticatedData
	case "Insecure":
		return !failed && !m.AuthenticatedData
	case "Secure or Insecure":
		return !failed
	case "Bogus":
		codes := edes(m)
		return failed && len(codes) > 0 && codes[0] == v.ede
	}
	return true
}

// edes returns the codes of the Extended DNS Errors of a reply.
func edes(m *dns.Msg) (codes []uint16) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				codes = append(codes, e.InfoCode)
			}
		}
	}
	return codes
}

func describe(m *dns.Msg) string {
	text := fmt.Sprintf("%s AD=%v", dns.RcodeToString[m.Rcode], m.AuthenticatedData)
	for _, o := range m.IsEdns0().Option {
		text += " " + o.String()
	}
	return text
}

// ask puts a question to danelaw. It checks the verdict, the validity of the signatures in the reply, and that Unbound
// does not disagree.
func (s *stage) ask(name string, qtype uint16, want verdict) *dns.Msg {
	s.Helper()
	m := s.exchange(s.danelaw, name, qtype)
	what := fmt.Sprintf("%s after %v: %s %s", s.clock.Now().Format(time.RFC3339), s.clock.Now().Sub(s.tree.begun),
		name, dns.Type(qtype))
	if !want.says(m) {
		s.Errorf("%s: %s, want %s", what, describe(m), want.status)
	}
	if m.AuthenticatedData {
		s.valid(what, m)
	}
	if s.unbound != "" {
		s.askUnbound(what, m, name, qtype)
	}
	return m
}

// mostSilence is how often Unbound may give no reply in one scenario.
const mostSilence = 3

// askUnbound asks Unbound the same question. Unbound's timers stand still while its clock does, so it waits without end
// for a datagram that was lost. That is no fault of danelaw's.
func (s *stage) askUnbound(what string, ours *dns.Msg, name string, qtype uint16) {
	s.Helper()
	m, err := put(s.unbound, name, qtype)
	if err == nil {
		s.compare(what, ours, m)
		return
	}
	if s.silences++; s.silences > mostSilence {
		s.Fatalf("%s: Unbound is silent again: %v", what, err)
	}
}

// compare checks that danelaw answers if Unbound does, and with the same AD. If only danelaw answers, there is nothing
// to compare.
func (s *stage) compare(what string, ours, unbounds *dns.Msg) {
	s.Helper()
	failed := ours.Rcode == dns.RcodeServerFailure
	if unbounds.Rcode == dns.RcodeServerFailure || !failed && ours.AuthenticatedData == unbounds.AuthenticatedData {
		return
	}
	switch {
	case s.apart != "":
	case failed:
		s.Errorf("%s: a false SERVFAIL: %s; Unbound: %s", what, describe(ours), describe(unbounds))
	default:
		s.Errorf("%s: %s; Unbound: %s", what, describe(ours), describe(unbounds))
	}
}

// valid checks that a reply with AD has no signature that is not valid now, and no TTL that goes past the end of one
// (C-1, V-19..V-21).
func (s *stage) valid(what string, m *dns.Msg) {
	s.Helper()
	now := s.clock.Now()
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		sig, ok := rr.(*dns.RRSIG)
		if !ok {
			continue
		}
		left := time.Duration(int32(sig.Expiration-uint32(now.Unix()))) * time.Second
		since := time.Duration(int32(uint32(now.Unix())-sig.Inception)) * time.Second
		if left < 0 || since < -300*time.Second {
			s.Errorf("%s: AD, but the signature over %s is valid for %v, since %v", what, dns.Type(sig.TypeCovered),
				left, since)
		}
		if ttl := time.Duration(sig.Hdr.Ttl) * time.Second; ttl > left || sig.Hdr.Ttl > sig.OrigTtl {
			s.Errorf("%s: TTL %v of %s, of %d originally, with a signature for %v", what, ttl,
				dns.Type(sig.TypeCovered), sig.OrigTtl, left)
		}
	}
}

// patience is how long a reply may take on a busy machine.
const patience = 20 * time.Second

func (s *stage) exchange(to, name string, qtype uint16) *dns.Msg {
	s.Helper()
	m, err := put(to, name, qtype)
	if err != nil {
		s.Fatalf("%s %s of %s: %v", name, dns.Type(qtype), to, err)
	}
	return m
}

// put asks a question, over TCP if the reply is truncated.
func put(to, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(4096, true)
	m, _, err := (&dns.Client{Timeout: patience, UDPSize: 4096}).Exchange(q, to)
	if err == nil && m.Truncated {
		m, _, err = (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(q, to)
	}
	return m, err
}

// mail asks what a delivery to example.com asks, and for some names that no cache can have.
func (s *stage) mail(want verdict) {
	s.Helper()
	s.ask("example.com.", dns.TypeMX, want)
	s.ask("mx.example.com.", dns.TypeA, want)
	s.ask("mx.example.com.", dns.TypeAAAA, want)
	s.ask("_25._tcp.mx.example.com.", dns.TypeTLSA, want)
	s.new(want)
}

// new asks for two names of example.com that nobody has asked for before: one is expanded from a wildcard, one does not
// exist.
func (s *stage) new(want verdict) {
	s.Helper()
	s.fresh++
	s.ask(fmt.Sprintf("n%d.wild.example.com.", s.fresh), dns.TypeMX, want)
	s.ask(fmt.Sprintf("n%d.example.com.", s.fresh), dns.TypeA, want)
}

// still asks for a name in another zone, which never changes.
func (s *stage) still() {
	s.Helper()
	s.fresh++
	s.ask("still.com.", dns.TypeMX, secure)
	s.ask(fmt.Sprintf("n%d.wild.still.com.", s.fresh), dns.TypeMX, secure)
}

// pass lets time pass in steps, and calls f after each step.
func (s *stage) pass(d, step time.Duration, f func()) {
	s.Helper()
	for passed := time.Duration(0); passed < d; {
		next := min(step, d-passed)
		s.clock.Advance(next)
		passed += next
		f()
	}
}
