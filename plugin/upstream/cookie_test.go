package upstream

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/world"
)

const (
	serverPart    = "a1a2a3a4a5a6a7a8"
	foreignCookie = "0123456789abcdef" + serverPart
)

// odd makes the UDP side of a server out of what it does with cookies: change the good reply, and say whether to send
// it. ours is the client part of the question, "" if there was no cookie.
func odd(t testing.TB, change func(a *asked, ours string, m *dns.Msg) bool) func(*asked) {
	return func(a *asked) {
		m := a.reply()
		m.Answer = []dns.RR{theMX(t)}
		ours := cookieOf(a.msg)
		if a.network == "tcp" || change(a, ours[:min(len(ours), 2*clientCookie)], m) {
			a.write(m)
		}
	}
}

// always sends the reply with a cookie made of the client's part, if there was one.
func always(make func(ours string) string) func(*asked, string, *dns.Msg) bool {
	return func(_ *asked, ours string, m *dns.Msg) bool {
		if ours != "" {
			setCookie(m, make(ours))
		}
		return true
	}
}

// refuseOption answers a question with the option with an RCODE and nothing else; change may take more away.
func refuseOption(rcode int, change func(m *dns.Msg)) func(*asked, string, *dns.Msg) bool {
	return func(_ *asked, ours string, m *dns.Msg) bool {
		if ours != "" {
			m.Rcode, m.Answer = rcode, nil
			change(m)
		}
		return true
	}
}

// oddServers are ways to do badly with cookies, and two to do well.
var oddServers = map[string]func(a *asked, ours string, m *dns.Msg) bool{
	"knows cookies":     always(func(ours string) string { return ours + serverPart }),
	"ignores them":      func(*asked, string, *dns.Msg) bool { return true },
	"echoes ours":       always(func(ours string) string { return ours }),
	"repeats another's": always(func(string) string { return foreignCookie }),
	"repeats another's unasked": func(_ *asked, _ string,
		m *dns.Msg) bool {
		setCookie(m, foreignCookie)
		return true
	},
	"repeats another's 8 octets": always(func(string) string { return foreignCookie[:16] }),
	"sends 12 octets":            always(func(ours string) string { return ours + "a1a2a3a4" }),
	"sends 48 octets": always(func(ours string) string {
		return ours + serverPart + serverPart + serverPart + serverPart + serverPart
	}),
	"sends 3 octets":          always(func(string) string { return "010203" }),
	"is silent to the option": func(_ *asked, ours string, _ *dns.Msg) bool { return ours == "" },
	"answers FORMERR":         refuseOption(dns.RcodeFormatError, func(*dns.Msg) {}),
	"answers FORMERR with a copy": refuseOption(dns.RcodeFormatError,
		func(m *dns.Msg) { setCookie(m, foreignCookie) }),
	"answers FORMERR without OPT": refuseOption(dns.RcodeFormatError, func(m *dns.Msg) { m.Extra = nil }),
	"answers a bare FORMERR": refuseOption(dns.RcodeFormatError,
		func(m *dns.Msg) { m.Extra, m.Question = nil, nil }),
	"answers FORMERR with OPT without question": refuseOption(dns.RcodeFormatError,
		func(m *dns.Msg) { m.Question = nil }),
	"answers SERVFAIL": refuseOption(dns.RcodeServerFailure, func(*dns.Msg) {}),
	"answers a bare NOTIMP": refuseOption(dns.RcodeNotImplemented,
		func(m *dns.Msg) { m.Extra, m.Question = nil, nil }),
	"answers REFUSED":        refuseOption(dns.RcodeRefused, func(*dns.Msg) {}),
	"answers nothing":        refuseOption(dns.RcodeSuccess, func(*dns.Msg) {}),
	"answers NXDOMAIN alone": refuseOption(dns.RcodeNameError, func(*dns.Msg) {}),
	"answers nothing and echoes ours": func(_ *asked, ours string, m *dns.Msg) bool {
		if ours != "" {
			m.Answer = nil
			setCookie(m, ours)
		}
		return true
	},
	"refers to other servers": refuseOption(dns.RcodeSuccess, func(m *dns.Msg) {
		m.RecursionAvailable, m.Ns = false,
			[]dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: "com.", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "ns.com."}}
	}),
	"truncates": refuseOption(dns.RcodeSuccess, func(m *dns.Msg) { m.Truncated = true }),
	"truncates, and sends cookies unasked": func(_ *asked, ours string, m *dns.Msg) bool {
		m.Truncated = ours != ""
		setCookie(m, foreignCookie)
		return true
	},
	"knows cookies, then truncates": func(a *asked, ours string, m *dns.Msg) bool {
		if ours != "" {
			setCookie(m, ours+serverPart)
			m.Truncated = a.n > 0
		}
		return true
	},
	"answers BADCOOKIE": func(_ *asked, ours string, m *dns.Msg) bool {
		if ours != "" {
			m.Rcode, m.Answer = dns.RcodeBadCookie, nil
			setCookie(m, ours+serverPart)
		}
		return true
	},
	"answers BADCOOKIE to all": func(_ *asked, ours string, m *dns.Msg) bool {
		m.Rcode, m.Answer = dns.RcodeBadCookie, nil
		setCookie(m, ours+serverPart)
		return true
	},
	"knows cookies now and then": func(a *asked, ours string, m *dns.Msg) bool {
		if ours != "" && a.n%2 == 0 {
			setCookie(m, ours+serverPart)
		}
		return true
	},
	"echoes ours now and then": func(a *asked, ours string, m *dns.Msg) bool {
		if ours != "" {
			setCookie(m, ours+[]string{serverPart, ""}[a.n%2])
		}
		return true
	},
	"repeats another's now and then": func(a *asked, ours string, m *dns.Msg) bool {
		if ours != "" {
			setCookie(m, []string{ours, foreignCookie[:16]}[a.n%2]+serverPart)
		}
		return true
	},
	"forgets cookies": func(a *asked, ours string, m *dns.Msg) bool {
		if ours != "" && a.n == 0 {
			setCookie(m, ours+serverPart)
		}
		return true
	},
}

