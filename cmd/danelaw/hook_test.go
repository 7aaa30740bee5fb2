package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	mailhost "github.com/danelaw-dns/danelaw/test/receiver"
	"github.com/danelaw-dns/danelaw/test/world"
)

const (
	renewedHost = "mx.good.dane."
	tlsaOwner   = "_25._tcp." + renewedHost
	tsigName    = "hook."
	tsigSecret  = "c2VjcmV0IG9mIHRoZSBob29rIHRoYXQgaXMgbG9uZyBlbm91Z2g="
)

// renewing is a world in which a mail host renews its certificates: a zone with a primary that takes updates and a
// second nameserver, a resolver with a cache, a mail host, and a clock that only the test moves. It looks at each
// moment whether all senders are content, whatever their caches may hold.
type renewing struct {
	t       *testing.T
	clock   *world.Clock
	tree    *world.Tree
	conf    string
	dir     string // the hook's
	shown   string // the file of the certificate that the mail server has read
	smtp    string
	primary string
	tsig    string

	mu      sync.Mutex
	records map[string]uint32 // the RDATA of what the primary has, with its TTL
	lag     bool              // the second nameserver stays behind
	down    bool              // and does not answer
	history []published
	refuse  bool
	more    string // further lines of the zone
	broken  bool   // somebody else has deceived senders
}

// published is a set that a nameserver has shown.
type published struct {
	set    map[string]uint32
	during bool      // it shows it still
	until  time.Time // when the last cache forgets it, else
}

func newRenewing(t *testing.T, current *pairFiles, records map[string]uint32) *renewing {
	t.Helper()
	r := &renewing{t: t, clock: world.NewClock(time.Now()), dir: filepath.Join(t.TempDir(), "hook"), records: records}
	r.tree = world.New(r.clock.Now, world.Zone("."), world.Zone("dane."), world.Zone("good.dane."))
	r.write()
	addr := r.tree.Caching().Serve(t, world.AnyPort)
	tmp := t.TempDir()
	root := write(t, filepath.Join(tmp, "root.ds"), r.tree.DS(".")[0].String()+"\n")
	r.conf = write(t, filepath.Join(tmp, "Corefile"), corefile(53, addr, root))
	r.tsig = write(t, filepath.Join(tmp, "tsig.key"), fmt.Sprintf("# keymgr -t\nkey \"%s\" {\n\talgorithm "+
		"hmac-sha256;\n\tsecret \"%s\";\n};\n", tsigName, tsigSecret))
	if err := os.Chmod(r.tsig, 0o600); err != nil {
		t.Fatal(err)
	}
	r.shown = filepath.Join(tmp, "shown.pem")
	if current != nil {
		write(t, r.shown, current.both)
	}
	r.serveMail()
	r.servePrimary()
	before, beforeReached := outside, reached
	t.Cleanup(func() { outside, reached = before, beforeReached })
	outside.ask, outside.now = r.ask, r.clock.Now
	outside.pause = func(_ context.Context, d time.Duration) bool {
		r.clock.Advance(d)
		r.judge("later")
		return true
	}
	reached = func(at string) { r.judge(at) }
	return r
}

// write has the zone have the records.
func (r *renewing) write() {
	text := world.Base + "@ NS ns2\nns2 A 192.0.2.54\n@ MX 10 mx\nmx A 192.0.2.25\n" + r.more
	for rdata, ttl := range r.records {
		text += fmt.Sprintf("_25._tcp.mx %d TLSA %s\n", ttl, rdata)
	}
	r.tree.Plan("good.dane.").Text = text
	r.tree.Publish()
	r.sees()
}

// sees notes what nameservers show now.
func (r *renewing) sees() {
	now := r.clock.Now()
	for i := range r.history {
		if p := &r.history[i]; p.during && !r.lag {
			p.during, p.until = false, now.Add(time.Duration(longestOf(p.set))*time.Second)
		}
	}
	set := map[string]uint32{}
	for rdata, ttl := range r.records {
		set[rdata] = ttl
	}
	r.history = append(r.history, published{set: set, during: true})
}

