package danelaw

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fastpath"
	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/trustanchors"
	"github.com/danelaw-dns/danelaw/zones"
)

// hitNames are asked in all ways.
var hitNames = []struct {
	name  string
	qtype uint16
}{
	{"good.dane.", dns.TypeMX}, {"_25._tcp.mx.good.dane.", dns.TypeTLSA}, {"nothing.good.dane.", dns.TypeA},
	{"good.dane.", dns.TypeTXT}, {"good.insecure.", dns.TypeMX}, {manyTLSA, dns.TypeTLSA}, {"good.dane.", dns.TypeDS},
	{"nothing.good.nsec3.", dns.TypeMX}, {"localhost.", dns.TypeA}, {"tlsa-servfail.dane.", dns.TypeMX},
	{"good.dane.", dns.TypeNSEC}, {"good.dane.", dns.TypeANY}, {".", dns.TypeNS}, {".", dns.TypeDNSKEY},
}

// twins are CoreDNS that share what they remember: one makes a message of each reply, another writes the octets that
// are kept where CoreDNS hands the query on, and the last has everything pass by CoreDNS that may. Their clients are a
// socket each.
type twins struct {
	t                   testing.TB // that asks
	slow, written, fast *coreDNS
	udp                 map[*coreDNS]net.Conn
}

func startTwins(t testing.TB, key string, options ...string) *twins {
	t.Helper()
	up := lab().Addr()
	w := &twins{t: t, udp: map[*coreDNS]net.Conn{}}
	w.slow = startCoreDNS(t, blockOf(key, optionsFor(t, up, options...), "whole"))
	w.written = startCoreDNS(t, blockOf(key, optionsFor(t, up, append(options, "fastpath off")...), ""))
	w.fast = startCoreDNS(t, blockOf(key, optionsFor(t, up, options...), ""))
	for _, c := range []*coreDNS{w.slow, w.written, w.fast} {
		conn, err := net.Dial("udp", c.udp)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		w.udp[c] = conn
	}
	return w
}

// ask returns the reply to a query, as it came.
func (w *twins) ask(c *coreDNS, tcp bool, query []byte) []byte {
	w.t.Helper()
	if tcp {
		s := connect(w.t, c.tcp)
		defer s.Close()
		s.send(query)
		s.SetReadDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // the connection is open
		reply, err := (&dns.Conn{Conn: s.Conn}).ReadMsgHeader(nil)
		if err != nil {
			w.t.Fatal(err)
		}
		return reply
	}
	conn := w.udp[c]
	buf := make([]byte, dns.MaxMsgSize)
	conn.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // the socket is open
	if _, err := conn.Write(query); err != nil {
		w.t.Fatal(err)
	}
	n, err := conn.Read(buf)
	if err != nil {
		w.t.Fatalf("%x: %v", query, err)
	}
	return buf[:n]
}

// same compares what all reply, and returns that. TTLs count down between two questions: the one is asked before and
// after the other until it has said the same.
func (w *twins) same(tcp bool, query []byte) []byte {
	w.t.Helper()
	for range 20 {
		before := w.ask(w.slow, tcp, query)
		written, reply := w.ask(w.written, tcp, query), w.ask(w.fast, tcp, query)
		if bytes.Equal(before, written) && bytes.Equal(before, reply) {
			return reply
		}
		if bytes.Equal(before, w.ask(w.slow, tcp, query)) {
			w.t.Fatalf("TCP %v, to %x:\nthe ordinary path %x\nas it is kept     %x\nthe fast path     %x", tcp, query,
				before, written, reply)
		}
	}
	w.t.Fatalf("to %x there was never the same twice", query)
	return nil
}

// ways are all in which a question can be put: flags, EDNS, case.
func ways(each func(c change, what string)) {
	opts := map[string]change{"no EDNS": func(*dns.Msg) {}}
	for _, size := range []uint16{0, 512, 1232, 65535} {
		for _, do := range []bool{false, true} {
			opts[fmt.Sprintf("size %d DO %v", size, do)] = func(m *dns.Msg) { m.SetEdns0(size, do) }
		}
	}
	opts["a cookie"] = func(m *dns.Msg) {
		withDO(m)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}}
	}
	for bits := range 16 {
		for what, edns := range opts {
			each(func(m *dns.Msg) {
				m.RecursionDesired, m.AuthenticatedData, m.CheckingDisabled = bits&1 == 0, bits&2 != 0, bits&4 != 0
				if bits&8 != 0 {
					m.Question[0].Name = mixed(m.Question[0].Name)
				}
				m.Id = 0x1234
				edns(m)
			}, fmt.Sprintf("%b, %s", bits, what))
		}
	}
}

