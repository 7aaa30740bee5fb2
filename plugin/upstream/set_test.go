package upstream

import (
	"context"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/world"
)

// S-14: an RCODE that is no answer sends the question to the next upstream at once, once to each.
func TestBadRcodeGoesToTheNext(t *testing.T) {
	leakless(t)
	referral := func(a *asked) {
		m := a.reply()
		m.RecursionAvailable = false
		m.Ns = []dns.RR{newRR(t, "com. 300 IN NS a.gtld-servers.net.")}
		a.write(m)
	}
	for name, tt := range map[string]struct {
		handle func(*asked)
		text   string
	}{
		"SERVFAIL": {func(a *asked) { a.rcode(dns.RcodeServerFailure) }, "answered SERVFAIL"},
		"FORMERR":  {func(a *asked) { a.rcode(dns.RcodeFormatError) }, "answered FORMERR"},
		"NOTIMP":   {func(a *asked) { a.rcode(dns.RcodeNotImplemented) }, "answered NOTIMP"},
		"REFUSED":  {func(a *asked) { a.rcode(dns.RcodeRefused) }, "answered REFUSED"},
		"BADVERS":  {func(a *asked) { a.rcode(dns.RcodeBadVers) }, "answered BADVERS"},
		"unknown":  {func(a *asked) { a.rcode(3841) }, "answered RCODE 3841"},
		"referral": {referral, "answered with a referral"},
	} {
		bad, good := serve(t, tt.handle), serve(t, func(a *asked) { a.answer(theMX(t)) })
		if reply := wantMX(t, rootSet(t, bad.plain(), good.plain())); reply.Upstream != good.addr.String() {
			t.Errorf("%s: reply from %s", name, reply.Upstream)
		}
		if n := len(bad.got("udp")); n == 0 {
			t.Errorf("%s: the first was not asked", name)
		}
		both := rootSet(t, bad.plain(), serve(t, tt.handle).plain())
		_, err := exchange(t, both)
		wantFailure(t, err, dns.ExtendedErrorCodeNoReachableAuthority, bad.addr.String()+" "+tt.text, "; 127.0.0.1:")
	}
}

// S-15: the sentence tells what each upstream did, and the reason that one gave.
func TestFailureSentence(t *testing.T) {
	leakless(t)
	talkative := serve(t, func(a *asked) {
		m := a.reply()
		m.Rcode = dns.RcodeServerFailure
		m.IsEdns0().Option = []dns.EDNS0{
			&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeSignatureExpired, ExtraText: "expired\nlong ago"},
			&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeOther, ExtraText: strings.Repeat("x", 400)},
		}
		a.write(m)
	})
	gone := closedPort(t)
	_, err := exchange(t, rootSet(t, talkative.plain(), gone))
	wantFailure(t, err, dns.ExtendedErrorCodeNoReachableAuthority,
		talkative.addr.String()+` answered SERVFAIL (EDE 7 "expired\nlong ago") (EDE 0 "`+
			strings.Repeat("x", 100)+`"); `,
		gone.String()+" failed over UDP: connection refused")
	_, err = exchange(t, rootSet(t, gone))
	wantFailure(t, err, dns.ExtendedErrorCodeNetworkError)
}

// closedPort is a port on loopback where nobody listens.
func closedPort(t testing.TB) Address {
	return Address{Server: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(ports.Closed(t)))}
}