// learning is how many questions a server may take that does badly with cookies until all go as fast as they can: two
// of those that it does badly with, which may be every other one.
const learning = 6

// S-8: whatever a sound server does with cookies, all questions are answered, with or without TCP, alone or beside
// others, and all but the first few cost one message, so no time either. It is remembered for some minutes; then the
// usual way is tried again, on the side. None of it looks like an attack.
func TestOddCookies(t *testing.T) {
	leakless(t)
	var all sync.WaitGroup
	for name, change := range oddServers {
		if name != "answers BADCOOKIE to all" { // which needs TCP
			all.Go(func() { wantLearned(t, name+", no TCP", serveUDP(t, odd(t, change))) })
		}
		all.Go(func() { wantLearned(t, name, serve(t, odd(t, change))) })
		all.Go(func() { wantLearned(t, name+", two of them", serve(t, odd(t, change)), serve(t, odd(t, change))) })
		all.Go(func() {
			wantLearned(t, name+", beside a sound one", serve(t, odd(t, change)),
				serve(t, odd(t, oddServers["knows cookies"])))
		})
	}
	all.Wait()
}

func wantLearned(t *testing.T, name string, servers ...*server) {
	clock, meter := world.NewClock(time.Now()), new(counts)
	var to []Address
	for _, s := range servers {
		to = append(to, s.plain())
	}
	set := newSet(t, Config{Routes: []Route{{".", to}}, Clock: clock.Now, Meter: meter})
	withoutCopies(set)
	ask := func(n int, later time.Duration) (cost int) {
		before := messages(servers)
		for range n {
			clock.Advance(later)
			if reply, err := exchange(t, set); err != nil || len(reply.Msg.Answer) != 1 {
				t.Errorf("%s: %v %v", name, reply.Msg, err)
			}
		}
		return messages(servers) - before
	}
	ask(learning, 0)
	const n, spare = 8, 3 // copies all the same
	if cost := ask(n, cookieMemory/(2*n)); cost > n+spare {
		t.Errorf("%s: %d questions cost %d messages", name, n, cost)
	}
	if cost := ask(1, cookieMemory); cost > 2+spare {
		t.Errorf("%s: the question after a while cost %d messages", name, cost)
	}
	if n := meter.mismatched.Load(); n != 0 {
		t.Errorf("%s: %d mismatches", name, n)
	}
}

