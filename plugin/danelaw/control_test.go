package danelaw

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// socketPath is one short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "danelaw-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "control.sock")
}

// call sends a request to a control socket and returns status and body.
func call(t *testing.T, socket, method, path, body string) (int, string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://danelaw"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(text)
}

// TestControl: everything the control socket can do, and how it refuses what it cannot.
func TestControl(t *testing.T) {
	noLeak(t)
	socket := socketPath(t)
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr(), "control "+socket), ""))
	defer c.stop()
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info, err)
	}
	c.ask(secureMX, dns.TypeMX, withDO)
	c.ask(bogusMX, dns.TypeMX, withDO)
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               []string
	}{
		{"GET", "/v1/cache", "", 200, []string{`"dns://.:0":{"answers":{"bytes":`, `"limit_bytes":67108864`, `"hits":`,
			`"misses":`}},
		{"GET", "/v1/status", "", 200, []string{`"ready":`, `"trust_anchors":{".":["`,
			`"verdicts_last_hour":{"bogus":1,"secure":1}`,
			`"upstreams":[{"upstream":"127.0.0.1:`, `"failures":[{"name":"expired.dane.","type":"MX","at":"`,
			`expired.dane.: the RRSIG over`, `"since":"`,
			`"limit_bytes":67108864`, `"negative_trust_anchors":null`}},
		{"GET", "/v1/cache/dump?name=expired.dane", "", 200,
			[]string{`"name":"expired.dane.","type":"MX","status":"Bogus","rcode":"SERVFAIL"`, "expired"}},
		{"GET", "/v1/cache/dump?name=.&limit=1", "", 200, []string{`"entries":[{`, `"found":`}},
		{"GET", "/v1/cache/dump?name=.&limit=0", "", 400, []string{`limit \"0\" is not a number from 1 to 10000`}},
		{"GET", "/v1/cache/dump", "", 400, []string{"not a domain name"}},
		{"GET", "/v1/nta", "", 200, []string{`{"negative_trust_anchors":null,"kept_over_restart":false}`}},
		{"POST", "/v1/nta", `{"zone":"Expired.Dane","life":"1h","reason":"told them"}`, 200,
			[]string{`"zone":"expired.dane."`, `"reason":"told them"`,
				`"name":"expired.dane.","type":"MX","result":"Bogus: `}},
		{"POST", "/v1/nta", `{"zone":"rsasha256.dane","life":"1h"}`, 200, []string{`"well":true`}},
		{"GET", "/v1/nta", "", 200, []string{"expired.dane.", "rsasha256.dane."}},
		{"DELETE", "/v1/nta?zone=rsasha256.dane", "", 200, []string{"expired.dane."}},
		{"DELETE", "/v1/nta?zone=rsasha256.dane", "", 404,
			[]string{"there is no negative trust anchor for rsasha256.dane."}},
		{"DELETE", "/v1/nta?zone=a..b", "", 400, []string{"not a domain name"}},
		{"POST", "/v1/nta", `{"zone":"expired.dane","life":"1h","forever":true}`, 400, []string{"forever"}},
		{"POST", "/v1/nta", `{"zone":"expired.dane","life":"1y"}`, 400, []string{"not a duration"}},
		{"POST", "/v1/nta", `{"zone":"expired.dane","life":"169h"}`, 400,
			[]string{"out of range: a negative trust anchor lasts from 1s to 168h"}},
		{"POST", "/v1/nta", `{"zone":".","life":"1h"}`, 400, []string{"nothing to validate"}},
		{"POST", "/v1/nta", `[]`, 400, []string{"cannot be understood"}},
		{"POST", "/v1/nta", `{"zone":"` + strings.Repeat("x", 10<<10) + `"}`, 400,
			[]string{"cannot be understood", "too large"}},
		{"POST", "/v1/flush?name=dane", "", 200, []string{`{"blocks":{"dns://.:0":{"answers":`, `"failures":`}},
		{"POST", "/v1/flush?name=", "", 400, []string{"not a domain name"}},
		{"GET", "/v2/nta", "", 404, []string{"it speaks version 1"}},
		{"PUT", "/v1/nta", "", 404, []string{"does not know PUT /v1/nta"}},
	} {
		status, body := call(t, socket, tt.method, tt.path, tt.body)
		if status != tt.status || !json.Valid([]byte(body)) {
			t.Errorf("%s %s %.80s: status %d, want %d: %s", tt.method, tt.path, tt.body, status, tt.status, body)
		}
		for _, want := range tt.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s %s %.80s: lacks %q: %s", tt.method, tt.path, tt.body, want, body)
			}
		}
	}
	wants(t, "in the end", "distrusted", c.ask(bogusMX, dns.TypeMX, withDO))
	if _, dump := call(t, socket, "GET", "/v1/cache/dump?name=dane", ""); strings.Contains(dump, "rsasha256") {
		t.Errorf("after the flush: %s", dump)
	}
}

