package main

import (
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// hostileNames are what anybody can have a mail host ask for, with what the page must not hold.
var hostileNames = []string{
	`<script>alert\(1\)</script>.expired.dane.`, `a\"\ onmouseover=alert\(1\)\ b=\".expired.dane.`,
	`\200\027\010\060img\ src=x\062.expired.dane.`, `'>{{.Version}}.expired.dane.`,
}

// paged is a danelaw with a status page, that was asked for sound, broken and hostile names.
func paged(t *testing.T) (p *child, port, page int, file string) {
	t.Helper()
	lab := newLab(t)
	page = ports.Closed(t)
	p, port, file = serving(t, lab, lab.Addr(), fmt.Sprintf("status 127.0.0.1:%d", page),
		`negative_trust_anchor broken.example 1h "<b>told</b> them"`)
	ask(t, port, "good.dane.", dns.TypeMX)
	for _, name := range append(hostileNames, "expired.dane.") {
		if m := ask(t, port, name, dns.TypeMX); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: %v", name, m)
		}
	}
	eventually(t, "ready", func() bool {
		_, text := callAs(t, page, "127.0.0.1", "/")
		return strings.Contains(text, "✓ ready")
	})
	return p, port, page, file
}

// links are where the failures on a page lead.
func links(text string) (all []string) {
	for _, m := range regexp.MustCompile(`href="(/chain[^"]*)"`).FindAllStringSubmatch(text, -1) {
		all = append(all, html.UnescapeString(m[1]))
	}
	return all
}

// TestStatusPage (S-31): it tells what danelaw status says, draws the chains of failures and of nothing else, lets in
// no name of others, takes nothing but GET and HEAD, and has nothing of a hostile name as markup.
func TestStatusPage(t *testing.T) {
	p, port, page, file := paged(t)
	status, text := callAs(t, page, "localhost", "/")
	for _, want := range []string{"<title>danelaw is ready</title>", "running for ", "answers in ",
		"trust anchors of .",
		"% of all questions answered from it", "</b> 5 bogus</span>", "</b> 1 secure</span>", "this minute: 5 bogus",
		"the RRSIG over expired.dane. DNSKEY", "broken.example.", "told&lt;/b&gt; them", "&lt;script&gt;alert"} {
		if status != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%d, without %q:\n%s", status, want, text)
		}
	}
	all := links(text)
	if len(all) != 1+len(hostileNames) {
		t.Fatalf("%d links:\n%s", len(all), text)
	}
	for _, link := range all {
		status, drawn := callAs(t, page, "127.0.0.1", link)
		for _, want := range []string{`<ul class="tree"`, "<b>the root</b>", "✗ Bogus", `<a href="/">Back</a>`,
			"expired.dane.: the RRSIG over expired.dane. DNSKEY"} {
			if status != http.StatusOK || !strings.Contains(drawn, want) {
				t.Errorf("%s: %d, without %q:\n%s", link, status, want, drawn)
			}
		}
		text += drawn
	}
	for _, not := range []string{"<script", "<img", "<b>told", "'>{{", " onmouseover=alert(", "<form", "http://",
		"\x1b", "\x80"} {
		if strings.Contains(text, not) {
			t.Errorf("the pages hold %q", not)
		}
	}
	for _, other := range []string{"/chain", "/chain?name=good.dane.&type=MX",
		strings.Replace(all[0], "expired", "good", 1), strings.Replace(all[0], "type=MX", "type=TXT", 1),
		strings.Replace(all[0], "block=", "block=x", 1), "/index.html", "/chain/"} {
		if status, text := callAs(t, page, "127.0.0.1", other); status != http.StatusNotFound {
			t.Errorf("%s: %d\n%s", other, status, text)
		}
	}
	for _, path := range []string{"/", all[0]} {
		if status, _ := callAs(t, page, "evil.example", path); status != http.StatusMisdirectedRequest {
			t.Errorf("%s of evil.example: %d", path, status)
		}
	}
	testRequests(t, fmt.Sprintf("http://127.0.0.1:%d", page), all[0])

	p.Process.Signal(syscall.SIGUSR1)
	p.says(t, &p.err, "Reloading complete")
	if _, text := callAs(t, page, "localhost", "/"); !strings.Contains(text, "</b> 5 bogus</span>") {
		t.Errorf("a reload has lost the hour:\n%s", text)
	}
	moved := ports.Closed(t)
	corefile, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(string(corefile), fmt.Sprint("status 127.0.0.1:", page),
		fmt.Sprint("status 127.0.0.1:", moved), 1))
	p.Process.Signal(syscall.SIGUSR1)
	eventually(t, "the page at its new address alone", func() bool {
		status, _ := callAs(t, moved, "localhost", "/")
		before, _ := callAs(t, page, "localhost", "/")
		return status == http.StatusOK && before == 0
	})
	ask(t, port, "good.dane.", dns.TypeMX)
}

