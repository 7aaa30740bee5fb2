package chain

import (
	"context"
	"errors"
	"sync"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// builders are those who find out the places of names, of all client queries: each is judged once (L-13).
type builders struct {
	mu    sync.Mutex
	calls map[buildKey]*builder
}

// buildKey is the name whose place is found out, the generation of the walks that do, as another may have other trust
// anchors, and whether they ask no upstream: what they do not find may be there.
type buildKey struct {
	name       string
	generation uint64
	stored     bool
}

type builder struct {
	done   chan struct{}
	result Place
	// shared: the result is for those who wait too; else it hit a limit of its own (L-6a), or found nothing newer than
	// what it had, and one of them takes over.
	shared bool
}

func (b *builders) join(key buildKey) (*builder, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if call := b.calls[key]; call != nil {
		return call, false
	}
	call := &builder{done: make(chan struct{})}
	b.calls[key] = call
	return call, true
}

func (b *builders) finish(key buildKey, call *builder, p Place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.calls, key)
	call.result, call.shared = p, p != nil && !spent(p)
	close(call.done)
}

// spent reports whether the links of a name failed for want of what one client query may spend: it is its own (L-6a).
func spent(p Place) bool {
	failed, ok := p.(Failed)
	return ok && (failed.Zone.Cause.Limit() || errors.Is(failed.Zone.Cause, fetch.ErrShort))
}

// findPlace returns the place of name: as it is known, or by its links, which the zone above is given for (nil at an
// anchor).
func (w *Walk) findPlace(ctx context.Context, above *dnssec.Zone, name string) Place {
	p := w.joined(ctx, name, func() Place {
		if p := w.place(name, w.chain.Now()); p != nil {
			return p // maybe built by another in the meantime
		}
		p := (&links{walk: w, name: name, above: above}).build(ctx, anything)
		// Who is past its time remembers nothing of a link (L-6a), nor who has asked no upstream (C-18).
		if failed, ok := p.(Failed); ok && !spent(p) && ctx.Err() == nil && !w.stored {
			w.Keep(func() { w.chain.Store.fail(name, failed, w.chain.Now(), w.epoch) })
		}
		return p
	})
	w.note(name, p)
	return p
}

// joined runs build for name, one client query at a time, or waits for the one that does.
func (w *Walk) joined(ctx context.Context, name string, build func() Place) Place {
	for {
		call, leads := w.chain.building.join(w.buildKey(name))
		if leads {
			return w.lead(name, call, build)
		}
		w.chain.Joined()
		select {
		case <-call.done:
			if call.shared {
				return call.result
			}
		case <-ctx.Done():
			return broken(name, fetch.Expired(ctx, w.account.Question(), name+" DS and DNSKEY"))
		}
	}
}

func (v *view) buildKey(name string) buildKey { return buildKey{name, v.generation, v.stored} }

func (w *Walk) lead(name string, call *builder, build func() Place) (p Place) {
	defer func() { w.chain.building.finish(w.buildKey(name), call, p) }()
	defer w.rescue(name, func(f Failed) { p = f })
	return build()
}
