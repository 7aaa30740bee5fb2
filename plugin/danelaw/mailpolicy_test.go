package danelaw

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/policy"
	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/trustanchors"
	"github.com/danelaw-dns/danelaw/zones"
)

// postfix is a connection as Postfix has it.
type postfix struct {
	t    *testing.T
	conn net.Conn
	from *bufio.Reader
}

func dialPolicy(t *testing.T, network, address string) *postfix {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // then reading fails
	return &postfix{t, conn, bufio.NewReader(conn)}
}

// query asks the map QUERY.
func (p *postfix) query(domain string) string {
	p.t.Helper()
	request := "QUERY " + domain
	fmt.Fprintf(p.conn, "%d:%s,", len(request), request)
	var n int
	if _, err := fmt.Fscanf(p.from, "%d:", &n); err != nil {
		p.t.Fatal(err)
	}
	reply := make([]byte, n+1)
	if _, err := io.ReadFull(p.from, reply); err != nil {
		p.t.Fatal(err)
	}
	return string(reply[:n])
}

// TestPolicySocket: through a whole CoreDNS, what DNS promises is what Postfix is told; a reload keeps socket and
// connections, and the socket goes with the option.
func TestPolicySocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "policy.sock")
	port := fmt.Sprintf(".:%d", ports.Closed(t))
	with := blockOf(port, optionsFor(t, lab().Addr(), "policy unix:"+socket), "")
	c := startCoreDNS(t, with)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != policySocketMode {
		t.Fatalf("%v, %v", info, err)
	}
	p := dialPolicy(t, "unix", socket)
	asks := func() {
		t.Helper()
		for domain, want := range map[string]string{
			"good.dane": "OK dane-only", "GOOD.dane": "OK dane-only", "nowhere.dane": "NOTFOUND ",
			"[good.dane]":  "NOTFOUND ",
			"expired.dane": "TEMP ", "localhost": "NOTFOUND ", strings.Repeat("a.", 126) + "b": "NOTFOUND ",
		} {
			if got := p.query(domain); !strings.HasPrefix(got, want) || want != "TEMP " && got != want {
				t.Errorf("%s: %q, want %q", domain, got, want)
			}
		}
	}
	asks()
	block := c.block()
	if n := metric(t, "policy_answers_total", "block", block, "level", "dane-only"); n != 2 {
		t.Errorf("%v answers are counted", n)
	}
	if err := c.reload(with); err != nil {
		t.Fatal(err)
	}
	asks()
	if err := c.reload(blockOf(port, optionsFor(t, lab().Addr()), "")); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("unix", socket); err == nil {
		t.Error("the socket is there without the option")
	}
	if _, err := p.conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open without the option")
	}
	two := blockOf("example.org"+port[1:], optionsFor(t, lab().Addr(), "policy unix:"+socket), "") +
		blockOf("example.net"+port[1:], optionsFor(t, lab().Addr(), "policy 127.0.0.1:8461"), "")
	if err := c.reload(two); err == nil || !strings.Contains(err.Error(), "keep one of the two") {
		t.Errorf("two services: %v", err)
	}
}

// TestPolicyOverTCP: who may not ask for names may not ask here either.
func TestPolicyOverTCP(t *testing.T) {
	for allowed, want := range map[string]bool{"127.0.0.0/8": true, "192.0.2.0/24": false} {
		at := fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
		c := startCoreDNS(t, blockOf(fmt.Sprintf(".:%d", ports.Closed(t)),
			optionsFor(t, lab().Addr(), "policy "+at, "allow_clients "+allowed), ""))
		p := dialPolicy(t, "tcp", at)
		if want {
			if got := p.query("good.dane"); got != "OK dane-only" {
				t.Errorf("%q", got)
			}
		} else if _, err := p.conn.Read(make([]byte, 1)); err == nil {
			t.Error("not refused")
		}
		c.stop()
	}
}

