package danelaw

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// anchorFile holds the anchor of the lab.
func anchorFile(t testing.TB) string {
	t.Helper()
	var lines []string
	for _, ds := range lab().DS() {
		lines = append(lines, ds.String())
	}
	file := filepath.Join(t.TempDir(), "anchors")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func corefile(text string) caddy.Input {
	return caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(text), ServerTypeName: "dns"}
}

// blockOf is a server block with danelaw and the given options, on a free port.
func blockOf(keys, options, others string) string {
	return fmt.Sprintf("%s {\n bind 127.0.0.1\n danelaw {\n%s\n }\n%s\n}\n", keys, options, others)
}

// coreDNS is a CoreDNS that runs.
type coreDNS struct {
	t        testing.TB
	instance *caddy.Instance
	udp, tcp string
}

// startCoreDNS starts one; it ends with the test.
func startCoreDNS(t testing.TB, text string) *coreDNS {
	t.Helper()
	c, err := startable(t, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// startable starts one that may fail to.
func startable(t testing.TB, text string) (*coreDNS, error) {
	t.Helper()
	i, err := caddy.Start(corefile(text))
	if err != nil {
		return nil, err
	}
	c := &coreDNS{t: t, instance: i}
	t.Cleanup(c.stop)
	c.serves()
	c.tcp = i.Servers()[0].Addr().String()
	if at := i.Servers()[0].LocalAddr(); at != nil { // over TLS there is none
		c.udp = at.String()
	}
	return c, nil
}

// stop ends it in the daemon's order: first no new queries, then what answers them.
func (c *coreDNS) stop() {
	if c.instance != nil {
		c.instance.Stop() //nolint:errcheck // it returns nil
		c.instance.ShutdownCallbacks()
	}
	c.instance = nil
}

func (c *coreDNS) reload(text string) error {
	i, err := c.instance.Restart(corefile(text))
	c.instance = i
	c.serves()
	return err
}

// serves waits until CoreDNS's own servers have begun, each in a goroutine: one that is to stop before never stops.
func (c *coreDNS) serves() {
	c.t.Helper()
	eventually(c.t, "CoreDNS serves", func() bool {
		stacks := make([]byte, 4<<20)
		for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			state, _, _ := strings.Cut(g, "\n")
			if strings.Contains(g, "created by github.com/coredns/caddy.startServers.func1") &&
				(strings.Contains(state, "[runnable") || strings.Contains(state, "[running")) {
				return false
			}
		}
		return true
	})
}

func (c *coreDNS) ask(name string, qtype uint16, changes ...change) *dns.Msg {
	c.t.Helper()
	m := newMsg(name, qtype, changes...)
	r := exchange(c.t, "udp", c.udp, m)
	if r.Truncated {
		r = exchange(c.t, "tcp", c.tcp, m)
	}
	return r
}

func optionsFor(t testing.TB, upstream string, more ...string) string {
	t.Helper()
	return strings.Join(append([]string{"upstream . " + upstream, "trust_anchor " + anchorFile(t)}, more...), "\n")
}

// TestCoreDNS: the lab through a whole CoreDNS, with upstreams of danelaw's own and through forward.
func TestCoreDNS(t *testing.T) {
	for name, text := range map[string]string{
		"upstream": blockOf(".:0", optionsFor(t, lab().Addr()), ""),
		"forward":  blockOf(".:0", "trust_anchor "+anchorFile(t), "forward . "+lab().Addr()),
	} {
		c := startCoreDNS(t, text)
		for _, d := range lab().Domains() {
			for _, q := range d.Questions {
				if name == "forward" && q.EDE == dns.ExtendedErrorCodeNoReachableAuthority {
					continue // forward hands SERVFAIL on
				}
				check(t, name+": "+q.Name+" "+dns.Type(q.Type).String(), q, c.ask(q.Name, q.Type, withDO), false)
			}
		}
		c.stop()
	}
}

// TestCoreDNSSizes: CoreDNS's own trimming of replies cuts no RRset of ours (S-3), whatever the client takes.
func TestCoreDNSSizes(t *testing.T) {
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), ""))
	for name, all := range map[string]int{manyTLSA: 0, "nothing.rsasha512.dane.": 0, "any.name.wildcard.nsec3.": 0} {
		r := exchange(t, "tcp", c.tcp, newMsg(name, dns.TypeTLSA, withDO))
		all = len(r.Answer) + len(r.Ns)
		var before int
		for size := uint16(500); size < 4200; size += 3 {
			r := exchange(t, "udp", c.udp, newMsg(name, dns.TypeTLSA, withSize(size)))
			got := len(r.Answer) + len(r.Ns)
			checkWhole(t, fmt.Sprintf("%s, size %d", name, size), r, all)
			if got < before {
				t.Errorf("%s, size %d: %d records, with less room there were %d", name, size, got, before)
			}
			if before = got; size > 3000 && got < all {
				t.Errorf("%s, size %d: %d of %d records", name, size, got, all)
			}
		}
	}
}

