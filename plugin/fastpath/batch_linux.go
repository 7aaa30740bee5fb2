package fastpath

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// batch is what has been read together, and the replies to it. That of a look is locked meanwhile.
type batch struct {
	sync.Mutex
	*packets.Batch
	replies  []byte // one after another
	misses   []int  // of the queries received: those that are answered later
	answerer answerer
	look     func(fd uintptr) // answers with it what has come; made once, since a look allocates nothing
}

// newBatch is a batch that has received nothing yet.
func newBatch(a answerer) *batch {
	return &batch{
		Batch: packets.NewBatch(), replies: make([]byte, 0, packets.Size<<9), misses: make([]int, 0, packets.Size),
		answerer: a,
	}
}

// query is one of the queries received; none if it has been cut.
func (b *batch) query(i int) []byte {
	if b.Cut(i) {
		return nil
	}
	return b.Datagram(i)
}

// sendPatience is how long a batch of replies waits for a full send buffer, in milliseconds: nothing is read then.
const sendPatience = 10

// send sends the replies. One that cannot be sent is dropped.
func (b *batch) send(fd uintptr) {
	for waited := false; ; {
		switch err := b.Send(fd); {
		case err == 0:
			return
		case err == unix.EAGAIN && waited:
			b.Drop()
			return
		case err == unix.EAGAIN:
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, sendPatience)
			waited = true
		default:
			b.Skip()
		}
	}
}
