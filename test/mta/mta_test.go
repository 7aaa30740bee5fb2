//go:build linux

package mta

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/namespace"
)

const (
	hostname = "mail.sender.dane"
	sender   = "sender@localhost" // who gets the bounces
	// patience is how long all attempts together may take on a busy machine.
	patience = 3 * time.Minute
	// atOnce is how many messages are sent at the same time. With more of them, programs give up on a busy machine.
	atOnce = 40
)

func recipient(domain string) string { return "postmaster@" + domain }

// outcome is what became of a message, as the MTA says.
type outcome struct {
	status string // sent, deferred or bounced
	level  string // of TLS, if it was sent: Verified, Trusted, Untrusted; "" for clear
	reason string // as it stands in the log
	queued bool   // it is in the queue
}

// enqueue notes that the message to an address is in the queue.
func enqueue(all map[string]outcome, address string) {
	_, domain, _ := strings.Cut(address, "@")
	if o, ok := all[domain]; ok {
		o.queued = true
		all[domain] = o
	}
}

// transferAgent is an MTA in a root directory of its own.
type transferAgent interface {
	name() string
	install(t *testing.T)
	start(t *testing.T) // with an empty queue, and without memory of hosts
	stop(t *testing.T)
	send(domain string) error
	attempted(t *testing.T, n int) map[string]outcome // by domain, once n messages have been tried
	write(t *testing.T, file, text string)            // in its root
}

// TestMTAs sends a message to each domain. First danelaw's cache is empty and there are attackers; then all is cached;
// then the attackers come only after all has been cached. To show that the settings are needed and the attacks are
// real, it also sends messages without trust-ad, and at last with a resolver that does not validate.
func TestMTAs(t *testing.T) {
	suite.Needs(t)
	s := open(t, deliveries)
	for i, m := range []transferAgent{postfix{newRoot(t, "postfix")}, exim{newRoot(t, "exim4-daemon-light")}} {
		t.Run(m.name(), func(t *testing.T) {
			m.install(t)
			t.Run("danelaw", func(t *testing.T) {
				s.runDanelaw(t)
				s.network.attacked.Store(true)
				t.Run("cold", func(t *testing.T) {
					got := s.deliver(t, m, deliveries)
					s.judge(t, got, i, delivery.wanted)
					s.compare(t, m, got, s.check(t))
				})
				t.Run("warm", func(t *testing.T) { s.judge(t, s.deliver(t, m, deliveries), i, delivery.wanted) })
			})
			t.Run("surprised", func(t *testing.T) {
				s.runDanelaw(t)
				s.network.attacked.Store(false)
				warm()
				s.network.attacked.Store(true)
				s.judge(t, s.deliver(t, m, deliveries), i, delivery.wantedSurprised)
			})
			t.Run("without trust-ad", func(t *testing.T) {
				s.runDanelaw(t)
				m.write(t, "etc/resolv.conf", "nameserver 127.0.0.1\n")
				defer m.write(t, "etc/resolv.conf", resolvConf(t))
				s.judgeWithoutTrustAD(t, m, i)
			})
			t.Run("without validation", func(t *testing.T) {
				s.runForwarder(t)
				s.network.attacked.Store(true)
				s.judgeLoot(t, s.deliver(t, m, deliveries))
			})
		})
	}
}

// newRoot completes the root of an MTA: users, devices, and the resolver.
func newRoot(t *testing.T, name string) root {
	t.Helper()
	r := root(suite.Dir(name))
	for _, file := range []string{"passwd", "group"} {
		r.must(t, "cp", "/usr/share/base-passwd/"+file+".master", "/etc/"+file)
	}
	for i, user := range []string{"sender", "postfix", "Debian-exim"} {
		r.must(t, "sh", "-c", fmt.Sprintf("echo %s:x:%d:%d::/:/bin/sh >>/etc/passwd; echo %[1]s:x:%[3]d: >>/etc/group",
			user, 1000+i, 1000+i))
	}
	r.must(t, "sh", "-c", "echo postdrop:x:2000: >>/etc/group; echo "+hostname+" >/etc/mailname")
	r.write(t, "etc/nsswitch.conf", "hosts: files dns\n")
	r.write(t, "etc/hosts", "127.0.0.1 localhost\n127.0.1.1 "+hostname+"\n")
	r.write(t, "etc/resolv.conf", resolvConf(t))
	for _, d := range []string{"dev", "proc"} {
		mount(t, "/"+d, filepath.Join(string(r), d))
	}
	return r
}