// V-14: an upstream to avoid is asked only if there is no other that works.
func TestAvoid(t *testing.T) {
	leakless(t)
	handle := func(a *asked) { a.answer(theMX(t)) }
	bogus, fine := serve(t, handle), serve(t, handle)
	refusing := serve(t, func(a *asked) { a.rcode(dns.RcodeRefused) })
	slow := serve(t, func(a *asked) {
		if a.n > 0 { // its first reply is lost: a second copy must go to itself
			handle(a)
		}
	})
	for name, tt := range map[string]struct {
		to    []Address
		avoid []*server
		want  *server
	}{
		"another works":       {[]Address{bogus.plain(), fine.plain()}, []*server{bogus}, fine},
		"another is slow":     {[]Address{bogus.plain(), slow.plain()}, []*server{bogus}, slow},
		"the other refuses":   {[]Address{refusing.plain(), bogus.plain()}, []*server{bogus}, bogus},
		"there is no other":   {[]Address{bogus.plain()}, []*server{bogus}, bogus},
		"the other is gone":   {[]Address{bogus.plain(), closedPort(t)}, []*server{bogus}, bogus},
		"that is avoided too": {[]Address{bogus.plain(), fine.plain()}, []*server{fine, bogus}, fine},
	} {
		var avoid []string
		for _, s := range tt.avoid {
			avoid = append(avoid, s.addr.String())
		}
		reply, err := rootSet(t, tt.to...).Exchange(ctxFor(t, longEnough), mxQuestion,
			fetch.Try{N: 1, CD: true, Avoid: avoid})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if reply.Upstream != tt.want.addr.String() {
			t.Errorf("%s: reply from %s, want %s", name, reply.Upstream, tt.want.addr)
		}
	}
}

// An upstream goes away: after one question it is asked last. It returns: it is tried again in time, at nobody's cost,
// and is the first again.
func TestUpstreamGoesAwayAndReturns(t *testing.T) {
	leakless(t)
	place := closedPort(t)
	second := serve(t, func(a *asked) { a.answer(theMX(t)) })
	clock, meter := world.NewClock(time.Now()), new(counts)
	set := newSet(t, Config{Routes: []Route{{".", []Address{place, second.plain()}}}, Clock: clock.Now, Meter: meter})
	from := func(want netip.AddrPort) {
		t.Helper()
		if reply := wantMX(t, set); reply.Upstream != want.String() {
			t.Errorf("reply from %s, want %s", reply.Upstream, want)
		}
	}
	from(second.addr)
	if meter.alive.Load() || meter.changed.Load() != 1 || meter.reason.Load() != Network {
		t.Errorf("the meter was told of %d changes, alive %v, reason %v", meter.changed.Load(), meter.alive.Load(),
			meter.reason.Load())
	}
	before := meter.failed.Load()
	from(second.addr)
	if meter.failed.Load() != before {
		t.Error("the dead upstream was asked again")
	}

	first := revive(t, place, func(a *asked) { a.answer(theMX(t)) })
	from(second.addr) // not due yet
	if len(first.got("udp")) != 0 {
		t.Error("the dead upstream was tried before its time")
	}
	clock.Advance(firstBackoff)
	from(second.addr) // and the first is tried on the side
	eventually(t, "the first upstream to be found alive", meter.alive.Load)
	from(first.addr)
}

// revive serves at a place where nobody listened.
func revive(t testing.TB, place Address, handle func(*asked)) *server {
	t.Helper()
	pc, l := ports.Reopen(t, place.Server.String())
	return start(t, handle, pc, l, "tcp")
}

// With one upstream only, that it was dead a moment ago keeps nobody from asking it.
func TestOnlyUpstreamReturns(t *testing.T) {
	leakless(t)
	place := closedPort(t)
	set := rootSet(t, place)
	if _, err := exchange(t, set); err == nil {
		t.Fatal("no error")
	}
	revive(t, place, func(a *asked) { a.answer(theMX(t)) })
	wantMX(t, set)
}

