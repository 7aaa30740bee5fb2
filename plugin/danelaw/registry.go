package danelaw

import (
	"slices"
	"sync"
)

// registry holds what outlives a Handler: in a reload the new Handler holds the same things before the old one is
// closed. It also knows the Handlers that serve.
type registry struct {
	mu      sync.Mutex
	things  map[any]*counted
	serving []*Handler // oldest first; during a reload a server block has two
	readers readers
}

// process is the registry of this process.
var process = registry{things: map[any]*counted{}, readers: readers{at: map[string]*listening{}}}

// lasting is a thing that outlives a Handler. It ends when the last one that holds it lets go.
type lasting interface {
	name() string // among things of its type
	close()
}

// counted is a thing, and how many Handlers hold it, or are about to. Changing is locked while it is opened or
// closed; then, and under the lock of the registry, the thing is set.
type counted struct {
	changing sync.Mutex
	thing    lasting // nil if it is not open
	by       int
}

// keyOf is the key of a thing: its type and name.
type keyOf[T lasting] struct{ name string }

// hold returns the thing of that type and name, opened if nobody holds it yet. It must be released.
func hold[T lasting](r *registry, name string, open func() (T, error)) (T, error) {
	key := keyOf[T]{name}
	h := r.claim(key)
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.thing != nil {
		return h.thing.(T), nil
	}
	thing, err := open()
	if err != nil {
		r.unclaim(key, h)
		return thing, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h.thing = thing
	return thing, nil
}

// claim counts one more who holds a thing, or is going to.
func (r *registry) claim(key any) *counted {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.things[key]
	if h == nil {
		h = new(counted)
		r.things[key] = h
	}
	h.by++
	return h
}

// unclaim undoes claim.
func (r *registry) unclaim(key any, h *counted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.by--; h.by == 0 {
		delete(r.things, key)
	}
}

// release lets go of a thing.
func release[T lasting](r *registry, thing T) {
	key := keyOf[T]{thing.name()}
	r.mu.Lock()
	h := r.things[key]
	r.mu.Unlock()
	h.changing.Lock()
	defer h.changing.Unlock()
	defer r.unclaim(key, h)
	if r.last(h) {
		thing.close()
	}
}

// last reports whether one alone holds a thing, which is found no more then.
func (r *registry) last(h *counted) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.by > 1 {
		return false
	}
	h.thing = nil
	return true
}

// find returns the thing of that type and name, if it is held.
func find[T lasting](r *registry, name string) (thing T, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.things[keyOf[T]{name}]; h != nil {
		thing, ok = h.thing.(T)
	}
	return thing, ok
}

func (r *registry) begin(h *Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving = append(r.serving, h)
}

func (r *registry) end(h *Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving = slices.DeleteFunc(r.serving, func(o *Handler) bool { return o == h })
}

// all returns the Handlers that serve, oldest first.
func (r *registry) all() []*Handler {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.serving)
}

// find returns a Handler that fits, of those that are the latest of their server block; nil if none does. It is called
// for each lookup of the policy service.
func (r *registry) find(fits func(*Handler) bool) *Handler {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, h := range slices.Backward(r.serving) {
		followed := func(o *Handler) bool { return o.config.Block == h.config.Block }
		if fits(h) && !slices.ContainsFunc(r.serving[i+1:], followed) {
			return h
		}
	}
	return nil
}

// of returns the latest Handler of a server block; nil if there is none.
func (r *registry) of(block string) *Handler {
	return r.find(func(h *Handler) bool { return h.config.Block == block })
}

// newest returns the latest Handler of each server block.
func (r *registry) newest() map[string]*Handler {
	byBlock := map[string]*Handler{}
	for _, h := range r.all() {
		byBlock[h.config.Block] = h
	}
	return byBlock
}

// readAfter returns the addresses where danelaw is to read for loads of a Corefile after that one.
func (r *registry) readAfter(load uint64) map[string]bool {
	addresses := map[string]bool{}
	for _, h := range r.all() {
		if h.origin.load > load {
			for _, address := range h.origin.addresses {
				addresses[address] = true
			}
		}
	}
	return addresses
}

// closeOthers closes the Handlers of all loads of a Corefile but that one: of those that failed. Those of no Corefile
// are their program's.
func (r *registry) closeOthers(load uint64) {
	for _, h := range r.all() {
		if h.origin.load != 0 && h.origin.load != load {
			h.Close()
		}
	}
}