func longestOf(set map[string]uint32) (ttl uint32) {
	for _, t := range set {
		ttl = max(ttl, t)
	}
	return ttl
}

// judge fails the test if some sender, whose cache may hold any set that was published, meets a certificate that the
// set does not match.
func (r *renewing) judge(at string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := tls.LoadX509KeyPair(r.shown, r.shown)
	if err != nil || r.broken {
		return // the mail server has no certificate yet, or nothing is to be kept
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range r.history {
		if len(p.set) == 0 || !p.during && !p.until.After(r.clock.Now()) {
			continue
		}
		matches := false
		for rdata := range p.set {
			rr, err := dns.NewRR(tlsaOwner + " TLSA " + rdata)
			if err != nil {
				r.t.Fatal(err)
			}
			var chain []*x509.Certificate
			for _, der := range c.Certificate {
				one, err := x509.ParseCertificate(der)
				if err != nil {
					r.t.Fatal(err)
				}
				chain = append(chain, one)
			}
			_, err = mail.Verify([]*dns.TLSA{rr.(*dns.TLSA)}, chain, []string{renewedHost}, r.clock.Now())
			matches = matches || err == nil
		}
		if !matches {
			r.t.Errorf("at %q, a sender may hold %v, and meets the certificate %v", at, p.set, leaf.SerialNumber)
		}
	}
}

// ask answers what the hook asks nameservers.
func (r *renewing) ask(_ context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if server.Addr() == netip.MustParseAddr("192.0.2.54") {
		if r.down {
			return nil, errors.New("no answer")
		}
		if r.lag {
			return r.old(q), nil
		}
	}
	m := r.tree.Zone("good.dane.").Answer(q.Question[0], true)
	m.Id = q.Id
	return m, nil
}

// old is the answer of a nameserver that has the zone of before.
func (r *renewing) old(q *dns.Msg) *dns.Msg {
	now := r.records
	r.records = r.history[0].set
	text := r.tree.Plan("good.dane.").Text
	keep := r.history
	r.write()
	m := r.tree.Zone("good.dane.").Answer(q.Question[0], true)
	m.Id, r.records, r.history = q.Id, now, keep
	r.tree.Plan("good.dane.").Text = text
	r.tree.Publish()
	return m
}

func (r *renewing) serveMail() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.smtp = l.Addr().String()
	mailhost.Serve(r.t, l, "mx", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(r.shown, r.shown)
		return &c, err
	}}, func([]string, bool) {})
}

// servePrimary takes updates that the key has signed.
func (r *renewing) servePrimary() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.primary = l.Addr().String()
	s := &dns.Server{Listener: l, TsigSecret: map[string]string{tsigName: tsigSecret},
		Handler:       dns.HandlerFunc(r.update),
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go s.ActivateAndServe() //nolint:errcheck // it ends with the test
	<-started
	r.t.Cleanup(func() { s.Shutdown() }) //nolint:errcheck // the test has ended
}

func (r *renewing) update(w dns.ResponseWriter, m *dns.Msg) {
	reply := new(dns.Msg).SetReply(m)
	switch t := m.IsTsig(); {
	case m.Opcode != dns.OpcodeUpdate: // the hook looks at the primary, too
		reply, _ = r.ask(context.Background(), netip.AddrPort{}, m) //nolint:errcheck // it fails for another address
		reply.SetReply(m)
	case t == nil || w.TsigStatus() != nil:
		reply.Rcode = dns.RcodeNotAuth
	case r.refuse:
		reply.Rcode = dns.RcodeRefused
	default:
		r.apply(m)
		reply.SetTsig(t.Hdr.Name, dns.HmacSHA256, 300, time.Now().Unix())
	}
	w.WriteMsg(reply) //nolint:errcheck // the client is gone
}

