package hostile

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/certificates"
)

// overTLS are the misdeeds of an upstream in a TLS session in which it has been asked (S-5, S-9).
func overTLS() []*misdeed {
	all := []*misdeed{
		{name: "closes the connection after each answer", act: times(1, honest, func(a *asked) { a.shut() }),
			want: secure(dns.RcodeSuccess)},
		{name: "an unasked reply and the answer in one record", act: func(a *asked) {
			other := a.reply.Copy()
			forged(a, other)
			wrongID(a, other)
			a.raw(append(a.framed(pack(other)), a.framed(pack(a.reply))...))
		}, want: secure(dns.RcodeSuccess)},
		//nolint:errcheck // or danelaw is gone
		{name: "closes its side of the session", act: func(a *asked) { session(a).CloseWrite() },
			want: told(servfail, network)},
		{name: "a fatal alert", act: func(a *asked) { session(a).NetConn().SetReadDeadline(time.Unix(1, 0)) },
			want: told(servfail, network)},
		{name: "a record that cannot be deciphered", act: func(a *asked) {
			session(a).NetConn().Write(undecipherable) //nolint:errcheck // likewise
		}, want: told(servfail, network)},
		{name: "falls back to cleartext", act: func(a *asked) {
			session(a).NetConn().Write(a.framed(pack(a.reply))) //nolint:errcheck // likewise
		}, want: told(servfail, network)},
	}
	for _, m := range all {
		m.over = []string{dot}
	}
	return all
}

func session(a *asked) *tls.Conn { return a.conn.(*tls.Conn) }

// overHTTPS are the misdeeds of a web server that has been asked (S-10).
func overHTTPS() []*misdeed {
	good, refused := secure(dns.RcodeSuccess), told(servfail, noReply)
	all := []*misdeed{
		{name: "HTTP status 400", act: status(http.StatusBadRequest), want: refused},
		{name: "HTTP status 404", act: status(http.StatusNotFound), want: refused},
		{name: "HTTP status 429", act: header("Retry-After", "86400", status(http.StatusTooManyRequests)),
			want: refused},
		{name: "HTTP status 500", act: status(http.StatusInternalServerError), want: refused},
		{name: "HTTP status 503", act: header("Retry-After", "-1", status(http.StatusServiceUnavailable)),
			want: refused},
		{name: "HTTP status 504", act: status(http.StatusGatewayTimeout), want: refused},
		{name: "HTTP status 204", act: status(http.StatusNoContent), want: refused},
		{name: "an answer under HTTP status 503",
			act: func(a *asked) { a.web.WriteHeader(http.StatusServiceUnavailable); honest(a) }, want: refused},
		{name: "redirected in a circle", act: header("Location", "/dns-query", status(http.StatusTemporaryRedirect)),
			want: refused},
		{name: "redirected into cleartext", act: header("Location", "http://127.0.0.1:1/", status(http.StatusFound)),
			want: refused},
		{name: "informed a thousand times", act: func(a *asked) {
			for range 1000 {
				a.web.WriteHeader(http.StatusEarlyHints)
			}
		}, want: told(servfail, network)},

		{name: "the page of a captive portal", act: header("Content-Type", "text/html; charset=utf-8",
			body("<html>Please sign in</html>")), want: told(servfail, invalid)},
		{name: "a page that says to be an answer", act: body("<html>Please sign in to use this network</html>"),
			want: told(servfail, invalid)},
		{name: "wrong content type", act: header("Content-Type", "application/dns-json", honest),
			want: told(servfail, invalid)},
		{name: "control characters in the content type", act: header("Content-Type", "text/\x1b[2J\xff"+
			strings.Repeat("x", 1000), honest), want: told(servfail, invalid)},
		{name: "no body", act: body(""), want: told(servfail, invalid)},
		{name: "a body cut short", act: func(a *asked) {
			wire := pack(a.reply)
			a.web.Header().Set("Content-Length", strconv.Itoa(len(wire)))
			a.raw(wire[:len(wire)/2])
		}, want: told(servfail, network)},
		{name: "ten thousand records", act: func(a *asked) { a.raw(tooMany(pack(a.empty(dns.RcodeSuccess)))) },
			want: told(servfail, invalid)},
		{name: "gzip", act: header("Content-Encoding", "gzip", bytewise(gzipped)), want: told(servfail, invalid)},
		{name: "100 kB of header", act: header("X-Padding", strings.Repeat("x", 100<<10), honest),
			want: told(servfail, network), breaks: true},
		{name: "absurd Age", act: header("Age", "99999999999999999999", honest), want: good},
		{name: "negative Age", act: header("Age", "-1", honest), want: good},
		{name: "absurd Cache-Control", act: header("Cache-Control",
			"no-store, max-age=-1, s-maxage=99999999999999999999", honest), want: good},
		{name: "goes away after each answer", act: header("Connection", "close", honest), want: good},

		{name: "honest over HTTP/1.1", own: older, act: honest, want: good},
		{name: "silent over HTTP/1.1", own: older, act: silent, timeout: short, want: refused},
		{name: "closes the connection over HTTP/1.1", own: older, act: func(a *asked) { a.shut() },
			want: told(servfail, network)},
		{name: "no end of it over HTTP/1.1", own: older, act: func(a *asked) {
			for a.raw(zeros) {
			}
		}, want: told(servfail, invalid)},
	}
	for _, m := range all {
		m.over = []string{doh}
	}
	return all
}