func mixed(name string) string {
	b := []byte(name)
	for i := range b {
		if i%3 == 1 {
			b[i] = strings.ToUpper(string(b[i]))[0]
		}
	}
	return string(b)
}

// A hit is octet by octet what the ordinary path replies, whatever the query, the client and its rights, over UDP and
// TCP, cold, cached, and while TTLs run out.
func TestHitsAsOrdinary(t *testing.T) {
	for name, options := range map[string][]string{
		"all":        nil,
		"no AD":      {"ad_clients 192.0.2.0/24"},
		"nobody":     {"allow_clients 192.0.2.0/24"},
		"CD ignored": {"ignore_cd on"},
		"TTLs":       {"cache_ttl 0s 2s"},
	} {
		t.Run(name, func(t *testing.T) {
			w := startTwins(t, ".:0", options...)
			for _, q := range hitNames {
				ways(func(c change, what string) {
					query := pack(t, newMsg(q.name, q.qtype, c))
					w.same(false, query)
					if strings.Contains(what, "1232") {
						w.same(true, query)
					}
				})
			}
		})
	}
}

// passes puts a Handler on a socket whose hits, and misses if they are to, pass by what is counted.
func passes(t *testing.T, h *Handler, misses bool) (server string, others *atomic.Int64) {
	t.Helper()
	server, others = fmt.Sprintf("127.0.0.1:%d", ports.Closed(t)), new(atomic.Int64)
	find := always(h)
	later := func(ctx context.Context, q *fastpath.Question, then func([]byte, fastpath.Server)) bool {
		return misses && find.later(ctx, q, then)
	}
	l, err := fastpath.Listen(server, server, func(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
		others.Add(1)
		h.ServeDNS(ctx, request.NewScrubWriter(q, w), q) //nolint:errcheck // it has written its reply
	}, fastpath.Options{
		Answerer: find.answerer, Later: later,
		Limits: fastpath.Limits{Pending: 10, Connections: 100, Pipelined: 10, Idle: time.Minute, Read: time.Minute,
			Write: time.Minute},
		Size: func() uint16 { return 1232 }, Refused: func() {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(t.Context()) })
	return server, others
}

// What is cached does not come to ServeDNS, but for what is not plain, is not to be used again (C-7), or does not fit
// the client (S-3).
func TestHitsPassBy(t *testing.T) {
	passing := func(_ string, _ int, q, r *dns.Msg) *dns.Msg { // of the one domain all has TTL 0
		for _, rr := range slices.Concat(r.Answer, r.Ns) {
			if q.Question[0].Name == "good.nsec3." {
				rr.Header().Ttl = 0
			}
		}
		return r
	}
	server, others := passes(t, open(t, config(t, between(t, passing).addr)), false)
	came := func(m *dns.Msg) int64 {
		before := others.Load()
		exchange(t, "udp", server, m)
		exchange(t, "tcp", server, m)
		return others.Load() - before
	}
	if came(newMsg("good.dane.", dns.TypeMX)) != 1 || came(newMsg(manyTLSA, dns.TypeTLSA)) != 1 {
		t.Error("a miss, then a hit")
	}
	for name, row := range map[string]struct {
		m    *dns.Msg
		want int64 // of two
	}{
		"no EDNS": {newMsg("good.dane.", dns.TypeMX), 0}, "DO": {newMsg("good.dane.", dns.TypeMX, withDO), 0},
		"mixed":     {newMsg("gOOd.DANE.", dns.TypeMX, withCD), 0},
		"AD":        {newMsg("good.dane.", dns.TypeMX, withAD, withEDNS), 0},
		"RD=0":      {newMsg("good.dane.", dns.TypeMX, withoutRD), 2},
		"type":      {newMsg("good.dane.", dns.TypeNSEC), 2},
		"special":   {newMsg("localhost.", dns.TypeA), 2},
		"TTL 0":     {newMsg("good.nsec3.", dns.TypeMX, withDO), 2},
		"too large": {newMsg(manyTLSA, dns.TypeTLSA, withSize(512)), 1}, // over UDP
	} {
		if n := came(row.m); n != row.want {
			t.Errorf("%s: %d of two came to ServeDNS, want %d", name, n, row.want)
		}
	}
}

// S-21: a private name is for the plugins below alone, and waits for no answer beside them.
func TestPrivatePassesNothing(t *testing.T) {
	c, below := config(t), new(site)
	c.Next, c.Private = below, []string{"sub.rsasha256.dane."}
	server, others := passes(t, open(t, c), true)
	for i, proto := range []string{"udp", "tcp"} {
		r := exchange(t, proto, server, newMsg("x.SUB.rsasha256.dane.", dns.TypeA, withDO))
		if asked := below.questions(); len(asked) != 1 || len(r.Answer) != 1 || others.Load() != int64(i+1) {
			t.Errorf("%s: %s, asked below: %v, through ServeDNS: %d", proto, describes(r), asked, others.Load())
		}
	}
}

// A miss is a hit that has to wait: it is told as ServeDNS would, be it an answer, a failure (once in the log) or what
// has no reply in time (L-10), and asks ahead; many who wait for one answer all get it.
func TestMissesPassBy(t *testing.T) {
	for _, proto := range []string{"udp", "tcp"} {
		t.Run(proto, func(t *testing.T) { missesPassBy(t, proto) })
	}
}

func missesPassBy(t *testing.T, proto string) {
	t.Helper()
	c := config(t, between(t, hanging).addr)
	c.Timeout = time.Second
	h := open(t, c)
	server, others := passes(t, h, true)
	twin := config(t)
	twin.Timeout = c.Timeout
	ordinary := serve(t, open(t, twin))
	lines := logged(t)
	for _, q := range hitNames {
		if !hittable(q.qtype) || q.name == "localhost." {
			continue
		}
		for _, way := range []change{withDO, withSize(512), func(*dns.Msg) {}} {
			m := newMsg(q.name, q.qtype, way)
			r, want := exchange(t, proto, server, m), exchange(t, proto, ordinary, m)
			if describes(r) != describes(want) || len(r.Answer) != len(want.Answer) || r.Truncated != want.Truncated {
				t.Errorf("%s: %s, by ServeDNS %s", m.Question[0].String(), describes(r), describes(want))
			}
		}
	}
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			begun := time.Now()
			r := exchange(t, proto, server, newMsg("hangs.wildcard.dane.", dns.TypeA, withDO))
			if took := time.Since(begun); r.Rcode != dns.RcodeServerFailure || took < c.Timeout || len(edes(r)) == 0 {
				t.Errorf("what hangs: %s after %v", describes(r), took)
			}
		})
		clients.Go(func() {
			if r := exchange(t, proto, server, newMsg("good.nsec3.", dns.TypeMX, withDO)); !r.AuthenticatedData {
				t.Errorf("with others: %s", describes(r))
			}
		})
	}
	clients.Wait()
	if said := strings.Count(lines.String(), "hangs.wildcard.dane. A from"); said != 1 {
		t.Errorf("%d lines of the log: %s", said, lines)
	}
	if n := others.Load(); n > 4 { // what failed a moment ago
		t.Errorf("%d queries came to the Server", n)
	}
}

