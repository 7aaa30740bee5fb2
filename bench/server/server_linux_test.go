package server

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
)

var allowed = regexp.MustCompile(`Cpus_allowed_list:\s+(\S+)`)

// processors is what a status file of /proc says that a process may run on.
func processors(t *testing.T, status []byte) string {
	t.Helper()
	m := allowed.FindSubmatch(status)
	if m == nil {
		t.Fatalf("no processors in %s", status)
	}
	return string(m[1])
}

// TestPlace: what is started runs on one processor, on which no thread of this process runs, if there are two.
func TestPlace(t *testing.T) {
	place, err := Place()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	command := exec.Command("cat", "/proc/self/status")
	command.Stdout = &out
	if err := place.start(command); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Fatal(err)
	}
	servers := processors(t, []byte(out.String()))
	if strings.ContainsAny(servers, ",-") {
		t.Errorf("servers may run on %s", servers)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		status, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/status")
		if err != nil {
			continue // it has ended
		}
		if own := processors(t, status); (own == servers) != place.Shared {
			t.Errorf("servers run on %s, thread %s of this process on %s", servers, thread.Name(), own)
		}
	}
}

// TestLimit: the kernel holds back a process that has a share of a processor and wants all of it, whichever version of
// control groups it has.
func TestLimit(t *testing.T) {
	busy := exec.Command("sh", "-c", "while :; do :; done")
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	defer busy.Wait()         //nolint:errcheck // it is killed
	defer busy.Process.Kill() //nolint:errcheck // it runs
	limited, err := newLimit(busy.Process.Pid, 0.25)
	if errors.Is(err, ErrQuota) {
		limited.remove()
		needs.Host(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	held := regexp.MustCompile(`(?m)^nr_throttled [1-9]`)
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(filepath.Join(limited.dir, "cpu.stat"))
		if err != nil {
			t.Fatal(err)
		}
		if held.Match(stat) {
			break
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("not held back: %s", stat)
		}
	}
	busy.Process.Kill() //nolint:errcheck // it runs
	busy.Wait()         //nolint:errcheck // it is killed
	if limited.remove(); exists(limited.dir) {
		t.Errorf("%s is still there", limited.dir)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestDoesNotStart: a program that is not there, and one that ends at once, are told with what they wrote.
func TestDoesNotStart(t *testing.T) {
	place, err := Place()
	if err != nil {
		t.Fatal(err)
	}
	anchor := &dns.DS{Hdr: dns.RR_Header{Name: "."}}
	setup := Setup{Upstream: netip.MustParseAddrPort("127.0.0.1:9"), Anchor: anchor, Place: place}
	for program, want := range map[string]string{
		"/nonexistent": "x: fork/exec /nonexistent: no such file or directory",
		"/bin/cat":     "x does not start: /bin/cat: ",
	} {
		_, err := Danelaw("x", program).Start(t.Context(), setup)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