// TestCoreDNSQueries: what CoreDNS answers before any plugin (V-15, S-2, S-22).
func TestCoreDNSQueries(t *testing.T) {
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), ""))
	for rcode, m := range map[int]*dns.Msg{
		dns.RcodeRefused: newMsg("version.bind.", dns.TypeTXT,
			func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
		dns.RcodeBadVers:        newMsg(secureMX, dns.TypeMX, withDO, func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }),
		dns.RcodeFormatError:    newMsg(secureMX, dns.TypeMX, func(m *dns.Msg) { m.Extra = []dns.RR{opt(), opt()} }),
		dns.RcodeNotImplemented: newMsg(secureMX, dns.TypeMX, func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }),
	} {
		if r := raw(t, c.udp, pack(t, m), 5*time.Second); r == nil || r.Rcode != rcode || r.AuthenticatedData {
			t.Errorf("%s: %v", dns.RcodeToString[rcode], r)
		}
	}
}

// TestBlocks: each server block has its own options, memory and metrics, and its name in them.
func TestBlocks(t *testing.T) {
	book := logged(t)
	c := startCoreDNS(t,
		blockOf("dane:0 nsec3:0", optionsFor(t, lab().Addr()), "")+
			blockOf(".:0", optionsFor(t, lab().Addr(), "ad_clients 192.0.2.0/24", "private corp.example"), "whoami")+
			blockOf("plain:0", optionsFor(t, lab().Addr(), "allow_clients 192.0.2.0/24"), ""))
	for _, tt := range []struct {
		name, block string
		rcode       int
		ad          bool
	}{
		{"good.dane.", "dns://dane.:0 dns://nsec3.:0", dns.RcodeSuccess, true},
		{"good.nsec3.", "dns://dane.:0 dns://nsec3.:0", dns.RcodeSuccess, true},
		{"good.opt-out.", "dns://.:0", dns.RcodeSuccess, false},
		{"x.corp.example.", "dns://.:0", dns.RcodeSuccess, false},
		{"mail.plain.", "dns://plain.:0", dns.RcodeRefused, false},
	} {
		before := metric(t, "responses_total", "block", tt.block)
		if r := c.ask(tt.name, dns.TypeMX, withDO); r.Rcode != tt.rcode || r.AuthenticatedData != tt.ad {
			t.Errorf("%s: %s", tt.name, describes(r))
		}
		eventually(t, tt.name+": one more reply of block "+tt.block, func() bool {
			// a private one counts once it is out
			return metric(t, "responses_total", "block", tt.block) == before+1
		})
	}
	if !strings.Contains(book.String(), "Corefile:24: allow_clients leaves out 127.0.0.1") {
		t.Errorf("log:\n%s", book)
	}
}

