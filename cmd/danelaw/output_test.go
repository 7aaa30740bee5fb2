package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// TestOutput: each form of the log has the level, the plugin and the text of a line; nothing that a text holds begins
// another line or drives a terminal, and no line holds the user and password of a URL.
func TestOutput(t *testing.T) {
	const time = `\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `
	for _, tt := range []struct {
		line, text, journal string // text and journal are regular expressions
		json                map[string]string
	}{
		{"[INFO] plugin/danelaw: ready", time + `\[INFO\] plugin/danelaw: ready\n`, `<6>plugin/danelaw: ready\n`,
			map[string]string{"level": "INFO", "plugin": "danelaw", "msg": "ready"}},
		{"[WARNING] plugin/danelaw: doubt", time + `\[WARNING\] plugin/danelaw: doubt\n`, `<4>plugin/danelaw: doubt\n`,
			map[string]string{"level": "WARNING", "plugin": "danelaw", "msg": "doubt"}},
		{"[ERROR] SIGHUP: no", time + `\[ERROR\] SIGHUP: no\n`, `<3>SIGHUP: no\n`,
			map[string]string{"level": "ERROR", "msg": "SIGHUP: no"}},
		{"[DEBUG] x", time + `\[DEBUG\] x\n`, `<7>x\n`, map[string]string{"level": "DEBUG", "msg": "x"}},
		{"[FATAL] x", time + `\[FATAL\] x\n`, `<2>x\n`, map[string]string{"level": "FATAL", "msg": "x"}},
		{"[PANIC] x", time + `\[PANIC\] x\n`, `<2>x\n`, map[string]string{"level": "PANIC", "msg": "x"}},
		{"bare", time + `\[INFO\] bare\n`, `<6>bare\n`, map[string]string{"level": "INFO", "msg": "bare"}},
		{"[2001:db8::1]:53 is one", time + `\[INFO\] \[2001:db8::1\]:53 is one\n`, `<6>\[2001:db8::1\]:53 is one\n`,
			map[string]string{"level": "INFO", "msg": "[2001:db8::1]:53 is one"}},
		{"[NOTE] plugin/x: y", time + `\[INFO\] plugin/x: \[NOTE\] y\n`, `<6>plugin/x: \[NOTE\] y\n`,
			map[string]string{"level": "INFO", "plugin": "x", "msg": "[NOTE] y"}},
		{"[ERROR] a\n\tb\n[INFO] c", time + `\[ERROR\] a\n        b\n    \[INFO\] c\n`,
			`<3>a\n<3>        b\n<3>    \[INFO\] c\n`,
			map[string]string{"level": "ERROR", "msg": "a\n\tb\n[INFO] c"}},
		{"[INFO] a\x1b[31m\rb\u202e", time + `\[INFO\] a\\u001b\[31m\\rb\\u202e\n`, `<6>a\\u001b\[31m\\rb\\u202e\n`,
			map[string]string{"level": "INFO", "msg": "a\x1b[31m\rb\u202e"}},
		{"[INFO] https://u:s3cr3t@192.0.2.1/x?", time + `\[INFO\] https://192.0.2.1/x\?\n`,
			`<6>https://192.0.2.1/x\?\n`,
			map[string]string{"level": "INFO", "msg": "https://192.0.2.1/x?"}},
		{"[ERROR] plugin/reload: Corefile changed but reload failed: starting with listener file descriptors: " +
			"'https://9.9.9.9/s3cr3t'",
			time + `\[ERROR\] plugin/reload: Corefile changed but reload failed: 'https://9.9.9.9/\.\.\.'\n`,
			`<3>plugin/reload: .*https://9.9.9.9/\.\.\.'\n`, nil},
		{"[ERROR] Restart failed: x", ``, ``, nil}, // whoever asked for it tells it
	} {
		for form, want := range map[string]string{formText: tt.text, formJournal: tt.journal} {
			if got := written(form, tt.line); !regexp.MustCompile("^" + want + "$").MatchString(got) {
				t.Errorf("%q as %s is %q, want %s", tt.line, form, got, want)
			}
		}
		got := written(formJSON, tt.line)
		var fields map[string]string
		if tt.json == nil {
			continue
		}
		if err := json.Unmarshal([]byte(got), &fields); err != nil || strings.Count(got, "\n") != 1 ||
			strings.ContainsAny(got, "\x1b\r\u202e") {
			t.Errorf("%q as JSON is %q, %v", tt.line, got, err)
		}
		if fields["time"] == "" {
			t.Errorf("%q as JSON has no time: %s", tt.line, got)
		}
		if delete(fields, "time"); fmt.Sprint(fields) != fmt.Sprint(tt.json) {
			t.Errorf("%q as JSON is %v, want %v", tt.line, fields, tt.json)
		}
	}
}

