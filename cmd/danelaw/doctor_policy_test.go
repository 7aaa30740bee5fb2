package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/policy"
)

// policyAt has danelaw's policy service listen at a path.
func policyAt(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := policy.Serve(l, policy.ServerConfig{Allow: func(net.Addr) bool { return true }, Now: time.Now,
		Decide: func(_ context.Context, domain string) *policy.Answer {
			return &policy.Answer{Domain: domain, Level: policy.None}
		},
		Told: func(policy.Level) {}, Ended: func(string) {}, Failed: func(p any) { t.Errorf("panic: %v", p) }})
	t.Cleanup(s.Close)
}

// another answers every connection at an address of TCP as another policy service does.
func another(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("9:NOTFOUND ,")) //nolint:errcheck // who has asked goes
			conn.Close()
		}
	}()
	return l.Addr().String()
}

// TestDoctorPolicyService: danelaw's own socket in smtp_tls_policy_maps is fine where Postfix reaches it and asks for a
// map that it has; all else is told with what mends it.
func TestDoctorPolicyService(t *testing.T) {
	const socket = "/run/danelaw/policy.sock"
	own, free := "unix:"+socket, nobodyAt(t)
	other := "socketmap:inet:" + another(t) + ":QUERY"
	mends := func(table string) string { return fmt.Sprintf("postconf -e %s && postfix reload", table) }
	for name, tt := range map[string]struct {
		maps, version string
		within        bool // the socket is also to be reached from the chroot
		want, remedy  string
	}{
		"as recommended": {maps: "proxy:socketmap:" + own + ":QUERY"},
		"for 3.10":       {maps: "proxy:socketmap:" + own + ":QUERYwithTLSRPT"},
		"in the chroot":  {maps: "socketmap:" + own + ":QUERY", within: true},
		"for 3.10, before it": {maps: "proxy:socketmap:" + own + ":QUERYwithTLSRPT", version: "3.7.11",
			want: "fault: smtp_tls_policy_maps has proxy:socketmap:" + own + ":QUERYwithTLSRPT, which is for " +
				"Postfix 3.10",
			remedy: mends("smtp_tls_policy_maps=proxy:socketmap:" + own + ":QUERY")},
		"the map of another": {maps: "proxy:socketmap:" + own + ":postfix",
			want: "fault: smtp_tls_policy_maps has proxy:socketmap:" + own + ":postfix, and danelaw has no map " +
				"postfix: mail to all domains waits",
			remedy: mends("smtp_tls_policy_maps=proxy:socketmap:" + own + ":QUERY")},
		"not to be reached": {maps: "static:dane, socketmap:" + own + ":QUERY",
			want: "fault: smtp_tls_policy_maps has socketmap:" + own + ":QUERY, which smtp/unix in its chroot cannot " +
				"reach: mail to all domains waits",
			remedy: mends("'smtp_tls_policy_maps=static:dane, proxy:socketmap:" + own + ":QUERY'")},
		"nobody there": {maps: "proxy:socketmap:unix:/run/policy.sock:QUERY",
			want: "fault: smtp_tls_policy_maps has proxy:socketmap:unix:/run/policy.sock:QUERY, where nobody answers",
			remedy: "start who is to answer there; if that is danelaw, its Corefile needs: policy " +
				"unix:/run/policy.sock"},
		"nobody there by TCP": {maps: "socketmap:inet:" + free + ":QUERY",
			want:   "fault: smtp_tls_policy_maps has socketmap:inet:" + free + ":QUERY, where nobody answers",
			remedy: "start who is to answer there; if that is danelaw, its Corefile needs: policy " + free},
		"another's": {maps: other, want: "warning: smtp_tls_policy_maps has " + other + ", which lists no entries"},
	} {
		change := map[string]string{policyMaps: tt.maps}
		if tt.version != "" {
			change["mail_version"] = tt.version
		}
		m := host(t, nil, postfixOutputs("", change, "", ""))
		policyAt(t, m.path(socket))
		if tt.within {
			policyAt(t, m.path("/var/spool/postfix"+socket))
		}
		found := m.postfix(t.Context())
		var want []string
		if tt.want != "" {
			want = []string{tt.want}
		}
		wants(t, name, found, want...)
		if tt.remedy != "" && !slices.ContainsFunc(found, func(f finding) bool { return f.Remedy == tt.remedy }) {
			t.Errorf("%s: no %q in %+v", name, tt.remedy, found)
		}
	}
}

// nobodyAt is an address of TCP at which nobody listens.
func nobodyAt(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// avoidsByDanelaw is the line for Exim in deploy/mailhost/README.md, as `exim -bP` prints it.
func avoidsByDanelaw(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/mailhost/README.md")
	if err != nil {
		t.Fatal(err)
	}
	macro := regexp.MustCompile(`(?m)^    (DANELAW_SAYS) = (.*)$`).FindStringSubmatch(string(text))
	line := regexp.MustCompile(`(?m)^    (hosts_avoid_tls = .*)$`).FindStringSubmatch(string(text))
	if macro == nil || line == nil {
		t.Fatal("the README has no such lines")
	}
	return strings.ReplaceAll(line[1], macro[1], macro[2])
}