// TestStartErrors: what keeps CoreDNS from starting names file and line and the way out.
func TestStartErrors(t *testing.T) {
	noLeak(t)
	upstream := "upstream . 127.0.0.1:1"
	for _, tt := range []struct {
		text string
		want []string
	}{
		// S-26
		{blockOf(".:0", upstream, "cache"), []string{"Corefile:3", "plugin cache", "remove it"}},
		// below
		{blockOf("a.example:0 b.example:0", "", "forward . 127.0.0.1:1\ncache 30"),
			[]string{"Corefile:3", "plugin cache"}},
		// nobody
		{blockOf(".:0", "", ""), []string{"Corefile:3", "nobody to ask", "upstream . ADDRESS"}},
		// nobody
		{blockOf(".:0", upstream+"\nprivate corp.example", ""), []string{"Corefile:3", "private corp.example.",
			"forward"}},
		// the root
		{blockOf(".:0", "upstream example.org 127.0.0.1:1", ""), []string{"Corefile:3", "the trust anchor of .",
			"upstream . ADD"}},
		{blockOf(".:0", "serve_stole 1h", ""), []string{"Corefile:4", `no option "serve_stole"`}},
		{blockOf(".:0", "trust_anchor /nonexistent", ""), []string{"Corefile:4", "/nonexistent"}},
	} {
		i, err := caddy.Start(corefile(tt.text))
		if err == nil {
			i.Stop() //nolint:errcheck // the test has failed
			i.ShutdownCallbacks()
			t.Errorf("it starts:\n%s", tt.text)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error lacks %q: %v", want, err)
			}
		}
	}
	if n := things[*memory](); n != 0 {
		t.Errorf("%d memories are left", n)
	}
}

// TestRoot: files are relative to what root says.
func TestRoot(t *testing.T) {
	file := anchorFile(t)
	text := blockOf(".:0", "upstream . "+lab().Addr()+"\ntrust_anchor "+filepath.Base(file), "root "+filepath.Dir(file))
	if r := startCoreDNS(t, text).ask(secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("%s", describes(r))
	}
}

// TestReload: the cache lives on over a reload, and readiness with it, unless an option that judges has changed.
func TestReload(t *testing.T) {
	noLeak(t)
	p := between(t, honest)
	anchors := optionsFor(t, p.addr)
	text := func(more string) string { return blockOf(".:0", anchors+"\n"+more, "") }
	c := startCoreDNS(t, text(""))
	defer c.stop()
	c.ask(secureMX, dns.TypeMX)
	eventually(t, "ready", func() bool { return metric(t, "ready", "block", "dns://.:0") == 1 })
	p.become(servfail)
	for _, same := range []string{"", "ignore_cd on", "timeout 2s\nlimit retries 0", "allow_clients 127.0.0.1"} {
		if err := c.reload(text(same)); err != nil {
			t.Fatal(err)
		}
		if r := c.ask(secureMX, dns.TypeMX, withDO); !r.AuthenticatedData ||
			metric(t, "ready", "block", "dns://.:0") != 1 {
			t.Errorf("after a reload with %q: %s", same, describes(r))
		}
	}
	for _, other := range []string{"sha1 verify", "nsec3_iterations 10", "clock_skew 10s",
		"validation_time 2026-11-20T04:00:00Z", "cache 32MiB"} {
		if err := c.reload(text(other)); err != nil {
			t.Fatal(err)
		}
		if r := c.ask(secureMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeServerFailure {
			t.Errorf("after a reload with %q what was judged otherwise is still there: %s", other, describes(r))
		}
	}
	c.stop()
	if things[*memory]() != 0 || len(process.all()) != 0 {
		t.Errorf("left: %d memories, %d handlers", things[*memory](), len(process.all()))
	}
}

// TestReloadForgetsFailures: who mends the configuration need not wait until failures are forgotten.
func TestReloadForgetsFailures(t *testing.T) {
	p := between(t, stripped)
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, p.addr), ""))
	for range 3 { // each time for longer (C-11)
		if r := c.ask(secureMX, dns.TypeMX, withDO); r.Rcode != dns.RcodeServerFailure {
			t.Errorf("through an upstream that strips signatures: %s", describes(r))
		}
	}
	if err := c.reload(blockOf(".:0", optionsFor(t, lab().Addr()), "")); err != nil {
		t.Fatal(err)
	}
	if r := c.ask(secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("through another, after a reload: %s", describes(r))
	}
}