// resolvConf returns the file that makes danelaw the host's resolver.
func resolvConf(t *testing.T) string {
	t.Helper()
	return strings.Join(recommended(t, "resolv.conf"), "\n") + "\n"
}

// write writes a file in a root.
func (r root) write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(string(r), file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// runDanelaw starts danelaw with an empty cache, and with further options.
func (s *stage) runDanelaw(t *testing.T, options ...string) {
	t.Helper()
	conf := suite.Dir("Corefile")
	text := fmt.Sprintf(".:53 {\n bind 127.0.0.1\n errors\n danelaw {\n  upstream . %s\n  trust_anchor %s\n  control "+
		"off\n  %s\n }\n}\n", upstream, s.anchor, strings.Join(options, "\n  "))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	namespace.Start(t, "danelaw", suite.Dir(), "env", "SSL_CERT_FILE="+s.authorities, suite.Danelaw(), "-conf", conf)
	await(t)
}

// runForwarder starts a resolver that validates nothing.
func (s *stage) runForwarder(t *testing.T) {
	t.Helper()
	namespace.Start(t, "dnsmasq", suite.Dir(), "dnsmasq", "-k", "-C", "/dev/null", "--no-resolv",
		"--no-hosts", "--user=root",
		"--bind-interfaces", "--log-facility=-", "--pid-file=", "--listen-address=127.0.0.1", "--server="+upstream)
	await(t)
}

// await waits for the resolver.
func await(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if m, err := ask(".", dns.TypeNS); err == nil && m.Rcode == dns.RcodeSuccess {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the resolver does not answer")
		}
	}
}

// ask puts a question to the resolver.
func ask(name string, qtype uint16) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(name, qtype)
	query.SetEdns0(1232, true)
	m, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(query, net.JoinHostPort("127.0.0.1", "53"))
	return m, err
}

// warm fills the cache with what an MTA asks. It ignores errors: the MTA will see them too.
func warm() {
	var all sync.WaitGroup
	for _, d := range deliveries {
		all.Go(func() {
			domain := dns.Fqdn(d.domain)
			ask(domain, dns.TypeMX) //nolint:errcheck // see above
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				ask("mx."+domain, qtype) //nolint:errcheck // see above
			}
			ask("_25._tcp.mx."+domain, dns.TypeTLSA) //nolint:errcheck // see above
		})
	}
	all.Wait()
}

// deliver sends a message to each of some domains, and returns the outcomes. Domains whose mail goes to another
// domain's host come last: Exim passes over a host that has just failed, and the host's own domain has to be tried
// before.
func (s *stage) deliver(t *testing.T, m transferAgent, to []delivery) map[string]outcome {
	t.Helper()
	s.receivers.forget()
	m.start(t)
	defer m.stop(t)
	borrows := func(d delivery) bool { return d.by != "" }
	sendAll(t, m, slices.DeleteFunc(slices.Clone(to), borrows))
	sendAll(t, m, slices.DeleteFunc(slices.Clone(to), func(d delivery) bool { return !borrows(d) }))
	return m.attempted(t, len(to))
}

// sendAll sends a message to each of some domains, several at once.
func sendAll(t *testing.T, m transferAgent, to []delivery) {
	t.Helper()
	errs := make([]error, len(to))
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, d := range to {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = m.send(d.domain)
			<-slots
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}
