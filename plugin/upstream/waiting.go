package upstream

import (
	"context"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// waiting is a carrier that waits for each reply in a goroutine. Connections and plugins below are asked so.
type waiting struct {
	over interface {
		// ask returns the reply to q, whatever its RCODE. The error is a *fault, or that of ctx.
		ask(ctx context.Context, q query) (fetch.Reply, error)
		close()
	}
}

func (w waiting) ask(q query, done func(fetch.Reply, error)) way {
	return waiter(inBackground(q, done, func(ctx context.Context) (fetch.Reply, error) { return w.over.ask(ctx, q) }))
}

func (w waiting) close() { w.over.close() }

// waiter is the way of a question that a goroutine waits for.
type waiter context.CancelFunc

func (w waiter) again() (sent, known bool) { return false, false }
func (w waiter) look()                     {}
func (w waiter) cancel()                   { w() }

// inBackground hands on what work returns. The context ends with the time of q, and by cancel.
func inBackground(q query, done func(fetch.Reply, error),
	work func(context.Context) (fetch.Reply, error)) (cancel context.CancelFunc) {
	ctx, cancel := q.context()
	go func() {
		defer cancel()
		var reply fetch.Reply
		var err error
		if panicked := guarded(func() { reply, err = work(ctx) }); panicked != nil {
			err = panicked
		}
		done(reply, err)
	}()
	return cancel
}

// context ends when the time of q does.
func (q query) context() (context.Context, context.CancelFunc) {
	if q.until.IsZero() {
		return context.WithCancel(context.Background())
	}
	return context.WithDeadline(context.Background(), q.until)
}