// Backoff doubles up to its bound, any reply ends it, and only silence in a row counts.
func TestHealth(t *testing.T) {
	changes := 0
	h := health{changed: func(bool, string) { changes++ }}
	now := time.Now()
	for range maxMissed - 1 {
		h.missing(now)
	}
	h.heard()
	for range maxMissed - 1 {
		h.missing(now)
	}
	if _, alive := h.state(); !alive || h.due(now) || changes != 0 {
		t.Error("dead though it was heard in between")
	}
	h.missing(now)
	if _, alive := h.state(); alive || h.due(now) || changes != 1 {
		t.Errorf("alive after %d questions without reply", maxMissed)
	}
	for wait := firstBackoff; wait < 4*lastBackoff; wait *= 2 {
		now = now.Add(min(wait, lastBackoff))
		if h.due(now.Add(-1)) || !h.due(now) || h.due(now) {
			t.Errorf("not due once %v later", wait)
		}
		h.broke(now, "failed over UDP")
	}
	h.heard()
	if _, alive := h.state(); !alive || changes != 2 {
		t.Error("dead though it was heard")
	}
	h.judged(true)
	h.judged(false)
	h.judged(false)
	if fit, alive := h.state(); fit || !alive || h.due(now.Add(lastBackoff)) || changes != 2 {
		t.Error("unfit is not known, or taken for dead")
	}
}

// The second copy waits as long as replies have taken, within bounds: soon on a quick path, and not for jitter, or the
// slower replies among many quick ones.
func TestPatience(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ms := func(f float64) time.Duration { return time.Duration(f * float64(time.Millisecond)) }
	// 20 ms in the median, 100 for one in twenty
	fetched := func() time.Duration { return ms(20 * math.Exp(r.NormFloat64())) }
	for name, tt := range map[string]struct {
		next        func() time.Duration
		least, most time.Duration // patience after the first and at the end
		copies      int           // of 1000 questions, at most
	}{
		"loopback": {func() time.Duration { return ms(0.5) }, quickCopy, quickCopy, 0},
		"jitter": {func() time.Duration { return ms(10 + 30*r.Float64()) }, quickCopy,
			150 * time.Millisecond, 0},
		"far": {func() time.Duration { return ms(300 + 20*r.Float64()) }, 300 * time.Millisecond,
			970 * time.Millisecond, 50},
		"all fetched": {fetched, quickCopy, lastCopy, 50},
		"half cached": {func() time.Duration { return []time.Duration{ms(0.5), fetched()}[r.IntN(2)] },
			quickCopy, lastCopy, 60},
		"mostly cached": {func() time.Duration { return []time.Duration{ms(0.5), fetched()}[max(0, r.IntN(20)-18)] },
			quickCopy, lastCopy, 20},
		"beyond bounds": {func() time.Duration { return time.Minute }, lastCopy, lastCopy, 1000},
	} {
		var h health
		if got := h.patience(); got != firstCopy {
			t.Errorf("%s: patience %v before all", name, got)
		}
		copies := 0
		for i := range 1000 {
			took := tt.next()
			if took > h.patience() && i > 0 {
				copies++
			}
			h.measured(took)
			if got := h.patience(); (i == 0 || i == 999) && (got < tt.least || got > tt.most) {
				t.Errorf("%s: patience %v after %d replies, want %v to %v", name, got, i+1, tt.least, tt.most)
			}
		}
		if copies > tt.copies {
			t.Errorf("%s: %d copies of 1000 questions, want %d at most", name, copies, tt.copies)
		}
	}
}

// The times between copies.
func TestCopyAfter(t *testing.T) {
	for _, tt := range []struct{ patience, first, second, third, fourth time.Duration }{
		{quickCopy, quickCopy, 2 * quickCopy, outage - 3*quickCopy, steadyCopies},
		{firstCopy, firstCopy, 2 * firstCopy, steadyCopies, steadyCopies},
		{600 * time.Millisecond, 600 * time.Millisecond, steadyCopies, steadyCopies, steadyCopies},
		{lastCopy, lastCopy, lastCopy, lastCopy, lastCopy},
	} {
		for n, want := range []time.Duration{tt.first, tt.second, tt.third, tt.fourth, tt.fourth} {
			if got := copyAfter(n, tt.patience); got != want {
				t.Errorf("patience %v, copy %d: after %v, want %v", tt.patience, n, got, want)
			}
		}
	}
}

