package danelaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/probe"
	"github.com/danelaw-dns/danelaw/test/world"
)

// program writes a shell script, and returns its path.
func program(t *testing.T, lines string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+lines+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// ran are the alarms that a test has seen told, "STATE SUBJECT WHAT: TEXT" each.
type ran struct {
	mu  sync.Mutex
	all []string
}

func (r *ran) note(a Alarm) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%s %s %s: %s", a.State, a.Subject, a.What, a.Text))
}

// take returns what was told since the last time, once nothing runs any more.
func (r *ran) take(t *testing.T, n *alarms) []string {
	t.Helper()
	eventually(t, "nothing that runs", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return !slices.ContainsFunc(alarmKinds, func(kind AlarmKind) bool { return n.busy[kind] })
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	slices.Sort(all)
	return all
}

// noted are alarms that a test is told of, by a clock of its own. Those of a command are told to that.
func noted(t *testing.T, command ...string) (n *alarms, r *ran, clock *world.Clock) {
	t.Helper()
	clock, r = world.NewClock(time.Unix(1800000000, 0)), new(ran)
	n = newAlarms(append(command, fmt.Sprint(configs.Add(1))))
	n.clock = clock.Now
	if len(command) == 0 {
		n.run = func(_ context.Context, a Alarm) error { r.note(a); return nil }
	}
	hold(&process, n.name(), func() (*alarms, error) { return n, nil }) //nolint:errcheck // it has none
	t.Cleanup(func() { release(&process, n) })
	return n, r, clock
}

func tells(t *testing.T, step string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", step, got, want)
	}
}

// TestAlarmsOnce (S-32): an alarm is told when it is raised and when it is over, once each; one that comes and goes is
// told no more often than every hour, but at last, so that nobody takes what is wrong for mended.
func TestAlarmsOnce(t *testing.T) {
	n, r, clock := noted(t)
	are := func(now map[string]string) []string {
		n.are(OfWatch, "example.org.", now)
		return r.take(t, n)
	}
	bad := map[string]string{"DANE": "it is bogus"}
	tells(t, "raised", are(bad), "raised example.org. DANE: it is bogus")
	tells(t, "still", are(map[string]string{"DANE": "another sentence"}))
	tells(t, "another", are(map[string]string{"DANE": "it is bogus", "mx": "a fault"}),
		"raised example.org. mx: a fault")
	tells(t, "over", are(bad), "resolved example.org. mx: a fault")
	tells(t, "all over", are(nil), "resolved example.org. DANE: it is bogus")
	tells(t, "over for long", are(nil))
	clock.Advance(50 * time.Minute)
	tells(t, "again too soon", are(bad))
	n.tell()
	tells(t, "still too soon", r.take(t, n))
	clock.Advance(10 * time.Minute)
	n.tell() // as every minute
	tells(t, "an hour later", r.take(t, n), "raised example.org. DANE: it is bogus")
	tells(t, "a blip", append(are(nil), are(bad)...), "resolved example.org. DANE: it is bogus")
	tells(t, "gone before it was told", are(nil))
	clock.Advance(2 * time.Hour)
	n.tell()
	tells(t, "hours later", r.take(t, n))
	n.are(OfWatch, "example.net.", bad)
	n.are(OfAnchors, "example.net.", nil) // another kind, and another subject
	n.are(OfWatch, "example.org.", nil)
	tells(t, "another subject", r.take(t, n), "raised example.net. DANE: it is bogus")
}

