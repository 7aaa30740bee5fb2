package fastpath

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// looked has Look look at a socket that nobody else reads.
func looked(t *testing.T, s source) *datagrams {
	t.Helper()
	d := bound(t, s, "127.0.0.1:0")
	d.enlist()
	t.Cleanup(d.delist)
	return d
}

// lookUntil looks again and again.
func lookUntil(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for begun := time.Now(); !seen(); time.Sleep(time.Millisecond) {
		if Look(); time.Since(begun) > patient {
			t.Fatalf("not after %v: %s", patient, what)
		}
	}
}

// L-7: who keeps the processors busy has what came answered at once, or given to whom it is for.
func TestLook(t *testing.T) {
	hits, begun := 0, make(chan struct{}, 1)
	d := looked(t, datagramSource{
		atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
			if query[headerSize] != 'h' {
				return dst, false
			}
			hits++
			return append(dst, query...), true
		},
		inTime: func(_ context.Context, query []byte, w replier) {
			begun <- struct{}{}
			w.Write(query)
		},
	})
	c := dialed(t, d, "127.0.0.1")
	asks(t, c, question("hit"))
	lookUntil(t, "the hit is answered", func() bool { return hits > 0 })
	gets(t, c, question("hit"))
	asks(t, c, question("miss"))
	lookUntil(t, "the miss is begun", func() bool { return len(begun) > 0 })
	gets(t, c, question("miss"))
}

// A look keeps nobody waiting: not where another reads, nor where a query would have to wait for its place.
func TestLookDoesNotWait(t *testing.T) {
	d := looked(t, deferring(func(context.Context, []byte, replier) { t.Error("a query was taken") }))
	c := dialed(t, d, "127.0.0.1")
	asks(t, c, question("anything"))
	for _, b := range d.batches[1:] {
		b.Lock()
	}
	d.look()
	for _, b := range d.batches[1:] {
		b.Unlock()
	}
	d.limit(Limits{Pending: packets.Size - 1})
	d.look()
	d.delist()
	d.limit(Limits{Pending: 1000})
	time.Sleep(2 * lookEvery)
	Look()
	d.raw.Control(func(fd uintptr) {
		if n, _ := d.batches[0].Receive(fd, packets.Size); n != 1 {
			t.Error("a query was taken")
		}
	})
}

// L-7: a look that finds nothing, and one that answers, allocate nothing, so that nobody works for the collector first.
func TestLookAllocatesNothing(t *testing.T) {
	d := looked(t, datagramSource{atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
		return append(dst, query...), true
	}})
	if n := testing.AllocsPerRun(100, d.look); n >= 1 {
		t.Errorf("a look allocates %v times", n)
	}
	c := dialed(t, d, "127.0.0.1")
	for range 101 {
		asks(t, c, question("hit"))
	}
	if n := testing.AllocsPerRun(10, d.look); n >= 1 {
		t.Errorf("a look that answers allocates %v times", n)
	}
	gets(t, c, question("hit"))
}

// Who has read a batch and is kept from answering it keeps no others from theirs.
func TestLookBesideTheReader(t *testing.T) {
	begun, over := make(chan struct{}), make(chan struct{})
	d := reading(t, datagramSource{atOnce: func(query []byte, _ client, dst []byte) ([]byte, bool) {
		if query[headerSize] == 's' {
			close(begun)
			<-over
		}
		return append(dst, query...), true
	}}, "127.0.0.1:0")
	slow, quick := dialed(t, d, "127.0.0.1"), dialed(t, d, "127.0.0.1")
	asks(t, slow, question("slow"))
	<-begun
	asks(t, quick, question("quick"))
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		gets(t, quick, question("quick"))
	}()
	lookUntil(t, "the other is answered", func() bool {
		select {
		case <-answered:
			return true
		default:
			return false
		}
	})
	close(over)
	gets(t, slow, question("slow"))
}

// L-7: who has looked and is kept from answering what he has read keeps few from theirs.
func TestLookTakesFew(t *testing.T) {
	const all = 3 * few
	var answered atomic.Int32
	begun, over := make(chan struct{}), make(chan struct{})
	d := looked(t, datagramSource{atOnce: func(_ []byte, _ client, dst []byte) ([]byte, bool) {
		if answered.Add(1) == 1 {
			close(begun)
			<-over
		}
		return dst, true
	}})
	c := dialed(t, d, "127.0.0.1")
	for i := range all {
		asks(t, c, question("%d", i))
	}
	first := make(chan struct{})
	go func() { defer close(first); d.look() }()
	<-begun
	for since := time.Now(); answered.Load() < 1+all-few && time.Since(since) < patient; {
		d.look()
	}
	if n := answered.Load() - 1; n < all-few {
		t.Errorf("while the first of %d is answered, %d are that were not read with it, not %d", all, n, all-few)
	}
	close(over)
	<-first
}

// Sockets are looked at while they are read.
func TestLookedAtWhileRead(t *testing.T) {
	listed := func(d *datagrams) bool { return slices.Contains(*readers.all.Load(), d) }
	conn := reading(t, echo, "127.0.0.1:0")
	c := dialed(t, conn, "127.0.0.1")
	asks(t, c, question("is it read?"))
	gets(t, c, question("is it read?"))
	if !listed(conn) {
		t.Error("a socket that is read is not looked at")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	conn.close(ctx)
	if listed(conn) {
		t.Error("a socket that is closed is looked at")
	}
}
