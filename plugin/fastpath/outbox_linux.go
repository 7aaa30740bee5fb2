package fastpath

import (
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// outboxPatience is how long a reply that is ready waits for others at most while processors have other work.
const outboxPatience = time.Millisecond

// outbox sends what is answered later. Most of what a reply costs is to wake whoever reads it. So those that become
// ready while processors have other work go out with one system call; when there is no more work they go at once.
type outbox struct {
	raw syscall.RawConn

	mu      sync.Mutex // guards what follows
	ready   []posted
	since   time.Time // the first of them is
	sending bool      // somebody does, and will send what becomes ready meanwhile

	// are for who is sending
	batch *packets.Batch
	spare []posted // memory for the next that are ready
}

// posted is a reply that is ready, and what is called once it has been sent or cannot be.
type posted struct {
	to   *packets.Origin
	text []byte
	sent func()
}

func newOutbox(raw syscall.RawConn) *outbox { return &outbox{raw: raw, batch: packets.NewBatch()} }

// put has a reply sent: with others, if it may wait for these.
func (o *outbox) put(p posted, mayWait bool) {
	switch now, first := o.add(p, mayWait); {
	case now:
		o.send()
	case first:
		go o.soon()
	}
}

// add makes a reply one of those that are ready, and tells whether they are to be sent now, and whether it is the
// first.
func (o *outbox) add(p posted, mayWait bool) (now, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready = append(o.ready, p)
	if first = len(o.ready) == 1; first {
		o.since = time.Now()
	}
	full := len(o.ready) >= packets.Size
	now = !mayWait || full || !first && time.Since(o.since) >= outboxPatience
	return now && !o.sending, first && !o.sending
}

// soon sends what is ready once all goroutines have had their turn that were to run when it began.
func (o *outbox) soon() {
	runtime.Gosched()
	o.send()
}

// send sends what is ready until nothing is, unless somebody else does.
func (o *outbox) send() {
	for all := o.take(false); len(all) > 0; all = o.take(true) {
		for rest := all; len(rest) > 0; {
			n := min(len(rest), packets.Size)
			o.transmit(rest[:n])
			rest = rest[n:]
		}
	}
}

// take returns what is ready. sends says that the caller sends already, which it does no more once nothing is.
func (o *outbox) take(sends bool) (all []posted) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sending && !sends {
		return nil
	}
	if o.sending = len(o.ready) > 0; o.sending {
		all = o.ready
		o.ready, o.spare = o.spare[:0], all
	}
	return all
}

// transmit sends replies, of which there is room for all in a batch. It waits once where the send buffer is full; what
// cannot be sent then is dropped.
func (o *outbox) transmit(all []posted) {
	for _, p := range all {
		o.batch.ReplyTo(p.to, p.text)
	}
	waited := false
	o.raw.Write(func(fd uintptr) bool { //nolint:errcheck // it is closed, and nobody waits any more
		for {
			switch err := o.batch.Send(fd); {
			case err == 0:
				return true
			case err == unix.EAGAIN && !waited:
				waited = true
				return false
			case err == unix.EAGAIN:
				return true
			default:
				o.batch.Skip()
			}
		}
	})
	o.batch.Drop()
	for _, p := range all {
		p.sent()
	}
	clear(all) // its memory is used again
}
