package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
)

// socketDir makes a directory with a name short enough for sockets.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "danelaw-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// told runs a command that must succeed, and returns what it prints.
func told(t *testing.T, args ...string) string {
	t.Helper()
	code, out, stderr := here(args...)
	if code != 0 || stderr != "" {
		t.Fatalf("danelaw %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, stderr)
	}
	return out
}

// contains checks that a text has all that it must have.
func contains(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %q:\n%s", what, want, text)
		}
	}
}

// distrusted checks that a reply has data, no AD, and EDE 33 with the reason; validated, that it is SERVFAIL as without
// a negative trust anchor.
func distrusted(t *testing.T, what string, m *dns.Msg) {
	t.Helper()
	errors := errorsOf(m)
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 || m.AuthenticatedData || len(errors) != 1 ||
		errors[0].InfoCode != 33 ||
		!strings.HasSuffix(errors[0].ExtraText, ": told them") {
		t.Errorf("%s: %v", what, m)
	}
}

func validated(t *testing.T, what string, m *dns.Msg) {
	t.Helper()
	if errors := errorsOf(m); m.Rcode != dns.RcodeServerFailure || len(errors) == 0 ||
		errors[0].InfoCode != dns.ExtendedErrorCodeSignatureExpired {
		t.Errorf("%s: %v", what, m)
	}
}

// TestNegativeTrustAnchor: a domain with expired signatures is answered while a negative trust anchor lasts, over
// reload and restart, and is SERVFAIL again at once when it is removed (T-18, C-12).
func TestNegativeTrustAnchor(t *testing.T) {
	lab, dir := newLab(t), socketDir(t)
	socket := filepath.Join(dir, "control.sock")
	options := []string{"control " + socket, "trust_anchor_state " + dir}
	p, port, file := serving(t, lab, lab.Addr(), options...)
	mx := func() *dns.Msg { return ask(t, port, "expired.dane.", dns.TypeMX) }
	tlsa := func() *dns.Msg { return ask(t, port, "_25._tcp.mx.expired.dane.", dns.TypeTLSA) }
	validated(t, "at first", mx())
	validated(t, "at first", tlsa())
	contains(t, "nta list", told(t, "nta", "list", "-socket", socket), "There is no negative trust anchor")
	contains(t, "nta add", told(t, "nta", "add", "-socket", socket, "expired.dane", "1h", "told them"),
		"expired.dane. and all below are not validated until", "expired.dane. MX: Bogus: ",
		"_25._tcp.mx.expired.dane. TLSA: Bogus: ", "dropped before, once this validates")
	distrusted(t, "added", mx())
	distrusted(t, "added", tlsa())
	distrusted(t, "added, from the cache", mx())
	if m := ask(t, port, "good.dane.", dns.TypeMX); !m.AuthenticatedData {
		t.Errorf("the zone above is affected: %v", m)
	}
	before := told(t, "nta", "list", "-socket", socket, "-json")
	contains(t, "nta list", told(t, "nta", "list", "-socket", socket), "expired.dane.", "nta add", "told them")
	write(t, file, corefile(port, lab.Addr(), anchors(t, lab), options...))
	p.reload(t)
	distrusted(t, "reloaded", mx())
	if code := p.terminate(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left behind")
	}
	p = start(t, nil, "-conf", file)
	p.says(t, &p.err, "danelaw listens on")
	contains(t, "the log", p.out.String()+p.err.String(), "negative trust anchor for expired.dane. until",
		"told them: answers there are not validated")
	distrusted(t, "started again", mx())
	if after := told(t, "nta", "list", "-socket", socket, "-json"); after != before {
		t.Errorf("before the restart\n%s\nafter\n%s", before, after)
	}
	contains(t, "nta remove", told(t, "nta", "remove", "-socket", socket, "Expired.Dane"),
		"expired.dane. and all below are validated again")
	validated(t, "removed", mx())
	validated(t, "removed", tlsa())
	contains(t, "nta add", told(t, "nta", "add", "-socket", socket, "bücher.dane"), "xn--bcher-kva.dane. and all below")
	contains(t, "nta remove", told(t, "nta", "remove", "-socket", socket, "bücher.dane"), "xn--bcher-kva.dane. and all")
	code, _, stderr := here("nta", "remove", "-socket", socket, "expired.dane")
	if code != exitFailure || !strings.Contains(stderr, "there is no negative trust anchor for expired.dane.") {
		t.Errorf("removed twice: exit code %d, %s", code, stderr)
	}
}

// reload sends SIGUSR1 and waits for the end of the reload.
func (p *child) reload(t *testing.T) {
	t.Helper()
	before := strings.Count(p.err.String(), "Reloading complete")
	p.Process.Signal(syscall.SIGUSR1)
	eventually(t, "the reload", func() bool { return strings.Count(p.err.String(), "Reloading complete") > before })
}

