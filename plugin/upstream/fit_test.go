package upstream

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/certificates"
)

// signedZone answers as a server of a signed zone does; leaveOut names a type of records, or "RRSIG type", that it
// strips.
func signedZone(t testing.TB, leaveOut ...string) func(*asked) {
	sig := func(owner, rrtype string) string {
		return owner + " 300 IN RRSIG " + rrtype + " 13 0 300 20300101000000 20200101000000 12345 . AAAA"
	}
	return func(a *asked) {
		q := a.msg.Question[0]
		m := a.reply()
		add := func(section *[]dns.RR, records ...string) {
			for _, r := range records {
				rr := newRR(t, r)
				what := dns.Type(rr.Header().Rrtype).String()
				if s, ok := rr.(*dns.RRSIG); ok {
					what += " " + dns.Type(s.TypeCovered).String()
				}
				if !slices.Contains(leaveOut, what) {
					*section = append(*section, rr)
				}
			}
		}
		switch q.Qtype {
		case dns.TypeDNSKEY:
			add(&m.Answer, q.Name+" 300 IN DNSKEY 257 3 13 AAAA", sig(q.Name, "DNSKEY"))
		case dns.TypeSOA:
			add(&m.Answer, q.Name+" 300 IN SOA . . 1 2 3 4 5", sig(q.Name, "SOA"))
		default:
			m.Rcode = dns.RcodeNameError
			zone := q.Name[strings.Index(q.Name, ".")+1:]
			if zone == "" {
				zone = "."
			}
			add(&m.Ns, zone+" 300 IN SOA . . 1 2 3 4 5", sig(zone, "SOA"), zone+" 300 IN NSEC aaa. NS SOA",
				sig(zone, "NSEC"))
		}
		a.write(m)
	}
}

