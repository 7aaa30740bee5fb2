//go:build linux

package mta

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// postfix is Debian's Postfix with its own configuration, and with the lines that deploy/mailhost/README.md recommends.
type postfix struct{ root }

const postfixLog = "var/log/mail.log"

func (postfix) name() string { return "Postfix" }

// install does what installing the package does after it is unpacked, and makes the settings.
func (p postfix) install(t *testing.T) {
	t.Helper()
	for from, to := range map[string]string{
		"main.cf.debian": "main.cf", "main.cf.dist": "main.cf.proto", "master.cf.dist": "master.cf",
		"dynamicmaps.cf": "dynamicmaps.cf",
		"makedefs.out":   "makedefs.out",
	} {
		p.must(t, "cp", "/usr/share/postfix/"+from, "/etc/postfix/"+to)
	}
	p.must(t, "cp", "/etc/postfix/master.cf", "/etc/postfix/master.cf.proto")
	p.must(t, "postfix", "set-permissions")
	p.must(t, append([]string{"postconf", "-e", "myhostname = " + hostname, "mydestination = localhost", "alias_maps =",
		"inet_interfaces = loopback-only", "maillog_file = /" + postfixLog, "smtp_tls_loglevel = 1"},
		recommended(t, "Postfix")...)...)
}

// start starts Postfix with an empty queue and log.
func (p postfix) start(t *testing.T) {
	t.Helper()
	os.Remove(filepath.Join(string(p.root), postfixLog)) //nolint:errcheck // the first time it is not there
	p.must(t, "/usr/lib/postfix/configure-instance.sh")
	p.must(t, "postfix", "start")
	p.must(t, "cmp", "/etc/resolv.conf", "/var/spool/postfix/etc/resolv.conf")
}

func (p postfix) stop(t *testing.T) {
	t.Helper()
	p.must(t, "postsuper", "-d", "ALL")
	p.must(t, "postfix", "stop")
}

func (p postfix) send(domain string) error {
	_, err := p.run(message(domain), "sendmail", "-f", sender, recipient(domain))
	return err
}

var (
	postfixTLS = regexp.MustCompile(`postfix[\w-]*/(?:\w+/)?smtp\[(\d+)\]: (\w+) TLS connection established to ` +
		`([^\[]+)`)
	postfixStatus = regexp.MustCompile(`postfix[\w-]*/(?:\w+/)?\w+\[(\d+)\]: \w+: to=<([^>]+)>, relay=([^\[,]+).* ` +
		`status=(\w+) \((.*)\)`)
)

// attempted returns the outcomes of all messages, once n have been tried.
func (p postfix) attempted(t *testing.T, n int) map[string]outcome {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		all, err := p.outcomes()
		if err == nil && len(all) == n {
			return p.queued(t, all)
		}
		if time.Now().After(deadline) {
			t.Fatalf("Postfix has tried %d of %d messages: %v", len(all), n, err)
		}
	}
}

// outcomes returns the outcomes in the log.
func (p postfix) outcomes() (map[string]outcome, error) {
	log, err := os.ReadFile(filepath.Join(string(p.root), postfixLog))
	if err != nil {
		return nil, err
	}
	return postfixOutcomes(string(log)), nil
}

// postfixOutcomes reads the outcomes from a log, by domain. A process makes one delivery at a time, so its last TLS
// connection to a relay belongs to the delivery.
func postfixOutcomes(log string) map[string]outcome {
	all, levels := map[string]outcome{}, map[string]string{}
	for line := range strings.Lines(log) {
		if m := postfixTLS.FindStringSubmatch(line); m != nil {
			levels[m[1]+m[3]] = m[2]
		}
		m := postfixStatus.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		_, domain, _ := strings.Cut(m[2], "@")
		if o := (outcome{status: m[4], level: levels[m[1]+m[3]], reason: m[5]}); domain != "localhost" {
			all[domain] = o
		}
		delete(levels, m[1]+m[3])
	}
	return all
}

// queued notes which messages are in the queue.
func (p postfix) queued(t *testing.T, all map[string]outcome) map[string]outcome {
	t.Helper()
	for decoder := json.NewDecoder(strings.NewReader(p.must(t, "postqueue", "-j"))); decoder.More(); {
		var m struct {
			Recipients []struct{ Address string }
		}
		if err := decoder.Decode(&m); err != nil {
			t.Fatal(err)
		}
		for _, r := range m.Recipients {
			enqueue(all, r.Address)
		}
	}
	return all
}

// must runs a command that may not fail.
func (r root) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.run("", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// message returns a message to a domain.
func message(domain string) string { return fmt.Sprintf("Subject: %s\n\nhello\n", domain) }
