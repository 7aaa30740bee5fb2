package resolve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// serviceZone has hosts with and without TLSA records, and one with a record for another port.
const serviceZone = `@ SOA ns. h. 1 7200 3600 86400 300
@ NS ns.
@ MX 10 mx
@ MX 20 none
@ MX 30 other
mx A 192.0.2.1
_25._tcp.mx TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000
none A 192.0.2.2
other A 192.0.2.3
_443._tcp.other TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000`

// served returns a resolver whose world has the service zone at svc.com., behind servers that do to questions for TLSA
// what fails says.
func served(t *testing.T, use reuse.Use, sign func(*world.Tree), fails rule, change func(*Config)) (*Resolver,
	*scripted.Upstream) {
	t.Helper()
	r, u, _ := setup(t, func(c *Config) {
		c.Aggressive, c.Timeout = use, 20*time.Second
		if change != nil {
			change(c)
		}
	})
	u.Tree.Add(zones.Plan{Name: "svc.com.", Text: serviceZone})
	if sign != nil {
		sign(u.Tree)
		u.Tree.Publish()
	}
	u.Follow(func(ctx context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
		if q.Qtype != dns.TypeTLSA {
			return fetch.Reply{}, nil, false
		}
		return fails(ctx, u, q)
	})
	return r, u
}

// rule is what happens to a question.
type rule func(ctx context.Context, u *scripted.Upstream, q dns.Question) (fetch.Reply, error, bool)

// The ways in which servers fail.
var (
	refuses rule = func(context.Context, *scripted.Upstream, dns.Question) (fetch.Reply, error, bool) {
		return fetch.Reply{}, &dnssec.Failure{Code: dns.ExtendedErrorCodeNoReachableAuthority, Text: "REFUSED"}, true
	}
	silent rule = func(ctx context.Context, _ *scripted.Upstream, _ dns.Question) (fetch.Reply, error, bool) {
		<-ctx.Done()
		return fetch.Reply{}, context.Cause(ctx), true
	}
	unproven rule = func(_ context.Context, _ *scripted.Upstream, q dns.Question) (fetch.Reply, error, bool) {
		m := &dns.Msg{Question: []dns.Question{q}}
		m.Response = true
		return fetch.Reply{Msg: m, Upstream: "good", Size: m.Len()}, nil, true
	}
	wrongDenial rule = func(_ context.Context, u *scripted.Upstream, q dns.Question) (fetch.Reply, error, bool) {
		r := u.Reply(question("zzz.svc.com.", q.Qtype))
		r.Msg.Question = []dns.Question{q}
		return r, nil, true
	}
	ways = map[string]rule{"refuses": refuses, "silent": silent, "unproven": unproven, "wrong denial": wrongDenial}
)

// D-17: where servers fail on TLSA, a Secure denial of the name above counts, by NSEC and NSEC3, cold and with what is
// known from MX, A and AAAA, whatever is set; and never is absent what is there, or may be.
func TestServiceDenied(t *testing.T) {
	for _, tt := range []struct {
		host        string
		nsec, nsec3 int // RCODE
	}{
		{"none", dns.RcodeNameError, dns.RcodeNameError},
		{"mx", dns.RcodeServerFailure, dns.RcodeServerFailure},
		// _tcp.other is there: its NSEC covers _25, its NSEC3 nothing
		{"other", dns.RcodeNameError, dns.RcodeServerFailure},
	} {
		for way, fails := range ways {
			for _, warm := range []bool{false, true} {
				for _, nsec3 := range []bool{false, true} {
					if way == "silent" && tt.host == "other" {
						continue // takes time, and shows nothing new
					}
					t.Run(fmt.Sprintf("%s, %s, warm %v, NSEC3 %v", tt.host, way, warm, nsec3), func(t *testing.T) {
						t.Parallel()
						sign, want := (func(*world.Tree))(nil), tt.nsec
						if nsec3 {
							sign, want = withNSEC3(), tt.nsec3
						}
						patience, tries := 20*time.Second, 2
						if way == "silent" && want == dns.RcodeServerFailure { // which takes all the time there is
							patience, tries = 1500*time.Millisecond, 1
						}
						testServiceDenied(t, tt.host+".svc.com.", warm, sign, fails, want, patience, tries)
					})
				}
			}
		}
	}
}