func (r *renewing) apply(m *dns.Msg) {
	r.mu.Lock()
	for _, rr := range m.Ns {
		text := rdata(rr.(*dns.TLSA))
		switch rr.Header().Class {
		case dns.ClassINET:
			r.records[text] = rr.Header().Ttl
		case dns.ClassNONE:
			delete(r.records, text)
		}
	}
	r.write()
	r.mu.Unlock()
	r.judge("update")
}

// pairFiles is a certificate as clients of authorities write it.
type pairFiles struct{ chain, key, both, record, authority string }

var serial int64

// newPair makes one; by is what the authority is called.
func newPair(t *testing.T, by string, names ...string) *pairFiles {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	above, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	ca := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: by}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: names, NotBefore: ca.NotBefore,
		NotAfter: ca.NotAfter}
	authority, err := x509.CreateCertificate(rand.Reader, ca, ca, above.Public(), above)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), above)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	caSPKI, err := x509.MarshalPKIXPublicKey(above.Public())
	if err != nil {
		t.Fatal(err)
	}
	p := &pairFiles{key: block("PRIVATE KEY", secret), record: "3 1 1 " + sum256(spki), authority: "2 1 1 " +
		sum256(caSPKI)}
	p.chain = block("CERTIFICATE", cert) + block("CERTIFICATE", authority)
	p.both = p.key + p.chain
	dir := t.TempDir()
	p.chain, p.key = write(t, filepath.Join(dir, chainFile), p.chain), write(t, filepath.Join(dir, keyFile), p.key)
	return p
}

// args are the options of the hook in this world.
func (r *renewing) args(more ...string) []string {
	return append([]string{"tlsa", "hook", "--conf", r.conf, "--host", "mx.good.dane", "--dir", r.dir, "--primary",
		r.primary,
		"--tsig", r.tsig, "--at", r.smtp, "--reload", "cp -L " + r.dir + "/current/both.pem " + r.shown}, more...)
}

// hook runs the hook.
func (r *renewing) hook(code int, args []string, says ...string) string {
	r.t.Helper()
	got, out, errs := here(args...)
	if got != code {
		r.t.Errorf("%q: exit code %d, want %d\n%s%s", args, got, code, out, errs)
	}
	for _, want := range says {
		if !strings.Contains(out+errs, want) {
			r.t.Errorf("lacks %q:\n%s%s", want, out, errs)
		}
	}
	return out + errs
}

// has returns the records that are published, sorted.
func (r *renewing) has() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for rdata := range r.records {
		all = append(all, rdata)
	}
	slices.Sort(all)
	return all
}

func (r *renewing) wants(t *testing.T, when string, shown *pairFiles, records ...string) {
	t.Helper()
	slices.Sort(records)
	if has := r.has(); !slices.Equal(has, records) {
		t.Errorf("%s: %v are published, want %v", when, has, records)
	}
	if content, err := os.ReadFile(r.shown); err != nil || string(content) != shown.both {
		t.Errorf("%s: the mail server shows another certificate (%v)", when, err)
	}
}

// inUse is a world whose host has had the hook bring its first certificate into use.
func inUse(t *testing.T, ttl uint32) (*renewing, *pairFiles) {
	t.Helper()
	first := newPair(t, "authority", "mx.good.dane")
	r := newRenewing(t, first, map[string]uint32{first.record: ttl})
	r.hook(0, r.args("--stay", first.chain, first.key), "complete: the certificate is in use")
	r.wants(t, "at first", first, first.record)
	return r, first
}

