package danelaw

import (
	"context"
	"fmt"
	golog "log"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/trustanchors"
	"github.com/danelaw-dns/danelaw/zones"
)

// lab is the one that most tests share: it is not changed, and signing its zones takes a moment.
var lab = sync.OnceValue(func() *zones.Lab {
	l, err := zones.Start(zones.Options{})
	if err != nil {
		panic(err)
	}
	return l
})

// upstreamAt parses host:port as an upstream.
func upstreamAt(t testing.TB, hostport string) upstream.Address {
	t.Helper()
	a, err := upstream.Parse(hostport)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// patience is how long anything may take on a machine that is busy with something else.
const patience = time.Minute

// configs counts them, so that each has a memory and metrics of its own.
var configs atomic.Int64

// config is a configuration with the anchor of the lab, which asks the given upstreams, or the lab's recursor. Its
// cache is its own.
func config(t testing.TB, upstreams ...string) Config {
	t.Helper()
	c := Defaults()
	c.Block = fmt.Sprintf("%s %d", t.Name(), configs.Add(1))
	c.Anchors = trustanchors.Set{".": lab().DS()}
	if len(upstreams) == 0 {
		upstreams = []string{lab().Addr()}
	}
	route := upstream.Route{From: "."}
	for _, u := range upstreams {
		route.To = append(route.To, upstreamAt(t, u))
	}
	c.Routes = []upstream.Route{route}
	c.processorsShort = enough
	return c
}

// enough has a test not depend on what else this machine has to do.
func enough() bool { return false }

// open returns a Handler that is closed at the end.
func open(t testing.TB, c Config) *Handler {
	t.Helper()
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// things is how many of that type the registry of the process holds.
func things[T lasting]() (n int) {
	process.mu.Lock()
	defer process.mu.Unlock()
	for key := range process.things {
		if _, ok := key.(keyOf[T]); ok {
			n++
		}
	}
	return n
}

// serve puts a Handler on a socket of 127.0.0.1, UDP and TCP, and returns its address.
func serve(t testing.TB, h *Handler) string {
	t.Helper()
	return ports.Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		h.ServeDNS(context.Background(), w, r) //nolint:errcheck // it has written its reply
	}))
}

// server is a danelaw over the lab on a socket: the usual beginning of a test.
func server(t testing.TB) string {
	t.Helper()
	return serve(t, open(t, config(t)))
}

// change alters a query before it is sent.
type change func(*dns.Msg)

func withDO(m *dns.Msg)   { m.SetEdns0(4096, true) }
func withEDNS(m *dns.Msg) { m.SetEdns0(4096, false) }
func withAD(m *dns.Msg)   { m.AuthenticatedData = true }
func withCD(m *dns.Msg)   { m.CheckingDisabled = true }
func withoutRD(m *dns.Msg) {
	m.RecursionDesired = false
}
func withSize(size uint16) change { return func(m *dns.Msg) { m.SetEdns0(size, true) } }

func newMsg(name string, qtype uint16, changes ...change) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	for _, c := range changes {
		c(m)
	}
	return m
}

// ask puts a question over UDP, and again over TCP if the reply is truncated.
func ask(t testing.TB, server, name string, qtype uint16, changes ...change) *dns.Msg {
	t.Helper()
	m := newMsg(name, qtype, changes...)
	r := exchange(t, "udp", server, m)
	if r.Truncated {
		r = exchange(t, "tcp", server, m)
	}
	return r
}

// exchange sends one message over one transport.
func exchange(t testing.TB, network, server string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: patience, UDPSize: dns.MaxMsgSize}
	r, _, err := c.Exchange(m, server)
	if err != nil {
		t.Fatalf("%s over %s: %v", m.Question[0].String(), network, err)
	}
	return r
}

// faultCodes are the codes that tell of a fault, and not only that nobody was asked (C-9).
func faultCodes(m *dns.Msg) []uint16 {
	return slices.DeleteFunc(edes(m), func(code uint16) bool { return code == dns.ExtendedErrorCodeSynthesized })
}

// edes are the codes of the Extended DNS Errors of a reply, in its order.
func edes(m *dns.Msg) (codes []uint16) {
	for _, e := range extended(m) {
		codes = append(codes, e.InfoCode)
	}
	return codes
}

func extended(m *dns.Msg) (all []*dns.EDNS0_EDE) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				all = append(all, e)
			}
		}
	}
	return all
}

// types are those of a section, without repetition.
func types(rrs []dns.RR) []string {
	seen := map[string]bool{}
	for _, rr := range rrs {
		seen[dns.Type(rr.Header().Rrtype).String()] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func describes(m *dns.Msg) string {
	return dns.RcodeToString[m.Rcode] + " AD=" + strconv.FormatBool(m.AuthenticatedData) + " EDE " + textOf(m)
}

func textOf(m *dns.Msg) (text string) {
	for _, e := range extended(m) {
		text += strconv.Itoa(int(e.InfoCode)) + " " + e.ExtraText + "; "
	}
	return text
}

// client is a dns.ResponseWriter for a client of any address, which no socket of a test can have.
type client struct {
	addr   net.Addr
	reply  *dns.Msg
	wire   []byte
	writes int
	fail   error // of the first WriteMsg
}

func from(addr string) *client {
	return &client{addr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))}
}