func testServiceDenied(t *testing.T, host string, warm bool, sign func(*world.Tree), fails rule, want int,
	patience time.Duration, tries int) {
	r, _ := served(t, reuse.Off, sign, fails, nil)
	others := func() {
		expect(t, ask(r, "svc.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
		expect(t, ask(r, host, dns.TypeA), dnssec.Secure, dns.RcodeSuccess)
		expect(t, ask(r, host, dns.TypeAAAA), dnssec.Secure, dns.RcodeSuccess)
	}
	if warm {
		others()
	}
	for range tries {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		a := r.Resolve(ctx, question("_25._tcp."+host, dns.TypeTLSA))
		cancel()
		if a.Rcode != want || (a.Status == dnssec.Secure) != (want == dns.RcodeNameError) {
			t.Errorf("%v %s, want %s; notes %s", a.Status, dns.RcodeToString[a.Rcode],
				dns.RcodeToString[want], notes(a))
		}
	}
	others() // MX, A and AAAA never fail because TLSA does
}

// D-17, C-9: what is held of a wildcard's data is no denial, and with aggressive use off no answer: the failure stays.
func TestServiceOfWildcard(t *testing.T) {
	r, u := served(t, reuse.Off, nil, refuses, nil)
	u.Tree.Plan("svc.com.").Text += "\n*.wild TLSA 3 1 1 00"
	u.Tree.Publish()
	u.First(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		return u.Reply(q), nil, q.Name == "_25._tcp.held.wild.svc.com."
	})
	expect(t, ask(r, "_25._tcp.held.wild.svc.com.", dns.TypeTLSA), dnssec.Secure, dns.RcodeSuccess)
	expect(t, ask(r, "_25._tcp.other.wild.svc.com.", dns.TypeTLSA), dnssec.Indeterminate, dns.RcodeServerFailure)
}

// D-17, D-16: the failure stays where nothing is proven.
func TestServiceNotDenied(t *testing.T) {
	const name = "_25._tcp.none.svc.com."
	for title, tt := range map[string]struct {
		sign   func(*world.Tree)
		change func(*Config)
		above  rule // for the question about the name above
		asked  int  // how often that is
	}{
		"V-51: opt-out":                {sign: withNSEC3("opt-out"), asked: 1},
		"RFC 9824: compact":            {sign: compact, asked: 1},
		"D-16: below an insecure cut":  {sign: func(w *world.Tree) { w.Plan("svc.com.").Config.Unsigned = true }},
		"L-9: no question left":        {change: func(c *Config) { c.UpstreamQuestions = 1 }},
		"the name above fails too":     {above: refuses, asked: 1},
		"the name above is not denied": {above: unproven, asked: 3}, // with V-14's tries
		"a denial of another name":     {above: wrongDenial, asked: 3},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r, u := served(t, reuse.All, tt.sign, refuses, tt.change)
			u.First(func(ctx context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
				if q.Qtype == dns.TypeA && q.Name == "_tcp.none.svc.com." && tt.above != nil {
					return tt.above(ctx, u, q)
				}
				return fetch.Reply{}, nil, false
			})
			if tt.asked == 0 && title[:4] == "D-16" {
				ask(r, "svc.com.", dns.TypeMX) // the cut is known
			}
			a := ask(r, name, dns.TypeTLSA)
			if a.Rcode != dns.RcodeServerFailure || a.Status > dnssec.Bogus {
				t.Errorf("%v %s", a.Status, dns.RcodeToString[a.Rcode])
			}
			if n := u.Count("_tcp.none.svc.com. A"); (n > 0) != (tt.asked > 0) || n > max(tt.asked, 0)+1 {
				t.Errorf("the name above was asked for %d times, want %d: %v", n, tt.asked, u.Asked())
			}
		})
	}
}

// D-17, L-9: one more question, and none where the answer comes or a denial is held.
func TestServiceQuestions(t *testing.T) {
	r, u := served(t, reuse.NSEC, nil, refuses, nil)
	ask(r, "_25._tcp.none.svc.com.", dns.TypeTLSA)
	if n := u.Count("_tcp.none.svc.com. A"); n != 1 {
		t.Errorf("asked %d times: %v", n, u.Asked())
	}
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "_587._tcp.none.svc.com.", dns.TypeTLSA), dnssec.Secure, dns.RcodeNameError) // C-17
	if n := len(u.Asked()); n != 0 {
		t.Errorf("asked %v below a name that does not exist", u.Asked())
	}
	u.Follow(nil)
	expect(t, ask(r, "_25._tcp.mx.svc.com.", dns.TypeTLSA), dnssec.Secure, dns.RcodeSuccess)
	if n := u.Count("_tcp.mx.svc.com. A"); n != 0 {
		t.Errorf("asked %v although the answer came", u.Asked())
	}
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "none.svc.com.", dns.TypeAAAA), dnssec.Secure, dns.RcodeSuccess)
	quiet(t, r)
	u.Forget()
	expect(t, ask(r, "_25._tcp.none.svc.com.", dns.TypeTXT), dnssec.Secure, dns.RcodeNameError)
	if n := len(u.Asked()); n != 0 {
		t.Errorf("asked %v although a denial is held", u.Asked())
	}
}

