package danelaw

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/test/needs"
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
			func(dir string) {
				f, err := os.Create(filepath.Join(dir, "else"))
				for err == nil {
					_, err = f.Write(make([]byte, 4096))
				}
				if f.Close(); !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
			},
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