func fromTCP(addr string) *client {
	return &client{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))}
}

func (c *client) LocalAddr() net.Addr  { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53} }
func (c *client) RemoteAddr() net.Addr { return c.addr }
func (c *client) WriteMsg(m *dns.Msg) (err error) {
	c.writes++
	if err = c.fail; err != nil {
		c.fail = nil
		return err
	}
	if c.wire, err = m.Pack(); err != nil {
		return err
	}
	c.reply = new(dns.Msg)
	return c.reply.Unpack(c.wire)
}
func (c *client) Write(wire []byte) (int, error) {
	c.writes++
	c.wire = wire
	c.reply = new(dns.Msg)
	return len(wire), c.reply.Unpack(wire)
}
func (c *client) Close() error        { return nil }
func (c *client) TsigStatus() error   { return nil }
func (c *client) TsigTimersOnly(bool) {}
func (c *client) Hijack()             {}

// ask has h answer this client.
func (c *client) ask(t testing.TB, h plugin.Handler, name string, qtype uint16, changes ...change) *dns.Msg {
	t.Helper()
	return c.send(t, h, newMsg(name, qtype, changes...))
}

func (c *client) send(t testing.TB, h plugin.Handler, m *dns.Msg) *dns.Msg {
	t.Helper()
	c.reply = nil
	if rcode, err := h.ServeDNS(context.Background(), c, m); rcode != dns.RcodeSuccess || err != nil {
		t.Errorf("ServeDNS returned %d, %v; the server would write a second reply", rcode, err)
	}
	return c.reply
}

// whole is a plugin that wants to see the messages of replies: what is behind it writes none as octets.
type whole struct{ plugin.Handler }

func (p whole) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return p.Handler.ServeDNS(ctx, messages{w}, r)
}

// messages is a writer for messages only.
type messages struct{ dns.ResponseWriter }

func (messages) Write([]byte) (int, error) { panic("octets that should be a message") }

// canned is a resolver whose answers are given.
type canned func(q dns.Question) *resolve.Answer

func (c canned) Resolve(_ context.Context, q dns.Question) *resolve.Answer   { return c(q) }
func (c canned) Unchecked(_ context.Context, q dns.Question) *resolve.Answer { return c(q) }
func (c canned) Cached(q dns.Question) *resolve.Answer                       { return c(q) }

// openCanned returns a Handler whose answers are given.
func openCanned(t testing.TB, answer canned) *Handler {
	t.Helper()
	h := open(t, config(t))
	h.resolver = answer
	return h
}

// records parses records, one a line.
func records(t testing.TB, lines ...string) (rrs []dns.RR) {
	t.Helper()
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// logged collects what is logged until the test ends.
func logged(t testing.TB) *observe.Output {
	t.Helper()
	b := &observe.Output{}
	golog.SetOutput(b)
	t.Cleanup(clog.Discard)
	return b
}

// metric returns the value of a metric of danelaw, the sum of those that have the given labels and values; of a
// histogram the number of observations.
func metric(t testing.TB, name string, labels ...string) (sum float64) {
	t.Helper()
	for _, m := range gathered(t, "coredns_danelaw_"+name) {
		its := map[string]string{}
		for _, l := range m.GetLabel() {
			its[l.GetName()] = l.GetValue()
		}
		same := true
		for i := 0; i < len(labels); i += 2 {
			same = same && its[labels[i]] == labels[i+1]
		}
		if same {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// gathered returns what there is of a metric. It asks whoever has it alone: the blocks of all tests make thousands.
func gathered(t testing.TB, name string) []*dto.Metric {
	t.Helper()
	r := prometheus.NewRegistry()
	if i := slices.IndexFunc(collectors, func(c prometheus.Collector) bool { return has(c, name) }); i < 0 {
		t.Fatalf("no metric is named %s", name)
	} else if err := r.Register(collectors[i]); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}

// has reports whether a collector has a metric.
func has(c prometheus.Collector, name string) (found bool) {
	for d := range described(c) {
		found = found || strings.Contains(d.String(), `fqName: "`+name+`"`)
	}
	return found
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// noLeak fails the test if at its end more goroutines run than now. Call it before anything is started.
func noLeak(t testing.TB) {
	t.Helper()
	lab() // its goroutines stay
	before := runtime.NumGoroutine()
	t.Cleanup(func() { noneLeft(t, before) })
}

// noneLeft fails the test if 5 s later more goroutines run than before.
func noneLeft(t testing.TB, before int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.GC() // forward ends some of its own by a finalizer
		time.Sleep(10 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > before {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", before, now, stacks[:runtime.Stack(stacks, true)])
	}
}
