package hostile

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/test/observe"
)

// The bounds of the work for one question with nothing in the cache: for the root, com and the zone, with all tries of
// V-14 (L-1, L-9).
const (
	mostChecks    = 40
	mostQuestions = 40
)

// TestAlone: each misdeed has its one right outcome, at a bounded cost, and does not affect other names (D-16,
// L-1..L-16, S-5..S-15, V-13..V-15).
func TestAlone(t *testing.T) {
	a := build(t, all())
	settle := settles(t)
	t.Run("misdeeds", func(t *testing.T) {
		for _, m := range a.misdeeds {
			for _, over := range m.transports() {
				t.Run(m.name+" over "+over, func(t *testing.T) {
					t.Parallel()
					a.alone(t, m, over)
				})
			}
		}
	})
	settle()
}

// alone tests one misdeed over one transport.
func (a *arena) alone(t *testing.T, m *misdeed, over string) {
	want, timeout := m.outcome(over)
	to := a.upstreams[over]
	if m.own != nil {
		to = a.newUpstream(t, over, m.own)
	}
	limited := func(c *danelaw.Config) {
		c.CacheSize = 4 << 20 // many are open at the same time
		c.Timeout = cmp.Or(timeout, usualTimeout)
	}
	server, block := a.open(t, limited, to)
	name, qtype := m.question("")
	begun := time.Now()
	r := ask(t, server, name, qtype)
	if got := seen(r); got != want {
		t.Errorf("the outcome is %s, want %s; %v", got, want, sentences(r))
	}
	sound(t, r)
	counted := metrics(t, block)
	work := map[string][2]int{
		"checks of signatures":     {signatures(counted), max(m.checks, mostChecks)},
		"nsec3_hashes_total":       {counted["nsec3_hashes_total"], max(m.hashes, 10)},
		"upstream_questions_total": {counted["upstream_questions_total"], max(m.questions, mostQuestions)},
	}
	if m.own != nil {
		work["connections"] = [2]int{to.connections(), 2 * mostQuestions} // one that is lost is opened once more (S-5)
	}
	for what, n := range work {
		if n[0] > n[1] {
			t.Errorf("%s is %d, at most %d are allowed", what, n[0], n[1])
		}
	}
	t.Logf("%s after %v: %v; %v", seen(r), time.Since(begun).Round(time.Millisecond), sentences(r), work)
	if m.act == nil && m.own != nil { // this upstream answers nobody, so an honest one is added
		server, _ = a.open(t, nil, to, a.upstreams[over])
	}
	patient := time.Duration(0)
	if timeout != 0 {
		// the neighbour has the same timeout, which is shorter than the wait for a connection that is held up
		patient = 10 * time.Second
	}
	within(t, patient, secure(dns.RcodeSuccess),
		func() outcome { return seen(ask(t, server, "good.com.", dns.TypeMX)) })
	if m.later != nil {
		within(t, patience, *m.later, func() outcome { return seen(ask(t, server, name, qtype)) })
	}
}

// signatures returns how many signatures were judged, whether they were verified or known from before (L-1).
func signatures(counted map[string]int) int {
	return counted["signature_checks_total"] + counted["signatures_known_total"]
}

// sound checks that the texts of errors are text (S-15), and that a failure brings no data.
func sound(t *testing.T, m *dns.Msg) {
	t.Helper()
	for _, e := range extended(m) {
		if len(e.ExtraText) > 255 || !utf8.ValidString(e.ExtraText) {
			t.Errorf("EDE of %d octets: %q", len(e.ExtraText), e.ExtraText)
		}
		for _, r := range e.ExtraText {
			if !unicode.IsPrint(r) {
				t.Errorf("EDE with %q: %q", r, e.ExtraText)
				break
			}
		}
	}
	if len(extended(m)) > 3 || m.Rcode == servfail && len(m.Answer)+len(m.Ns) > 0 {
		t.Errorf("%d errors, %d records in\n%v", len(extended(m)), len(m.Answer)+len(m.Ns), m)
	}
}

// within asks until the outcome is the one wanted, for as long as told.
func within(t *testing.T, d time.Duration, want outcome, get func() outcome) {
	t.Helper()
	for deadline := time.Now().Add(d); ; time.Sleep(50 * time.Millisecond) {
		got := get()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("then %s, want %s", got, want)
		}
	}
}

// duration is how long all misdeeds go on together: a short time, or the one in DANELAW_SOAK.
func duration() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("DANELAW_SOAK")); err == nil {
		return d
	}
	return 2 * time.Second
}

