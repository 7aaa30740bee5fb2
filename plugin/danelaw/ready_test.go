package danelaw

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// dial is a clock that can be set.
type dial struct{ offset atomic.Int64 }

func (d *dial) now() time.Time { return time.Now().Add(time.Duration(d.offset.Load())) }

func (d *dial) set(t time.Time) { d.offset.Store(int64(time.Until(t))) }

// started returns a Handler that finds out whether it is ready.
func started(t testing.TB, c Config) *Handler {
	t.Helper()
	h := open(t, c)
	h.Start()
	return h
}

// TestReady: with anchor, clock and upstream in order danelaw is ready at once (T-13, S-13), and stays so when the
// upstream is lost (S-25). It answers before, too (S-13a).
func TestReady(t *testing.T) {
	p := between(t, honest)
	book := logged(t)
	h := open(t, config(t, p.addr))
	server := serve(t, h)
	if h.Ready() {
		t.Error("ready before anything was tried")
	}
	if r := ask(t, server, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("before it is ready: %s", describes(r))
	}
	h.Start()
	eventually(t, "ready", h.Ready)
	p.become(servfail)
	h.readiness.attempt(context.Background())
	if !h.Ready() {
		t.Error("not ready any more without an upstream (S-25)")
	}
	if r := ask(t, server, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("cached, without an upstream: %s", describes(r))
	}
	if text := book.String(); !strings.Contains(text, "ready: trust anchor, clock and upstream are in order") ||
		!strings.Contains(text, "is not fit for validation") {
		t.Errorf("log:\n%s", text)
	}
	if fit := metric(t, "upstream_fit", "block", h.config.Block); fit != 0 {
		t.Errorf("upstream_fit is %v", fit)
	}
}

// TestStartsBeforeNetwork: danelaw becomes ready with the network, though nothing was there when it started (T-13).
func TestStartsBeforeNetwork(t *testing.T) {
	p := between(t, servfail)
	h := started(t, config(t, p.addr))
	server := serve(t, h)
	r := ask(t, server, secureMX, dns.TypeMX, withDO)
	if codes := edes(r); r.Rcode != dns.RcodeServerFailure || h.Ready() || len(codes) == 0 {
		t.Errorf("without upstream: %s, ready %v", describes(r), h.Ready())
	}
	eventually(t, "a reason", func() bool {
		return strings.Contains(h.readiness.obstacle.Load().Text, "no upstream is fit")
	})
	p.become(honest)
	eventually(t, "ready", h.Ready)
	if r := ask(t, server, "good.dane.", dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("when it is ready: %s", describes(r))
	}
}

// TestWrongAnchor: with an anchor that no key of the zone matches danelaw does not become ready, and what rests on that
// anchor is SERVFAIL with EDE 14 (T-13); what rests on another is answered (S-13a).
func TestWrongAnchor(t *testing.T) {
	c := config(t)
	wrong := *lab().DS()[0]
	wrong.KeyTag, wrong.Digest = wrong.KeyTag^1, strings.Repeat("00", 32)
	c.Anchors["."] = []*dns.DS{&wrong}
	h := started(t, c)
	server := serve(t, h)
	eventually(t, "a reason", func() bool {
		return strings.Contains(h.readiness.obstacle.Load().Text, ".: ")
	})
	for _, want := range [][]uint16{{9, 14}, {9, 14, 13}} {
		r := ask(t, server, secureMX, dns.TypeMX, withDO)
		if r.Rcode != dns.RcodeServerFailure || !slices.Equal(edes(r), want) {
			t.Errorf("%s, want %v", describes(r), want)
		}
	}
	if h.Ready() || metric(t, "ready", "block", c.Block) != 0 {
		t.Error("ready")
	}

	c = config(t)
	c.Block += " two"
	keys := ask(t, server, "rsasha256.dane.", dns.TypeDNSKEY, withDO, withCD)
	for _, rr := range keys.Answer {
		if key, ok := rr.(*dns.DNSKEY); ok {
			c.Anchors["rsasha256.dane."] = append(c.Anchors["rsasha256.dane."], key.ToDS(dns.SHA256))
		}
	}
	c.Anchors["."] = []*dns.DS{&wrong}
	h = started(t, c)
	server = serve(t, h)
	if r := ask(t, server, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("below the anchor that works: %s", describes(r))
	}
	if r := ask(t, server, "good.dane.", dns.TypeMX, withDO); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("below the other: %s", describes(r))
	}
	eventually(t, "ready, as one anchor works", h.Ready)
}