// TestAlarmsBounds (S-32): a flood of alarms holds up nobody, runs one command of a kind at a time and twenty in an
// hour, holds up no other kind, and takes little memory.
func TestAlarmsBounds(t *testing.T) {
	n, r, clock := noted(t)
	gate := make(chan struct{})
	let := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(let) // or the end of a test that fails waits for it
	n.run = func(_ context.Context, a Alarm) error {
		r.note(a)
		if a.Kind == OfVerdict {
			<-gate
		}
		return nil
	}
	dropped := metric(t, "notifications_total", "kind", "verdict", "result", "dropped")
	for i := range 1000 {
		clock.Advance(time.Millisecond)
		n.verdict(fmt.Sprintf("n%d.example. MX", i), false, "lost")
	}
	n.are(OfAnchors, ".", map[string]string{"stale": "it is stale"})
	eventually(t, "the other kind", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.all) == 2 && slices.Contains(r.all, "raised . stale: it is stale")
	})
	if len(n.by[OfVerdict]) != alarmsKnown {
		t.Errorf("%d alarms are known", len(n.by[OfVerdict]))
	}
	if d := metric(t, "notifications_total", "kind", "verdict", "result",
		"dropped") - dropped; d != 1000-alarmsKnown {
		t.Errorf("%v counted as dropped", d)
	}
	let()
	if all := r.take(t, n); len(all) != 1+alarmsHourly {
		t.Errorf("%d in the first hour", len(all))
	}
	clock.Advance(time.Hour)
	n.tell()
	if all := r.take(t, n); len(all) != alarmsHourly {
		t.Errorf("%d in the second hour", len(all))
	}
	n.verdict("new.example. MX", false, "lost") // for which one that was told makes room
	if _, ok := n.by[OfVerdict][alarmKey{"new.example. MX", "lost"}]; !ok || len(n.by[OfVerdict]) != alarmsKnown {
		t.Errorf("%d, %v", len(n.by[OfVerdict]), ok)
	}
}

// TestAlarmsFailure (S-32): a command that fails is logged with what it said, counted, and tried again ten minutes
// later.
func TestAlarmsFailure(t *testing.T) {
	book := logged(t)
	n, _, clock := noted(t, program(t, "echo no\\ mail\\ today; echo second >&2; exit 75"))
	failures := func() float64 { return metric(t, "notifications_total", "kind", "anchors", "result", "failure") }
	before := failures()
	n.are(OfAnchors, ".", map[string]string{"stale": "it is stale"})
	eventually(t, "a failure", func() bool { return failures() == before+1 })
	want := "[ERROR] plugin/danelaw: notify " + n.command[0] + ": exit status 75: it said no mail today\\nsecond; " +
		"it is tried again in 10m0s. The alarm, raised: .: it is stale\n"
	if !strings.Contains(book.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, book)
	}
	n.tell()
	clock.Advance(9 * time.Minute)
	n.tell()
	if (&ran{}).take(t, n); failures() != before+1 {
		t.Error("it was tried again at once")
	}
	clock.Advance(time.Minute)
	n.tell()
	eventually(t, "another try", func() bool { return failures() == before+2 })
	if err := os.Remove(n.command[0]); err != nil {
		t.Fatal(err)
	}
	clock.Advance(alarmRetry)
	n.tell()
	eventually(t, "a third", func() bool { return failures() == before+3 })
}

// TestAlarmsCommand (S-32): the command gets the alarm as JSON, and in its environment, its arguments are those of the
// Corefile, and nothing that stands in an alarm is taken for anything but text.
func TestAlarmsCommand(t *testing.T) {
	t.Setenv("SECRET_OF_DANELAW", "s3cr3t")
	dir := t.TempDir()
	n, _, clock := noted(t, program(t, `printf '%s|' "$#" "$1" "$2" > $1/args
cat > $1/stdin; env > $1/env; pwd > $1/dir; touch $1/done`), dir, "$(reboot); `reboot` *")
	const hostile = "$(touch HERE); `touch HERE`\nDANELAW_KIND=other\x00\u202e\""
	n.are(OfVerdict, "x$(touch HERE).example. MX", map[string]string{"lost": hostile})
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	eventually(t, "the command", func() bool {
		_, err := os.Stat(filepath.Join(dir, "done"))
		return err == nil
	})
	if got := read("args"); got != "3|"+dir+"|$(reboot); `reboot` *|" {
		t.Errorf("arguments %q", got)
	}
	var a Alarm
	if err := json.Unmarshal([]byte(read("stdin")), &a); err != nil || a.Kind != OfVerdict || a.State != Raised ||
		a.Subject != "x$(touch HERE).example. MX" || a.What != "lost" || !a.At.Equal(clock.Now()) || a.Host == "" ||
		!strings.HasPrefix(a.Text, "$(touch HERE); `touch HERE`\\nDANELAW_KIND=other\\u0000") {
		t.Errorf("%v, %+v", err, a)
	}
	if got := read("stdin"); strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\u202e\x00") {
		t.Errorf("%q", got)
	}
	env := strings.Split(read("env"), "\n")
	for _, want := range []string{"DANELAW_KIND=verdict", "DANELAW_STATE=raised",
		"DANELAW_SUBJECT=x$(touch HERE).example. MX"} {
		if !slices.Contains(env, want) {
			t.Errorf("the environment lacks %s:\n%q", want, env)
		}
	}
	if strings.Contains(read("env"), "s3cr3t") || slices.Contains(env, "DANELAW_KIND=other") || read("dir") != "/\n" {
		t.Errorf("%q in %s", env, read("dir"))
	}
}

