package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

const dnsMessage = "application/dns-message" // RFC 8484 section 6

const (
	// maxModernConns is how many connections over HTTP/2 are being opened at once: net/http would open one for each
	// question that comes while the first is. One carries all of them, or as many as the server allows.
	maxModernConns = 1
	// maxTries is how many connections a question tries: another one where the server goes away or allows no more on
	// it.
	maxTries = 16
)

var errNoStream = errors.New("took no question on any connection")

// web asks one server over HTTPS (S-10, RFC 8484).
type web struct {
	url         string
	modern, old *http.Transport // for HTTP/2, and for what was before
	isOld       atomic.Bool     // the server does not speak HTTP/2: RFC 8484 section 5.2 recommends that it does
}

// errOld ends all attempts at HTTP/2 at once: those that wait for the connection must not try one after the other.
var errOld = errors.New("does not speak HTTP/2")

// newWeb connects to the address that is configured, whatever the name resolves to and whatever proxy the environment
// names: both would have to be resolved, perhaps by us.
func newWeb(a Address, config *tls.Config) *web {
	w := &web{url: a.url()}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, usualPatience.dial)
		defer cancel()
		return dialTCP(ctx, a.Server)
	}
	w.old = newTransport(config.Clone(), maxConns, dial) // one question at a time on each
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if s.NegotiatedProtocol == "h2" {
			return nil
		}
		w.isOld.Store(true)
		return errOld
	}
	w.modern = newTransport(config, maxModernConns, func(ctx context.Context, network, addr string) (net.Conn, error) {
		if w.isOld.Load() {
			return nil, errOld
		}
		return dial(ctx, network, addr)
	})
	w.modern.ForceAttemptHTTP2 = true // a configured dialer switches it off
	return w
}

func newTransport(config *tls.Config, conns int,
	dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    usualPatience.dial,
		IdleConnTimeout:        usualPatience.idle,
		MaxConnsPerHost:        conns,
		MaxIdleConnsPerHost:    conns,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: usualPatience.silence,
			PingTimeout: usualPatience.write},
	}
}

// ask makes a request. If the connection, or its stream there, is lost before all of the response has come the question
// is put again, as over TLS (S-5).
func (w *web) ask(ctx context.Context, q query) (fetch.Reply, error) {
	wire, err := q.padded() // RFC 8484 section 4.1: ID 0
	if err != nil {
		return fetch.Reply{}, err
	}
	reply, err := w.post(ctx, wire)
	for n := 1; n < maxLost && mayCome(q, n, err) && wait(ctx, usualPatience.pause, n); n++ {
		reply, err = w.post(ctx, wire)
	}
	return reply, interrupted(ctx, err)
}

func (w *web) post(ctx context.Context, wire []byte) (fetch.Reply, error) {
	var t tries
	ctx, cancel := t.bound(ctx)
	defer cancel(nil)
	response, raw, err := w.fetch(ctx, wire)
	if err != nil && t.connected {
		err = lostOpen(err)
	}
	if err != nil {
		return fetch.Reply{}, unreachable("failed over HTTPS", err)
	}
	if err := acceptable(response, raw, wire); err != nil {
		return fetch.Reply{}, err
	}
	reply, err := received(raw)
	if err == nil {
		grow(reply.Msg, response.Header.Get("Age"))
	}
	return reply, err
}

// tries follows net/http from connection to connection.
type tries struct {
	n         int
	connected bool // on the last of them
}

// bound ends ctx when too many connections have been tried: net/http knows no bound.
func (t *tries) bound(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) {
			t.connected = false
			if t.n++; t.n > maxTries {
				cancel(errNoStream)
			}
		},
		GotConn: func(httptrace.GotConnInfo) { t.connected = true },
	}), cancel
}

// fetch returns a response and its body, of which it reads no more than shows that it is too long.
func (w *web) fetch(ctx context.Context, wire []byte) (*http.Response, []byte, error) {
	response, err := w.do(ctx, w.modern, wire)
	if errors.Is(err, errOld) {
		response, err = w.do(ctx, w.old, wire)
	}
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, math.MaxUint16+1))
	return response, raw, err
}

// do makes one request. There is no client above the transport: nothing is redirected, no cookie kept.
func (w *web) do(ctx context.Context, over *http.Transport, wire []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(wire))
	if err != nil {
		return nil, err
	}
	request.Header = http.Header{
		"Accept":       {dnsMessage},
		"Content-Type": {dnsMessage},
		"User-Agent":   {""}, // none: RFC 8484 section 8.2
		// Not sent. It tells net/http that the request may be repeated on a new connection if a kept one has gone.
		"Idempotency-Key": nil,
	}
	return over.RoundTrip(request)
}

// acceptable checks all of a response but the DNS message inside.
func acceptable(response *http.Response, raw, asked []byte) error {
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode != http.StatusOK:
		// gateways do so for a name that takes long
		return faultf(Refusal, "answered with HTTP status %d", response.StatusCode)
	case media != dnsMessage:
		return faultf(Invalid, "answered with content of type %.40q instead of %s", media, dnsMessage)
	case len(raw) > math.MaxUint16:
		return faultf(Invalid, "sent a reply of more than %d octets over HTTPS", math.MaxUint16)
	case !matches(raw, asked):
		return faultf(Invalid, "replied to another question over HTTPS")
	}
	return nil
}

// grow takes the age of an HTTP response off the TTLs in it (RFC 8484 section 5.1).
func grow(m *dns.Msg, header string) {
	age, err := strconv.ParseUint(header, 10, 32)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return // none
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= uint32(min(age, uint64(h.Ttl)))
			}
		}
	}
}

func (w *web) close() {
	w.modern.CloseIdleConnections()
	w.old.CloseIdleConnections()
}

// tlsConfig is what both encrypted transports share: strict, TLS 1.2 or better (S-9).
func tlsConfig(c Config) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs, Time: c.Clock}
}
