//go:build linux

package packages

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestDeb is the life of the package on a mail host: installed while another resolver holds port 53, set up, reloaded,
// hung, asked by Postfix, replaced by a newer and an older version, and purged.
func TestDeb(t *testing.T) {
	suite.Needs(t)
	w := newStage(t)
	m := boot(t)
	m.carry(older)
	m.carry(newer)
	m.steps(w, []step{
		{"installed beside another resolver", besideAnother}, {"set up", setUp}, {"hangs", hangs},
		{"danelaw setup", setup}, {"Postfix", postfix}, {"policies", policies}, {"setup undone", undone},
		{"systemd-resolved", resolved}, {"resolvconf", resolvconf}, {"dhclient", dhclient},
		{"upgraded and downgraded", upgraded}, {"purged", purged},
	})
}

// TestWriters is danelaw setup beside more programs that write resolv.conf, which leave much behind in their Debian.
func TestWriters(t *testing.T) {
	suite.Needs(t)
	w := newStage(t)
	m := boot(t)
	m.carry(older)
	m.steps(w, []step{
		{"set up", func(m *machine, w *stage) {
			m.run("apt-get", "install", "--yes", "--no-install-recommends", "/tmp/"+older+".deb")
			setUp(m, w)
			m.write("/etc/resolv.conf", "nameserver "+nameserver+"\n")
			m.plainPostfix()
		}},
		{"dhcpcd", dhcpcd}, {"NetworkManager", networkManager}, {"openresolv", openresolv}, {"cloud-init", cloudInit},
	})
}

// step is a part of a test.
type step struct {
	what string
	does func(*machine, *stage)
}

// steps takes one step after the other, until one fails.
func (m *machine) steps(w *stage, all []step) {
	for _, s := range all {
		began := time.Now()
		if !m.t.Run(s.what, func(t *testing.T) { s.does(&machine{t, m.pid}, w) }) {
			return
		}
		m.t.Logf("%s: %v", s.what, time.Since(began).Round(100*time.Millisecond))
	}
}

