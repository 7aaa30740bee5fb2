//go:build linux

package mta

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/test/certificates"
)

// The manners of policy hosts.
const (
	hostExpired   = "an expired certificate"
	hostRefuses   = "resets connections"
	hostRedirects = "redirects to where the policy is"
	hostTaken     = "mallory's policy, without a certificate that anybody trusts"
)

// silent is the address of a policy host that drops what comes: not even a connection is refused. Like all of policy
// hosts it is one of the internet, as danelaw fetches from no other.
const silent = "9.9.9.66"

func policyAddress(i int) string { return fmt.Sprintf("9.9.9.%d", 100+i) }

// announcing is the delivery with what announces the policy.
func (p promise) announcing(i int) delivery {
	d := p.delivery
	if p.policy != "" {
		d.text += "_mta-sts 1 TXT \"v=STSv1; id=first\"\nmta-sts 1 A " + policyAddress(i) + "\n"
	}
	return d
}

// policyHost is the host of a policy. It is a net.Listener that resets connections if that is its manner.
type policyHost struct {
	net.Listener
	promise
	s *stage
	// by manner; "" is the one that all trust
	certs map[string]*tls.Certificate
}

// servePolicies opens all policy hosts.
func (s *stage) servePolicies(t *testing.T) {
	t.Helper()
	for i, p := range promises {
		if p.policy != "" {
			s.servePolicy(t, p, policyAddress(i))
		}
	}
	drop(t, silent)
}

func (s *stage) servePolicy(t *testing.T, p promise, address string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "443"))
	if err != nil {
		t.Fatal(err)
	}
	name, end := "mta-sts."+p.domain, time.Now().Add(time.Hour)
	sound, expired := s.public.Server(t, name, end), s.public.Server(t, name, time.Now().Add(-time.Hour))
	own := certificates.New(t).Server(t, name, end)
	h := &policyHost{l, p, s, map[string]*tls.Certificate{"": &sound, hostExpired: &expired, hostTaken: &own}}
	server := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{GetCertificate: h.certificate}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.ServeTLS(h, "", "") //nolint:errcheck // it ends with Close
	}()
	t.Cleanup(func() {
		l.Close() //nolint:errcheck // ServeTLS may not have begun yet, then Close does not know it
		server.Close()
		<-ended
	})
}

// manner is that of now.
func (h *policyHost) manner() string {
	if h.turns != "" && h.s.network.attacked.Load() {
		return h.turns
	}
	return h.serves
}

func (h *policyHost) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := h.certs[h.manner()]; c != nil {
		return c, nil
	}
	return h.certs[""], nil
}

// Accept implements net.Listener.
func (h *policyHost) Accept() (net.Conn, error) {
	for {
		conn, err := h.Listener.Accept()
		if err != nil || h.manner() != hostRefuses {
			return conn, err
		}
		conn.(*net.TCPConn).SetLinger(0) //nolint:errcheck // it is closed all the same
		conn.Close()
	}
}

// ServeHTTP serves the policy.
func (h *policyHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const there = "/policy.txt"
	switch {
	case h.manner() == hostRedirects && r.URL.Path != there:
		http.Redirect(w, r, there, http.StatusFound)
		return
	case h.manner() != hostRedirects && r.URL.Path != "/.well-known/mta-sts.txt":
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	policy := padded(h.policy)
	if h.manner() == hostTaken {
		policy = enforced("mx.mallory.plain")
	}
	io.WriteString(w, policy) //nolint:errcheck // who has read enough goes
}

var padding = regexp.MustCompile(`\{PAD:(\d+)\}`)

// padded is a policy with as many octets as it is to have, the last of them in fields that nobody knows.
func padded(policy string) string {
	m := padding.FindStringSubmatch(policy)
	if m == nil {
		return policy
	}
	policy = padding.ReplaceAllString(policy, "")
	size, err := strconv.Atoi(m[1])
	if err != nil {
		panic(err) // a mistake in the table
	}
	const line = "unknown: 0123456789\n"
	policy += strings.Repeat(line, (size-len(policy))/len(line)-1)
	return policy + "unknown: " + strings.Repeat("x", size-len(policy)-len("unknown: \n")) + "\n"
}

// drop has an address drop what comes to port 443: its queue of connections is full, and nobody takes any out.
func drop(t *testing.T, address string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) }) //nolint:errcheck // the test has ended
	at := &syscall.SockaddrInet4{Port: 443, Addr: [4]byte(net.ParseIP(address).To4())}
	if err := errors.Join(syscall.Bind(fd, at), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "443"), 200*time.Millisecond)
		if err != nil {
			return // it is full
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatalf("%s takes all connections", address)
}
