package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// S-6: a name whose servers hang costs one socket and, however long it is waited for, no more than four questions.
func TestHangingNamesCostOneSocketEach(t *testing.T) {
	leakless(t)
	const names = 400
	s := serve(t, func(*asked) {})
	set := rootSet(t, s.plain())
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range names {
		all.Go(func() { set.Exchange(ctx, question(fmt.Sprintf("n%d.example.", i), dns.TypeMX), fetch.Try{CD: true}) })
	}
	time.Sleep(firstCopy + 3*steadyCopies) // one more than all copies take
	if n := udpSockets.open.Load(); n > names {
		t.Errorf("%d names hold %d sockets", names, n)
	}
	cancel()
	all.Wait()
	ports, copies := map[uint16]bool{}, map[string]int{}
	for _, a := range s.got("udp") {
		ports[a.from.Port()] = true
		copies[a.msg.Question[0].Name]++
	}
	if len(ports) > names || len(copies) < names*9/10 { // the queue of the server's socket may lose some
		t.Errorf("%d of %d names were asked for from %d ports", len(copies), names, len(ports))
	}
	for name, n := range copies {
		if n > mostCopies-1 { // one was over TCP
			t.Errorf("%s: %d datagrams", name, n)
		}
	}
	eventually(t, "all sockets to be closed", func() bool { return udpSockets.open.Load() == 0 })
}

// When half of the sockets are open, a question nobody answers is put twice.
func TestFewerCopiesWhenBusy(t *testing.T) {
	leakless(t)
	bounded(t, 2)
	s := serve(t, func(*asked) {})
	set := rootSet(t, s.plain())
	udpSockets.take()
	defer udpSockets.give()
	ctx := ctxFor(t, firstCopy+2*steadyCopies)
	set.Exchange(ctx, mxQuestion, fetch.Try{CD: true})
	if n := len(s.got("udp")) + len(s.got("tcp")); n != busyCopies {
		t.Errorf("asked %d times, want %d", n, busyCopies)
	}
}

// S-6: nor do more go out then where TCP is refused, but the one for a client who has come late.
func TestLossWithoutTCPWhenBusy(t *testing.T) {
	leakless(t)
	bounded(t, 2)
	s := serveUDP(t, func(*asked) {})
	set := rootSet(t, s.plain())
	udpSockets.take()
	defer udpSockets.give()
	late := fetch.Try{CD: true, Demand: func() int { return 2 }}
	set.Exchange(ctxFor(t, firstCopy+4*steadyCopies), mxQuestion, late)
	if n := len(s.got("udp")); n > busyCopies+1 {
		t.Errorf("%d datagrams, want at most %d", n, busyCopies+1)
	}
}

// bounded lets no more sockets be open than most.
func bounded(t *testing.T, most int) {
	before := udpSockets.most
	udpSockets.most = func() int { return most }
	t.Cleanup(func() { udpSockets.most = before })
}

// Nothing is sent again while nobody waits for the reply.
func TestNoCopiesWhileIdle(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) {
		if a.n > 0 {
			a.answer(theMX(t))
		}
	})
	set := rootSet(t, s.plain())
	var wanted atomic.Int32
	ended := make(chan error)
	go func() {
		_, err := set.Exchange(ctxFor(t, longEnough), mxQuestion,
			fetch.Try{Demand: func() int { return int(wanted.Load()) }})
		ended <- err
	}()
	time.Sleep(4 * firstCopy)
	if n := len(s.got("udp")) + len(s.got("tcp")); n != 1 {
		t.Errorf("asked %d times for nobody", n)
	}
	wanted.Store(1)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Where no socket may be opened any more, the question goes over TCP, whose connection serves many; without TCP it ends
// by a limit that is held against nobody.
func TestSocketsAreBounded(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) { a.answer(theMX(t)) })
	bounded(t, 0)
	wantMX(t, rootSet(t, s.plain()))
	if len(s.got("udp")) != 0 || len(s.got("tcp")) != 1 {
		t.Errorf("%d questions over UDP, %d over TCP", len(s.got("udp")), len(s.got("tcp")))
	}
	set := rootSet(t, serveUDP(t, func(a *asked) { a.answer(theMX(t)) }).plain())
	_, err := exchange(t, set)
	if !errors.Is(err, errOutstanding) ||
		!strings.Contains(err.Error(), "was not asked over UDP: 0 sockets are open for that already") {
		t.Errorf("got %v", err)
	}
	if _, alive := set.upstreams[0].health.state(); !alive {
		t.Error("the upstream counts as dead")
	}
	bounded(t, 1)
	wantMX(t, set)
	eventually(t, "all sockets to be closed", func() bool { return udpSockets.open.Load() == 0 })
}

// However many upstreams there are, a question holds two sockets at most, and the last upstream is asked all the same.
func TestTwoSocketsForManyUpstreams(t *testing.T) {
	leakless(t)
	var most atomic.Int64
	note := func(*asked) { most.Store(max(most.Load(), udpSockets.open.Load())) }
	var to []Address
	for range 3 {
		to = append(to, serve(t, note).plain())
	}
	last := serve(t, func(a *asked) { note(a); a.answer(theMX(t)) })
	if reply := wantMX(t, rootSet(t, append(to, last.plain())...)); reply.Upstream != last.addr.String() {
		t.Errorf("reply from %s", reply.Upstream)
	}
	if most.Load() != socketsPerQuestion {
		t.Errorf("%d sockets at once, want %d", most.Load(), socketsPerQuestion)
	}
}

