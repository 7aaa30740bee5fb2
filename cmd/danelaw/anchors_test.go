package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/smallstep/pkcs7"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// iana signs files as IANA does.
type iana struct {
	dir           string
	ca            *certificates.Authority
	signer        *x509.Certificate
	key           *ecdsa.PrivateKey
	xml, p7s, pem string // files
}

const ianaMail = "dnssec@iana.org"

func newIANA(t *testing.T) *iana {
	t.Helper()
	s := &iana{dir: t.TempDir(), ca: certificates.New(t)}
	s.sign(t, ianaMail, time.Now().Add(time.Hour))
	s.xml, s.p7s = filepath.Join(s.dir, "root-anchors.xml"), filepath.Join(s.dir, "root-anchors.p7s")
	s.pem = write(t, filepath.Join(s.dir, "ca.pem"), pemOf(s.ca.Certificate))
	return s
}

// sign has somebody else sign from now on.
func (s *iana) sign(t *testing.T, address string, end time.Time) {
	t.Helper()
	s.signer, s.key = s.ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Signer"},
		EmailAddresses: []string{address}, NotAfter: end, KeyUsage: x509.KeyUsageDigitalSignature})
}

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// publish writes a root-anchors.xml with its signature.
func (s *iana) publish(t *testing.T, content string, anchors ...*dns.DS) {
	t.Helper()
	if content == "" {
		content = "<TrustAnchor><Zone>.</Zone>"
		for _, ds := range anchors {
			content += fmt.Sprintf(`<KeyDigest validFrom="2020-01-01T00:00:00+00:00"><KeyTag>%d</KeyTag>`+
				"<Algorithm>%d</Algorithm><DigestType>%d</DigestType><Digest>%s</Digest></KeyDigest>",
				ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest)
		}
		content += "</TrustAnchor>\n"
	}
	write(t, s.xml, content)
	write(t, s.p7s, string(s.signed(t, content, true)))
}

