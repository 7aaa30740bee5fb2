package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// TestFollow: a change counts when it was seen twice; what is broken changes nothing, however often it is seen, nor
// does its end.
func TestFollow(t *testing.T) {
	src := fixedSource("test", "")
	var now string
	var fault error
	src.made = func() ([]byte, error) { return []byte(now), fault }
	src.system.Store(true)
	now = "a"
	var f *follower
	look := func() (changed bool) {
		f, changed = f.look(src)
		return changed
	}
	for i, step := range []struct {
		now     string
		fault   error
		changed bool
	}{
		{"a", nil, false}, {"a", nil, false},
		{"b", nil, false}, {"b", nil, true}, {"b", nil, false},
		{"c", nil, false}, {"", nil, false}, {"b", nil, false}, // while somebody writes
		{"", fs.ErrNotExist, false}, {"", fs.ErrNotExist, false}, {"", fs.ErrNotExist, false},
		{"b", nil, false}, {"b", nil, false}, {"b", nil, false},
		{"", errors.New("names no nameserver"), false}, {"", errors.New("names no nameserver"), false},
		{"d", nil, false}, {"d", nil, true}, {"a", nil, false}, {"a", nil, true},
	} {
		if now, fault = step.now, step.fault; look() != step.changed {
			t.Errorf("step %d, %+v", i, step)
		}
	}
}

// TestSystemChanges: the upstreams of the default configuration, and those of a Corefile that names resolv.conf, are
// those that stand there now, however it has changed; what is empty, broken or gone changes nothing, and is told.
func TestSystemChanges(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "resolv.conf")
	write(t, conf, "nameserver 127.9.0.1\n")
	port, byFile := ports.Closed(t), ports.Closed(t)
	corefile := strings.Replace(corefile(byFile, "", "embedded"), "upstream . ", "", 1) // so forward is asked
	corefile = strings.TrimSuffix(corefile, "}\n") + "forward . " + conf + "\n}\n"
	env := []string{withResolvConf + "=" + conf}
	p := startWith(t, env, nil, "-port", fmt.Sprint(port))
	q := startWith(t, env, strings.NewReader(corefile), "-conf", "-")
	p.says(t, &p.err, "danelaw listens on")
	q.says(t, &q.err, "danelaw listens on")
	asks := func(when, address string) {
		t.Helper()
		n := 0
		eventually(t, fmt.Sprintf("%s, that %s is asked", when, address), func() bool {
			n++
			m, err := exchange(port, fmt.Sprintf("n%d.example.", n), dns.TypeMX)
			return err == nil && m.Rcode == dns.RcodeServerFailure &&
				strings.Contains(fmt.Sprint(errorsOf(m)), address+":53")
		})
	}
	reloads := 0
	changed := func(when, address string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		asks(when, address)
		reloads++
		eventually(t, when+", the other", func() bool {
			return strings.Count(q.err.String(), "Reloading complete") == reloads
		})
	}
	kept := func(when, told string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*child{p, q} {
			c.says(t, &c.err, told)
			c.says(t, &c.err, "the upstreams are kept as they are")
		}
	}
	asks("at first", "127.9.0.1")
	changed("edited", "127.9.0.2", os.WriteFile(conf, []byte("nameserver 127.9.0.2\n"), 0o600))
	other := filepath.Join(dir, "other")
	changed("replaced", "127.9.0.3", errors.Join(os.WriteFile(other, []byte("nameserver 127.9.0.3\n"), 0o600),
		os.Rename(other, conf)))
	changed("a symbolic link", "127.9.0.4", errors.Join(os.WriteFile(other, []byte("nameserver 127.9.0.4\n"), 0o600),
		os.Symlink(other, conf+"."), os.Rename(conf+".", conf)))
	changed("behind that", "127.9.0.5", os.WriteFile(other, []byte("nameserver 127.9.0.5\n"), 0o600))
	kept("empty", conf+" names no nameserver", os.WriteFile(other, nil, 0o600))
	kept("a name", conf+`: nameserver "resolver.example" is not an IP address`,
		os.WriteFile(other, []byte("nameserver resolver.example\n"), 0o600))
	kept("gone", "stat "+conf+": no such file", os.Remove(other))
	asks("after all that", "127.9.0.5")
	changed("there again", "127.9.0.6", os.WriteFile(other, []byte("nameserver 127.9.0.6\n"), 0o600))
	p.Process.Signal(syscall.SIGHUP)
	p.says(t, &p.err, "Reloading complete")
	if strings.Contains(p.err.String(), "cannot be read again") {
		t.Error("SIGHUP does not read it again")
	}
}
