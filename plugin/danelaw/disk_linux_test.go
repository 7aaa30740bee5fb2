package danelaw

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// inMounts says that a test runs with mounts of its own already.
const inMounts = "DANELAW_TEST_IN_MOUNTS"

// mounting runs the rest of a test with mounts of its own, which end with it, and reports whether this is there.
func mounting(t *testing.T) bool {
	t.Helper()
	needs.Root(t)
	if os.Getenv(inMounts) != "" {
		needs.Host(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
		return true
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inMounts+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		t.Errorf("%v: %s", err, out)
	} else {
		needs.Host(t, err)
	}
	return false
}

// mounted mounts something at a directory until the test ends.
func mounted(t *testing.T, source, dir, kind string, flags uintptr, data string) {
	t.Helper()
	needs.Host(t, syscall.Mount(source, dir, kind, flags, data))
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// TestAnchorsOnDisk: on a disk that is full or may only be read, be it so at the start or from then on, what is learned
// of keys is in force all the same; log, metric and `danelaw anchors` say that it is not kept; what was written before
// stays whole; and it is written as soon as it can be (T-10).
func TestAnchorsOnDisk(t *testing.T) {
	if !mounting(t) {
		return
	}
	for what, disk := range map[string]struct {
		mount       func(dir string)
		full, again func(dir string)
	}{
		"full": {
			func(dir string) { mounted(t, "tmpfs", dir, "tmpfs", 0, "size=32k,mode=700") },
			func(dir string) { fill(t, dir) },
			func(dir string) { os.Remove(filepath.Join(dir, "else")) },
		},
		"read-only": {
			func(dir string) { mounted(t, dir, dir, "", syscall.MS_BIND, "") },
			func(dir string) {
				needs.Host(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""))
			},
			func(dir string) { needs.Host(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND, "")) },
		},
	} {
		for _, atFirst := range []bool{true, false} {
			dir := t.TempDir()
			disk.mount(dir)
			file := filepath.Join(dir, anchorsFile)
			if atFirst {
				disk.full(dir)
			}
			book, r := logged(t), newRolling(t)
			h := r.below(dir, r.old)
			process.begin(h)
			before, _ := os.ReadFile(file)
			if (len(before) == 0) != atFirst {
				t.Fatalf("%s: written at the start: %q", what, before)
			}
			if !atFirst {
				disk.full(dir)
			}
			if first, _ := r.lives(h, 45); first >= 0 || r.states(h) != "new Valid, old Valid" {
				t.Errorf("%s: no AD on day %d, %s", what, first, r.states(h))
			}
			unkept := func() bool {
				reply, err := listAnchors(h.keeper, nil)
				return err == nil && !reply.(AnchorsReply).Kept &&
					metric(t, "state_unsaved", "block", h.config.Block) == 1
			}
			if n := strings.Count(book.String(), "the states of trust anchors cannot be written"); n != 1 || !unkept() {
				t.Errorf("%s: the log tells it %d times, the others: %v:\n%s", what, n, unkept(), book)
			}
			if after, _ := os.ReadFile(file); string(after) != string(before) {
				t.Errorf("%s: left half written: %q", what, after)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
				t.Errorf("%s: left behind: %v", what, left)
			}
			disk.again(dir)
			h.keeper.saveAgain(time.Now().Add(lastSave))
			if unkept() || !strings.Contains(book.String(), "are written to "+file+" again") {
				t.Errorf("%s: not written with room again:\n%s", what, book)
			}
			h.Close()
			if later := r.below(dir, r.old); r.states(later) != "new Valid, old Valid" {
				t.Errorf("%s: after a restart: %s", what, r.states(later))
			}
		}
	}
}

// fill writes to a disk until it is full. It returns what makes room again.
func fill(t *testing.T, dir string) (again func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "else"))
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if f.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() { os.Remove(f.Name()) }
}

// TestCacheFileOnDisk: a disk of 1 MiB that is full, at the start or from then on, costs a cache file a line in the log
// and the metric: the file from before stays whole and is read, questions are answered, nothing is left behind. With
// room the file is written again, and outlives a restart.
func TestCacheFileOnDisk(t *testing.T) {
	if !mounting(t) {
		return
	}
	for _, atFirst := range []bool{true, false} {
		dir := t.TempDir()
		mounted(t, "tmpfs", dir, "tmpfs", 0, "size=1m,mode=700")
		c, book, again := config(t), logged(t), func() {}
		if c.CacheFile = filepath.Join(dir, "cache"); atFirst {
			again = fill(t, dir)
		}
		h := open(t, c)
		h.Start()
		process.begin(h)
		secure := func(h *Handler, name string) {
			t.Helper()
			if a := h.Resolver().Resolve(t.Context(), dnssec.Question(name, dns.TypeMX)); a.Status != dnssec.Secure {
				t.Errorf("full at the first: %v; %s: %v", atFirst, name, a.Status)
			}
		}
		secure(h, "good.dane.")
		h.cacheFile.save()
		before, _ := os.ReadFile(c.CacheFile)
		if (len(before) == 0) != atFirst {
			t.Fatalf("full at the first: %v; %d octets are there", atFirst, len(before))
		}
		if !atFirst {
			again = fill(t, dir)
		}
		for _, domain := range []string{"two-certificates.dane.", "dane-ta.dane.", "mismatch.dane."} {
			secure(h, domain)
			h.cacheFile.save()
		}
		if n := strings.Count(book.String(), "cache_file "+c.CacheFile+" cannot be written"); n != 1 ||
			!strings.Contains(book.String(), "no space left") || metric(t, "state_unsaved", "block", c.Block) != 1 {
			t.Errorf("full at the first: %v; told %d times:\n%s", atFirst, n, book)
		}
		if after, _ := os.ReadFile(c.CacheFile); string(after) != string(before) ||
			(h.cacheFile.Records() == 0) != atFirst {
			t.Errorf("full at the first: %v; the file has %d octets, before %d", atFirst, len(after), len(before))
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
			t.Errorf("full at the first: %v; left behind: %v", atFirst, left)
		}
		again()
		if h.cacheFile.save(); metric(t, "state_unsaved", "block", c.Block) != 0 ||
			!strings.Contains(book.String(), "cache_file "+c.CacheFile+" is written again") {
			t.Errorf("full at the first: %v; not written with room again:\n%s", atFirst, book)
		}
		h.Close()
		later := config(t, fmt.Sprintf("127.0.0.1:%d", ports.Closed(t)))
		later.CacheFile = c.CacheFile
		alone := open(t, later)
		secure(alone, "good.dane.")
		secure(alone, "mismatch.dane.")
		alone.Close()
	}
}