// header sets a header field before another misdeed.
func header(key, value string, act func(a *asked)) func(a *asked) {
	return func(a *asked) {
		a.web.Header().Set(key, value)
		act(a)
	}
}

func status(code int) func(a *asked) {
	return func(a *asked) {
		a.web.WriteHeader(code)
		a.raw(nil)
	}
}

func body(text string) func(a *asked) { return func(a *asked) { a.raw([]byte(text)) } }

func gzipped(wire []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(wire) //nolint:errcheck // to memory
	w.Close()     //nolint:errcheck // likewise
	return b.Bytes()
}

// tooMany returns a message with 10,000 answers, which is longer than a message may be.
func tooMany(wire []byte) []byte {
	wire[6], wire[7] = 10000>>8, 10000&255
	question := 12 + bytes.IndexByte(wire[12:], 0) + 5
	answers := bytes.Repeat([]byte{0xC0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 192, 0, 2, 1}, 10000)
	return append(wire[:question:question], answers...)
}

// older makes an upstream that speaks HTTP/1.1 only.
func older(_ *arena, _ *testing.T, h *hostile) {
	h.protocols = new(http.Protocols)
	h.protocols.SetHTTP1(true)
}

// brokenUpstreams are upstreams that answer no question, or do not even take one (S-9, S-14).
func brokenUpstreams() []*misdeed {
	all := []*misdeed{
		{name: "the certificate of another name", own: certified("other.example", time.Hour),
			want: told(servfail, network)},
		{name: "a certificate that names control characters", own: certified("\x1b[2J.example", time.Hour),
			want: told(servfail, network)},
		{name: "an expired certificate", own: certified(serverName, -time.Minute), want: told(servfail, network)},
		{name: "the certificate of a stranger", own: func(_ *arena, t *testing.T, h *hostile) {
			h.certificate = certificates.New(t).Server(t, serverName, time.Now().Add(time.Hour))
		}, want: told(servfail, network)},
		{name: "a handshake that never ends", own: meets(drain), timeout: short, want: told(servfail, noReply)},
		{name: "closes in the handshake", own: meets(func(net.Conn) {}), want: told(servfail, network)},
		{name: "speaks no TLS", own: meets(greet), want: told(servfail, network)},
		{name: "closes after the handshake", own: meetsSecurely(func(net.Conn) {}), want: told(servfail, network)},
		{name: "silent after the handshake", own: meetsSecurely(drain), timeout: short, want: told(servfail, noReply)},
		{name: "speaks something else after the handshake", over: []string{doh}, own: meetsSecurely(greet),
			want: told(servfail, network)},
		{name: "speaks something else, as if it began 12,849 octets", over: []string{dot}, own: meetsSecurely(greet),
			timeout: short, want: told(servfail, noReply)},
		{name: "goes away at once", over: []string{doh}, own: meetsSecurely(frames(settings, goAway)),
			want: told(servfail, network)},
		{name: "allows no streams", over: []string{doh}, own: meetsSecurely(frames(noStreams)), timeout: short,
			want: told(servfail, noReply)},
	}
	for _, m := range all {
		if m.over == nil {
			m.over = []string{dot, doh}
		}
	}
	return all
}

// certified makes an upstream with a certificate for a name that ends some time from now.
func certified(name string, d time.Duration) func(*arena, *testing.T, *hostile) {
	return func(a *arena, t *testing.T, h *hostile) {
		h.certificate = a.authority.Server(t, name, time.Now().Add(d))
	}
}

// meets makes an upstream that does one thing to each connection.
func meets(do func(c net.Conn)) func(*arena, *testing.T, *hostile) {
	return func(_ *arena, _ *testing.T, h *hostile) { h.meet = do }
}

// meetsSecurely is meets after the TLS handshake.
func meetsSecurely(do func(c net.Conn)) func(*arena, *testing.T, *hostile) {
	return func(_ *arena, _ *testing.T, h *hostile) {
		config := &tls.Config{Certificates: []tls.Certificate{h.certificate}, NextProtos: []string{"dot", "h2"}}
		h.meet = func(c net.Conn) {
			if session := tls.Server(c, config); session.Handshake() == nil {
				do(session)
			}
		}
	}
}

func drain(c net.Conn) { io.Copy(io.Discard, c) } //nolint:errcheck // it ends with the connection

// greet sends the greeting of a mail server.
func greet(c net.Conn) {
	io.WriteString(c, "220 mx.example ESMTP\r\n") //nolint:errcheck // or danelaw is gone
	drain(c)
}

// frames sends HTTP/2 frames.
func frames(all ...[]byte) func(c net.Conn) {
	return func(c net.Conn) {
		c.Write(bytes.Join(all, nil)) //nolint:errcheck // or danelaw is gone
		drain(c)
	}
}

// HTTP/2 frames (RFC 9113 sections 6.5 and 6.8).
var (
	settings  = []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	noStreams = []byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0}
	goAway    = []byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
)