// L-12, L-16: the failure of a question that was waited for is octet by octet what ServeDNS replies, and does not come
// to it, but for what does not fit, and for what CD asks for.
func TestFailuresPassBy(t *testing.T) {
	c := config(t)
	h, twin := open(t, c), open(t, c)
	server, others := passes(t, h, true)
	ordinary, _ := passes(t, twin, false)
	ask := func(h *Handler, at string, query []byte) []byte {
		h.memory.ForgetFailures()
		conn, err := net.Dial("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // the socket is open
		if _, err = conn.Write(query); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, dns.MaxMsgSize)
		n, err := conn.Read(reply)
		if err != nil {
			t.Fatal(err)
		}
		return reply[:n]
	}
	for _, name := range []string{bogusMX, strings.ToUpper(bogusMX)} {
		for _, way := range []change{func(*dns.Msg) {}, withDO, withAD, withSize(512), withSize(0), withSize(65535)} {
			query := pack(t, newMsg(name, dns.TypeMX, way))
			got, want := ask(h, server, query), ask(twin, ordinary, query)
			if !bytes.Equal(got, want) || got[3]&0xF != dns.RcodeServerFailure {
				t.Errorf("%s:\nby ServeDNS %x\nbeside it   %x", name, want, got)
			}
		}
	}
	if n := others.Load(); n > 0 {
		t.Errorf("%d failures came to ServeDNS", n)
	}
	var r dns.Msg // V-76: with CD it is told what the failure is about, which ServeDNS does
	if err := r.Unpack(ask(h, server, pack(t, newMsg(bogusMX, dns.TypeMX, withCD)))); err != nil {
		t.Fatal(err)
	}
	if r.Rcode != dns.RcodeSuccess || len(r.Answer) == 0 || r.AuthenticatedData || others.Load() != 1 {
		t.Errorf("with CD: %s, %d came to ServeDNS", describes(&r), others.Load())
	}
}

