//go:build (darwin || dragonfly || freebsd || linux || netbsd || openbsd) && !race

package cache

import (
	"runtime"
	"syscall"
)

// inHeap says where the memory of reserve lies.
const inHeap = false

// reserve returns memory outside Go's heap; what is never touched takes none. The race detector sees Go's heap only, so
// under it that must do.
func reserve(octets int64) []byte {
	if octets > 0 {
		memory, err := syscall.Mmap(-1, 0, int(octets), syscall.PROT_READ|syscall.PROT_WRITE,
			syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err == nil {
			return memory
		}
	}
	return make([]byte, octets) // the heap serves as well, and says so if the system has no memory at all
}

// freeWith gives memory from reserve back once its holder is no longer reachable. Who uses the memory must hold a lock
// of the holder, and so keeps it reachable.
func freeWith[T any](holder *T, memory []byte) {
	runtime.AddCleanup(holder, func(memory []byte) { _ = syscall.Munmap(memory) }, memory) // fails for heap memory only
}
