package danelaw

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// processBegan is when this process was started.
var processBegan = time.Now()

// The form of what `danelaw status` tells. Names end with a dot, times are in UTC.
type (
	// StatusReply is how the daemon is.
	StatusReply struct {
		Version string                  `json:"version"`
		Since   time.Time               `json:"since"` // when the process was started
		Now     time.Time               `json:"now"`   // as its clock has it
		Ready   bool                    `json:"ready"` // all blocks are
		NTAs    []*NTA                  `json:"negative_trust_anchors"`
		Blocks  map[string]*BlockStatus `json:"blocks"` // by server block
	}
	// BlockStatus is how one server block is.
	BlockStatus struct {
		Ready     bool                `json:"ready"`
		Obstacle  string              `json:"obstacle,omitempty"` // the step that is not done, in a sentence
		Upstreams []upstream.State    `json:"upstreams"`
		Anchors   map[string][]string `json:"trust_anchors"` // "KEYTAG ALGORITHM DIGESTTYPE" of those in use by zone; none: it counts as unsigned
		Private   []string            `json:"private,omitempty"`
		Cache     CacheStats          `json:"cache"`
		Verdicts  map[string]uint64   `json:"verdicts_last_hour"` // replies, by verdict as in the metrics
		Failures  []FailureStatus     `json:"failures"`           // the latest first, one for each question
	}
	// FailureStatus is a question that a client got SERVFAIL for.
	FailureStatus struct {
		Name string    `json:"name"`
		Type string    `json:"type"`
		At   time.Time `json:"at"` // when a client was first told
		Text string    `json:"text"`
	}
)

// Status implements GET /v1/status.
func status(*http.Request) (any, error) {
	t, err := controlled()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	out := StatusReply{
		Version: ThisBuild().String(), Since: processBegan.UTC(), Now: now.UTC(), Ready: true, NTAs: t.list(), Blocks: map[string]*BlockStatus{},
	}
	for block, h := range served() {
		out.Blocks[block] = h.status(now)
		out.Ready = out.Ready && out.Blocks[block].Ready
	}
	return out, nil
}

// status is how one block is.
func (h *Handler) status(now time.Time) *BlockStatus {
	s := &BlockStatus{
		Ready: h.Ready(), Upstreams: h.upstreams.States(), Anchors: map[string][]string{}, Private: slices.Sorted(slices.Values(h.config.Private)),
		Cache: cacheStatsOf(h), Verdicts: h.memory.history.lastHour(now), Failures: h.memory.history.latest(),
	}
	if obstacle := h.readiness.obstacle.Load(); !s.Ready && obstacle != nil {
		s.Obstacle = obstacle.Text
	}
	for _, zone := range slices.Sorted(maps.Keys(h.config.Anchors)) {
		s.Anchors[zone] = []string{}
		for _, ds := range slices.SortedFunc(slices.Values(h.config.Policy.Anchor(zone, h.config.Anchors[zone]).DS), func(a, b *dns.DS) int {
			return cmp.Or(cmp.Compare(a.KeyTag, b.KeyTag), cmp.Compare(a.DigestType, b.DigestType))
		}) {
			s.Anchors[zone] = append(s.Anchors[zone], fmt.Sprintf("%d %d %d", ds.KeyTag, ds.Algorithm, ds.DigestType))
		}
	}
	return s
}
