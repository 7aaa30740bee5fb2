package danelaw

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// L-13, L-15: defaults follow what the process may take, and keep what is promised where that is possible at all.
func TestBoundsFollowLimits(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		memory   int64
		files    int
		cache    int64
		inFlight int // most
	}{
		{0, 0, 64 * mib, 700}, {0, 1 << 20, 64 * mib, 700}, {0, 1024, 64 * mib, 512}, {0, 256, 64 * mib, 128},
		{0, 20, 64 * mib, 16},
		{1 << 40, 0, 64 * mib, 700}, {192 * mib, 0, 64 * mib, 700}, {128 * mib, 0, 64 * mib, 700},
		{96 * mib, 0, 32 * mib, 700},
		{64 * mib, 0, 4 * mib, 600}, {48 * mib, 0, 4 * mib, 300}, {16 * mib, 0, 4 * mib, 100},
	} {
		b := boundsFor(tt.memory, tt.files)
		if b.cache != tt.cache || b.inFlight > tt.inFlight || b.inFlight < leastInFlight || b.limit != tt.memory {
			t.Errorf("%d MiB, %d files: %+v", tt.memory/mib, tt.files, b)
		}
		if b.work > promised-atRest || int64(b.inFlight)*resolve.OctetsPerQuestion > b.work {
			t.Errorf("%d MiB, %d files: %d questions in %d octets", tt.memory/mib, tt.files, b.inFlight, b.work)
		}
		if tt.memory >= 48*mib && b.cache+b.work+atRest > tt.memory {
			t.Errorf("%d MiB: %+v", tt.memory/mib, b)
		}
	}
}

// An operator who allows more questions in flight gets the room for them; else all blocks share one.
func TestRoomFollowsInFlight(t *testing.T) {
	c := Defaults()
	if c.workRoom() != work() {
		t.Error("the default has a room of its own")
	}
	c.InFlight = 100 * questionsIn(ours().work)
	if c.workRoom() == work() {
		t.Error("a hundred times the questions share the room of all")
	}
}

// The limit on memory is the least of those of all control groups above the process, of both versions.
func TestMemoryLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"none": {nil, 0},
		"version 2": {
			map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1000\n"}, 1000,
		},
		"version 2, above": {
			map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n",
				"sys/fs/cgroup/a/memory.max": "2000\n"}, 2000,
		},
		"version 2, both": {
			map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "3000\n",
				"sys/fs/cgroup/a/memory.max": "2000\n"}, 2000,
		},
		"version 2, no end": {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"},
			0},
		"in a container": {map[string]string{"proc/self/cgroup": "0::/docker/x\n",
			"sys/fs/cgroup/memory.max": "4000\n"}, 4000},
		"its own name": {map[string]string{"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/memory.max": "4000\n"},
			4000},
		"version 1": {map[string]string{"proc/self/cgroup": "4:memory:/a\n3:cpu:/b\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000\n"}, 5000},
		"version 1, no end": {
			map[string]string{"proc/self/cgroup": "4:memory:/a\n",
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, 0,
		},
		"both versions": {map[string]string{"proc/self/cgroup": "4:memory:/a\n0::/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000\n",
			"sys/fs/cgroup/unified/a/memory.max":           "6000\n"}, 5000},
		"odd": {map[string]string{"proc/self/cgroup": "odd\n0::/a\n", "sys/fs/cgroup/a/memory.max": "many\n"}, 0},
	} {
		root := t.TempDir()
		for file, text := range tt.files {
			at := filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := memoryLimit(root); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

// The collector's bound follows the caches in use, in danelaw's own program only, and GOMEMLIMIT wins.
func TestBoundMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer func() { bound.Store(false); debug.SetMemoryLimit(before) }()
	c := config(t)
	c.CacheSize = 32 << 20
	set := func() int64 {
		open(t, c).Close()
		release(&process, holdMemory(c))
		defer release(&process, holdMemory(c))
		return debug.SetMemoryLimit(-1)
	}
	if set() != before {
		t.Error("set in another's program")
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	BoundMemory()
	if set() != before {
		t.Error("set in spite of GOMEMLIMIT")
	}
	os.Unsetenv("GOMEMLIMIT")
	BoundMemory()
	if got := set(); got < 32<<20 || got > c.CacheSize+promised {
		t.Errorf("bounded at %d", got)
	}
}
