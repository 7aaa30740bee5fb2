package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/test/needs"
)

// hostile is what a server may have put into names and texts.
const hostile = "</text><script>alert(1)</script>\x1b[31m\u202e\"'"

// hostileView is a domain all of whose texts are hostile.
func hostileView() *view {
	l := lookupView{Name: hostile, Type: "MX", Status: "Bogus", Rcode: "SERVFAIL", Records: []string{hostile},
		Failure: &drawing.Failure{Text: hostile},
		Note:    &drawing.Failure{Text: hostile}}
	v := &view{domainView: domainView{
		Domain: "a<b>.example.", Decision: "defer", Why: hostile, Culprit: l.Failure,
		Senders: []senderView{{"Postfix", "defer", hostile}}, MX: l,
		MTASTS: policyView{lookupView: l, Published: true, Error: hostile},
		TLSRPT: policyView{lookupView: l, RUA: []string{hostile}},
		Zones: []*drawing.Zone{{Name: ".", Status: "Secure", How: hostile},
			{Name: "example.", Status: "Bogus", How: strings.Repeat(hostile, 30)}},
	}}
	h := &hostView{Name: hostile, Decision: "defer", Why: hostile, Alias: &aliasView{hostile, "Secure"},
		Addresses: []lookupView{l},
		TLSA:      []tlsaView{{lookupView: l, Parts: []tlsaRecordView{{3, 1, 1, hostile, false, hostile}}}},
		SMTP: []smtpView{{Address: hostile, Result: "failed", Failure: &smtpFailure{Text: hostile},
			Certificate: &certificateView{hostile, []string{hostile}, hostile, time.Now(), 1}}}}
	v.add(h)
	v.domain = mail.Domain{Name: v.Domain, Hosts: []mail.Host{{}}}
	asked := &lookup{lookupView: l}
	v.asked, v.mtasts, v.tlsrpt = map[dns.Question]*lookup{{}: asked}, asked, asked
	return v
}

// TestHostileTexts: nothing of it becomes markup of the page, or reaches the terminal as a control character.
func TestHostileTexts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.html")
	err := writePage(file, func() *drawing.Page {
		return newPage([]result{{domain: "a.example.", view: hostileView()}})
	})
	if err != nil {
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
	printView(&out, hostileView(), newPainter(false))
	if strings.ContainsAny(out.String(), "\x1b\u202e") || strings.Count(out.String(), "alert(1)") < 10 {
		t.Errorf("%q", &out)
	}
}

// TestColours: words have them when asked for, and the columns stay where they are.
func TestColours(t *testing.T) {
	v := &view{domainView: domainView{
		Domain: "d.", Decision: "dane", MX: lookupView{Status: "Secure"}, Senders: []senderView{{"Exim", "defer", "x"}},
	}, asked: map[dns.Question]*lookup{{}: {}}, mtasts: new(lookup), tlsrpt: new(lookup)}
	var with, without strings.Builder
	printView(&with, v, newPainter(true))
	printView(&without, v, newPainter(false))
	if !strings.Contains(with.String(), "\x1b[32mSecure\x1b[0m") ||
		!strings.Contains(with.String(), "\x1b[31mdefer\x1b[0m ") {
		t.Errorf("%q", &with)
	}
	if stripped := regexp.MustCompile(`\x1b\[\d+m`).ReplaceAllString(with.String(), ""); stripped != without.String() {
		t.Errorf("%q, without colours %q", stripped, &without)
	}
}

// TestTree: each box is below what vouches for it.
func TestTree(t *testing.T) {
	v := hostileView()
	v.zones = map[string]*dnssec.Zone{}
	var lines []string
	var walk func(depth int, boxes []*drawing.Box)
	walk = func(depth int, boxes []*drawing.Box) {
		for _, b := range boxes {
			kind, _, _ := strings.Cut(strings.ReplaceAll(b.Title, hostile, "X"), " example.")
			lines = append(lines, strings.Repeat(".", depth)+kind)
			walk(depth+1, b.Children)
		}
	}
	walk(0, v.draw())
	want := "the root|.zone|..X MX|.mail host X|.X, of which X is an alias|..X TLSA|...certificate at X"
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestPageCannotBeWritten: the error names the file.
func TestPageCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none", "page.html")
	if code, _, stderr := here("check", "-lab", "-html", file, "good.dane"); code != exitFailure ||
		!strings.Contains(stderr, file) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// TestPageInBrowser: Chromium shows the page of a good, an Insecure and a Bogus domain without an error, by itself, and
// fits it onto paper.
func TestPageInBrowser(t *testing.T) {
	needs.Tools(t, "chromium")
	for domain, want := range map[string][]string{
		"good.dane":     {`<li class="good">`, "certificate at 192.0.2.25:25", "DANE, mail goes to none"},
		"unsigned.dane": {`<li class="good">`, `<li class="plain">`, "since unsigned.dane. is unsigned"},
		"expired.dane": {`<li class="good">`, `<li class="bad">`, "✗ Bogus",
			`<p class="told fails">expired.dane.: the RRSIG over expired.dane. DNSKEY`},
		"good.dane MX": {`<li class="good">`, "10 mx1.good.dane.", "zone good.dane.",
			`<p class="headline good">Secure</p>`},
	} {
		file := filepath.Join(t.TempDir(), "page.html")
		args, title := []string{"check", "-lab", "-html", file}, domain+". - danelaw check"
		if name, kind, ok := strings.Cut(domain, " "); ok {
			args, title = append(args, name, kind), name+". "+kind+" - danelaw check"
		} else {
			args = append(args, "-smtp", domain)
		}
		here(args...)
		dom, log := browsed(t, "--dump-dom", "file://"+file)
		for _, want := range append(want, "<title>"+title+"</title>", `<ul class="tree"`, "<b>the root</b>",
			"</footer>") {
			if !strings.Contains(dom, want) {
				t.Errorf("%s lacks %q:\n%s", domain, want, dom)
			}
		}
		if strings.Contains(log, "CONSOLE") {
			t.Errorf("%s: the console says:\n%s", domain, log)
		}
		phone := filepath.Join(filepath.Dir(file), "phone.html")
		os.WriteFile(phone,
			[]byte(`<iframe src="page.html" width="390" height="800" onload="let d = contentDocument.documentElement;`+
				` document.title = d.scrollWidth - d.clientWidth"></iframe>`), 0o600)
		if dom, _ := browsed(t, "--allow-file-access-from-files", "--dump-dom", "file://"+phone); !strings.Contains(dom,
			"<title>0</title>") {
			t.Errorf("%s: the page is wider than a phone:\n%.300s", domain, dom)
		}
		pdf := file + ".pdf"
		browsed(t, "--no-pdf-header-footer", "--print-to-pdf="+pdf, "file://"+file)
		if paper, err := os.ReadFile(pdf); err != nil || !strings.HasPrefix(string(paper), "%PDF") {
			t.Errorf("%s: it cannot be printed: %v", domain, err)
		}
	}
}

// TestSummary: a page about many domains begins with a table that leads to each, and back.
func TestSummary(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.html")
	here("check", "-lab", "-html", file, "good.dane", "expired.dane")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<p>2 domains: 1 dane, 1 defer; 1 not as wanted</p>",
		`<a href="#d-good.dane.">good.dane.</a></td><td class="good">dane</td><td>DANE, mail goes`,
		`<a href="#d-expired.dane.">expired.dane.</a></td><td class="bad">defer</td><td>expired.dane.: the RRSIG`,
		`<section id="d-expired.dane.">`,
		`<a href="#top">All domains</a>`, "prefers-color-scheme: dark",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
}
