package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
)

// inNetwork says that a test runs in a network of its own already.
const inNetwork = "DANELAW_TEST_IN_NETWORK"

// apart runs the rest of a test in a network of its own, where its ports are free, and reports whether this is there.
func apart(t *testing.T) bool {
	t.Helper()
	needs.Variable(t, "DANELAW_TEST_SERVERS", "root, and a network of its own", "unshare", "ip")
	if os.Getenv(inNetwork) != "" {
		if out, err := exec.CommandContext(t.Context(), "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return true
	}
	c := exec.CommandContext(t.Context(), "unshare", "--net", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inNetwork+"=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return false
}

// TestUser: root starts danelaw, which runs as another user with the right to bind port 53 and no other: it binds a
// further low port in a reload, and keeps state and control socket in that user's directory.
func TestUser(t *testing.T) {
	if !apart(t) {
		return
	}
	who, err := account("nobody")
	if err != nil {
		t.Fatal(err)
	}
	lab := newLab(t)
	dir := t.TempDir()
	own := filepath.Join(dir, "own")
	root := write(t, filepath.Join(dir, "root.ds"), lab.DS()[0].String()+"\n")
	text := corefile(53, lab.Addr(), root, "control "+own+"/control.sock", "trust_anchor_state "+own)
	file := write(t, filepath.Join(dir, "Corefile"), text)
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(root, 0o644), os.Chmod(file, 0o644),
		os.Mkdir(own, 0o700), os.Chown(own, who.uid, who.gid)); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, "-user", "nobody", "-conf", file)
	p.says(t, &p.err, "danelaw listens on 127.0.0.1:53")
	if m := ask(t, 53, "good.dane.", dns.TypeMX); !m.AuthenticatedData {
		t.Errorf("got %v", m)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", who.uid), fmt.Sprintf("Gid:\t%d\t%[1]d\t%[1]d\t%[1]d\n",
			who.gid),
		"CapPrm:\t0000000000000400\n", "CapEff:\t0000000000000400\n", "NoNewPrivs:\t1\n",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("lacks %q:\n%s", want, status)
		}
	}
	says(t, []string{"nta", "add", "-socket", own + "/control.sock", "expired.dane"}, 0)
	if info, err := os.Stat(own + "/negative-trust-anchors.json"); err != nil ||
		info.Sys().(*syscall.Stat_t).Uid != uint32(who.uid) {
		t.Errorf("the state: %v %v", info, err)
	}
	write(t, file, strings.Replace(text, ":53 {", ":54 {", 1))
	p.Process.Signal(syscall.SIGHUP)
	p.says(t, &p.err, "Reloading complete")
	if m := ask(t, 54, "good.dane.", dns.TypeMX); !m.AuthenticatedData {
		t.Errorf("after the reload: %v", m)
	}
	if code := p.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestNoUser: users who are none, or no less than root, are told.
func TestNoUser(t *testing.T) {
	says(t, []string{"-user", "no such user", "-validate"}, exitUsage, "-user no such user: this host has no such user")
	says(t, []string{"-user", "0", "-validate"}, exitUsage, "-user 0: that is root")
}