// L-13, L-16: where the table of questions is full, one more is refused at once with the others of its batch, octet by
// octet as ServeDNS does and counted alike, though not one more may wait; what is cached is answered.
func TestRefusalsPassBy(t *testing.T) {
	var short atomic.Bool // nobody yields then
	begin := func() (Config, *Handler) {
		c := config(t, between(t, hanging).addr)
		c.InFlight, c.Timeout, c.processorsShort = 10, time.Minute, short.Load
		return c, open(t, c)
	}
	c, h := begin()
	of, twin := begin()
	server, others := passes(t, h, true)
	ordinary := ports.Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		w = request.NewScrubWriter(r, w)
		twin.ServeDNS(context.Background(), messages{w}, r) //nolint:errcheck // it has written its reply
	}))
	t.Cleanup(twin.Close)
	t.Cleanup(h.Close)
	for _, at := range []string{server, ordinary} {
		exchange(t, "udp", at, newMsg("good.dane.", dns.TypeMX))
	}
	short.Store(true)
	ask := func(network, at string, queries ...[]byte) (conn *dns.Conn) {
		raw, err := net.Dial(network, at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { raw.Close() })
		raw.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // the socket is open
		conn = &dns.Conn{Conn: raw, UDPSize: dns.MaxMsgSize}
		for _, q := range queries {
			if _, err := conn.Write(q); err != nil {
				t.Fatal(err)
			}
		}
		return conn
	}
	counted := func(c Config) (all [4]float64) {
		return [...]float64{
			metric(t, "limits_total", "block", c.Block, "limit", "in_flight"),
			metric(t, "cache_misses_total", "block", c.Block),
			metric(t, "responses_total", "block", c.Block, "verdict", "indeterminate"),
			metric(t, "extended_errors_total", "block", c.Block, "code", "0"),
		}
	}
	for i := range c.InFlight + 2 {
		query := pack(t, newMsg(fmt.Sprintf("h%d.wildcard.dane.", i), dns.TypeA))
		ask("udp", server, query)
		ask("udp", ordinary, query)
	}
	for _, c := range []Config{c, of} {
		eventually(t, "the table is full", func() bool { return counted(c)[0] == 2 })
	}
	for i, way := range []change{
		func(*dns.Msg) {}, withDO, withAD, withCD, withSize(512), withSize(0), withSize(65535),
	} {
		for _, name := range []string{fmt.Sprintf("n%d.wildcard.dane.", i), fmt.Sprintf("N%d.bogus.", i)} {
			for _, network := range []string{"udp", "tcp"} {
				query := pack(t, newMsg(name, dns.TypeA, way))
				got, err := ask(network, server, query).ReadMsgHeader(nil)
				want, failed := ask(network, ordinary, query).ReadMsgHeader(nil)
				if err != nil || failed != nil || !bytes.Equal(got, want) || got[3]&0xF != dns.RcodeServerFailure {
					t.Errorf("%s: %v, %v\nby ServeDNS %x\nbeside it   %x", name, err, failed, want, got)
				}
			}
		}
	}
	if got, want := counted(c), counted(of); got != want || got[0] < 2 {
		t.Errorf("limits, misses, replies, errors: %v, by ServeDNS %v", got, want)
	}
	if r := exchange(t, "udp", server, newMsg("good.dane.", dns.TypeMX)); r.Rcode != dns.RcodeSuccess {
		t.Errorf("what is cached: %s", describes(r))
	}
	if n := others.Load(); n > 0 {
		t.Errorf("%d came to ServeDNS", n)
	}
}