func (s *iana) signed(t *testing.T, content string, detached bool) []byte {
	t.Helper()
	data, err := pkcs7.NewSignedData([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	data.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := data.AddSigner(s.signer, s.key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	if detached {
		data.Detach()
	}
	der, err := data.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestAnchorsImport: a daemon whose trust anchor is too old says so and answers SERVFAIL; with the keys of a signed
// file it is right at once, and stays so after a restart (T-12, T-13).
func TestAnchorsImport(t *testing.T) {
	lab, dir, s := newLab(t), socketDir(t), newIANA(t)
	socket := filepath.Join(dir, "control.sock")
	port := ports.Closed(t)
	old := *lab.DS()[0]
	old.KeyTag, old.Digest = old.KeyTag^1, strings.Repeat("00", 32)
	file := write(t, "Corefile", corefile(port, lab.Addr(), write(t, "old.ds", old.String()+"\n"), "control "+socket,
		"trust_anchor_state "+filepath.Join(dir, "state")))
	p := start(t, nil, "serve", "-conf", file)
	p.says(t, &p.err, "The trust anchors may be older than the keys of the zone: install a newer danelaw")
	if r := ask(t, port, "good.dane.", dns.TypeMX); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("with an old anchor: %v", r)
	}
	contains(t, "anchors", told(t, "anchors", "--socket", socket), "have not been looked at with success yet",
		fmt.Sprintf("  %d  Unseen  key %[1]d is trusted, as configured, and has not been seen in the zone\n",
			old.KeyTag))
	eventually(t, "a look that failed", func() bool {
		_, out, _ := here("anchors", "--socket", socket)
		return strings.Contains(out, "The last look failed: .: no DNSKEY matches")
	})
	args := []string{"anchors", "import", s.xml, "--signature", s.p7s, "--ca", s.pem, "--socket", socket}
	s.publish(t, "", lab.DS()...)
	tag := lab.DS()[0].KeyTag
	contains(t, "import", told(t, args...), fmt.Sprintf("%d", tag))
	if r := ask(t, port, "good.dane.", dns.TypeMX); !r.AuthenticatedData {
		t.Errorf("with the new anchor: %v", r)
	}
	eventually(t, "a look", func() bool {
		_, out, _ := here("anchors", "--socket", socket)
		return strings.Contains(out, fmt.Sprintf("  %d  Valid   key %[1]d is trusted\n", tag)) &&
			strings.Contains(out, "  Its keys were looked at 20") && !strings.Contains(out, "does not outlive")
	})
	var reply danelaw.AnchorsReply
	if err := json.Unmarshal([]byte(told(t, "anchors", "--socket", socket, "--json")), &reply); err != nil ||
		len(reply.Points) != 1 || reply.Points[0].Trusted != 2 || !reply.Kept {
		t.Errorf("%v %+v", err, reply)
	}
	eventually(t, "ready", func() bool {
		code, out, _ := here("status", "--socket", socket)
		return code == 0 && strings.Contains(out, fmt.Sprintf("%d 8 2", tag))
	})
	p.terminate(t)
	p = start(t, nil, "serve", "-conf", file)
	p.says(t, &p.err, "ready: trust anchor, clock and upstream are in order")
	if r := ask(t, port, "good.dane.", dns.TypeMX); !r.AuthenticatedData {
		t.Errorf("after a restart: %v", r)
	}
	p.terminate(t)
	says(t, []string{"anchors", "--socket", socket}, exitFailure, "no danelaw listens on "+socket)
	says(t, args, exitFailure, "no danelaw listens on "+socket)
	says(t, []string{"anchors", "show"}, exitUsage, `anchors takes no argument such as "show"`)
	says(t, []string{"anchors", "import", s.xml}, exitUsage, "signature")
	says(t, append(args, "another"), exitUsage, "takes one file, not 2")
}

// TestAnchorsRevoked: over sockets, a root whose old key is revoked and signs itself, beside the new one: the daemon
// trusts the new one alone from its first look on, tells the root's servers so (T-16), and knows it after a restart,
// when the old key comes back (T-8).
func TestAnchorsRevoked(t *testing.T) {
	tree := world.New(time.Now, world.Zone("."), world.Zone("com."), world.Domain("example.com."))
	var keys []*zones.Key
	var configured string
	for range 2 {
		k, err := zones.NewKey(".", dns.ECDSAP256SHA256, 257)
		if err != nil {
			t.Fatal(err)
		}
		keys, configured = append(keys, k), configured+k.DS(dns.SHA256).String()+"\n"
	}
	publish := func(keys ...*zones.Key) {
		tree.Plan(".").Config.Keys = keys
		tree.Publish()
	}
	old, record := *keys[0], *keys[0].DNSKEY
	record.Flags |= dns.REVOKE
	old.DNSKEY = &record
	publish(&old, keys[1])
	up, dir, port := tree.Upstream(), socketDir(t), ports.Closed(t)
	socket, state := filepath.Join(dir, "control.sock"), filepath.Join(dir, "state")
	file := write(t, "Corefile", corefile(port, up.Serve(t, "127.0.0.1:0"), write(t, "root.ds", configured),
		"control "+socket, "trust_anchor_state "+state))
	for _, tt := range []struct {
		restarted bool
		secure    bool
	}{{false, true}, {true, false}} {
		if tt.restarted {
			publish(keys[0]) // who has stolen it signs with it
		}
		p := start(t, nil, "serve", "-conf", file)
		p.says(t, &p.err, fmt.Sprintf("danelaw listens on 127.0.0.1:%d\n", port))
		if !tt.restarted {
			eventually(t, "a look", func() bool {
				_, out, _ := here("anchors", "--socket", socket)
				out = strings.Join(strings.Fields(out), " ") // how wide a column is depends on the key tags
				return strings.Contains(out, "has been revoked by itself, and is trusted no more") &&
					strings.Contains(out, fmt.Sprintf(" %d Valid key %[1]d is trusted", keys[1].DNSKEY.KeyTag()))
			})
			signal := fmt.Sprintf("_ta-%04x. NULL", keys[1].DNSKEY.KeyTag())
			eventually(t, "a signal", func() bool { return up.Count(signal) > 0 })
		}
		if r := ask(t, port, "example.com.", dns.TypeMX); r.AuthenticatedData != tt.secure ||
			!tt.secure && r.Rcode != dns.RcodeServerFailure {
			t.Errorf("restarted %v: %v", tt.restarted, r)
		}
		p.terminate(t)
	}
	text, err := os.ReadFile(filepath.Join(state, "trust-anchors.json"))
	if err != nil || !strings.Contains(string(text), `"state": "Revoked"`) {
		t.Errorf("%v: %s", err, text)
	}
}

// TestDoctorAnchors: a key that the root has and danelaw does not trust yet is a warning, and that all are revoked a
// fault.
func TestDoctorAnchors(t *testing.T) {
	tree := world.New(time.Now, world.Zone("."), world.Zone("com."))
	trusted, err := zones.NewKey(".", dns.ECDSAP256SHA256, 257)
	if err != nil {
		t.Fatal(err)
	}
	coming, err := zones.NewKey(".", dns.ECDSAP256SHA256, 257)
	if err != nil {
		t.Fatal(err)
	}
	tree.Plan(".").Config.Keys = []*zones.Key{trusted, coming}
	tree.Publish()
	file := write(t, "Corefile", corefile(ports.Closed(t), tree.Upstream().Serve(t, "127.0.0.1:0"),
		write(t, "root.ds", trusted.DS(dns.SHA256).String()+"\n")))
	_, out, _ := here("doctor", "-conf", file, "-json")
	wants(t, "a new key", findings(t, out, "anchors"),
		fmt.Sprintf("warning: .: key %d is published, and not trusted before 20", coming.DNSKEY.KeyTag()))
	trusted.DNSKEY.Flags |= dns.REVOKE
	tree.Plan(".").Config.Keys = []*zones.Key{trusted, coming}
	tree.Publish()
	_, out, _ = here("doctor", "-conf", file, "-json")
	wants(t, "revoked", findings(t, out, "anchors"), "fault: .: no DNSKEY matches the DS")
}

// TestAnchorsSigned: nothing is taken from a file whose signature, or whose signer, is not what it must be; the error
// names the file and says what to do (T-12).
func TestAnchorsSigned(t *testing.T) {
	ds := []*dns.DS{{Hdr: dns.RR_Header{Name: "."}, KeyTag: 20326, Algorithm: 8, DigestType: 2,
		Digest: strings.Repeat("ab", 32)}}
	for what, tt := range map[string]struct {
		break_ func(t *testing.T, s *iana)
		want   []string
	}{
		"sound": {func(*testing.T, *iana) {}, nil},
		"in PEM": {func(t *testing.T, s *iana) {
			text, _ := os.ReadFile(s.p7s)
			write(t, s.p7s, string(pem.EncodeToMemory(&pem.Block{Type: "CMS", Bytes: text})))
		}, nil},
		"another file": {func(t *testing.T, s *iana) {
			text, _ := os.ReadFile(s.xml)
			write(t, s.xml, strings.ReplaceAll(string(text), "abab", "abac"))
		}, []string{"root-anchors.xml does not verify with", "ca.pem (Message digest mismatch",
			"fetch all three anew"}},
		"another CA": {func(t *testing.T, s *iana) {
			write(t, s.pem, pemOf(certificates.New(t).Certificate))
		}, []string{"does not verify with", "certificate"}},
		"a signer who is over": {func(t *testing.T, s *iana) {
			s.sign(t, ianaMail, time.Now().Add(-time.Hour))
			s.publish(t, "", ds...)
		}, []string{"does not verify with", "check the clock"}},
		"another signer": {func(t *testing.T, s *iana) {
			s.sign(t, "www@iana.org", time.Now().Add(time.Hour))
			s.publish(t, "", ds...)
		}, []string{"is not signed by dnssec@iana.org, but by CN=Signer www@iana.org", "--signer"}},
		"no signature": {func(t *testing.T, s *iana) { write(t, s.p7s, "<html>") },
			[]string{"root-anchors.p7s is no CMS signature", "fetch it from https://data.iana.org"}},
		"one of its own content": {func(t *testing.T, s *iana) { write(t, s.p7s, string(s.signed(t, "text", false))) },
			[]string{"is a signature of a content of its own"}},
		"no CA": {func(t *testing.T, s *iana) { write(t, s.pem, "none") }, []string{"ca.pem has no certificate in it"}},
		"a CA that others may write": {func(t *testing.T, s *iana) {
			if err := os.Chmod(s.pem, 0o666); err != nil {
				t.Fatal(err)
			}
		}, []string{"ca.pem may be written by others", "chmod go-w"}},
		"no file": {func(t *testing.T, s *iana) { os.Remove(s.xml) }, []string{"root-anchors.xml", "no such file"}},
		"DS, signed": {func(t *testing.T, s *iana) { s.publish(t, ". DS 1 8 2 "+strings.Repeat("ab", 32)) },
			[]string{"is no root-anchors.xml"}},
		"a fault in it": {func(t *testing.T, s *iana) {
			s.publish(t, "<TrustAnchor>\n<Zone>com.</Zone></TrustAnchor>")
		}, []string{"root-anchors.xml:2:", `"com."`, "not the root"}},
	} {
		s := newIANA(t)
		s.publish(t, "", ds...)
		tt.break_(t, s)
		request, err := (signedFile{xml: s.xml, signature: s.p7s, ca: s.pem, signer: ianaMail}).anchors(time.Now())
		taken := err == nil && len(request.DS) == 1 && strings.Contains(request.DS[0], "20326 8 2 ABAB")
		if sound := len(tt.want) == 0; taken != sound || !sound && (err == nil || len(request.DS) > 0) {
			t.Errorf("%s: %v, %v", what, request, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q lacks %q", what, err, want)
			}
		}
	}
}

// TestAnchorsSignedByOpenSSL: what OpenSSL has signed is taken.
func TestAnchorsSignedByOpenSSL(t *testing.T) {
	needs.Tools(t, "openssl")
	s := newIANA(t)
	s.publish(t, "", &dns.DS{KeyTag: 20326, Algorithm: 8, DigestType: 2, Digest: strings.Repeat("ab", 32)})
	key, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		t.Fatal(err)
	}
	signer := write(t, filepath.Join(s.dir, "signer.pem"), pemOf(s.signer))
	private := write(t, filepath.Join(s.dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY",
		Bytes: key})))
	for _, form := range []string{"DER", "PEM"} {
		out, err := exec.CommandContext(t.Context(), "openssl", "cms", "-sign", "-binary", "-in", s.xml, "-signer",
			signer, "-inkey", private, "-outform", form, "-out", s.p7s).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		request, err := (signedFile{xml: s.xml, signature: s.p7s, ca: s.pem, signer: ianaMail}).anchors(time.Now())
		if err != nil || len(request.DS) != 1 {
			t.Errorf("%s: %v, %v", form, request, err)
		}
	}
}

// FuzzSignature: no signature makes danelaw panic, and none but the right one is taken.
func FuzzSignature(f *testing.F) {
	f.Add([]byte("none"))
	f.Add([]byte{0x30, 0x80, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x80, 0, 0, 0, 0})
	dir := f.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	f.Fuzz(func(t *testing.T, signature []byte) {
		if _, err := os.Stat(ca); err != nil {
			s := newIANA(t)
			write(t, ca, pemOf(s.ca.Certificate))
		}
		file := write(t, filepath.Join(t.TempDir(), "p7s"), string(signature))
		if (signedFile{xml: "x", signature: file, ca: ca, signer: ianaMail}).verify([]byte("<x>"), time.Now()) == nil {
			t.Fatalf("%x was taken", signature)
		}
	})
}
