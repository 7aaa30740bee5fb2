package danelaw

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/test/certificates"
)

// asked counts the questions that come to a resolver.
type asked struct {
	resolver
	n *atomic.Int64
}

func (a asked) Resolve(ctx context.Context, q dns.Question) *resolve.Answer {
	a.n.Add(1)
	return a.resolver.Resolve(ctx, q)
}

// What is cached is written as it is kept where CoreDNS hands the query on, unless a plugin wants to see the message.
func TestHitsAreWritten(t *testing.T) {
	certificate, key := pemFiles(t)
	secret := "tsig {\n secret key. NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk=\n}"
	for name, row := range map[string]struct {
		key, options, others string
		message              bool // there has to be one
	}{
		"fastpath off":         {".:0", "fastpath off", "", false},
		"errors, prometheus":   {".:0", "fastpath off", "errors\nprometheus 127.0.0.1:0", false},
		"log of another zone":  {".:0", "", "log elsewhere", false},
		"log":                  {".:0", "", "log\nprometheus 127.0.0.1:0", true},
		"CoreDNS reads":        {".:0", "", "proxyproto {\n allow 192.0.2.0/24\n}", false},
		"beside TSIG":          {".:0", "", secret, false},
		"over TLS":             {"tls://.:0", "", "tls " + certificate + " " + key, false},
		"a plugin of that way": {".:0", "", "whole", true},
	} {
		t.Run(name, func(t *testing.T) {
			n := new(atomic.Int64)
			begun = func() {
				for _, h := range process.newest() {
					h.resolver = asked{h.resolver, n}
				}
			}
			c := startCoreDNS(t, blockOf(row.key, optionsFor(t, lab().Addr(), row.options), row.others+"\nbegun"))
			ask := func(m *dns.Msg) {
				client := &dns.Client{Net: "tcp", Timeout: patience}
				if row.key != ".:0" {
					client.Net = "tcp-tls"
					client.TLSConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // its name does not matter
				} else {
					exchange(t, "udp", c.udp, m)
				}
				if r, _, err := client.Exchange(m, c.tcp); err != nil || !r.AuthenticatedData || len(r.Answer) == 0 {
					t.Errorf("%v, %v", r, err)
				}
			}
			ask(newMsg("good.dane.", dns.TypeMX, withDO))
			before := n.Load()
			ask(newMsg("good.DANE.", dns.TypeMX, withDO))
			if came := n.Load() > before; came != row.message {
				t.Errorf("a message is made: %v", came)
			}
		})
	}
}

// Octets are written to no writer that would lose them, or that has to see the message.
func TestRoutes(t *testing.T) {
	socket := func(decorate dns.DecorateWriter) dns.ResponseWriter {
		writers := make(chan dns.ResponseWriter, 1)
		server := &dns.Server{DecorateWriter: decorate, Listener: must(net.Listen("tcp", "127.0.0.1:0")),
			Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
				w.WriteMsg(new(dns.Msg).SetReply(r)) //nolint:errcheck // the client tells
				writers <- w
			})}
		go server.ActivateAndServe()                  //nolint:errcheck // the client tells
		t.Cleanup(func() { server.Listener.Close() }) // it ends with that
		exchange(t, "tcp", server.Listener.Addr().String(), newMsg("good.dane.", dns.TypeMX))
		return <-writers
	}
	plain := socket(nil)
	decorated := socket(func(w dns.Writer) dns.Writer { return struct{ dns.Writer }{w} })
	scrub := func(w dns.ResponseWriter) dns.ResponseWriter { return request.NewScrubWriter(new(dns.Msg), w) }
	behind := func(w dns.ResponseWriter) (inner dns.ResponseWriter) {
		next := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
			inner = w
			return 0, nil
		})
		plugin.NextOrFailure("", next, t.Context(), w, nil) //nolint:errcheck // it returns nil
		return inner
	}
	recorder := metrics.NewRecorder(scrub(plain))
	for name, row := range map[string]struct {
		w        dns.ResponseWriter
		ok       bool
		recorder *metrics.Recorder
	}{
		"a socket":              {scrub(plain), true, nil},
		"behind a plugin":       {behind(scrub(plain)), true, nil},
		"behind two, counted":   {behind(behind(recorder)), true, recorder},
		"not made to fit":       {plain, false, nil},
		"decorated":             {scrub(decorated), false, nil},
		"of another request":    {scrub(nonwriter.New(plain)), false, nil},
		"recorded for the log":  {behind(dnstest.NewRecorder(scrub(plain))), false, nil},
		"and counted":           {behind(dnstest.NewRecorder(behind(recorder))), false, nil},
		"danelaw's, of a miss":  {&measured{ResponseWriter: scrub(plain)}, false, nil},
		"one that is not known": {behind(messages{scrub(plain)}), false, nil},
	} {
		if r, ok := routeOf(row.w); ok != row.ok || ok && r.recorder != row.recorder {
			t.Errorf("%s: %v %v", name, ok, r)
		}
	}
}

// pemFiles are those of a certificate.
func pemFiles(t *testing.T) (certificate, key string) {
	t.Helper()
	of := certificates.New(t).Server(t, "danelaw.example", time.Now().Add(time.Hour))
	file := func(name, kind string, octets []byte) string {
		name = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: octets}), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	return file("cert.pem", "CERTIFICATE", of.Certificate[0]),
		file("key.pem", "EC PRIVATE KEY", must(x509.MarshalECPrivateKey(of.PrivateKey.(*ecdsa.PrivateKey))))
}