// TestUnsupportedAnchor: danelaw with a trust anchor of a zone that no supported one is left of starts, says so, and
// takes the zone for unsigned (T-15, V-40), whether the root has an anchor or not; all others are validated.
func TestUnsupportedAnchor(t *testing.T) {
	const point = "good.dane. DS 1 12 2 0000000000000000000000000000000000000000000000000000000000000000"
	anchors := filepath.Join(t.TempDir(), "point")
	if err := os.WriteFile(anchors, []byte(point+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, with := range []string{anchorFile(t), ""} {
		book := logged(t)
		c := startCoreDNS(t, blockOf(".:0", "upstream . "+lab().Addr()+"\ntrust_anchor "+anchors+" "+with, ""))
		for _, line := range []string{
			"point:1: trust anchor 1 of good.dane. is left out: algorithm 12 is not supported",
			"none of its trust anchors is supported: good.dane.: signed with algorithm 12 only, which danelaw does " +
				"not support, so the zone counts as unsigned",
		} {
			if !strings.Contains(book.String(), line) {
				t.Errorf("the log lacks %q:\n%s", line, book)
			}
		}
		for _, name := range []string{"good.dane.", "_25._tcp.mx1.good.dane."} {
			r := c.ask(name, dns.TypeTLSA, withDO)
			if r.Rcode != dns.RcodeSuccess || r.AuthenticatedData ||
				!slices.Equal(edes(r), []uint16{dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm}) {
				t.Errorf("%s: %s", name, describes(r))
			}
		}
		if r := c.ask(secureMX, dns.TypeMX, withDO); r.AuthenticatedData != (with != "") {
			t.Errorf("elsewhere: %s", describes(r))
		}
		eventually(t, "ready", process.newest()["dns://.:0"].Ready)
		if got := process.newest()["dns://.:0"].status(time.Now()).Anchors["good.dane."]; len(got) > 0 {
			t.Errorf("in use are %v", got)
		}
		c.stop()
	}
	root := config(t)
	root.Anchors["."] = []*dns.DS{records(t, strings.TrimPrefix(point, "good.dane"))[0].(*dns.DS)}
	if _, err := New(root); err == nil ||
		!strings.Contains(err.Error(), "no trust anchor of the root has a supported algorithm") {
		t.Errorf("the root: %v", err)
	}
}

// TestStrippingUpstream: an upstream that strips signatures is named in the log and danelaw is not ready (S-13), all is
// Bogus (V-13); but a fit upstream beside it answers everything, and danelaw is ready.
func TestStrippingUpstream(t *testing.T) {
	book := logged(t)
	p := between(t, stripped)
	h := started(t, config(t, p.addr))
	eventually(t, "the log names the upstream", func() bool {
		return strings.Contains(book.String(), "upstream "+p.addr+" is not fit for validation") &&
			strings.Contains(book.String(), "strips RRSIGs")
	})
	r := ask(t, serve(t, h), secureMX, dns.TypeMX, withDO)
	if r.Rcode != dns.RcodeServerFailure || h.Ready() || edes(r)[0] != dns.ExtendedErrorCodeRRSIGsMissing {
		t.Errorf("stripped: %s, ready %v", describes(r), h.Ready())
	}
	if r := ask(t, serve(t, h), insecureMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("stripped, an unsigned zone whose proof is lost: %s", describes(r))
	}

	c := config(t, p.addr, lab().Addr())
	c.Block += " two"
	h = started(t, c)
	eventually(t, "ready with one fit upstream", h.Ready)
	server := serve(t, h)
	for _, d := range lab().Domains()[:12] {
		for _, q := range d.Questions {
			check(t, "one of two strips: "+q.Name, q, ask(t, server, q.Name, q.Type, withDO), false)
		}
	}
}

// TestWrongClock: a clock that stands in 1970 keeps danelaw from being ready, and the failures say why (T-14). Ten
// seconds after it is set all is right, failures that were remembered included.
func TestWrongClock(t *testing.T) {
	book := logged(t)
	clock := new(dial)
	clock.set(time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC))
	c := config(t)
	c.Clock = clock.now
	h := started(t, c)
	server := serve(t, h)
	eventually(t, "a reason", func() bool {
		return strings.Contains(h.readiness.obstacle.Load().Text, "check this host's clock: it is 1970-01-01T00:05")
	})
	for range 3 {
		r := ask(t, server, secureMX, dns.TypeMX, withDO)
		if r.Rcode != dns.RcodeServerFailure || edes(r)[0] != dns.ExtendedErrorCodeSignatureNotYetValid || h.Ready() {
			t.Errorf("in 1970: %s, ready %v", describes(r), h.Ready())
		}
		if !slices.Contains(edes(r), dns.ExtendedErrorCodeNotReady) ||
			!strings.Contains(textOf(r), "check this host's clock") {
			t.Errorf("in 1970: %s", describes(r))
		}
	}
	clock.set(time.Now())
	eventually(t, "right again", func() bool {
		return ask(t, server, secureMX, dns.TypeMX, withDO).AuthenticatedData
	})
	eventually(t, "ready", h.Ready)
	if !strings.Contains(book.String(), "the clock was set by") {
		t.Errorf("log:\n%s", book)
	}
}

// TestRightInTime: danelaw is right within 10 s of the clock being set, what it remembers of before included (T-14).
func TestRightInTime(t *testing.T) {
	clock := new(dial)
	far(t, func(c *Config) {
		clock.set(time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC))
		c.Clock = clock.now
	}, func(t *testing.T, h *Handler, _ *distant) {
		h.readiness.built = bubbleTime()
		h.Start()
		mta := from("127.0.0.1:5300")
		for range 10 { // so that long ones are between the attempts
			if r := mta.ask(t, h, "example.com.", dns.TypeMX, withDO); r.AuthenticatedData || h.Ready() {
				t.Errorf("in 1970: %s, ready %v", describes(r), h.Ready())
			}
			time.Sleep(time.Minute)
		}
		clock.set(time.Now())
		time.Sleep(10 * time.Second)
		if r := mta.ask(t, h, "example.com.", dns.TypeMX, withDO); !r.AuthenticatedData || !h.Ready() {
			t.Errorf("10 s later: %s, ready %v", describes(r), h.Ready())
		}
	})
}

