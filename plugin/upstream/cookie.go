package upstream

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Sizes of DNS cookies in octets, RFC 7873 section 4.
const (
	clientCookie    = 8
	minServerCookie = 8
	maxServerCookie = 32
)

// alwaysFits is a size in octets up to which a reply is truncated over UDP for no reason of size: RFC 1035 section
// 4.2.1 has room for 512, of which a cookie takes some.
const alwaysFits = 512 - 4 - clientCookie - maxServerCookie

// cookieMemory is how long a server's trouble with cookies is remembered (S-8), and the time within which two strikes
// count.
const cookieMemory = 10 * time.Minute

// longSilence is how long a server that has sent its part must answer nothing over UDP before that part is forgotten.
const longSilence = time.Minute

// habit is how a server is asked over UDP, as far as cookies go.
type habit uint8

const (
	withCookie habit = iota
	noCookie         // the option does it no good
	tcpAtOnce        // it sends cookies that nobody asked for: over TCP at once, where they do not matter
	anyCookie        // likewise, and there is no TCP: without the option, and whatever cookie comes back
)

// cookies are those shared with one server (S-8, RFC 7873), and what it does with them. The client part is random, kept
// for the server and renewed when the own address changes, so that it cannot be used to follow a host from network to
// network (RFC 7873 section 6).
//
// A server that has sent its part is relied upon to send ours: replies without it are dropped, and that is all the
// protection there is in cookies. What would an attacker off the path have to do to end it? A reply without our part,
// or with another, or one that is truncated without need, must hit a port and an ID first, as where there are no
// cookies, and that twice in [cookieMemory], on two questions with a port of their own each (strikes); the questions
// hit go over TCP, and only if there is none without the option, where port and ID must be hit again. Or the server
// must be kept from answering for [longSilence]. All other signs (a reply that is no answer, a question asked without
// the option, as a copy or a further try, that is answered) count only while the server is not relied upon: then any
// reply without a cookie is taken as it is, and there is nothing to gain. Further tries of V-14, which the owner of a
// broken zone can call forth, keep to this too.
type cookies struct {
	clock func() time.Time

	mu     sync.Mutex
	local  netip.Addr
	client string // hexadecimal
	server string // hexadecimal; empty while the server is not relied upon

	habit   habit
	until   time.Time // when it is tried whether the server has mended its ways
	strikes int       // questions lately with a reply that a server with cookies does not send
	struck  time.Time // the latest of them
	doubted bool      // the last question with the option had no reply that could be taken
	silent  time.Time // since when no question with the option had any; zero: the last had
	borne   bool      // the option is known to do no harm
	errors  int       // and other replies that are no answer, to questions with the option, in a row
}

// choose returns how to ask a question; again: it is outstanding already. Who is told to retry tries the usual way,
// too.
func (c *cookies) choose(again bool) (h habit, retry bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	switch {
	case c.habit != withCookie:
		if retry = !again && !now.Before(c.until); retry {
			c.until = now.Add(cookieMemory)
		}
		return c.habit, retry
	case c.server == "" && (again || c.doubted):
		return noCookie, false
	case again && c.strikes > 0 && now.Sub(c.struck) < cookieMemory:
		return tcpAtOnce, false
	}
	return withCookie, false
}

// settle keeps to a habit for a while.
func (c *cookies) settle(h habit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(h)
}

func (c *cookies) set(h habit) {
	c.habit, c.until, c.server, c.strikes = h, c.clock().Add(cookieMemory), "", 0
}

// answered notes a reply to a question that went out without the option as the one with it was in doubt.
func (c *cookies) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.habit == withCookie && c.server == "" {
		c.set(noCookie)
	}
}

// noTCP notes that TCP failed.
func (c *cookies) noTCP() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.habit == tcpAtOnce {
		c.set(anyCookie)
	}
}

// mended goes back to the usual way.
func (c *cookies) mended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.habit = withCookie
}

// heard notes a reply to a question with the option that can be taken; foreign: after one with a wrong cookie, which
// then was somebody else's.
func (c *cookies) heard(foreign bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doubted, c.silent = false, time.Time{}
	if foreign {
		c.strikes = max(0, c.strikes-1)
	}
}

// unheard notes that a question was given up without such a reply; asked is how it went out.
func (c *cookies) unheard(asked habit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doubted = asked == withCookie; !c.doubted {
		return
	}
	now := c.clock()
	if c.silent.IsZero() {
		c.silent = now
	}
	if now.Sub(c.silent) >= longSilence {
		c.server = ""
	}
}

// strike notes that a question was answered without our part, or truncated without need. A server that was relied upon
// is not any more after the second.
func (c *cookies) strike() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doubted = true
	if c.server != "" {
		c.count()
	}
}

func (c *cookies) count() {
	now := c.clock()
	if now.Sub(c.struck) >= cookieMemory {
		c.strikes = 0
	}
	c.strikes++
	c.struck = now
	if c.strikes > 1 {
		c.server = ""
	}
}

// tried reports whether the server has been sent the option.
func (c *cookies) tried() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client != ""
}

// relied reports whether the server has sent its part.
func (c *cookies) relied() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server != ""
}

// vain reports whether m is no answer to q, perhaps because of the option.
func vain(q query, m *dns.Msg) bool {
	return usable(q.Question, m) != nil || len(m.Answer) == 0 && len(m.Ns) == 0
}

// blamed reports whether a reply to a question with the option may be no answer because of the option alone (RFC 7873
// section 5.3 knows FORMERR), so that it is worth asking without it. Replies other than FORMERR are blamed on the
// option as long as the server has not shown that it bears it. After that they are blamed ever more seldom the more of
// them come in a row: a name that fails does so without the option too.
func (c *cookies) blamed(q query, m *dns.Msg) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !vain(q, m) {
		c.borne, c.errors = true, 0
		return false
	}
	if c.server != "" { // our part came back with the error: it has read the option
		return false
	}
	c.errors++
	return m.Rcode == dns.RcodeFormatError || !c.borne || c.errors > 1 && c.errors&(c.errors-1) == 0
}

// acquit notes that the reply without the option is no answer either.
func (c *cookies) acquit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.borne = true
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
	wrong         // not from the server that we sent our part to, or of a length that RFC 7873 section 5.3 has dropped
	missing       // left out by a server that has sent one before
)

// learn compares the cookie of a reply with the one sent, nil for none, and keeps the server's part. Our part alone is
// what servers send that copy options they do not know: it counts as none.
func (c *cookies) learn(sent *dns.EDNS0_COOKIE, reply *dns.Msg) match {
	got := cookieOf(reply)
	if sent == nil {
		if got != "" {
			return wrong
		}
		return right
	}
	client, hadServer := sent.Cookie[:2*clientCookie], len(sent.Cookie) > 2*clientCookie
	c.mu.Lock()
	defer c.mu.Unlock()
	switch none := got == "" || got == client; {
	case none && hadServer:
		c.leftOut()
		return missing
	case none:
		return right
	case len(got) < 2*(clientCookie+minServerCookie), len(got) > 2*(clientCookie+maxServerCookie),
		got[:2*clientCookie] != client:
		return wrong
	}
	if c.client == client {
		c.server = got[2*clientCookie:]
	}
	return right
}

// leftOut notes a reply without a cookie. RFC 7873 section 5.3 would have it discarded; here TCP decides, and the
// server's part is forgotten, so that a server may stop using cookies. One that sends them only now and then is not
// asked for them any more.
func (c *cookies) leftOut() {
	if c.count(); c.strikes > 1 {
		c.set(noCookie)
	}
	c.server = ""
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
