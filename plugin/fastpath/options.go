package fastpath

import (
	"context"

	"github.com/miekg/dns"
)

// Server answers queries, each on a goroutine of its own: CoreDNS, with all its plugins.
type Server func(ctx context.Context, w dns.ResponseWriter, query *dns.Msg)

// Options say how a Listener listens.
type Options struct {
	Limits  Limits
	Size    func() uint16 // the EDNS size in what the Listener itself replies, in octets
	Refused func()        // is told of each query that is malformed
}