// withoutCopies has none sent because this machine is slow.
func withoutCopies(set *Set) {
	for _, u := range set.upstreams {
		u.health.times = roundTrips{known: true, rare: time.Second}
	}
}

// messages counts what has arrived.
func messages(servers []*server) (n int) {
	for _, s := range servers {
		n += len(s.got("udp")) + len(s.got("tcp"))
	}
	return n
}

// serveUDP serves at a port where TCP is closed.
func serveUDP(t testing.TB, handle func(*asked)) *server {
	pc, l := ports.Open(t)
	s := start(t, handle, pc, l, "tcp")
	l.Close()
	return s
}

// S-8: our 8 octets alone are no cookie: taken from a server that is not known to have any, and left out by one that
// is.
func TestEcho(t *testing.T) {
	c := cookies{clock: time.Now}
	own, reply := addr("192.0.2.1"), new(dns.Msg)
	reply.SetEdns0(1232, true)
	bare := c.option(own)
	setCookie(reply, bare.Cookie)
	if got := c.learn(bare, reply); got != right {
		t.Errorf("at first: %d, want %d", got, right)
	}
	setCookie(reply, bare.Cookie+serverPart)
	c.learn(bare, reply)
	setCookie(reply, bare.Cookie)
	if got := c.learn(c.option(own), reply); got != missing {
		t.Errorf("after a server's part: %d, want %d", got, missing)
	}
}

// S-8: a copy goes out as seems best when it does: never with a cookie again once without, and not over TCP where that
// has failed.
func TestCopiesFollowHabits(t *testing.T) {
	leakless(t)
	s := serve(t, func(*asked) {})
	for _, tt := range []struct {
		first, settled habit
		sent           bool
		want           habit
	}{
		{withCookie, withCookie, true, noCookie}, {withCookie, noCookie, true, noCookie},
		{withCookie, anyCookie, true, anyCookie},
		{withCookie, tcpAtOnce, false, withCookie}, {noCookie, tcpAtOnce, false, noCookie},
		{noCookie, withCookie, true, noCookie},
		{anyCookie, tcpAtOnce, true, anyCookie}, {anyCookie, withCookie, true, anyCookie},
		{anyCookie, noCookie, true, anyCookie},
	} {
		var r reader
		var due schedule
		d := newDatagram(s.plain(), "", Config{Clock: time.Now}, &r, &due)
		d.cookies.settle(tt.settled)
		f, err := (&asking{datagram: d, query: theQuery}).fly(tt.first, func(heard) {})
		if err != nil {
			t.Fatal(err)
		}
		sent := f.again()
		if how, abandoned := f.latest(); sent != tt.sent || how != tt.want || abandoned == tt.sent {
			t.Errorf("first %d, now %d: sent %v as %d, want %v as %d", tt.first, tt.settled, sent, how, tt.sent,
				tt.want)
		}
		f.giveUp()
		d.close()
		due.close()
		r.close()
	}
}

// S-8: what was remembered is tried again on the side; a server that has learned better gets cookies again.
func TestCookiesMended(t *testing.T) {
	leakless(t)
	var sound atomic.Bool
	s := serve(t, odd(t, func(a *asked, ours string, m *dns.Msg) bool {
		if sound.Load() && ours != "" {
			setCookie(m, ours+serverPart)
		}
		return sound.Load() || ours == ""
	}))
	clock := world.NewClock(time.Now())
	set := newSet(t, Config{Routes: []Route{{".", []Address{s.plain()}}}, Clock: clock.Now})
	wantMX(t, set)
	sound.Store(true)
	clock.Advance(cookieMemory - 1)
	wantMX(t, set)
	if got := latestCookie(s); got != "" {
		t.Errorf("sent %q to a server known to be silent to cookies", got)
	}
	clock.Advance(1)
	eventually(t, "cookies to be used again", func() bool {
		wantMX(t, set)
		return len(latestCookie(s)) == 2*clientCookie+len(serverPart)
	})
}

// latestCookie is that of the latest question.
func latestCookie(s *server) string {
	all := s.got("udp")
	return cookieOf(all[len(all)-1].msg)
}

