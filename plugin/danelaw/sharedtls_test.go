package danelaw

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// overTLS starts a redis on a port of 127.0.0.1 that speaks TLS alone, with a certificate of an authority's.
func overTLS(t *testing.T, ca *certificates.Authority) (r *aRedis, at string) {
	t.Helper()
	r = &aRedis{t: t, dir: t.TempDir()}
	cert, key := ca.Issue(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour)})
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: cert.Raw}, "key": {Type: "PRIVATE KEY", Bytes: private},
		"ca": {Type: "CERTIFICATE", Bytes: ca.Certificate.Raw},
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := fmt.Sprint(ports.Closed(t))
	r.more = []string{"--bind", "127.0.0.1", "--tls-port", port, "--tls-cert-file", filepath.Join(r.dir, "cert"),
		"--tls-key-file", filepath.Join(r.dir, "key"), "--tls-ca-cert-file", filepath.Join(r.dir, "ca"),
		"--tls-auth-clients", "no"}
	r.start()
	t.Cleanup(r.stop)
	return r, net.JoinHostPort("127.0.0.1", port)
}

// TestSharedCacheOverTLS: a redis over TLS is shared if its certificate is good for its address and a password comes
// from the file that the Corefile names, or else from the credentials of systemd, and from nowhere else. In all other
// cases it costs time and a line in the log, and no answer is another (C-18).
func TestSharedCacheOverTLS(t *testing.T) {
	needs.Tools(t, "redis-server")
	ca, another := certificates.New(t), certificates.New(t)
	r, at := overTLS(t, ca)
	write := func(name, text string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	right, wrong := write("password", redisPassword+"\n")+"/password", write("password", "another")+"/password"
	handed, other := write(credential, redisPassword), write("redis", redisPassword)
	for what, c := range map[string]struct {
		credentials string // their directory
		file        string // of the password
		scheme      string
		authorities *x509.CertPool // nil: those of the system
		failure     string         // in the log; "" if it works
	}{
		"a file":                      {"", right, "rediss", ca.Pool, ""},
		"a credential":                {handed, "", "rediss", ca.Pool, ""},
		"a file beside a credential":  {write(credential, "another"), right, "rediss", ca.Pool, ""},
		"another authority":           {"", right, "rediss", another.Pool, "unknown authority"},
		"the authorities of a system": {handed, "", "rediss", nil, "unknown authority"},
		"no password":                 {"", "", "rediss", ca.Pool, "NOAUTH"},
		"a credential of another":     {other, "", "rediss", ca.Pool, "NOAUTH"},
		"a wrong password":            {handed, wrong, "rediss", ca.Pool, "WRONGPASS"},
		"no TLS":                      {"", right, "redis", nil, "does not answer"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", c.credentials)
			t.Setenv("REDISCLI_AUTH", redisPassword) // which is for others
			s, err := read(t, fmt.Sprintf("shared_cache %s://%s %s", c.scheme, at, c.file))
			if err != nil {
				t.Fatal(err)
			}
			if over := s.config.SharedCache.options.TLSConfig; over != nil {
				over.RootCAs = c.authorities
			}
			if book := logged(t); c.failure == "" {
				isShared(t, r, s.config.SharedCache)
			} else {
				notShared(t, r, s.config.SharedCache, book, c.failure)
			}
		})
	}
}

// askSecure asks for what is Secure in the lab.
func askSecure(t *testing.T, h *Handler) {
	t.Helper()
	for _, q := range []dns.Question{
		dnssec.Question("good.dane.", dns.TypeMX), dnssec.Question("mx1.good.dane.", dns.TypeA),
		dnssec.Question("_25._tcp.mx1.good.dane.", dns.TypeTLSA), dnssec.Question("two-certificates.dane.", dns.TypeMX),
		dnssec.Question("dane-ta.dane.", dns.TypeMX), dnssec.Question("mx.dane-ta.dane.", dns.TypeA),
	} {
		if a := h.Resolver().Resolve(t.Context(), q); a.Status != dnssec.Secure {
			t.Errorf("%s %s: %v", q.Name, dns.Type(q.Qtype), a.Status)
		}
	}
}

// isShared wants what one danelaw has found out to be found in a redis by another.
func isShared(t *testing.T, r *aRedis, shared *SharedCache) {
	t.Helper()
	r.client().FlushAll(t.Context())
	eventually(t, "a record of another's", func() bool {
		c := config(t)
		c.SharedCache = shared
		h := must(New(c))
		defer h.Close()
		askSecure(t, h)
		if metric(t, "shared_cache_total", "block", c.Block, "op", "find", "result", "found") > 0 {
			return true
		}
		eventually(t, "something to be kept, or not", func() bool {
			return metric(t, "shared_cache_total", "block", c.Block, "op", "keep") > 0
		})
		return false
	})
}

// notShared wants nothing to come from a redis, nor to be put there; a line of the log says so, and a metric. It says
// why, unless no look has come to the reason within its 20 ms: then it is tried again.
func notShared(t *testing.T, r *aRedis, shared *SharedCache, book *observe.Output, why string) {
	t.Helper()
	r.client().FlushAll(t.Context())
	line := "shared_cache " + shared.url + " does not answer, upstreams are asked instead: "
	tries := 0
	eventually(t, "the log to tell "+why, func() bool {
		tries++
		c := config(t)
		c.SharedCache = shared
		h := must(New(c))
		defer h.Close()
		process.begin(h)
		askSecure(t, h)
		eventually(t, "it to be left alone", func() bool { return strings.Count(book.String(), line) == tries })
		if up := metric(t, "shared_cache_up", "block", c.Block); up != 0 {
			t.Errorf("the metric says %v", up)
		}
		for _, result := range []string{"found", "absent", "kept"} {
			if n := metric(t, "shared_cache_total", "block", c.Block, "result", result); n > 0 {
				t.Errorf("%v %s", n, result)
			}
		}
		return strings.Contains(book.String(), why)
	})
	if strings.Contains(book.String(), redisPassword) {
		t.Errorf("the password is in the log:\n%s", book)
	}
	if keys := r.client().Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("%v are there", keys)
	}
}
