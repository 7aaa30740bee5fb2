package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// become has root run this program anew, in the same process, as another user, who keeps of root's rights that to bind
// ports below 1024: a reload may have to. All else (files, sockets) is then done as that user from the beginning, so
// that what works at the start works in a reload. Whoever is that user already goes on.
func become(name string) error {
	who, err := account(name)
	switch {
	case err != nil:
		return usageError{err}
	case who.uid == 0:
		return wrong("--user %s: that is root: name a user who may do less", name)
	case os.Geteuid() == who.uid && os.Getuid() == who.uid:
		return nil
	case os.Geteuid() != 0:
		return fmt.Errorf("--user %s: only root may become another: start danelaw as root, or leave out --user", name)
	}
	// Threads have rights of their own. The new program has those of the one that starts it, and ends all others.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := who.drop(); err != nil {
		return fmt.Errorf("--user %s: root may not become another here: %w: start danelaw as that user instead", name,
			err)
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, os.Environ())
	}
	if errors.Is(err, fs.ErrPermission) { // of a directory on the way, past which this leads
		err = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
	return fmt.Errorf("--user %s: that user may not run danelaw: %w", name, err)
}

// runAs is what a process runs as.
type runAs struct {
	uid, gid int
	groups   []int
}

// account looks a user up, by name or number.
func account(name string) (*runAs, error) {
	u, err := user.Lookup(name)
	if _, number := strconv.Atoi(name); err != nil && number == nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return nil, fmt.Errorf("--user %s: this host has no such user: make one, as with `useradd --system %[1]s`",
			name)
	}
	var who runAs
	groups, err := u.GroupIds()
	for _, number := range append([]string{u.Uid, u.Gid}, groups...) {
		id, wrong := strconv.Atoi(number)
		err = cmp.Or(err, wrong)
		who.groups = append(who.groups, id)
	}
	who.uid, who.gid, who.groups = who.groups[0], who.groups[1], who.groups[2:]
	return &who, err
}

// drop has the process become who. The present thread keeps of root's rights that to bind low ports, if it has that,
// and no way to others.
func (who *runAs) drop() error {
	const bind = 1 << unix.CAP_NET_BIND_SERVICE
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var rights [2]unix.CapUserData
	if err := unix.Capget(&header, &rights[0]); err != nil {
		return err
	}
	kept := rights[0].Permitted & bind
	rights = [2]unix.CapUserData{{Effective: kept, Permitted: kept, Inheritable: kept}}
	for _, step := range []func() error{
		func() error { return unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0) },
		func() error { return syscall.Setgroups(who.groups) },
		func() error { return syscall.Setresgid(who.gid, who.gid, who.gid) },
		func() error { return syscall.Setresuid(who.uid, who.uid, who.uid) },
		func() error { return unix.Capset(&header, &rights[0]) },
		func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if kept == 0 {
		return nil
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_BIND_SERVICE, 0, 0)
}

// clockSynchronised reports whether the kernel thinks that something keeps its clock right (adjtimex(2)).
func clockSynchronised() (synchronised, known bool) {
	state, err := unix.Adjtimex(new(unix.Timex))
	return state != unix.TIME_ERROR, err == nil
}

// monotonic is the time of the clock that nobody sets (clock_gettime(2)).
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