// TestHook: a renewed certificate is used when its record has been seen at all nameservers and the old TTL has passed;
// the old record goes when the host shows the new certificate (D-30, D-31, D-32).
func TestHook(t *testing.T) {
	r, first := inUse(t, 7200)
	next := newPair(t, "authority", "mx.good.dane")
	begun := r.clock.Now()
	out := r.hook(exitLater, r.args(next.chain, next.key), "publish: "+tlsaOwner+" 7200 IN TLSA "+next.record,
		"held back until "+minute(begun.Add(2*time.Hour+5*time.Minute))+" UTC", "run this again at ")
	if strings.Contains(out, "is in "+r.dir) {
		t.Errorf("installed at once: %s", out)
	}
	r.wants(t, "published", first, first.record, next.record)
	r.clock.Advance(2*time.Hour + 4*time.Minute)
	r.hook(exitLater, r.args(), "held back until")
	r.wants(t, "before the time", first, first.record, next.record)
	r.clock.Advance(2 * time.Minute)
	r.hook(exitLater, r.args(), "the host shows the certificate", "old records stay until")
	r.wants(t, "after the time", next, first.record, next.record)
	r.clock.Advance(5 * time.Minute)
	r.hook(0, r.args(), "remove: "+tlsaOwner+" TLSA "+first.record, "complete")
	r.wants(t, "at the end", next, next.record)
	r.hook(0, r.args(), "nothing to do")
	r.hook(0, r.args(next.chain, next.key), "nothing to do")
	if entries, err := os.ReadDir(filepath.Join(r.dir, "pairs")); err != nil || len(entries) != 1 {
		t.Errorf("%v %v: the old key is still there", entries, err)
	}
}

// TestHookInterrupted: whatever moment ends the hook, as a power cut does, no sender is deceived, and when it is run
// again all comes to the same end (D-33).
func TestHookInterrupted(t *testing.T) {
	points := 0
	for at := 1; ; at++ {
		r, first := inUse(t, 600)
		next := newPair(t, "authority", "mx.good.dane")
		n := 0
		reached = func(what string) {
			r.judge(what)
			if n++; n == at {
				panic("power cut at " + what)
			}
		}
		cut := func() (cut bool) {
			defer func() { cut = recover() != nil }()
			r.hook(0, r.args("--stay", next.chain, next.key))
			return false
		}()
		reached = func(what string) { r.judge(what) }
		if !cut {
			points = at - 1
			r.wants(t, "not cut", next, next.record)
			break
		}
		r.hook(0, r.args("--stay", next.chain, next.key))
		r.wants(t, fmt.Sprintf("cut at %d", at), next, next.record)
		if t.Failed() {
			t.Fatalf("cut at %d, with the first %s", at, first.record)
		}
	}
	if points < 10 {
		t.Errorf("there are only %d points", points)
	}
}

// TestHookHoldsBack: while one nameserver has not got the record, or nothing is known of it, the certificate is not
// used, however long that lasts; nor while the signatures are wrong (D-30).
func TestHookHoldsBack(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(r *renewing)
		says  string
	}{
		{"stays behind", func(r *renewing) { r.lag = true }, "ns2.good.dane. does not have the record"},
		{"is down", func(r *renewing) { r.down = true }, "ns2.good.dane.: no answer"},
		{"shows wrong signatures", func(r *renewing) {
			ask := outside.ask
			outside.ask = func(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
				m, err := ask(ctx, server, q)
				for _, rr := range m.Answer {
					if sig, ok := rr.(*dns.RRSIG); ok && server.Addr() == netip.MustParseAddr("192.0.2.54") {
						sig.Signature = strings.Repeat("A", len(sig.Signature)-2) + "=="
					}
				}
				return m, err
			}
		}, "its answer is Bogus"},
		{"shows no signatures", func(r *renewing) {
			ask := outside.ask
			outside.ask = func(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
				m, err := ask(ctx, server, q)
				m.Answer = slices.DeleteFunc(m.Answer,
					func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
				return m, err
			}
		}, "its answer is Bogus"},
		{"is not authoritative", func(r *renewing) {
			ask := outside.ask
			outside.ask = func(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
				m, err := ask(ctx, server, q)
				m.Authoritative = false
				return m, err
			}
		}, "it is not authoritative"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, first := inUse(t, 600)
			next := newPair(t, "authority", "mx.good.dane")
			whole := outside.ask
			test.spoil(r)
			r.hook(exitLater, r.args(next.chain, next.key), test.says)
			r.clock.Advance(48 * time.Hour)
			r.hook(exitLater, r.args(), test.says)
			if content, err := os.ReadFile(r.shown); err != nil || string(content) != first.both {
				t.Errorf("the certificate is used (%v)", err)
			}
			r.lag, r.down, outside.ask = false, false, whole
			r.sees()
			r.hook(0, r.args("--stay"), "complete")
			r.wants(t, "once it is well", next, next.record)
		})
	}
}

