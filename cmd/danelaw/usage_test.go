package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/test/needs"
)

// each visits a command and all below it.
func each(c *cli.Command, visit func(*cli.Command, []string), path ...string) {
	visit(c, path)
	for _, sub := range c.Commands {
		each(sub, visit, append(path[:len(path):len(path)], sub.Name)...)
	}
}

// TestHelpOfAll: the help of every command fits a terminal of 80 columns, names all flags with two dashes, and loses no
// word.
func TestHelpOfAll(t *testing.T) {
	each(command(new(bytes.Buffer), new(bytes.Buffer)), func(c *cli.Command, path []string) {
		code, out, stderr := here(append(path, "--help")...)
		if code != 0 || stderr != "" {
			t.Errorf("%v --help: exit code %d, %s", path, code, stderr)
		}
		for line := range strings.Lines(out) {
			if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > helpWidth {
				t.Errorf("%v --help: this has more than %d columns: %s", path, helpWidth, line)
			}
		}
		for _, f := range c.Flags {
			if !strings.Contains(out, "--"+f.Names()[0]) {
				t.Errorf("%v --help does not name --%s", path, f.Names()[0])
			}
		}
		oneLine := strings.Join(strings.Fields(out), " ")
		for _, text := range []string{c.Usage, c.Description} {
			if !strings.Contains(oneLine, strings.Join(strings.Fields(text), " ")) {
				t.Errorf("%v --help lacks %q:\n%s", path, text, out)
			}
		}
	})
}

// TestHelpTexts: each is that of a command.
func TestHelpTexts(t *testing.T) {
	texts := map[string]bool{"completion.txt": true} // whose command the library makes later
	each(command(new(bytes.Buffer), new(bytes.Buffer)), func(_ *cli.Command, path []string) {
		texts[strings.Join(path, "-")+".txt"] = true
	})
	files, err := helpTexts.ReadDir("help")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !texts[f.Name()] {
			t.Errorf("%s is of no command", f.Name())
		}
	}
}

// TestNoName: what people give in the place of a domain is told what it is.
func TestNoName(t *testing.T) {
	for text, want := range map[string]string{
		"https://example.org/path":         `is a URL; give the domain alone, "example.org"`,
		"smtp://mx.example.org:25":         `is a URL; give the domain alone, "mx.example.org"`,
		"https://me:secret@example.org/":   `"https://me:xxxxx@example.org/" is a URL`,
		"//example.org":                    "is a URL",
		"postmaster@example.org":           `give the domain alone, "example.org"`,
		"mailto:postmaster@example.org":    `give the domain alone, "example.org"`,
		"192.0.2.1":                        "1.2.0.192.in-addr.arpa.",
		"192.0.2.1.":                       "is an address",
		"[192.0.2.1]":                      "1.2.0.192.in-addr.arpa.",
		"2001:db8::1":                      "8.b.d.0.1.0.0.2.ip6.arpa.",
		"[2001:db8::1]":                    "is an address",
		"[IPv6:2001:db8::1]":               "is an address",
		"fe80::1%eth0":                     "is an address",
		"example.org:25":                   `has a port; give the domain alone, "example.org"`,
		"example.org/25":                   `give the domain alone, "example.org"`,
		"":                                 "is not a domain name",
		"a..b":                             "is not a domain name",
		"two words":                        "is not a domain name",
		strings.Repeat("a", 64) + ".org":   "is not a domain name",
		strings.Repeat("long.", 60) + "rg": "is not a domain name",
	} {
		if name, err := parseName(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is taken for %q, error %v; want %q", text, name, err, want)
		}
	}
	for text, want := range map[string]string{
		"Example.ORG":                "example.org.",
		".":                          ".",
		"bücher.example":             "xn--bcher-kva.example.",
		"_25._tcp.bücher.example.":   "_25._tcp.xn--bcher-kva.example.",
		"例え。テスト":                     "xn--r8jz45g.xn--zckzah.",
		"*.example.org":              "*.example.org.",
		"0/25.2.0.192.in-addr.arpa":  "0/25.2.0.192.in-addr.arpa.",
		"1.2.0.192.in-addr.arpa":     "1.2.0.192.in-addr.arpa.",
		"xn--bcher-kva.example":      "xn--bcher-kva.example.",
		`a\032b.example`:             `a\032b.example.`,
		"faß.de":                     "xn--fa-hia.de.",
		"999.1.2.3":                  "999.1.2.3.",
		"selector._domainkey.x.test": "selector._domainkey.x.test.",
	} {
		if name, err := parseName(text); err != nil || name != want {
			t.Errorf("%q is taken for %q, error %v; want %q", text, name, err, want)
		}
	}
}

