package differential

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/unbound"
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

// startUnbound runs Unbound. Where it has the option, it is set to danelaw's default (V-20, V-61), and it does not
// answer from proofs of earlier questions.
func startUnbound(t testing.TB, recursor string) string {
	return unbound.Start(t, recursor, rootKey.DS(dns.SHA256), strings.Split(`num-threads: 1
module-config: "validator iterator"
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
ede: yes`, "\n")...)
}

// startBIND runs BIND as a validating forwarder, waits until it answers, and ends it with the test.
func startBIND(t testing.TB, recursor string) string {
	t.Helper()
	dir, port := t.TempDir(), ports.Closed(t)
	host, upstreamPort, _ := net.SplitHostPort(recursor)
	path := filepath.Join(dir, "named.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, `options {
	directory %q; pid-file none; session-keyfile none; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	forward only; forwarders { %s port %s; };
	dnssec-validation yes; empty-zones-enable no; servfail-ttl 0; synth-from-dnssec no; stale-answer-enable no;
	managed-keys-directory %q; allow-query { any; };
};
controls { };
%s
`, dir, port, host, upstreamPort, dir, bindAnchors()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := exec.Command("named", "-g", "-c", path)
	var log observe.Output
	p.Stdout, p.Stderr = &log, &log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill() //nolint:errcheck // it may have ended
		p.Wait()         //nolint:errcheck // it is killed
	})
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if m, err := dns.Exchange(new(dns.Msg).SetQuestion(".", dns.TypeSOA), addr); err == nil &&
			m.Rcode == dns.RcodeSuccess {
			return addr
		}
	}
	t.Fatalf("BIND does not answer:\n%s", &log)
	return ""
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
