package upstream

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// V-73, S-1: what goes out. Try says CD and the transport.
func TestQuestionAsSent(t *testing.T) {
	leakless(t)
	for _, try := range []fetch.Try{{CD: true}, {CD: false}, {N: 2, TCP: true}} {
		s := serve(t, func(a *asked) { a.answer(theMX(t)) })
		set := newSet(t, Config{Routes: []Route{{".", []Address{s.plain()}}}, EDNSSize: 1400})
		reply, err := set.Exchange(ctxFor(t, longEnough), mxQuestion, try)
		if err != nil {
			t.Fatal(err)
		}
		network := "udp"
		if try.TCP {
			network = "tcp"
		}
		if len(s.got(network)) == 0 || len(s.got("udp"))*len(s.got("tcp")) > 0 {
			t.Fatalf("%+v: %d questions over UDP, %d over TCP", try, len(s.got("udp")), len(s.got("tcp")))
		}
		m := s.got(network)[0].msg
		opt := m.IsEdns0()
		if !m.RecursionDesired || m.CheckingDisabled != try.CD || opt == nil || !opt.Do() || opt.UDPSize() != 1400 ||
			m.Question[0] != mxQuestion {
			t.Errorf("%+v: sent %v", try, m)
		}
		if reply.Upstream != s.addr.String() || reply.Size == 0 {
			t.Errorf("%+v: reply from %q of %d octets", try, reply.Upstream, reply.Size)
		}
	}
}

// S-6: a port and an ID for each question, none below 1024 (RFC 5452 section 9.2).
func TestPortAndIDDiffer(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) { a.answer(theMX(t)) })
	set := rootSet(t, s.plain())
	const n = 40
	for range n {
		wantMX(t, set)
	}
	ports, ids := map[uint16]bool{}, map[uint16]bool{}
	for _, a := range s.got("udp") {
		ports[a.from.Port()], ids[a.msg.Id] = true, true
		if a.from.Port() < firstPort {
			t.Errorf("asked from port %d", a.from.Port())
		}
	}
	if len(ports) < n-3 || len(ids) < n-3 { // two alike may happen
		t.Errorf("%d questions had %d ports and %d IDs", n, len(ports), len(ids))
	}
	var even, high int
	for p := range ports {
		even += int(p&1 ^ 1)
		high += int(p >> 15)
	}
	if even == 0 || even == len(ports) || high == 0 || high == len(ports) {
		t.Errorf("ports are not random: %d of %d even, %d in the upper half", even, len(ports), high)
	}
}

// The first copies are lost; a later one, to the same upstream, brings the answer.
func TestLostPackets(t *testing.T) {
	leakless(t)
	for lost := range 3 {
		s := serve(t, func(a *asked) {
			if a.n >= lost {
				a.answer(theMX(t))
			}
		})
		wantMX(t, rootSet(t, s.plain()))
		copies := s.got("udp")
		if len(copies) <= lost {
			t.Errorf("%d lost: %d copies", lost, len(copies))
		}
		for _, c := range copies { // S-6: one socket for a question
			if c.from != copies[0].from {
				t.Errorf("%d lost: copies came from %v and %v", lost, copies[0].from, c.from)
			}
		}
	}
}

// A path that loses all datagrams does not lose the question: the third copy goes over TCP. Where TCP is refused that
// is held against nobody, and a datagram that gets through later is taken.
func TestThirdCopyOverTCP(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) {
		if a.network == "tcp" {
			a.answer(theMX(t))
		}
	})
	wantMX(t, rootSet(t, s.plain()))
	if n := len(s.got("udp")); n != datagramsFirst {
		t.Errorf("%d datagrams before TCP, want %d", n, datagramsFirst)
	}
	set := rootSet(t, serveUDP(t, func(a *asked) {
		if a.n >= datagramsFirst {
			a.answer(theMX(t))
		}
	}).plain())
	wantMX(t, set)
	if fit, alive := set.upstreams[0].health.state(); !fit || !alive {
		t.Errorf("fit %v, alive %v", fit, alive)
	}
}

