package danelaw

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// processBegan is when this process was started.
var processBegan = time.Now()

// status implements GET /v1/status.
func status(t *table, _ *http.Request) (any, error) { return statusOf(t), nil }

func statusOf(t *table) StatusReply {
	now := time.Now()
	out := StatusReply{
		Version: ThisBuild().String(), Since: processBegan.UTC(), Now: now.UTC(), Ready: true, NTAs: t.list(),
		Blocks: ofServed(func(h *Handler) *BlockStatus { return h.status(now) }),
	}
	for _, block := range out.Blocks {
		out.Ready = out.Ready && block.Ready
	}
	return out
}

// status is how one block is.
func (h *Handler) status(now time.Time) *BlockStatus {
	s := &BlockStatus{
		Ready: h.Ready(), Obstacle: h.readiness.lacks(), Upstreams: upstreamsTold(h.upstreams.States()),
		Anchors: map[string][]string{}, Private: slices.Sorted(slices.Values(h.config.Private)),
		Policies: h.policy.status(h.config.Clock()), Cache: cacheTold(h),
		Verdicts: h.memory.history.lastHour(now), Failures: h.memory.history.latest(),
	}
	for _, p := range h.keeper.told(h, h.config.Clock()) {
		s.Concerns = append(s.Concerns, p.concerns()...)
	}
	anchors := h.resolving.Trusted()
	for _, zone := range slices.Sorted(maps.Keys(anchors)) {
		s.Anchors[zone] = []string{}
		for _, ds := range slices.SortedFunc(slices.Values(h.config.Policy.Anchor(zone, anchors[zone]).DS),
			func(a, b *dns.DS) int {
				return cmp.Or(cmp.Compare(a.KeyTag, b.KeyTag), cmp.Compare(a.DigestType, b.DigestType))
			}) {
			s.Anchors[zone] = append(s.Anchors[zone], fmt.Sprintf("%d %d %d", ds.KeyTag, ds.Algorithm, ds.DigestType))
		}
	}
	return s
}