// TestAlarmsKilled (S-32): a command that takes too long is killed with all that it has started, and one that runs when
// danelaw ends, too.
func TestAlarmsKilled(t *testing.T) {
	book := logged(t)
	gone := func(file string) bool {
		text, err := os.ReadFile(file)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}
	sleeper := program(t, "sleep 1000 & echo $! > $1; wait")
	begin := func(life time.Duration) (n *alarms, file string) {
		file = filepath.Join(t.TempDir(), "pid")
		n, _, _ = noted(t, sleeper, file)
		n.life = life
		n.are(OfAnchors, ".", map[string]string{"stale": "it is stale"})
		eventually(t, "its child", func() bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.HasSuffix(string(text), "\n")
		})
		return n, file
	}
	_, file := begin(2 * time.Second)
	eventually(t, "the line", func() bool {
		return strings.Contains(book.String(), "killed, as it took longer than 2s")
	})
	eventually(t, "the end of its child", func() bool { return gone(file) })
	n, file := begin(time.Hour)
	n.close()
	eventually(t, "the end of the child", func() bool { return gone(file) })
}

// TestAlarmsOfVerdicts: mail names that were Secure, and are no more, and are again; no others.
func TestAlarmsOfVerdicts(t *testing.T) {
	n, r, _ := noted(t)
	c := config(t)
	c.Notify = n.command
	h := open(t, c)
	judged := func(name string, qtype uint16, s dnssec.Status) []string {
		h.changes.judged(dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}, s, "a sentence")
		return r.take(t, n)
	}
	const host = "_25._tcp.mx.example."
	tells(t, "first", judged(host, dns.TypeTLSA, dnssec.Secure))
	tells(t, "Bogus", judged(host, dns.TypeTLSA, dnssec.Bogus),
		"raised _25._tcp.mx.example. TLSA lost: it is Bogus now, it was Secure: a sentence")
	tells(t, "no verdict", judged(host, dns.TypeTLSA, dnssec.Indeterminate))
	tells(t, "Insecure", judged(host, dns.TypeTLSA, dnssec.Insecure))
	tells(t, "Secure", judged(host, dns.TypeTLSA, dnssec.Secure),
		"resolved _25._tcp.mx.example. TLSA lost: it is Bogus now, it was Secure: a sentence")
	tells(t, "never Secure", append(judged("a.example.", dns.TypeMX, dnssec.Insecure),
		judged("a.example.", dns.TypeMX, dnssec.Bogus)...))
	tells(t, "no mail", append(judged("a.example.", dns.TypeA, dnssec.Secure),
		judged("a.example.", dns.TypeA, dnssec.Bogus)...))
}

