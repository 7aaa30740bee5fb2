//go:build linux

package mta

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// waiting is a destination in the output of `danelaw check --queue -json`.
type waiting struct {
	Destination, Kind, MTA, Reason, Decision, Sentence, Fault, Remedy string
	Domains, Commands                                                 []string
	Messages, Recipients                                              int
	Since                                                             time.Time
}

// explained are domains whose mail both MTAs defer, and what danelaw says of it.
var explained = []struct{ domain, to, kind, fault, says string }{
	{"expired.dane", "expired.dane.", "domain", "theirs", "danelaw nta add expired.dane 24h"},
	{"bogus-tlsa.dane", "bogus-tlsa.dane.", "domain", "theirs", "danelaw nta add bogus-tlsa.dane 24h"},
	{"tlsa-servfail.dane", "tlsa-servfail.dane.", "domain", "theirs", "nothing here mends it"},
	{"mismatch.dane", "mismatch.dane.", "domain", "theirs", "danelaw nta add --keep mismatch.dane 24h"},
	{"no-starttls.dane", "no-starttls.dane.", "domain", "theirs", "danelaw nta add --keep no-starttls.dane 24h"},
	{"unusable-clear.dane", "unusable-clear.dane.", "domain", "theirs",
		"danelaw nta add --keep unusable-clear.dane 24h"},
	{"forged-mx.dane", "forged-mx.dane.", "domain", "mended", "nothing that is wrong now"}, // the attacker has gone
	{"routed.dane", "mx.ta-other-name.dane.", "host", "theirs", "danelaw nta add --keep ta-other-name.dane 24h"},
}

// TestQueue: danelaw explains the mail that both MTAs have deferred, to root, and to other users as far as the MTA lets
// them see it.
func TestQueue(t *testing.T) {
	suite.Needs(t)
	s := open(t, deliveries)
	s.runDanelaw(t)
	for _, m := range []struct {
		doctored
		route  []string // commands that send the mail to routed.dane to another host
		others bool     // whether all users may see the queue
		empty  string   // the command that empties the queue
	}{
		{postfix{newRoot(t, "postfix")},
			[]string{"postconf -e 'transport_maps=inline:{routed.dane=smtp:[mx.ta-other-name.dane]}'"}, true,
			"postsuper -d ALL"},
		{exim{newRoot(t, "exim4-daemon-light")},
			[]string{router("manualroute", "route_list = routed.dane mx.ta-other-name.dane"),
				eximTakeOut("relayed", "more")},
			false, "rm -f /var/spool/exim4/input/*"},
	} {
		t.Run(m.name(), func(t *testing.T) {
			m.install(t)
			s.installDanelaw(t, m.path())
			for _, c := range m.route {
				m.must(t, "sh", "-ec", c)
			}
			s.network.attacked.Store(true)
			m.start(t)
			defer m.stop(t)
			for _, e := range explained {
				if err := m.send(e.domain); err != nil {
					t.Fatal(err)
				}
			}
			m.attempted(t, len(explained))
			s.network.attacked.Store(false)
			judgeQueue(t, m.doctored, queueOf(t, m.path(), 0))
			if all := queueOf(t, m.path(), 0, "-smtp"); !strings.Contains(all["mismatch.dane"].Sentence,
				"does not keep to its TLSA records: ") {
				t.Errorf("with -smtp: %+v", all["mismatch.dane"])
			}
			if m.others {
				judgeQueue(t, m.doctored, queueOf(t, m.path(), 1000))
			} else if text := runQueue(t, m.path(), 1000); !strings.Contains(text, "its queue cannot be read: ") ||
				!strings.Contains(text, "run this as root or as ") {
				t.Errorf("as another user: %s", text)
			}
			m.must(t, "sh", "-ec", m.empty)
			if text := runQueue(t, m.path(), 0); text != "no mail is deferred\n" {
				t.Errorf("without mail: %s", text)
			}
		})
	}
}

// installDanelaw copies danelaw into a root, with a Corefile and the trust anchor.
func (s *stage) installDanelaw(t *testing.T, root string) {
	t.Helper()
	for from, to := range map[string]string{suite.Danelaw(): "danelaw", s.anchor: "root.ds"} {
		os.Remove(filepath.Join(root, to)) //nolint:errcheck // the first time it is not there
		copyFile(t, from, filepath.Join(root, to))
	}
	text := fmt.Sprintf(".:53 {\n bind 127.0.0.1\n danelaw {\n  upstream . %s\n  trust_anchor /root.ds\n  control "+
		"off\n }\n}\n", upstream)
	if err := os.WriteFile(filepath.Join(root, "Corefile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// runQueue runs danelaw check --queue in a root, as a user. It ignores the exit code, which tells of mail or of an
// error.
func runQueue(t *testing.T, root string, user int, args ...string) string {
	t.Helper()
	c := exec.Command("chroot", append([]string{fmt.Sprintf("--userspec=%d:%[1]d", user), root, "/danelaw", "check",
		"--queue", "-conf", "/Corefile"}, args...)...)
	c.Env = []string{"PATH=/usr/bin", "LC_ALL=C"} // as for users of Debian
	out, err := c.Output()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return string(out)
}

// queueOf returns what danelaw says of the queue, by domain of the recipients.
func queueOf(t *testing.T, root string, user int, args ...string) map[string]waiting {
	t.Helper()
	text := runQueue(t, root, user, append([]string{"-json"}, args...)...)
	var out struct {
		Destinations []waiting
		Errors       []any
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil || len(out.Errors) > 0 {
		t.Fatalf("%v: %s", err, text)
	}
	all := map[string]waiting{}
	for _, w := range out.Destinations {
		for _, domain := range w.Domains {
			all[strings.TrimSuffix(domain, ".")] = w
		}
	}
	return all
}

// judgeQueue compares what danelaw says with the table.
func judgeQueue(t *testing.T, m doctored, all map[string]waiting) {
	t.Helper()
	if len(all) != len(explained) {
		t.Errorf("%d domains, want %d", len(all), len(explained))
	}
	for _, e := range explained {
		got := all[e.domain]
		t.Logf("%s: %+v", e.domain, got)
		if got.Destination != e.to || got.Kind != e.kind || got.Fault != e.fault ||
			!strings.Contains(strings.Join(append(got.Commands, got.Sentence, got.Remedy), "; "), e.says) {
			t.Errorf("%s: %+v, want %+v", e.domain, got, e)
		}
		if got.MTA != m.name() || got.Messages != 1 || got.Recipients != 1 || got.Reason == "" ||
			time.Since(got.Since) > time.Hour ||
			!slices.Equal(got.Domains, []string{e.domain + "."}) {
			t.Errorf("%s: %+v", e.domain, got)
		}
	}
}