// S-8: replies that have everything right but the cookie are not taken, and do not end the use of cookies, if the
// server's own come too. Each is counted as a mismatch (S-7).
func TestForgedCookies(t *testing.T) {
	leakless(t)
	forged := newRR(t, "example.com. 300 IN MX 10 evil.example.net.")
	for name, late := range map[string]time.Duration{"at once": 0, "later": 20 * time.Millisecond} {
		s := serveUDP(t, func(a *asked) {
			m := a.reply()
			m.Answer = []dns.RR{forged}
			setCookie(m, foreignCookie)
			a.write(m)
			time.Sleep(late)
			m.Answer = []dns.RR{theMX(t)}
			setCookie(m, cookieOf(a.msg)[:2*clientCookie]+serverPart)
			a.write(m)
		})
		meter := new(counts)
		set := newSet(t, Config{Routes: []Route{{".", []Address{s.plain()}}}, Meter: meter})
		withoutCopies(set)
		const n = 10
		for range n {
			wantMX(t, set)
		}
		if got := latestCookie(s); len(got) != 2*clientCookie+len(serverPart) {
			t.Errorf("%s: cookie %q at the end", name, got)
		}
		if got := meter.mismatched.Load(); got != n {
			t.Errorf("%s: %d mismatches, want %d", name, got, n)
		}
	}
}

// S-8: if every datagram that comes is forged, without a cookie or with another's, a server known for its cookies is
// asked over TCP, and so is one that sends cookies nobody asked for.
func TestForgedThroughout(t *testing.T) {
	leakless(t)
	forged := newRR(t, "example.com. 300 IN MX 10 evil.example.net.")
	var attacked atomic.Bool
	s := serve(t, func(a *asked) {
		m := a.reply()
		m.Answer = []dns.RR{theMX(t)}
		if ours := cookieOf(a.msg); !attacked.Load() && ours != "" {
			setCookie(m, ours[:2*clientCookie]+serverPart)
		} else if a.network == "udp" {
			m.Answer = []dns.RR{forged}
			setCookie(m, foreignCookie)
		}
		a.write(m)
	})
	set := rootSet(t, s.plain())
	wantMX(t, set)
	attacked.Store(true)
	for range 6 {
		wantMX(t, set)
	}
}

// S-8: silence is no reason to take replies without a cookie from a server known for its cookies, unless it lasts:
// whoever can keep it from answering could forge at leisure.
func TestSilenceOfOneWithCookies(t *testing.T) {
	c := cookies{clock: time.Now}
	clock := world.NewClock(time.Now())
	c.clock = clock.Now
	own := addr("192.0.2.1")
	reply := new(dns.Msg)
	reply.SetEdns0(1232, true)
	setCookie(reply, c.option(own).Cookie+serverPart)
	if c.learn(c.option(own), reply) != right {
		t.Fatal("the server's part was not learned")
	}
	for _, tt := range []struct {
		after time.Duration
		want  habit
	}{{0, withCookie}, {longSilence / 2, withCookie}, {longSilence / 2, noCookie}} {
		clock.Advance(tt.after)
		c.unheard(withCookie)
		for _, again := range []bool{false, true} {
			if how, _ := c.choose(again); how != tt.want {
				t.Errorf("after %v more: asks as %d, want %d", tt.after, how, tt.want)
			}
		}
	}
}

// S-8: errors are put down to the option seldom where it is known to be borne, and never where it was read.
func TestErrorsCostLittle(t *testing.T) {
	leakless(t)
	for name, tt := range map[string]struct {
		server string
		most   int
	}{"with cookies": {serverPart, 20}, "without": {"", 25}} {
		s := serve(t, func(a *asked) {
			m := a.reply()
			if ours := cookieOf(a.msg); ours != "" {
				setCookie(m, ours[:2*clientCookie]+tt.server)
			}
			m.Rcode = dns.RcodeServerFailure
			a.write(m)
		})
		set := rootSet(t, s.plain())
		for range 20 {
			_, err := exchange(t, set)
			wantFailure(t, err, dns.ExtendedErrorCodeNoReachableAuthority, "answered SERVFAIL")
		}
		if n := len(s.got("udp")); n > tt.most {
			t.Errorf("%s: %d messages for 20 questions, want %d at most", name, n, tt.most)
		}
		if got := latestCookie(s); name == "with cookies" && len(got) != 2*clientCookie+len(serverPart) {
			t.Errorf("%s: cookie %q at the end", name, got)
		}
	}
}