// TestHookNoRoute: of a nameserver with an address to which this host has no route, as without IPv6, another address
// speaks; where none does, nothing is known of it (D-30).
func TestHookNoRoute(t *testing.T) {
	r, _ := inUse(t, 600)
	next := newPair(t, "authority", "mx.good.dane")
	whole, unreachable := outside.ask, []string{"2001:db8::54"}
	outside.ask = func(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
		if slices.Contains(unreachable, server.Addr().String()) {
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
		}
		return whole(ctx, server, q)
	}
	r.mu.Lock()
	r.more = "ns2 AAAA 2001:db8::54\n"
	r.write()
	r.mu.Unlock()
	r.clock.Advance(time.Hour) // until the resolver has forgotten that there was none
	unreachable = append(unreachable, "192.0.2.54")
	r.hook(exitLater, r.args(next.chain, next.key), "ns2.good.dane.: this host has no way to any of its addresses")
	r.clock.Advance(48 * time.Hour)
	r.hook(exitLater, r.args(), "has no way")
	unreachable = unreachable[:1]
	r.hook(0, r.args("--stay"), "complete")
	r.wants(t, "at the end", next, next.record)
}

// TestHookVanished: a record that somebody takes away while the hook waits is published again, and the wait begins
// anew (D-30).
func TestHookVanished(t *testing.T) {
	r, first := inUse(t, 600)
	next := newPair(t, "authority", "mx.good.dane")
	r.hook(exitLater, r.args(next.chain, next.key))
	r.mu.Lock()
	delete(r.records, next.record)
	r.write()
	r.mu.Unlock()
	r.clock.Advance(time.Hour)
	r.hook(exitLater, r.args(), "publish: ", "held back until")
	r.wants(t, "published again", first, first.record, next.record)
	r.hook(0, r.args("--stay"))
	r.wants(t, "at the end", next, next.record)
}

// TestHookSuperseded: a certificate that is renewed again before it is used leaves no record behind (D-32).
func TestHookSuperseded(t *testing.T) {
	r, first := inUse(t, 600)
	passed, next := newPair(t, "authority", "mx.good.dane"), newPair(t, "authority", "mx.good.dane")
	r.hook(exitLater, r.args(passed.chain, passed.key))
	r.clock.Advance(time.Minute)
	r.hook(exitLater, r.args(next.chain, next.key))
	r.wants(t, "the second", first, first.record, passed.record, next.record)
	r.hook(0, r.args("--stay"))
	r.wants(t, "at the end", next, next.record)
}

// TestHookForgetsNothing: a certificate that is renewed again after a power cut leaves no record behind either (D-33).
func TestHookForgetsNothing(t *testing.T) {
	r, first := inUse(t, 600)
	passed, next := newPair(t, "authority", "mx.good.dane"), newPair(t, "authority", "mx.good.dane")
	reached = func(at string) {
		if at == "published" {
			panic("power cut")
		}
	}
	func() {
		defer func() { recover() }() //nolint:errcheck // the power cut
		r.hook(exitLater, r.args(passed.chain, passed.key))
	}()
	r.wants(t, "cut", first, first.record, passed.record)
	reached = func(at string) { r.judge(at) }
	r.hook(0, r.args("--stay", next.chain, next.key))
	r.wants(t, "at the end", next, next.record)
}