// What is lost on a quick path is sent again as soon as the path is quick, however much is lost: the time of a reply is
// counted from the copy that it answers.
func TestLossDoesNotSlow(t *testing.T) {
	leakless(t)
	clock := world.NewClock(time.Now())
	s := serve(t, func(a *asked) {
		if a.network == "udp" && a.n%2 == 1 {
			clock.Advance(time.Second) // until the copy
			return
		}
		a.answer(theMX(t))
	})
	set := newSet(t, Config{Routes: []Route{{".", []Address{s.plain()}}}, Clock: clock.Now})
	for range 10 {
		wantMX(t, set)
	}
	if got := set.upstreams[0].health.patience(); got != quickCopy {
		t.Errorf("patience %v, want %v", got, quickCopy)
	}
	if n := len(s.got("udp")); n < 15 {
		t.Errorf("%d datagrams: nothing was lost", n)
	}
}

// A question that is put to a dead upstream anyway is not put to it once more, on a socket of its own, to find out
// whether it lives.
func TestDeadIsNotAskedTwice(t *testing.T) {
	leakless(t)
	var to []Address
	var servers []*server
	for range 2 {
		s := serve(t, func(*asked) {})
		servers, to = append(servers, s), append(to, s.plain())
		clock := world.NewClock(time.Now())
		set := newSet(t, Config{Routes: []Route{{".", to}}, Clock: clock.Now})
		for _, u := range set.upstreams {
			u.health.broke(clock.Now(), "failed")
		}
		clock.Advance(lastBackoff)
		before := messages(servers)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			set.Exchange(ctx, mxQuestion, fetch.Try{CD: true})
		}()
		eventually(t, "the question to arrive", func() bool { return messages(servers) > before })
		time.Sleep(firstCopy / 4)
		if n := messages(servers) - before; n != 1 {
			t.Errorf("%d dead upstreams: asked %d times at once", len(to), n)
		}
		cancel()
		<-ended
	}
}

// An upstream that falls silent is found dead though another answers soon.
func TestBeatenWithoutReplyIsMissed(t *testing.T) {
	leakless(t)
	silent := serve(t, func(a *asked) {
		if a.n == 0 {
			a.answer(theMX(t))
		}
	})
	other := serve(t, func(a *asked) { a.answer(theMX(t)) })
	meter := new(counts)
	set := newSet(t, Config{Routes: []Route{{".", []Address{silent.plain(), other.plain()}}}, Meter: meter})
	for range 1 + maxMissed {
		wantMX(t, set)
	}
	eventually(t, "the silent upstream to count as dead",
		func() bool { return meter.changed.Load() == 1 && !meter.alive.Load() })
	before := len(silent.got("udp"))
	wantMX(t, set)
	if len(silent.got("udp")) != before {
		t.Error("the dead upstream was asked again")
	}
}

// The longest FROM wins, whatever the order; DS is asked above the cut, as it is data of the parent (V-8).
func TestRoutes(t *testing.T) {
	leakless(t)
	handle := func(a *asked) { answerOwn(t, a) }
	root, corp, lab := serve(t, handle), serve(t, handle), serve(t, handle)
	set := newSet(t, Config{Routes: []Route{
		{"Corp.Example", []Address{corp.plain()}},
		{".", []Address{root.plain()}},
		{"lab.corp.example.", []Address{lab.plain(), lab.plain()}},
	}})
	for _, tt := range []struct {
		name  string
		qtype uint16
		want  *server
	}{
		{".", dns.TypeMX, root}, {".", dns.TypeDS, root}, {"example.", dns.TypeMX, root},
		{"example.", dns.TypeDS, root},
		{"notcorp.example.", dns.TypeMX, root},
		{"corp.example.", dns.TypeMX, corp}, {"corp.example.", dns.TypeDNSKEY, corp},
		{"corp.example.", dns.TypeDS, root},
		{"a.corp.example.", dns.TypeDS, corp}, {"lab.corp.example.", dns.TypeDS, corp},
		{"lab.corp.example.", dns.TypeMX, lab}, {"x.y.lab.corp.example.", dns.TypeMX, lab},
		{"x.lab.corp.example.", dns.TypeDS, lab},
	} {
		reply, err := set.Exchange(ctxFor(t, longEnough), question(tt.name, tt.qtype), fetch.Try{})
		if err != nil {
			t.Fatal(err)
		}
		if reply.Upstream != tt.want.addr.String() {
			t.Errorf("%s %s went to %s, want %s", tt.name, dns.Type(tt.qtype), reply.Upstream, tt.want.addr)
		}
	}
}