// V-14, S-8: what a reply was of no use for may be the cookie: a further try goes without, or over TCP where the server
// is relied upon to send its own, and with it only if there is no TCP.
func TestFurtherTriesGoAnotherWay(t *testing.T) {
	leakless(t)
	lame := func(a *asked, ours string, m *dns.Msg) bool { // answers something else to the option
		if ours != "" {
			m.Answer[0].(*dns.MX).Mx = "evil.example.net."
		}
		return true
	}
	relied := func(a *asked, ours string, m *dns.Msg) bool {
		if ours != "" {
			setCookie(m, ours+serverPart)
		}
		return lame(a, ours, m)
	}
	for name, tt := range map[string]struct {
		server   *server
		good     bool // the further try's reply
		udp, tcp int  // messages, of both tries
		next     int  // octets of the cookie that the question after them has
	}{
		"no cookies":           {serve(t, odd(t, lame)), true, 2, 0, 0},
		"no cookies, no TCP":   {serveUDP(t, odd(t, lame)), true, 2, 0, 0},
		"its own":              {serve(t, odd(t, relied)), true, 1, 1, clientCookie + len(serverPart)/2},
		"its own, but not TCP": {serveUDP(t, odd(t, relied)), false, 2, 0, clientCookie + len(serverPart)/2},
	} {
		set := rootSet(t, tt.server.plain())
		for n := range 2 {
			reply, err := set.Exchange(ctxFor(t, longEnough), mxQuestion,
				fetch.Try{N: n, CD: true, Avoid: []string{tt.server.addr.String()}[:n]})
			if err != nil {
				t.Fatalf("%s: try %d: %v", name, n, err)
			}
			if good := reply.Msg.Answer[0].String() == theMX(t).String(); good != (n == 1 && tt.good) {
				t.Errorf("%s: try %d: %v", name, n, reply.Msg.Answer)
			}
		}
		if udp, tcp := len(tt.server.got("udp")), len(tt.server.got("tcp")); udp != tt.udp || tcp != tt.tcp {
			t.Errorf("%s: %d messages over UDP and %d over TCP, want %d and %d", name, udp, tcp, tt.udp, tt.tcp)
		}
		if reply, err := exchange(t, set); err != nil || len(latestCookie(tt.server)) != 2*tt.next {
			t.Errorf("%s: then sends the cookie %q, want %d octets: %v %v", name, latestCookie(tt.server), tt.next,
				reply.Msg, err)
		}
	}
	fresh := serve(t, odd(t, relied))
	_, err := rootSet(t, fresh.plain()).Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{N: 1, CD: true})
	if err != nil || latestCookie(fresh) == "" {
		t.Errorf("an upstream that was not asked before: cookie %q, %v", latestCookie(fresh), err)
	}
}

// S-8: what is truncated for its size is no reason to leave out cookies, and neither is one reply with TC to a server
// with cookies.
func TestTruncatedForItsSize(t *testing.T) {
	leakless(t)
	large := newRR(t, `example.com. 300 IN TXT "`+strings.Repeat("a", 250)+`" "`+strings.Repeat("b", 250)+`"`)
	for name, truncates := range map[string]func(n int) bool{
		"always": func(int) bool { return true }, "once": func(n int) bool { return n == 1 },
	} {
		s := serve(t, func(a *asked) {
			m := a.reply()
			if m.Answer = []dns.RR{theMX(t)}; name == "always" {
				m.Answer = []dns.RR{large}
			}
			if ours := cookieOf(a.msg); ours != "" {
				setCookie(m, ours[:2*clientCookie]+serverPart)
			}
			m.Truncated = a.network == "udp" && truncates(a.n)
			a.write(m)
		})
		set := rootSet(t, s.plain())
		for range 4 {
			if _, err := exchange(t, set); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if latestCookie(s) == "" {
			t.Errorf("%s: sends no cookie any more", name)
		}
	}
}
