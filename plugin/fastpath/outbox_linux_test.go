package fastpath

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// What may wait is sent by others, and at once when there are as many as one system call takes, or the first has waited
// for long; while somebody sends, nobody else does.
func TestWhenRepliesAreSent(t *testing.T) {
	o := newOutbox(nil)
	check := func(mayWait bool, want next) {
		t.Helper()
		if got := o.add(posted{}, mayWait); got != want {
			t.Errorf("%d ready: %d is to be done, not %d", len(o.ready), got, want)
		}
	}
	check(true, sendSoon)
	later := time.Now().Add(time.Hour) // however slow the machine is
	o.since, o.soonIs = later, later
	for len(o.ready) < packets.Size-1 {
		check(true, nothing)
	}
	check(true, sendNow)
	if all := o.take(false); len(all) != packets.Size {
		t.Errorf("%d are taken", len(all))
	}
	check(true, nothing) // somebody sends
	check(false, nothing)
	if all := o.take(false); all != nil {
		t.Errorf("another takes %d", len(all))
	}
	if all := o.take(true); len(all) != 2 {
		t.Errorf("%d have become ready meanwhile", len(all))
	}
	if all := o.take(true); all != nil {
		t.Errorf("%d are left", len(all))
	}
	check(true, nothing)
	o.since = o.since.Add(-outboxPatience)
	check(true, sendNow)
	o.take(false)
	o.take(true)
	check(false, sendNow)
}

// L-7: however often others send meanwhile, one goroutine at a time waits to send what is ready; where its turn does
// not come for long, it is seen to that it does. With a goroutine for each first reply all that the scheduler has in
// the same queue waited for thousands of them.
func TestOneSendsSoon(t *testing.T) {
	o := newOutbox(nil)
	first := func(want next) {
		t.Helper()
		if got := o.add(posted{}, true); got != want {
			t.Errorf("the first that is ready: %d is to be done, not %d", got, want)
		}
		o.take(false)
		o.take(true)
	}
	first(sendSoon)
	o.soonIs = time.Now().Add(time.Hour) // however slow the machine is
	first(nothing)
	o.soonIs = time.Now().Add(-turnPatience)
	first(letOthersIn)
	if time.Since(o.soonIs) > time.Hour || o.soonIs.IsZero() {
		t.Error("what waited is not under way any more")
	}
	o.soon()
	first(sendSoon)
}

// waiting has all queries wait, to be answered with their own octets by as many goroutines.
type waiting struct {
	datagramSource
	begun  chan struct{}
	answer chan struct{} // closed when they are
	over   atomic.Int32
}

func (w *waiting) wait(_ context.Context, query []byte, _ client, to replier, over func()) bool {
	w.begun <- struct{}{}
	go func() {
		<-w.answer
		to.post(make([]byte, 66000), func() {}) // which cannot be sent
		to.post(query, func() { w.over.Add(1); over() })
	}()
	return true
}

// All that become ready together go to those who have asked, however many they are; those that cannot be sent keep no
// other back. Each query is over once, when its reply has gone (L-15).
func TestRepliesReadyTogether(t *testing.T) {
	const asked = 3*packets.Size + 1
	s := &waiting{datagramSource: deferring(nil), begun: make(chan struct{}, asked), answer: make(chan struct{})}
	d := reading(t, s, "127.0.0.1:0")
	clients := make([]*net.UDPConn, asked)
	for i := range clients {
		clients[i] = dialed(t, d, "127.0.0.1")
		asks(t, clients[i], question("%d is my number", i))
		<-s.begun
	}
	close(s.answer)
	for i, c := range clients {
		gets(t, c, question("%d is my number", i))
	}
	d.close(t.Context())
	slots := d.slots.now()
	if n := s.over.Load(); n != asked || len(slots) != 0 {
		t.Errorf("%d queries of %d are over, and %d keep their places", n, asked, len(slots))
	}
}

// At the close a reply that waits for others is sent before the socket is closed.
func TestReadyAtTheClose(t *testing.T) {
	s := &waiting{datagramSource: deferring(nil), begun: make(chan struct{}, 2), answer: make(chan struct{})}
	d := bound(t, s, "127.0.0.1:0")
	go d.run()
	a, b := dialed(t, d, "127.0.0.1"), dialed(t, d, "127.0.0.1")
	for _, c := range []*net.UDPConn{a, b} {
		asks(t, c, question("bye"))
		<-s.begun
	}
	close(s.answer)
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	d.close(ctx)
	gets(t, a, question("bye"))
	gets(t, b, question("bye"))
}

// What has become ready when the socket is closed already is over, too.
func TestReadyAfterTheClose(t *testing.T) {
	s := &waiting{datagramSource: deferring(nil), begun: make(chan struct{}, 1), answer: make(chan struct{})}
	d := bound(t, s, "127.0.0.1:0")
	go d.run()
	asks(t, dialed(t, d, "127.0.0.1"), question("too late"))
	<-s.begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.close(ctx)
	close(s.answer)
	d.busy.Wait()
	if s.over.Load() != 1 {
		t.Error("it is not over")
	}
}