// TestControlStays: a reload keeps the socket open, whether its block changes or not, and the end removes it.
func TestControlStays(t *testing.T) {
	socket := socketPath(t)
	text := blockOf(".:0", optionsFor(t, lab().Addr(), "control "+socket), "") +
		blockOf("a.example:0", optionsFor(t, lab().Addr(), "control "+socket), "")
	c := startCoreDNS(t, text)
	defer c.stop()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, next := range []string{text, strings.Replace(text, "danelaw {", "danelaw {\n ignore_cd on", 1)} {
		if err := c.reload(next); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("GET /v1/nta HTTP/1.1\r\nHost: danelaw\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || reply.StatusCode != 200 {
			t.Fatalf("%v, %v", reply, err)
		}
		io.Copy(io.Discard, reply.Body) //nolint:errcheck // it is short
	}
	if err := c.reload(blockOf(".:0", optionsFor(t, lab().Addr(), "control off"), "")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socket); err == nil || things[*control]() > 0 {
		t.Errorf("it is left after `control off`: %v, %d", err, things[*control]())
	}
}

// TestControlPath: a socket on which nobody listens is replaced; what else is there is an error that names the option's
// line, and stays as it is.
func TestControlPath(t *testing.T) {
	start := func(socket string) error {
		c, err := startable(t, blockOf(".:0", optionsFor(t, lab().Addr(), "control "+socket), ""))
		if c != nil {
			c.stop()
		}
		return err
	}
	stale := socketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := start(stale); err != nil {
		t.Errorf("a stale socket: %v", err)
	}
	living := socketPath(t)
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: living, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := socketPath(t)
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		living: "another danelaw listens on", file: "is no socket",
		filepath.Join(filepath.Dir(file), "none", "x"): "no such file",
	} {
		if err := start(path); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), "Corefile:6") {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "mine" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if len(process.all())+things[*table]()+things[*memory]()+things[*control]() > 0 {
		t.Error("starts that failed left something")
	}
}

// TestControlDefault: without the option there is a socket where its directory exists, and what is in its way is no
// reason not to start.
func TestControlDefault(t *testing.T) {
	book := logged(t)
	before := defaultControl
	defer func() { defaultControl = before }()
	defaultControl = socketPath(t)
	text := blockOf(".:0", optionsFor(t, lab().Addr()), "")
	c := startCoreDNS(t, text)
	if status, _ := call(t, defaultControl, "GET", "/v1/nta", ""); status != 200 {
		t.Errorf("status %d", status)
	}
	c.stop()
	if err := os.WriteFile(defaultControl, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := startCoreDNS(t, text).ask(secureMX, dns.TypeMX, withDO); !r.AuthenticatedData ||
		!strings.Contains(book.String(), "goes without a control socket") {
		t.Errorf("%s\n%s", describes(r), book)
	}
}

// TestOneForAll: what is one for the whole daemon cannot be two.
func TestOneForAll(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for _, option := range []string{"control", "trust_anchor_state"} {
		_, err := startable(t, blockOf(".:0", optionsFor(t, lab().Addr(), option+" "+first), "")+
			blockOf("a.example:0", optionsFor(t, lab().Addr(), option+" "+second), ""))
		if err == nil || !strings.Contains(err.Error(), option+" "+second+": another server block has "+first) ||
			!strings.Contains(err.Error(), "Corefile:") {
			t.Errorf("%s: %v", option, err)
		}
	}
}

// TestControlIdle: clients that say nothing, or not all, keep nobody else out for ever, and not the daemon from ending.
func TestControlIdle(t *testing.T) {
	socket := socketPath(t)
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr(), "control "+socket), ""))
	for range controlClients - 1 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte("POST /v1/nta HTTP/1.1\r\nHost: d")) //nolint:errcheck // it is read later or never
	}
	if status, _ := call(t, socket, "GET", "/v1/nta", ""); status != 200 {
		t.Errorf("status %d", status)
	}
	c.stop()
}