// S-6: a copy to which TCP was refused has reached nobody, and nothing repeats what is lost but more datagrams. So many
// go out, and no more.
func TestLossWithoutTCP(t *testing.T) {
	leakless(t)
	wantMX(t, rootSet(t, serveUDP(t, func(a *asked) {
		if a.n == mostCopies+copiesForTCP-1 {
			a.answer(theMX(t))
		}
	}).plain()))
	s := serveUDP(t, func(*asked) {})
	rootSet(t, s.plain()).Exchange(ctxFor(t, 6*time.Second), mxQuestion, fetch.Try{CD: true})
	if n := len(s.got("udp")); n > mostCopies+copiesForTCP {
		t.Errorf("%d datagrams, want at most %d", n, mostCopies+copiesForTCP)
	}
}

// S-6: where many questions go unanswered, only some of them have more datagrams in place of TCP, and once these are
// over, others have.
func TestSilenceWithoutTCP(t *testing.T) {
	leakless(t)
	s := serveUDP(t, func(*asked) {})
	set := rootSet(t, s.plain())
	const questions, more = 100, 36 // that are too many
	for range 2 {
		before := len(s.got("udp"))
		var all sync.WaitGroup
		for n := range questions {
			all.Go(func() {
				q := dnssec.Question(fmt.Sprintf("n%d.example.com.", n), dns.TypeMX)
				set.Exchange(ctxFor(t, 6*time.Second), q, fetch.Try{CD: true})
			})
		}
		all.Wait()
		got := len(s.got("udp")) - before
		if most := questions*(mostCopies+copiesForTCP) - more*copiesForTCP; got > most || got <= questions*mostCopies {
			t.Errorf("%d datagrams for %d questions, want more than %d and at most %d", got, questions,
				questions*mostCopies, most)
		}
	}
}

// S-6: TCP that one upstream refuses is a matter of that one.
func TestLossBesideTCP(t *testing.T) {
	leakless(t)
	open := serve(t, func(*asked) {})
	wantMX(t, rootSet(t, serveUDP(t, func(a *asked) {
		if a.n == mostCopies {
			a.answer(theMX(t))
		}
	}).plain(), open.plain()))
	if n := len(open.got("udp")); n > mostCopies-1 {
		t.Errorf("%d datagrams beside TCP, want at most %d", n, mostCopies-1)
	}
}

// The second copy goes to the next upstream, and the first usable reply wins.
func TestSecondCopyGoesElsewhere(t *testing.T) {
	leakless(t)
	silent := serve(t, func(*asked) {})
	s := serve(t, func(a *asked) { a.answer(theMX(t)) })
	if reply := wantMX(t, rootSet(t, silent.plain(), s.plain())); reply.Upstream != s.addr.String() {
		t.Errorf("reply from %s, want %s", reply.Upstream, s.addr)
	}
	if len(silent.got("udp")) == 0 {
		t.Error("the first upstream was not asked")
	}
}

