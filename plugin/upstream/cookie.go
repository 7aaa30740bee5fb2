package upstream

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"sync"

	"github.com/miekg/dns"
)

// Sizes of DNS cookies in octets, RFC 7873 section 4.
const (
	clientCookie    = 8
	minServerCookie = 8
	maxServerCookie = 32
)

// cookies are those shared with one server (S-8, RFC 7873). The client part is random, kept for the server and renewed
// when the own address changes, so that it cannot be used to follow a host from network to network (RFC 7873 section 6).
type cookies struct {
	mu     sync.Mutex
	local  netip.Addr
	client string // hexadecimal
	server string // hexadecimal; empty while unknown
}

// option returns what to send from the address local.
func (c *cookies) option(local netip.Addr) *dns.EDNS0_COOKIE {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local != local {
		var b [clientCookie]byte
		rand.Read(b[:])
		c.local, c.client, c.server = local, hex.EncodeToString(b[:]), ""
	}
	return &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: c.client + c.server}
}

// match is how the cookie of a reply compares with the one sent.
type match uint8

const (
	right   match = iota
	wrong         // not from the server that we sent our part to
	missing       // left out by a server that has sent one before
)

// learn compares the cookie of a reply with the one sent, and keeps the server's part.
func (c *cookies) learn(sent *dns.EDNS0_COOKIE, reply *dns.Msg) match {
	client, hadServer := sent.Cookie[:2*clientCookie], len(sent.Cookie) > 2*clientCookie
	got := cookieOf(reply)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case got == "" && hadServer:
		// RFC 7873 section 5.3 would have it discarded. TCP decides instead, and forgetting lets a server stop using
		// cookies.
		c.server = ""
		return missing
	case got == "":
		return right
	case len(got) < 2*(clientCookie+minServerCookie), len(got) > 2*(clientCookie+maxServerCookie), got[:2*clientCookie] != client:
		return wrong
	}
	if c.client == client {
		c.server = got[2*clientCookie:]
	}
	return right
}

// cookieOf returns the cookie of a message in hexadecimal, or "".
func cookieOf(m *dns.Msg) string {
	opt := m.IsEdns0()
	if opt == nil {
		return ""
	}
	for _, o := range opt.Option {
		if cookie, ok := o.(*dns.EDNS0_COOKIE); ok {
			return cookie.Cookie
		}
	}
	return ""
}
