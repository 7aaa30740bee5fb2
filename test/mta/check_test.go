//go:build linux

package mta

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// checked is the result of danelaw check -smtp for a domain.
type checked struct {
	Domain  string
	Senders []said
	Hosts   []checkedHost
}

// said is what an MTA does, as danelaw check says.
type said struct{ Name, Decision, Text string }

type checkedHost struct {
	Preference int
	Senders    []said
	SMTP       []struct{ TLS string }
}

// check runs danelaw check for all domains.
func (s *stage) check(t *testing.T) map[string]checked {
	t.Helper()
	list := suite.Dir("domains")
	var names strings.Builder
	for _, d := range s.to {
		names.WriteString(d.domain + "\n")
	}
	if err := os.WriteFile(list, []byte(names.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(suite.Danelaw(), "check", "-conf", suite.Dir("Corefile"), "-file", list,
		"-smtp", "-json").Output()
	if exit, failed := err.(*exec.ExitError); err != nil && (!failed || exit.ExitCode() != 1) {
		t.Fatalf("danelaw check: %v", err)
	}
	var all struct{ Domains []checked }
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	by := map[string]checked{}
	for _, c := range all.Domains {
		by[strings.TrimSuffix(c.Domain, ".")] = c
	}
	return by
}

// compare compares what danelaw check says an MTA does with what it did.
func (s *stage) compare(t *testing.T, m transferAgent, got map[string]outcome, all map[string]checked) {
	t.Helper()
	for _, d := range s.to {
		o, c := got[d.domain], all[d.domain]
		if ways := c.ways(m.name()); !slices.ContainsFunc(ways, o.is) {
			t.Errorf("%s: %s: %v; danelaw check expects %q: %+v", d.domain, m.name(), o, ways, c)
		}
	}
}

func by(mta string) func(said) bool { return func(s said) bool { return s.Name == mta } }

// ways returns the outcomes that danelaw check expects: one, unless an MTA may choose among hosts of the same
// preference.
func (c checked) ways(mta string) (all []string) {
	i := slices.IndexFunc(c.Senders, by(mta))
	if i < 0 {
		return nil
	}
	switch c.Senders[i].Decision {
	case "defer":
		return []string{"deferred"}
	case "bounce", "null-mx":
		return []string{"bounced", refused}
	}
	preference := 0
	for _, h := range c.Hosts { // sorted by preference
		way := h.way(h.Senders[slices.IndexFunc(h.Senders, by(mta))])
		if way == "" || len(all) > 0 && h.Preference > preference {
			continue
		}
		all, preference = append(all, way), h.Preference
	}
	return all
}

// way returns the outcome of mail to a host, or "" if it gets none.
func (h checkedHost) way(s said) string {
	switch {
	case s.Decision == "dane" && strings.Contains(s.Text, `"Trusted"`):
		return trusted
	case s.Decision == "dane":
		return verified
	case s.Decision == "encrypt":
		return untrusted
	case s.Decision != "opportunistic":
		return ""
	case slices.ContainsFunc(h.SMTP, func(s struct{ TLS string }) bool { return s.TLS != "" }):
		return untrusted
	}
	return clear
}