// S-6: replies that do not match are ignored, and the right one that comes after them is taken.
func TestMismatchesAreIgnored(t *testing.T) {
	leakless(t)
	forged := newRR(t, "example.com. 300 IN MX 10 evil.example.net.")
	forge := func(change func(m *dns.Msg)) func(a *asked) {
		return func(a *asked) {
			m := a.reply()
			m.Answer = []dns.RR{forged}
			change(m)
			a.write(m)
		}
	}
	for name, first := range map[string]func(a *asked){
		"wrong ID":              forge(func(m *dns.Msg) { m.Id++ }),
		"wrong name":            forge(func(m *dns.Msg) { m.Question[0].Name = "example.net." }),
		"wrong type":            forge(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }),
		"wrong class":           forge(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
		"a bit of case":         forge(func(m *dns.Msg) { m.Question[0].Name = "example\014com." }), // "." less 0x20
		"labels cut otherwise":  forge(func(m *dns.Msg) { m.Question[0].Name = "example\003com." }),
		"no question":           forge(func(m *dns.Msg) { m.Question = nil }),
		"two questions":         forge(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
		"a question":            forge(func(m *dns.Msg) { m.Response = false }),
		"another opcode":        forge(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
		"short":                 func(a *asked) { a.send(a.wire[:7]) },
		"empty":                 func(a *asked) { a.send(nil) },
		"wrong source":          func(a *asked) { fromElsewhere(t, a, forged) },
		"truncated, wrong ID":   forge(func(m *dns.Msg) { m.Id++; m.Truncated = true }),
		"another client cookie": forge(func(m *dns.Msg) { setCookie(m, "0123456789abcdef0123456789abcdef") }),
		"half a cookie":         forge(func(m *dns.Msg) { setCookie(m, "0123") }),
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(a *asked) {
				first(a)
				a.answer(theMX(t))
			})
			meter := new(counts)
			wantMX(t, newSet(t, Config{Routes: []Route{{".", []Address{s.plain()}}}, Meter: meter}))
			if n := meter.mismatched.Load(); n == 0 && name != "wrong source" { // which the kernel drops
				t.Error("no mismatch was counted")
			}
			if len(s.got("tcp")) != 0 {
				t.Error("asked over TCP")
			}
		})
	}
}

// S-6, RFC 4343: the question may come back in another case, the records with it, over UDP and over TCP.
func TestQuestionInAnotherCase(t *testing.T) {
	leakless(t)
	for _, name := range []string{"EXAMPLE.COM.", "eXample.cOm."} {
		s := serve(t, func(a *asked) {
			m := a.reply()
			m.Question[0].Name = name
			m.Answer = []dns.RR{newRR(t, name+" 300 IN MX 10 mail.example.com.")}
			a.write(m)
		})
		set := rootSet(t, s.plain())
		wantMX(t, set)
		if len(s.got("udp")) != 1 || len(s.got("tcp")) != 0 {
			t.Errorf("%s: %d questions over UDP, %d over TCP", name, len(s.got("udp")), len(s.got("tcp")))
		}
		if _, err := set.Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{TCP: true}); err != nil {
			t.Errorf("%s over TCP: %v", name, err)
		}
	}
}

// fromElsewhere answers a question from a port that it was not sent to.
func fromElsewhere(t *testing.T, a *asked, record dns.RR) {
	m := a.reply()
	m.Answer = []dns.RR{record}
	c, err := net.Dial("udp", a.from.String())
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.Write(packed(t, m))
}

func setCookie(m *dns.Msg, cookie string) {
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}}
}

// S-7: after 10 mismatches the question goes to TCP.
func TestManyMismatchesGoToTCP(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) {
		if a.network == "tcp" {
			a.answer(theMX(t))
			return
		}
		for range 10 {
			m := a.reply()
			m.Id++
			a.write(m)
		}
		m := a.reply() // the eleventh would match
		m.Answer = []dns.RR{newRR(t, "example.com. 300 IN MX 10 evil.example.net.")}
		a.write(m)
	})
	wantMX(t, rootSet(t, s.plain()))
	if len(s.got("tcp")) == 0 {
		t.Error("not asked over TCP")
	}
}

// S-5: what is truncated is discarded and asked for over TCP.
func TestTruncatedGoesToTCP(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) {
		if a.network == "tcp" {
			a.answer(theMX(t))
			return
		}
		m := a.reply()
		m.Truncated = true
		m.Answer = []dns.RR{newRR(t, "example.com. 300 IN MX 10 half.example.com.")}
		a.write(m)
	})
	wantMX(t, rootSet(t, s.plain()))
}