// S-21: private zones are asked of the next plugin, whatever the routes say; it is no upstream otherwise.
func TestPrivateZones(t *testing.T) {
	leakless(t)
	public := serve(t, func(a *asked) { answerOwn(t, a) })
	next := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg).SetReply(r)
		return dns.RcodeSuccess, w.WriteMsg(m)
	})
	set := newSet(t, Config{
		Routes: []Route{{".", []Address{public.plain()}}, {"lab.corp.example.", []Address{public.plain()}}},
		Next:   next, Private: []string{"corp.example."},
	})
	for name, private := range map[string]bool{
		"example.": false, "xcorp.example.": false, "corp.example.": true, "a.corp.example.": true,
		"lab.corp.example.": true,
	} {
		reply, err := set.Exchange(ctxFor(t, longEnough), question(name, dns.TypeMX), fetch.Try{})
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.Upstream != public.addr.String(); got != private {
			t.Errorf("%s went to %s", name, reply.Upstream)
		}
	}
	if n := len(set.States()); n != 1 {
		t.Errorf("%d upstreams are told of", n)
	}
}

// A name that nobody is responsible for.
func TestNoRoute(t *testing.T) {
	leakless(t)
	set := newSet(t, Config{Routes: []Route{{"example.net", []Address{{}}}}})
	_, err := exchange(t, set)
	wantFailure(t, err, dns.ExtendedErrorCodeNoReachableAuthority, "there is no upstream to ask and no plugin below")
}

// Each fault of a configuration is an error that names it.
func TestNewErrors(t *testing.T) {
	to := []Address{{}}
	for _, tt := range []struct {
		config Config
		text   string
	}{
		{Config{EDNSSize: 511}, "EDNS size 511: give one of 512 to 4096"},
		{Config{EDNSSize: 4097}, "EDNS size 4097"},
		{Config{Routes: []Route{{"", to}}}, `upstream ""`},
		{Config{Routes: []Route{{"a..b", to}}}, `upstream "a..b"`},
		{Config{Routes: []Route{{".", nil}}}, "at least one address"},
		{Config{Routes: []Route{{"example", to}, {"Example.", to}}}, "upstream example. is given twice"},
	} {
		if _, err := New(usually(tt.config)); err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%+v: got %v, want %q", tt.config, err, tt.text)
		}
	}
}

// The same address in two routes is one upstream with one state.
func TestSharedUpstream(t *testing.T) {
	leakless(t)
	a := Address{}
	set := newSet(t, Config{Routes: []Route{{".", []Address{a}}, {"example", []Address{a}}}})
	if n := len(set.upstreams); n != 1 {
		t.Errorf("%d upstreams, want 1", n)
	}
}

// S-27: a panic over one reply fails that question only.
func TestPanicIsContained(t *testing.T) {
	leakless(t)
	set := newSet(t, Config{Routes: []Route{{".", []Address{{}}}}})
	set.upstreams[0].carrier = panicking{}
	_, err := exchange(t, set)
	wantFailure(t, err, dns.ExtendedErrorCodeInvalidData, "met an internal error of danelaw")
}

type panicking struct{ carrier }

func (panicking) close() {}