// TestReadyInTime: what keeps danelaw from being ready is known within a second, and tried again after 1, 2, 4 and so
// on up to 60 s (T-13).
func TestReadyInTime(t *testing.T) {
	for _, tt := range []struct{ away, within time.Duration }{
		{0, time.Second}, {2 * time.Second, 2 * time.Second}, {5 * time.Second, 4 * time.Second},
		{time.Hour, time.Minute},
	} {
		far(t, nil, func(t *testing.T, h *Handler, d *distant) {
			h.readiness.built = bubbleTime()
			h.readiness.early.Store(false)
			d.Spoil(func(dns.Question, *dns.Msg) *dns.Msg { return nil })
			defer d.Spoil(nil)
			h.Start()
			time.Sleep(time.Second)
			if f := h.readiness.obstacle.Load(); !strings.Contains(f.Text, "no upstream is fit") || h.Ready() {
				t.Errorf("without upstream: %s, ready %v", f.Text, h.Ready())
			}
			time.Sleep(tt.away)
			d.Spoil(nil)
			time.Sleep(tt.within + time.Second) // which attempts take
			if !h.Ready() {
				t.Errorf("%v after an upstream that was away for %v: %s", tt.within, tt.away,
					h.readiness.obstacle.Load().Text)
			}
		})
	}
}

// TestClockBeforeBuild: one second before the build date is too early, the date itself is not, and validation_time
// makes it not matter (T-14).
func TestClockBeforeBuild(t *testing.T) {
	for _, tt := range []struct {
		clock time.Time
		fixed bool
		ready bool
	}{
		{BuildDate().Add(-time.Second), false, false},
		{BuildDate(), false, true},
		{time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), true, true},
	} {
		c := config(t)
		c.Block += fmt.Sprint(tt)
		c.Clock = func() time.Time { return tt.clock }
		if tt.fixed {
			c.ValidationTime = time.Now()
		}
		h := open(t, c)
		h.readiness.prime = primed(nil)
		if h.readiness.attempt(context.Background()); h.Ready() != tt.ready {
			t.Errorf("%+v: ready %v: %s", tt, h.Ready(), h.readiness.obstacle.Load().Text)
		}
		h.memory.ready.Store(false)
	}
}

