//go:build linux

package mta

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// finding is a finding of `danelaw doctor -json`.
type finding struct{ Topic, State, Why, Remedy string }

// examined is a configuration of an MTA. What the MTA does with it is compared with what danelaw doctor says of it.
type examined struct {
	name   string
	change []string // shell commands in the MTA's root; {A:DOMAIN} is the address of a domain's receiver
	to     string   // the domain to which mail is sent; "": ee.dane, which has DANE
	want   string   // the outcome of that mail; "": sent Verified
	says   string   // a part of a finding of doctor; "": it has none
	beyond bool     // set if this delivery does not show what doctor finds
	mends  bool     // set if the remedies are commands after which all is well
	by     string   // the directory of the Postfix instance that gets the mail; "": the default one
	undo   []string // commands to be run at the end
}

// doctored is an MTA whose configuration can be changed.
type doctored interface {
	transferAgent
	path() string // of its root
	must(t *testing.T, args ...string) string
	save(t *testing.T)               // keeps the configuration
	restore(t *testing.T)            // brings the kept configuration back
	reload(t *testing.T)             // after a change
	remedy(f finding) (string, bool) // the remedy as a command, if it can be one
	since(t *testing.T) func(domain string) (outcome, bool)
}

// TestDoctor shows each configuration to the real MTA and to danelaw doctor.
func TestDoctor(t *testing.T) {
	suite.Needs(t)
	s := open(t, deliveries)
	s.runDanelaw(t)
	for _, m := range []struct {
		doctored
		table []examined
	}{{postfix{newRoot(t, "postfix")}, postfixExamined}, {exim{newRoot(t, "exim4-daemon-light")}, eximExamined}} {
		t.Run(m.name(), func(t *testing.T) {
			m.install(t)
			s.installDanelaw(t, m.path())
			m.start(t)
			defer m.stop(t)
			m.save(t)
			for _, e := range m.table {
				t.Run(e.name, func(t *testing.T) { s.examine(t, m.doctored, e) })
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// examine compares what the MTA does with what doctor says of it, and then applies the remedies.
func (s *stage) examine(t *testing.T, m doctored, e examined) {
	t.Helper()
	if e.to == "" {
		e.to = "ee.dane"
	}
	if e.want == "" {
		e.want = verified
	}
	m.restore(t)
	for _, c := range e.change {
		m.must(t, "sh", "-ec", s.withAddresses(t, c))
	}
	m.reload(t)
	defer func() {
		for _, c := range e.undo {
			m.must(t, "sh", "-ec", c)
		}
	}()
	o, found := attempt(t, m, e.to, e.by), examinedBy(t, m)
	t.Logf("%v; %v", o, found)
	if got := o.String(); !strings.HasPrefix(got, e.want) && !strings.Contains(got, e.want) {
		t.Errorf("%s: %v, want %s", e.to, o, e.want)
	}
	if len(found) == 0 != (o.level == "Verified") && !e.beyond {
		t.Errorf("%s: %v, and doctor says %v", e.to, o, found)
	}
	if e.says == "" && len(found) > 0 || e.says != "" &&
		!slices.ContainsFunc(found, func(f finding) bool { return strings.Contains(f.State+": "+f.Why, e.says) }) {
		t.Errorf("doctor says %v, want %q", found, e.says)
	}
	if e.mends {
		s.mend(t, m, e, found)
	}
}

// mend applies the remedies that doctor gives.
func (s *stage) mend(t *testing.T, m doctored, e examined, found []finding) {
	t.Helper()
	for _, f := range found {
		if c, is := m.remedy(f); is {
			m.must(t, "sh", "-ec", "("+c+") >/dev/null 2>&1")
		} else {
			t.Errorf("not a command: %s", f.Remedy)
		}
	}
	m.reload(t)
	o := attempt(t, m, "ee.dane", e.by)
	if found := examinedBy(t, m); o.String() != verified || len(found) > 0 {
		t.Errorf("with the remedies of %v: %v, and doctor says %v", e.name, o, found)
	}
}

// addressOf matches the place for the address of a domain's receiver.
var addressOf = regexp.MustCompile(`\{A:([^}]+)\}`)

func (s *stage) withAddresses(t *testing.T, text string) string {
	t.Helper()
	return addressOf.ReplaceAllStringFunc(text, func(m string) string {
		domain := addressOf.FindStringSubmatch(m)[1]
		i := slices.IndexFunc(deliveries, func(d delivery) bool { return d.domain == domain })
		if i < 0 {
			t.Fatalf("there is no %s", domain)
		}
		return address(i)
	})
}

// attempt sends a message, and returns its outcome. by is the directory of the Postfix instance, or "".
func attempt(t *testing.T, m doctored, domain, by string) outcome {
	t.Helper()
	of := m.since(t)
	if by != "" {
		m.must(t, "sh", "-ec", "echo hello | sendmail -C "+by+" -f "+sender+" "+recipient(domain))
	} else if err := m.send(domain); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience / 4); ; time.Sleep(50 * time.Millisecond) {
		if o, tried := of(domain); tried {
			return o
		}
		if time.Now().After(deadline) {
			t.Fatal("the message was not tried")
		}
	}
}

// examinedBy returns the findings of danelaw doctor in the MTA's root that are about the MTA and not ok.
func examinedBy(t *testing.T, m doctored) (found []finding) {
	t.Helper()
	c := exec.Command("chroot", m.path(), "/danelaw", "doctor", "-json")
	c.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C"}
	out, err := c.Output()
	if exited := new(exec.ExitError); err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return slices.DeleteFunc(found, func(f finding) bool {
		return f.State == "ok" || f.Topic != "Postfix" && f.Topic != "Exim" && f.Topic != "resolv.conf"
	})
}

// path returns the path of the root.
func (r root) path() string { return string(r) }

// logged returns a function that returns what has been logged since.
func (r root) logged(t *testing.T, file string) func() string {
	t.Helper()
	read := func() []byte {
		text, err := os.ReadFile(filepath.Join(string(r), file))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return text
	}
	before := len(read())
	return func() string { return string(read()[before:]) }
}

func (p postfix) save(t *testing.T) {
	t.Helper()
	p.must(t, "sh", "-ec", "cd /etc/postfix && cp main.cf main.cf.saved && cp master.cf master.cf.saved")
}

func (p postfix) restore(t *testing.T) {
	t.Helper()
	p.must(t, "postsuper", "-d", "ALL")
	p.must(t, "sh", "-ec", "cd /etc/postfix && cp main.cf.saved main.cf && cp master.cf.saved master.cf; cp "+
		"/etc/resolv.conf /var/spool/postfix/etc/")
}

// reload leaves no pipe to the processes that Postfix starts. Postfix waits if its configuration files have just been
// changed, so they get an older time.
func (p postfix) reload(t *testing.T) {
	t.Helper()
	p.must(t, "sh", "-ec", "touch -d '1 minute ago' /etc/postfix/main.cf /etc/postfix/master.cf && postfix reload "+
		">/dev/null 2>&1")
}

// remedy returns the remedy, if all of it is a command.
func (postfix) remedy(f finding) (string, bool) {
	return f.Remedy, strings.HasPrefix(f.Remedy, "postconf ") || strings.HasPrefix(f.Remedy, "cp ")
}

func (p postfix) since(t *testing.T) func(string) (outcome, bool) {
	t.Helper()
	log := p.logged(t, postfixLog)
	return func(domain string) (outcome, bool) {
		o, tried := postfixOutcomes(log())[domain]
		return o, tried
	}
}

const eximConfig = "/var/lib/exim4/config.autogenerated"

func (e exim) save(t *testing.T) {
	t.Helper()
	e.must(t, "cp", eximConfig, eximConfig+".saved")
}

func (e exim) restore(t *testing.T) {
	t.Helper()
	e.start(t)
	e.must(t, "cp", eximConfig+".saved", eximConfig)
}

// reload makes Exim forget which hosts have failed.
func (e exim) reload(t *testing.T) {
	t.Helper()
	e.must(t, "sh", "-ec", "rm -f /var/spool/exim4/db/*")
}

// Remedies for Exim.
var (
	written  = regexp.MustCompile("^write `([^`]+)`(?: into (?:router|transport) (\\w+))?$")
	takenOut = regexp.MustCompile("^take `(\\w+)` out(?: of (?:router|transport) (\\w+))?$")
)

func (exim) remedy(f finding) (string, bool) {
	if m := written.FindStringSubmatch(f.Remedy); m != nil {
		return eximWrite(m[2], m[1]), true
	}
	if m := takenOut.FindStringSubmatch(f.Remedy); m != nil {
		return eximTakeOut(m[2], m[1]), true
	}
	return "", false
}

// eximTakeOut returns the command that removes an option from a driver, or from the main section.
func eximTakeOut(driver, option string) string {
	lines := "1,/^begin /"
	if driver != "" {
		lines = "/^" + driver + ":$/,/^$/"
	}
	return fmt.Sprintf(`sed -i '%s{/^ *\(no_\)\?%s\b/d}' %s`, lines, option, eximConfig)
}

// eximWrite returns the command that writes an option into a driver, or into the main section, and removes the old one.
func eximWrite(driver, line string) string {
	option, _, _ := strings.Cut(line, " ")
	out := eximTakeOut(driver, strings.TrimPrefix(option, "no_"))
	if driver == "" {
		return fmt.Sprintf("%s && sed -i '1i %s' %s", out, line, eximConfig)
	}
	return fmt.Sprintf(`%s && sed -i '/^%s:$/,/^$/s|^ *driver = .*|&\n%s|' %s`, out, driver, line, eximConfig)
}

func (e exim) since(t *testing.T) func(string) (outcome, bool) {
	t.Helper()
	log := e.logged(t, eximLog)
	return func(domain string) (outcome, bool) {
		o, tried := eximOutcomes(log())[domain]
		return o, tried
	}
}
