package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// serviceManager is where a danelaw tells how it is, as it tells systemd.
type serviceManager struct {
	*net.UnixConn
	path string
	seen []string
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	dir, err := os.MkdirTemp("", "manager") // the path of a socket has 107 octets at most
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		os.RemoveAll(dir)
	})
	return &serviceManager{conn, path, nil}
}

// environment is that of a service with a watchdog of 300 ms.
func (m *serviceManager) environment() []string {
	return []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=300000"}
}

// next returns what is told next, until a deadline.
func (m *serviceManager) next(t *testing.T, wanted string, deadline time.Time) string {
	t.Helper()
	m.SetReadDeadline(deadline)
	b := make([]byte, 4096)
	n, err := m.Read(b)
	if err != nil {
		t.Fatalf("in vain waited for %s: %v; told were %q", wanted, err, m.seen)
	}
	m.seen = append(m.seen, string(b[:n]))
	return string(b[:n])
}

// told waits until something is told that begins with a text, and returns it.
func (m *serviceManager) told(t *testing.T, begin string) string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if s := m.next(t, begin, deadline); strings.HasPrefix(s, begin) {
			return s
		}
	}
}

// TestServiceManager: it is told that danelaw serves, that it is ready, that it lives, each reload, also one that fails
// and one that no signal asks for, and the end (S-29).
func TestServiceManager(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	good := corefile(port, lab.Addr(), anchors(t, lab))
	file := write(t, "Corefile", good)
	m := newServiceManager(t)
	p := startWith(t, m.environment(), nil, "-conf", file)
	if first := m.next(t, "READY", time.Now().Add(patience)); !strings.HasPrefix(first, "READY=1\nSTATUS=") {
		t.Errorf("at first it tells %q", first)
	}
	m.told(t, "STATUS=ready: trust anchor, clock and upstream are in order")
	m.told(t, "WATCHDOG=1")
	var before int64
	for _, text := range []string{good, strings.Replace(good, "upstream", "downstream", 1)} {
		write(t, file, text)
		p.Process.Signal(syscall.SIGHUP)
		began := m.told(t, "RELOADING=1")
		at := regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=(\d+)$`).FindStringSubmatch(began)
		if at == nil {
			t.Fatalf("it tells %q", began)
		}
		usec, _ := strconv.ParseInt(at[1], 10, 64)
		if now := monotonic().Microseconds(); usec <= before || usec > now {
			t.Errorf("a reload at %d, after one at %d, now it is %d", usec, before, now)
		}
		before = usec
		m.told(t, "READY=1\nSTATUS=ready")
	}
	m.told(t, "WATCHDOG=1")
	p.Process.Signal(syscall.SIGTERM)
	m.told(t, "STOPPING=1")
	if code := p.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestServiceManagerOfReloads: so it is of reloads by the plugin reload.
func TestServiceManagerOfReloads(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	text := strings.Replace(corefile(port, lab.Addr(), anchors(t, lab)), "bind", "reload 2s 1s\n bind", 1)
	file := write(t, "Corefile", text)
	m := newServiceManager(t)
	startWith(t, m.environment(), nil, "-conf", file)
	for _, change := range []string{"errors\n bind", "bind"} {
		m.told(t, "READY=1")
		write(t, file, strings.Replace(text, "bind", change, 1))
		m.told(t, "RELOADING=1")
	}
	m.told(t, "READY=1")
}

// TestWatchdogWithoutUpstream: the watchdog is fed, and the manager told what is wrong, where no upstream answers
// (S-29).
func TestWatchdogWithoutUpstream(t *testing.T) {
	lab := newLab(t)
	silent, stream := ports.Open(t)
	defer silent.Close()
	defer stream.Close()
	m := newServiceManager(t)
	startWith(t, m.environment(), nil, "-conf", write(t, "Corefile",
		corefile(ports.Closed(t), silent.LocalAddr().String(), anchors(t, lab), "timeout 1s")))
	m.told(t, "READY=1\nSTATUS=not ready: ")
	m.told(t, "STATUS=not ready: no upstream is fit for validation")
	for range 3 {
		m.told(t, "WATCHDOG=1")
	}
}

// TestWatchdogHungry: a danelaw that hangs does not feed it (S-29).
func TestWatchdogHungry(t *testing.T) {
	m := newServiceManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	ctx, cancel := context.WithCancel(t.Context())
	asked, hung, ended := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		feed(ctx, time.Millisecond, func() {
			asked <- true
			<-hung
		})
	}()
	<-asked
	hung <- true
	m.told(t, "WATCHDOG=1")
	<-asked
	m.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // a busy machine finds less, and nothing that is not so
	if n, err := m.Read(make([]byte, 100)); err == nil {
		t.Errorf("it is told %d octets although nothing has answered", n)
	}
	cancel()
	close(hung)
	<-ended
}

// TestServiceManagerGone: danelaw serves where nobody listens any more, and says so.
func TestServiceManagerGone(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	p := startWith(t, []string{"NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "gone")}, nil, "-conf",
		write(t, "Corefile", corefile(port, lab.Addr(), anchors(t, lab))))
	p.says(t, &p.err, `the service manager cannot be told "READY=1"`)
	eventually(t, "an answer", func() bool {
		r, err := exchange(port, "good.dane.", 15)
		return err == nil && r.AuthenticatedData
	})
}
