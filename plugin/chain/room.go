package chain

import (
	"sync/atomic"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// What work in flight takes of the process's memory, in octets, as measured with thousands of questions that nobody answers: the stacks of
// its goroutines, and twice what lives in the heap, since the collector lets that grow so far at GOGC=100 (L-15).
const (
	clientOctets   = 8 << 10  // a client that waits, its message and goroutine
	flightOctets   = 12 << 10 // a question being worked on
	questionOctets = 20 << 10 // a question to upstreams
	replyGrowth    = 8        // the octets that each octet of a reply takes, unpacked and copied for its query
)

// OctetsPerQuestion is what a client question takes at least while an upstream is waited for.
const OctetsPerQuestion = clientOctets + flightOctets + questionOctets

// errRoom ends what finds no room.
const errRoom = dnssec.LimitError("memory")

// Room is the memory for work in flight (L-15). Several Resolvers may share one: memory is the process's.
type Room struct {
	octets int64
	taken  atomic.Int64
}

// NewRoom returns a Room of so many octets.
func NewRoom(octets int64) *Room { return &Room{octets: octets} }

// take reports whether there is room for n more octets; they have to be given back then. What is under way may fill the last eighth, which
// nothing begins in: it would else be in vain.
func (r *Room) take(n int64, underWay bool) bool {
	most := r.octets
	if !underWay {
		most -= most / 8
	}
	if r.taken.Add(n) <= most {
		return true
	}
	r.give(n)
	return false
}

func (r *Room) give(n int64) { r.taken.Add(-n) }

// half reports whether half of it is taken: there is none for luxuries then.
func (r *Room) half() bool { return r.taken.Load() >= r.octets/2 }