// TestAlarmsOfWatch: what a watched domain loses, what is wrong with its certificates, and what ends soon.
func TestAlarmsOfWatch(t *testing.T) {
	n, r, clock := noted(t)
	c := config(t)
	c.Notify = n.command
	h, w := watching(t, c, "good.dane.", "mismatch.dane.")
	seen := func(state State, change func(*Seen)) []string {
		s := &Seen{Domain: "good.dane.", At: clock.Now(), State: state, Why: "because",
			Signatures: clock.Now().Add(endingSignature)}
		if change != nil {
			change(s)
		}
		w.remember(s)
		return r.take(t, n)
	}
	tells(t, "no DANE yet", seen(StateNone, nil))
	tells(t, "secure", seen(StateSecure, nil))
	tells(t, "none", seen(StateNone, nil), "raised good.dane. DANE: DANE is none: because")
	tells(t, "unknown", seen(StateUnknown, nil))
	tells(t, "still none", seen(StateNone, nil))
	tells(t, "secure again", seen(StateSecure, nil), "resolved good.dane. DANE: DANE is none: because")
	tells(t, "a signature ends", seen(StateSecure, func(s *Seen) { s.Signatures = s.Signatures.Add(-1) }),
		"raised good.dane. signatures: the first signature that DANE rests on ends 2027-01-15 13:59 UTC")
	tells(t, "a certificate fails", seen(StateSecure, func(s *Seen) {
		s.Hosts = []SeenHost{{Name: "mx.", Certificates: []SeenCertificate{{&probe.Report{
			Address: netip.MustParseAddrPort("192.0.2.25:25"),
			Failure: &probe.Failure{Kind: probe.Certificate, Err: errors.New("another key")}}, probe.RSA}}}}
	}), "raised good.dane. mx. at 192.0.2.25 RSA: another key",
		"resolved good.dane. signatures: the first signature that DANE rests on ends 2027-01-15 13:59 UTC")

	if _, err := w.look(t.Context(), "mismatch.dane."); err != nil { // as it is in the lab
		t.Fatal(err)
	}
	all := strings.Join(r.take(t, n), "\n")
	if !strings.Contains(all, "raised mismatch.dane. mx.mismatch.dane. at 192.0.2.25 ECDSA: no TLSA record matches") {
		t.Errorf("%s", all)
	}
	s, err := h.Look(t.Context(), "good.dane.", w.prober)
	if err != nil {
		t.Fatal(err)
	}
	s.At = s.Hosts[0].Certificates[0].Expires().Add(1 - endingCertificate)
	s.Signatures = time.Time{}
	w.remember(s)
	if all := strings.Join(r.take(t, n), "\n"); !strings.Contains(all, ": the certificate ends 20") {
		t.Errorf("%s", all)
	}
}

// TestAlarmsOfAnchors: anchors that cannot be looked at for too long, and what becomes of keys.
func TestAlarmsOfAnchors(t *testing.T) {
	n, r, _ := noted(t)
	clock := world.NewClock(time.Now())
	c := config(t)
	c.Clock, c.Notify = clock.Now, n.command
	h := open(t, c)
	tend := func() []string {
		h.keeper.tend(t.Context(), h)
		return r.take(t, n)
	}
	tells(t, "well", tend())
	clock.Advance(100 * 24 * time.Hour) // the lab's signatures have ended
	if all := tend(); len(all) != 1 ||
		!strings.HasPrefix(all[0], "raised . stale: their keys could be looked at last ") {
		t.Errorf("%q", all)
	}
	clock.Set(time.Now())
	if all := tend(); len(all) != 1 || !strings.HasPrefix(all[0], "resolved . stale: their keys") {
		t.Errorf("%q", all)
	}
	p := AnchorPoint{Zone: ".", Trusted: 1, Keys: []AnchorKey{
		{KeyTag: 1, Trusted: true, Retiring: true, State: "Valid"}, {KeyTag: 2, State: "AddPend"}}}
	n.are(OfAnchors, ".", p.alarms())
	if all := r.take(t, n); len(all) != 2 ||
		!strings.HasPrefix(all[0], "raised . key 1 retires: key 1 signs no more") ||
		!strings.HasPrefix(all[1], "raised . key 2 is new: key 2 is published, and not trusted before") {
		t.Errorf("%q", all)
	}
	p = AnchorPoint{Zone: "."}
	n.are(OfAnchors, ".", p.alarms())
	if all := r.take(t, n); len(all) != 3 ||
		!strings.HasPrefix(all[0], "raised . none: all trust anchors are revoked") {
		t.Errorf("%q", all)
	}
}