// TestFailedReload: one that fails leaves the old server as it was, and nothing of the new one.
func TestFailedReload(t *testing.T) {
	own := started(t, config(t)) // a program's own, beside CoreDNS
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), ""))
	c.ask(secureMX, dns.TypeMX)
	eventually(t, "ready", func() bool { return metric(t, "ready", "block", "dns://.:0") == 1 })
	runtime.GC()
	before := runtime.NumGoroutine()
	for _, bad := range []string{
		".:0 {\n nonsense\n}",
		blockOf(".:0", "serve_stole 1h", ""),
		// the first has begun
		blockOf(".:0", optionsFor(t, lab().Addr()), "") + blockOf("z.example:0", optionsFor(t, lab().Addr()), "cache"),
	} {
		if err := c.reload(bad); err == nil {
			t.Errorf("no error from:\n%s", bad)
		}
		if r := c.ask(secureMX, dns.TypeMX, withDO); !r.AuthenticatedData ||
			metric(t, "ready", "block", "dns://.:0") != 1 {
			t.Errorf("the old server after a failed reload: %s", describes(r))
		}
		if r := c.ask("good.dane.", dns.TypeMX, withDO, withCD); !r.AuthenticatedData {
			t.Errorf("the old server after a failed reload: %s", describes(r))
		}
		if len(process.all()) != 2 {
			t.Errorf("%d handlers live on", len(process.all()))
		}
	}
	if r := from("127.0.0.1:5300").ask(t, own, "good.dane.", dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("a handler of the program's own was closed: %s", describes(r))
	}
	noneLeft(t, before)
}

// asking has clients ask one question after another, client by client and by number, until the end.
func asking(clients int, ask func(client, n int) (more bool)) (end func()) {
	var stop atomic.Bool
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			for n := 0; !stop.Load() && ask(i, n); n++ {
			}
		})
	}
	return func() { stop.Store(true); running.Wait() }
}

// TestReloadUnderLoad: no query is lost, over UDP or TCP, and nothing leaks while CoreDNS is reloaded again and again.
func TestReloadUnderLoad(t *testing.T) {
	noLeak(t)
	text := blockOf(".:0", optionsFor(t, lab().Addr(), "timeout 20s"), "")
	c := startCoreDNS(t, text)
	defer c.stop()
	c.ask(secureMX, dns.TypeMX)
	var asked, wrong atomic.Int64
	end := asking(8, func(client, n int) bool {
		m := newMsg(fmt.Sprintf("n%d-%d.rsasha256.dane.", client, n), dns.TypeMX, withDO)
		want := dns.RcodeNameError
		if n%2 == 0 {
			m, want = newMsg(secureMX, dns.TypeMX, withDO), dns.RcodeSuccess
		}
		network, server := "udp", c.udp
		if client%4 == 0 && runtime.GOOS == "linux" { // elsewhere a reload ends the connections
			network, server = "tcp", c.tcp
		}
		r, _, err := (&dns.Client{Net: network, Timeout: patience}).Exchange(m, server)
		asked.Add(1)
		if err != nil || r.Rcode != want || !r.AuthenticatedData {
			if wrong.Add(1) < 5 {
				t.Errorf("%s: %v %v", m.Question[0].Name, err, r)
			}
		}
		return true
	})
	for range 20 {
		if err := c.reload(text); err != nil {
			t.Fatal(err)
		}
		time.Sleep(soak(20*time.Millisecond) / 20)
	}
	end()
	t.Logf("%d queries, %d wrong", asked.Load(), wrong.Load())
	if len(process.all()) != 1 || things[*memory]() != 1 {
		t.Errorf("%d handlers and %d memories after the reloads", len(process.all()), things[*memory]())
	}
}

// TestLeftBehind: a server that CoreDNS has not ended in a reload, as it had not begun to serve, answers as the new one
// does.
func TestLeftBehind(t *testing.T) {
	c := config(t)
	c.Block = "dns://left.behind:0"
	left := &directive{block: c.Block}
	left.handler.Store(started(t, c))
	successor := started(t, c)
	left.close()
	if r := from("127.0.0.1:5300").ask(t, left, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("after a reload: %s", describes(r))
	}
	successor.Close()
	r := from("127.0.0.1:5300").ask(t, left, "good.dane.", dns.TypeMX, withDO)
	if r.Rcode != dns.RcodeServerFailure || len(edes(r)) == 0 {
		t.Errorf("when nobody serves any more: %s", describes(r))
	}
}

// TestLeftBehindTwice: the successor that answers a query of a server left behind is closed by the next reload only
// once it has.
func TestLeftBehindTwice(t *testing.T) {
	c := config(t)
	c.Block = "dns://left.twice:0"
	left, next := &directive{block: c.Block}, &directive{block: c.Block}
	left.handler.Store(started(t, c))
	left.close()
	next.handler.Store(started(t, c))
	h := left.enter()
	closed := make(chan struct{})
	go func() { next.close(); close(closed) }()
	eventually(t, "the end of the successor", next.closed.Load)
	if r := from("127.0.0.1:5300").ask(t, h, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("in the second reload: %s", describes(r))
	}
	h.asked.Add(-1)
	<-closed
}

