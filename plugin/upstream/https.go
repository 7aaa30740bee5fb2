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
	"net/url"
	"strconv"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
)

const dnsMessage = "application/dns-message" // RFC 8484 section 6

// maxHTTPConns is the number of connections: net/http would open one for each question that comes while the first is being
// opened. Over HTTP/2, which RFC 8484 section 5.2 takes for the minimum, one carries all of them.
const maxHTTPConns = 1

// web asks one server over HTTPS (S-10, RFC 8484).
type web struct {
	url       string
	transport *http.Transport
	client    *http.Client
}

// newWeb connects to the address that is configured, whatever the name resolves to and whatever proxy the environment
// names: both would have to be resolved, perhaps by us.
func newWeb(a Address, config *tls.Config) *web {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: usualPatience.dial}).DialContext(ctx, "tcp", a.Server.String())
		},
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    usualPatience.dial,
		IdleConnTimeout:        usualPatience.idle,
		MaxConnsPerHost:        maxHTTPConns,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true, // a configured dialer switches it off
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: usualPatience.silence, PingTimeout: usualPatience.write},
	}
	return &web{url: a.url(), transport: transport, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (w *web) ask(ctx context.Context, q query) (chain.Reply, error) {
	wire, err := q.padded() // RFC 8484 section 4.1: ID 0
	if err != nil {
		return chain.Reply{}, err
	}
	reply, err := w.post(ctx, wire)
	return reply, interrupted(ctx, err)
}

func (w *web) post(ctx context.Context, wire []byte) (chain.Reply, error) {
	request, err := w.request(ctx, wire)
	if err != nil {
		return chain.Reply{}, err
	}
	response, err := w.client.Do(request)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return chain.Reply{}, unreachable("failed over HTTPS", err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, math.MaxUint16+1))
	if err != nil {
		return chain.Reply{}, unreachable("failed over HTTPS", err)
	}
	if err := acceptable(response, raw, wire); err != nil {
		return chain.Reply{}, err
	}
	reply, err := received(raw)
	if err == nil {
		grow(reply.Msg, response.Header.Get("Age"))
	}
	return reply, err
}

func (w *web) request(ctx context.Context, wire []byte) (*http.Request, error) {
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
	return request, nil
}

// acceptable checks all of a response but the DNS message inside.
func acceptable(response *http.Response, raw, asked []byte) error {
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode != http.StatusOK:
		return faultf(Refusal, "answered with HTTP status %d", response.StatusCode) // gateways do so for a name that takes long
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

func (w *web) close() { w.transport.CloseIdleConnections() }

// tlsConfig is what both encrypted transports share: strict, TLS 1.2 or better (S-9).
func tlsConfig(c Config) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs, Time: func() time.Time { return c.Clock() }}
}
