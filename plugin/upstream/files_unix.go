//go:build unix

package upstream

import (
	"sync"
	"syscall"
)

// OpenFiles returns how many files this process may have open: the hard bound, which Go's os package has made the soft
// one at start, or from which danelaw keeps some back for connections to upstreams. 0 if it is not known.
func OpenFiles() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int(min(limit.Max, mostFiles))
}

// KeepFiles lowers the soft bound on open files, so that clients over TCP cannot take them all. A program calls it
// once, at its start.
func KeepFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max - limit.Max/keptShare
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// keptFiles is held while the soft bound on files is raised.
var keptFiles sync.Mutex

// raise gives out all files that this process may have, until lower is called.
func raise() (lower func()) {
	keptFiles.Lock()
	var kept syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &kept) != nil || kept.Cur == kept.Max {
		return sync.OnceFunc(keptFiles.Unlock)
	}
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: kept.Max, Max: kept.Max})
	return sync.OnceFunc(func() {
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &kept)
		keptFiles.Unlock()
	})
}
