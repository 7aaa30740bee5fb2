package danelaw

import (
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// The process takes no more memory than its caches and the octets promised here, whatever clients ask (L-15).
const (
	promised = 64 << 20 // octets beside the caches
	// part of it: what a process at rest takes, and questions answered from the cache
	atRest = 34 << 20
	// fileBacked is the part of atRest that is the program's own file, which Go's collector does not count.
	fileBacked = 22 << 20

	defaultCache    = 64 << 20
	leastCache      = 4 << 20
	leastWork       = 4 << 20
	defaultInFlight = 16384 // L-13
)

// bounds are the defaults that follow what this process may take.
type bounds struct {
	limit    int64 // on the memory of the process; 0 if there is none
	cache    int64 // octets
	work     int64 // octets for questions in flight
	inFlight int
}

// boundsFor returns the defaults under a limit on memory, 0 for none, and one on open files, 0 if it is not known.
func boundsFor(memory int64, files int) bounds {
	b := bounds{limit: memory, cache: defaultCache, work: promised - atRest, inFlight: defaultInFlight}
	if memory > 0 {
		b.cache = max(leastCache, min(b.cache, memory-promised))
		b.work = max(leastWork, min(b.work, memory-b.cache-atRest))
	}
	b.inFlight = min(b.inFlight, questionsIn(b.work))
	if files > 0 {
		b.inFlight = min(b.inFlight, max(leastInFlight, files/2))
	}
	return b
}

// questionsIn returns how many questions may be in flight in so many octets. An eighth of them is kept for work in
// progress.
func questionsIn(octets int64) int {
	return max(leastInFlight, int(octets/8*7/resolve.OctetsPerQuestion))
}

// ours are the bounds of this process.
var ours = sync.OnceValue(func() bounds { return boundsFor(memoryLimit("/"), upstream.OpenFiles()) })

// work is the room of all server blocks.
var work = sync.OnceValue(func() *fetch.Room { return fetch.NewRoom(ours().work) })

// workRoom returns where questions in flight take their memory: the room that all server blocks share, or a larger one
// if the operator allows more questions than fit there.
func (c Config) workRoom() *fetch.Room {
	if most := questionsIn(ours().work); c.InFlight > most {
		return fetch.NewRoom(ours().work * int64(c.InFlight) / int64(most))
	}
	return work()
}

// memoryLimit returns the least limit on memory of the control groups that this process is in, by versions 2 and 1; 0
// if there is none. root is that of the file system.
func memoryLimit(root string) int64 {
	groups, err := os.ReadFile(path.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy:controllers:path
		if len(parts) < 3 {
			continue
		}
		switch parts[1] {
		case "":
			least = min(least, limitIn(root, "sys/fs/cgroup", parts[2], "memory.max"))
			least = min(least, limitIn(root, "sys/fs/cgroup/unified", parts[2], "memory.max"))
		case "memory":
			least = min(least, limitIn(root, "sys/fs/cgroup/memory", parts[2], "memory.limit_in_bytes"))
		}
	}
	if least >= 1<<50 { // version 1 writes "no limit" as a very large number
		return 0
	}
	return least
}

// limitIn returns the least limit of a control group and those above it. In a container the path may be the host's,
// while the mounted hierarchy begins at the container's own group.
func limitIn(root, mount, group, file string) int64 {
	least := int64(math.MaxInt64)
	for at := path.Clean("/" + group); ; at = path.Dir(at) {
		if text, err := os.ReadFile(path.Join(root, mount, at, file)); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
				least = min(least, n)
			}
		}
		if at == "/" {
			return least
		}
	}
}

// bound says whether to limit the memory of the process: only in danelaw's own program.
var bound atomic.Bool

// BoundMemory has Go's collector keep the process within what is promised. GOMEMLIMIT, if it is set, wins.
func BoundMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		bound.Store(true)
	}
}

// caches are the octets of all caches in use.
var caches atomic.Int64

// boundHeap has the collector's bound follow the caches in use, of which there are so many octets more; an eighth of
// them may lie in its heap.
func boundHeap(more int64) {
	if all := caches.Add(more); bound.Load() {
		debug.SetMemoryLimit(all/8 + promised - fileBacked)
	}
}

// memory is what outlives a reload: the cache, the last verdicts on mail domains, the last hour for operators, and that
// danelaw has once been ready.
type memory struct {
	*resolve.Store
	ready   atomic.Bool
	last    *lastVerdicts
	history history
	key     string
	size    int64 // octets of the cache
}

func (m *memory) name() string { return m.key }
func (m *memory) close()       { boundHeap(-m.size) }

// holdMemory returns the memory for a configuration. A server block keeps its memory as long as it judges in the same
// way, since a verdict by other rules is no answer. Failures are forgotten: whoever reloads may have mended their
// cause.
func holdMemory(c Config) *memory {
	key := c.judgement()
	m, _ := hold(&process, key, func() (*memory, error) {
		boundHeap(c.CacheSize)
		newStore := resolve.NewStore
		if c.lasting() {
			newStore = resolve.NewLastingStore
		}
		return &memory{Store: newStore(c.CacheSize), last: newLastVerdicts(), key: key, size: c.CacheSize}, nil
	})
	m.ForgetFailures()
	return m
}
