//go:build linux

// Package image builds the container image of deploy/image twice, unpacks it with the tools of others, and runs it with
// crun, as its README and its compose file say.
package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/test/namespace"
)

var suite = namespace.Suite{
	Variable:  "DANELAW_TEST_IMAGE",
	Programs:  []string{"crun", "skopeo", "umoci", "qemu-aarch64-static", "dig", "nsenter"},
	Prepare:   prepare,
	Addresses: func() []string { return nil },
}

func TestMain(m *testing.M) { suite.Main(m) }

const (
	project = "../.."
	version = "0.1.0"
	date    = "1767225600" // 2026-01-01
)

// builds are where, and in what surroundings, the image is built.
var builds = []struct {
	name, path, umask, zone string
	modified                time.Time // of all sources; zero: as they are here
}{
	{"first", "one", "022", "UTC", time.Time{}},
	{"second", "two/with a longer/path", "077", "Asia/Tokyo", time.Date(2001, time.February, 3, 4, 5, 6, 7, time.UTC)},
}

// prepare builds the image in each of these surroundings. What Go has compiled before counts for nothing: the caches
// are empty.
func prepare(dir string) error {
	tool := filepath.Join(dir, "image")
	out, err := exec.Command("go", "build", "-C", project+"/deploy/image", "-o", tool, ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("deploy/image: %w\n%s", err, out)
	}
	for _, b := range builds {
		sources, cache := filepath.Join(dir, b.path), filepath.Join(dir, "cache")
		if err := errors.Join(copySources(sources, b.modified),
			os.Mkdir(filepath.Join(dir, b.name), 0o755)); err != nil {
			return err
		}
		begun := time.Now()
		c := exec.Command("sh", "-c", `umask "$1"; shift; exec "$@"`, "sh", b.umask, tool, "-version", version,
			"-out", filepath.Join(dir, b.name), "-formats", "oci,oci-archive,docker-archive")
		c.Dir = filepath.Join(sources, "deploy/image")
		c.Env = append(os.Environ(), "GOCACHE="+cache, "SOURCE_DATE_EPOCH="+date, "TZ="+b.zone,
			"GOGC=400") // of the compiler: what it compiles is the same, in less time
		out, err := c.CombinedOutput()
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, b.name+".printed"), out, 0o644),
			os.RemoveAll(cache), os.RemoveAll(sources)); err != nil {
			return fmt.Errorf("%v: %w\n%s", c, err, out)
		}
		used := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		fmt.Printf("the %s build took %v, %v of a processor:\n%s", b.name, time.Since(begun).Round(time.Second),
			used.Round(time.Second), out)
	}
	return nil
}

// copySources copies the sources, without what git keeps of them.
func copySources(to string, modified time.Time) error {
	for _, part := range []string{"go.mod", "go.sum", "LICENSE", "cmd", "plugin", "trustanchors", "zones", "bench",
		"deploy"} {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if out, err := exec.Command("cp", "-R", filepath.Join(project, part), to).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w\n%s", err, out)
		}
	}
	if modified.IsZero() {
		return nil
	}
	return filepath.WalkDir(to, func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(name, modified, modified))
	})
}

// sh runs a command that must not fail, and returns what it prints.
func sh(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, out, &stderr)
	}
	return string(out)
}

// patience is how long anything may take on a machine that is busy with something else.
const patience = time.Minute

// eventually waits for something to become true.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain waited for " + what)
		}
	}
}