// TestCommandFirst: flags may stand before the command; their values are no commands.
func TestCommandFirst(t *testing.T) {
	for line, want := range map[string]string{
		"--conf F check x":            "check --conf F x",
		"-conf F check x":             "check -conf F x",
		"-conf=F --smtp check x":      "check -conf=F --smtp x",
		"--conf check check x":        "check --conf check x",
		"--lab check x":               "check --lab x",
		"--upstream 192.0.2.1 doctor": "doctor --upstream 192.0.2.1",
		"check --conf F x":            "check --conf F x",
		"--conf F":                    "--conf F",
		"--conf F chekc":              "--conf F chekc",
		"--validate --conf F":         "--validate --conf F",
		"-- check":                    "-- check",
		"--socket S nta list":         "nta --socket S list",
		"":                            "",
	} {
		args := append([]string{"danelaw"}, strings.Fields(line)...)
		got := strings.Join(commandFirst(command(nil, nil), args)[1:], " ")
		if got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	says(t, []string{"--conf", "/nonexistent/Corefile", "check", "example.org"}, exitFailure,
		"danelaw: the Corefile cannot be read: /nonexistent/Corefile: no such file or directory")
}

// TestInWords: what the system and the network say is told without the calls of the language's libraries.
func TestInWords(t *testing.T) {
	_, missing := os.Open("/nonexistent/file")
	_, refused := net.DialTimeout("tcp", "127.0.0.1:1", time.Minute)
	for want, err := range map[string]error{
		"it cannot be read: /nonexistent/file: no such file or directory": fmt.Errorf("it cannot be read: %w", missing),
		"127.0.0.1:1: connection refused":                                 refused,
		"asked in vain: no answer in time": fmt.Errorf("asked in vain: %w",
			context.DeadlineExceeded),
		"plain": errors.New("plain"),
	} {
		if got := inWords(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestCompletion: a shell is told commands and flags.
func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"":           "doctor",
		"nta":        "remove",
		"check --sm": "--smtp",
	} {
		p := start(t, nil, append(strings.Fields(line), "--generate-shell-completion")...)
		if code := p.end(t); code != 0 || !strings.Contains(p.out.String(), want) {
			t.Errorf("after %q the shell is told, with exit code %d:\n%s%s", line, code, &p.out, &p.err)
		}
	}
}

// TestCompletionInBash: the script is one that bash reads.
func TestCompletionInBash(t *testing.T) {
	needs.Tools(t, "bash")
	code, script, stderr := here("completion", "bash")
	if code != 0 || !strings.Contains(script, "danelaw") {
		t.Fatalf("exit code %d:\n%s%s", code, script, stderr)
	}
	check := exec.Command("bash", "-n")
	check.Stdin = strings.NewReader(script)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("bash does not read the script: %v\n%s", err, out)
	}
}

// full is a file of which the disk is full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestUnwritten: what cannot be printed is a failure of the command, which says so.
func TestUnwritten(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"lab", "--help"}} {
		var stderr strings.Builder
		code := run(t.Context(), append([]string{"danelaw"}, args...), full{}, &stderr)
		if want := "danelaw: no space left on device\n"; code != exitFailure || stderr.String() != want {
			t.Errorf("%v: code %d, says %q", args, code, stderr.String())
		}
	}
}
