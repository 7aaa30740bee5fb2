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

// turnPatience is how long soon may wait for its turn before it is seen to that it gets one, and with it who waits in
// the same queue: health checks and metrics answer then, too.
const turnPatience = 20 * time.Millisecond

// outbox sends what is answered later. Most of what a reply costs is to wake whoever reads it. So those that become
// ready while processors have other work go out with one system call; when there is no more work they go at once.
type outbox struct {
	raw syscall.RawConn

	mu      sync.Mutex // guards what follows
	ready   []posted
	since   time.Time // the first of them is
	sending bool      // somebody does, and will send what becomes ready meanwhile
	soonIs  time.Time // under way since then; zero: it is not

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
	switch o.add(p, mayWait) {
	case sendNow:
		o.send()
	case sendSoon:
		go o.soon()
	case letOthersIn:
		letIn()
	}
}

// next is what is to be done now that a reply is ready.
type next int

const (
	nothing next = iota // it goes out with others
	sendNow
	sendSoon    // by a goroutine that begins now
	letOthersIn // the one that began has not got its turn for long
)

// add makes a reply one of those that are ready.
func (o *outbox) add(p posted, mayWait bool) next {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready = append(o.ready, p)
	now, first := time.Now(), len(o.ready) == 1
	if first {
		o.since = now
	}
	switch full := len(o.ready) >= packets.Size; {
	case o.sending:
		return nothing
	case !mayWait || full || now.Sub(o.since) >= outboxPatience:
		return sendNow
	case o.soonIs.IsZero():
		o.soonIs = now
		return sendSoon
	case now.Sub(o.soonIs) >= turnPatience:
		o.soonIs = now
		return letOthersIn
	}
	return nothing
}

// soon sends what is ready once all goroutines have had their turn that were to run when it began. One at a time does:
// where others find the time to send, those that wait for their turn would become more and more, and with them the wait
// of all that the scheduler has in the same queue, as of those for whom something has come to another socket.
func (o *outbox) soon() {
	runtime.Gosched()
	o.mu.Lock()
	o.soonIs = time.Time{}
	o.mu.Unlock()
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
