//go:build linux

package mta

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/namespace"
	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/test/world"
)

// primary is a nameserver that signs a zone and takes updates of its TLSA records.
type primary struct {
	name, domain, address string
	key                   func(t *testing.T) string // makes the key for updates, in the server's form
	configure             func(p primary, dir, key string) (config string, run []string)
}

// renewed is the address of the mail host whose certificate is renewed.
const renewed = "192.0.2.250"

// renewedTTL is the TTL of the TLSA records, in seconds: as long as the test has to wait.
const renewedTTL = 4

var primaries = []primary{
	{"BIND", "renewed-bind.dane", "198.51.100.1",
		func(t *testing.T) string { return output(t, "tsig-keygen", "tlsa-hook") },
		func(p primary, dir, key string) (string, []string) {
			return fmt.Sprintf(`include %q;
options {
	directory %q; pid-file none; session-keyfile none;
	listen-on port 53 { %s; }; listen-on-v6 { none; };
	recursion no; notify no; dnssec-validation no;
};
controls { };
zone %q {
	type primary; file "zone"; dnssec-policy default;
	update-policy { grant tlsa-hook name _25._tcp.mx.%[4]s TLSA; };
};
`, key, dir, p.address, p.domain), []string{"named", "-g", "-n", "1", "-c"}
		}},
	{"Knot", "renewed-knot.dane", "198.51.100.2",
		func(t *testing.T) string { return output(t, "keymgr", "-t", "tlsa-hook") },
		func(p primary, dir, key string) (string, []string) {
			return fmt.Sprintf(`include: %q
server:
  listen: %s@53
  rundir: %q
  user: root
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
  - target: stderr
    any: warning
database:
  storage: %[3]q
acl:
  - id: tlsa-hook
    key: tlsa-hook
    action: update
    update-type: TLSA
    update-owner: name
    update-owner-match: equal
    update-owner-name: _25._tcp.mx.%[4]s.
zone:
  - domain: %[4]q
    storage: %[3]q
    file: zone
    dnssec-signing: on
    acl: tlsa-hook
`, key, p.address, dir, p.domain), []string{"knotd", "-c"}
		}},
}