// TestHookPassedBy: a mail server that reads the client's files has no use of the hook, and that is told.
func TestHookPassedBy(t *testing.T) {
	r, _ := inUse(t, 600)
	next := newPair(t, "authority", "mx.good.dane")
	reached = func(string) {} // its senders are deceived
	write(t, r.shown, next.both)
	r.mu.Lock()
	r.history = nil
	r.mu.Unlock()
	if _, out, err := here(r.args(next.chain, next.key)...); !strings.Contains(out+err, "not those of the client") {
		t.Errorf("%s%s", out, err)
	}
}

// TestHookKeepsCurrent: the record of the certificate in use is published again, too, if somebody has taken it away:
// the host shows that certificate while the next one waits (D-30).
func TestHookKeepsCurrent(t *testing.T) {
	r, first := inUse(t, 600)
	next := newPair(t, "authority", "mx.good.dane")
	r.mu.Lock()
	r.broken = true
	delete(r.records, first.record)
	r.records[next.record] = 600
	r.write()
	r.mu.Unlock()
	if code, out, err := here(r.args(next.chain, next.key)...); code != exitLater {
		t.Errorf("exit code %d: %s%s", code, out, err)
	}
	r.wants(t, "while it waits", first, first.record, next.record)
}

// TestHookOthersStay: records that the hook has not published stay, and are told (D-32).
func TestHookOthersStay(t *testing.T) {
	r, _ := inUse(t, 600)
	other := "3 1 1 " + strings.Repeat("ab", 32)
	r.mu.Lock()
	r.records[other] = 600
	r.write()
	r.mu.Unlock()
	next := newPair(t, "authority", "mx.good.dane")
	r.hook(0, r.args("--stay", next.chain, next.key), "left: "+tlsaOwner+" TLSA "+other)
	r.wants(t, "at the end", next, other, next.record)
}

// TestHookNotShown: while the host shows another certificate, as after a reload that does nothing, old records stay
// (D-31).
func TestHookNotShown(t *testing.T) {
	r, first := inUse(t, 600)
	next := newPair(t, "authority", "mx.good.dane")
	idle := append(r.args(next.chain, next.key), "--reload", "true")
	idle = append(idle[:len(idle)-4], "--reload", "true", next.chain, next.key)
	r.hook(exitLater, idle)
	r.clock.Advance(time.Hour)
	r.hook(exitLater, idle, "does not show the certificate")
	r.clock.Advance(48 * time.Hour)
	r.hook(exitLater, idle, "old records stay")
	r.wants(t, "not shown", first, first.record, next.record)
	if err := os.WriteFile(r.shown, []byte(next.both), 0o600); err != nil {
		t.Fatal(err)
	}
	r.hook(exitLater, idle, "the host shows the certificate")
	r.clock.Advance(time.Hour)
	r.hook(0, idle)
	r.wants(t, "shown", next, next.record)
}

// TestHookReloadFails: a reload that fails is done again by the next run.
func TestHookReloadFails(t *testing.T) {
	r, first := inUse(t, 600)
	next := newPair(t, "authority", "mx.good.dane")
	r.hook(exitLater, r.args(next.chain, next.key))
	r.clock.Advance(time.Hour)
	r.hook(exitFailure, append(r.args(), "--reload", "echo it is broken >&2; exit 7"), "it is broken", "exit status 7",
		"run the hook again once that works")
	r.wants(t, "not reloaded", first, first.record, next.record)
	r.hook(0, append(r.args(), "--stay"))
	r.wants(t, "reloaded", next, next.record)
}

// TestHookSameKey: a certificate with the same key has the same record, and is used at once.
func TestHookSameKey(t *testing.T) {
	r, first := inUse(t, 86400)
	chain, err := os.ReadFile(first.chain)
	if err != nil {
		t.Fatal(err)
	}
	again := *first
	again.chain = write(t, filepath.Join(t.TempDir(), "again.pem"), string(chain)+"\n")
	r.hook(0, r.args(again.chain, again.key), "complete")
	again.both = first.both + "\n"
	r.wants(t, "at the end", &again, first.record)
}

