//go:build unix

package upstream

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// upstreamOfChild names the server that a process with few files asks.
const upstreamOfChild = "DANELAW_UPSTREAM_OF_CHILD"

// L-12, L-16: a full table of files costs the questions that find it full, and only those. What clients cannot take is
// enough for a connection to the upstream, so that with KeepFiles not even those are lost.
func TestFileTableFull(t *testing.T) {
	if at := os.Getenv(upstreamOfChild); at != "" {
		withFewFiles(t, Address{Server: netip.MustParseAddrPort(at)})
		return
	}
	leakless(t)
	s := serve(t, func(a *asked) { a.answer(theMX(t)) })
	child := exec.Command(os.Args[0], "-test.run=^TestFileTableFull$", "-test.v")
	child.Env = append(os.Environ(), upstreamOfChild+"="+s.addr.String())
	if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
	if tcp, udp := len(s.got("tcp")), len(s.got("udp")); tcp != 1 || udp != 1 {
		t.Errorf("%d questions over TCP and %d over UDP", tcp, udp)
	}
}

func withFewFiles(t *testing.T, to Address) {
	few := syscall.Rlimit{Cur: 96, Max: 96}
	if err := errors.Join(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few), KeepFiles()); err != nil {
		t.Fatal(err)
	}
	if n := OpenFiles(); n != 96 || udpSockets.most() != 48 {
		t.Errorf("%d files, %d sockets", n, udpSockets.most())
	}
	clients := fillFiles(t)
	if len(clients) > 84 {
		t.Errorf("clients could open %d files", len(clients))
	}
	asked := func(want error) {
		t.Helper()
		meter := new(counts)
		set := newSet(t, Config{Routes: []Route{{".", []Address{to}}}, Meter: meter})
		if _, err := exchange(t, set); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if _, alive := set.upstreams[0].health.state(); !alive || (meter.exhausted.Load() == 0) != (len(clients) == 0) {
			t.Errorf("alive %v, %d times exhausted with %d files of others", alive,
				meter.exhausted.Load(), len(clients))
		}
	}
	asked(nil) // over TCP
	lower := raise()
	more := fillFiles(t)
	lower()
	clients = append(clients, more...)
	asked(errFiles)
	for _, f := range clients {
		f.Close()
	}
	clients = nil
	asked(nil)
}

// fillFiles opens files until there may be no more.
func fillFiles(t *testing.T) (all []*os.File) {
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
}

// A full table is a limit of its own.
func TestFullTableIsALimit(t *testing.T) {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE} {
		f := failure(mxQuestion, []outcome{{"192.0.2.1:53",
			unreachable("could not be asked over UDP", os.NewSyscallError("socket", errno))}})
		if limit, ok := errors.AsType[dnssec.LimitError](f); !ok || limit != errFiles || !f.Limit() {
			t.Errorf("%v: %+v", errno, f)
		}
	}
}
