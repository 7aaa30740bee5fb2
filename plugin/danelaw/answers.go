package danelaw

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Answers puts a question to each server block that serves, on the way that a client's takes, and returns once all are
// answered. It does not matter with what: where upstreams fail that is SERVFAIL, which is no fault of danelaw's. Where
// danelaw hangs it does not return (S-29).
func Answers() {
	for _, h := range process.newest() {
		await(h)
	}
}

// await does so for a block. The question is that for the root's nameservers, whose answer is nearly always in memory;
// an MTA asks it too, to see whether there is AD. No client asked, so it does not count among theirs.
func await(h *Handler) {
	defer survive()
	q := &query{
		Msg: new(dns.Msg).SetQuestion(".", dns.TypeNS), client: netip.MustParseAddr("127.0.0.1"), udp: true,
		begun: time.Now(),
	}
	h.writer.message(q, h.reply(context.Background(), q))
}

// Condition says in a sentence whether danelaw can do its work, or why it cannot yet (S-13a).
func Condition() string {
	blocks := process.newest()
	for _, block := range slices.Sorted(maps.Keys(blocks)) {
		if obstacle := blocks[block].readiness.lacks(); obstacle != "" && len(blocks) > 1 {
			return block + ": " + obstacle
		} else if obstacle != "" {
			return obstacle
		}
	}
	return inOrder
}

// inOrder is said once of a danelaw that is ready.
const inOrder = "ready: trust anchor, clock and upstream are in order"
