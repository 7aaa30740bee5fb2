//go:build linux

package mta

import (
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/danelaw-dns/danelaw/test/receiver"
)

// receipt says how a message reached a receiver.
type receipt struct {
	at  string // the receiver's address
	tls bool
}

// receivers are all mail hosts of the stage, with what they got.
type receivers struct {
	mu       sync.Mutex
	receipts map[string][]receipt // by the domain of the recipient
}

// listen opens a receiver on port 25. Its manners are those of shows, see mannered; without c it has no STARTTLS.
func (r *receivers) listen(t *testing.T, address, shows string, c *tls.Config) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "25"))
	if err != nil {
		t.Fatal(err)
	}
	c, front := mannered(shows, c)
	l = mannerly{l, front}
	receiver.Serve(t, l, address, c, func(to []string, encrypted bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, name := range to {
			_, domain, _ := strings.Cut(name, "@")
			r.receipts[domain] = append(r.receipts[domain], receipt{address, encrypted})
		}
	})
}

// forget removes all receipts.
func (r *receivers) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receipts = map[string][]receipt{}
}

// of returns the receipts for a domain.
func (r *receivers) of(domain string) []receipt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.receipts[domain]
}