// S-5: what is truncated does not wait for as long as the connection that all share is held up: a copy goes over one of
// its own.
func TestTruncatedBehindHeldUpConnection(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) {
		switch {
		case a.network == "udp":
			a.truncate()
		case a.conn > 1:
			a.answer(theMX(t))
		}
	})
	set := rootSet(t, s.plain())
	set.upstreams[0].carrier.(*datagram).stream.patience.silence = 2 * longEnough
	wantMX(t, set)
	if n := len(s.got("tcp")); n != 2 {
		t.Errorf("asked %d times over TCP, want 2", n)
	}
}

// An upstream that truncates and has no TCP is an error that says so; with another upstream it is none.
func TestTruncatedWithoutTCP(t *testing.T) {
	leakless(t)
	crippled := serveUDP(t, func(a *asked) { a.truncate() }).plain()
	_, err := exchange(t, rootSet(t, crippled))
	wantFailure(t, err, dns.ExtendedErrorCodeNetworkError, crippled.String()+
		" truncated its reply over UDP and then could not be reached over TCP: connection refused")

	s := serve(t, func(a *asked) { a.answer(theMX(t)) })
	wantMX(t, rootSet(t, crippled, s.plain()))
}

// wantFailure checks the obligations of fetch.Exchanger on errors.
func wantFailure(t testing.TB, err error, code uint16, texts ...string) {
	t.Helper()
	f, ok := errors.AsType[*dnssec.Failure](err)
	if !ok {
		t.Fatalf("got %v, want a failure", err)
	}
	if f.Code != code || f.Owner != mxQuestion.Name || f.Type != mxQuestion.Qtype || !errors.Is(f, ErrUpstream) ||
		f.Limit() {
		t.Errorf("got %+v, want EDE %d", f, code)
	}
	if unreached := code == dns.ExtendedErrorCodeNetworkError; (f.Kind == dnssec.OfNoUpstream) != unreached {
		t.Errorf("EDE %d is of kind %d", code, f.Kind)
	}
	for _, text := range append(texts, "example.com. MX: ") {
		if !strings.Contains(f.Text, text) {
			t.Errorf("%q does not say %q", f.Text, text)
		}
	}
}

// S-8: the server's part is learned and sent back, ours stays the same.
func TestCookies(t *testing.T) {
	leakless(t)
	const serverPart = "a1a2a3a4a5a6a7a8"
	s := serve(t, func(a *asked) {
		m := a.reply()
		m.Answer = []dns.RR{theMX(t)}
		setCookie(m, cookieOf(a.msg)[:16]+serverPart)
		a.write(m)
	})
	other := serve(t, func(a *asked) { a.answer(theMX(t)) })
	set := rootSet(t, s.plain())
	wantMX(t, set)
	wantMX(t, set)
	wantMX(t, rootSet(t, other.plain()))
	all := s.got("udp")
	first, second := cookieOf(all[0].msg), cookieOf(all[len(all)-1].msg)
	if len(first) != 16 || second != first+serverPart {
		t.Errorf("sent %q and then %q, want the second with the server's part", first, second)
	}
	if elsewhere := cookieOf(other.got("udp")[0].msg); elsewhere == first {
		t.Error("two servers got the same client cookie")
	}
}

// S-8: BADCOOKIE is asked again with the cookie that came with it, and then over TCP.
func TestBadCookie(t *testing.T) {
	leakless(t)
	for name, appeased := range map[string]bool{"appeased by its cookie": true, "never": false} {
		s := serve(t, func(a *asked) {
			if a.network == "tcp" || appeased && len(cookieOf(a.msg)) > 16 {
				m := a.reply()
				m.Answer = []dns.RR{theMX(t)}
				if c := cookieOf(a.msg); c != "" {
					setCookie(m, c)
				}
				a.write(m)
				return
			}
			m := a.reply()
			m.Rcode = dns.RcodeBadCookie
			setCookie(m, cookieOf(a.msg)[:16]+"a1a2a3a4a5a6a7a8")
			a.write(m)
		})
		wantMX(t, rootSet(t, s.plain()))
		if tcp := len(s.got("tcp")) > 0; tcp == appeased {
			t.Errorf("%s: asked over TCP: %v", name, tcp)
		}
	}
}

