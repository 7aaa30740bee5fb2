package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/test/needs"
)

// hostile is what a server may have put into names and texts.
const hostile = "</text><script>alert(1)</script>\x1b[31m\u202e\"'"

// hostileView is a domain all of whose texts are hostile.
func hostileView() *view {
	l := lookupView{Name: hostile, Type: "MX", Status: "Bogus", Rcode: "SERVFAIL", Records: []string{hostile}, Failure: &failureView{Text: hostile},
		Note: &failureView{Text: hostile}, found: &chain.Explanation{Answer: &chain.Answer{}}}
	v := &view{
		Domain: "a<b>.example.", Decision: "defer", Why: hostile, Culprit: l.Failure, Senders: []senderView{{"Postfix", "defer", hostile}}, MX: l,
		MTASTS: policyView{lookupView: l, Published: true, Error: hostile}, TLSRPT: policyView{lookupView: l, RUA: []string{hostile}},
		Zones: []*zoneView{{Name: ".", Status: "Secure", How: hostile}, {Name: "example.", Status: "Bogus", How: strings.Repeat(hostile, 30)}},
	}
	h := &hostView{Name: hostile, Decision: "defer", Why: hostile, Alias: &aliasView{hostile, "Secure"}, Addresses: []lookupView{l},
		TLSA: []tlsaView{{lookupView: l, Parts: []tlsaRecordView{{3, 1, 1, hostile, false, hostile}}}},
		SMTP: []smtpView{{Address: hostile, Result: "failed", Failure: &smtpFailure{Text: hostile}, Certificate: &certificateView{hostile, []string{hostile}, hostile, time.Now(), 1}}}}
	v.Hosts = []*hostView{h}
	v.domain = mail.Domain{Name: v.Domain, Hosts: []mail.Host{{}}}
	return v
}

// TestHostileTexts: nothing of it becomes markup of the page, or reaches the terminal as a control character.
func TestHostileTexts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.html")
	if err := writePage(file, []result{{domain: "a.example.", view: hostileView()}}); err != nil {
		t.Fatal(err)
	}
	page, _ := os.ReadFile(file)
	for _, not := range []string{"<script", "\x1b", "a<b>", "\u202e"} {
		if strings.Contains(string(page), not) {
			t.Errorf("the page holds %q", not)
		}
	}
	if n := strings.Count(string(page), "alert(1)"); n < 10 {
		t.Errorf("the page tells of %d texts", n)
	}
	var out strings.Builder
	if err := printView(&out, hostileView(), newPainter(false)); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u202e") || strings.Count(out.String(), "alert(1)") < 10 {
		t.Errorf("%q", &out)
	}
}

// TestColours: words have them when asked for, and the columns stay where they are.
func TestColours(t *testing.T) {
	v := &view{Domain: "d.", Decision: "dane", MX: lookupView{Status: "Secure"}, Senders: []senderView{{"Exim", "defer", "x"}}}
	var with, without strings.Builder
	if err := printView(&with, v, newPainter(true)); err != nil {
		t.Fatal(err)
	}
	if err := printView(&without, v, newPainter(false)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(with.String(), "\x1b[32mSecure\x1b[0m") || !strings.Contains(with.String(), "\x1b[31mdefer\x1b[0m ") {
		t.Errorf("%q", &with)
	}
	if stripped := regexp.MustCompile(`\x1b\[\d+m`).ReplaceAllString(with.String(), ""); stripped != without.String() {
		t.Errorf("%q, without colours %q", stripped, &without)
	}
}

// TestDrawing: boxes stand one below the other within the picture, those vouched for to the right of who does.
func TestDrawing(t *testing.T) {
	v := hostileView()
	v.zones = map[string]*dnssec.Zone{}
	d := draw(v)
	if len(d.Boxes) != 7 { // two zones, MX, host, its target, TLSA, certificate
		t.Errorf("%d boxes", len(d.Boxes))
	}
	bottom := 0
	for i, b := range d.Boxes {
		if b.Y <= bottom || b.X+b.W >= drawingWidth || b.Y+b.H >= d.Height || (b.Path == "") != (i == 0) {
			t.Errorf("%+v", b)
		}
		if b.parent != nil && b.X <= b.parent.X {
			t.Errorf("%q is not to the right of %q", b.Titles, b.parent.Titles)
		}
		for _, l := range b.Titles {
			if len([]rune(l))*titleWidth > b.W-wordWidth {
				t.Errorf("%q is too long", l)
			}
		}
		for _, l := range b.Lines {
			if float64(len([]rune(l)))*letterWidth > float64(b.W) {
				t.Errorf("%q is too long", l)
			}
		}
		bottom = b.Y + b.H
	}
}

func TestWrap(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "one": "one", "one two": "one two", "one two three": "one two|three", "abcdefghijkl": "abcdefgh|ijkl", "a abcdefghijkl b": "a|abcdefgh|ijkl b",
	} {
		if got := strings.Join(wrap(text, 8), "|"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestPageCannotBeWritten: the error names the file.
func TestPageCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none", "page.html")
	if code, _, stderr := here("check", "-lab", "-html", file, "good.dane"); code != exitFailure || !strings.Contains(stderr, file) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// TestPageInBrowser: Chromium shows the page of a good, an Insecure and a Bogus domain without an error, by itself, and fits it onto
// paper.
func TestPageInBrowser(t *testing.T) {
	const chromium = "chromium"
	needs.Tools(t, chromium)
	browse := func(args ...string) (string, string) {
		var stderr strings.Builder
		c := exec.CommandContext(t.Context(), chromium, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
			"--user-data-dir=" + t.TempDir(), "--enable-logging=stderr", "--v=0"}, args...)...)
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, &stderr)
		}
		return string(out), stderr.String()
	}
	for domain, want := range map[string][]string{
		"good.dane":     {`<g class="good">`, "certificate at 192.0.2.25:25", "DANE, mail goes to none"},
		"unsigned.dane": {`<g class="good">`, `<g class="plain">`, "since unsigned.dane. is unsigned"},
		"expired.dane":  {`<g class="good">`, `<g class="bad">`, "✗ Bogus", `<p class="told fails">expired.dane.: the RRSIG over expired.dane. DNSKEY`},
	} {
		file := filepath.Join(t.TempDir(), domain+".html")
		here("check", "-lab", "-smtp", "-html", file, domain)
		dom, log := browse("--dump-dom", "file://"+file)
		for _, want := range append(want, "<title>"+domain+". - danelaw check</title>", `role="img"`, "<desc>the root: Secure.", "</footer>") {
			if !strings.Contains(dom, want) {
				t.Errorf("%s lacks %q:\n%s", domain, want, dom)
			}
		}
		if strings.Contains(log, "CONSOLE") {
			t.Errorf("%s: the console says:\n%s", domain, log)
		}
		pdf := file + ".pdf"
		browse("--no-pdf-header-footer", "--print-to-pdf="+pdf, "file://"+file)
		if paper, err := os.ReadFile(pdf); err != nil || !strings.HasPrefix(string(paper), "%PDF") {
			t.Errorf("%s: it cannot be printed: %v", domain, err)
		}
	}
}