// TestNearerAnchor: below a negative trust anchor a trust anchor that is nearer decides: a zone with one of its own is
// validated, and none can be set for it (T-18).
func TestNearerAnchor(t *testing.T) {
	lab, dir := newLab(t), socketDir(t)
	socket := filepath.Join(dir, "control.sock")
	m := new(dns.Msg).SetQuestion("good.dane.", dns.TypeDS)
	reply, _, err := (&dns.Client{Timeout: patience}).Exchange(m, lab.Addr())
	if err != nil || len(reply.Answer) == 0 {
		t.Fatalf("%v, %v", reply, err)
	}
	own := write(t, "good.ds", reply.Answer[0].String()+"\n")
	_, port, _ := serving(t, lab, lab.Addr(), "control "+socket, "trust_anchor "+own)
	added := told(t, "nta", "add", "-socket", socket, "-keep", "dane", "2h", "told", "them")
	contains(t, "nta add", added, "dane. and all below are not validated", "does not outlive a restart")
	distrusted(t, "below", ask(t, port, "expired.dane.", dns.TypeMX))
	distrusted(t, "below", ask(t, port, "deep.dane.", dns.TypeMX))
	if m := ask(t, port, "good.dane.", dns.TypeMX); !m.AuthenticatedData || len(errorsOf(m)) > 0 {
		t.Errorf("below the nearer anchor: %v", m)
	}
	code, _, stderr := here("nta", "add", "-socket", socket, "good.dane")
	if code != exitFailure ||
		!strings.Contains(stderr, "good.dane. has a trust anchor of its own: remove that trust_anchor instead") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// TestNegativeInCorefile: a line of the Corefile does the same.
func TestNegativeInCorefile(t *testing.T) {
	lab := newLab(t)
	p, port, file := serving(t, lab, lab.Addr(), `negative_trust_anchor expired.dane 24h keep "told them"`)
	distrusted(t, "with the line", ask(t, port, "expired.dane.", dns.TypeMX))
	write(t, file, corefile(port, lab.Addr(), anchors(t, lab)))
	p.reload(t)
	validated(t, "without it", ask(t, port, "expired.dane.", dns.TypeMX))
}

// TestCacheCommands: what is cached is shown and forgotten, with all below a name.
func TestCacheCommands(t *testing.T) {
	lab := newLab(t)
	socket := filepath.Join(socketDir(t), "control.sock")
	p, port, _ := serving(t, lab, lab.Addr(), "control "+socket, "prefetch off")
	ask(t, port, "good.dane.", dns.TypeMX)
	ask(t, port, "nothing.good.dane.", dns.TypeMX)
	ask(t, port, "expired.dane.", dns.TypeMX)
	contains(t, "cache stats", told(t, "cache", "stats", "-socket", socket), "answers", "zones", "failures", "at most",
		"65536", "questions answered from it")
	dump := told(t, "cache", "dump", "-socket", socket, "Good.dane")
	contains(t, "cache dump", dump, "2 entries", "; good.dane. MX: Secure, NOERROR, for",
		"; nothing.good.dane. (any type): Secure, NXDOMAIN", "IN\tMX\t", "RRSIG")
	if strings.Contains(dump, "expired") {
		t.Errorf("it has others too:\n%s", dump)
	}
	contains(t, "cache dump", told(t, "cache", "dump", "-socket", socket, "expired.dane"),
		"; expired.dane. MX: Bogus, SERVFAIL", "expired 20")
	contains(t, "cache dump", told(t, "cache", "dump", "-socket", socket, "-limit", "1", "."),
		"more are not shown, see --limit")
	contains(t, "flush", told(t, "flush", "-socket", socket, "good.dane"),
		fmt.Sprintf("dns://.:%d: forgotten of good.dane. and all below: 2 answers", port))
	contains(t, "cache dump", told(t, "cache", "dump", "-socket", socket, "good.dane"), "has nothing of good.dane.")
	for _, args := range [][]string{{"cache", "stats"}, {"cache", "dump", "."}, {"flush", "."}, {"nta", "list"},
		{"nta", "add", "a.dane"}} {
		out := told(t, append(args, "-socket", socket, "-json")...)
		if !json.Valid([]byte(out)) {
			t.Errorf("%v -json prints\n%s", args, out)
		}
	}
	p.terminate(t)
	for _, args := range [][]string{{"cache", "stats"}, {"cache", "dump", "."}, {"flush", "."}, {"nta", "list"},
		{"nta", "add", "a.dane"}, {"nta", "remove", "a.dane"}} {
		code, out, stderr := here(append(args, "-socket", socket)...)
		if code != exitFailure || out != "" || !strings.Contains(stderr, "no danelaw listens on "+socket) ||
			!strings.Contains(stderr, "-socket") {
			t.Errorf("%v without a daemon: exit code %d, %s%s", args, code, out, stderr)
		}
	}
}

// TestControlOfOthers: what is no control socket of a danelaw is told as that.
func TestControlOfOthers(t *testing.T) {
	dir := socketDir(t)
	stale, other := filepath.Join(dir, "stale"), filepath.Join(dir, "other")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	served, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	go server.Serve(served)
	defer server.Close()
	for socket, want := range map[string]string{
		stale: "no danelaw listens on", other: "is no danelaw: it says 404",
		filepath.Join(dir, "none"): "no danelaw listens on",
	} {
		if code, _, stderr := here("nta", "list", "-socket", socket); code != exitFailure ||
			!strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %s", socket, code, stderr)
		}
	}
	denied := unreachable(other, &net.OpError{Op: "dial", Err: os.ErrPermission}).Error()
	if !strings.Contains(denied, "is not for you: be root, or a member of the group ") {
		t.Errorf("without permission: %s", denied)
	}
}

// TestPrintNTAs: nothing in the list needs an explanation.
func TestPrintNTAs(t *testing.T) {
	var out bytes.Buffer
	begun := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	all := []danelaw.NTA{
		{Zone: "a.example.", Begun: begun, Until: begun.Add(time.Hour), Reason: "told them", Tested: begun,
			Tests: []danelaw.Test{{Name: "a.example.", Type: "MX", Result: "Bogus: it is"}}},
		{Zone: "b.example.", Begun: begun, Until: begun.Add(2 * time.Hour), Keep: true, Block: "dns://.:53",
			Over: "removed"},
	}
	printNTAs(&out, all, begun)
	const want = `ZONE        UNTIL (UTC)       LEFT    FROM            REASON
a.example.  2026-06-01 13:00  1h0m0s  nta add         told them
b.example.  2026-06-01 14:00  over    Corefile, keep  

a.example. MX, tested 2026-06-01 12:00: Bogus: it is
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}