// written is what becomes of lines that are logged.
func written(form string, lines ...string) string {
	var b observe.Output
	o := newOutput(form, &b)
	for _, line := range lines {
		log.New(o, "", 0).Print(line)
	}
	o.close()
	return b.String()
}

// TestOutputOnce: that a Corefile has a fault is told once, not each time that the plugin reload looks at it, and again
// after another.
func TestOutputOnce(t *testing.T) {
	const a, b = "[WARNING] plugin/reload: Corefile parse failed: a", "[WARNING] plugin/reload: " +
		"Corefile parse failed: b"
	if got := written(formJournal, a, a, "[INFO] x", a, b, b, a); strings.Count(got, "failed: a") != 2 ||
		strings.Count(got, "failed: b") != 1 {
		t.Errorf("%s", got)
	}
}

// TestLevels: -quiet leaves warnings and errors, -verbose tells every question, and both are none.
func TestLevels(t *testing.T) {
	says(t, []string{"-quiet", "-verbose"}, exitUsage, "leave out one")
	says(t, []string{"-log-format", "xml"}, exitUsage, "text, json and journal")
	lab := newLab(t)
	for flag, want := range map[string][]string{
		"-quiet": {"[WARNING] plugin/danelaw: expired.dane. MX from 127.0.0.1: SERVFAIL: ", ""},
		"-verbose": {"[WARNING] plugin/danelaw: expired.dane. MX from 127.0.0.1: SERVFAIL: ",
			"[DEBUG] plugin/danelaw: good.dane. MX from 127.0.0.1: secure, NOERROR, AD=true, after ", "[INFO] "},
	} {
		port := ports.Closed(t)
		p := start(t, nil, flag, "-conf", write(t, "Corefile", corefile(port, lab.Addr(), anchors(t, lab))))
		eventually(t, "an answer", func() bool {
			m, err := exchange(port, "good.dane.", dns.TypeMX)
			return err == nil && m.AuthenticatedData
		})
		ask(t, port, "expired.dane.", dns.TypeMX)
		ask(t, port, "good.dane.", dns.TypeMX)
		for _, text := range want {
			p.says(t, &p.err, text)
		}
		if quiet := flag == "-quiet"; quiet == strings.Contains(p.err.String(), "[INFO]") ||
			quiet == strings.Contains(p.err.String(), "[DEBUG]") {
			t.Errorf("%s: %s", flag, &p.err)
		}
	}
}

