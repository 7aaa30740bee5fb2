package fastpath

import (
	"context"

	"github.com/miekg/dns"
)

// Server answers queries, each on a goroutine of its own: CoreDNS, with all its plugins.
type Server func(ctx context.Context, w dns.ResponseWriter, query *dns.Msg)

// Answerer answers questions at once, for one goroutine at a time.
type Answerer interface {
	// Serve answers a question if it can: it appends the reply to dst. If it is false, dst has to be as it was, and the
	// query is given to the Server.
	Serve(q *Question, dst []byte) (reply []byte, ok bool)
	// Flush is called after questions that have come together, before their replies are sent.
	Flush()
}

// Options say how a Listener listens.
type Options struct {
	// Answerer, if not nil, returns what answers questions at once.
	Answerer func() Answerer
	// Later, if not nil, is asked what an Answerer has not answered: a miss is a hit that has to wait. It does not wait
	// itself. If it is false, the query is given to the Server; else it calls then once, soon after ctx has ended, as
	// the client has gone, perhaps from another goroutine, which must not be kept long: with the reply, or with a
	// Server that has it. Until that has returned the question stands.
	Later   func(ctx context.Context, q *Question, then func(reply []byte, otherwise Server)) bool
	Limits  Limits
	Size    func() uint16 // the EDNS size in what the Listener itself replies, in octets
	Refused func()        // is told of each query that is malformed
}