// C-1, C-7, C-14: a hit has the TTL that is left, and none is older than that, nor than its signatures; what ends soon
// is renewed.
func TestHitsEnd(t *testing.T) {
	clock := world.NewClock(time.Now())
	c := config(t)
	c.Clock, c.MaxTTL = clock.Now, 100*time.Second
	h := open(t, c)
	server, others := passes(t, h, false)
	m := newMsg("good.dane.", dns.TypeMX, withDO)
	for i, step := range []struct {
		after time.Duration
		ttl   uint32
		other bool
	}{{0, 100, true}, {0, 100, false}, {89 * time.Second, 11, false}, {2 * time.Second, 9, false}} {
		clock.Set(clock.Now().Add(step.after))
		before := others.Load()
		r := exchange(t, "udp", server, m)
		if ttl := r.Answer[0].Header().Ttl; ttl != step.ttl || (others.Load() > before) != step.other {
			t.Errorf("step %d: TTL %d, through ServeDNS: %v", i, ttl, others.Load() > before)
		}
	}
	eventually(t, "it is renewed", func() bool { return exchange(t, "udp", server, m).Answer[0].Header().Ttl == 100 })
	clock.Set(clock.Now().Add(100 * time.Second))
	before := others.Load()
	r := exchange(t, "udp", server, m)
	if others.Load() != before+1 {
		t.Error("what has ended was a hit")
	}
	signed := time.Unix(int64(r.Answer[len(r.Answer)-1].(*dns.RRSIG).Expiration), 0)
	for _, step := range []struct {
		left int // seconds for which the signatures hold
		hit  bool
	}{{50, false}, {1, true}, {0, false}, {-1, false}} {
		clock.Set(signed.Add(-time.Duration(step.left) * time.Second))
		before := others.Load()
		r := exchange(t, "udp", server, m)
		if ad := r.AuthenticatedData; ad != (step.left >= 0) || ad && r.Answer[0].Header().Ttl != uint32(step.left) {
			t.Errorf("signatures hold for %d s: %s", step.left, describes(r))
		}
		if hit := others.Load() == before; hit != step.hit {
			t.Errorf("signatures hold for %d s: a hit: %v", step.left, hit)
		}
	}
}

// over is a configuration for a tree, with its clock.
func over(t *testing.T, tree *world.Tree, clock *world.Clock) Config {
	t.Helper()
	c := config(t, tree.Upstream().Serve(t, world.AnyPort))
	c.Anchors, c.Clock = trustanchors.Set{".": tree.DS(".")}, clock.Now
	return c
}

// C-1, C-2: no hit outlives the signatures that it or its chain rests on, be it one with them or the variant without.
func TestHitsEndWithSignatures(t *testing.T) {
	for name, zone := range map[string]string{"its own": "own.", "those above": "under.above."} {
		t.Run(name, func(t *testing.T) {
			clock := world.NewClock(time.Now().Truncate(time.Second))
			soon := zones.Config{Expiration: clock.Now().Add(time.Minute)}
			tree := world.New(clock.Now, world.Zone("."), zones.Plan{Name: "own.", Text: world.Mail, Config: soon},
				zones.Plan{Name: "above.", Text: world.Base, Config: soon}, world.Domain("under.above."))
			c := over(t, tree, clock)
			c.Prefetch = false
			server, others := passes(t, open(t, c), false)
			for i, step := range []struct {
				after  time.Duration
				rcode  int
				others int64 // of two that are not hits
			}{
				{0, dns.RcodeSuccess, 1}, {0, dns.RcodeSuccess, 0}, {59 * time.Second, dns.RcodeSuccess, 0},
				{2 * time.Second, dns.RcodeServerFailure, 2},
			} {
				clock.Advance(step.after)
				before := others.Load()
				for _, way := range []change{withEDNS, withDO} {
					if r := exchange(t, "udp", server, newMsg(zone, dns.TypeMX, way)); r.Rcode != step.rcode {
						t.Errorf("step %d: %s", i, describes(r))
					}
				}
				if n := others.Load() - before; n != step.others {
					t.Errorf("step %d: %d of two through ServeDNS, want %d", i, n, step.others)
				}
			}
		})
	}
}