// TestLogUnread: when nobody reads the log, questions are answered all the same; who reads again is told how much is
// lost.
func TestLogUnread(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := newChild(t, nil, "-verbose", "-conf", write(t, "Corefile", corefile(port, lab.Addr(), anchors(t, lab))))
	p.Stderr = w
	p.start(t)
	w.Close()
	eventually(t, "an answer", func() bool {
		_, err := exchange(port, "good.dane.", dns.TypeMX)
		return err == nil
	})
	for range 3 * heldLines {
		ask(t, port, "good.dane.", dns.TypeMX)
	}
	go io.Copy(&p.out, r)
	eventually(t, "lines lost to be told", func() bool {
		ask(t, port, "good.dane.", dns.TypeMX)
		return regexp.MustCompile(`\[WARNING\] \d+ lines of the log were lost`).MatchString(p.out.String())
	})
	if code := p.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestJournal: where stderr is the stream to the journal that systemd names, lines have priorities, also that of an
// error that ends danelaw; where it is another one they have none.
func TestJournal(t *testing.T) {
	lab := newLab(t)
	run := func(stream func(dev, inode uint64) string, corefile string) *child {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		var stat syscall.Stat_t
		if err := syscall.Fstat(int(w.Fd()), &stat); err != nil {
			t.Fatal(err)
		}
		p := newChild(t, nil, "-conf", write(t, "Corefile", corefile))
		p.Env = append(p.Env, "JOURNAL_STREAM="+stream(uint64(stat.Dev), stat.Ino))
		p.Stderr = w
		p.start(t)
		go io.Copy(&p.err, r)
		return p
	}
	this := func(dev, inode uint64) string { return fmt.Sprintf("%d:%d", dev, inode) }
	port := ports.Closed(t)
	p := run(this, corefile(port, lab.Addr(), anchors(t, lab)))
	p.says(t, &p.err, "listens")
	ask(t, port, "expired.dane.", dns.TypeMX)
	p.says(t, &p.err, "SERVFAIL")
	for _, want := range []string{fmt.Sprintf(`(?m)^<6>.*danelaw listens on 127\.0\.0\.1:%d$`, port),
		`(?m)^<4>plugin/danelaw: expired\.dane\. MX from 127\.0\.0\.1: SERVFAIL: `} {
		if !regexp.MustCompile(want).MatchString(p.err.String()) {
			t.Errorf("the journal lacks %s:\n%s", want, &p.err)
		}
	}
	p = run(this, "nonsense {")
	p.says(t, &p.err, "\n")
	if code := p.end(t); code != exitFailure || !strings.HasPrefix(p.err.String(), "<3>") {
		t.Errorf("exit code %d, %s", code, &p.err)
	}
	p = run(func(dev, inode uint64) string { return fmt.Sprintf("%d:%d", dev, inode+1) },
		corefile(ports.Closed(t), lab.Addr(), anchors(t, lab)))
	p.says(t, &p.err, "[INFO]")
	if strings.Contains(p.err.String(), "<6>") {
		t.Errorf("another stream has priorities:\n%s", &p.err)
	}
}

// TestLogJSON: each line is an object, whoever wrote it; and the line of the start tells what danelaw was built from.
func TestLogJSON(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	p := start(t, nil, "-log-format", "json", "-conf",
		write(t, "Corefile", corefile(port, lab.Addr(), anchors(t, lab))))
	p.says(t, &p.err, "listens")
	ask(t, port, "expired.dane.", dns.TypeMX)
	p.Process.Signal(syscall.SIGHUP)
	p.says(t, &p.err, "Reloading complete")
	p.terminate(t)
	for line := range strings.Lines(p.err.String()) {
		var fields map[string]string
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["msg"] == "" || fields["level"] == "" {
			t.Errorf("%s: %v", line, err)
		}
		if msg := fields["msg"]; strings.Contains(msg, "listens") &&
			!regexp.MustCompile(`revision \S+ of \S+: danelaw listens on `).MatchString(msg) {
			t.Errorf("the line of the start is %q", msg)
		}
	}
}

// TestFailedReload: a reload that fails is one line, and in the metrics; the next one that does not, ends that.
func TestFailedReload(t *testing.T) {
	lab := newLab(t)
	port, page := ports.Closed(t), fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
	good := strings.Replace(corefile(port, lab.Addr(), anchors(t, lab)), "danelaw {", "prometheus "+page+"\n danelaw {",
		1)
	bad := strings.Replace(good, "danelaw {", "danelaw {\n upstraem x", 1)
	metrics := func() string {
		r, err := http.Get("http://" + page + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(r.Body)
		return string(body)
	}
	wantMetrics := func(failed, failures, successes int) {
		t.Helper()
		for name, want := range map[string]int{"reload_failed": failed, `reloads_total{result="failure"}`: failures,
			`reloads_total{result="success"}`: successes} {
			if line := fmt.Sprintf("\ncoredns_danelaw_%s %d\n", name, want); !strings.Contains(metrics(), line) {
				t.Errorf("the metrics lack %s", strings.TrimSpace(line))
			}
		}
	}
	file := write(t, "Corefile", good)
	p := start(t, nil, "-conf", file)
	p.says(t, &p.err, "listens")
	wantMetrics(0, 0, 0)
	build := `\ncoredns_danelaw_build_info\{goversion="go[^"]+",revision="[^"]+",version="[^"]+"\} 1\n`
	if !regexp.MustCompile(build).MatchString(metrics()) {
		t.Error("there is no build_info")
	}
	write(t, file, bad)
	p.Process.Signal(syscall.SIGHUP)
	p.says(t, &p.err, "the configuration is kept")
	if n := strings.Count(p.err.String(), "upstraem"); n != 1 || strings.Contains(p.err.String(), "Restart failed") ||
		!strings.Contains(p.err.String(), "[ERROR] SIGHUP: plugin/danelaw: "+file+":5 - ") {
		t.Errorf("told %d times", n)
	}
	wantMetrics(1, 1, 0)
	os.Remove(file)
	p.Process.Signal(syscall.SIGUSR1)
	p.says(t, &p.err, "cannot be read")
	wantMetrics(1, 2, 0)
	write(t, file, good)
	p.Process.Signal(syscall.SIGHUP)
	p.says(t, &p.err, "Reloading complete")
	wantMetrics(0, 2, 1)
}

// TestPromtool: Prometheus's own linter finds nothing on the page of a danelaw at work.
func TestPromtool(t *testing.T) {
	needs.Tools(t, "promtool")
	lab := newLab(t)
	port, page := ports.Closed(t), fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
	p := start(t, nil, "-conf", write(t, "Corefile",
		strings.Replace(corefile(port, lab.Addr(), anchors(t, lab)), "danelaw {",
			"prometheus "+page+"\n reload\n danelaw {", 1)))
	p.says(t, &p.err, "listens")
	for _, name := range []string{"good.dane.", "expired.dane.", "good.nsec3."} {
		ask(t, port, name, dns.TypeMX)
	}
	r, err := http.Get("http://" + page + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = r.Body
	if said, err := check.CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("%v\n%s", err, said)
	}
}
