package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/zones"
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

// TestCaptivePortal: behind a captive portal, which answers whatever is asked with its own address, nothing is
// believed: ready, the log and doctor say what is wrong. When a network with a real resolver has come, resolv.conf
// names that, and danelaw gets ready by itself.
func TestCaptivePortal(t *testing.T) {
	needs.Root(t) // resolv.conf knows port 53 alone
	const portal, resolver = "127.9.1.1", "127.9.1.2"
	lab := newLab(t)
	beside(t, portal, func(q dns.Question, _ bool) *dns.Msg {
		m := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion(q.Name, q.Qtype))
		if q.Qtype == dns.TypeA {
			header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}
			m.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 80)}}
		}
		return m
	})
	beside(t, resolver, func(q dns.Question, do bool) *dns.Msg {
		query := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(dns.MaxMsgSize, do)
		m, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(query, lab.Addr())
		if err != nil {
			return nil
		}
		m.Extra = nil
		return m
	})
	conf := write(t, filepath.Join(t.TempDir(), "resolv.conf"), "nameserver "+portal+"\n")
	port, ready := ports.Closed(t), ports.Closed(t)
	text := strings.Replace(corefile(port, "", anchors(t, lab)), "upstream . ", "", 1) // so forward is asked
	file := write(t, filepath.Join(t.TempDir(), "Corefile"), strings.TrimSuffix(text, "}\n")+
		fmt.Sprintf("ready 127.0.0.1:%d\nforward . %s\n}\n", ready, conf))
	p := startWith(t, []string{withResolvConf + "=" + conf}, nil, "-conf", file)
	p.says(t, &p.err, "danelaw listens on")

	const wrong = "does not know . DNSKEY: the answer holds none"
	p.says(t, &p.err, wrong)
	p.says(t, &p.err, "not ready: no upstream is fit for validation")
	if status, body := callAs(t, ready, "127.0.0.1", "/ready"); status != http.StatusServiceUnavailable {
		t.Errorf("behind the portal ready says %d %s", status, body)
	}
	m := ask(t, port, "good.dane.", dns.TypeA)
	if m.Rcode != dns.RcodeServerFailure || len(m.Answer) > 0 || m.AuthenticatedData {
		t.Errorf("the portal is believed:\n%v", m)
	}
	examine := func() string {
		_, out, _ := here("doctor", "-conf", file, "-resolver", fmt.Sprintf("127.0.0.1:%d", port), "-signed", labSigned,
			"-bogus", labBogus, "-dnsbl", "absent.dane")
		return out
	}
	if out := examine(); !strings.Contains(out, wrong) {
		t.Errorf("behind the portal doctor says\n%s", out)
	}

	write(t, conf, "nameserver "+resolver+"\n") // as DHCP does, or whoever notices that the host has resumed
	p.says(t, &p.err, "Reloading complete")
	eventually(t, "ready", func() bool {
		status, _ := callAs(t, ready, "127.0.0.1", "/ready")
		return status == http.StatusOK
	})
	eventually(t, "AD", func() bool { // a failure is remembered for a moment
		m := ask(t, port, "good.dane.", dns.TypeMX)
		return m.AuthenticatedData && len(m.Answer) > 0
	})
	if out := examine(); strings.Contains(out, wrong) || !strings.Contains(out, "hands on signatures and denials") {
		t.Errorf("behind a real resolver doctor says\n%s", out)
	}
}

// beside serves DNS at port 53 of an address of loopback.
func beside(t *testing.T, address string, answer func(q dns.Question, do bool) *dns.Msg) {
	t.Helper()
	_, end, err := zones.Listen(address+":53", answer)
	needs.Host(t, err)
	t.Cleanup(func() { end() })
}
