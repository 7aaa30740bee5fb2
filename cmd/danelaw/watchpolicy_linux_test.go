package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/test/certificates"
	inbox "github.com/danelaw-dns/danelaw/test/receiver"
	"github.com/danelaw-dns/danelaw/test/world"
)

// TestWatchPolicy: the program `danelaw watch` in a network where a policy host has a public address and port 443, and
// a mail host port 25: it trusts the authorities of the system, connects by itself, and finds all sound; then, of the
// policy and the certificates, one thing is at fault at a time.
func TestWatchPolicy(t *testing.T) {
	if !apart(t) {
		return
	}
	const policyHost, mailHost = "9.9.9.9", "9.9.9.25"
	for _, address := range []string{policyHost, mailHost} {
		if out, err := exec.CommandContext(t.Context(), "ip", "address", "add", address+"/32", "dev",
			"lo").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	ca, later := certificates.New(t), time.Now().Add(90*24*time.Hour)
	certs := map[string]tls.Certificate{}
	for _, name := range []string{"mx.own", "mta-sts.own"} {
		certs[name] = ca.Server(t, name, later)
	}
	present := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := certs[hello.ServerName]
		return &c, nil
	}}
	const sound = "version: STSv1\nmode: enforce\nmx: mx.own\nmax_age: 604800\n"
	file, agent := sound, ""
	secure, err := tls.Listen("tcp", policyHost+":443", present)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: patience,
		Handler: http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
			agent = r.Method + " " + r.Host + r.URL.Path
			to.Header().Set("Content-Type", "text/plain")
			io.WriteString(to, file) //nolint:errcheck // the client sees that
		})}
	go s.Serve(secure) //nolint:errcheck // it ends with Close
	t.Cleanup(func() { s.Close() })
	smtp, err := net.Listen("tcp", mailHost+":25")
	if err != nil {
		t.Fatal(err)
	}
	inbox.Serve(t, smtp, "mx.own", present, func([]string, bool) {})

	leaf, err := x509.ParseCertificate(certs["mx.own"].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	data, err := dns.CertificateToDANE(mail.SPKI, mail.SHA256, leaf)
	if err != nil {
		t.Fatal(err)
	}
	tree := world.New(time.Now, world.Zone("."), world.Zone("own.", "@ MX 10 mx", "mx A "+mailHost,
		"_25._tcp.mx TLSA 3 1 1 "+data, "mta-sts A "+policyHost, `_mta-sts TXT "v=STSv1; id=1"`,
		`_smtp._tls TXT "v=TLSRPTv1; rua=mailto:postmaster@own"`))
	dir := t.TempDir()
	anchor := write(t, filepath.Join(dir, "root.ds"), tree.DS(".")[0].String()+"\n")
	conf := write(t, filepath.Join(dir, "Corefile"), corefile(53, tree.Upstream().Serve(t, world.AnyPort), anchor))
	roots := write(t, filepath.Join(dir, "roots.pem"),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw})))

	other := certificates.New(t)
	for _, step := range []struct {
		name   string
		change func()
		code   int
		state  string
		want   string // the only fault
	}{
		{"sound", func() {}, 0, "enforce", ""},
		{"not covered", func() { file = strings.Replace(sound, "mx.own", "*.mx.own", 1) }, 1, "enforce",
			"the mail host mx.own. is no mx of the policy, so that senders do not deliver to it; "},
		{"testing", func() { file = strings.Replace(file, "enforce", "testing", 1) }, 0, "testing", ""},
		{"no policy", func() { file = "none" }, 1, "broken",
			"senders cannot have the policy at https://mta-sts.own that _mta-sts.own. announces: the policy does not "},
		{"policy host of another authority", func() {
			file, certs["mta-sts.own"] = sound, other.Server(t, "mta-sts.own", later)
		}, 1, "broken", "the certificate of the policy host is not valid: x509: certificate signed by " +
			"unknown authority"},
		{"mended", func() { certs["mta-sts.own"] = ca.Server(t, "mta-sts.own", later) }, 0, "enforce", ""},
		{"policy host ends", func() {
			certs["mta-sts.own"] = ca.Server(t, "mta-sts.own", time.Now().Add(23*time.Hour))
		}, 1, "enforce", "mta-sts.own: certificates end 20"},
	} {
		step.change()
		p := startWith(t, []string{"SSL_CERT_FILE=" + roots, "SSL_CERT_DIR=" + t.TempDir()}, nil, "watch", "--conf",
			conf, "--json", "own")
		code := p.end(t)
		var got watchJSON
		if err := json.Unmarshal([]byte(p.out.String()), &got); err != nil || len(got.Domains) != 1 {
			t.Fatalf("%s: exit code %d, %v\n%s%s", step.name, code, err, &p.out, &p.err)
		}
		d := got.Domains[0]
		told := strings.Join(d.Faults, "\n")
		if code != step.code || d.State != "secure" || d.MTASTS.State != step.state || d.MTASTS.ID != "1" ||
			len(d.Faults) != step.code || !strings.Contains(told, step.want) ||
			agent != "GET mta-sts.own/.well-known/mta-sts.txt" ||
			fmt.Sprint(d.TLSReports) != "[mailto:postmaster@own]" || (len(d.Warnings) > 0) != (step.name == "testing") {
			t.Errorf("%s: exit code %d, %q, %s", step.name, code, agent, &p.out)
		}
		if step.name == "sound" && (d.MTASTS.PolicyHost == nil || d.MTASTS.PolicyHost.DaysLeft != 89 ||
			fmt.Sprint(d.MTASTS.MX) != "[mx.own]" || d.MTASTS.MaxAge != 604800 || len(d.Notes) > 0) {
			t.Errorf("%s", &p.out)
		}
	}
}