// TestHookFirst: the first certificate of a host without records is used when its record is seen.
func TestHookFirst(t *testing.T) {
	first := newPair(t, "authority", "mx.good.dane")
	r := newRenewing(t, first, map[string]uint32{})
	r.hook(exitLater, r.args(first.chain, first.key), "publish: "+tlsaOwner+" 3600 IN TLSA "+first.record)
	r.hook(0, r.args("--stay"), "complete")
	r.wants(t, "at the end", first, first.record)
}

// TestHookAuthority: with usage 2 the record is the authority's; the hook warns of those that rotate, and brings a
// certificate under another into use as well.
func TestHookAuthority(t *testing.T) {
	first := newPair(t, "intermediate A", "mx.good.dane")
	r := newRenewing(t, first, map[string]uint32{first.authority: 600})
	r.hook(0, r.args("--stay", "--usage", "2", first.chain, first.key), "rotates its intermediates",
		`"CN=intermediate A"`)
	next := newPair(t, "intermediate B", "mx.good.dane")
	r.hook(exitLater, r.args("--usage", "2", next.chain, next.key), `issued under "CN=intermediate B"`,
		`the one in use under "CN=intermediate A"`, "publish: "+tlsaOwner+" 600 IN TLSA "+next.authority)
	r.hook(0, r.args("--usage", "2", "--stay"), "complete")
	r.wants(t, "at the end", next, next.authority)
	foreign := newPair(t, "intermediate B", "mx.of.somebody.else")
	r.hook(exitFailure, r.args("--usage", "2", foreign.chain, foreign.key), "with this record alone senders refuse")
	r.wants(t, "of another name", next, next.authority)
}

// TestHookCommand: records are published by a command, which gets each change in variables.
func TestHookCommand(t *testing.T) {
	r, _ := inUse(t, 600)
	next := newPair(t, "authority", "mx.good.dane")
	log := filepath.Join(t.TempDir(), "log")
	args := []string{"tlsa", "hook", "--conf", r.conf, "--host", "mx.good.dane", "--dir", r.dir, "--publish",
		"echo $DANELAW_ACTION $DANELAW_ZONE $DANELAW_NAME $DANELAW_TTL $DANELAW_RECORD >>" + log, next.chain, next.key}
	r.hook(exitLater, args, "does not have the record at "+tlsaOwner+" yet")
	content, err := os.ReadFile(log)
	if want := "add good.dane. " + tlsaOwner + " 600 " + next.record + "\n"; err != nil ||
		!strings.Contains(string(content),
			want) {
		t.Errorf("%v: %q lacks %q", err, content, want)
	}
	args[len(args)-3] = "echo no credentials >&2; exit 1"
	r.hook(exitFailure, args, "no credentials", "to add the record "+next.record)
}

// TestHookClients: certbot, acme.sh and lego tell hooks what they have renewed; what is for other hosts is left.
func TestHookClients(t *testing.T) {
	for client, set := range map[string]func(t *testing.T, p *pairFiles){
		"certbot": func(t *testing.T, p *pairFiles) {
			t.Setenv("RENEWED_LINEAGE", filepath.Dir(p.chain))
			t.Setenv("RENEWED_DOMAINS", "mx.good.dane")
		},
		"acme.sh": func(t *testing.T, p *pairFiles) {
			t.Setenv("CERT_FULLCHAIN_PATH", p.chain)
			t.Setenv("CERT_KEY_PATH", p.key)
		},
		"lego": func(t *testing.T, p *pairFiles) {
			t.Setenv("LEGO_CERT_PATH", p.chain)
			t.Setenv("LEGO_CERT_KEY_PATH", p.key)
		},
	} {
		t.Run(client, func(t *testing.T) {
			r, first := inUse(t, 600)
			www := newPair(t, "authority", "www.good.dane")
			set(t, www)
			r.hook(0, r.args(), "the certificate that "+client+" has renewed is for www.good.dane, not for "+
				""+renewedHost)
			next := newPair(t, "authority", "mx.good.dane")
			set(t, next)
			r.hook(0, r.args("--defer"), "run this again at")
			r.wants(t, "held back", first, first.record, next.record)
			r.hook(0, r.args("--stay"))
			r.wants(t, "at the end", next, next.record)
		})
	}
}

