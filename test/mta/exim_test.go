//go:build linux

package mta

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exim is Debian's Exim with its own configuration, and with the lines that deploy/mailhost/README.md recommends.
type exim struct{ root }

const eximLog = "var/log/exim4/mainlog"

func (exim) name() string { return "Exim" }

// install does what installing the package does after it is unpacked, for a host on the internet.
func (e exim) install(t *testing.T) {
	t.Helper()
	e.write(t, "etc/exim4/update-exim4.conf.conf",
		"dc_eximconfig_configtype='internet'\ndc_other_hostnames='localhost'\n"+
			"dc_local_interfaces='127.0.0.1'\ndc_localdelivery='mail_spool'\n")
	e.must(t, "sh", "-ec", "cd /etc/exim4 && cp -n exim4.conf.template template.debian && cp template.debian "+
		"exim4.conf.template")
	e.insert(t, recommended(t, "Exim"))
	for _, args := range [][]string{
		{"mkdir", "-p", "/var/lib/exim4", "/var/spool/exim4", "/var/log/exim4"},
		{"chown", "-R", "Debian-exim:adm", "/var/spool/exim4", "/var/log/exim4"},
		{"chown", "root:Debian-exim", "/etc/exim4/passwd.client"},
		{"chmod", "u+s", "/usr/sbin/exim4"},
		{"update-exim4.conf"},
	} {
		e.must(t, args...)
	}
}

// places are where lines go in Debian's configuration: behind what matches. Exim wants macros before their use, and the
// driver of a router or transport first.
var places = map[string]string{
	"# main section":                            `\A`,
	"# routers, before all others":              `(?m)^begin routers\n`,
	"# router dnslookup, below its driver":      `(?m)^dnslookup:\n(?:  .*\n)*?  driver = .*\n`,
	"# transport remote_smtp, below its driver": `(?m)^remote_smtp:\n(?:  .*\n)*?  driver = .*\n`,
}

// insert puts lines into Debian's configuration, at the places that the comments before them name.
func (e exim) insert(t *testing.T, lines []string) {
	t.Helper()
	const file = "etc/exim4/exim4.conf.template"
	config, err := os.ReadFile(filepath.Join(string(e.root), file))
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for _, line := range lines {
		if place, is := places[line]; is {
			found := regexp.MustCompile(place).FindAllIndex(config, -1)
			if len(found) != 1 {
				t.Fatalf("%s: there is not one place for what is below %q", file, line)
			}
			at = found[0][1]
			continue
		}
		if at < 0 {
			t.Fatalf("%s: there is no place for %q", file, line)
		}
		config = slices.Insert(config, at, []byte(line+"\n")...)
		at += len(line) + 1
	}
	e.write(t, file, string(config))
}

// start starts Exim with an empty queue and log, and without what it knows of hosts.
func (e exim) start(t *testing.T) {
	t.Helper()
	for _, d := range []string{"var/spool/exim4/*/*", "var/log/exim4/*"} {
		files, err := filepath.Glob(filepath.Join(string(e.root), d))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.RemoveAll(f); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (exim) stop(*testing.T) {}

// send returns after the first attempt to deliver. If Exim does not accept the message, its exit code is 1, and the log
// has no outcome.
func (e exim) send(domain string) error {
	_, err := e.run(message(domain), "exim4", "-odf", "-f", sender, recipient(domain))
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil
	}
	return err
}

// Lines of the log. X= and CV= come behind the host.
var (
	eximLine = regexp.MustCompile(`(?m)^\S+ \S+ \S+ (=>|==|\*\*) ([^\s:]+)(?: <([^>]+)>)?(.*)$`)
	eximTLS  = regexp.MustCompile(` X=\S+ CV=(\w+)`)
	eximFlag = map[string]string{"=>": "sent", "==": "deferred", "**": "bounced"}
	eximSeen = map[string]string{"dane": "Verified", "yes": "Trusted", "no": "Untrusted"}
)

// attempted reads log and queue. All messages have been tried by then, see send.
func (e exim) attempted(t *testing.T, _ int) map[string]outcome {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(string(e.root), eximLog))
	if err != nil {
		t.Fatal(err)
	}
	all := eximOutcomes(string(log))
	for _, field := range strings.Fields(e.must(t, "exim4", "-bp")) {
		enqueue(all, field)
	}
	return all
}

// eximOutcomes reads the outcomes from a log, by domain.
func eximOutcomes(log string) map[string]outcome {
	all := map[string]outcome{}
	for _, m := range eximLine.FindAllStringSubmatch(log, -1) {
		_, domain, _ := strings.Cut(cmp.Or(m[3], m[2]), "@") // m[3] is there if Exim rewrote it
		o := outcome{status: eximFlag[m[1]], reason: strings.TrimSpace(m[4])}
		if tls := eximTLS.FindStringSubmatch(m[4]); tls != nil {
			o.level = eximSeen[tls[1]]
		}
		all[domain] = o
	}
	return all
}