// C-14: a hit whose signatures end before half of its TTL would have passed is renewed, though most of the TTL is left.
// Those of its zone's keys hold: what is renewed before them ends with them.
func TestHitsRenewSignatures(t *testing.T) {
	clock := world.NewClock(time.Now().Truncate(time.Second))
	tree := world.New(clock.Now, world.Zone("."), world.Domain("own."))
	c := over(t, tree, clock)
	c.MaxTTL = 100 * time.Second
	server, others := passes(t, open(t, c), false)
	ttl := func(qtype uint16) uint32 {
		t.Helper()
		return exchange(t, "udp", server, newMsg("own.", qtype, withDO)).Answer[0].Header().Ttl
	}
	publish := func(signed time.Duration) {
		tree.Plan("own.").Config.Expiration = clock.Now().Add(signed)
		tree.Publish()
	}
	ttl(dns.TypeDNSKEY)
	publish(2 * time.Minute)
	ttl(dns.TypeMX)
	publish(time.Hour)
	clock.Advance(75 * time.Second) // 45 s before the end of the signatures, 25 s before that of the TTL
	if n := ttl(dns.TypeMX); n != 25 {
		t.Errorf("TTL %d, want 25", n)
	}
	eventually(t, "it is renewed", func() bool { return ttl(dns.TypeMX) == 100 })
	if n := others.Load(); n != 2 {
		t.Errorf("%d came to ServeDNS", n)
	}
}

// A reply that just fits the client, and one that just does not (S-1, S-3).
func TestHitsAsOrdinaryInSize(t *testing.T) {
	w := startTwins(t, ".:0")
	for _, q := range hitNames {
		whole := len(w.same(true, pack(t, newMsg(q.name, q.qtype, withDO))))
		for size := whole - 3; size <= whole+3; size++ {
			w.same(false, pack(t, newMsg(q.name, q.qtype, withSize(uint16(size)))))
		}
	}
}

// Whatever is sent, over whichever transport, to whomever, all paths reply the same.
func FuzzHitsAsOrdinary(f *testing.F) {
	var all []*twins
	for _, options := range [][]string{nil, {"allow_clients 192.0.2.0/24"}, {"ad_clients 192.0.2.0/24"},
		{"cache_ttl 0s 2s"}} {
		all = append(all, startTwins(f, ".:0", options...))
	}
	for _, q := range hitNames {
		for how := range byte(2 * len(all)) {
			f.Add(how, pack(f, newMsg(q.name, q.qtype, withDO)))
		}
		f.Add(byte(0), pack(f, newMsg(q.name, q.qtype)))
	}
	for _, odd := range oddQueries {
		f.Add(byte(0), fromHex(f, "abcd"+odd.octets))
		f.Add(byte(1), fromHex(f, "abcd"+odd.octets))
	}
	f.Fuzz(func(t *testing.T, how byte, query []byte) {
		if len(query) < 12 || len(query) > 4<<10 || query[2]&0x80 != 0 { // is not replied to
			return
		}
		w := all[int(how/2)%len(all)]
		w.t = t
		w.same(how%2 == 1, query)
	})
}

// What passes by CoreDNS, and what is written as it is kept, is counted as what is made a message: in danelaw's metrics
// and in CoreDNS's, by types for which CoreDNS has labels and others.
func TestHitsAreCounted(t *testing.T) {
	types := append([]uint16{dns.TypeTLSA, dns.TypeCAA, dns.TypeNAPTR, 65280}, labelled...)
	counts := map[string]map[string]float64{}
	for name, row := range map[string][2]string{
		"message": {"fastpath off", "whole"}, "written": {"fastpath off", ""}, "fast": {"fastpath on", ""},
	} {
		c := startCoreDNS(t, blockOf("counted"+name+".:0 .:0", optionsFor(t, lab().Addr(), row[0]),
			row[1]+"\nprometheus 127.0.0.1:0"))
		ask := func() {
			for _, name := range []string{"good.dane.", "nothing.good.dane.", "good.insecure.", "tlsa-servfail.dane."} {
				for _, qtype := range types {
					exchange(t, "udp", c.udp, newMsg(name, qtype, withDO))
					exchange(t, "tcp", c.tcp, newMsg(name, qtype))
				}
			}
		}
		before := countedNow(t)
		ask() // misses, which pass as well over UDP
		ask()
		asked := float64(2 * 4 * 2 * len(types))
		eventually(t, "all to be counted", func() bool {
			const series = "coredns_dns_request_duration_seconds server=dns://127.0.0.1:0 view= zone=."
			return countedNow(t)[series] == before[series]+asked // CoreDNS counts when the reply is on its way
		})
		after := countedNow(t)
		for series, n := range before {
			if after[series] -= n; after[series] == 0 {
				delete(after, series)
			}
		}
		counts[name] = after
		c.stop()
	}
	if want := counts["message"]; len(want) < 2*len(labelled) {
		t.Errorf("too little is counted: %v", want)
	}
	for _, name := range []string{"written", "fast"} {
		if got, want := counts[name], counts["message"]; !maps.Equal(got, want) {
			t.Errorf("where they differ: as messages\n%v\n%s\n%v", unlike(want, got), name, unlike(got, want))
		}
	}
}

