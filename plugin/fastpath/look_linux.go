package fastpath

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// lookEvery is how long nobody looks again: a look at an empty socket takes a hundredth of that, a signature check as
// long.
const lookEvery = 100 * time.Microsecond

// readers are the sockets of this process that are read.
var readers struct {
	mu     sync.Mutex
	all    atomic.Pointer[[]*datagrams] // is replaced, not changed
	looked atomic.Int64                 // when, in nanoseconds since began
	last   atomic.Int64                 // when somebody has gone last, too
}

var began = time.Now()

// Look answers what has come to the UDP sockets of all Listeners and can be answered at once; the rest is given to whom
// it is for. Work that keeps a processor for long calls it between two pieces: the scheduler of Go looks at sockets
// only when a processor has nothing else to do, or after 10 ms, and has their readers queue behind all work then. Soon
// after another look it does nothing. Once in a spell all others run before it returns: else the scheduler would stop
// somebody in the middle of a look, with what he has read in his hands.
func Look() {
	all := readers.all.Load()
	now, before := int64(time.Since(began)), readers.looked.Load()
	if all == nil || now-before < int64(lookEvery) || !readers.looked.CompareAndSwap(before, now) {
		return
	}
	for _, d := range *all {
		d.look()
	}
	if last := readers.last.Load(); now-last >= int64(spell) && readers.last.CompareAndSwap(last, now) {
		goLast()
	}
}

// enlist has Look look at the socket.
func (d *datagrams) enlist() {
	changeReaders(func(all []*datagrams) []*datagrams { return append(all, d) })
}

// delist has Look look at it no more.
func (d *datagrams) delist() {
	changeReaders(func(all []*datagrams) []*datagrams {
		return slices.DeleteFunc(all, func(other *datagrams) bool { return other == d })
	})
}

// changeReaders replaces the sockets.
func changeReaders(to func(all []*datagrams) []*datagrams) {
	readers.mu.Lock()
	defer readers.mu.Unlock()
	var all []*datagrams
	if before := readers.all.Load(); before != nil {
		all = slices.Clone(*before)
	}
	all = to(all)
	readers.all.Store(&all)
}

// looks is how many may look at one socket at once. Each has memory of its own for a batch, as run has: who has read
// one may lose the processor before it is answered, and what comes then would wait until he has it again; so would what
// he has read, of which there are few, therefore.
const looks = 3

// look answers what a batch has room for, unless others do that already, or a query that is answered later would have
// to wait. It allocates nothing by itself: who allocates while Go's collector runs may have to work for it first, and
// what has come would wait.
func (d *datagrams) look() {
	if slots := d.slots.now(); len(slots)+packets.Size > cap(slots) {
		return
	}
	for _, b := range d.batches[1:] {
		if d.lookWith(b) {
			return
		}
	}
}

// lookWith answers what a batch has room for, unless somebody else looks with it.
func (d *datagrams) lookWith(b *batch) bool {
	if !b.TryLock() {
		return false
	}
	defer b.Unlock()
	d.raw.Control(b.look) //nolint:errcheck // it is closed
	return true
}

// takeFew answers what a batch has room for, few at a time.
func (d *datagrams) takeFew(b *batch, fd uintptr) {
	for range packets.Size / few {
		if full, err := d.take(b, fd, few); !full || err != 0 {
			return
		}
	}
}