// output runs a program and returns what it prints.
func output(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

// TestRenewal: while a Postfix that receives has its certificate renewed, with BIND and with Knot as the primary of its
// zone, a Postfix that sends with DANE is content after each step, whatever is in the cache of its danelaw; also when
// the hook is killed on the way. With a certificate that comes into use at once its mail is deferred.
func TestRenewal(t *testing.T) {
	suite.Needs(t)
	sender := postfix{newRoot(t, "postfix")}
	host := newReceiver(t)
	sender.install(t)
	sender.must(t, "postconf", "-e", "smtp_tls_session_cache_database =")
	for _, p := range primaries {
		t.Run(p.name, func(t *testing.T) {
			r := &renewal{primary: p, host: host, sender: sender, authority: certificates.New(t),
				dir: filepath.Join(host.path(), "var/lib/danelaw-tlsa/mx."+p.domain)}
			first, second := r.pair(t), r.pair(t)
			r.serve(t, first)
			host.show(t, first)
			r.must(t, 0, append([]string{"--stay"}, first.files...)...)
			host.read(t, r.current())
			r.sender.start(t)
			defer r.sender.stop(t)
			r.delivers(t, "before")
			r.killed(t, second)
			states := r.finish(t, second)
			if !strings.Contains(states, "held back until") || !strings.Contains(states, "old records stay until") {
				t.Errorf("not all states were seen:\n%s", states)
			}
			r.published(t, second)
			host.use(t, r.pair(t))
			host.read(t, ownFile)
			if o := attempt(t, r.sender, p.domain, ""); o.status != "deferred" {
				t.Errorf("a certificate without a record: %+v", o)
			}
		})
	}
}

// renewal is the renewal of the certificate of one domain's mail host.
type renewal struct {
	primary   primary
	host      receiving
	sender    postfix
	authority *certificates.Authority
	dir       string // the hook's
	key       string // file with the key for updates
}

// current is where the receiver finds the certificate in use, in its root.
func (r *renewal) current() string {
	return "var/lib/danelaw-tlsa/mx." + r.primary.domain + "/current/both.pem"
}

// renewedPair is a certificate with its key, in files as clients of authorities write them.
type renewedPair struct {
	files  []string
	both   string
	record string // RDATA
}

func (r *renewal) pair(t *testing.T) renewedPair {
	t.Helper()
	chain := r.authority.Server(t, "mx."+r.primary.domain, time.Now().Add(time.Hour))
	leaf, err := x509.ParseCertificate(chain.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(chain.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem")}
	if err := errors.Join(os.WriteFile(files[0], []byte(text), 0o644), os.WriteFile(files[1], []byte(key),
		0o600)); err != nil {
		t.Fatal(err)
	}
	return renewedPair{files, key + text, tlsa(3, leaf)}
}

// serve starts the primary, with the record of a certificate, a recursor for the resolver, and danelaw.
func (r *renewal) serve(t *testing.T, first renewedPair) {
	t.Helper()
	p := r.primary
	dir := suite.Dir("primary", p.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("zone", fmt.Sprintf("$ORIGIN %s.\n$TTL 60\n@ SOA ns hostmaster 1 7200 3600 86400 60\n@ NS ns\nns A %s\n@ "+
		"MX 10 mx\nmx A %s\n_25._tcp.mx %d TLSA %s\n", p.domain, p.address, renewed, renewedTTL, first.record))
	r.key = write("tlsa.key", p.key(t))
	config, run := p.configure(p, dir, r.key)
	namespace.Start(t, run[0], dir, append(run, write("server.conf", config))...)
	s := &stage{anchor: suite.Dir("renewal.ds")}
	tree := world.New(time.Now, world.Zone("."), world.Zone("dane.",
		fmt.Sprintf("%s NS ns.%[1]s\nns.%[1]s A %s\n%s", p.label(), p.address, r.delegation(t))))
	world.Serve(t, upstream+":53", func(q dns.Question, do bool) *dns.Msg {
		recursor := tree.Recursor() // without a cache: danelaw's is the one that counts
		recursor.Servers[p.domain+"."] = p.server
		return recursor.Answer(q, do)
	})
	if err := os.WriteFile(s.anchor, []byte(tree.DS(".")[0].String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.runDanelaw(t)
}

func (p primary) label() string { return strings.TrimSuffix(p.domain, ".dane") }

// server asks the primary, for a recursor.
func (p primary) server(q dns.Question) *dns.Msg {
	query := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(4096, true)
	query.RecursionDesired = false
	m, _, err := (&dns.Client{Net: "tcp", Timeout: 10 * time.Second}).Exchange(query, net.JoinHostPort(p.address, "53"))
	if err != nil {
		return nil
	}
	m.Extra = nil
	return m
}

// delegation waits until the primary has signed its zone, and returns the DS for its keys.
func (r *renewal) delegation(t *testing.T) (records string) {
	t.Helper()
	signed := func() bool {
		m := r.primary.server(dns.Question{Name: "_25._tcp.mx." + r.primary.domain + ".", Qtype: dns.TypeTLSA})
		return m != nil && len(m.Answer) == 2
	}
	for deadline := time.Now().Add(patience); !signed(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not sign its zone", r.primary.name)
		}
	}
	for _, rr := range r.primary.server(dns.Question{Name: r.primary.domain + ".", Qtype: dns.TypeDNSKEY}).Answer {
		if k, ok := rr.(*dns.DNSKEY); ok && k.Flags&dns.SEP != 0 {
			ds := k.ToDS(dns.SHA256)
			records += fmt.Sprintf("%s DS %d %d %d %s\n", r.primary.label(), ds.KeyTag, ds.Algorithm, ds.DigestType,
				ds.Digest)
		}
	}
	return records
}

// hook is the hook's command.
func (r *renewal) hook(more ...string) *exec.Cmd {
	c := exec.Command(suite.Danelaw(), append([]string{"tlsa", "hook", "--conf", suite.Dir("Corefile"), "--host",
		"mx." + r.primary.domain, "--dir", r.dir, "--primary", r.primary.address, "--tsig", r.key, "--margin", "3s",
		"--reload",
		"chroot " + r.host.path() + " sh -c 'postfix reload >/dev/null 2>&1'"}, more...)...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	return c
}

// must runs the hook to its end.
func (r *renewal) must(t *testing.T, code int, more ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := r.hook(more...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { c.Process.Kill() }) //nolint:errcheck // it has ended
	defer stop()
	c.Wait() //nolint:errcheck // the exit code tells
	if got := c.ProcessState.ExitCode(); got != code && !(code < 0 && (got == 0 || got == 3)) {
		t.Fatalf("the hook's exit code is %d\n%s", got, &out)
	}
	return fmt.Sprintf("%s(%d)\n", &out, c.ProcessState.ExitCode())
}

// killed begins a renewal and kills the hook while it waits.
func (r *renewal) killed(t *testing.T, next renewedPair) {
	t.Helper()
	c, out := r.hook(append([]string{"--stay"}, next.files...)...), new(observe.Output)
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(out.String(), "held back until"); {
		if time.Now().After(deadline) {
			c.Process.Kill() //nolint:errcheck // the test has failed
			t.Fatalf("the hook does not wait: %s", out)
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.Process.Kill() //nolint:errcheck // it waits
	c.Wait()         //nolint:errcheck // it was killed
	r.delivers(t, "killed")
}

// finish runs the hook until all is done, as a timer does, with a delivery after each run. It returns what it said.
func (r *renewal) finish(t *testing.T, next renewedPair) (said string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		out := r.must(t, -1)
		said += out
		r.delivers(t, out)
		if strings.HasSuffix(out, "(0)\n") {
			return said
		}
		if time.Now().After(deadline) {
			t.Fatalf("the renewal does not end: %s", said)
		}
	}
}

// delivers sends a message, which must arrive with DANE.
func (r *renewal) delivers(t *testing.T, when string) {
	t.Helper()
	if o := attempt(t, r.sender, r.primary.domain, ""); o.status != "sent" || o.level != "Verified" {
		t.Errorf("%s: %+v", when, o)
	}
}

// published wants the record of one certificate, and no other.
func (r *renewal) published(t *testing.T, of renewedPair) {
	t.Helper()
	m := r.primary.server(dns.Question{Name: "_25._tcp.mx." + r.primary.domain + ".", Qtype: dns.TypeTLSA})
	var records []string
	for _, rr := range m.Answer {
		if _, ok := rr.(*dns.TLSA); ok {
			records = append(records, strings.ToLower(strings.TrimPrefix(rr.String(), rr.Header().String())))
		}
	}
	if len(records) != 1 || records[0] != of.record {
		t.Errorf("%v are published, want %s", records, of.record)
	}
}

// receiving is a Postfix that receives.
type receiving struct{ postfix }

// newReceiver makes the root of a second Postfix beside the one that sends.
func newReceiver(t *testing.T) receiving {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "-x", suite.Dir("postfix")+"/.",
		suite.Dir("receiver")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := receiving{postfix{newRoot(t, "receiver")}}
	r.install(t)
	r.must(t, "postconf", "-e", "inet_interfaces = "+renewed, "mydestination =", "relay_domains = dane",
		"relay_transport = discard:", "smtpd_tls_security_level = may", "myhostname = receiver.dane",
		"smtp_tls_security_level = none",
		"smtpd_tls_cert_file =", "smtpd_tls_key_file =")
	return r
}

// ownFile is the certificate of a receiver that knows no hook, in its root.
const ownFile = "etc/postfix/own.pem"

// show starts it with a certificate.
func (r receiving) show(t *testing.T, p renewedPair) {
	t.Helper()
	r.use(t, p)
	r.must(t, "postconf", "-e", "smtpd_tls_chain_files = /"+ownFile)
	r.start(t)
	t.Cleanup(func() { r.run("", "postfix", "stop") }) //nolint:errcheck // the test has ended
}

// use writes a certificate past the hook.
func (r receiving) use(t *testing.T, p renewedPair) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.path(), ownFile), []byte(p.both), 0o600); err != nil {
		t.Fatal(err)
	}
}

// read has it read its certificate from another file.
func (r receiving) read(t *testing.T, file string) {
	t.Helper()
	r.must(t, "postconf", "-e", "smtpd_tls_chain_files = /"+file)
	r.reload(t)
}