// S-13: each step that can fail, and the sentence that names upstream and step. (T-13, S-13a: the caller reports.)
func TestFit(t *testing.T) {
	leakless(t)
	zone := signedZone(t)
	refuse := func(which func(*asked) bool) func(*asked) {
		return func(a *asked) {
			if which(a) {
				a.rcode(dns.RcodeRefused)
			} else {
				zone(a)
			}
		}
	}
	for name, tt := range map[string]struct {
		handle func(*asked)
		want   string // after the address; "" is fit
	}{
		"fit": {zone, ""},
		"strips all RRSIGs": {signedZone(t, "RRSIG DNSKEY", "RRSIG SOA", "RRSIG NSEC"),
			"strips RRSIGs: . DNSKEY came without"},
		"knows no DNSKEY":     {signedZone(t, "DNSKEY"), "does not know . DNSKEY: the answer holds none"},
		"strips those of SOA": {signedZone(t, "RRSIG SOA"), "strips RRSIGs: . SOA came without"},
		"strips NSEC": {signedZone(t, "NSEC"),
			"gives no proof that a name does not exist: [a-z]{8}. A came without NSEC and NSEC3"},
		"strips those of NSEC": {signedZone(t, "RRSIG NSEC"), "strips RRSIGs: the denial of [a-z]{8}. A came without"},
		"refuses DNSKEY": {refuse(func(a *asked) bool { return a.msg.Question[0].Qtype == dns.TypeDNSKEY }),
			"is not fit for . DNSKEY: it answered REFUSED"},
		"refuses what is not": {refuse(func(a *asked) bool { return a.msg.Question[0].Qtype == dns.TypeA }),
			"is not fit for [a-z]{8}. A: it answered REFUSED"},
		"refuses it over TCP": {refuse(func(a *asked) bool { return a.network == "tcp" }),
			"is not fit for . DNSKEY over TCP: it answered REFUSED"},
		"TCP breaks": {func(a *asked) { breakTCP(a, zone) },
			"is not fit for . DNSKEY over TCP: it failed over TCP: connection .*"},
	} {
		s := serve(t, tt.handle)
		set := rootSet(t, s.plain())
		reports := set.Fit(ctxFor(t, longEnough), []string{"."})
		if len(reports) != 1 || reports[0].Upstream != s.addr.String() || reports[0].Fit != (tt.want == "") {
			t.Errorf("%s: got %+v", name, reports)
			continue
		}
		if fit, _ := set.upstreams[0].health.state(); fit != reports[0].Fit {
			t.Errorf("%s: the report was not heeded", name)
		}
		for _, a := range slices.Concat(s.got("udp"), s.got("tcp")) {
			if !a.msg.CheckingDisabled || a.msg.IsEdns0() == nil || !a.msg.IsEdns0().Do() {
				t.Errorf("%s: asked %v", name, a.msg)
			}
		}
		if got := strings.Join(reports[0].Faults, ";"); tt.want == "" && got != "" ||
			!regexp.MustCompile("^("+regexp.QuoteMeta(s.addr.String())+" )?"+tt.want+"$").MatchString(got) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func breakTCP(a *asked, otherwise func(*asked)) {
	if a.network == "tcp" {
		a.close()
		return
	}
	otherwise(a)
}

// S-13: one zone that passes makes an upstream fit; what failed is told all the same. Upstreams that no anchor's zone
// concerns are not tested.
func TestFitOneZoneIsEnough(t *testing.T) {
	leakless(t)
	zone := signedZone(t)
	s := serve(t, func(a *asked) {
		if dns.IsSubDomain("corp.example.", a.msg.Question[0].Name) {
			a.rcode(dns.RcodeRefused)
			return
		}
		zone(a)
	})
	idle := serve(t, func(a *asked) { t.Errorf("asked %v", a.msg) })
	set := newSet(t, Config{Routes: []Route{{".", []Address{s.plain()}}, {"lab.example", []Address{idle.plain()}}}})
	reports := set.Fit(ctxFor(t, longEnough), []string{"corp.example", "."})
	want := s.addr.String() + " is not fit for corp.example. DNSKEY: it answered REFUSED"
	if len(reports) != 1 || !reports[0].Fit || !slices.Equal(reports[0].Faults, []string{want}) {
		t.Errorf("got %+v, want %q", reports, want)
	}
}

// S-13: an upstream that strips is named, asked only when the others fail, and first again as soon as it passes.
func TestUnfitIsAskedLast(t *testing.T) {
	leakless(t)
	var strips, refuses atomic.Bool
	whole, stripped := signedZone(t), signedZone(t, "RRSIG DNSKEY")
	first := serve(t, func(a *asked) {
		switch {
		case a.msg.Question[0].Qtype == dns.TypeMX:
			a.answer(theMX(t))
		case strips.Load():
			stripped(a)
		default:
			whole(a)
		}
	})
	second := serve(t, func(a *asked) {
		switch {
		case a.msg.Question[0].Qtype != dns.TypeMX:
			whole(a)
		case refuses.Load():
			a.rcode(dns.RcodeRefused)
		case a.n%2 == 0: // a lost packet: the second copy must not go to the unfit one
			a.answer(theMX(t))
		}
	})
	set := rootSet(t, first.plain(), second.plain())
	for _, tt := range []struct {
		strips, refuses bool
		want            *server
	}{{true, false, second}, {true, true, first}, {false, false, first}} {
		strips.Store(tt.strips)
		refuses.Store(tt.refuses)
		reports := set.Fit(ctxFor(t, longEnough), []string{"."})
		if len(reports) != 2 || reports[0].Fit == tt.strips || !reports[1].Fit ||
			reports[0].Upstream != first.addr.String() {
			t.Fatalf("got %+v", reports)
		}
		if states := set.States(); states[0].Fit == tt.strips || !states[1].Fit {
			t.Errorf("%+v: %+v", tt, states)
		}
		for range 2 {
			if reply := wantMX(t, set); reply.Upstream != tt.want.addr.String() {
				t.Errorf("%+v: reply from %s", tt, reply.Upstream)
			}
		}
	}
}

// An upstream that is not there fails the test with the reason, within the context; one that is named by TLS likewise.
func TestFitUnreachable(t *testing.T) {
	leakless(t)
	gone, silent := closedPort(t), serve(t, func(*asked) {})
	reports := rootSet(t, gone, silent.plain()).Fit(ctxFor(t, 500*time.Millisecond), []string{"."})
	want := []Report{
		{gone.String(), false, []string{gone.String() +
			" is not fit for . DNSKEY: it failed over UDP: connection refused"}},
		{silent.addr.String(), false, []string{silent.addr.String() +
			" is not fit for . DNSKEY: it sent no reply in time"}},
	}
	if !slices.EqualFunc(reports, want, func(a, b Report) bool {
		return a.Upstream == b.Upstream && a.Fit == b.Fit && slices.Equal(a.Faults, b.Faults)
	}) {
		t.Errorf("got %+v, want %+v", reports, want)
	}
	ca := certificates.New(t)
	s := serveTLS(t, certified(t, ca, "other.example"), signedZone(t))
	address := Address{TLS, s.addr, "dot.example", ""}
	set := newSet(t, Config{Routes: []Route{{".", []Address{address}}}, RootCAs: ca.Pool})
	if r := set.Fit(ctxFor(t, longEnough), []string{"."}); len(r) != 1 || r[0].Fit ||
		!strings.Contains(r[0].Faults[0], "other.example, not dot.example") {
		t.Errorf("got %+v", r)
	}
}

// The next plugin is tested as a whole.
func TestFitNextPlugin(t *testing.T) {
	leakless(t)
	s := serve(t, signedZone(t, "RRSIG SOA"))
	reports := nextSet(t, realForward(t, s)).Fit(ctxFor(t, longEnough), []string{"."})
	if len(reports) != 1 || !slices.Equal(reports[0].Faults,
		[]string{"next plugin (forward) strips RRSIGs: . SOA came without"}) {
		t.Errorf("got %+v", reports)
	}
	if r := nextSet(t, realForward(t, s)).Fit(context.Background(), nil); len(r) != 0 {
		t.Errorf("no zone, but %+v", r)
	}
}