// A server that has sent a cookie and then leaves it out is asked over TCP, once: it may have stopped using them.
func TestCookieLeftOut(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) {
		m := a.reply()
		m.Answer = []dns.RR{theMX(t)}
		if a.network == "udp" && a.n == 0 {
			setCookie(m, cookieOf(a.msg)+"a1a2a3a4a5a6a7a8")
		}
		a.write(m)
	})
	set := rootSet(t, s.plain())
	for i, tcp := range []bool{false, true, false} {
		before := len(s.got("tcp"))
		wantMX(t, set)
		if got := len(s.got("tcp")) > before; got != tcp {
			t.Errorf("question %d over TCP: %v, want %v", i, got, tcp)
		}
	}
}

// S-8: the client part is renewed, and the server's forgotten, when the own address changes.
func TestCookieIsBoundToOwnAddress(t *testing.T) {
	var c cookies
	home, abroad := net.IPv4(192, 0, 2, 1).String(), net.IPv4(198, 51, 100, 1).String()
	first := c.option(addr(home)).Cookie
	reply := new(dns.Msg)
	reply.SetEdns0(1232, true)
	setCookie(reply, first+"a1a2a3a4a5a6a7a8")
	if c.learn(c.option(addr(home)), reply) != right || c.option(addr(home)).Cookie != first+"a1a2a3a4a5a6a7a8" {
		t.Error("the server's part was not learned")
	}
	moved := c.option(addr(abroad)).Cookie
	if _, err := hex.DecodeString(moved); err != nil || len(moved) != 16 || moved == first {
		t.Errorf("moved from %s with %q, now %q", home, first, moved)
	}
	setCookie(reply, first+"a1a2a3a4a5a6a7a8")
	if c.learn(&dns.EDNS0_COOKIE{Cookie: first}, reply) != right || c.option(addr(abroad)).Cookie != moved {
		t.Error("a late reply changed the new cookie")
	}
	setCookie(reply, moved+strings.Repeat("a1", maxServerCookie+1))
	if c.learn(c.option(addr(abroad)), reply) != wrong {
		t.Error("a cookie that is too long was taken")
	}
}