// stsWorld is a tree with a domain that has MTA-STS, and its policy host.
type stsWorld struct {
	tree *world.Tree
	ca   *certificates.Authority
	away atomic.Bool // the policy host is
	at   string      // where the policy host really is
}

func newSTSWorld(t *testing.T) *stsWorld {
	const text = "version: STSv1\nmode: enforce\nmx: mx.sts\nmax_age: 604800\n"
	w := &stsWorld{ca: certificates.New(t)}
	w.tree = world.New(time.Now, world.Zone("."), zones.Plan{Name: "sts.", Text: world.Mail +
		"_mta-sts TXT \"v=STSv1; id=1\"\nmta-sts A 9.9.9.9\n", Config: zones.Config{Unsigned: true}})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(to http.ResponseWriter, _ *http.Request) {
		if w.away.Load() {
			to.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		to.Header().Set("Content-Type", "text/plain")
		io.WriteString(to, text) //nolint:errcheck // the client sees that
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{w.ca.Server(t, "mta-sts.sts", time.Now().Add(time.Hour))}}
	s.StartTLS()
	t.Cleanup(s.Close)
	w.at = s.Listener.Addr().String()
	return w
}

// config is that of a danelaw in this world.
func (w *stsWorld) config(t *testing.T, state string) Config {
	c := config(t, w.tree.Upstream().Serve(t, world.AnyPort))
	c.Anchors, c.State, c.PolicyService = trustanchors.Set{".": w.tree.DS(".")}, state, "unix:/nowhere"
	c.PolicyRoots = w.ca.Pool
	c.PolicyDial = func(_ context.Context, _, _ string) (net.Conn, error) { return net.Dial("tcp", w.at) }
	return c
}

// decides asks once.
func decides(t *testing.T, h *Handler, domain string) *policy.Answer {
	t.Helper()
	a, ok := PolicyOf(t.Context(), h, domain)
	if !ok {
		t.Fatal("there is no policy service")
	}
	return a
}

// TestPolicyPanic: a fault of a plugin below, which is asked for private names, has mail wait, and ends nothing (S-27).
func TestPolicyPanic(t *testing.T) {
	c := newSTSWorld(t).config(t, "")
	c.Private = []string{"corp."}
	c.Next = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { panic("test") })
	if a := decides(t, open(t, c), "mail.corp."); a.Level != policy.Temp {
		t.Errorf("%s: %s", a.Level, a.Why)
	}
}