// unlike returns those of some counts that others do not have so.
func unlike(some, others map[string]float64) map[string]float64 {
	some = maps.Clone(some)
	maps.DeleteFunc(some, func(series string, n float64) bool { return others[series] == n })
	return some
}

// A hit is counted before its client has the reply, by CoreDNS too: who reads the metrics then sees it.
func TestHitsAreCountedAtOnce(t *testing.T) {
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), "prometheus 127.0.0.1:0"))
	conn, err := dns.Dial("tcp", c.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange(t, "udp", c.udp, newMsg("good.dane.", dns.TypeMX, withDO)) // a miss
	overTCP := func(t *testing.T, m *dns.Msg) {
		if err := conn.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ReadMsg(); err != nil {
			t.Fatal(err)
		}
	}
	for proto, ask := range map[string]func(*testing.T, *dns.Msg){
		"udp": func(t *testing.T, m *dns.Msg) { exchange(t, "udp", c.udp, m) }, "tcp": overTCP,
	} {
		before := countedNow(t)
		const times = 5
		for range times {
			ask(t, newMsg("good.dane.", dns.TypeMX, withDO))
		}
		after := countedNow(t)
		of := " proto=" + proto + " server=dns://127.0.0.1:0"
		for _, series := range []string{
			"coredns_danelaw_cache_hits_total", "coredns_danelaw_responses_total type=mx verdict=secure",
			"coredns_danelaw_response_duration_seconds verdict=secure",
			"coredns_dns_requests_total family=1" + of + " type=MX view= zone=.",
			"coredns_dns_responses_total plugin=danelaw rcode=NOERROR server=dns://127.0.0.1:0 view= zone=.",
			"coredns_dns_do_requests_total server=dns://127.0.0.1:0 view= zone=.",
			"coredns_dns_request_duration_seconds server=dns://127.0.0.1:0 view= zone=.",
			"coredns_dns_request_size_bytes" + of + " view= zone=.",
			"coredns_dns_response_size_bytes" + of + " view= zone=.",
		} {
			if n := after[series] - before[series]; n < times {
				t.Errorf("over %s %d hits are counted %v times as %s", proto, times, n, series)
			}
		}
	}
}

// countedNow returns what is counted of queries and replies, by series. Times differ, and the replies of danelaw's
// background.
func countedNow(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "coredns_dns_") && !slices.Contains([]string{
			"responses_total", "response_duration_seconds", "cache_hits_total", "cache_misses_total",
			"extended_errors_total"}, strings.TrimPrefix(f.GetName(), "coredns_danelaw_")) {
			continue
		}
		for _, m := range f.GetMetric() {
			series := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() != "block" {
					series += " " + l.GetName() + "=" + l.GetValue()
				}
			}
			all[series] += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if strings.HasSuffix(f.GetName(), "request_size_bytes") { // for replies CoreDNS counts more than it sends
				all[series+" octets"] += m.GetHistogram().GetSampleSum()
			}
		}
	}
	return all
}

