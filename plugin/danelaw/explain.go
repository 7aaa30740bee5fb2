package danelaw

import (
	"context"
	"fmt"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
)

// Explain asks q, past the cache of answers, and tells the chain of trust that its answer rests on. The error is for
// names that are not validated at all: private and special ones.
func (h *Handler) Explain(ctx context.Context, q dns.Question) (*chain.Explanation, error) {
	q.Name = dns.CanonicalName(q.Name)
	if h.private.cover(q.Name) {
		return nil, fmt.Errorf("%s is private: it is passed to the plugins below danelaw as it is, and never validated", q.Name)
	}
	if _, ok := h.special(q); ok {
		return nil, fmt.Errorf("%s is a special name: danelaw answers it itself, without asking anybody", q.Name)
	}
	return h.resolving.Explain(ctx, q), nil
}
