package policy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/world"
)

// internet is the DNS and the policy hosts that a Service sees. It implements Meter.
type internet struct {
	t     *testing.T
	clock *world.Clock
	ca    *certificates.Authority

	mu      sync.Mutex
	records map[string]mail.Reply       // by "NAME TYPE"; what is not there is a Secure denial
	hosts   map[string]http.HandlerFunc // by name
	certs   map[string]tls.Certificate  // by name, if it is not the host's own
	dialled []string
	fetched []mail.Result // "" for a success
	changes []string
	gone    []string // told as vanished
	back    []string // told as restored
	private bool
	server  string // its address; "": none yet
}

func newInternet(t *testing.T) *internet {
	return &internet{t: t, clock: world.NewClock(time.Now().Truncate(time.Second)), ca: certificates.New(t),
		records: map[string]mail.Reply{}, hosts: map[string]http.HandlerFunc{}, certs: map[string]tls.Certificate{}}
}

// has puts records there, of a status.
func (n *internet) has(status dnssec.Status, records ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			n.t.Fatal(err)
		}
		key := rr.Header().Name + " " + dns.Type(rr.Header().Rrtype).String()
		r := n.records[key]
		r.Status, r.Data, r.Answer = status, true, append(r.Answer, rr)
		n.records[key] = r
	}
}

// lacks takes what is at a name and type away; status is that of the answer from then on.
func (n *internet) lacks(key string, status dnssec.Status) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[key] = mail.Reply{Lookup: mail.Lookup{Status: status}}
}

func (n *internet) ask(_ context.Context, name string, qtype uint16) mail.Reply {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.records[name+" "+dns.Type(qtype).String()]
	if !ok {
		r.Status = dnssec.Secure
	}
	r.Name, r.Type = name, qtype
	return r
}

// announces puts a TXT record of MTA-STS there.
func (n *internet) announces(domain, id string) {
	n.mu.Lock()
	delete(n.records, "_mta-sts."+domain+" TXT")
	n.mu.Unlock()
	n.has(dnssec.Insecure, fmt.Sprintf(`_mta-sts.%s TXT "v=STSv1; id=%s"`, domain, id))
}

// serves has the policy host of a domain answer so from now on.
func (n *internet) serves(domain string, answer http.HandlerFunc) {
	n.mu.Lock()
	_, there := n.hosts["mta-sts."+domain]
	n.hosts["mta-sts."+domain] = answer
	n.mu.Unlock()
	if !there {
		n.has(dnssec.Insecure, "mta-sts."+domain+" A 9.9.9.9")
	}
}

// text answers with a file.
func text(file string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/mta-sts.txt" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, file)
	}
}

// file is a policy.
func file(mode string, age time.Duration, mx ...string) string {
	return fmt.Sprintf("version: STSv1\nmode: %s\nmx: %s\nmax_age: %d\n", mode, strings.Join(mx, "\nmx: "),
		int(age.Seconds()))
}

// sts has a domain announce and serve a policy.
func (n *internet) sts(domain, id, policy string) {
	n.announces(domain, id)
	n.serves(domain, text(policy))
}

// dial connects to a server for the one connection, which has the certificate of the name that it is asked for.
func (n *internet) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialled = append(n.dialled, address)
	if n.server == "" {
		n.server = n.start()
	}
	return net.Dial("tcp", n.server)
}

// start starts a server for all hosts.
func (n *internet) start() string {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		answer := n.hosts[r.Host+"."]
		n.mu.Unlock()
		if answer == nil {
			answer = http.NotFound
		}
		answer(w, r)
	}))
	s.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		c, ok := n.certs[hello.ServerName]
		if !ok {
			c = n.ca.Server(n.t, hello.ServerName, n.clock.Now().Add(time.Hour))
		}
		return &c, nil
	}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	n.t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func (n *internet) service(s *Store) *Service {
	return New(Config{Ask: n.ask, Private: func(string) bool { return n.private }, Clock: n.clock.Now, Meter: n,
		Roots: n.ca.Pool, Dial: n.dial}, s)
}

func (n *internet) Fetched(_ string, f *Failure) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var result mail.Result
	if f != nil {
		result = f.Result
	}
	n.fetched = append(n.fetched, result)
}

func (n *internet) Changed(domain string, old, now *mail.STSPolicy) {
	n.mu.Lock()
	defer n.mu.Unlock()
	was := mail.STSMode("nothing")
	if old != nil {
		was = old.Mode
	}
	n.changes = append(n.changes, fmt.Sprintf("%s %s %s", domain, was, now.Mode))
}

func (n *internet) Vanished(domain, _ string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = append(n.gone, domain)
}

func (n *internet) Restored(domain string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.back = append(n.back, domain)
}

func (n *internet) Panicked(p any) { n.t.Errorf("panic: %v", p) }

// fetches is how often a policy was fetched, or that was tried.
func (n *internet) fetches() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.fetched)
}

// level asks once.
func level(s *Service, domain string) string {
	a := s.Decide(context.Background(), domain)
	return strings.TrimSpace(string(a.Level) + " " + strings.Join(a.Match, ":"))
}

// insecure is a domain with one host, of a zone that is not signed.
func (n *internet) insecure(domain string, hosts ...string) {
	for _, h := range hosts {
		n.has(dnssec.Insecure, domain+" MX 10 "+h, h+" A 9.9.9.1")
	}
}