// TestPolicyRestart: a policy that is held is enforced after a restart, with policy host and TXT record gone (D-28).
func TestPolicyRestart(t *testing.T) {
	w, state := newSTSWorld(t), t.TempDir()
	one := open(t, w.config(t, state))
	one.Start()
	if a := decides(t, one, "sts."); a.Level != policy.Secure || !slices.Equal(a.Match, []string{"mx.sts"}) {
		t.Fatalf("%s %q: %s, %v", a.Level, a.Match, a.Why, a.Failure)
	}
	one.Close()
	if info, err := os.Stat(filepath.Join(state, policyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	w.away.Store(true)
	plan := w.tree.Plan("sts.")
	plan.Text = world.Mail
	w.tree.Publish()
	two := open(t, w.config(t, state))
	two.Start()
	if a := decides(t, two, "sts."); a.Level != policy.Secure {
		t.Errorf("after a restart: %s: %s, %v", a.Level, a.Why, a.Failure)
	}
	if n := metric(t, "policy_vanished_total", "block", two.config.Block); n != 1 {
		t.Errorf("%v are counted as vanished", n)
	}
	two.Close()
	other := open(t, w.config(t, t.TempDir()))
	if a := decides(t, other, "sts."); a.Level != policy.None {
		t.Errorf("without the state: %s: %s", a.Level, a.Why)
	}
}

// TestAlarmsOfPolicies: a policy that is held vanishes, and is there again (S-32).
func TestAlarmsOfPolicies(t *testing.T) {
	n, r, clock := noted(t)
	w := newSTSWorld(t)
	c := w.config(t, "")
	c.Notify = n.command
	c.Clock = clock.Now
	clock.Set(time.Now())
	h := open(t, c)
	decides(t, h, "sts.")
	tells(t, "held", r.take(t, n))
	plan := w.tree.Plan("sts.")
	whole := plan.Text
	for _, step := range []struct{ text, want string }{
		{world.Mail, "raised sts. vanished: the policy of MTA-STS vanished before its end, and holds on: its TXT " +
			"record of MTA-STS is gone"},
		{whole, "resolved sts. vanished: the policy of MTA-STS vanished before its end, and holds on: its TXT " +
			"record of MTA-STS is gone"},
	} {
		plan.Text = step.text
		w.tree.Publish()
		clock.Advance(2 * time.Hour) // what is cached is over, and signatures are not
		if a := decides(t, h, "sts."); a.Level != policy.Secure {
			t.Errorf("%s: %s, %v", a.Level, a.Why, a.Failure)
		}
		tells(t, step.text, r.take(t, n), step.want)
	}
}

// TestPolicyStatus: what danelaw status and the status page tell of a policy that is held, then vanishes; and of one
// that cannot be had.
func TestPolicyStatus(t *testing.T) {
	w := newSTSWorld(t)
	w.tree.Add(zones.Plan{Name: "broken.", Text: world.Mail + "_mta-sts TXT \"v=STSv1; id=1\"\n",
		Config: zones.Config{Unsigned: true}})
	c := w.config(t, "")
	clock := world.NewClock(time.Now())
	c.Clock = clock.Now
	h := open(t, c)
	rows := func() string {
		t.Helper()
		var all []string
		for _, row := range h.status(clock.Now()).rows() {
			if strings.HasPrefix(row.How, "policy of ") || row.What == "policies" {
				all = append(all, fmt.Sprintf("%s %v", row.How, row.Bad))
			}
		}
		return strings.Join(all, "\n")
	}
	if got := rows(); got != "0 of MTA-STS held, 0 in enforce false" {
		t.Errorf("%s", got)
	}
	decides(t, h, "sts.")
	decides(t, h, "broken.")
	const failed = "\npolicy of broken.: sts-policy-fetch-error: the policy cannot be fetched: mta-sts.broken. has " +
		"no address true"
	if got := rows(); got != "1 of MTA-STS held, 1 in enforce false"+failed {
		t.Errorf("%s", got)
	}
	plan := w.tree.Plan("sts.")
	plan.Text = world.Mail
	w.tree.Publish()
	clock.Advance(2 * time.Hour)
	decides(t, h, "sts.")
	if got := rows(); got != "1 of MTA-STS held, 1 in enforce; 1 vanished before their end, and hold on true"+failed {
		t.Errorf("%s", got)
	}
	s := h.status(clock.Now()).Policies
	if s.Held != 1 || s.Enforced != 1 || s.Vanished != 1 || len(s.Failures) != 1 ||
		s.Failures[0].At.After(clock.Now()) || clock.Now().Sub(s.Failures[0].At) < 2*time.Hour {
		t.Errorf("%+v", s)
	}
	if without := open(t, config(t)).status(clock.Now()); without.Policies != nil {
		t.Errorf("%+v", without.Policies)
	}
}

// TestPolicyDamaged: a state file that cannot be understood is set aside, and hinders nothing.
func TestPolicyDamaged(t *testing.T) {
	w, state := newSTSWorld(t), t.TempDir()
	file := filepath.Join(state, policyFile)
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, w.config(t, state))
	h.Start()
	if a := decides(t, h, "sts."); a.Level != policy.Secure {
		t.Errorf("%s: %s", a.Level, a.Why)
	}
	h.Close()
	if text, err := os.ReadFile(file + ".damaged"); err != nil || string(text) != "{" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := os.ReadFile(file); err != nil || !json.Valid(text) || !strings.Contains(string(text), "sts.") {
		t.Errorf("%q, %v", text, err)
	}
}