// One that gave up its socket is asked again when the others have failed.
func TestSocketGivenUpIsNotAFault(t *testing.T) {
	leakless(t)
	var fail sync.Once
	failing := make(chan struct{})
	first := serve(t, func(a *asked) {
		if a.n > 0 {
			a.answer(theMX(t))
		}
	})
	refuse := func(a *asked) { <-failing; a.rcode(dns.RcodeRefused) }
	second := serve(t, refuse)
	third := serve(t, func(a *asked) { fail.Do(func() { close(failing) }); refuse(a) })
	if reply := wantMX(t, rootSet(t, first.plain(), second.plain(),
		third.plain())); reply.Upstream != first.addr.String() {
		t.Errorf("reply from %s", reply.Upstream)
	}
}

// S-6: no port that a daemon may want, that is in use here, or that the administrator has set aside.
func TestPortsThatAreFree(t *testing.T) {
	root := t.TempDir()
	write := func(file, text string) {
		t.Helper()
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	write("net/udp", head+"   1: 00000000:4E20 00000000:0000 07 00000000:00000000\n   2: 0100007F:4E21 0100007F:0035 "+
		"01 00000000:00000000\n")
	write("net/udp6", head+"   1: 00000000000000000000000000000000:4E22 00000000000000000000000000000000:0000 07 0:0\n")
	write("net/tcp", head+"   1: 00000000:4E23 00000000:0000 0A 0:0\n"+
		"   2: 0100007F:4E24 0100007F:0035 01 0:0\n   odd\n")
	write("net/tcp6", head+"   1: 00000000000000000000000000000000:4E25 00000000000000000000000000000000:0000 0A 0:0\n")
	write("sys/net/ipv4/ip_local_reserved_ports", "21000,22001-22003,65535\n")
	free := (&portPool{root: root}).look()
	for port, want := range map[uint16]bool{
		53: false, 1023: false, 1024: true, 1812: false, 5353: false, 51820: false,
		20000: false, 20001: true, 20002: false, 20003: false, 20004: true, 20005: false,
		21000: false, 21001: true, 22000: false, 22001: false, 22002: false, 22003: false, 22004: true,
		65534: true, 65535: false,
	} {
		if got := slices.Contains(free, port); got != want {
			t.Errorf("port %d is free: %v, want %v", port, got, want)
		}
	}
	if nowhere := (&portPool{root: filepath.Join(root, "nothing")}).look(); len(nowhere) < 60000 ||
		len(nowhere) <= len(free) {
		t.Errorf("%d ports where the system does not tell, %d where it does", len(nowhere), len(free))
	}
	write("sys/net/ipv4/ip_local_reserved_ports", "1024-65535\n")
	if port := (&portPool{root: root}).random(time.Now()); port != 0 {
		t.Errorf("port %d of none", port)
	}
}

// What is bound or reserved later is avoided once the tables are read again.
func TestPortsAreReadAgain(t *testing.T) {
	root := t.TempDir()
	pool, now := portPool{root: root}, time.Now()
	pool.random(now)
	before := len(pool.free)
	if err := os.MkdirAll(filepath.Join(root, "sys/net/ipv4"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "sys/net/ipv4/ip_local_reserved_ports"),
		[]byte("40000"), 0o644); err != nil {
		t.Fatal(err)
	}
	if pool.random(now.Add(portsLife)); len(pool.free) != before {
		t.Error("read again too soon")
	}
	if pool.random(now.Add(portsLife + 1)); len(pool.free) != before-1 {
		t.Errorf("%d ports, %d before", len(pool.free), before)
	}
	if pool.random(now.Add(-time.Hour)); len(pool.free) != before-1 { // a clock that was set back
		t.Errorf("%d ports", len(pool.free))
	}
}

// A port that somebody has bound on any address of this host is not taken, though the tables do not tell yet.
func TestPortInUseIsNotTaken(t *testing.T) {
	leakless(t)
	s := serve(t, func(a *asked) { a.answer(theMX(t)) })
	held, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	port := held.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	before := local.free
	defer func() { local.free = before }()
	local.random(time.Now())
	local.free = []uint16{port}
	_, err = openSocket(s.addr)
	f, ok := errors.AsType[*fault](err)
	if !ok || f.reason != Busy || !errors.Is(err, errOutstanding) {
		t.Errorf("got %v", err)
	}
	eventually(t, "all sockets to be closed", func() bool { return udpSockets.open.Load() == 0 })
}

// The ports of questions are spread over all that are free.
func TestPortsAreSpread(t *testing.T) {
	pool := portPool{root: t.TempDir()}
	var parts [16]int
	for range 16000 {
		parts[pool.random(time.Now())>>12]++
	}
	// 1000 each are expected, fewer in the first, where 1024 are missing; ten times the standard deviation
	for i, n := range parts {
		if n < 500 || n > 1350 {
			t.Errorf("part %d of 16 has %d", i, n)
		}
	}
}

// A question that has been put as often as it may be is put once more, each time, for clients who come later: an
// upstream that was away may be back.
func TestCopiesForThoseWhoComeLater(t *testing.T) {
	leakless(t)
	bounded(t, 2) // so that two copies are the most
	udpSockets.take()
	defer udpSockets.give()
	s := serve(t, func(a *asked) {
		if a.network == "tcp" { // the third
			a.answer(theMX(t))
		}
	})
	set := rootSet(t, s.plain())
	var demand atomic.Int32
	demand.Store(1)
	ended := make(chan error)
	go func() {
		_, err := set.Exchange(ctxFor(t, longEnough), mxQuestion,
			fetch.Try{Demand: func() int { return int(demand.Load()) }})
		ended <- err
	}()
	time.Sleep(firstCopy + 2*steadyCopies)
	if n := len(s.got("udp")); n != busyCopies || len(s.got("tcp")) != 0 {
		t.Errorf("asked %d times over UDP, %d over TCP", n, len(s.got("tcp")))
	}
	demand.Add(1)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