// spent is a Meter that sums up the questions by what they are for, and the signatures checked.
type spent struct {
	roles
	signatures atomic.Int64
}

func (s *spent) Checks(w dnssec.Work) { s.signatures.Add(int64(w.Signatures + w.Known)) }

// L-6, L-9: the search for a denial is on the account of the client query that it is for: one budget of questions,
// retries and speculation, and one of signatures, whichever of the two ends.
func TestServiceIsOnOneAccount(t *testing.T) {
	for _, most := range []struct{ questions, signatures int }{{16, 128}, {6, 128}, {16, 4}} {
		meter := &spent{roles: roles{asked: map[fetch.Role]int{}}}
		r, u := served(t, reuse.All, nil, refuses, func(c *Config) {
			c.Meter, c.UpstreamQuestions, c.SignatureChecks = meter, most.questions, most.signatures
		})
		u.First(func(ctx context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
			if strings.HasPrefix(q.Name, "_tcp.") {
				return unproven(ctx, u, q)
			}
			return fetch.Reply{}, nil, false
		})
		a := ask(r, "_25._tcp.mx.svc.com.", dns.TypeTLSA)
		expect(t, a, dnssec.Indeterminate, dns.RcodeServerFailure)
		r.Close()
		asked := meter.asked
		if asked[fetch.RoleAnswer]+asked[fetch.RoleLink] > most.questions || asked[fetch.RoleWarm] > 6 ||
			asked[fetch.RoleRetry] > 10 {
			t.Errorf("%+v allowed: asked %v", most, asked)
		}
		for _, f := range r.Store.failures.below("_tcp.mx.svc.com.") {
			if f.question.Qtype == dns.TypeA && f.cause.Limit() { // L-6a: it is the client query's that is searched for
				t.Errorf("%+v allowed: remembered of the search: %v", most, f.cause)
			}
		}
		if n := meter.signatures.Load(); n > int64(most.signatures) {
			t.Errorf("%+v allowed: %d signatures checked", most, n)
		}
	}
}

// D-17: an answer that comes late, while the denial is being sought in vain, counts; and shutting down waits for
// nothing.
func TestServiceLateAnswer(t *testing.T) {
	late := func(ctx context.Context, u *scripted.Upstream, _ dns.Question) (fetch.Reply, error, bool) {
		if u.Count("* TLSA") == 1 {
			return fetch.Reply{}, errors.New("not yet"), true
		}
		for u.Count("_tcp.mx.svc.com. A") == 0 { // not before the search has begun
			select {
			case <-ctx.Done():
				return fetch.Reply{}, context.Cause(ctx), true
			case <-time.After(time.Millisecond):
			}
		}
		return fetch.Reply{}, nil, false
	}
	r, u := served(t, reuse.NSEC, nil, late, nil)
	expect(t, ask(r, "_25._tcp.mx.svc.com.", dns.TypeTLSA), dnssec.Secure, dns.RcodeSuccess)
	if u.Count("_tcp.mx.svc.com. A") == 0 {
		t.Error("no denial was sought")
	}
	r.Close()
	if a := ask(r, "_25._tcp.none.svc.com.", dns.TypeTLSA); a.Status > dnssec.Bogus {
		t.Errorf("%v after the end", a.Status)
	}
}

func TestServiceAbove(t *testing.T) {
	for name, want := range map[string]string{
		"_25._tcp.mx.example.": "_tcp.mx.example.", "_tcp.mx.example.": "", "mx.example.": "", ".": "",
		"a._25._tcp.example.": "_tcp.example.", "_25._tcp.": "_tcp.", "_25._udp.example.": "", "_25._tcpx.example.": "",
		"_25.x_tcp.example.": "",
	} {
		if got := serviceAbove(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// L-7: what must not wait is done before each signature check and each hash, and when work begins, a reply has come, or
// it is taken by whom it is for.
func TestPausesBetweenPieces(t *testing.T) {
	var pauses atomic.Int64
	meter := &spent{roles: roles{asked: map[fetch.Role]int{}}}
	r, u, _ := setup(t, func(c *Config) {
		c.Pause, c.Meter, c.Prefetch = func() { pauses.Add(1) }, meter, false
	})
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	r.Close()
	least := 2 + meter.signatures.Load() + int64(len(u.Asked()))
	if n := pauses.Load(); meter.signatures.Load() == 0 || n < least {
		t.Errorf("%d pauses, want %d at least", n, least)
	}
}