// TestTogether: all misdeeds are done at once to one danelaw for each transport, for many clients. Meanwhile questions
// about other domains get the right answers: from the cache without an upstream question, or with their true verdict.
// Memory and the number of goroutines stay bounded, and no goroutine is left at the end (C-8, L-7, L-13, L-15).
func TestTogether(t *testing.T) {
	a := build(t, all())
	settle := settles(t)
	watched := observe.Process()
	t.Run("attack", func(t *testing.T) {
		for _, over := range transports {
			t.Run("over "+over, func(t *testing.T) {
				t.Parallel()
				a.together(t, over)
			})
		}
	})
	goroutines, heap := watched()
	t.Logf("at most %d goroutines, %d MiB of heap", goroutines, heap>>20)
	// A client has one flight of at most about forty questions. Each has copies, and goroutines of the upstream that
	// answers it.
	if most := 500 + len(transports)*attackers*200; goroutines > most {
		t.Errorf("%d goroutines, want at most %d", goroutines, most)
	}
	if heap > 96<<20 {
		t.Errorf("%d MiB of heap", heap>>20)
	}
	settle()
}

// attackers and mailers are how many clients of either kind each danelaw has.
const attackers, mailers = 16, 2

// together attacks one danelaw over one transport.
func (a *arena) together(t *testing.T, over string) {
	to := a.upstreams[over]
	server, block := a.open(t, func(c *danelaw.Config) { c.CacheSize /= int64(len(transports)) }, to)
	a.delivers(t, server, "")
	cached := to.questions("mx.good.com.")
	var all sync.WaitGroup
	var attacks, deliveries, failures atomic.Int64
	victims := a.victims(over)
	end := time.Now().Add(duration())
	for range attackers {
		all.Go(func() {
			for time.Now().Before(end) {
				m := victims[rand.IntN(len(victims))]
				failures.Add(a.attack(t, server, m, over))
				attacks.Add(1)
			}
		})
	}
	for range mailers {
		all.Go(func() {
			for time.Now().Before(end) {
				a.delivers(t, server, fmt.Sprintf("n%016x.", rand.Uint64()))
				deliveries.Add(1)
			}
		})
	}
	all.Wait()
	counted := metrics(t, block)
	t.Logf("%d attacks, of which %d failed; %d deliveries; %d signature checks, %d hashes, %d upstream questions",
		attacks.Load(), failures.Load(),
		deliveries.Load(), signatures(counted), counted["nsec3_hashes_total"],
		counted["upstream_questions_total"])
	if n := to.questions("mx.good.com."); n != cached {
		t.Errorf("mx.good.com. is cached, but was asked of the upstream %d times", n-cached)
	}
	if n := counted["panics_total"]; n != 0 || deliveries.Load() == 0 || attacks.Load() == 0 {
		t.Errorf("%d panics, %d deliveries, %d attacks", n, deliveries.Load(), attacks.Load())
	}
}

// victims returns the misdeeds that spare the upstream, and the connection to it, for other names.
func (a *arena) victims(over string) (all []*misdeed) {
	for _, m := range a.misdeeds {
		if m.own == nil && slices.Contains(m.transports(), over) && (over == plain || !m.breaks) {
			all = append(all, m)
		}
	}
	return all
}

// attack asks about one victim, under a new name where any name will do. Nothing but the truth may be Secure.
func (a *arena) attack(t *testing.T, server string, m *misdeed, over string) (failed int64) {
	label := ""
	want, _ := m.outcome(over)
	if m.text == mailZone && m.ask == "" && !want.ad {
		label = fmt.Sprintf("n%016x.", rand.Uint64())
	}
	name, qtype := m.question(label)
	r := ask(t, server, name, qtype)
	sound(t, r)
	switch got := seen(r); {
	case got.ad && !want.ad && label == "":
		t.Errorf("%s: %s %s is %s", m.name, name, dns.Type(qtype), got)
	case got.rcode == servfail:
		return 1
	}
	return 0
}

// delivers asks what deliveries to honest domains ask. With a label it also asks for names that nobody has asked for
// before.
func (a *arena) delivers(t *testing.T, server, label string) {
	for _, q := range []struct {
		name  string
		qtype uint16
		want  outcome
	}{
		{"good.com.", dns.TypeMX, secure(dns.RcodeSuccess)},
		{"mx.good.com.", dns.TypeA, secure(dns.RcodeSuccess)},
		{"mx.good.com.", dns.TypeAAAA, secure(dns.RcodeSuccess)},
		{"_25._tcp.mx.good.com.", dns.TypeTLSA, secure(dns.RcodeSuccess)},
		{label + "wild.good.com.", dns.TypeMX, secure(dns.RcodeSuccess)},
		{label + "hashed.com.", dns.TypeA,
			secure(map[bool]int{true: dns.RcodeSuccess, false: dns.RcodeNameError}[label == ""])},
		{label + "wild.insecure.com.", dns.TypeMX, insecure(dns.RcodeSuccess)},
		{"big.com.", dns.TypeTXT, secure(dns.RcodeSuccess)},
	} {
		r := ask(t, server, q.name, q.qtype)
		if got := seen(r); got != q.want {
			t.Errorf("%s %s: %s, want %s; %v", q.name, dns.Type(q.qtype), got, q.want, sentences(r))
		}
	}
}

// settles counts the goroutines. The function that it returns waits until there are no more than that.
func settles(t *testing.T) func() {
	t.Helper()
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(),
					stacks[:runtime.Stack(stacks, true)])
			}
		}
	}
}