// TestHookMisused: what is wrong is told with its remedy, and nothing is changed.
func TestHookMisused(t *testing.T) {
	r, first := inUse(t, 600)
	other := newPair(t, "authority", "mx.good.dane")
	bare := func(more ...string) []string {
		return append([]string{"tlsa", "hook", "--conf", r.conf, "--host", "mx.good.dane", "--dir", r.dir}, more...)
	}
	open := write(t, filepath.Join(t.TempDir(), "open.key"), "")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	key := func(text string) string {
		file := write(t, filepath.Join(t.TempDir(), "key"), text)
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"tlsa", "hook"}, exitUsage, "say with --host which mail host"},
		{bare(first.chain), exitUsage, "two files"},
		{bare("--primary", r.primary), exitUsage, "--primary needs --tsig FILE"},
		{bare("--tsig", r.tsig), exitUsage, "say with --primary where they go"},
		{bare("--primary", r.primary, "--publish", "true"), exitUsage, "leave out one"},
		{bare("--primary", "ns.good.dane", "--tsig", r.tsig), exitUsage, `"ns.good.dane" is no address`},
		{bare("--primary", r.primary, "--tsig", open), exitFailure, "chmod o-r " + open},
		{bare("--primary", r.primary, "--tsig", key("nothing")), exitFailure, "has to hold one key"},
		{bare("--primary", r.primary, "--tsig", key("key a { algorithm hmac-md5; secret \"AAAA\"; };")), exitFailure,
			`"hmac-md5" is no algorithm`},
		{bare("--primary", r.primary, "--tsig", key("key a { algorithm hmac-sha256; secret \"A?\"; };")), exitFailure,
			"its secret is not base64"},
		{bare("--margin", "-1s"), exitUsage, "give 0s to 24h"},
		{bare("--port", "0"), exitUsage, "0 is no port"},
		{bare("--at", "localhost"), exitUsage, "write an address"},
		{bare("--group", "no-such-group"), exitUsage, "no such group"},
		{bare(first.chain, other.key), exitFailure, "is not the key of the certificate in"},
		{bare(first.key, first.key), exitFailure, "it holds a key alone"},
		{[]string{"tlsa", "hook", "--conf", r.conf, "--host", "mx.good.dane", "--dir", filepath.Join(r.dir, "new")},
			exitFailure, "holds no certificate yet"},
	} {
		r.hook(test.code, test.args, test.says)
	}
	wrong := key(fmt.Sprintf("key:\n  - id: %s\n    algorithm: hmac-sha256\n    secret: %s\n", tsigName, "AAAA"))
	r.hook(exitFailure, append(bare("--primary", r.primary, "--tsig", wrong), other.chain, other.key),
		"refuses the update of good.dane. with NOTAUTH")
	r.refuse = true
	r.hook(exitFailure, r.args(other.chain, other.key), "refuses the update of good.dane. with REFUSED",
		"update-policy")
	write(t, filepath.Join(r.dir, "state.json"), "{")
	r.hook(exitFailure, r.args(), "how far the last renewal has come cannot be read")
	r.wants(t, "after all that", first, first.record)
}

// TestHookUnsigned: records in a zone that is not signed protect nobody, and the hook says so.
func TestHookUnsigned(t *testing.T) {
	first := newPair(t, "authority", "mx.good.dane")
	r := newRenewing(t, first, map[string]uint32{first.record: 600})
	r.tree.Plan("good.dane.").Config.Unsigned = true
	r.tree.Publish()
	r.hook(exitFailure, r.args(first.chain, first.key), "Insecure")
	if _, err := os.Lstat(filepath.Join(r.dir, "current")); err == nil {
		t.Error("the certificate is used")
	}
}
