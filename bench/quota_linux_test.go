package bench

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/upstream"
	"github.com/danelaw-dns/danelaw/test/needs"
)

// tellsQuota is a program that says what it is limited to, in microseconds, and ends.
const tellsQuota = `#!/bin/sh
while ! grep -q /danelaw-bench- /proc/self/cgroup; do sleep 0.01; done
group=$(sed -n 's|.*:/danelaw-bench-|danelaw-bench-|p' /proc/self/cgroup | head -n 1)
cd /sys/fs/cgroup
cat $group/cpu.max 2>/dev/null || cat cpu/$group/cpu.cfs_quota_us cpu/$group/cpu.cfs_period_us
`

// TestQuarter: in the quarter workload a server has 25 ms of a processor in 100.
func TestQuarter(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tells")
	if err := os.WriteFile(program, []byte(tellsQuota), 0o700); err != nil {
		t.Fatal(err)
	}
	at := small(t, 13)
	up, err := upstream.Start(at, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	at.upstream = up
	place, err := server.Place()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Config: Config{Universe: at.spec}, place: place, world: at}
	_, err = b.quarter(t.Context(), server.Danelaw("x", program))
	if errors.Is(err, server.ErrQuota) {
		needs.Host(t, err)
	}
	told := strings.Join(strings.Fields(err.Error()), " ")
	if !strings.HasSuffix(told, "x does not start: 25000 100000") {
		t.Errorf("%v", err)
	}
}
