//go:build linux

package mta

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// heeding is an MTA that danelaw's policy service can be told to.
type heeding interface {
	transferAgent
	path() string      // of its root
	heed(t *testing.T) // makes the settings for that
}

// TestPolicies sends a message to each domain of promises, by MTAs that ask danelaw's policy service: while nobody
// attacks, and again once danelaw has been killed and started again and the attackers have come, of whom some do what
// they can against policies that are held. Without the service all attackers get the mail, without
// danelaw nobody.
func TestPolicies(t *testing.T) {
	suite.Needs(t)
	var to []delivery
	for i, p := range promises {
		to = append(to, p.announcing(i))
	}
	s := open(t, to)
	s.servePolicies(t)
	for i, m := range []heeding{postfix{newRoot(t, "postfix")}, exim{newRoot(t, "exim4-daemon-light")}} {
		t.Run(m.name(), func(t *testing.T) {
			m.install(t)
			t.Run("without the service", func(t *testing.T) {
				s.runDanelaw(t)
				s.network.attacked.Store(true)
				got := s.deliver(t, m, s.to)
				for _, d := range s.to {
					t.Logf("%-24s %v", d.domain, got[d.domain])
					s.judgePrey(t, d, got[d.domain])
				}
			})
			m.heed(t)
			s.trustPublic(t, m.path())
			held := filepath.Join(m.path(), "var/lib/danelaw")
			if err := os.MkdirAll(held, 0o755); err != nil {
				t.Fatal(err)
			}
			options := []string{"trust_anchor_state " + held, "policy unix:" + s.policySocket(t, m.path()),
				"timeout 30s"} // all is asked for at once, on a machine that may be busy
			t.Run("at peace", func(t *testing.T) {
				s.runDanelaw(t, options...)
				s.network.attacked.Store(false)
				s.judge(t, s.deliver(t, m, s.to), i, delivery.wanted)
				awaitHeld(t, filepath.Join(held, "mta-sts.json"))
			})
			t.Run("attacked", func(t *testing.T) {
				s.runDanelaw(t, options...)
				s.network.attacked.Store(true)
				s.judge(t, s.deliver(t, m, s.to), i, delivery.wantedSurprised)
			})
			t.Run("without danelaw", func(t *testing.T) {
				s.runForwarder(t)
				s.expect(t, m, map[string]string{"dane-alone.dane": cannotSay[i], "neither.plain": cannotSay[i]})
			})
			if p, is := m.(postfix); is {
				t.Run("exceptions", func(t *testing.T) {
					s.runDanelaw(t, options...)
					p.except(t)
					s.expect(t, m, map[string]string{"excepted.plain": untrusted, "neither.plain": notVerified[i],
						"uncovered.plain": withheld[i]})
				})
			}
		})
	}
}

// trustPublic has an MTA trust the authority that everybody trusts.
func (s *stage) trustPublic(t *testing.T, root string) {
	t.Helper()
	dir := filepath.Join(root, "etc/ssl/certs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	copyFile(t, s.authorities, filepath.Join(dir, "ca-certificates.crt"))
}

// policySocket is where danelaw listens, so that it is /run/danelaw/policy.sock for those in a root.
func (s *stage) policySocket(t *testing.T, root string) string {
	t.Helper()
	dir := filepath.Join(root, "run/danelaw")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "policy.sock")
}

// awaitHeld waits until all policies that are held have been written.
func awaitHeld(t *testing.T, file string) {
	t.Helper()
	want := map[string]bool{}
	for _, p := range promises {
		if p.turns != "" || strings.HasPrefix(p.want[0], "sent") && p.policy != "" && p.surprised[0] != "" {
			want[p.domain+"."] = true
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		var in struct{ Policies []struct{ Domain string } }
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &in)
		}
		there := 0
		for _, h := range in.Policies {
			if want[h.Domain] {
				there++
			}
		}
		if err == nil && there == len(want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has %d of %d policies: %v", file, there, len(want), err)
		}
	}
}

func (p postfix) heed(t *testing.T) {
	t.Helper()
	p.must(t, append([]string{"postconf", "-e"}, recommended(t, "MTA-STS")...)...)
}

// except has entries of Postfix's own stand before danelaw's map, and say something else.
func (p postfix) except(t *testing.T) {
	t.Helper()
	const setting = "smtp_tls_policy_maps = "
	lines := recommended(t, "MTA-STS")
	i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, setting) })
	if i < 0 {
		t.Fatalf("%s has no %s", readme, setting)
	}
	p.write(t, "etc/postfix/tls_policy", "excepted.plain encrypt\nneither.plain secure\n")
	p.must(t, "postmap", "/etc/postfix/tls_policy")
	p.must(t, "postconf", "-e", setting+"hash:/etc/postfix/tls_policy, "+strings.TrimPrefix(lines[i], setting))
}

func (e exim) heed(t *testing.T) {
	t.Helper()
	e.insert(t, recommended(t, "MTA-STS with Exim"))
	e.must(t, "update-exim4.conf")
}