// TestReadyPlugin: ready reports danelaw, and over a reload never that it is not ready.
func TestReadyPlugin(t *testing.T) {
	p := between(t, servfail)
	addr := fmt.Sprint("127.0.0.1:", ports.Closed(t))
	text := blockOf(".:0", optionsFor(t, p.addr), "ready "+addr)
	c := startCoreDNS(t, text)
	if status, body := get(t, addr); status != http.StatusServiceUnavailable || body != "danelaw" {
		t.Errorf("without upstream: %d %s", status, body)
	}
	p.become(honest)
	eventually(t, "ready", func() bool { status, _ := get(t, addr); return status == http.StatusOK })
	p.become(servfail)
	for range 3 {
		if err := c.reload(text); err != nil {
			t.Fatal(err)
		}
		if status, body := get(t, addr); status != http.StatusOK {
			t.Errorf("after a reload: %d %s", status, body)
		}
	}
	if err := c.reload(".:0 {\n nonsense\n}"); err == nil {
		t.Error("no error")
	}
	if status, body := get(t, addr); status != http.StatusOK {
		t.Errorf("after a failed reload: %d %s", status, body)
	}
}

// TestReadyWhileStarting: ready asks before danelaw has begun, while other plugins start. Then it is not ready, and
// over a reload as the one that still serves.
func TestReadyWhileStarting(t *testing.T) {
	addr := fmt.Sprint("127.0.0.1:", ports.Closed(t))
	text := blockOf(".:0", optionsFor(t, lab().Addr()), "pause\nready "+addr)
	begun := false
	meanwhile = func() {
		want := map[bool]int{false: http.StatusServiceUnavailable, true: http.StatusOK}[begun]
		if status, body := get(t, addr); status != want {
			t.Errorf("while it starts, reload %v: %d %s", begun, status, body)
		}
	}
	c := startCoreDNS(t, text)
	eventually(t, "ready", func() bool { status, _ := get(t, addr); return status == http.StatusOK })
	begun = true
	if err := c.reload(text); err != nil {
		t.Fatal(err)
	}
}

// TestLameduck: on the final shutdown, CoreDNS runs the callbacks of all plugins before it stops to serve, and health
// waits in one of its own: until then questions are answered.
func TestLameduck(t *testing.T) {
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), ""))
	for _, f := range c.instance.OnShutdown {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
	if r := c.ask(secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("in the lame duck's time: %s", describes(r))
	}
	c.stop()
	if len(process.all()) > 0 {
		t.Error("it goes on after the end")
	}
}

// TestViews: server blocks with the same keys have memories and metrics of their own.
func TestViews(t *testing.T) {
	c := startCoreDNS(t,
		blockOf(".:0", optionsFor(t, lab().Addr(), "ad_clients 192.0.2.0/24"), "view mx {\n expr type() == 'MX'\n}")+
			blockOf(".:0", optionsFor(t, lab().Addr()), ""))
	for block, qtype := range map[string]uint16{"dns://.:0": dns.TypeMX, "dns://.:0 #2": dns.TypeNS} {
		before := metric(t, "responses_total", "block", block)
		if r := c.ask(secureMX, qtype, withDO); r.Rcode != dns.RcodeSuccess ||
			r.AuthenticatedData != (qtype == dns.TypeNS) {
			t.Errorf("%s: %s", dns.Type(qtype), describes(r))
		}
		if n := metric(t, "responses_total", "block", block) - before; n != 1 {
			t.Errorf("%v replies of block %s", n, block)
		}
	}
	if things[*memory]() != 2 {
		t.Errorf("%d memories", things[*memory]())
	}
}