func primed(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

func fitted(reports func() []upstream.Report) func(context.Context, []string) []upstream.Report {
	return func(context.Context, []string) []upstream.Report { return reports() }
}

// TestJump: a step of the clock is one that time passing does not explain, either way; then failures are forgotten and
// all is tried again.
func TestJump(t *testing.T) {
	h := open(t, config(t))
	r := h.readiness
	for _, tt := range []struct {
		step   time.Duration
		forget bool
	}{
		{0, false}, {time.Second, false}, {-1999 * time.Millisecond, false}, {2 * time.Second, true},
		{-2 * time.Second, true}, {50 * 365 * 24 * time.Hour, true},
	} {
		h.resolver.Resolve(context.Background(), dns.Question{Name: bogusMX, Qtype: dns.TypeMX, Qclass: dns.ClassINET})
		r.look(time.Now(), tt.step)
		a := h.resolver.Resolve(context.Background(), dns.Question{Name: bogusMX, Qtype: dns.TypeMX,
			Qclass: dns.ClassINET})
		if a.Cached == tt.forget {
			t.Errorf("step %v: failure cached %v", tt.step, a.Cached)
		}
		again := false
		select {
		case <-r.again:
			again = true
		default:
		}
		if again != tt.forget {
			t.Errorf("step %v: tried again %v", tt.step, again)
		}
	}
	r.look(time.Now(), time.Hour)
	r.look(time.Now(), time.Hour) // while an attempt is due already
	r.look(time.Unix(0, 0), 0)
	if !r.early.Load() {
		t.Error("1970 is not early")
	}
}

// TestReadinessReports: what is wrong with an upstream is logged when it changes, and not at every test.
func TestReadinessReports(t *testing.T) {
	book := logged(t)
	r := open(t, config(t)).readiness
	bad := upstream.Report{Upstream: "192.0.2.1:53", Faults: []string{"192.0.2.1:53 strips RRSIGs"}}
	half := upstream.Report{Upstream: "192.0.2.1:53", Fit: true,
		Faults: []string{"192.0.2.1:53 does not know corp.example."}}
	good := upstream.Report{Upstream: "192.0.2.1:53", Fit: true}
	for _, tt := range []struct {
		report upstream.Report
		want   string
	}{
		{good, ""}, {good, ""},
		{bad, "upstream 192.0.2.1:53 is not fit for validation, and asked last: 192.0.2.1:53 strips RRSIGs"}, {bad, ""},
		{half, "upstream 192.0.2.1:53 is fit for validation, but not for all trust anchors: "}, {half, ""},
		{good, "upstream 192.0.2.1:53 is fit for validation again"}, {good, ""},
	} {
		before := book.String()
		r.log(tt.report)
		if said := strings.TrimPrefix(book.String(), before); (said == "") != (tt.want == "") ||
			!strings.Contains(said, tt.want) {
			t.Errorf("%+v: logged %q, want %q", tt.report, said, tt.want)
		}
	}
	r.fit = fitted(func() []upstream.Report { return []upstream.Report{bad} })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := book.String()
	if r.test(ctx); book.String() != before {
		t.Errorf("logged while it ends: %s", book)
	}
}

// TestReadinessSurvives: a panic in the background ends neither danelaw nor its attempts (S-27), and what failed is
// told.
func TestReadinessSurvives(t *testing.T) {
	book := logged(t)
	h := open(t, config(t))
	r := h.readiness
	fit := r.fit
	r.fit = fitted(func() []upstream.Report { panic("boom") })
	if r.attempt(context.Background()) || !strings.Contains(book.String(), "panic in the background: boom") {
		t.Errorf("log: %s", book)
	}
	r.fit = fit
	r.prime = primed(errors.New("no key matches"))
	for range 2 {
		if r.attempt(context.Background()) || h.Ready() {
			t.Error("ready without an anchor")
		}
	}
	if n := strings.Count(book.String(), "not ready: no key matches"); n != 1 {
		t.Errorf("logged %d times: %s", n, book)
	}
}

// TestExplain: the obstacle is told beside the failure of an anchor, and beside no other.
func TestExplain(t *testing.T) {
	h := open(t, config(t))
	key := &dnssec.Failure{Anchor: true, Code: 9, Zone: ".", Type: dns.TypeDNSKEY, Text: "."}
	other := &dnssec.Failure{Code: 9, Zone: "example.", Type: dns.TypeDNSKEY, Text: "example."}
	data := &dnssec.Failure{Code: 6, Zone: ".", Type: dns.TypeNS, Text: "."}
	for _, tt := range []struct {
		notes []*dnssec.Failure
		want  int
	}{{nil, 0}, {[]*dnssec.Failure{other}, 1}, {[]*dnssec.Failure{data}, 1}, {[]*dnssec.Failure{key}, 2},
		{[]*dnssec.Failure{key, other}, 3}} {
		if got := h.readiness.explain(tt.notes); len(got) != tt.want || tt.want > 1 &&
			got[1].Code != dns.ExtendedErrorCodeNotReady {
			t.Errorf("%v: %v", tt.notes, got)
		}
	}
	h.memory.ready.Store(true)
	if got := h.readiness.explain([]*dnssec.Failure{key}); len(got) != 1 {
		t.Errorf("when it is ready: %v", got)
	}
}

// TestBuildDate: the date that was linked in wins; without any it is not later than the commit.
func TestBuildDate(t *testing.T) {
	defer func(old string) { buildDate = old }(buildDate)
	buildDate = "1700000000"
	if d := BuildDate(); !d.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("%v", d)
	}
	for _, buildDate = range []string{"", "yesterday"} {
		if d := BuildDate(); d.Before(time.Date(2024, 7, 18, 0, 0, 0, 0, time.UTC)) || d.After(time.Now()) {
			t.Errorf("%v", d)
		}
	}
}
