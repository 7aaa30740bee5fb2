package differential

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

// reply is a validator's reply.
type reply struct {
	rcode  int
	ad     bool
	answer []string // see comparable
	ede    string   // code and sentence of all Extended DNS Errors
	err    error
}

// String returns the verdict, which is what is compared.
func (r reply) String() string {
	switch {
	case r.err != nil:
		return "no reply"
	case r.ad:
		return dns.RcodeToString[r.rcode] + " AD"
	}
	return dns.RcodeToString[r.rcode]
}

// lost reports whether there is no verdict because something took too long on this machine.
func (r reply) lost() bool {
	return r.err != nil || strings.Contains(r.ede, "deadline") || strings.Contains(r.ede, "did not answer")
}

const patience = 20 * time.Second

// ask puts a question about a tree to the validator at addr, over TCP if the reply is truncated. Questions without DO
// have an OPT too, so that Extended DNS Errors come back.
func ask(addr, tree string, q Question) reply {
	query := new(dns.Msg).SetQuestion(under(tree, q.Name), q.Type)
	query.AuthenticatedData, query.CheckingDisabled = q.AD, q.CD
	query.SetEdns0(4096, q.DO)
	m, _, err := (&dns.Client{Timeout: patience, UDPSize: 4096}).Exchange(query, addr)
	if err == nil && m.Truncated {
		m, _, err = (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(query, addr)
	}
	if err != nil {
		return reply{err: err}
	}
	r := reply{rcode: m.Rcode, ad: m.AuthenticatedData, answer: comparable(tree, m.Answer)}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*dns.EDNS0_EDE); ok {
				r.ede += fmt.Sprintf("%d %s; ", ede.InfoCode, ede.ExtraText)
			}
		}
	}
	return r
}

// anchors are the trust anchors of all validators.
func anchors() trustanchors.Set {
	return trustanchors.Set{".": []*dns.DS{rootKey.DS(dns.SHA256)}}
}

var handlers atomic.Int64

// startDanelaw serves danelaw with its defaults on a port of 127.0.0.1.
func startDanelaw(t testing.TB, recursor string) string {
	t.Helper()
	to, err := upstream.Parse(recursor)
	if err != nil {
		t.Fatal(err)
	}
	config := danelaw.Defaults()
	config.Block = fmt.Sprint("differential ", handlers.Add(1)) // a cache of its own
	config.Anchors = anchors()
	config.Routes = []upstream.Route{{From: ".", To: []upstream.Address{to}}}
	h, err := danelaw.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return ports.Serve(t, dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		h.ServeDNS(context.Background(), w, r) //nolint:errcheck // it has written its reply
	}))
}

// run starts a server with a configuration file, waits until it answers, and ends it with the test.
func run(t testing.TB, port uint16, file, config string, command ...string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(config, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := exec.Command(command[0], append(command[1:], path)...)
	var log strings.Builder
	p.Stdout, p.Stderr = &log, &log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		p.Wait() //nolint:errcheck // it is killed
		close(ended)
	}()
	t.Cleanup(func() {
		p.Process.Kill() //nolint:errcheck // it may have ended
		<-ended
	})
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case <-ended:
			t.Fatalf("%v ended:\n%s", command, log.String())
		default:
		}
		if m, err := dns.Exchange(new(dns.Msg).SetQuestion(".", dns.TypeSOA), addr); err == nil &&
			m.Rcode == dns.RcodeSuccess {
			return addr
		}
	}
	t.Fatalf("%v does not answer:\n%s", command, log.String())
	return ""
}

// startUnbound runs Unbound. Where it has the option, it is set to danelaw's default (V-20, V-61), and it does not
// answer from proofs of earlier questions.
func startUnbound(t testing.TB, recursor string) string {
	port := uint16(ports.Closed(t))
	host, upstreamPort, _ := net.SplitHostPort(recursor)
	return run(t, port, "unbound.conf", fmt.Sprintf(`server:
	interface: 127.0.0.1@%d
	do-daemonize: no
	username: ""
	chroot: ""
	directory: "DIR"
	pidfile: ""
	use-syslog: no
	do-not-query-localhost: no
	num-threads: 1
	module-config: "validator iterator"
	trust-anchor: %q
	trust-anchor-signaling: no
	root-key-sentinel: no
	val-sig-skew-min: 300
	val-sig-skew-max: 300
	val-nsec3-keysize-iterations: "512 50 1024 50 2048 50 4096 50"
	val-bogus-ttl: 5
	val-max-restart: 1
	aggressive-nsec: no
	prefetch: no
	qname-minimisation: no
	use-caps-for-id: no
	harden-below-nxdomain: no
	harden-dnssec-stripped: yes
	harden-algo-downgrade: no
	minimal-responses: no
	outgoing-range: 2000
	num-queries-per-thread: 1000
	max-udp-size: 4096
	ede: yes
forward-zone:
	name: "."
	forward-addr: %s@%s
`, port, strings.ReplaceAll(rootKey.DS(dns.SHA256).String(), "\t", " "), host, upstreamPort), "unbound", "-d", "-c")
}

// startBIND runs BIND as a validating forwarder.
func startBIND(t testing.TB, recursor string) string {
	port := uint16(ports.Closed(t))
	host, upstreamPort, _ := net.SplitHostPort(recursor)
	return run(t, port, "named.conf", fmt.Sprintf(`options {
	directory "DIR"; pid-file none; session-keyfile none; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	forward only; forwarders { %s port %s; };
	dnssec-validation yes; empty-zones-enable no; servfail-ttl 0; synth-from-dnssec no; stale-answer-enable no;
	managed-keys-directory "DIR"; allow-query { any; };
};
controls { };
%s
`, port, host, upstreamPort, bindAnchors()), "named", "-g", "-c")
}

func bindAnchors() string {
	k := rootKey.DNSKEY
	return fmt.Sprintf("trust-anchors { . static-key %d %d %d %q; };\n", k.Flags, k.Protocol, k.Algorithm, k.PublicKey)
}

// askDelv returns the verdict of BIND's delv, as delv words it.
func askDelv(t testing.TB, recursor, tree string, q Question) string {
	host, port, _ := net.SplitHostPort(recursor)
	file := filepath.Join(t.TempDir(), "anchors")
	if err := os.WriteFile(file, []byte(bindAnchors()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("delv", "-a", file, "+root", "@"+host, "-p", port, under(tree, q.Name),
		typeName(q.Type)).CombinedOutput()
	var said []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, ";") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	return strings.Join(said, " | ")
}