// Usable replies of several kinds are handed on; the judge decides about them.
func TestUsableReplies(t *testing.T) {
	leakless(t)
	soa := newRR(t, "example.com. 300 IN SOA ns.example.com. hostmaster.example.com. 1 2 3 4 5")
	ns := newRR(t, "com. 300 IN NS a.gtld-servers.net.")
	for name, change := range map[string]func(m *dns.Msg){
		"NXDOMAIN":               func(m *dns.Msg) { m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa} },
		"YXDOMAIN":               func(m *dns.Msg) { m.Rcode = dns.RcodeYXDomain },
		"NODATA":                 func(m *dns.Msg) { m.Ns = []dns.RR{soa} },
		"empty without anything": func(m *dns.Msg) { m.RecursionAvailable = false },
		"without OPT":            func(m *dns.Msg) { m.Extra = nil },
		"NS from a recursor":     func(m *dns.Msg) { m.Ns = []dns.RR{ns} },
		"NS from an authority": func(m *dns.Msg) {
			m.Ns, m.RecursionAvailable, m.Authoritative = []dns.RR{ns}, false, true
		},
		"NS beside an SOA": func(m *dns.Msg) { m.Ns, m.RecursionAvailable = []dns.RR{ns, soa}, false },
		"NS of another name": func(m *dns.Msg) {
			m.Ns, m.RecursionAvailable = []dns.RR{newRR(t, "net. 300 IN NS a.gtld-servers.net.")}, false
		},
	} {
		s := serve(t, func(a *asked) {
			m := a.reply()
			change(m)
			a.write(m)
		})
		if _, err := exchange(t, rootSet(t, s.plain())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// V-14: a referral is evidence if it answers DS and brings its signed proof, in any case of letters; else it is of no
// use.
func TestReferralWithProof(t *testing.T) {
	ns := newRR(t, "Example.com. 300 IN NS ns.example.com.")
	above := newRR(t, "com. 300 IN NS a.gtld-servers.net.")
	nsec := newRR(t, "example.com. 300 IN NSEC example.net. NS RRSIG NSEC")
	nsec3 := newRR(t, "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.com. 300 IN NSEC3 1 1 0 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr NS")
	ds := newRR(t, "example.com. 300 IN DS 1 13 2 "+strings.Repeat("00", 32))
	sig := func(rr dns.RR) dns.RR {
		return &dns.RRSIG{
			Hdr:         dns.RR_Header{Name: rr.Header().Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 300},
			TypeCovered: rr.Header().Rrtype, SignerName: "com.",
		}
	}
	for name, tt := range map[string]struct {
		qtype uint16
		ns    []dns.RR
		want  bool
	}{
		"NSEC":                 {dns.TypeDS, []dns.RR{ns, nsec, sig(nsec)}, true},
		"NSEC3":                {dns.TypeDS, []dns.RR{nsec3, sig(nsec3), ns}, true},
		"NSEC3 unsigned":       {dns.TypeDS, []dns.RR{ns, nsec3}, false},
		"without proof":        {dns.TypeDS, []dns.RR{ns}, false},
		"with DS":              {dns.TypeDS, []dns.RR{ns, ds, sig(ds)}, false},
		"NSEC3 of a cut above": {dns.TypeDS, []dns.RR{above, nsec3, sig(nsec3)}, false},
		"another type":         {dns.TypeMX, []dns.RR{ns, nsec, sig(nsec)}, false},
	} {
		m := &dns.Msg{Ns: tt.ns}
		if got := usable(question("example.com.", tt.qtype), m) == nil; got != tt.want {
			t.Errorf("%s: usable %v, want %v", name, got, tt.want)
		}
	}
}

// A record that cannot be read is EDE 24, and another upstream is asked (V-14).
func TestInvalidReply(t *testing.T) {
	leakless(t)
	garble := func(a *asked) {
		m := a.reply()
		m.Answer = []dns.RR{theMX(t)}
		wire := packed(t, m)
		a.send(slices.Concat(wire[:6], []byte{0, 9}, wire[8:])) // nine answers
	}
	bad := serve(t, garble)
	_, err := exchange(t, rootSet(t, bad.plain()))
	wantFailure(t, err, dns.ExtendedErrorCodeInvalidData, bad.addr.String()+" sent a reply that cannot be read: ")
	good := serve(t, func(a *asked) { a.answer(theMX(t)) })
	wantMX(t, rootSet(t, bad.plain(), good.plain()))
}

// Exchange ends soon after its context, with a sentence that says who was silent.
func TestDeadline(t *testing.T) {
	leakless(t)
	silent := serve(t, func(*asked) {})
	set := rootSet(t, silent.plain())
	begun := time.Now()
	_, err := set.Exchange(ctxFor(t, 100*time.Millisecond), mxQuestion, fetch.Try{})
	wantFailure(t, err, dns.ExtendedErrorCodeNoReachableAuthority, silent.addr.String()+" sent no reply in time")
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// counts is a Meter that counts.
type counts struct {
	asked, answered, failed, mismatched, exhausted, changed atomic.Int32
	reason                                                  atomic.Value
	alive                                                   atomic.Bool
}

func (c *counts) Asked(string)                   { c.asked.Add(1) }
func (c *counts) Answered(string, time.Duration) { c.answered.Add(1) }
func (c *counts) Failed(_ string, r Reason)      { c.failed.Add(1); c.reason.Store(r) }
func (c *counts) Mismatched(string)              { c.mismatched.Add(1) }
func (c *counts) Exhausted(string)               { c.exhausted.Add(1) }
func (c *counts) Alive(_ string, alive bool, _ string) {
	c.alive.Store(alive)
	c.changed.Add(1)
}