func get(t *testing.T, addr string) (int, string) {
	t.Helper()
	r, err := http.Get("http://" + addr + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(body)
}

// TestDrain: queries in flight are answered before a server that is told to stop has stopped (S-27).
func TestDrain(t *testing.T) {
	noLeak(t)
	p := between(t, func(_ string, _ int, _, r *dns.Msg) *dns.Msg {
		time.Sleep(100 * time.Millisecond)
		return r
	})
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, p.addr, "timeout 20s", "aggressive_nsec off"), ""))
	replies := make(chan *dns.Msg, 10)
	for i := range cap(replies) {
		m := newMsg(fmt.Sprintf("n%d.rsasha256.dane.", i), dns.TypeMX, withDO)
		go func() {
			r, _, err := (&dns.Client{Timeout: patience}).Exchange(m, c.udp)
			if err != nil {
				t.Error(err)
			}
			replies <- r
		}()
	}
	eventually(t, "the queries arrive", func() bool {
		return len(process.all()) > 0 && inFlight(p) == cap(replies)
	})
	c.stop()
	for range cap(replies) {
		if r := <-replies; r == nil || r.Rcode != dns.RcodeNameError || !r.AuthenticatedData {
			t.Errorf("in flight when it stopped: %v", r)
		}
	}
}

// inFlight counts the names that were asked about; a question may come more than once.
func inFlight(p *proxy) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := map[string]bool{}
	for _, q := range p.asked {
		if strings.HasPrefix(q.Question[0].Name, "n") && q.Question[0].Qtype == dns.TypeMX {
			names[q.Question[0].Name] = true
		}
	}
	return len(names)
}

// TestCloseUnderLoad: a Handler that is closed while it is asked answers SERVFAIL, before the time of its questions is
// up, and does not come back to life (S-27).
func TestCloseUnderLoad(t *testing.T) {
	noLeak(t)
	c := config(t, between(t, silent).addr)
	c.Timeout = 2 * patience
	h := started(t, c)
	server := serve(t, h)
	replies := make(chan *dns.Msg, 50)
	for i := range cap(replies) {
		m := newMsg(fmt.Sprintf("n%d.rsasha256.dane.", i), dns.TypeMX, withDO)
		go func() {
			time.Sleep(time.Duration(i) * 2 * time.Millisecond)
			r, _, err := (&dns.Client{Timeout: patience}).Exchange(m, server)
			if err != nil {
				t.Error(err)
			}
			replies <- r
		}()
	}
	time.Sleep(50 * time.Millisecond)
	h.Close()
	h.Close()
	for range cap(replies) {
		if r := <-replies; r == nil || r.Rcode != dns.RcodeServerFailure || len(edes(r)) == 0 {
			t.Errorf("closed: %v", r)
		}
	}
	if r := ask(t, server, "localhost.", dns.TypeA, withDO); len(r.Answer) != 1 && r.Rcode != dns.RcodeServerFailure {
		t.Errorf("after Close: %s", describes(r))
	}
}

// TestClosesSoon: those who wait then are answered within 3 s of the bubble's time.
func TestClosesSoon(t *testing.T) {
	far(t, nil, func(t *testing.T, h *Handler, d *distant) {
		d.away = time.Hour
		h.Start()
		var clients sync.WaitGroup
		for i := range 50 {
			clients.Go(func() {
				time.Sleep(time.Duration(i) * 2 * time.Millisecond)
				w := from("127.0.0.1:5300")
				_, err := h.ServeDNS(t.Context(), w, newMsg(fmt.Sprintf("n%d.com.", i), dns.TypeMX, withDO))
				if err != nil || w.reply == nil || w.reply.Rcode != dns.RcodeServerFailure || len(edes(w.reply)) == 0 {
					t.Errorf("closed: %v, %v", w.reply, err)
				}
			})
		}
		time.Sleep(50 * time.Millisecond)
		begun := time.Now()
		h.Close()
		clients.Wait()
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestCachedAfterClose: another Handler of the same block goes on with what the first one knew, failures of the end not
// among it.
func TestCachedAfterClose(t *testing.T) {
	p := between(t, honest)
	c := config(t, p.addr)
	first := open(t, c)
	from("127.0.0.1:5300").ask(t, first, secureMX, dns.TypeMX)
	second := open(t, c)
	p.become(servfail)
	first.Close()
	if r := from("127.0.0.1:5300").ask(t, second, secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("%s", describes(r))
	}
	if slices.Contains(process.all(), first) {
		t.Error("the first is still live")
	}
}