// Each of several blocks at one address answers for its own names, over IPv4 and IPv6: for DS as CoreDNS itself would
// have them.
func TestHitsOfBlocks(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			conn, err := net.ListenPacket("udp", net.JoinHostPort(addr, "0"))
			needs.Address(t, addr, err)
			conn.Close()
			block := func(key, ad string) string {
				options := optionsFor(t, lab().Addr(), "ad_clients "+ad)
				return strings.Replace(blockOf(key, options, ""), "127.0.0.1", addr, 1)
			}
			c := startCoreDNS(t, block(".:0", "127.0.0.0/8 ::1")+block("good.dane.:0", "192.0.2.0/24")+
				block("nsec3.:0", "127.0.0.0/8 ::1")+block("good.nsec3.:0", "192.0.2.0/24"))
			hits := func() float64 { return metric(t, "cache_hits_total") }
			for try := range 3 {
				before, asked := hits(), 0
				for question, ad := range map[dns.Question]bool{
					dnssec.Question("good.dane.", dns.TypeA): false, dnssec.Question("mx.good.dane.", dns.TypeA): false,
					dnssec.Question("dane.", dns.TypeNS): true, dnssec.Question("good.nsec3.", dns.TypeA): false,
					dnssec.Question("nsec3.", dns.TypeNS): true, dnssec.Question("dane.", dns.TypeDS): true,
					dnssec.Question("good.dane.", dns.TypeDS): false, dnssec.Question("good.nsec3.", dns.TypeDS): true,
				} {
					asked++
					if r := c.ask(question.Name, question.Qtype, withDO); r.AuthenticatedData != ad {
						t.Errorf("%s %s at %s: %s", question.Name, dns.Type(question.Qtype), addr, describes(r))
					}
				}
				if n := hits() - before; try > 0 && n < float64(asked) {
					t.Errorf("at %s %v of %d are hits", addr, n, asked)
				}
			}
		})
	}
}

// What keeps hits from passing by CoreDNS, and that the log says it.
func TestWhatPasses(t *testing.T) {
	up := lab().Addr()
	const local = "view local {\n expr incidr(client_ip(), '127.0.0.0/8')\n}"
	with := func(plugins string) string { return blockOf(".:0", optionsFor(t, up), plugins) }
	for name, row := range map[string]struct {
		text string
		why  string // "": all passes
	}{
		"alone":    {blockOf(".:0", optionsFor(t, up), ""), ""},
		"blind":    {with("errors\nprometheus 127.0.0.1:0"), ""},
		"others":   {with("ready 127.0.0.1:0\nhealth 127.0.0.1:0\nreload 1h\npprof 127.0.0.1:0"), ""},
		"off":      {blockOf(".:0", optionsFor(t, up, "fastpath off"), ""), "fastpath off"},
		"debug":    {with("debug"), "the plugin debug has each reply logged"},
		"log":      {with("log"), "the plugin log comes before danelaw"},
		"hosts":    {with("hosts {\n 192.0.2.1 a.example\n fallthrough\n}"), "the plugin hosts comes before danelaw"},
		"acl":      {with("acl {\n block net 192.0.2.0/24\n}"), "the plugin acl comes before danelaw"},
		"rewrite":  {with("rewrite name a.example b.example"), "the plugin rewrite comes before danelaw"},
		"dnstap":   {with("dnstap /nonexistent/dnstap.sock"), "the plugin dnstap comes before danelaw"},
		"view":     {with(local), "the plugin view looks at each query"},
		"views":    {with(local) + with(""), ". has views"},
		"stranger": {with("stranger"), "the plugin stranger comes before danelaw"},
		"behind":   {with("forward . " + up), ""},
		"other zone": {
			blockOf(".:0", optionsFor(t, up), "") + blockOf("dane.:0", optionsFor(t, up), "log"),
			"dane.: the plugin log",
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := logged(t)
			t.Cleanup(clog.D.Clear) // of the whole process
			startCoreDNS(t, row.text)
			said := out.String()
			if strings.Contains(said, "through CoreDNS") != (row.why != "") || !strings.Contains(said, row.why) {
				t.Errorf("the log says %q, want %q", said, row.why)
			}
		})
	}
}

// L-7: what is looked at between two pieces of work are danelaw's own sockets.
func TestPauseLooks(t *testing.T) {
	h := open(t, config(t, lab().Addr()))
	for work, pause := range map[string]func(){
		"is being validated": h.resolving.Pause, "is put to upstreams": h.upstreams.config(h.config).Pause,
	} {
		if reflect.ValueOf(pause).Pointer() != reflect.ValueOf(fastpath.Look).Pointer() {
			t.Errorf("hits wait for what %s", work)
		}
	}
}
