package fetch

import "sync/atomic"

// What asking takes of the process's memory, in octets, as measured with thousands of questions that nobody answers
// (L-15). Over UDP a question has no goroutine: it takes 5 KiB with the one that waits for it. Where datagrams bring
// nothing it waits for TCP, and takes 12 KiB as one over TLS does; 17 KiB with twice what lives in the heap, since the
// collector lets that grow so far at GOGC=100. Over HTTPS 19 to 23 KiB live, 26 to 32 KiB with that: less of it, as the
// heap comes near the bound that the daemon gives the collector.
const (
	QuestionOctets = 22 << 10 // a question to upstreams
	replyGrowth    = 8        // the octets that each octet of a reply takes, unpacked and copied for its query
)

// Room is the memory for work in flight (L-15). All that work in one process may share one. It is safe for concurrent
// use.
type Room struct {
	octets int64
	taken  atomic.Int64
}

// NewRoom returns a Room of so many octets.
func NewRoom(octets int64) *Room { return &Room{octets: octets} }

// Take reports whether there is room for n more octets; they have to be given back then. What is under way may fill the
// last eighth, which nothing begins in: what was done so far would else be in vain.
func (r *Room) Take(n int64, underWay bool) bool {
	most := r.octets
	if !underWay {
		most -= most / 8
	}
	if r.taken.Add(n) <= most {
		return true
	}
	r.Give(n)
	return false
}

// Give gives octets back.
func (r *Room) Give(n int64) { r.taken.Add(-n) }

// Half reports whether half of it is taken: there is none for luxuries then.
func (r *Room) Half() bool { return r.taken.Load() >= r.octets/2 }