// carry has the package of a version in the machine.
func (m *machine) carry(version string) {
	m.t.Helper()
	text, err := os.ReadFile(file(m.t, "danelaw_"+version+"_*.deb"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.write("/tmp/"+version+".deb", string(text))
}

// besideAnother: the package is installed although its port is taken, says by whom, and serves when that has ended.
// resolv.conf is not its business.
func besideAnother(m *machine, _ *stage) {
	m.run("systemd-run", "--unit=other", "--service-type=exec", "dnsmasq", "--keep-in-foreground",
		"--conf-file=/dev/null",
		"--no-resolv", "--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--pid-file")
	m.eventually("another resolver", func() bool { return strings.Contains(m.run("ss", "-Hlun"), "127.0.0.1:53 ") })
	before := m.run("cat", "/etc/resolv.conf")
	out := m.run("apt-get", "install", "--yes", "--no-install-recommends", "/tmp/"+older+".deb")
	for _, want := range []string{"danelaw is installed, but does not serve yet", "127.0.0.1:53 over", "dnsmasq"} {
		if !strings.Contains(out, want) {
			m.t.Errorf("the installation does not say %q:\n%s", want, out)
		}
	}
	if m.property("ActiveState") == "active" {
		m.t.Error("it is active, although another holds its port")
	}
	m.run("systemctl", "stop", "other")
	m.eventually("danelaw to serve", func() bool { return m.property("ActiveState") == "active" })
	if after := m.run("cat", "/etc/resolv.conf"); after != before {
		m.t.Errorf("resolv.conf was %q, and is %q", before, after)
	}
	if enabled := m.run("systemctl", "is-enabled", "danelaw"); enabled != "enabled\n" {
		m.t.Errorf("it is %s", enabled)
	}
	status := m.run("cat", "/proc/"+m.property("MainPID")+"/status")
	for _, want := range []string{"CapEff:\t0000000000000400\n", "CapBnd:\t0000000000000400\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(status, want) {
			m.t.Errorf("its process lacks %q:\n%s", want, status)
		}
	}
	if user := strings.TrimSpace(m.run("stat", "--format=%U", "/proc/"+m.property("MainPID"))); user != "danelaw" {
		m.t.Errorf("it runs as %s", user)
	}
}

// setUp: a reload by systemd takes the Corefile as it is now; danelaw then is ready, says so, and answers.
func setUp(m *machine, w *stage) {
	m.write("/etc/danelaw/root.ds", w.anchor)
	upstreams := regexp.MustCompile(`(?m)^        upstream \. .*\n`)
	text := m.run("cat", "/etc/danelaw/Corefile")
	if len(upstreams.FindAllString(text, -1)) != 1 {
		m.t.Fatalf("the package's Corefile has not one upstream:\n%s", text)
	}
	m.write("/etc/danelaw/Corefile", upstreams.ReplaceAllString(text, fmt.Sprintf(
		"        upstream . %s\n        trust_anchor /etc/danelaw/root.ds\n", w.upstream)))
	m.run("danelaw", "--user", "danelaw", "--validate", "--conf", "/etc/danelaw/Corefile")
	pid := m.property("MainPID")
	m.run("systemctl", "reload", "danelaw")
	m.eventually("readiness in the status", func() bool {
		return m.property("StatusText") == "ready: trust anchor, clock and upstream are in order"
	})
	m.answers()
	if now := m.property("MainPID"); now != pid {
		m.t.Errorf("a reload has made process %s of %s", now, pid)
	}
	if out := m.run("danelaw", "status"); !strings.Contains(out, "ready") {
		m.t.Errorf("status says\n%s", out)
	}
	m.eventually("state", func() bool {
		out, err := m.try("stat", "--format=%U %a", "/var/lib/danelaw/trust-anchors.json")
		return err == nil && strings.HasPrefix(out, "danelaw 600")
	})
	journal := m.run("journalctl", "--unit=danelaw", "--no-pager")
	for _, forbidden := range []string{"stays as it was", "cannot be told", "not permitted", "ermission denied"} {
		if strings.Contains(journal, forbidden) {
			m.t.Errorf("the unit forbids what danelaw needs: %q\n%s", forbidden, journal)
		}
	}
}

// answers asks danelaw what it validates.
func (m *machine) answers() {
	m.t.Helper()
	q := new(dns.Msg).SetQuestion(domain, dns.TypeMX)
	q.SetEdns0(1232, true)
	m.eventually("an answer with AD", func() bool {
		r, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(q, "127.0.0.1:53")
		return err == nil && r.Rcode == dns.RcodeSuccess && r.AuthenticatedData && len(r.Answer) > 0
	})
}

// hangs: one that hangs feeds no watchdog, and is started anew.
func hangs(m *machine, _ *stage) {
	const dropIn = "/run/systemd/system/danelaw.service.d/watchdog.conf"
	m.write(dropIn, "[Service]\nWatchdogSec=10s\nTimeoutAbortSec=5s\n")
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "restart", "danelaw")
	fed := m.property("WatchdogTimestampMonotonic")
	m.eventually("the watchdog to be fed", func() bool { return m.property("WatchdogTimestampMonotonic") != fed })
	m.run("systemctl", "kill", "--signal=SIGSTOP", "danelaw")
	m.eventually("the watchdog", func() bool {
		return strings.Contains(m.run("journalctl", "--unit=danelaw", "--no-pager"), "Watchdog timeout")
	})
	m.eventually("a new process", func() bool {
		return m.property("NRestarts") != "0" && m.property("ActiveState") == "active"
	})
	m.answers()
	m.run("rm", "-r", filepath.Dir(dropIn))
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "restart", "danelaw")
}

// upgraded: another version is started in place of the one that runs, newer or older, and what the administrator has
// written stays.
func upgraded(m *machine, _ *stage) {
	corefile := m.run("cat", "/etc/danelaw/Corefile")
	for _, version := range []string{newer, older} {
		pid := m.property("MainPID")
		m.run("apt-get", "install", "--yes", "--no-install-recommends", "--allow-downgrades", "/tmp/"+version+".deb")
		if now := m.property("MainPID"); m.property("ActiveState") != "active" || now == pid {
			m.t.Errorf("%s: process %s became %s, %s", version, pid, now, m.property("ActiveState"))
		}
		if now := m.run("cat", "/etc/danelaw/Corefile"); now != corefile {
			m.t.Errorf("%s: the Corefile is now\n%s", version, now)
		}
		if got := m.run("dpkg-query", "--show", "--showformat=${Version}", "danelaw"); got != version {
			m.t.Errorf("installed is %s, not %s", got, version)
		}
		m.answers()
	}
}

// purged: nothing stays.
func purged(m *machine, _ *stage) {
	m.run("rm", "/etc/danelaw/root.ds")
	m.run("apt-get", "purge", "--yes", "danelaw")
	if left := m.run("find", "/", "/run", "-xdev", "-name", "*danelaw*"); left != "" {
		m.t.Errorf("there are still\n%s", left)
	}
	// Files such as /etc/passwd- have what was before the last change.
	if left, err := m.try("grep", "--recursive", "--files-with-matches", "--exclude=*-", "danelaw", "/etc",
		"/var/lib/dpkg/status", "/var/lib/systemd"); err == nil {
		m.t.Errorf("it is still named in\n%s", left)
	}
	if state := m.property("LoadState"); state != "not-found" {
		m.t.Errorf("its unit is %s", state)
	}
	if left := m.run("ss", "-Hlun"); strings.Contains(left, "127.0.0.1:53 ") {
		m.t.Errorf("somebody still listens:\n%s", left)
	}
}
