package danelaw

import (
	"slices"
	"sync"
)

// registry holds what outlives a Handler: in a reload the new Handler holds the same things before the old one is
// closed. It also knows the Handlers that serve.
type registry struct {
	mu      sync.Mutex
	things  map[any]*held
	serving []*Handler // oldest first; during a reload a server block has two
}

// process is the registry of this process.
var process = registry{things: map[any]*held{}}

// lasting is a thing that outlives a Handler. It ends when the last one that holds it lets go.
type lasting interface {
	name() string // among things of its type
	close()
}

// held is a thing, and by how many Handlers it is held.
type held struct {
	thing lasting
	by    int
}

// keyOf is the key of a thing: its type and name.
type keyOf[T lasting] struct{ name string }

// hold returns the thing of that type and name, opened if nobody holds it yet. It must be released.
func hold[T lasting](r *registry, name string, open func() (T, error)) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := keyOf[T]{name}
	if h := r.things[key]; h != nil {
		h.by++
		return h.thing.(T), nil
	}
	thing, err := open()
	if err == nil {
		r.things[key] = &held{thing, 1}
	}
	return thing, err
}

// release lets go of a thing.
func release[T lasting](r *registry, thing T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := keyOf[T]{thing.name()}
	h := r.things[key]
	if h.by--; h.by == 0 {
		delete(r.things, key)
		thing.close()
	}
}

// find returns the thing of that type and name, if it is held.
func find[T lasting](r *registry, name string) (thing T, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.things[keyOf[T]{name}]
	if h == nil {
		return thing, false
	}
	return h.thing.(T), true
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

// newest returns the latest Handler of each server block.
func (r *registry) newest() map[string]*Handler {
	byBlock := map[string]*Handler{}
	for _, h := range r.all() {
		byBlock[h.config.Block] = h
	}
	return byBlock
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