// A question without reply counts once, however many copies of it there are; several in a row make an upstream dead.
func TestMissedQuestionsCountOnce(t *testing.T) {
	leakless(t)
	clock := world.NewClock(time.Now())
	silent := serve(t, func(*asked) { clock.Advance(firstCopy) })
	meter := new(counts)
	set := newSet(t, Config{Routes: []Route{{".", []Address{silent.plain()}}}, Clock: clock.Now, Meter: meter})
	for i := range maxMissed {
		if meter.changed.Load() != 0 {
			t.Errorf("dead after %d questions", i)
		}
		before := len(silent.got("udp"))
		ctx, cancel := context.WithTimeout(t.Context(), longEnough)
		ended := make(chan error)
		go func() {
			_, err := set.Exchange(ctx, mxQuestion, fetch.Try{})
			ended <- err
		}()
		eventually(t, "two copies", func() bool { return len(silent.got("udp")) >= before+2 })
		cancel()
		wantFailure(t, <-ended, dns.ExtendedErrorCodeNoReachableAuthority)
		eventually(t, "the question to be noted", func() bool { return missed(set.upstreams[0]) == i+1 })
	}
	eventually(t, "the upstream to count as dead",
		func() bool { return meter.changed.Load() == 1 && !meter.alive.Load() })
}

// missed tells how many questions in a row are noted as missed.
func missed(u *upstream) int {
	u.health.mu.Lock()
	defer u.health.mu.Unlock()
	return u.health.missed
}

// L-12, L-6a: our own bound is a limit, and no fault of the upstream.
func TestBusyIsALimit(t *testing.T) {
	f := failure(mxQuestion, []outcome{{"192.0.2.1:53", errBusy}})
	if !f.Limit() || f.Code != dns.ExtendedErrorCodeOther ||
		!strings.Contains(f.Text, "192.0.2.1:53 has 16384 questions outstanding") {
		t.Errorf("got %+v", f)
	}
	meter := new(counts)
	set := newSet(t, Config{Routes: []Route{{".", []Address{{}}}}, Meter: meter})
	set.upstreams[0].learn(theQuery, errBusy, time.Now())
	if _, alive := set.upstreams[0].health.state(); !alive || meter.reason.Load() != Busy {
		t.Errorf("alive %v, counted as %v", alive, meter.reason.Load())
	}
}

// L-12, L-6a: that this host has no more sockets is a limit, and kills no upstream.
func TestOutOfSocketsIsALimit(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS,
		syscall.ENOMEM, syscall.EADDRINUSE} {
		err := &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", errno)}
		f := unreachable("could not be asked over UDP", err)
		set := newSet(t, Config{Routes: []Route{{".", []Address{{}}}}})
		set.upstreams[0].learn(theQuery, f, time.Now())
		if _, alive := set.upstreams[0].health.state(); !alive || f.reason != Busy {
			t.Errorf("%v: alive %v, counted as %v", errno, alive, f.reason)
		}
		if of := failure(mxQuestion, []outcome{{"192.0.2.1:53", f}}); !of.Limit() ||
			!strings.Contains(of.Text, errno.Error()) {
			t.Errorf("%v: %+v", errno, of)
		}
	}
	if f := unreachable("failed", &net.OpError{Op: "dial",
		Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}); f.reason != Network {
		t.Errorf("connection refused counts as %v", f.reason)
	}
}

// Equal codes are kept, different ones are EDE 22 (S-15).
func TestFailureCode(t *testing.T) {
	network, invalid := faultf(Network, "a"), faultf(Invalid, "b")
	for _, tt := range []struct {
		faults []*fault
		want   uint16
	}{
		{[]*fault{network}, 23}, {[]*fault{network, network}, 23}, {[]*fault{invalid}, 24}, {[]*fault{nil}, 22},
		{[]*fault{network, invalid}, 22},
		{[]*fault{network, invalid, network}, 22}, {[]*fault{faultf(Refusal, "c"), nil}, 22},
	} {
		var outcomes []outcome
		for _, f := range tt.faults {
			outcomes = append(outcomes, outcome{"192.0.2.1:53", f})
		}
		if f := failure(mxQuestion, outcomes); f.Code != tt.want {
			t.Errorf("%q is EDE %d, want %d", f.Text, f.Code, tt.want)
		}
	}
	f := failure(mxQuestion, slices.Repeat([]outcome{{"192.0.2.1:53", network}}, 2))
	if f.Text != "example.com. MX: 192.0.2.1:53 a; 192.0.2.1:53 a" {
		t.Errorf("got %q", f.Text)
	}
}
