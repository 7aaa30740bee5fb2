package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// limit is a control group of the kernel's in which a server gets a share of a processor.
type limit struct{ dir string }

const (
	groups = "/sys/fs/cgroup"
	period = 100_000 // microseconds, as containers have it
)

// ErrQuota is that of a machine on which no process can be limited.
var ErrQuota = errors.New("a share of a processor takes root and control groups of the kernel (cgroup) with cpu")

// newLimit limits a process, and all of its threads, to a share of a processor.
func newLimit(pid int, share float64) (*limit, error) {
	quota := strconv.Itoa(int(share * period))
	name := fmt.Sprintf("danelaw-bench-%d", pid)
	one := &limit{filepath.Join(groups, "cpu", name)}
	settings := map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": quota}
	if controllers, err := os.ReadFile(filepath.Join(groups, "cgroup.controllers")); err == nil {
		if !slices.Contains(strings.Fields(string(controllers)), "cpu") {
			return nil, ErrQuota
		}
		one.dir, settings = filepath.Join(groups, name), map[string]string{"cpu.max": fmt.Sprint(quota, " ", period)}
		enable := filepath.Join(groups, "cgroup.subtree_control")
		os.WriteFile(enable, []byte("+cpu"), 0) //nolint:errcheck // without it there is no cpu.max
	}
	if err := os.Mkdir(one.dir, 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuota, err)
	}
	settings["cgroup.procs"] = strconv.Itoa(pid)
	for _, file := range []string{"cpu.max", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cgroup.procs"} {
		if settings[file] == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(one.dir, file), []byte(settings[file]), 0); err != nil {
			return one, fmt.Errorf("%w: %w", ErrQuota, err)
		}
	}
	return one, nil
}

// remove ends it, when its process has ended.
func (l *limit) remove() {
	if l != nil {
		os.Remove(l.dir) //nolint:errcheck // an empty group costs nothing
	}
}
