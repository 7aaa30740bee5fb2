package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// piped is a Prober whose connections a peer talks on.
func piped(t *testing.T, talk func(net.Conn)) *Prober {
	return &Prober{Timeout: patience, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		go func() { defer there.Close(); talk(there) }()
		return here, nil
	}}
}

// TestGreetings: greetings as hosts write them, a code alone among them.
func TestGreetings(t *testing.T) {
	c := certificate(t, newECDSA(t), time.Now().Add(time.Hour))
	for greeting, want := range map[string]string{
		"220\r\n": "", "220 \r\n": "", "220 mx.example\n": "mx.example",
		"220-mx.example\r\n220-be patient\r\n220\r\n": `mx.example\nbe patient\n`,
		"220-\r\n220 mx\x1b[31m\r\n":                  `\nmx\u001b[31m`, "220 " + strings.Repeat("x", 3000) +
			"\r\n": strings.Repeat("x", 197) + "...",
	} {
		p := piped(t, func(conn net.Conn) {
			in := bufio.NewReader(conn)
			for _, line := range []string{greeting, "250-mx\r\n250-SIZE\r\n250-starttls\r\n250\r\n"} {
				io.WriteString(conn, line) //nolint:errcheck // the prober tells
				in.ReadString('\n')        //nolint:errcheck // as above
			}
			//nolint:errcheck // as above
			io.WriteString(conn, "220\r\n")
			//nolint:errcheck // as above
			tls.Server(&peeked{conn, in}, &tls.Config{Certificates: []tls.Certificate{c}}).Handshake()
		})
		r := p.Probe(t.Context(), Target{Address: netip.MustParseAddrPort("192.0.2.25:25"), Base: "mx.example.",
			Usable: []*dns.TLSA{record(t, c)}})
		if r.Failure != nil || r.Record == nil || r.Greeting != want {
			t.Errorf("%.40q: greeting %q, want %q: %v", greeting, r.Greeting, want, r.Failure)
		}
	}
}

// TestInjected: what comes in clear after STARTTLS is taken for nothing that TLS has said, at once or later
// (CVE-2011-0411).
func TestInjected(t *testing.T) {
	for _, junk := range []string{"250-mx\r\n250 STARTTLS\r\n", "\x15\x03\x03\x00\x02\x01\x00", "x"} {
		at := starttls(t, func(conn net.Conn) {
			time.Sleep(20 * time.Millisecond)
			io.WriteString(conn, junk) //nolint:errcheck // the prober tells
		})
		if r := probe(t, Target{Address: at}); r.Failure == nil || r.Failure.Kind != Handshake || len(r.Chain) != 0 {
			t.Errorf("%q: %+v, %v", junk, r, r.Failure)
		}
	}
}

// TestImplicitTLS: port 465 begins with TLS; who speaks in plain there is told so soon.
func TestImplicitTLS(t *testing.T) {
	c := certificate(t, newECDSA(t), time.Now().Add(time.Hour))
	to := Target{Address: netip.MustParseAddrPort("192.0.2.25:465"), Base: "mx.example.",
		Usable: []*dns.TLSA{record(t, c)}}
	secured := func(says string) *Prober {
		return piped(t, func(conn net.Conn) {
			s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c}})
			io.WriteString(s, says)                   //nolint:errcheck // the prober tells
			io.Copy(io.Discard, io.LimitReader(s, 6)) //nolint:errcheck // QUIT
		})
	}
	begun := time.Now()
	r := secured("220 mx.example\r\n").Probe(t.Context(), to)
	if r.Failure == nil || r.Failure.Kind != Unspoken || !strings.Contains(r.Failure.Error(), "--implicit-tls") ||
		time.Since(begun) > patience/2 {
		t.Errorf("in plain: %+v, %v", r, r.Failure)
	}
	for says, kind := range map[string]Kind{"220 mx.example\r\n": "", "220\r\n": "", "554 no\r\n": Protocol} {
		p := secured(says)
		p.Implicit = true
		r := p.Probe(t.Context(), to)
		if kind == "" && (r.Failure != nil || r.Record == nil || r.Version != tls.VersionTLS13) {
			t.Errorf("%q: %+v, %v", says, r, r.Failure)
		}
		if kind != "" && (r.Failure == nil || r.Failure.Kind != kind) {
			t.Errorf("%q: %+v, %v", says, r, r.Failure)
		}
	}
}