// testRequests: methods, and headers of requests and replies.
func testRequests(t *testing.T, at, chain string) {
	t.Helper()
	for _, tt := range []struct {
		method, path string
		header       [2]string
		want         int
	}{
		{"HEAD", "/", [2]string{}, http.StatusOK}, {"HEAD", chain, [2]string{}, http.StatusOK},
		{"POST", "/", [2]string{}, http.StatusMethodNotAllowed},
		{"DELETE", "/", [2]string{}, http.StatusMethodNotAllowed},
		{"PUT", chain, [2]string{}, http.StatusMethodNotAllowed},
		{"OPTIONS", "/", [2]string{}, http.StatusMethodNotAllowed},
		{"GET", chain, [2]string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden}, // <img src=...>
		{"GET", chain, [2]string{"Sec-Fetch-Site", "same-origin"}, http.StatusOK},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, at+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.header[0] != "" {
			r.Header.Set(tt.header[0], tt.header[1])
		}
		reply, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, reply.Body) //nolint:errcheck // its status counts
		reply.Body.Close()
		if reply.StatusCode != tt.want {
			t.Errorf("%+v: %s", tt, reply.Status)
		}
		for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'; ",
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store"} {
			if !strings.HasPrefix(reply.Header.Get(name), want) ||
				strings.Contains(reply.Header.Get(name), "unsafe") {
				t.Errorf("%+v: %s: %q", tt, name, reply.Header.Get(name))
			}
		}
	}
}

// TestStatusPageTaken: a port that is taken is told with the line of the Corefile, and ends the start.
func TestStatusPageTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	lab := newLab(t)
	p := start(t, nil, "serve", "-conf", write(t, "Corefile",
		corefile(ports.Closed(t), lab.Addr(), anchors(t, lab), "status "+taken.Addr().String())))
	if code := p.end(t); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"Corefile:6", "status " + taken.Addr().String(), "address already in use",
		"write another address", fmt.Sprintf("(process %d)", os.Getpid())} {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &p.err)
		}
	}
}

// TestStatusPageInBrowser: Chromium shows the page and a chain without an error, with their styles, on a phone too, and
// nothing in them runs.
func TestStatusPageInBrowser(t *testing.T) {
	needs.Tools(t, "chromium")
	_, _, page, _ := paged(t)
	_, text := callAs(t, page, "localhost", "/")
	all := links(text)
	if len(all) == 0 {
		t.Fatal(text)
	}
	for path, want := range map[string][]string{
		"/":    {"<title>danelaw is ready</title>", "✓ ready", `class="v-bogus"`, "&lt;script&gt;alert", "</footer>"},
		all[0]: {`<li class="bad">`, "✗ Bogus", "</footer>"},
	} {
		at := fmt.Sprintf("http://127.0.0.1:%d%s", page, path)
		dom, log := browsed(t, "--dump-dom", at)
		for _, want := range want {
			if !strings.Contains(dom, want) {
				t.Errorf("%s lacks %q:\n%s", path, want, dom)
			}
		}
		if strings.Contains(log, "CONSOLE") { // where the policy would tell of what it refuses
			t.Errorf("%s: the console says:\n%s", path, log)
		}
		shot := filepath.Join(t.TempDir(), "page.png")
		for _, size := range []string{"1280,1000", "390,1000"} {
			browsed(t, "--window-size="+size, "--hide-scrollbars", "--screenshot="+shot, at)
			if picture, err := os.ReadFile(shot); err != nil || len(picture) < 20000 { // else it is blank
				t.Errorf("%s, %s: %d octets, %v", path, size, len(picture), err)
			}
		}
	}
}

// browsed runs Chromium, and returns what it writes and logs.
func browsed(t *testing.T, args ...string) (out, log string) {
	t.Helper()
	var stderr strings.Builder
	c := exec.CommandContext(t.Context(), "chromium", append([]string{"--headless", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--user-data-dir=" + t.TempDir(), "--enable-logging=stderr", "--v=0"}, args...)...)
	c.Stderr = &stderr
	text, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	return string(text), stderr.String()
}
